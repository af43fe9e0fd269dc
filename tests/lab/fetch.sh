#!/usr/bin/env bash
# Real input for the tests, in a cache outside the clone: kernel headers of several ABIs laid out as scratch roots, and the
# in-tree VF drivers packed as Intel-style archives. See tests/lab/README.md for what lies where.
#
#   fetch.sh [--images]     --images: also the kernel images of two of them (in-tree modules, vmlinuz; 180 MB)
#
# Prints the cache directory on stdout: the value of VFGUARD_LAB. Everything is from Debian's archive, through apt, and is
# checked again on each use; with nothing changed that takes seconds. Exit code 69: not to be had here, and why.
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
# What an interrupted run left. All work is done in tmp.* and renamed, so nothing else can be half-written.
rm -rf "$LAB"/tmp.*
trap 'rm -rf "$LAB"/tmp.*' EXIT

# --- What is offered ------------------------------------------------------------------------------------------------
read_candidates
mapfile -t series_61 < <(kernels '6\.1\.0-[0-9]+')
mapfile -t series_612 < <(kernels '6\.12\.[0-9.]+\+[a-z0-9]+')
if [ ${#series_61[@]} -lt 3 ] || [ ${#series_612[@]} -lt 1 ]; then
    unavailable "the lab needs the headers of three 6.1 kernels and one 6.12; apt offers ${#series_61[@]} and ${#series_612[@]} (Debian 12 with its security archive has them, after apt-get update)"
fi
for package in linux-source-6.1 linux-source-6.12; do
    [ -n "$(candidate $package)" ] || unavailable "apt offers no $package"
done
K_612=${series_612[0]}
# The archive keeps a handful of ABIs; eight bounds the work should it keep more.
series_61=("${series_61[@]:0:8}")

# --- Is it all there already? ---------------------------------------------------------------------------------------
# The key names everything that the result depends on: the packages, and the files that make something of them.
key() {
    local package
    for package in linux-source-6.1 linux-source-6.12 "linux-headers-$K_612" "${series_61[@]/#/linux-headers-}"; do
        printf '%s %s\n' "$package" "$(candidate "$package")"
    done
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
        "$top/packaging/intree-archive.sh" --series 6.1 --out "$out" ixgbevf igbvf
        "$top/packaging/intree-archive.sh" --series 6.12 --out "$out" ixgbevf
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
# choose SYMBOLS: sets K_NEW, K_PREV and K_OLD. A module for K_NEW is fine on K_PREV, though that is another release: no
# CRC that it needs differs; on K_OLD some do. Which ABIs these are is found by looking, since the next update moves them.
choose() {
    local symbols=$1 k i j
    local -A vector
    for k in "${series_61[@]}"; do
        vector[$k]=$(dpkg-deb --fsys-tarfile "$(deb "linux-headers-$k")" |
            tar -xO "./usr/src/linux-headers-$k/Module.symvers" |
            awk 'NR == FNR { want[$1]; next } $2 in want { print $1, $2 }' "$symbols" - | LC_ALL=C sort | sha256sum)
    done
    for ((i = 0; i < ${#series_61[@]}; i++)); do
        K_NEW=${series_61[i]} K_PREV='' K_OLD=''
        for ((j = i + 1; j < ${#series_61[@]}; j++)); do
            k=${series_61[j]}
            if [ "${vector[$k]}" = "${vector[$K_NEW]}" ]; then K_PREV=${K_PREV:-$k}; else K_OLD=${K_OLD:-$k}; fi
        done
        [ -n "$K_PREV" ] && [ -n "$K_OLD" ] && return
    done
    unavailable "no 6.1 kernel that apt offers has both an older one with the same symbol versions and one with others"
}

make_roots() {
    local out="$LAB/tmp.roots" learn="$LAB/tmp.learn" newest=${series_61[0]} k
    # shellcheck disable=SC2046 # package names, one word each
    download $(companions "$newest") "${series_61[@]/#/linux-headers-}"
    # One build tells which symbols the driver needs; no list of ours would stay true.
    say "building ixgbevf for $newest, to see which symbols it needs"
    debian_headers "$learn" "$newest"
    tar -xzf "$LAB/archives/$(archive ixgbevf 6.1 4)" -C "$learn" --strip-components=1
    debian_make "$learn/src" "$learn" "$newest" >"$LAB/tmp.log" 2>&1 || { cat "$LAB/tmp.log" >&2 && die "ixgbevf does not build for $newest"; }
    imports "$learn/src/ixgbevf.ko" | cut -d' ' -f2 >"$LAB/tmp.symbols"
    choose "$LAB/tmp.symbols"

    say "laying out $K_NEW, $K_PREV, $K_OLD, $K_612"
    for k in "$K_NEW" "$K_PREV" "$K_OLD" "$K_612"; do
        # shellcheck disable=SC2046 # package names, one word each
        download "linux-headers-$k" $(companions "$k")
        debian_headers "$out/deb" "$k"
    done
    el_headers "$out/el" "$K_NEW" "$out/deb"
    printf '%s\n' "K_NEW=$K_NEW" "K_PREV=$K_PREV" "K_OLD=$K_OLD" "K_612=$K_612" >"$out/kernels.env"
    settle roots
}
intact roots || make_roots
# shellcheck source=/dev/null
. "$LAB/roots/kernels.env"

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
        package="linux-image-$k"
        download "$package"
        dpkg-deb -x "$(deb "$package")" "$out"
        # The package's own postinst does this.
        depmod -b "$out" "$k"
        rm -f "$(deb "$package")" "$(deb "$package").sha256"
    done
    settle images
}
if [ $images = yes ]; then
    intact images || make_images
elif [ -e "$LAB/images" ]; then
    # Made for other kernels than these: better none than the wrong ones.
    [ -e "$LAB/images/boot/vmlinuz-$K_NEW" ] || rm -rf "$LAB/images" "$LAB/images.stamp"
fi

# Packages of kernels that the archive no longer offers.
for file in "$LAB"/debs/*.deb; do
    package=$(basename "${file%%=*}")
    [ "$file" = "$(deb "$package")" ] || rm -f "$file" "$file.sha256"
done

# --- The manifest ---------------------------------------------------------------------------------------------------
{
    echo "# Written by tests/lab/fetch.sh. Paths are relative to this directory, so that the cache can be moved."
    cat "$LAB/roots/kernels.env"
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
