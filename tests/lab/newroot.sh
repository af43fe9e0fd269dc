#!/usr/bin/env bash
# A scratch root for one test: a machine with the given kernels installed, their headers beside them.
#
#   newroot.sh [--tree deb|el|images] [--running K] DEST K…
#
# --tree deb: Debian's split headers (the default); el: one tree in usr/src/kernels; images: kernel images with their
# in-tree modules, over Debian's headers. --running K: what proc says runs. VFGUARD_LAB names the lab (fetch.sh prints it).
#
# Headers are hard links into the lab where the file system allows it: 10,000 files cost a copy seconds and 80 MB. Tests
# may delete and replace them, but must not write into one in place; those that tests like to spoil are real copies.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=tests/lib/common.sh
. "$here/../lib/common.sh"

tree=deb running=''
while [ $# -gt 0 ]; do
    case $1 in
    --tree) tree=$2 && shift 2 ;;
    --running) running=$2 && shift 2 ;;
    -*) die "unknown option $1" ;;
    *) break ;;
    esac
done
[ $# -ge 2 ] || die "usage: newroot.sh [--tree deb|el|images] [--running K] DEST K…"
dest=$1
shift
lab=${VFGUARD_LAB:?VFGUARD_LAB is not set: it is what tests/lab/fetch.sh prints}
case $tree in
deb | el) from="$lab/roots/$tree" ;;
images) from="$lab/roots/deb" ;;
*) die "no such tree: $tree" ;;
esac

# link FILE…: each from the lab's root, at the same place below DEST.
link() {
    (cd "$from" && cp -a --link --parents -t "$dest" "$@") 2>/dev/null ||
        # Another file system, or one without hard links.
        (cd "$from" && cp -a --reflink=auto --parents -t "$dest" "$@")
}

mkdir -p "$dest"
dest=$(cd "$dest" && pwd)
for k; do
    [ -e "$from/lib/modules/$k" ] || die "the lab's $tree root has no kernel $k"
    if [ "$tree" = el ]; then
        link "usr/src/kernels/$k"
        headers="$dest/usr/src/kernels/$k"
    else
        # The kbuild package is named in the link that the headers have to it.
        kbuild=$(readlink "$from/usr/src/linux-headers-$k/scripts")
        kbuild=${kbuild#../../} kbuild=usr/${kbuild%/scripts}
        link "usr/src/linux-headers-$k" "usr/src/linux-headers-${k%-amd64}-common" "$kbuild"
        headers="$dest/usr/src/linux-headers-$k"
    fi
    for file in .config Makefile Module.symvers .kernelvariables include/config/kernel.release include/generated/utsrelease.h; do
        [ ! -f "$headers/$file" ] || { cp -a "$headers/$file" "$headers/$file.copy" && mv "$headers/$file.copy" "$headers/$file"; }
    done
    (cd "$from" && cp -a --parents -t "$dest" "lib/modules/$k" boot/*-"$k"*)
    if [ "$tree" = images ]; then
        [ -e "$lab/images/lib/modules/$k" ] || die "the lab has no image of $k (fetch.sh --images)"
        (cd "$lab/images" && cp -a --reflink=auto --parents -t "$dest" "lib/modules/$k" boot/*-"$k")
    fi
done
if [ -n "$running" ]; then
    mkdir -p "$dest/proc/sys/kernel"
    printf '%s\n' "$running" >"$dest/proc/sys/kernel/osrelease"
    printf 'BOOT_IMAGE=/boot/vmlinuz-%s root=/dev/vda1 ro quiet\n' "$running" >"$dest/proc/cmdline"
fi
