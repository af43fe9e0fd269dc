# shellcheck shell=bash
# Helpers that the test scripts share. Sourced, never run.

say() { printf '%s\n' "$*" >&2; }

die() {
    say "${0##*/}: $*"
    exit 1
}

# What cannot be had on this host is not a failure and not a success: it has an exit code of its own (EX_UNAVAILABLE of
# sysexits.h), so that a caller can report a skip with the reason, which is the last line on stderr.
readonly EX_UNAVAILABLE=69
unavailable() {
    say "$*"
    exit "$EX_UNAVAILABLE"
}

# The cache lies outside the clone: a clean clone must not download 300 MB again, and `git clean` must not cost it.
cache_dir() {
    printf '%s\n' "${VFGUARD_CACHE:-${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/vfguard-tests}"
}

# check NAME COMMAND…: one counted check of a test script. The output is shown only when the check fails.
PASSED=0 FAILED=0 SKIPPED=0
check() {
    local name=$1 log start=$SECONDS
    shift
    log=$(mktemp)
    # In the background, then waited for: as the condition of an `if`, errexit would be off inside the function, and a
    # failed line in the middle of it would go unseen.
    (
        set -euxo pipefail
        "$@"
    ) >"$log" 2>&1 </dev/null &
    if wait $!; then
        PASSED=$((PASSED + 1))
        printf 'ok: %s [%d s]\n' "$name" $((SECONDS - start))
    else
        FAILED=$((FAILED + 1))
        printf 'FAILED: %s [%d s]\n' "$name" $((SECONDS - start))
        sed 's/^/    /' "$log" | tail -n 40
    fi
    rm -f "$log"
}

# skip NAME WHY: run.sh reads these lines, and with --ci looks NAME up in tests/allowed-skips.
skip() {
    SKIPPED=$((SKIPPED + 1))
    printf 'skipped %s: %s\n' "$1" "$2"
}

# The last line of every tier script; its exit code says the same.
summary() {
    printf '%d passed, %d failed, %d skipped\n' "$PASSED" "$FAILED" "$SKIPPED"
    [ "$FAILED" -eq 0 ]
}
