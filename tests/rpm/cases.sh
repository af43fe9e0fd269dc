# shellcheck shell=bash
# The cases. Sourced by run.sh.

# Debian 12's rpm wants to be asked twice, and the next one knows no such option.
FORCE=
DNF="dnf -y --releasever=9 --setopt=keepcache=0"

# In a condition or after `!` errexit is off; not so in a command of its own.
not() { ! "$@"; }

# --- What is asked of a machine -------------------------------------------------------------------------------------
built() { [ -e "$M/usr/lib/modules/$1/updates/vfguard/ixgbevf.ko" ]; }
default_is() { grep -aqx "saved_entry=0123456789abcdef0123456789abcdef-$1" "$M/boot/grub2/grubenv"; }
# /run ends with the machine's own init, so the command itself tells what is there.
# shellcheck disable=SC2016 # expanded in the chroot
STATE='; rc=$?; echo "rc $rc"; ls /run/systemd/system/reboot.target.d/50-vfguard.conf 2>/dev/null && echo GATE CLOSED || echo GATE OPEN'
told() { grep -aqE -- "$1" "$OUT" || { echo "no '$1' in:" && cat "$OUT" && return 1; }; }
update() { inside "$M" host "$1$STATE"; cat "$OUT"; told '^rc 0$'; }
safe_on() { told '^GATE OPEN$'; built "$1"; default_is "$1"; }
refused() { told '^GATE CLOSED$'; not built "$1"; default_is "$OLD"; told 'a reboot is refused'; }
fired() { grep -q "^$1 " "$M/var/hooks" || { cat "$M/var/hooks" && return 1; }; }

# --- The machine before ---------------------------------------------------------------------------------------------
# The running kernel with its headers, then vfguard: the running kernel is judged and built for by the installation itself.
first_install() {
    inside "$M" host "rpm --initdb; rpm -i $FORCE /repo/base/*.rpm && rpm -i $FORCE /repo/old/*.rpm && rpm -i $FORCE /repo/vfguard/*.rpm$STATE"
    cat "$OUT"
    told '^rc 0$'
    safe_on "$OLD"
    getent_vfguard
}
getent_vfguard() { grep -q '^vfguard:' "$M/etc/passwd"; }
# The rest of the cases stand on it; from here on the hooks' calls are counted.
prepare_base() {
    M=$BASE
    mount --bind "$R" "$M/repo"
    check "rpm: $SUITE: the first install builds for the kernel that is there" first_install
    umount "$M/repo"
    mkdir -p "$BASE/usr/libexec"
    mv "$BASE/usr/bin/vfguard" "$BASE/usr/libexec/vfguard.real"
    install -m 755 "$HERE/vfguard.wrapper" "$BASE/usr/bin/vfguard"
}

# --- Cases ----------------------------------------------------------------------------------------------------------
dnf_update() { update "$DNF --enablerepo=new update kernel kernel-core kernel-devel"; safe_on "$NEW"; fired rpm-trigger; fired kernel-install; }
devel_later() {
    update "$DNF --enablerepo=new install kernel-core-6.1.0-56"
    refused "$NEW"
    told 'its headers are not there'
    update "$DNF --enablerepo=new install kernel-devel-6.1.0-56"
    safe_on "$NEW"
}
compile_failure() {
    update "$DNF --enablerepo=bad update kernel kernel-core kernel-devel"
    refused "$BAD"
    told 'u64_stats_fetch_begin_irq'
    told 'to mend it'
}
rpm_i() { update "rpm -i $FORCE /repo/new/*.rpm"; safe_on "$NEW"; fired rpm-trigger; }
noplugins() { update "$DNF --noplugins --enablerepo=new update kernel-core kernel-devel"; safe_on "$NEW"; }
two_kernels() {
    update "$DNF --enablerepo=new --enablerepo=bad install kernel-core-6.1.0-56 kernel-devel-6.1.0-56 kernel-core-6.12.117-1 kernel-devel-6.12.117-1"
    built "$NEW"
    not built "$BAD"
    told 'a reboot is refused'
}
kernel_removed() {
    update "rpm -i $FORCE /repo/new/*.rpm && rpm -e kernel-6.1.0-56 kernel-core-6.1.0-56 kernel-devel-6.1.0-56"
    told '^GATE OPEN$'
    ls -R "$M/usr/lib/modules"
    [ ! -e "$M/usr/lib/modules/$NEW" ]
}
japanese() { LANG_=ja_JP.UTF-8 update "$DNF --enablerepo=new update kernel-core kernel-devel"; safe_on "$NEW"; }
image_build() {
    mkdir -p "$M/etc/vfguard/config.d"
    printf '[drivers]\nrequired = ["ixgbevf"]\n' >"$M/etc/vfguard/config.d/image.toml"
    inside "$M" chroot "rpm -i $FORCE /repo/new/*.rpm$STATE"
    cat "$OUT"
    told '^rc 0$'
    told '^GATE OPEN$'
    told 'in a chroot'
    built "$NEW"
}
# The same RPM once more is an upgrade, to rpm's scriptlets; it brings the real binary back as well.
removal() {
    local closed="ls /run/systemd/system/reboot.target.d/50-vfguard.conf >/dev/null && echo"
    update "rpm -i $FORCE /repo/bad/kernel-core*.rpm; $closed WAS CLOSED
        rpm -U --force $FORCE /repo/vfguard/*.rpm; $closed STILL CLOSED; rpm -e vfguard"
    told 'WAS CLOSED'
    told 'STILL CLOSED'
    told '^GATE OPEN$'
    told "default.*$OLD"
    default_is "$OLD"
    [ ! -e "$M/usr/bin/vfguard" ]
}

dnf4_cases() {
    FORCE=--force-debian
    prepare_base
    scenario "dnf 4 update with the headers in the same transaction ends built, default moved, gate open" dnf_update
    scenario "headers that come in a later transaction: refused, then built" devel_later
    scenario "a driver that does not compile: dnf succeeds, the reboot is refused, the default held" compile_failure
    scenario "rpm -i alone builds" rpm_i
    scenario "dnf --noplugins builds" noplugins
    scenario "two kernels in one transaction" two_kernels
    scenario "a kernel that is removed leaves nothing" kernel_removed
    scenario "in a Japanese locale" japanese
    scenario "an image build in a chroot builds what is required and closes nothing" image_build
    scenario "removal opens the gate and leaves the default on the held kernel" removal
}

# With a plugin that runs actions, the action fires too, once.
action_fires() {
    dnf_update
    [ "$(grep -c '^dnf ' "$M/var/hooks")" = 1 ]
}
newer_dnf4_cases() {
    FORCE=
    prepare_base
    scenario "dnf 4 with a working action plugin: each hook fires, the build is one" action_fires
    scenario "a driver that does not compile: dnf succeeds, the reboot is refused, the default held" compile_failure
}
