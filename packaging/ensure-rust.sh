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

# offered PACKAGE: the version that the distribution has of it.
offered() {
    if command -v apt-get >/dev/null; then
        apt-cache policy "$1" | awk '$1 == "Candidate:" && $2 != "(none)" { sub(/[+-].*/, "", $2); print $2 }'
    elif command -v dnf >/dev/null; then
        dnf -q repoquery --latest-limit=1 --qf '%{version}\n' "$1" 2>/dev/null | tail -n 1
    fi
}

# install WHAT…: progress is for people, and stdout for the answer.
install() {
    if command -v apt-get >/dev/null; then
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >&2
    else
        dnf -q -y install "$@" >&2
    fi
}

if ! here; then
    seen=()
    # Debian keeps a newer Rust beside its own, for its web browsers.
    for suffix in '' -web; do
        compiler=rustc$suffix
        [ "$suffix" = '' ] && ! command -v apt-get >/dev/null && compiler=rust
        version=$(offered "$compiler")
        [ -z "$version" ] || seen+=("$compiler $version")
        if [ -n "$version" ] && at_least "$version"; then
            install "$compiler" "cargo$suffix"
            # For the lint tier; where they are not offered, it says that it skipped.
            tools=(rustfmt clippy)
            [ "$suffix" = '' ] || tools=("rustfmt$suffix" "rust$suffix-clippy")
            for tool in "${tools[@]}"; do
                [ -z "$(offered "$tool")" ] || install "$tool"
            done
            here && break
            echo "$compiler $version was installed, and cargo still is not usable" >&2
            exit 1
        fi
    done
    if ! here; then
        list=$(printf ', %s' "${seen[@]-none}")
        echo "Rust $need or newer is needed; here is $(rustc --version 2>/dev/null || echo none), this distribution offers ${list#, }. Install it with rustup (https://rustup.rs): rustup toolchain install stable --profile minimal -c rustfmt -c clippy" >&2
        exit 1
    fi
fi
dirname "$(command -v cargo)"
