# shellcheck shell=bash
# vfguard's package for Debian and Debian's own hooks, in transactions of dpkg. Sourced by run.sh.

# debian_name image|headers K: dpkg takes no underscore.
debian_name() { echo "linux-$1-${2//_/-}"; }

# debian_packages K DIR: linux-image and linux-headers of K, with the lines of Debian's maintainer scripts that run the hooks.
debian_packages() {
    local k=$1 out=$2 tree part when package
    mkdir -p "$out"
    for part in image headers; do
        package=$(debian_name "$part" "$k") tree=$WORK/deb-$part
        mkdir -p "$tree/DEBIAN"
        printf 'Package: %s\nVersion: 1\nArchitecture: amd64\nMaintainer: lab <lab@localhost>\nDescription: a kernel\n' "$package" >"$tree/DEBIAN/control"
    done
    for when in postinst postrm; do
        cat >"$WORK/deb-image/DEBIAN/$when" <<S
#!/bin/sh
set -e
[ "\$1" != configure ] && [ "\$1" != remove ] && exit 0
run-parts --report --exit-on-error --arg=$k --arg=/boot/vmlinuz-$k /etc/kernel/$when.d
S
        chmod 755 "$WORK/deb-image/DEBIAN/$when"
    done
    # As linux-headers' has it, in Perl there.
    cat >"$WORK/deb-headers/DEBIAN/postinst" <<S
#!/bin/sh
set -e
[ ! -d /etc/kernel/header_postinst.d ] || run-parts --report --exit-on-error --arg=$k /etc/kernel/header_postinst.d
S
    chmod 755 "$WORK/deb-headers/DEBIAN/postinst"
    mkdir -p "$WORK/deb-image/usr/lib/modules" "$WORK/deb-image/boot" "$WORK/deb-headers/usr/src"
    cp -al "$WORK/kernel-$k/lib/modules/$k" "$WORK/deb-image/usr/lib/modules"
    echo image >"$WORK/deb-image/boot/vmlinuz-$k"
    cp -al "$WORK/kernel-$k/usr/src/kernels" "$WORK/deb-headers/usr/src"
    # The lab's root lacks it, and dpkg processes no trigger of a package that lacks something.
    tree=$WORK/deb-certificates
    mkdir -p "$tree/DEBIAN"
    printf 'Package: ca-certificates\nVersion: 1\nArchitecture: all\nMaintainer: lab <lab@localhost>\nDescription: none\n' >"$tree/DEBIAN/control"
    dpkg-deb -Znone -b "$tree" "$out/certificates.deb" >/dev/null
    for part in image headers; do dpkg-deb -Znone -b "$WORK/deb-$part" "$out/$part.deb" >/dev/null; done
    rm -rf "$WORK/deb-image" "$WORK/deb-headers"
}

# The machine with Debian's package in place of the RPM; initramfs and boot entry are written between the hooks, by name.
DEB='dpkg -i /repo/deb/certificates.deb /repo/debian/vfguard_*.deb'
debian_machine() {
    local plugins=/usr/lib/kernel/install.d
    update "rpm -e vfguard; $DEB"
    safe_on "$OLD"
    # By deb-systemd-helper.
    grep -q "preset .*vfguard-boot.service" "$M/var/calls"
    counted "$M"
    printf '#!/bin/sh\nexec %s\n' "$plugins/50-dracut.install add \$1" >"$M/etc/kernel/postinst.d/initramfs-tools"
    printf '#!/bin/sh\nexec %s\n' "$plugins/20-grub.install add \$1 - \$2" >"$M/etc/kernel/postinst.d/zz-update-grub"
    printf '#!/bin/sh\nexec %s\n' "$plugins/20-grub.install remove \$1" >"$M/etc/kernel/postrm.d/zz-update-grub"
    chmod 755 "$M"/etc/kernel/*.d/*
    # Debian's 20-grub copies the image; here the package brings it.
    sed -i 's/^    cp .*/    :/' "$M/usr/lib/kernel/install.d/20-grub.install"
}
dpkg_installs_and_removes() {
    debian_machine
    update 'dpkg -i /repo/deb/image.deb /repo/deb/headers.deb'
    safe_on "$NEW"
    fired postinst
    update "dpkg -r $(debian_name image "$NEW") $(debian_name headers "$NEW")"
    fired prerm
    told '^GATE OPEN$'
    told "$NEW was removed"
    [ ! -e "$M/usr/lib/modules/$NEW" ]
}
dpkg_without_headers() {
    debian_machine
    update "dpkg -i /repo/deb/image.deb; dpkg-query -W -f '\${db:Status-Status}\\n' $(debian_name image "$NEW")"
    told '^installed$'
    refused "$NEW"
    told 'its headers are not there'
    # /run is a new one each time.
    update 'vfguard reconcile --no-build; ls /run/systemd/system/reboot.target.d; dpkg -r vfguard; /etc/kernel/postinst.d/zzz-vfguard'
    told '^50-vfguard.conf$'
    told '^GATE OPEN$'
    default_is "$OLD"
    not told 'not found'
    update "$DEB"
    refused "$NEW"
    counted "$M"
    update 'dpkg -i /repo/deb/headers.deb'
    safe_on "$NEW"
    fired header-postinst
    fired dpkg-trigger
    update 'dpkg -P vfguard'
    [ ! -e "$M/var/lib/vfguard" ]
    [ ! -e "$M/etc/kernel/postinst.d/zzz-vfguard" ]
    built "$NEW"
}
