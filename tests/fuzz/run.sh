#!/usr/bin/env bash
# Each fuzz target for so many seconds: run.sh SECONDS [NAME…]. Ends with "N passed, N failed, N skipped".
set -euo pipefail
cd "$(dirname "$0")/../.."
# shellcheck source=tests/lib/common.sh
. tests/lib/common.sh

seconds=${1:?usage: run.sh SECONDS [NAME…]}
shift
names=("$@")
[ ${#names[@]} -gt 0 ] || mapfile -t names < <(basename -s .rs -a tests/fuzz/fuzz_targets/*.rs)
if ! cargo fuzz --version >/dev/null 2>&1; then
    skip fuzz "cargo-fuzz is not installed (cargo install cargo-fuzz --locked)"
    summary
    exit
fi
# A stable toolchain takes the sanitizer's flags with this.
export RUSTC_BOOTSTRAP=1
for name in "${names[@]}"; do
    fresh=tests/fuzz/target/corpus/$name
    mkdir -p "$fresh"
    check "fuzz: $name, $seconds s" cargo fuzz run --fuzz-dir tests/fuzz "$name" "$fresh" "tests/fuzz/corpus/$name" -- \
        -max_total_time="$seconds" -timeout=20 -rss_limit_mb=2048 -print_final_stats=1
done
summary
