#!/usr/bin/env bash
# Real input for the tests, in a cache outside the clone: kernel headers of several ABIs laid out as scratch roots, and the
# in-tree VF drivers packed as Intel-style archives. See tests/lab/README.md for what lies where.
#
#   fetch.sh [--images]     --images: also the kernel images of two of them (in-tree modules, vmlinuz)
#
# Prints the cache directory on stdout: the value of VFGUARD_LAB. Which kernels these are, tests/archive/choose.py decides: once a
# run, where VFGUARD_CHOSEN names its answer. What was made of them is checked again on each use; with nothing changed that takes
# seconds. Exit code 69: not to be had here, and why.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
top=$(cd "$here/../.." && pwd)
# shellcheck source=tests/lib/common.sh
. "$here/../lib/common.sh"
# shellcheck source=tests/lab/debs.sh
. "$here/debs.sh"
# shellcheck source=tests/lab/layout.sh
. "$here/layout.sh"

images=no
case ${1-} in
'') ;;
--images) images=yes ;;
*) die "unknown argument $1" ;;
esac

command -v apt-get >/dev/null || unavailable "the lab is made of Debian's packages, and this host has no apt"
[ "$(dpkg --print-architecture)" = amd64 ] || unavailable "the lab is made of amd64 kernels"
codename=$(sed -n 's/^VERSION_CODENAME=//p' /etc/os-release)
[ "$codename" = bookworm ] || unavailable "the lab's kernels are Debian 12's and want its compiler; this host is ${codename:-no Debian release}"
for tool in dpkg-deb make gcc xz modprobe flock; do
    command -v "$tool" >/dev/null || PATH=$PATH:/usr/sbin:/sbin command -v "$tool" >/dev/null ||
        unavailable "$tool is missing (tests/run.sh installs what is needed)"
done
PATH=$PATH:/usr/sbin:/sbin

LAB=$(cache_dir)
mkdir -p "$LAB"
LAB=$(cd "$LAB" && pwd)
# Two runs share one cache: the second waits, then finds everything there.
exec 9>"$LAB/.lock"
flock 9
rc=0
VFGUARD_CHOSEN=$("$here/../archive/choose.py") || rc=$?
[ $rc -eq 0 ] || exit $rc
export VFGUARD_CHOSEN
MADE_PREV=6.1.0-1-amd64 # older than any that the archive offers
K_NEW=$(release_of NEW) K_PREV=$(release_of PREV) K_OLD=$(release_of OLD) K_612=$(release_of 612)
# What an interrupted run left. All work is done in tmp.* and renamed, so nothing else can be half-written.
rm -rf "$LAB"/tmp.*
trap 'rm -rf "$LAB"/tmp.*' EXIT

# --- Is it all there already? ---------------------------------------------------------------------------------------
# The key names everything that the result depends on: the packages, and the files that make something of them.
key() {
    # Roles, and packages with their versions; not where they lie.
    awk '$1 == "kernel" || $1 == "part" { print } $1 == "package" { print $2, $3 }' "$VFGUARD_CHOSEN"
    cd "$top"
    sha256sum packaging/intree-archive.sh packaging/intel-style.mk tests/lab/{fetch,debs,layout}.sh tests/lab/demo/src/*
}
want=$(key | sha256sum | cut -d' ' -f1)

# contents DIR: one digest over every name, link and byte below it.
contents() {
    (
        cd "$1"
        find . -printf '%y %m %p %l\n' | LC_ALL=C sort
        find . -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum
    ) | sha256sum | cut -d' ' -f1
}
# intact PART: it was made from what is wanted, and is still as it was made. A test that wrote into it is found here.
intact() {
    [ -e "$LAB/$1" ] && [ -e "$LAB/$1.stamp" ] && [ "$(cat "$LAB/$1.stamp")" = "$want $(contents "$LAB/$1")" ]
}
# settle PART: tmp.PART becomes PART. The stamp is written last: without it the part is made again.
settle() {
    local stamp
    stamp="$want $(contents "$LAB/tmp.$1")"
    rm -rf "${LAB:?}/$1" "$LAB/$1.stamp"
    mv "$LAB/tmp.$1" "$LAB/$1"
    printf '%s\n' "$stamp" >"$LAB/tmp.stamp"
    mv "$LAB/tmp.stamp" "$LAB/$1.stamp"
}

# --- Archives -------------------------------------------------------------------------------------------------------
make_archives() {
    local out="$LAB/tmp.archives"
    mkdir "$out"
    {
        "$top/packaging/intree-archive.sh" --series 6.1 --package "$(deb linux-source-6.1)" --out "$out" ixgbevf igbvf
        "$top/packaging/intree-archive.sh" --series 6.12 --package "$(deb linux-source-6.12)" --out "$out" ixgbevf
        "$top/packaging/intree-archive.sh" --demo "$here/demo/src" --out "$out"
    } >"$LAB/tmp.list"
    # NAME VERSION SHA256 FILE, the file now named as it lies in the part.
    sed -E 's|[^ ]*/([^/ ]+)$|\1|' "$LAB/tmp.list" >"$out/list"
    settle archives
}
intact archives || make_archives

