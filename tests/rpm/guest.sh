#!/usr/bin/env bash
# What a guest of the vm tier needs to be updated by dnf, into OUT:
#
#   guest.sh vfguard OUT BINARY             vfguard's RPM, and what it requires
#   guest.sh kernels OUT OLD NEW DEB…       the kernel OLD, which the guest has already, and a repository with NEW, of Debian's packages DEB
set -euo pipefail

HERE=$(cd "$(dirname "$0")" && pwd)
TOP=$(cd "$HERE/../.." && pwd)
# shellcheck source=tests/rpm/kernels.sh
. "$HERE/kernels.sh"

what=$1 out=$2
shift 2
"$TOP/packaging/need.sh" --apt rpm createrepo-c
WORK=$(mktemp -d)
trap 'rm -rf "$WORK"' EXIT
mkdir -p "$out"
if [ "$what" = vfguard ]; then
    base_package "$out/base" "$("$TOP/packaging/build-rpm.sh" --binary "$1" --out "$out/vfguard")"
    exit
fi
old=$1 new=$2
shift 2
for deb; do dpkg-deb -x "$deb" "$WORK/root"; done
# Cut as the guests' own dpkg cuts it.
rules=$TOP/tests/vm/guest/etc/dpkg/dpkg.cfg.d/lab
(cd "$WORK/root" && find . -name 'evdev.ko*' -exec cp --parents {} "$WORK" ';')
while IFS= read -r pattern; do
    # shellcheck disable=SC2086 # a pattern
    rm -rf "$WORK/root"$pattern
done < <(sed -n 's,^path-exclude=\(/lib/\),\1,p' "$rules")
cp -r "$WORK/lib" "$WORK/root"
# kernel K ROOT DIR: `6.1.0-56-amd64` is version 6.1.0 and release 56 to rpm.
kernel() {
    local release=${1#*-}
    bb "$HERE/specs/guest.spec" "$3" --define "k $1" --define "root $2" --define "v ${1%%-*}" --define "r ${release%%-*}"
}
kernel "$old" none "$out/old"
kernel "$new" "$WORK/root" "$out/repo"
createrepo_c -q --compatibility "$out/repo" 2>/dev/null || createrepo_c -q "$out/repo"
