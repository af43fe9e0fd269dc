#!/usr/bin/env bash
# The tier "release": the binary that ships.
#
#   run.sh [--full]
#
# $VFGUARD_BINARY, else what packaging/build-release.sh makes. Its size; what it asks of the C library; README's stories, the
# contract, the gate, hooks and doctor from this binary with every system call answered ENOSYS that came after Linux 2.6.32; its
# packages as rpmlint sees them, signed; and the package for EL6 in rpm transactions.
set -euo pipefail

HERE=$(cd "$(dirname "$0")" && pwd)
TOP=$(cd "$HERE/../.." && pwd)
# shellcheck source=tests/lib/common.sh
. "$HERE/../lib/common.sh"
# shellcheck source=tests/release/el6.sh
. "$HERE/el6.sh"
# shellcheck source=tests/release/supply.sh
. "$HERE/supply.sh"
cd "$TOP"

LIMIT=6000000 # bytes
GLIBC=2.12    # EL6
# What EL6's base has; ld-linux is the loader.
LIBRARIES='^(libc|libm|libpthread|libdl|librt)\.so\.[0-9]+$|^ld-linux-x86-64\.so\.2$'
# prlimit64: glibc makes getrlimit(3) and setrlimit(3) out of it since 2.13, with no way back, and this host's glibc is newer. EL6's
# makes the calls of that name. That vfguard asks for no prlimit itself is seen in its symbols.
BUT=302

"$TOP/packaging/need.sh" --apt binutils python3 rpm rpmlint busybox dpkg-dev gpg createrepo-c --dnf binutils python3 rpm-build rpm-sign rpmlint dpkg-dev gnupg2 createrepo_c
binary=${VFGUARD_BINARY:-}
[ -n "$binary" ] || binary=$("$TOP/packaging/build-release.sh")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# none TEXT: there is none; shown if there is. (A `!` before a pipeline would go unseen by errexit.)
none() { [ -z "$1" ] || { printf '%s\n' "$1" && false; }; }
small() { [ "$(stat -c %s "$binary")" -le $LIMIT ]; }

# needed: the versioned symbols that it wants, one a line.
needed() { objdump -T "$1" | grep -o 'GLIBC_[0-9.]*' | sort -Vu; }
old_symbols() {
    local newest
    newest=$(needed "$binary" | tail -n 1)
    [ -n "$newest" ]
    [ "$(printf '%s\n' "$newest" GLIBC_$GLIBC | sort -V | tail -n 1)" = GLIBC_$GLIBC ]
    none "$(objdump -T "$binary" | grep -w prlimit)"
}
# The check must be able to fail: a program of this host's own asks for more.
symbols_are_seen() {
    [ "$(printf '%s\n' "$(needed /bin/bash | tail -n 1)" GLIBC_$GLIBC | sort -V | tail -n 1)" != GLIBC_$GLIBC ]
}
old_libraries() {
    objdump -p "$binary" | awk '$1 == "NEEDED" { print $2 }' >"$work/libraries"
    [ -s "$work/libraries" ]
    none "$(grep -vE "$LIBRARIES" "$work/libraries")"
    # An ABI note of a newer Linux has an old loader refuse it.
    none "$(readelf -n "$binary" | grep 'ABI: ' | grep -v 'ABI: 2\.')"
}

# packaging/release/without-unwinding.py: nothing is left to unwind by, and what is relocated is read-only all the same.
hardened() {
    readelf -lW "$binary" | grep GNU_RELRO
    readelf -dW "$binary" | grep 'Flags:.*NOW.*PIE'
    none "$(readelf -SW "$binary" | grep eh_frame)"
    # As the loader does it, by whole pages.
    local start size
    read -r start size < <(readelf -lW "$binary" | awk '$1 == "GNU_RELRO" { print $3, $6 }')
    size=$(((start + size) / 4096 * 4096 - start / 4096 * 4096))
    strace -f -e trace=mprotect -o "$work/mprotect" "$binary" --version
    grep "mprotect(0x[0-9a-f]*, $size, PROT_READ) *= 0" "$work/mprotect"
}

