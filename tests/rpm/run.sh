#!/usr/bin/env bash
# The tier "rpm": vfguard's RPM in chroots with real package managers; a real build because of a real transaction.
#
#   run.sh [--full] [SUITE…]
#
# bookworm: rpm 4.18, a dnf 4 whose action plugin is broken, and Debian's own hooks under dpkg; trixie: rpm 4.20, a dnf 4 whose plugin
# works; forky: rpm 6, dnf 5; bullseye (with --full): rpm 4.16, a dnf 4 without plugins, kernels of its own.
#
# In bookworm and bullseye besides, machines of EL 7 (grub.cfg, systemd) and EL 6 (grub.conf, upstart): vfguard's package for rpm below 4.14,
# kernel packages with the scriptlets of those (specs/kernel-grubby.spec), new-kernel-pkg and grubby that change what theirs change, and yum, which is
# dnf without plugins, and then the actions; Ctrl-C at 5 instants of an update (with --full: 20, on both).
#
# Debian's real headers, repackaged as EL's kernel, kernel-core and kernel-devel of three releases; the driver's source from the lab by
# a recipe with a file URL. A chroot has no systemd: standins/systemctl stands in for it (the vm tier has a real one).
set -euo pipefail

HERE=$(cd "$(dirname "$0")" && pwd)
TOP=$(cd "$HERE/../.." && pwd)
# shellcheck source=tests/lib/common.sh
. "$HERE/../lib/common.sh"
# shellcheck source=tests/lab/layout.sh
. "$HERE/../lab/layout.sh"
# shellcheck source=tests/lab/debs.sh
. "$HERE/../lab/debs.sh"
# shellcheck source=tests/rpm/kernels.sh
. "$HERE/kernels.sh"
# shellcheck source=tests/rpm/cases.sh
. "$HERE/cases.sh"
# shellcheck source=tests/rpm/faults.sh
. "$HERE/faults.sh"
# shellcheck source=tests/rpm/debian.sh
. "$HERE/debian.sh"
# shellcheck source=tests/rpm/grubby.sh
. "$HERE/grubby.sh"
# shellcheck source=tests/rpm/packages/cases.sh
. "$HERE/packages/cases.sh"
# shellcheck source=tests/rpm/suites.sh
. "$HERE/suites.sh"
# shellcheck source=tests/rpm/bullseye.sh
. "$HERE/bullseye.sh"

# rpm: rpmbuild, rpmsign; gpg: keys for it; cpio, kmod: the lab.
PACKAGES=(mmdebstrap rpm gpg gpg-agent createrepo-c kmod cpio xz-utils util-linux debian-archive-keyring python3)
if [ "${1-}" = --packages ]; then
    printf '%s\n' "${PACKAGES[@]}"
    exit 0
fi
only=() FULL=no
for word; do
    if [ "$word" = --full ]; then FULL=yes; else only+=("$word"); fi
done

give_up() { skip rpm "$1" && summary && exit 0; }
command -v apt-get >/dev/null || give_up "the chroots are made of Debian's packages, and this host has no apt"
[ "$(id -u)" = 0 ] || give_up "chroots and mounts need root"
unshare -m true 2>/dev/null || give_up "this host lets nobody mount"
"$TOP/packaging/need.sh" --apt "${PACKAGES[@]}"

rc=0
LAB=$("$TOP/tests/lab/fetch.sh" 2>"/tmp/vfguard-rpm.$$") || rc=$?
why=$(tail -n 1 "/tmp/vfguard-rpm.$$")
rm -f "/tmp/vfguard-rpm.$$"
[ $rc -ne "$EX_UNAVAILABLE" ] || give_up "$why"
[ $rc -eq 0 ] || die "tests/lab/fetch.sh: $why"
# shellcheck source=/dev/null
. "$LAB/manifest.env"
WORK=$(mktemp -d "$LAB/rpm-work.XXXXXX")
# unmounted DIR: umount(8), with patience for whoever looks at it just now (a du, an indexer).
unmounted() {
    local end=$((SECONDS + 20))
    until umount "$1" 2>"$WORK/umount"; do
        [ $SECONDS -lt $end ] || { cat "$WORK/umount" >&2 && return 1; }
        sleep 0.2
    done
}
cleanup() {
    local dir
    awk -v work="$WORK/" 'index($2, work) == 1 { print $2 }' /proc/mounts | sort -r >"$WORK/mounts"
    while IFS= read -r dir; do unmounted "$dir"; done <"$WORK/mounts"
    rm -rf "$WORK"
}
trap cleanup EXIT

