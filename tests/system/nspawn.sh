#!/bin/sh
# Runs in namespaces of its own: lays a file system over the Debian in $2, and boots it with systemd-nspawn.
# $1 is the folder with over/, work/ and root/. Nothing outside that folder is changed, nor is what $2 holds.
set -e
mount -t overlay overlay -o "lowerdir=$2,upperdir=$1/over,workdir=$1/work" "$1/root"
cd /
# Neither machined nor a systemd need run here to make a unit of it.
exec systemd-nspawn --boot --quiet --register=no --keep-unit --private-network --link-journal=no \
    --resolv-conf=off --timezone=off --console=pipe --machine=meshctl-test --directory="$1/root"
