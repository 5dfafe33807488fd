#!/bin/sh
# shellcheck disable=SC2154 # set by udhcpc
[ "$1" = bound ] || [ "$1" = renew ] || exit 0
ifconfig "$interface" "$ip" netmask "$subnet"
[ -z "$router" ] || route add default gw "$router"
