#!/bin/sh
# hugetlb-v1.sh COMMAND…: runs a command where every cgroup controller is v1.
#
# crun refuses a host whose cgroup v2 hierarchy still holds a controller beside v1 ones. In a mount namespace of its own this
# mounts hugetlb as v1 too and leaves the rest as it is.
set -eu
if [ "${HUGETLB_V1_INSIDE:-}" != 1 ]; then
    HUGETLB_V1_INSIDE=1 exec unshare --mount --propagation private "$0" "$@"
fi
cg=$(mktemp -d)
mount -t tmpfs cgroup "$cg"
for dir in /sys/fs/cgroup/*/; do
    mountpoint -q "$dir" || continue
    name=$(basename "$dir")
    mkdir "$cg/$name"
    mount --bind "$dir" "$cg/$name"
done
mkdir -p "$cg/hugetlb"
mountpoint -q "$cg/hugetlb" || mount -t cgroup -o hugetlb cgroup "$cg/hugetlb"
mount --move "$cg" /sys/fs/cgroup
rmdir "$cg"
exec "$@"
