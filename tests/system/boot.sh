#!/bin/sh
# Runs as process 1 of new namespaces: lays a file system over this machine's own, and becomes systemd in it.
# $1 is the folder with over/, work/ and root/. Nothing outside that folder is changed.
set -e
root=$1/root
mount -t overlay overlay -o "lowerdir=/,upperdir=$1/over,workdir=$1/work" "$root"
mount -t proc proc "$root/proc"
mount --bind "$root/proc/sys" "$root/proc/sys"
mount -o remount,ro,bind "$root/proc/sys"
mount -t sysfs -o ro sysfs "$root/sys"
mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
mount -t tmpfs -o mode=755 none "$root/run"
mount -t tmpfs -o mode=1777 none "$root/tmp"
mount -t tmpfs -o mode=755 none "$root/dev"
mknod -m 666 "$root/dev/null" c 1 3
mknod -m 666 "$root/dev/zero" c 1 5
mknod -m 666 "$root/dev/full" c 1 7
mknod -m 666 "$root/dev/random" c 1 8
mknod -m 666 "$root/dev/urandom" c 1 9
mknod -m 666 "$root/dev/tty" c 5 0
mkdir "$root/dev/pts" "$root/dev/shm"
mount -t devpts -o newinstance,ptmxmode=666 none "$root/dev/pts"
ln -s pts/ptmx "$root/dev/ptmx"
mount -t tmpfs -o mode=1777 none "$root/dev/shm"
ln -s /proc/self/fd "$root/dev/fd"
# The new root takes the place of the old one, and its mounts are shared: in a chroot, or in private mounts, a service
# does not see the credentials that systemd mounts for it.
cd "$root"
pivot_root . .
umount -l .
mount --make-rshared /
exec env -i container=lxc PATH=/usr/sbin:/usr/bin:/sbin:/bin \
    /lib/systemd/systemd --log-target=console --log-level=warning systemd.unit=meshctl-test.target