cat >"$work/vfguard" <<W
#!/bin/sh
exec "$HERE/linux-2.6.32.py" --but $BUT "$binary" "\$@"
W
chmod 755 "$work/vfguard"
the_filter_filters() {
    # statx (332) and getrandom (318) are newer, uname (63) is not.
    local ask='import ctypes,sys; c=ctypes.CDLL(None,use_errno=True); r=c.syscall(int(sys.argv[1]),0,0,0,0,0); print(r, ctypes.get_errno())'
    for call in 299 318 332 437; do
        [ "$("$HERE/linux-2.6.32.py" /usr/bin/env python3 -c "$ask" $call)" = '-1 38' ]
    done
    "$HERE/linux-2.6.32.py" /usr/bin/env python3 -c 'import os; os.uname(); os.getpid()'
}
# on_old_linux TARGET: a test target of the crate, with the shipped binary.
on_old_linux() { VFGUARD_UNDER_TEST=$work/vfguard cargo test --locked --test "$1"; }
# The whole test program, TLS and all: the fetcher of the library, not of the shipped binary, which is never sent to a test's server.
fetch_on_old_linux() {
    CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER="$HERE/linux-2.6.32.py --but $BUT" cargo test --locked --test fetch
}

packaged() {
    local options
    for options in '' --el7; do
        # shellcheck disable=SC2086 # none, or one
        packaging/build-rpm.sh --binary "$binary" --out "$work/rpm$options" $options >"$work/path"
        # A warning about the specfile's version, which the command line gives, is none of the package's.
        rpmlint --strict --config packaging/rpmlint.toml "$(tail -n 1 "$work/path")"
        rpm -qp --requires "$(tail -n 1 "$work/path")" >"$work/requires"
        grep 'libc.so.6(GLIBC_' "$work/requires"
        none "$(grep -E 'GLIBC_(2\.(1[3-9]|[2-9][0-9])|[3-9])|libgcc_s' "$work/requires")"
    done
}

printf 'the binary: %s bytes; of glibc at most %s\n' "$(stat -c %s "$binary")" "$(needed "$binary" | tail -n 1)"
check "release: at most $LIMIT bytes" small
check "release: symbols of glibc $GLIBC at most" old_symbols
check "release: nothing to unwind by, and relocated data is read-only" hardened
check "release: its C code has stack protector and _FORTIFY_SOURCE" c_is_guarded
check "release: what it is made of and by what, in itself and beside it" made_of
check "release: a newer symbol would be seen" symbols_are_seen
check "release: libraries that EL6 has" old_libraries
check "release: its packages, seen by rpmlint, ask for no more" packaged
check "release: signed packages: rpm and apt take them with that key, and nothing else" signed_packages
check "release: nothing is deleted, and nothing made, of another binary, a changed clone or without a repository's lists" bad_releases
if [ "${1-}" = --full ]; then check "release: two clones make the same binary and packages" two_clones; fi
if ! command -v busybox >/dev/null; then
    skip release/el6 "busybox is not installed"
elif [ "$(id -u)" != 0 ]; then
    skip release/el6 "rpm's scriptlets need chroot(2), which needs root"
else
    check "release: the package for EL6: installed, upstart updated, removed" el6_transactions
fi
check "release: the filter answers ENOSYS" the_filter_filters
for target in contract gate hooks doctor upstart; do
    check "release: on system calls of 2.6.32: $target" on_old_linux $target
done
check "release: on system calls of 2.6.32: fetch, with TLS" fetch_on_old_linux
rc=0
LAB=$(tests/lab/fetch.sh 2>"$work/said") || rc=$?
if [ $rc -eq "$EX_UNAVAILABLE" ]; then
    skip release/stories "$(tail -n 1 "$work/said")"
else
    [ $rc -eq 0 ] || die "tests/lab/fetch.sh: $(tail -n 1 "$work/said")"
    export VFGUARD_LAB=$LAB
    check "release: on system calls of 2.6.32: stories, with real builds" on_old_linux stories
fi
summary