# archive NAME SERIES FIELD: a word of the list (2 version, 3 digest, 4 file).
archive() {
    awk -v name="$1" -v series="$2" -v field="$3" \
        '$1 == name && index($2, series ".") == 1 { print $field }' "$LAB/archives/list"
}

# --- Roots ----------------------------------------------------------------------------------------------------------
make_roots() {
    local out="$LAB/tmp.roots" k
    say "laying out $K_NEW, ${K_PREV:-$MADE_PREV}, $K_OLD, $K_612"
    for k in "$K_NEW" $K_PREV "$K_OLD" "$K_612"; do
        debian_headers "$out/deb" "$k"
    done
    [ -n "$K_PREV" ] || renamed_headers "$out/deb" "$K_NEW" $MADE_PREV
    el_headers "$out/el" "$K_NEW" "$out/deb"
    settle roots
}
intact roots || make_roots
K_PREV=${K_PREV:-$MADE_PREV}

# --- Modules --------------------------------------------------------------------------------------------------------
# Modules that plain make built, for tests that want a real .ko and not the ten seconds that one takes.
make_modules() {
    local out="$LAB/tmp.modules" work="$LAB/tmp.work" spec name series k
    mkdir "$out"
    for spec in "ixgbevf 6.1 $K_NEW" "demo 1.0 $K_NEW" "demo 1.0 $K_OLD" "demo 1.0 $K_612"; do
        read -r name series k <<<"$spec"
        say "building $name for $k"
        rm -rf "$work" && mkdir "$work"
        tar -xzf "$LAB/archives/$(archive "$name" "$series" 4)" -C "$work" --strip-components=1
        debian_make "$work/src" "$LAB/roots/deb" "$k" >"$LAB/tmp.log" 2>&1 || { cat "$LAB/tmp.log" >&2 && die "$name does not build for $k"; }
        mkdir -p "$out/$k"
        cp "$work/src/$name.ko" "$out/$k"
    done
    settle modules
}
intact modules || make_modules

# --- Images ---------------------------------------------------------------------------------------------------------
make_images() {
    local out="$LAB/tmp.images" k package
    mkdir "$out"
    for k in "$K_NEW" "$K_612"; do
        for package in $(image_of "$k"); do dpkg-deb -x "$(deb "$package")" "$out"; done
        # The package's own postinst does this.
        depmod -b "$out" "$k"
    done
    settle images
}
if [ $images = yes ]; then
    intact images || make_images
elif [ -e "$LAB/images" ]; then
    # Made for other kernels than these: better none than the wrong ones.
    for k in "$K_NEW" "$K_612"; do
        [ -e "$LAB/images/boot/vmlinuz-$k" ] || rm -rf "$LAB/images" "$LAB/images.stamp"
    done
fi

# --- The manifest ---------------------------------------------------------------------------------------------------
{
    echo "# Written by tests/lab/fetch.sh. Paths are relative to this directory, but for CHOSEN."
    printf '%s\n' "K_NEW=$K_NEW" "K_PREV=$K_PREV" "K_OLD=$K_OLD" "K_612=$K_612"
    echo "CHOSEN=$VFGUARD_CHOSEN"
    echo "ROOT_DEB=roots/deb"
    echo "ROOT_EL=roots/el"
    echo "K_EL=$K_NEW"
    [ ! -e "$LAB/images" ] || echo "ROOT_IMAGES=images"
    for spec in 'IXGBEVF_61 ixgbevf 6.1' 'IXGBEVF_612 ixgbevf 6.12' 'IGBVF_61 igbvf 6.1' 'DEMO demo 1.0'; do
        read -r variable name series <<<"$spec"
        echo "$variable=archives/$(archive "$name" "$series" 4)"
        echo "${variable}_VERSION=$(archive "$name" "$series" 2)"
        echo "${variable}_SHA256=$(archive "$name" "$series" 3)"
    done
    module="$LAB/modules/$K_NEW/ixgbevf.ko"
    echo "MODULE_IXGBEVF=modules/$K_NEW/ixgbevf.ko"
    echo "IMPORTS=$(imports "$module" | wc -l)"
    for k in "$K_NEW" "$K_PREV" "$K_OLD"; do
        case $k in "$K_NEW") name=NEW ;; "$K_PREV") name=PREV ;; *) name=OLD ;; esac
        echo "MISMATCHES_$name=$(mismatches "$module" "$LAB/roots/deb/usr/src/linux-headers-$k/Module.symvers")"
    done
} >"$LAB/tmp.manifest"
mv "$LAB/tmp.manifest" "$LAB/manifest.env"
printf '%s\n' "$LAB"
