#!/usr/bin/env bash
# Makes a release: the binary and what it is made of, the packages, and repositories for apt and dnf, in one directory.
#
#   make.sh [--binary FILE] [--key ID] [--out DIR]
#
# --key: a key of gpg's, which signs the RPMs, apt's Release file and SHA256SUMS (docs/releasing.md). Without it nothing is signed, which
# is said. --binary: one that is built already. Needs dpkg-dev, gpg, and rpm (rpmbuild, rpmsign); for dnf's repository createrepo_c.
set -euo pipefail

top=$(cd "$(dirname "$0")/../.." && pwd)
binary='' key='' out=$top/target/release-files
while [ $# -gt 0 ]; do
    case $1 in
    --binary) binary=$(realpath "$2") && shift ;;
    --key) key=$2 && shift ;;
    --out) out=$2 && shift ;;
    *) echo "make.sh: unknown argument $1" >&2 && exit 2 ;;
    esac
    shift
done
[ -n "$binary" ] || binary=$("$top/packaging/build-release.sh")
[ -e "$binary.cdx.json" ] || { echo "make.sh: $binary.cdx.json is not there: build the binary with packaging/build-release.sh" >&2 && exit 1; }
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git -C "$top" log -1 --format=%ct)}
export SOURCE_DATE_EPOCH
umask 022
rm -rf "$out"
mkdir -p "$out"/{deb,rpm,rpm-el7}
out=$(realpath "$out")
install -m 755 "$binary" "$out/vfguard"
install -m 644 "$binary.cdx.json" "$out/vfguard.cdx.json"

"$top/packaging/build-deb.sh" --binary "$binary" --out "$out/deb" >/dev/null
"$top/packaging/build-rpm.sh" --binary "$binary" --out "$out/rpm" >/dev/null
"$top/packaging/build-rpm.sh" --binary "$binary" --out "$out/rpm-el7" --el7 >/dev/null
if [ -n "$key" ]; then
    # What rpm of EL6 can verify: SHA-256.
    rpmsign --define "__gpg $(command -v gpg)" --define "_gpg_name $key" --define '_gpg_digest_algo sha256' --addsign "$out"/rpm*/*.rpm >/dev/null
    gpg --armor --export "$key" >"$out/vfguard.asc"
fi
# Its time is in the repository's lists.
touch --date "@$SOURCE_DATE_EPOCH" "$out"/rpm*/*.rpm
if command -v createrepo_c >/dev/null; then
    for repository in "$out"/rpm "$out"/rpm-el7; do createrepo_c --quiet --revision "$SOURCE_DATE_EPOCH" --set-timestamp-to-revision "$repository"; done
fi

# apt looks at the signature of this file, which names the digest of Packages, which names the package's: no deb is signed by itself.
cd "$out/deb"
dpkg-scanpackages --multiversion . >Packages 2>/dev/null
{
    printf 'Origin: vfguard\nLabel: vfguard\nSuite: stable\nArchitectures: amd64\nDate: %s\nSHA256:\n' "$(date -u -R -d "@$SOURCE_DATE_EPOCH")"
    printf ' %s %s Packages\n' "$(sha256sum Packages | cut -d ' ' -f 1)" "$(stat -c %s Packages)"
} >Release
cd "$out"
[ -z "$key" ] || gpg --batch --yes --local-user "$key" --clearsign --digest-algo SHA256 --output deb/InRelease deb/Release

files=$(find . -type f -printf '%P\n' | LC_ALL=C sort)
# shellcheck disable=SC2086 # several, and none has a space
sha256sum $files >SHA256SUMS
if [ -n "$key" ]; then
    gpg --batch --yes --local-user "$key" --armor --detach-sign --digest-algo SHA256 SHA256SUMS
else
    echo "make.sh: nothing is signed: name a key with --key" >&2
fi
printf '%s\n' "$out"
