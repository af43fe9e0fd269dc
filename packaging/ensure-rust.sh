#!/usr/bin/env bash
# Makes sure that a Rust new enough for this crate is here, and prints the directory that its cargo lies in. Installs the
# distribution's when that is new enough; else says what to type. Never downloads a toolchain on its own: whose compiler
# builds a boot guard is not for a script to decide.
set -euo pipefail

top=$(cd "$(dirname "$0")/.." && pwd)
need=$(sed -n 's/^rust-version = "\(.*\)"$/\1/p' "$top/Cargo.toml")
PATH=$PATH:${CARGO_HOME:-${HOME:-/root}/.cargo}/bin

at_least() { [ "$(printf '%s\n' "$need" "$1" | sort -V | head -n 1)" = "$need" ]; }

here() {
    local version
    command -v cargo >/dev/null && command -v rustc >/dev/null || return 1
    # Outside the clone a rustup proxy could name another toolchain than the one that builds.
    version=$(cd "$top" && rustc --version | cut -d' ' -f2) && at_least "$version"
}

offered() {
    if command -v apt-get >/dev/null; then
        apt-cache policy rustc | awk '$1 == "Candidate:" && $2 != "(none)" { sub(/[+-].*/, "", $2); print $2 }'
    elif command -v dnf >/dev/null; then
        dnf -q repoquery --latest-limit=1 --qf '%{version}\n' rust 2>/dev/null | tail -n 1
    fi
}

if ! here; then
    version=$(offered)
    if [ -z "$version" ] || ! at_least "$version"; then
        echo "Rust $need or newer is needed; here is $(rustc --version 2>/dev/null || echo none), this distribution offers ${version:-none}. Install it with rustup (https://rustup.rs): rustup toolchain install stable --profile minimal -c rustfmt -c clippy" >&2
        exit 1
    fi
    if command -v apt-get >/dev/null; then
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends rustc cargo >&2
    else
        dnf -q -y install rust cargo >&2
    fi
    here || { echo "the distribution's Rust $version was installed, and cargo still is not usable" >&2 && exit 1; }
fi
dirname "$(command -v cargo)"
