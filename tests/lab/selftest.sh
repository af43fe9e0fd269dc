#!/usr/bin/env bash
# Does the lab show what the tests rely on? With make, kmod and awk alone: what vfguard says of these kernels is compared
# with facts that no code of vfguard's has touched.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=tests/lib/common.sh
. "$here/../lib/common.sh"
# shellcheck source=tests/lab/layout.sh
. "$here/layout.sh"
PATH=$PATH:/usr/sbin:/sbin

LAB=${VFGUARD_LAB:?VFGUARD_LAB is not set: it is what tests/lab/fetch.sh prints}
# shellcheck source=/dev/null
. "$LAB/manifest.env"
deb="$LAB/$ROOT_DEB" el="$LAB/$ROOT_EL"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# unpack ARCHIVE NAME: prints the source directory.
unpack() {
    mkdir "$work/$2"
    tar -xzf "$LAB/$1" -C "$work/$2" --strip-components=1
    printf '%s\n' "$work/$2/src"
}

built_for() { [[ "$(modinfo -F vermagic "$1")" = "$2 "* ]]; }

split_headers() {
    local src
    src=$(unpack "$IGBVF_61" split)
    debian_make "$src" "$deb" "$K_NEW"
    built_for "$src/igbvf.ko" "$K_NEW"
}

one_tree() {
    local src
    src=$(unpack "$IXGBEVF_61" tree)
    plain_make "$src" "$K_EL" "$el/usr/src/kernels/$K_EL"
    built_for "$src/ixgbevf.ko" "$K_EL"
    # EL's tree is made of Debian's: the module must come out with the same symbol versions.
    diff <(imports "$LAB/$MODULE_IXGBEVF" | sort) <(imports "$src/ixgbevf.ko" | sort)
    [ "$(make -s -C "$el/usr/src/kernels/$K_EL" kernelrelease)" = "$K_EL" ]
}

# refuses_to_build ARCHIVE K WORD: a compile error in the driver's own source, at a line that has to do with WORD; not some
# trouble of the lab's.
refuses_to_build() {
    local src
    src=$(unpack "$1" "refuses-$2")
    if debian_make "$src" "$deb" "$2" >"$work/log" 2>&1; then
        echo "it built, though the interface changed"
        return 1
    fi
    cat "$work/log"
    grep -qE "src/[a-z_]+\.[ch]:[0-9]+:[0-9]+: error: .*$3" "$work/log"
}

builds_612() {
    local src
    src=$(unpack "$IXGBEVF_612" builds-612)
    debian_make "$src" "$deb" "$K_612"
    built_for "$src/ixgbevf.ko" "$K_612"
}

near_release() {
    local file="$LAB/$MODULE_IXGBEVF" symvers
    symvers="$deb/usr/src/linux-headers-"
    [ "$(mismatches "$file" "$symvers$K_NEW/Module.symvers")" -eq 0 ]
    [ "$(mismatches "$file" "$symvers$K_PREV/Module.symvers")" -eq 0 ]
    [ "$(mismatches "$file" "$symvers$K_OLD/Module.symvers")" -eq "$MISMATCHES_OLD" ]
    [ "$MISMATCHES_OLD" -gt 0 ]
    [ "$MISMATCHES_OLD" -lt "$IMPORTS" ]
}

# The reason for vfguard: a module that this kernel will refuse to load, and depmod and modprobe are content.
content_tools() {
    local root="$work/content" found
    "$here/newroot.sh" "$root" "$K_OLD"
    mkdir "$root/lib/modules/$K_OLD/updates"
    # The vermagic's release is made the old kernel's, so that nothing but the CRCs tells. The two names need not be of one length.
    objcopy --dump-section ".modinfo=$work/modinfo" "$LAB/$MODULE_IXGBEVF" "$work/copy.ko"
    LC_ALL=C sed -i "s/vermagic=$K_NEW/vermagic=$K_OLD/" "$work/modinfo"
    objcopy --update-section ".modinfo=$work/modinfo" "$work/copy.ko" "$root/lib/modules/$K_OLD/updates/ixgbevf.ko"
    built_for "$root/lib/modules/$K_OLD/updates/ixgbevf.ko" "$K_OLD"
    depmod -b "$root" "$K_OLD"
    found=$(modprobe -d "$root" -S "$K_OLD" -n --show-depends 'pci:v00008086d000010EDsv00008086sd00000000bc02sc00i00')
    [[ "$found" = *updates/ixgbevf.ko* ]]
}

same_bytes() {
    "$here/../../packaging/intree-archive.sh" --demo "$here/demo/src" --out "$work/again" >"$work/again.list"
    grep -q " $DEMO_SHA256 " "$work/again.list"
    sha256sum -c - <<SUMS
$DEMO_SHA256  $LAB/$DEMO
$IXGBEVF_61_SHA256  $LAB/$IXGBEVF_61
$IXGBEVF_612_SHA256  $LAB/$IXGBEVF_612
$IGBVF_61_SHA256  $LAB/$IGBVF_61
SUMS
}

# A cache of links to the real one, so that spoiling it costs nobody anything: fetch.sh replaces files, it never writes
# into one.
mends_itself() {
    local cache="$work/cache" victim part
    mkdir "$cache"
    for part in archives roots modules; do
        cp -al "$LAB/$part" "$cache" 2>/dev/null || cp -a --reflink=auto "$LAB/$part" "$cache"
    done
    cp -a "$LAB"/*.stamp "$cache"
    victim="$cache/archives/$(basename "$DEMO")"
    head -c 100 "$LAB/$DEMO" >"$work/half"
    mv "$work/half" "$victim"
    mkdir "$cache/tmp.roots"
    VFGUARD_CHOSEN=$CHOSEN VFGUARD_CACHE=$cache "$here/fetch.sh"
    cmp "$victim" "$LAB/$DEMO"
    [ ! -e "$cache/tmp.roots" ]
}

a_device() {
    local root="$work/device"
    "$here/device.sh" --taint O "$root"
    [ "$(cat "$root/sys/class/net/eth0/device/modalias")" = pci:v00008086d000010EDsv00008086sd00000000bc02sc00i00 ]
    [ "$(cat "$root/sys/bus/pci/devices/0000:00:03.0/driver/module/taint")" = O ]
    [ "$(basename "$(readlink -f "$root/sys/bus/pci/drivers/ixgbevf/0000:00:03.0/net/eth0/device")")" = 0000:00:03.0 ]
}

check "a driver builds with Debian's split headers below a root" split_headers
check "a driver builds with one tree in usr/src/kernels, with the same symbol versions" one_tree
check "the 6.12 driver builds for 6.12" builds_612
check "the 6.1 driver does not compile for 6.12" refuses_to_build "$IXGBEVF_61" "$K_612" u64_stats_fetch_begin_irq
check "the 6.12 driver does not compile for 6.1" refuses_to_build "$IXGBEVF_612" "$K_NEW" ethtool_rxfh_param
check "a near release has the same symbol versions, an older one has not" near_release
check "depmod and modprobe are content with a module whose symbol versions are wrong" content_tools
check "packing is reproducible and the manifest's digests hold" same_bytes
check "a half-written cache is found out and made whole" mends_itself
check "a device in a scratch root looks as sysfs does" a_device
summary
