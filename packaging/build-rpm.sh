#!/usr/bin/env bash
# Makes vfguard's RPM with rpmbuild.
#
#   build-rpm.sh [--binary FILE] [--out DIR] [--el7]
#
# --binary: a vfguard that is built already; the package then runs where it does (default: build-release.sh's, from EL6 on).
# --el7: for rpm below 4.14 (EL6, EL7): without file triggers, with the files for yum 3 and upstart; Release 1.el7, and a newer rpm refuses it. Prints
# the RPM's path.
set -euo pipefail

top=$(cd "$(dirname "$0")/.." && pwd)
binary='' out=$top/target/rpm options=()
while [ $# -gt 0 ]; do
    case $1 in
    --binary) binary=$(realpath "$2") && shift ;;
    --out) out=$2 && shift ;;
    --el7) options+=(--without filetriggers) ;;
    *) echo "build-rpm.sh: unknown argument $1" >&2 && exit 2 ;;
    esac
    shift
done
if [ -z "$binary" ]; then
    binary=$("$top/packaging/build-release.sh")
fi
version=$(sed -n '/^\[package\]/,/^\[/s/^version = "\(.*\)"/\1/p' "$top/Cargo.toml")
# The same package from the same commit, whenever and wherever it is made.
export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git -C "$top" log -1 --format=%ct 2>/dev/null || date +%s)}
options+=(--define 'use_source_date_epoch_as_buildtime 1' --define 'clamp_mtime_to_source_date_epoch 1'
    --define 'build_mtime_policy clamp_to_source_date_epoch' --define '_buildhost localhost')
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
rpmbuild -bb --quiet "${options[@]}" --define "_topdir $work" --define "clone $top" --define "binary $binary" \
    --define "version_ $version" --target x86_64 "$top/packaging/vfguard.spec" >"$work/log" 2>&1 || { cat "$work/log" >&2 && exit 1; }
mkdir -p "$out"
cp "$work"/RPMS/x86_64/*.rpm "$out"
realpath "$out/$(basename "$work"/RPMS/x86_64/*.rpm)"
