# shellcheck shell=bash disable=SC2154 # $log and $EX_UNAVAILABLE are set by tests/run.sh
# The tier lint of tests/run.sh. Sourced by it.

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
    check "lint: cargo doc, warnings are errors" env RUSTDOCFLAGS=-Dwarnings cargo doc --locked --no-deps --document-private-items
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
    sed -i 's,/usr/bin/vfguard,/bin/true,; s,/usr/lib/vfguard/fail-closed,/bin/true,' "$dir"/*
    # It ends with 0 on some of what it complains about.
    systemd-analyze verify --man=no "$dir"/* 2>"$log.said" || echo "it ended with exit code $?" >>"$log.said"
    cat "$log.said"
    [ ! -s "$log.said" ]
    exposure "$dir" || return 1
    rm -rf "$dir"
}
# What `systemd-analyze security` makes of each service, from 0 (nothing is in reach) to 10, and what it may at most. As systemd 252
# counts: others know more or fewer directives.
CEILINGS='vfguard-boot 6.0, vfguard-watch 6.0, vfguard-fail-closed 6.0, vfguard 7.3, vfguard-inhibit 1.2, vfguard-headers 9.6'
exposure() {
    : >"$log.exposure"
    local unit score ceiling bad=0
    for unit in packaging/systemd/*.service; do
        unit=$(basename "$unit" .service)
        score=$(systemd-analyze security --offline=true --no-pager "$1/$unit.service" 2>/dev/null | sed -n 's/.*Overall exposure level.*: \([0-9.]*\) .*/\1/p')
        ceiling=$(sed -n "s/.*\b$unit \([0-9.]*\).*/\1/p" <<<"${CEILINGS//, /$'\n'}" | head -n 1)
        printf '%s: %s, at most %s\n' "$unit" "${score:-none}" "${ceiling:-none}" >>"$log.exposure"
        awk -v score="${score:-11}" -v ceiling="${ceiling:--1}" 'BEGIN { exit !(score <= ceiling) }' || bad=1
    done
    cat "$log.exposure"
    return $bad
}
# Left out: its opinion on style (long lines, a title in lower case), the empty breaks that clap_mangen writes, and that the page has
# a version in place of a date.
mandoc_lint() {
    cargo run --locked --quiet -- man >"$log.man"
    # 2: there are warnings, and nothing worse.
    mandoc -Tlint -Wwarning "$log.man" packaging/man/*.5 >"$log.all" || [ $? -eq 2 ]
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
    if timeout --foreground 60 "$deny" fetch db >/dev/null 2>&1; then
        check "lint: cargo deny, advisories" "$deny" --locked check advisories
    else
        skipped lint/advisories "the database of advisories is out of reach"
    fi
}
