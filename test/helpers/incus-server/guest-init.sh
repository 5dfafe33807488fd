#!/bin/sh
# The first process of a container that is nothing but an SSH server: with the key of its user-data, as cloud-init would have it.
export PATH=/bin:/sbin
hostname "$(cat /etc/hostname)"
mkdir -p /root/.ssh /etc/dropbear
grep -oE 'ssh-(ed25519|rsa) [A-Za-z0-9+/=]+' /var/lib/cloud/seed/nocloud-net/user-data > /root/.ssh/authorized_keys
chmod -R go= /root
ip link set lo up
ip link set eth0 up
udhcpc -i eth0 -b -t 50 -T 1 -s /etc/udhcpc.sh
dropbear -R -s -p 22
while :; do sleep 60; done
