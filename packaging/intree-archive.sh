#!/usr/bin/env bash
# Packs the in-tree VF drivers of a distribution's kernel source package as driver archives that are laid out as Intel's
# are (NAME-VERSION/src/Makefile honouring BUILD_KERNEL, KSRC and KOBJ), so that the whole road from an archive to a
# loaded module can be walked on real code where Intel's own archives cannot be had.
#
#   intree-archive.sh --series 6.1 [--package FILE] --out DIR [DRIVER…]     DRIVER: ixgbevf (default), igbvf
#   intree-archive.sh --demo SRCDIR --out DIR                the same packing for the tests' own little driver
#
# For each driver one line on stdout: NAME VERSION SHA256 FILE. The version ends in -intree: Intel never published it, and
# nobody should think so. The source package is FILE (Debian's linux-source-6.1), else what the distribution's package manager
# brings: apt-get, or dnf with a source repository; that needs 150 MB of room in DIR while it runs. Exit code 69: the source package
# cannot be had here.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
say() { printf '%s\n' "intree-archive: $*" >&2; }
die() {
    say "$*"
    exit 1
}
unavailable() {
    say "$*"
    exit 69
}

series='' out='' demo='' package='' drivers=()
while [ $# -gt 0 ]; do
    case $1 in
    --series) series=${2:?--series needs a kernel series, such as 6.1} && shift 2 ;;
    --package) package=${2:?--package needs a file} && shift 2 ;;
    --out) out=${2:?--out needs a directory} && shift 2 ;;
    --demo) demo=${2:?--demo needs a directory} && shift 2 ;;
    -*) die "unknown option $1" ;;
    *) drivers+=("$1") && shift ;;
    esac