# --- Packages -------------------------------------------------------------------------------------------------------
binary=${VFGUARD_BINARY:-}
if [ -z "$binary" ]; then
    (cd "$TOP" && cargo build --locked >&2)
    # Without what only a debugger reads, which would be compressed for a minute.
    strip -o "$WORK/vfguard" "$TOP/target/debug/vfguard"
    binary=$WORK/vfguard
fi
R=$WORK/repo
mkdir "$R"
RPM=$("$TOP/packaging/build-rpm.sh" --binary "$binary" --out "$R/vfguard")
EL7_RPM=$("$TOP/packaging/build-rpm.sh" --binary "$binary" --out "$R/el7" --el7)
"$TOP/packaging/build-deb.sh" --binary "$binary" --out "$R/debian" >/dev/null
base_package "$R/base" "$RPM" "$EL7_RPM"
OLD=$(el_name "$K_PREV") NEW=$(el_name "$K_NEW") BAD=$(el_name "$K_612")
kernel_packages "$K_PREV" "$OLD" "$R/old"
kernel_packages "$K_NEW" "$NEW" "$R/new"
kernel_packages "$K_612" "$BAD" "$R/bad"
debian_packages "$NEW" "$R/deb"
bb "$HERE/specs/others.spec" "$R/new" --define "k $NEW"
bb "$TOP/packaging/vfguard.spec" "$R/newer" --define "clone $TOP" --define "binary $binary" --define 'version_ 99'
for repo in new bad; do repository "$R/$repo"; done
DRIVER=$LAB/$IXGBEVF_61 DRIVER_VERSION=$IXGBEVF_61_VERSION DRIVER_SHA256=$IXGBEVF_61_SHA256

# --- The chroot -----------------------------------------------------------------------------------------------------
# debian SUITE: its tree.
debian() {
    local tar
    tar=$("$HERE/chroots.sh" "$1") || return $?
    mkdir -p "$WORK/$1"
    tar -xf "$tar" -C "$WORK/$1" --exclude='./dev/*' || return 1
}

