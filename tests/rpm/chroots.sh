#!/usr/bin/env bash
# The trees of the Debian releases whose package managers the tier "rpm" uses, as tar archives in the cache, made again after a week.
#
#   chroots.sh SUITE…     bookworm, trixie, forky, bullseye; prints the path of each archive
#
# Exit code 69: the host's mirror gave none; the last line on stderr says of which suite.
set -euo pipefail

HERE=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=tests/lib/common.sh
. "$HERE/../lib/common.sh"
TRIES=3 PAUSE=20 # the mirror may be between two states: mmdebstrap fetches its lists anew each time

# The package manager's packages, and libelf's name there.
packages() {
    case $1 in
    bookworm) echo rpm,dnf,dnf-plugins-core,locales,libelf1 ;;
    trixie) echo rpm,dnf,dnf-plugins-core,libelf1 ;;
    forky) echo rpm,dnf5,libelf1t64 ;;
    bullseye) echo rpm,dnf,libelf1 ;;
    *) die "unknown suite $1" ;;
    esac
}

# shellcheck disable=SC2016 # apt's own variables
mirror=$(apt-get indextargets --format '$(LABEL) $(REPO_URI)' 'Created-By: Packages' | awk 'NF == 2 && $1 == "Debian" && !n++ { print $2 }')
[ -n "$mirror" ] || unavailable "the host's apt knows no Debian mirror"
dir=$(cache_dir)/rpm
mkdir -p "$dir"

for suite; do
    include=$(packages "$suite"),gcc,make,kmod,xz-utils,zstd,cpio,gzip,procps,systemd,util-linux,passwd
    tar=$dir/$suite.tar key=$suite.$include merged=()
    exec 9>"$dir/$suite.lock"
    flock 9
    if [ "$(cat "$tar.key" 2>/dev/null)" != "$key" ] || [ ! -e "$tar" ] || [ -n "$(find "$tar" -mtime +7)" ]; then
        # /lib is a link everywhere in the EL family; Debian 11 leaves the choice.
        [ "$suite" != bullseye ] || merged=(--setup-hook=/usr/share/mmdebstrap/hooks/merged-usr/setup00.sh)
        for ((try = TRIES; try > 0; try--)); do
            # An index of testing that has expired will do.
            if mmdebstrap "${merged[@]}" --quiet --format=tar --variant=apt --aptopt='Acquire::Check-Valid-Until "false"' \
                --include="$include" "$suite" "$tar.tmp" "$mirror" >&2; then
                mv "$tar.tmp" "$tar" || die "$tar cannot be written"
                printf '%s\n' "$key" >"$tar.key"
                break
            fi
            [ $try -eq 1 ] || sleep $PAUSE
        done
        [ $try -gt 0 ] || rm -f "$tar.tmp"
        if [ $try -eq 0 ] && [ -e "$tar" ] && [ "$(cat "$tar.key" 2>/dev/null)" = "$key" ]; then
            say "no new chroot of $suite came from the host's mirror: going on with that of $(date -u -r "$tar" +%F)"
        elif [ $try -eq 0 ]; then
            unavailable "mmdebstrap made no chroot of $suite from the host's mirror"
        fi
    fi
    exec 9>&-
    printf '%s\n' "$tar"
done
