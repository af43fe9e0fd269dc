#!/usr/bin/env bash
# Makes a release: the binary and what it is made of, the packages, and repositories for apt and dnf, in one directory.
#
#   make.sh [--binary FILE] [--key ID] [--out DIR]
#
# --key: a key of gpg's, which signs the RPMs, the lists of both repositories and SHA256SUMS (docs/releasing.md). Without it nothing is
# signed, which is said. --binary: one that is built already. --out: a directory that is empty or not there; it comes whole or not at all.
# Needs dpkg-dev, gpg, rpm (rpmbuild, rpmsign) and createrepo_c.
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
fail() { printf '%s\n' "make.sh: $*" >&2 && exit 1; }

# What there is to refuse, before anything is built.
while read -r program debian el; do
    command -v "$program" >/dev/null || fail "$program is not installed (apt install $debian, or dnf install $el)"
done <<'P'
createrepo_c createrepo-c createrepo_c
dpkg-scanpackages dpkg-dev dpkg-dev
gpg gpg gnupg2
rpmbuild rpm rpm-build
rpmsign rpm rpm-sign
P
out=$(realpath -m "$out")
[ ! -e "$out" ] || { [ -d "$out" ] && [ -z "$(ls -A "$out")" ]; } || fail "$out is there and not empty: nothing is deleted, so name another directory with --out"
if [ -z "$binary" ]; then
    changed=$(git -C "$top" status --porcelain)
    [ -z "$changed" ] || fail "this clone is not what is committed, and nobody could build the same from it: commit or remove what git status shows"
    binary=$("$top/packaging/build-release.sh")
fi
[ -e "$binary.cdx.json" ] || fail "$binary.cdx.json is not there: build the binary with packaging/build-release.sh"
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git -C "$top" log -1 --format=%ct)}
export SOURCE_DATE_EPOCH
umask 022

mkdir -p "$(dirname "$out")"
new=$(mktemp -d "$out.XXXXXX")
trap 'rm -rf "$new"' EXIT
chmod 755 "$new"
mkdir "$new"/{deb,rpm,rpm-el7}
install -m 755 "$binary" "$new/vfguard"
install -m 644 "$binary.cdx.json" "$new/vfguard.cdx.json"
# From here on these: what is verified is what is packed.
packed=$new/vfguard
grep -qF "\"$(sha256sum <"$packed" | cut -d ' ' -f 1)\"" "$packed.cdx.json" ||
    fail "$binary.cdx.json lists the parts of another binary, by its SHA-256: build both anew with packaging/build-release.sh"

"$top/packaging/build-deb.sh" --binary "$packed" --out "$new/deb" >/dev/null
"$top/packaging/build-rpm.sh" --binary "$packed" --out "$new/rpm" >/dev/null
"$top/packaging/build-rpm.sh" --binary "$packed" --out "$new/rpm-el7" --el7 >/dev/null
sign() { gpg --batch --yes --local-user "$key" --digest-algo SHA256 "$@"; }
if [ -n "$key" ]; then
    # What rpm of EL6 can verify: SHA-256.
    rpmsign --define "__gpg $(command -v gpg)" --define "_gpg_name $key" --define '_gpg_digest_algo sha256' --addsign "$new"/rpm*/*.rpm >/dev/null
    gpg --armor --export "$key" >"$new/vfguard.asc"
fi
# Its time is in the repository's lists.
touch --date "@$SOURCE_DATE_EPOCH" "$new"/rpm*/*.rpm
for repository in "$new"/rpm "$new"/rpm-el7; do
    createrepo_c --quiet --revision "$SOURCE_DATE_EPOCH" --set-timestamp-to-revision "$repository"
    # It names the digests of the lists, which name the packages: no other signed package can be put among them (repo_gpgcheck).
    [ -z "$key" ] || sign --armor --detach-sign "$repository/repodata/repomd.xml"
done

# apt looks at the signature of this file, which names the digest of Packages, which names the package's: no deb is signed by itself.
cd "$new/deb"
dpkg-scanpackages --multiversion . >Packages 2>/dev/null
{
    printf 'Origin: vfguard\nLabel: vfguard\nSuite: stable\nArchitectures: amd64\nDate: %s\nSHA256:\n' "$(date -u -R -d "@$SOURCE_DATE_EPOCH")"
    printf ' %s %s Packages\n' "$(sha256sum Packages | cut -d ' ' -f 1)" "$(stat -c %s Packages)"
} >Release
cd "$new"
[ -z "$key" ] || sign --clearsign --output deb/InRelease deb/Release

files=$(find . -type f -printf '%P\n' | LC_ALL=C sort)
# shellcheck disable=SC2086 # several, and none has a space
sha256sum $files >SHA256SUMS
if [ -n "$key" ]; then
    sign --armor --detach-sign SHA256SUMS
else
    echo "make.sh: nothing is signed: name a key with --key" >&2
fi
cd /
mv -T "$new" "$out"
printf '%s\n' "$out"
