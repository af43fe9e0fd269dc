# shellcheck shell=bash
# Lays packages out as scratch roots. Sourced by fetch.sh.

# debian_headers ROOT K: the headers of K below ROOT, as dpkg would put them. Links that are absolute stay absolute.
debian_headers() {
    local root=$1 k=$2 package
    mkdir -p "$root"
    for package in $(headers_of "$k"); do
        dpkg-deb -x "$(deb "$package")" "$root"
    done
    [ -L "$root/lib/modules/$k/build" ] || die "linux-headers-$k has no lib/modules/$k/build link: its layout has changed"
    installed_kernel "$root" "$k" "$root/usr/src/linux-headers-$k/.config"
}

# renamed_headers ROOT K NAME: the headers of K below ROOT once more, as those of a kernel NAME with the same symbol versions, for days
# on which the archive has no such kernel.
renamed_headers() {
    local root=$1 k=$2 name=$3 from="$1/usr/src/linux-headers-" file
    cp -a "$from${k%-amd64}-common" "$from${name%-amd64}-common"
    cp -a "$from$k" "$from$name"
    grep -rlF "${k%-amd64}" "$from$name" | while IFS= read -r file; do sed -i "s/${k%-amd64}/${name%-amd64}/g" "$file"; done
    mkdir -p "$root/lib/modules/$name"
    ln -s "/usr/src/linux-headers-$name" "$root/lib/modules/$name/build"
    ln -s "/usr/src/linux-headers-${name%-amd64}-common" "$root/lib/modules/$name/source"
    installed_kernel "$root" "$name" "$from$name/.config"
}

# installed_kernel ROOT K CONFIG: the least that makes K an installed kernel below ROOT (an image and a module directory
# that depmod accepts). The image is an empty marker; a real one comes from the `images` root.
installed_kernel() {
    local root=$1 k=$2 config=$3
    mkdir -p "$root/boot" "$root/lib/modules/$k/kernel"
    : >"$root/boot/vmlinuz-$k"
    cp "$config" "$root/boot/config-$k"
    : >"$root/lib/modules/$k/modules.order"
    : >"$root/lib/modules/$k/modules.builtin"
    : >"$root/lib/modules/$k/modules.builtin.modinfo"
}

# el_headers ROOT K DEBROOT: the same headers as one tree in /usr/src/kernels/K, as kernel-devel of the EL family has them:
# no second directory for the results, no absolute path, only this architecture.
el_headers() {
    local root=$1 k=$2 deb=$3 tree="$1/usr/src/kernels/$2" arch common
    arch="$deb/usr/src/linux-headers-$k"
    common="$deb/usr/src/linux-headers-${k%-amd64}-common"
    mkdir -p "$tree" "$root/lib/modules/$k"
    cp -a "$common/." "$tree"
    find "$tree/arch" -mindepth 1 -maxdepth 1 ! -name x86 -exec rm -r {} +
    # Debian links these to the kbuild package; here they are the tree's own.
    rm "$tree/scripts" "$tree/tools"
    cp -aL "$arch/scripts" "$arch/tools" "$tree"
    cp -a "$arch/.config" "$arch/Module.symvers" "$arch/arch" "$arch/include" "$tree"
    # Debian overrides KERNELRELEASE in a file that its makefile includes. EL's kernel has its release in the top makefile,
    # where `make kernelrelease` finds it, and in this file.
    sed -i -E "s/^SUBLEVEL =.*/SUBLEVEL = $(cut -d- -f1 <<<"$k" | cut -d. -f3-)/; s/^EXTRAVERSION =.*/EXTRAVERSION = -${k#*-}/" "$tree/Makefile"
    printf '%s\n' "$k" >"$tree/include/config/kernel.release"
    ln -s "/usr/src/kernels/$k" "$root/lib/modules/$k/build"
    ln -s build "$root/lib/modules/$k/source"
    installed_kernel "$root" "$k" "$tree/.config"
    # kernel-core of EL, Fedora and AL2023 brings these, and they are there without kernel-devel.
    cp "$tree/.config" "$root/lib/modules/$k/config"
    gzip -n -c "$tree/Module.symvers" >"$root/lib/modules/$k/symvers.gz"
    cp "$root/lib/modules/$k/symvers.gz" "$root/boot/symvers-$k.gz"
}

# plain_make SRC K KSRC [KOBJ]: what vfguard's build is compared with: nothing but make, in SRC. With KSRC and KOBJ given,
# Debian's split headers work wherever they lie; the absolute path in their makefile is not read.
plain_make() {
    make -C "$1" -j2 --no-print-directory BUILD_KERNEL="$2" KSRC="$3" ${4:+KOBJ="$4"}
}

# debian_make SRC ROOT K
debian_make() {
    plain_make "$1" "$3" "$2/usr/src/linux-headers-${3%-amd64}-common" "$2/usr/src/linux-headers-$3"
}

# imports MODULE: `CRC symbol` for each symbol that the module needs, in kmod's words: an oracle that shares no code with
# vfguard.
imports() {
    modprobe --dump-modversions "$1" | awk '{ print $1, $2 }'
}

# mismatches MODULE SYMVERS: how many of its CRCs the kernel of that Module.symvers would not accept.
mismatches() {
    imports "$1" | awk 'NR == FNR { crc[$2] = $1; next } crc[$2] != $1 { n++ } END { print n + 0 }' "$2" -
}
