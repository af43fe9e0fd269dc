# shellcheck shell=bash
# Debian packages: which kernels the archive offers, and how a package gets into the cache. Sourced by fetch.sh.

APT=(apt-get -qq -o APT::Sandbox::User=root -o APT::Get::AllowUnauthenticated=false)

# Every kernel package that apt knows, with the version that it would take. Asked once: each apt-cache call reads the
# whole index (half a second).
declare -A CANDIDATE
read_candidates() {
    local package version
    while read -r package version; do
        CANDIDATE[$package]=$version
    done < <(apt-cache pkgnames linux- | grep -E '^linux-(headers|kbuild|source|image)-[0-9]' | xargs -r apt-cache policy |
        awk '/^[^ ]/ { sub(/:.*/, "", $1); package = $1 } $1 == "Candidate:" && $2 != "(none)" { print package, $2 }')
}
candidate() { printf '%s\n' "${CANDIDATE[$1]-}"; }

# kernels REGEX: the releases of the amd64 kernels whose headers are offered, newest first. Not the cloud and rt flavours.
kernels() {
    printf '%s\n' "${!CANDIDATE[@]}" | { grep -oP "^linux-headers-\K$1-amd64\$" || [ $? -eq 1 ]; } | sort -rV
}

# companions K: the packages that the headers of K cannot be used without: the common headers and the kbuild tools.
companions() {
    apt-cache show --no-all-versions "linux-headers-$1" |
        awk -F': ' '$1 == "Depends" { print $2 }' |
        grep -oE 'linux-(headers|kbuild)-[^ ,|()]+'
}

# deb PACKAGE: where the cache keeps it. The version is part of the name: a new one is another file.
deb() {
    printf '%s/debs/%s=%s.deb\n' "$LAB" "$1" "$(candidate "$1")"
}

# download PACKAGE…: each is in the cache afterwards and is what apt vouched for. apt checks a download against the signed
# index; what lay in the cache is checked against the digest that was taken then.
download() {
    local package file missing=() tmp
    for package; do
        [ -n "$(candidate "$package")" ] || unavailable "apt offers no $package"
        file=$(deb "$package")
        if [ ! -e "$file" ] || ! sha256sum --status -c "$file.sha256" 2>/dev/null; then
            rm -f "$file" "$file.sha256"
            missing+=("$package")
        fi
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    say "downloading ${missing[*]}"
    mkdir -p "$LAB/debs"
    tmp=$(mktemp -d "$LAB/tmp.debs.XXXXXX")
    (cd "$tmp" && "${APT[@]}" download "${missing[@]}") || unavailable "apt-get download ${missing[*]}: did not succeed"
    for package in "${missing[@]}"; do
        file=$(deb "$package")
        # The digest goes first: a package without one is downloaded again, a package with a wrong one too.
        printf '%s  %s\n' "$(sha256sum <"$tmp/${package}"_*.deb | cut -d' ' -f1)" "$file" >"$file.sha256"
        mv "$tmp/${package}"_*.deb "$file"
    done
    rm -rf "$tmp"
}
