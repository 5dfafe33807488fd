#!/bin/busybox sh
# shellcheck shell=dash
# The first process of a VM that is nothing but an SSH server: on the tiny guest's kernel and its busybox, with the key of its seed.
/bin/busybox --install -s /bin
export PATH=/bin:/sbin:/usr/sbin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
while read -r module; do insmod "/modules/$module"; done </modules/order
exec >/dev/console 2>&1
mkdir -p /dev/pts /root/.ssh /etc/dropbear
mount -t devpts devpts /dev/pts
# A file on an ISO 9660 disk is one piece.
grep -aohE 'ssh-(ed25519|rsa) [A-Za-z0-9+/=]+' /dev/vd* >/root/.ssh/authorized_keys
hostname "$(grep -aoh 'local-hostname: "[^"]*' /dev/vd* | cut -d '"' -f 2)"
chmod -R go= /root
ip link set lo up
ip link set eth0 up
udhcpc -i eth0 -b -t 50 -T 1 -s /etc/udhcpc.sh
dropbear -R -s -p 22
for port in /dev/vport*; do qemu-ga --daemonize --path "$port"; done
echo "guest: ready"
while :; do sleep 60; done
