#!/usr/bin/env bash
# Makes vfguard's package for Debian and Ubuntu with dpkg-deb.
#
#   build-deb.sh [--binary FILE] [--out DIR]
#
# --binary: a vfguard that is built already (default: build-release.sh's). Prints the package's path. The parts that the
# binary is made of go along, if they lie beside it (build-release.sh). What it brings is what the RPM
# brings (vfguard.spec), with Debian's hooks; the scripts that dpkg runs are in deb/.
set -euo pipefail
# Directories in the package are for everybody, also where the one who builds it has a stricter umask.
umask 022

top=$(cd "$(dirname "$0")/.." && pwd)
binary='' out=$top/target/deb
while [ $# -gt 0 ]; do
    case $1 in
    --binary) binary=$(realpath "$2") && shift ;;
    --out) out=$2 && shift ;;
    *) echo "build-deb.sh: unknown argument $1" >&2 && exit 2 ;;
    esac
    shift
done
if [ -z "$binary" ]; then
    binary=$("$top/packaging/build-release.sh")
fi
version=$(sed -n '/^\[package\]/,/^\[/s/^version = "\(.*\)"/\1/p' "$top/Cargo.toml")
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
chmod 755 "$root"

put() { install -D -m "$1" "$2" "$root$3"; }
# The same package from the same commit, whenever and wherever it is made.
export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git -C "$top" log -1 --format=%ct 2>/dev/null || date +%s)}
cd "$top/packaging"
put 755 "$binary" /usr/bin/vfguard
for unit in systemd/*.service systemd/*.path systemd/*.timer; do put 644 "$unit" "/usr/lib/systemd/system/${unit#*/}"; done
put 755 systemd/fail-closed /usr/lib/vfguard/fail-closed
put 644 systemd/85-vfguard.preset /usr/lib/systemd/system-preset/85-vfguard.preset
put 644 vfguard.tmpfiles /usr/lib/tmpfiles.d/vfguard.conf
put 644 udev/60-vfguard.rules /usr/lib/udev/rules.d/60-vfguard.rules
for recipe in drivers.d/*.toml; do put 644 "$recipe" "/usr/lib/vfguard/$recipe"; done
put 644 config.toml /etc/vfguard/config.toml
# After initramfs-tools and zz-update-grub. Headers that come after their kernel have hooks of their own.
put 755 hooks/postinst /etc/kernel/postinst.d/zzz-vfguard
put 755 hooks/postinst /etc/kernel/header_postinst.d/zzz-vfguard
put 755 hooks/prerm /etc/kernel/postrm.d/zzz-vfguard
install -d -m 755 "$root/etc/vfguard/config.d" "$root/etc/vfguard/drivers.d"
install -d -m 711 "$root/var/cache/vfguard"
install -d -m 700 "$root/var/lib/vfguard"
for page in man:man/man1/vfguard.1 completions_bash:bash-completion/completions/vfguard \
    completions_zsh:zsh/vendor-completions/_vfguard completions_fish:fish/vendor_completions.d/vfguard.fish; do
    file=$root/usr/share/${page#*:}
    install -d -m 755 "${file%/*}"
    IFS=_ read -ra verb <<<"${page%%:*}"
    "$binary" "${verb[@]}" >"$file"
done
put 644 man/vfguard-recipes.5 /usr/share/man/man5/vfguard-recipes.5
gzip -9n "$root/usr/share/man/man1/vfguard.1" "$root/usr/share/man/man5/vfguard-recipes.5"
put 644 examples/gve.toml /usr/share/doc/vfguard/examples/gve.toml
for doc in README.md SECURITY.md CHANGELOG.md; do put 644 "../$doc" "/usr/share/doc/vfguard/$doc"; done
for doc in ../docs/*.md; do put 644 "$doc" "/usr/share/doc/vfguard/${doc#../}"; done
[ ! -e "$binary.cdx.json" ] || put 644 "$binary.cdx.json" /usr/share/doc/vfguard/vfguard.cdx.json
put 644 ../LICENSE /usr/share/doc/vfguard/copyright

for script in postinst prerm postrm; do put 755 "deb/$script" "/DEBIAN/$script"; done
(cd "$root" && find etc -type f | sort | sed 's,^,/,') >"$root/DEBIAN/conffiles"
cat >"$root/DEBIAN/control" <<C
Package: vfguard
Version: $version
Architecture: amd64
Maintainer: the vfguard maintainers <vfguard@localhost>
Section: admin
Priority: optional
Installed-Size: $(du -k -s --exclude=DEBIAN "$root" | cut -f 1)
Depends: libc6, gcc, make, binutils, kmod, ca-certificates, passwd, init-system-helpers
Description: Keeps a kernel update from cutting off a machine whose NIC is an SR-IOV VF
 After a kernel update vfguard builds the SR-IOV VF driver for the new kernel,
 proves that it will load there and drive this machine's NIC, and until it is
 proven neither a reboot nor the boot loader leads into that kernel.
C
printf 'interest-noawait %s\n' /lib/modules /usr/lib/modules /usr/src >"$root/DEBIAN/triggers"
mkdir -p "$out"
package=$(realpath "$out")/vfguard_${version}_amd64.deb
dpkg-deb --root-owner-group -Zxz -b "$root" "$package" >/dev/null
printf '%s\n' "$package"
