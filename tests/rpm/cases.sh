# shellcheck shell=bash
# What is asked of a machine, and the ordinary transactions. Sourced by run.sh.

# Debian's rpm up to 12 wants to be asked twice, and the next one knows no such option.
FORCE=
DNF="dnf -y --releasever=9"

# In a condition or after `!` errexit is off; not so in a command of its own.
not() { ! "$@"; }

# --- What is asked of a machine -------------------------------------------------------------------------------------
built() { [ -e "$M/usr/lib/modules/$1/updates/vfguard/ixgbevf.ko" ]; }
default_is() { grep -aqx "saved_entry=0123456789abcdef0123456789abcdef-$1" "$M/boot/grub2/grubenv"; }
# /run ends with the machine's own init, so the command itself tells what is there.
GATE='ls /run/systemd/system/reboot.target.d/50-vfguard.conf /run/vfguard/reboot-refused 2>/dev/null | grep -q . && echo GATE CLOSED || echo GATE OPEN'
STATE="; rc=\$?; echo \"rc \$rc\"; $GATE"
told() { grep -aqE -- "$1" "$OUT" || { echo "no '$1' in:" && cat "$OUT" && return 1; }; }
update() { inside "$M" "${INIT-host}" "$1$STATE"; cat "$OUT"; told '^rc 0$'; }
safe_on() { told '^GATE OPEN$'; built "$1"; default_is "$1"; }
refused() { told '^GATE CLOSED$'; not built "$1"; default_is "$OLD"; told 'a reboot is refused'; }
fired() { grep -q "^$1 " "$M/var/hooks" || { cat "$M/var/hooks" && return 1; }; }

# --- The machine before ---------------------------------------------------------------------------------------------
# The running kernel with its headers, then vfguard: the running kernel is judged and built for by the installation itself.
install_all() {
    inside "$M" host "rpm --initdb; rpm -i $FORCE /repo/base/*.rpm && rpm -i $FORCE /repo/old/*.rpm && rpm -i $FORCE /repo/vfguard/*.rpm$STATE"
    cat "$OUT"
    told '^rc 0$'
    grep -q '^vfguard:' "$M/etc/passwd"
}
first_install() {
    install_all
    safe_on "$OLD"
}
# counted ROOT: from here on the hooks' calls are counted.
counted() {
    mkdir -p "$1/usr/libexec"
    mv "$1/usr/bin/vfguard" "$1/usr/libexec/vfguard.real"
    install -m 755 "$HERE/standins/vfguard.wrapper" "$1/usr/bin/vfguard"
}
# The rest of the cases stand on it. prepare_base [CHECK]
prepare_base() {
    M=$BASE
    mount --bind "$R" "$M/repo"
    check "rpm: $SUITE: the first install judges the kernel that is there, and builds for it" "${1:-first_install}"
    unmounted "$M/repo"
    counted "$BASE"
}

# --- Cases ----------------------------------------------------------------------------------------------------------
# The part of a package's name behind its first dash: version and release.
vr() { echo "${1%.x86_64}"; }
# $DNF install with the kernel packages of K: core and devel.
kernel_of() { echo "kernel-core-$(vr "$1") kernel-devel-$(vr "$1")"; }

