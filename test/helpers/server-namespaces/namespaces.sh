#!/usr/bin/env bash
# Runs servers in a root of their own, as the first process of a pid namespace: whatever it has started ends with it.
#
#   unshare --mount --pid --fork --uts --ipc --kill-child --propagation private namespaces.sh ROOT STATE HOME SERVER [ARGUMENT...]
#
# ROOT   a folder with a distribution; it is not written to
# STATE  a folder that is HOME inside
#
# Lines on standard input say what to do: `start` and `stop` the server, `kill` it, or run anything else as a command, after which
# `done STATUS` is printed.
set -euo pipefail

root=$1 state=$2 home=$3
shift 3
server=("$@")

mount -t tmpfs -o mode=755 namespaces /mnt
mkdir /mnt/root /mnt/upper /mnt/work
mount -t overlay -o "lowerdir=$root,upperdir=/mnt/upper,workdir=/mnt/work" overlay /mnt/root
root=/mnt/root
mount -t proc proc "$root/proc"
mount -t sysfs sysfs "$root/sys"
mkdir -p "$root/.old" "$root$home"
mount --bind "$state" "$root$home"
mount -t tmpfs -o mode=755 tmpfs "$root/run"
mount -t tmpfs -o mode=755 tmpfs "$root/dev"
for device in null zero full random urandom tty fuse kmsg net/tun; do
  [[ -e /dev/$device ]] || continue
  mkdir -p "$(dirname "$root/dev/$device")"
  touch "$root/dev/$device"
  mount --bind "/dev/$device" "$root/dev/$device"
done
mkdir -p "$root/dev/pts" "$root/dev/shm" "$root/dev/mqueue" "$root/run/lock"
mount -t devpts -o newinstance,ptmxmode=0666,mode=620,gid=5 devpts "$root/dev/pts"
ln -sf pts/ptmx "$root/dev/ptmx"
ln -sf /proc/self/fd "$root/dev/fd"
mount -t tmpfs tmpfs "$root/dev/shm"

# Either version of control groups; LXC takes what it finds.
groups=$root/sys/fs/cgroup
if awk 'NR > 1 && $2 != 0 { found = 1 } END { exit !found }' /proc/cgroups; then
  mount -t tmpfs -o mode=755 tmpfs "$groups"
  for controller in cpu cpuacct cpuset memory devices freezer blkio pids; do
    mkdir "$groups/$controller"
    mount -t cgroup -o "$controller" cgroup "$groups/$controller" 2>/dev/null || rmdir "$groups/$controller"
  done
  mkdir "$groups/systemd" "$groups/unified"
  mount -t cgroup -o none,name=systemd cgroup "$groups/systemd" || true
  mount -t cgroup2 cgroup2 "$groups/unified" || true
else
  mount -t cgroup2 cgroup2 "$groups"
fi

cd "$root"
# Not chroot: LXC's own pivot_root needs the root to be a mount point.
pivot_root . .old
cd /
umount -l /.old
mount --make-rshared /
echo server >/proc/sys/kernel/hostname
export PATH=/usr/libexec/incus:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8

pid=
finish() {
  kill -KILL -1 2>/dev/null || true
  wait || true
  find /sys/fs/cgroup -mindepth 2 -depth -type d -path '*/lxc.*' -exec rmdir {} + 2>/dev/null || true
}
trap finish EXIT

while IFS= read -r line; do
  status=0
  case $line in
    start)
      "${server[@]}" </dev/null >&2 &
      pid=$!
      ;;
    stop | kill)
      signal=TERM
      [[ $line == stop ]] || signal=KILL
      kill "-$signal" "$pid"
      wait "$pid" || true
      ;;
    *) bash -c "$line" </dev/null || status=$? ;;
  esac
  echo "done $status"
done