done
[ -n "$out" ] || die "--out DIR is missing"
[ -n "$series$demo" ] || die "--series or --demo is missing"
[ ${#drivers[@]} -gt 0 ] || drivers=(ixgbevf)
mkdir -p "$out"
out=$(cd "$out" && pwd)
work=$(mktemp -d "$out/.pack.XXXXXX")
trap 'rm -rf "$work"' EXIT

# pack NAME VERSION SRCDIR: SRCDIR holds the sources and a Kbuild file. The same input gives the same bytes, whoever packs
# it, whenever: only then is a recorded digest worth anything. (One tar, that is: 1.35 fills two header fields that 1.34
# leaves empty.)
pack() {
    local name=$1 version=$2 src=$3 top="$1-$2"
    mkdir -p "$work/stage/$top"
    cp -R "$src" "$work/stage/$top/src"
    # gzip writes no name and no time (-n); modes do not depend on the umask.
    { printf 'DRIVER := %s\n\n' "$name" && cat "$here/intel-style.mk"; } >"$work/stage/$top/src/Makefile"
    # Every driver under drivers/net has its version record; the verifier's `wrong-version` wants one to look at.
    if ! grep -rq '^MODULE_VERSION' "$work/stage/$top/src"; then
        grep -rlZ '^MODULE_LICENSE' "$work/stage/$top/src" |
            xargs -0 sed -i "s/^MODULE_LICENSE(.*/&\nMODULE_VERSION(\"$version\");/"
    fi
    grep -rq "^MODULE_VERSION(\"$version\")" "$work/stage/$top/src" || die "$name: no place for MODULE_VERSION was found"
    tar --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner --mode='u=rwX,go=rX' --format=ustar \
        -C "$work/stage" -c "$top" | gzip -n -9 >"$work/$top.tar.gz"
    mv "$work/$top.tar.gz" "$out/$top.tar.gz"
    printf '%s %s %s %s\n' "$name" "$version" "$(sha256sum <"$out/$top.tar.gz" | cut -d' ' -f1)" "$out/$top.tar.gz"
}

if [ -n "$demo" ]; then
    pack demo 1.0.0-demo "$demo"
    exit 0
fi

# Each of the two sets $version and defines `stream`, which prints the kernel's source as a tar stream: it is never
# unpacked as a whole (1.4 GB).
version='' top='' inner=''

# fresh_lists: apt, where it is given "${apt[@]}", looks at a copy of the host's package lists that was brought up to date just now:
# the host's own may be weeks old and name what the archive no longer has, and this script must not change them.
apt=()
fresh_lists() {
    mkdir -p "$work/lists/partial"
    find /var/lib/apt/lists -maxdepth 1 -type f -size +0 -exec cp -p -t "$work/lists" {} + 2>/dev/null || true
    # Without the hooks of the host's own update.
    cat >"$work/apt.conf" <<C
#clear APT::Update;
Dir::State::Lists "$work/lists";
Dir::Cache::pkgcache "";
Dir::Cache::srcpkgcache "";
APT::Sandbox::User "root";
APT::Get::AllowUnauthenticated "false";
C
    apt=(-qq -c "$work/apt.conf")
    apt-get "${apt[@]}" -o APT::Update::Error-Mode=any update >&2 ||
        say "not all package lists could be refreshed; the newest are of $(find "$work/lists" -name '*Release' -printf '%TF\n' | sort | tail -n 1)"
}
debian_source() {
    local name="linux-source-$series" offered
    if [ -z "$package" ]; then
        fresh_lists
        # What apt would take first. Its file may be gone, or not have come yet, where another is there.
        for offered in $({
            LC_ALL=C apt-cache "${apt[@]}" policy "$name" | awk '$1 == "Candidate:" && $2 != "(none)" { print $2 }'
            apt-cache "${apt[@]}" madison "$name" | awk '{ print $3 }'
        } 2>/dev/null | awk '!seen[$1]++'); do
            say "downloading $name $offered"
            # apt checks the package against the signed index.
            (cd "$work" && apt-get "${apt[@]}" download "$name=$offered" >&2) || continue
            package=$(echo "$work/$name"_*.deb)
            break
        done
        [ -n "${offered-}" ] || unavailable "this distribution offers no package $name"
        [ -n "$package" ] || unavailable "$name is listed, and could not be downloaded"
    fi
    version=$(dpkg-deb -f "$package" Version)
    version=${version%-*} top="linux-source-$series"
    stream() { dpkg-deb --fsys-tarfile "$package" | tar -xO "./usr/src/$top.tar.xz" | xz -dc -T2; }
}
# parsing COMMAND…: as nobody where this is root: it reads what a stranger may have made. It gets files on stdin, since it can open none
# in $work.
parsing() {
    if [ "$(id -u)" -eq 0 ]; then
        setpriv --reuid 65534 --regid 65534 --clear-groups --inh-caps=-all "$@"
    else
        "$@"
    fi
}
# signed FILE: by a key that rpm has, or that an enabled repository names as a file; `dnf download` does not look. The keyring is one
# of its own. rpm older than 4.14 finds nothing wrong with an unsigned package, so the lines are read too.
signed() {
    local define=(--define "_dbpath $work/keys" --define "_keyringpath $work/keys/pubkeys/" --define '_pkgverify_level signature'
        --define '_pkgverify_flags 0') said file
    mkdir -m 700 "$work/keys" "$work/blocks"
    {
        rpm -q gpg-pubkey --qf '%{DESCRIPTION}\n' || true
        rpmkeys --export 2>/dev/null || true
        # dnf 4, dnf 5.
        { dnf -q config-manager --dump '*' || dnf -q --dump-repo-config='*'; } 2>/dev/null |
            sed -n 's/^gpgkey *= *//p' | tr ', ' '\n' | sed -n 's,^file:/*,/,p' | sort -u |
            while IFS= read -r file; do cat "$file" || true; done
    } | awk -v dir="$work/blocks" '/^-----BEGIN PGP PUBLIC KEY BLOCK/ { n++; on = 1 }
        on { print >(dir "/" n) }
        /^-----END PGP/ { on = 0 }'
    for file in "$work/blocks"/*; do
        [ ! -e "$file" ] || rpmkeys "${define[@]}" --import "$file" 2>/dev/null || true
    done
    said=$(LC_ALL=C rpmkeys "${define[@]}" -v --checksig "$1" 2>&1) || { printf '%s\n' "$said" >&2 && return 1; }
    # The header has the payload's digest; older packages have a signature of both.
    { grep -qiE '^ *header .*signature, .*: OK' <<<"$said" && grep -qiE '^ *payload .*digest: OK' <<<"$said"; } ||
        grep -qiE '^ *(legacy openpgp )?v[0-9] .*signature, .*: OK' <<<"$said" || { printf '%s\n' "$said" >&2 && return 1; }
}
el_source() {
    say "downloading the kernel's source package"
    (cd "$work" && dnf -q download --source kernel >&2) ||
        unavailable "dnf download --source kernel: no source package (are the source repositories enabled, and dnf-plugins-core installed?)"
    package=$(echo "$work"/kernel-*.src.rpm)
    signed "$package" || die "$(basename "$package") is not signed by a key that rpm has (rpm --import) or that its repository names as a file"
    version=$(rpm -qp --qf '%{VERSION}-%{RELEASE}' "$package")
    inner=$(parsing rpm2cpio - <"$package" | parsing cpio -t --quiet | grep -E '^(\./)?linux-[0-9][0-9A-Za-z.+_-]*\.tar\.xz$' | head -n 1)
    [ -n "$inner" ] || die "$(basename "$package") holds no linux-*.tar.xz"
    top=$(basename "$inner" .tar.xz)
    stream() { parsing rpm2cpio - <"$package" | parsing cpio -i --quiet --to-stdout "$inner" | parsing xz -dc -T2; }
}
if command -v apt-get >/dev/null; then
    debian_source
elif command -v dnf >/dev/null; then
    el_source
else
    unavailable "neither apt-get nor dnf is here"
fi

wanted=()
for driver in "${drivers[@]}"; do
    wanted+=("$top/drivers/net/ethernet/intel/$driver/*")
done
say "extracting ${drivers[*]} of Linux $version"
mkdir "$work/tree"
stream | tar -x -C "$work/tree" --wildcards "${wanted[@]}"

for driver in "${drivers[@]}"; do
    dir="$work/tree/$top/drivers/net/ethernet/intel/$driver"
    # The kernel's own makefile of the driver becomes Kbuild: its list of objects is right for this version, ours would
    # not stay so. Only "when configured" becomes "always, as a module".
    sed -E 's/^obj-\$\(CONFIG_[A-Z0-9_]+\)/obj-m/' "$dir/Makefile" >"$dir/Kbuild"
    grep -q "^obj-m += $driver.o" "$dir/Kbuild" || die "$driver: its makefile in Linux $version is not as expected"
    pack "$driver" "$version-intree" "$dir"
done