dnf_update() { update "$DNF --enablerepo=new update kernel kernel-core kernel-devel"; safe_on "$NEW"; fired rpm-trigger; fired kernel-install; }
devel_later() {
    update "$DNF --enablerepo=new install kernel-core-$(vr "$NEW")"
    refused "$NEW"
    told 'its headers are not there'
    update "$DNF --enablerepo=new install kernel-devel-$(vr "$NEW")"
    safe_on "$NEW"
}
# The unit that runs after the transaction asks for them, and nobody has them.
devel_never() {
    sed -i s/enabled=0/enabled=1/ "$M/etc/yum.repos.d/bad.repo"
    update "rpm -i $FORCE /repo/new/kernel-core*.rpm; systemctl start vfguard-headers.service; vfguard check; echo check \$?"
    refused "$NEW"
    told 'no repository offers the headers'
    told "vfguard decline $NEW"
    told 'check 3'
}
# The unit that runs after the transaction asks for them, and the machine's own dnf brings them, in a transaction with hooks of its own.
devel_brought() {
    sed -i s/enabled=0/enabled=1/ "$M/etc/yum.repos.d/new.repo"
    update "rpm -i $FORCE /repo/new/kernel-core*.rpm; ls -d /usr/src/kernels/$NEW; systemctl start vfguard-headers.service"
    told "ls: cannot access '/usr/src/kernels/$NEW'"
    safe_on "$NEW"
}
devel_of_another() {
    update "$DNF --enablerepo=new --enablerepo=bad install kernel-core-$(vr "$NEW") kernel-devel-$(vr "$BAD")"
    refused "$NEW"
    told 'its headers are not there'
}
compile_failure() {
    update "$DNF --enablerepo=bad update kernel kernel-core kernel-devel"
    refused "$BAD"
    told 'u64_stats_fetch_begin_irq'
    told 'to mend it'
}
rpm_i() { update "rpm -i $FORCE /repo/new/kernel-*.rpm"; safe_on "$NEW"; fired rpm-trigger; }
noplugins() { update "$DNF --noplugins --enablerepo=new update kernel-core kernel-devel"; safe_on "$NEW"; }
# What an update would bring, tried from the machine's own repositories by its own dnf.
rehearsed() {
    local rehearse="vfguard rehearse --available --driver ixgbevf --source /srv/ixgbevf.tar.gz --sha256 $DRIVER_SHA256"
    sed -i 's/^enabled=0/enabled=1/' "$M/etc/yum.repos.d/new.repo"
    allow_unsigned true
    update "$rehearse"
    told '^REAL: '
    told "^kernel $NEW\$"
    told '^package lists: refreshed just now$'
    printf '[gone]\nname=gone\nbaseurl=file:///gone\nenabled=1\ngpgcheck=0\n' >"$M/etc/yum.repos.d/gone.repo"
    update "$rehearse"
    told "^kernel $NEW\$"
    told '^package lists: refreshed only in part: '
    [ ! -e "$M/usr/lib/modules/$NEW" ]
}
two_kernels() {
    update "$DNF --enablerepo=new --enablerepo=bad install $(kernel_of "$NEW") $(kernel_of "$BAD")"
    built "$NEW"
    not built "$BAD"
    told 'a reboot is refused'
}
kernel_removed() {
    update "rpm -i $FORCE /repo/new/kernel-*.rpm && rpm -e kernel-$(vr "$NEW") $(kernel_of "$NEW")"
    told '^GATE OPEN$'
    [ ! -e "$M/usr/lib/modules/$NEW" ]
}
# The oldest kernel goes in the transaction that brings the next one, by dnf's own rule; what was built for it goes too.
limit_reached() {
    update "$DNF --enablerepo=new update kernel-core kernel-devel"
    safe_on "$NEW"
    echo "$NEW" >"$M/etc/lab/osrelease"
    echo "BOOT_IMAGE=/vmlinuz-$NEW root=/dev/vda1 ro" >"$M/etc/lab/cmdline"
    update "$DNF --enablerepo=bad --setopt=installonly_limit=2 update kernel-core kernel-devel"
    [ ! -e "$M/usr/lib/modules/$OLD" ]
    told "$OLD was removed"
    told '^GATE CLOSED$'
    default_is "$NEW"
}
japanese() {
    LANG_=ja_JP.UTF-8 update "$DNF --enablerepo=new update kernel-core kernel-devel"
    told '完了しました'
    safe_on "$NEW"
}
image_build() {
    mkdir -p "$M/etc/vfguard/config.d"
    printf '[drivers]\nrequired = ["ixgbevf"]\n' >"$M/etc/vfguard/config.d/image.toml"
    inside "$M" chroot "rpm -i $FORCE /repo/new/kernel-*.rpm$STATE"
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
