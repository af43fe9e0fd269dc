# shellcheck shell=bash
# The package for EL6 and EL7 in real rpm transactions, on a root that is made of busybox and an `upstart` of ours: its files, the
# wrappers around reboot, shutdown and telinit after an installation, an update of upstart and the removal. Sourced by run.sh,
# which sets $work and $binary.
# shellcheck disable=SC2154

# upstart_package VERSION: prints the path of a package that brings what upstart and initscripts bring, each saying its version.
upstart_package() {
    local top=$work/upstart-$1
    mkdir -p "$top"
    cat >"$top/upstart.spec" <<S
Name: upstart
Version: $1
Release: 1
Summary: stands for EL6's
License: MIT
BuildArch: noarch
AutoReqProv: no
%description
Stands for EL6's.
%install
mkdir -p %{buildroot}/sbin %{buildroot}/etc/init
for name in reboot shutdown telinit initctl; do
    printf '#!/bin/sh\necho REAL $1 \${0##*/} "\$@"\n' >%{buildroot}/sbin/\$name
done
printf '#!/bin/sh\necho "init (upstart 0.6.5)"\n' >%{buildroot}/sbin/init
chmod 755 %{buildroot}/sbin/*
ln -s reboot %{buildroot}/sbin/halt
ln -s reboot %{buildroot}/sbin/poweroff
touch %{buildroot}/etc/init/control-alt-delete.conf
%files
/sbin/*
/etc/init/control-alt-delete.conf
S
    rpmbuild -bb --quiet --define "_topdir $top" "$top/upstart.spec" >"$top/log" 2>&1 || cat "$top/log" >&2
    ls "$top"/RPMS/noarch/*.rpm
}

# el6_root DIR: what scriptlets and the shipped binary need to run there.
el6_root() {
    local name library
    mkdir -p "$1"/{bin,sbin,usr/bin,usr/sbin,etc,dev,proc,run,tmp,var/lib/rpm}
    mknod -m 666 "$1/dev/null" c 1 3
    cp "$(command -v busybox)" "$1/bin/busybox"
    for name in sh head grep ln cp mv chmod mkdir rmdir sed cat rm; do ln -s busybox "$1/bin/$name"; done
    # This host's C library: EL6's cannot be had here.
    for library in $(ldd "$binary" "$1/bin/busybox" | grep -o '/[^ ]*\.so[^ ]*' | sort -u); do cp --parents -L "$library" "$1"; done
    echo root:x:0:0::/:/bin/sh >"$1/etc/passwd"
}

el6_transactions() {
    local root=$work/el6 package name before
    package=$(ls "$work"/rpm--el7/*.rpm)
    # yum 3's files and upstart's are in it, rpm's file triggers, dnf's and kernel-install's are not.
    rpm -qpl "$package" >"$work/contents"
    for name in /etc/yum/post-actions/vfguard.action /etc/kernel/postinst.d/vfguard /etc/kernel/prerm.d/vfguard /usr/sbin/vfguard-upstart \
        /usr/libexec/vfguard/upstart-wrapper /etc/init/vfguard.conf /etc/cron.d/vfguard; do
        grep -qx "$name" "$work/contents"
    done
    none "$(grep -E 'dnf|kernel/install\.d' "$work/contents")"
    none "$(rpm -qp --filetriggers "$package")"

    el6_root "$root"
    in_root() { rpm --root "$root" --nodeps --nosignature "$@"; }
    in_root -i "$(upstart_package 1)"
    # Directories apart, that belong to packages which this root does not have.
    listed() { (cd "$root" && find sbin usr etc \( ! -type d -o -name '*vfguard*' \) | sort); }
    before=$(listed)
    in_root -i "$package"
    for name in reboot shutdown telinit; do
        sed -n 2p "$root/sbin/$name" | grep -q '^# vfguard-upstart-wrapper'
        [ "$(chroot "$root" /sbin/$name x)" = "REAL 1 $name x" ]
    done
    # An update brings the programs anew, and the trigger wraps the new ones.
    in_root -U "$(upstart_package 2)"
    for name in reboot shutdown telinit halt; do
        [ "$(chroot "$root" /sbin/$name x)" = "REAL 2 $name x" ]
    done
    sed -n 2p "$root/sbin/reboot" | grep -q '^# vfguard-upstart-wrapper'
    # An update of vfguard itself leaves them.
    in_root -U --force "$package"
    sed -n 2p "$root/sbin/reboot" | grep -q '^# vfguard-upstart-wrapper'
    # A closed gate refuses, and --force does not ask.
    mkdir -p "$root/run/vfguard" "$root/proc/sys/kernel/random"
    echo b-1 >"$root/proc/sys/kernel/random/boot_id"
    printf 'b-1\npoweroff=no\nvfguard refuses\n' >"$root/run/vfguard/reboot-refused"
    none "$(chroot "$root" /sbin/reboot 2>"$work/refused")"
    grep -q 'vfguard refuses' "$work/refused"
    [ "$(chroot "$root" /sbin/reboot --force)" = 'REAL 2 reboot --force' ]
    # Removed, nothing of it is left, and the programs are upstart's newest.
    in_root -e vfguard
    [ "$(listed)" = "$before" ]
    [ ! -e "$root/run/vfguard/reboot-refused" ]
    none "$(in_root -V upstart)"
}
