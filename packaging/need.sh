#!/usr/bin/env bash
# Installs what is missing of a list of packages, with the host's own package manager.
#
#   need.sh --apt PACKAGE… --dnf PACKAGE…
#
# With nothing missing it changes nothing and takes a second. Not root: says what to type.
set -euo pipefail

say() { printf '%s\n' "$*" >&2; }
if command -v apt-get >/dev/null; then manager=apt; elif command -v dnf >/dev/null; then manager=dnf; else
    say "neither apt-get nor dnf is here: going on with what is installed"
    exit 0
fi
packages=() taking=no
for word; do
    case $word in
    --apt | --dnf) [ "$word" = "--$manager" ] && taking=yes || taking=no ;;
    *) [ $taking = no ] || packages+=("$word") ;;
    esac
done

missing=() index=yes
if [ $manager = apt ]; then
    for package in "${packages[@]}"; do
        [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || missing+=("$package")
    done
    # Kernels and their sources are looked up in the index too, so that it is needed although nothing is missing.
    [ -n "$(apt-cache madison linux-libc-dev)" ] || index=no
    by_hand="apt-get update && apt-get install --no-install-recommends ${missing[*]}"
else
    for package in "${packages[@]}"; do
        rpm -q --whatprovides "$package" >/dev/null 2>&1 || missing+=("$package")
    done
    by_hand="dnf install ${missing[*]}"
fi
[ ${#missing[@]} -gt 0 ] || [ $index = no ] || exit 0
if [ "$(id -u)" -ne 0 ]; then
    say "these packages are needed, and installing them needs root: $by_hand"
    exit 1
fi

log=$(mktemp)
trap 'rm -f "$log"' EXIT
run() {
    "$@" </dev/null >"$log" 2>&1 && return
    cat "$log" >&2
    say "$*: $({ grep -E '^(E|Error): ' "$log" || tail -n 1 "$log"; } | head -n 1)"
    exit 1
}
say "installing: ${missing[*]:-the package index}"
if [ $manager = apt ]; then
    # Another apt may be at work (unattended upgrades at boot): five minutes' patience.
    wait=(-o DPkg::Lock::Timeout=300)
    export DEBIAN_FRONTEND=noninteractive
    update=(apt-get -q "${wait[@]}" update)
    run "${update[@]}"
    [ ${#missing[@]} -gt 0 ] || exit 0
    install=(apt-get -qy "${wait[@]}" install --no-install-recommends "${missing[@]}")
    # The mirror may move on between the two.
    "${install[@]}" </dev/null >"$log" 2>&1 && exit 0
    say "once more, with new package lists: $(grep '^E: ' "$log" | head -n 1)"
    run "${update[@]}"
    run "${install[@]}"
else
    run dnf -q -y install "${missing[@]}"
fi
