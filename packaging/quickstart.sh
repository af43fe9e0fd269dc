#!/usr/bin/env bash
# From a clone on a fresh machine to a driver that was built for the newest kernel on offer, verified and judged:
#
#   packaging/quickstart.sh [--driver NAME]
#
# Installs the packages below (Debian 12 and 13, the EL family), builds the release binary, and runs `vfguard rehearse
# --available`: the whole job in a scratch root. Changed on this machine: installed packages, cargo's and the package
# manager's caches, and target/ in this clone. Nothing below /lib/modules, /boot, /etc or /usr/src; no gate; no boot default.
#
# The driver is the recipe's release where its URLs can be reached. Where not, the driver that the distribution's kernel
# source package holds stands in, so that all else is seen on real code. The report's first line says which: REAL or
# SUBSTITUTE. The exit code is vfguard's: 0 safe, 3 unsafe, 1 could not decide.
set -euo pipefail

APT_PACKAGES=(
    ca-certificates                  # HTTPS
    build-essential pkg-config       # the crate's C parts; then the driver itself
    kmod xz-utils util-linux         # depmod, archives
    pahole                           # kernel headers of 6.12 and newer want it; brings libelf for objtool
)
DNF_PACKAGES=(
    ca-certificates gcc make pkgconf-pkg-config
    kmod xz util-linux
    elfutils-libelf-devel dwarves
    dnf-plugins-core cpio            # dnf download; source packages
)

top=$(cd "$(dirname "$0")/.." && pwd)
cd "$top"
say() { printf '%s\n' "quickstart: $*" >&2; }

driver=ixgbevf
case "${1-}" in
'') ;;
--driver) driver=${2:?--driver needs a name} ;;
*) say "unknown argument $1 (there is only --driver NAME)" && exit 2 ;;
esac

packaging/need.sh --apt "${APT_PACKAGES[@]}" --dnf "${DNF_PACKAGES[@]}"
PATH=$(packaging/ensure-rust.sh):$PATH:/usr/sbin:/sbin
say "building vfguard"
cargo build --locked --release --quiet
vfguard=${CARGO_TARGET_DIR:-target}/release/vfguard

work=$top/target/quickstart
mkdir -p "$work"
scratch=$work
# Where the system allows no namespaces (many containers), the user that compiles must be able to walk to the scratch root.
if [ "$(id -u)" -eq 0 ] && ! setpriv --reuid 65534 --regid 65534 --clear-groups test -x "$work"; then
    scratch=$(mktemp -d)
    chmod 755 "$scratch"
    say "$top is closed to other users: the scratch root is made in $scratch"
fi

# rehearse WHAT OPTIONS…: the report goes to $work/report, the exit code to $rc. The scratch root of the run before is removed:
# what is judged is what this run made.
rc=0
rehearse() {
    rc=0
    rm -rf "$scratch/root"
    "$vfguard" rehearse "$@" --driver "$driver" --scratch "$scratch/root" </dev/null >"$work/report" || rc=$?
}

say "rehearsing $driver for the newest kernel on offer"
rehearse --available
if ! head -n 1 "$work/report" | grep -q '^NOT FETCHED'; then
    cat "$work/report"
    exit $rc
fi

# The source package must be of the kernel's own series: an in-tree driver compiles for no other.
kernel=$(sed -n 's/^kernel //p' "$work/report" | head -n 1)
series=$(grep -oE '^[0-9]+\.[0-9]+' <<<"$kernel") || {
    cat "$work/report"
    say "the report does not say for which kernel it is"
    exit 1
}
why=$(sed -n 's/^not prepared: //p' "$work/report" | head -n 1)
say "the recipe's release could not be fetched: $driver of Linux $series stands in"
mkdir -p "$work/substitute"
# Packed again only where the last run's archive is gone: it costs a download of 150 MB.
list=$work/substitute/$driver-$series
if ! { [ -e "$list" ] && read -r _ _ sha256 file <"$list" && echo "$sha256  $file" | sha256sum --status -c 2>/dev/null; }; then
    packed=$(packaging/intree-archive.sh --series "$series" --out "$work/substitute" "$driver") || {
        cat "$work/report"
        say "and nothing could stand in. Give the archive yourself: $vfguard rehearse --available --source FILE --sha256 HEX"
        exit 1
    }
    printf '%s\n' "$packed" >"$list"
    read -r _ _ sha256 file <"$list"
fi
# The same kernel, whatever the archive has by now.
rehearse "$kernel" --source "$file" --sha256 "$sha256" --reason "the recipe's release could not be fetched (${why:-no reason given})"
cat "$work/report"
exit $rc
