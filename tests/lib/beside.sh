# shellcheck shell=bash disable=SC2154 # $work is set by tests/run.sh
# What tests/run.sh runs in parallel, and how its steps' seconds are told. Sourced by it.

# By name: a process group of its own each, ended with the script.
declare -A beside
end_beside() {
    local name
    for name in "${!beside[@]}"; do
        kill -- "-${beside[$name]}" 2>/dev/null || true
        wait "${beside[$name]}" 2>/dev/null || true
    done
}

# begin NAME FUNCTION: runs it in a process group of its own; what it prints goes to $work/NAME.out.
begin() {
    # The file must exist before somebody follows it.
    : >"$work/$1.out"
    set -m
    ("$2") >"$work/$1.out" 2>&1 </dev/null &
    set +m
    beside[$1]=$!
}
# over NAME: waits for it, and leaves nothing of it behind.
over() {
    wait "${beside[$1]}" || true
    kill -- "-${beside[$1]}" 2>/dev/null || true
    unset "beside[$1]"
}

# step NAME COMMAND…: runs one preparation and prints its seconds. A failure is not counted here: the tier that needs it tries again
# and reports.
step() {
    local name=$1 start=$SECONDS end=made
    shift
    "$@" >"$work/step" 2>&1 || end="ended with exit code $?"
    printf 'ahead: %s: %s [%d s]\n' "$name" "$end" $((SECONDS - start))
    [ "$end" = made ] || tail -n 5 "$work/step"
    : >"$work/made.$name"
}
# ready NAME: waits until that step has ended, or `ahead` has.
ready() {
    local start=$SECONDS
    while [ ! -e "$work/made.$1" ] && kill -0 "${beside[ahead]}" 2>/dev/null; do sleep 1; done
    [ $((SECONDS - start)) -lt 2 ] || printf 'waited for what is made ahead: %s [%d s]\n' "$1" $((SECONDS - start))
}

# seconds FILE…: `SECONDS what` for each step that says how long it took: checks, test programs, compilations.
seconds() {
    sed -nE '
        s/^(ok|FAILED|ahead): (.*) \[([0-9]+) s\]$/\3 \2/p
        s/^(waited for .*) \[([0-9]+) s\]$/\2 \1/p
        /^ +Running /{s/^ +Running (unittests )?([^ ]*).*/\2/;h}
        /^test result: /{s/.* finished in ([0-9]+)\..*/\1/;G;s/\n/ /p}
        s/^ +Finished .* in ([0-9]+)\.[0-9]+s$/\1 compiling/p
        s/^ +Finished .* in ([0-9]+)m ([0-9]+)s$/\1m\2 compiling/p' "$@" |
        awk '$1 ~ /m/ { split($1, t, "m"); $1 = t[1] * 60 + t[2] } { print }'
}
