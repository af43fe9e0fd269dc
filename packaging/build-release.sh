#!/usr/bin/env bash
# Builds the vfguard that is shipped: one x86-64 binary for EL6 and all that came later. Prints its path.
# Beside it lies vfguard.cdx.json, what it is made of (CycloneDX).
#
#   build-release.sh        on Debian 12 or 13, x86-64, with network (PyPI, and the crates)
#
# It asks for no symbol of glibc newer than 2.12, EL6's: zig, which knows every glibc's symbols, links it. cargo-zigbuild and zig
# come from PyPI, pinned with their digests in zig.txt, and are kept in ${VFGUARD_BUILD_CACHE:-~/.cache/vfguard-build}.
#
# Not a static one: with musl there is no NSS, its allocator is slow, and no distribution's Rust can build for it.
#
# Exit code 69: the tools could not be had; why is the last line on stderr.
set -euo pipefail

top=$(cd "$(dirname "$0")/.." && pwd)
cd "$top"
readonly EX_UNAVAILABLE=69
target=x86_64-unknown-linux-gnu glibc=2.12
cache=${VFGUARD_BUILD_CACHE:-${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/vfguard-build}
say() { printf '%s\n' "build-release.sh: $*" >&2; }
[ $# -eq 0 ] || { say "unknown argument $1 (there are none)" && exit 2; }
[ "$(uname -m)" = x86_64 ] || { say "zig.txt names the tools for x86-64 only, this is $(uname -m)" && exit $EX_UNAVAILABLE; }

packaging/need.sh --apt ca-certificates gcc binutils libc6-dev pkg-config python3-pip --dnf ca-certificates gcc binutils pkgconf-pkg-config python3-pip
PATH=$(packaging/ensure-rust.sh):$PATH

# Named by what it holds: another pin is another directory. By rename, so that half a one is never used.
tools=$cache/$(sha256sum packaging/release/zig.txt | cut -c 1-16)
if [ ! -d "$tools" ]; then
    say "fetching cargo-zigbuild and zig (90 MB)"
    mkdir -p "$cache"
    rm -rf "$tools.new"
    if ! python3 -m pip install -q --disable-pip-version-check --no-deps --require-hashes --only-binary :all: \
        --target "$tools.new" -r packaging/release/zig.txt >&2; then
        say "pip could not get what packaging/release/zig.txt names"
        exit $EX_UNAVAILABLE
    fi
    mv "$tools.new" "$tools"
fi
zig=$tools/ziglang/zig
export ZIG_GLOBAL_CACHE_DIR=$cache/zig CARGO_ZIGBUILD_CACHE_DIR=$cache/zigbuild CARGO_ZIGBUILD_ZIG_PATH=$zig

out=${CARGO_TARGET_DIR:-$top/target}
mkdir -p "$out"
out=$(realpath "$out")
cargo_home=${CARGO_HOME:-${HOME:-/root}/.cargo}
# The decoders (zstd, xz) and TLS (ring) are C, and read what comes from elsewhere. EL6's glibc has all that these ask for.
c_flags="-fstack-protector-strong -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=2 -ffile-prefix-map=$cargo_home=/cargo"
export CFLAGS_x86_64_unknown_linux_gnu=$c_flags
# shellcheck disable=SC2086 # several
"$zig" cc -target x86_64-linux-gnu.$glibc -O2 -Wall -Wextra -Werror $c_flags -c packaging/release/old-glibc.c -o "$out/old-glibc.o"
VFGUARD_LINK=$out/old-glibc.o VFGUARD_C_COMPILER="zig $("$zig" version)"
export VFGUARD_LINK VFGUARD_C_COMPILER
# Where the clone and cargo lie on this machine is nobody's business, and two clones make the same binary.
export RUSTFLAGS="--remap-path-prefix=$top=/vfguard --remap-path-prefix=$cargo_home=/cargo"
CARGO_INCREMENTAL=0 "$tools/bin/cargo-zigbuild" zigbuild --profile dist --locked --target $target.$glibc --target-dir "$out" >&2
shipped=$out/$target/dist/shipped/vfguard
install -D -m 755 "$out/$target/dist/vfguard" "$shipped"
packaging/release/without-unwinding.py "$shipped"
packaging/release/sbom.py "$shipped" $target "$VFGUARD_C_COMPILER" "cargo-zigbuild $(sed -n 's/^cargo-zigbuild==\([^ ]*\).*/\1/p' packaging/release/zig.txt)" >"$shipped.cdx.json"
printf '%s\n' "$shipped"