# furnish ROOT: makes it look like an EL 9 machine that runs OLD on an out-of-tree ixgbevf.
furnish() {
    local root=$1 id=0123456789abcdef0123456789abcdef
    rm -f "$root/etc/os-release"
    printf 'ID=rhel\nVERSION_ID=9.4\n' >"$root/etc/os-release"
    echo $id >"$root/etc/machine-id"
    mkdir -p "$root/etc/lab" "$root/boot/grub2" "$root/repo" "$root/srv" "$root/etc/kernel" "$root/usr/src/kernels" "$root/etc/vfguard/drivers.d"
    echo "$OLD" >"$root/etc/lab/osrelease"
    echo "BOOT_IMAGE=/vmlinuz-$OLD root=/dev/vda1 ro" >"$root/etc/lab/cmdline"
    echo layout=other >"$root/etc/kernel/install.conf"
    # Debian 12's rpm keeps a database for each user.
    mkdir -p "$root/etc/rpm"
    echo '%_dbpath /var/lib/rpm' >"$root/etc/rpm/macros"
    # As grub2-mkconfig writes it there, cut to what decides.
    cat >"$root/boot/grub2/grub.cfg" <<'G'
if [ -s $prefix/grubenv ]; then
  load_env
fi
if [ "${next_entry}" ] ; then
  set default="${next_entry}"
  set next_entry=
  save_env next_entry
  set boot_once=true
else
  set default="${saved_entry}"
fi
insmod blscfg
blscfg
G
    "$HERE/../lab/device.sh" --taint OE "$root"
    # Headers are dnf's to bring.
    rm -f "$root/usr/bin/systemctl" "$root/usr/bin/apt-get" "$root/usr/lib/kernel/install.d/"*
    install -m 755 "$HERE/standins/systemctl" "$root/usr/bin/systemctl"
    ln -sf systemctl "$root/usr/bin/systemd-run"
    install -m 755 "$HERE/standins/20-grub.install" "$HERE/standins/50-dracut.install" "$root/usr/lib/kernel/install.d/"
    cp "$DRIVER" "$root/srv/ixgbevf.tar.gz"
    cat >"$root/etc/vfguard/drivers.d/ixgbevf.toml" <<T
name = "ixgbevf"
devices = ["pci:v00008086d000010EDsv*sd*bc*sc*i*"]
[[releases]]
version = "$DRIVER_VERSION"
urls = ["file:///srv/ixgbevf.tar.gz"]
sha256 = "$DRIVER_SHA256"
T
    # A language that the package manager speaks; what is built does not read it.
    if [ -e "$root/usr/share/i18n/locales/ja_JP" ]; then chroot "$root" localedef -i ja_JP -f UTF-8 ja_JP.UTF-8; fi
    # What Fedora calls dnf is dnf 5. Debian's keeps all that it installs in a repository of its own, for which it lacks the tools.
    if [ -e "$root/usr/bin/dnf5" ]; then
        ln -s dnf5 "$root/usr/bin/dnf"
        rm "$root/etc/dnf/libdnf5-plugins/local.conf"
    fi
    rm -f "$root"/etc/yum.repos.d/* "$root"/etc/distro.repos.d/*
    mkdir -p "$root/etc/dnf" "$root/etc/yum.repos.d"
    printf '[main]\ngpgcheck=0\ninstallonlypkgs=kernel kernel-core kernel-devel installonlypkg(kernel)\nreposdir=/etc/yum.repos.d\n' >"$root/etc/dnf/dnf.conf"
    for repo in new bad; do
        printf '[%s]\nname=%s\nbaseurl=file:///repo/%s\nenabled=0\ngpgcheck=0\n' $repo $repo $repo >"$root/etc/yum.repos.d/$repo.repo"
    done
}

# inside ROOT host|chroot COMMAND: output in $OUT, exit code of the command.
OUT=$WORK/out
inside() {
    # In this script's process group, so that what ends the one ends the other.
    timeout --foreground 600 unshare --kill-child -m -p -f env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG="${LANG_-C}" ${LANG_:+LC_ALL="$LANG_"} \
        "$HERE/enter.sh" "$@" >"$OUT" 2>&1 </dev/null
}

# on_machine NAME: a copy-on-write machine from the base, at $M.
on_machine() {
    M=$WORK/case/$1
    mkdir -p "$WORK/up/$1" "$WORK/wk/$1" "$M"
    mount -t overlay overlay -o "lowerdir=$BASE,upperdir=$WORK/up/$1,workdir=$WORK/wk/$1" "$M"
    mount --bind "$R" "$M/repo"
}
done_with() {
    unmounted "$M/repo" && unmounted "$M"
    if [ -s "$WORK/up/$1/var/hooks" ]; then
        sed "s/^/$SUITE $1 /" "$WORK/up/$1/var/hooks" >>"$WORK/table"
    fi
    rm -rf "$WORK/up/$1" "$WORK/wk/$1"
}
# scenario NAME FUNCTION: one counted check on a machine of its own. With --long as the first argument: only with --full.
scenario() {
    if [ "$1" = --long ]; then
        shift
        [ $FULL = yes ] || return 0
    fi
    on_machine "$2"
    check "rpm: $SUITE: $1" "$2"
    done_with "$2"
}

mkdir -p "$WORK/case"
: >"$WORK/table"
for SUITE in bookworm trixie forky bullseye; do
    [ ${#only[@]} -eq 0 ] || [[ " ${only[*]} " = *" $SUITE "* ]] || continue
    [ "$SUITE" != bullseye ] || [ $FULL = yes ] || continue
    start=$SECONDS
    rc=0
    debian "$SUITE" 2>"$WORK/why" || rc=$?
    if [ $rc -eq 0 ] && [ "$SUITE" = bullseye ]; then
        bullseye_archive 2>"$WORK/why" || rc=$?
    fi
    cat "$WORK/why" >&2
    if [ $rc -eq "$EX_UNAVAILABLE" ]; then
        skip "rpm/$SUITE" "$(tail -n 1 "$WORK/why")"
        continue
    fi
    [ $rc -eq 0 ] || die "$SUITE: exit code $rc: $(tail -n 1 "$WORK/why")"
    if [ "$SUITE" = bullseye ]; then
        bullseye_kernels
    fi
    BASE=$WORK/$SUITE
    furnish "$BASE"
    say "chroot of $SUITE: $((SECONDS - start)) s"
    install -m 755 "$binary" "$BASE/usr/bin/vfguard"
    if ! chroot "$BASE" vfguard --version >/dev/null 2>"$OUT"; then
        skip "rpm/$SUITE" "the vfguard under test does not run there: $(head -n 1 "$OUT")"
        rm -rf "$BASE"
        continue
    fi
    rm "$BASE/usr/bin/vfguard"
    "${SUITE}_cases"
    rm -rf "$BASE"
done

echo
echo "hooks that fired: calls, seconds and lines printed by each call, exit codes"
awk '{ key = sprintf("%-10s %-22s %-16s", $1, $2, $3); n[key]++; s[key] = s[key] sprintf(" %.1f", $4 / 1000); rc[key] = rc[key] " " $5; l[key] = l[key] " " $6 }
    END { for (k in n) printf "  %s %d  s:%s  lines:%s  exit:%s\n", k, n[k], s[k], l[k], rc[k] }' "$WORK/table" | sort
summary
