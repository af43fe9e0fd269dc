# shellcheck shell=bash disable=SC2034,SC2154 # what is set here is for run.sh and the cases, which set $mirror and more
# Kernels for bullseye: Debian 12's want a newer compiler, and the tools in their headers a newer glibc, than it has; so it gets its own
# two, 5.10, with the in-tree driver of their own source, from bullseye's archive. Sourced by run.sh.

# bullseye_archive: the headers of two kernels as one tree, `root`, and the driver, in the cache's directory $DIR; they stay there.
# Called where errexit is off.
bullseye_archive() {
    DIR=$LAB/rpm/bullseye-5.10
    # debs.sh's functions read the file that VFGUARD_CHOSEN names.
    local new=$WORK/bullseye-5.10 VFGUARD_CHOSEN k package version sha256 file key
    VFGUARD_CHOSEN=$(env -u VFGUARD_CHOSEN "$TOP/tests/archive/choose.py" --for bullseye) || return $?
    key=$(awk '$1 == "package" { print $2, $3 }' "$VFGUARD_CHOSEN" | sha256sum)
    BULLSEYE_OLD=$(release_of EARLIER) BULLSEYE_NEW=$(release_of LATER)
    [ "$(cat "$DIR/key" 2>/dev/null)" != "$key" ] || return 0
    mkdir -p "$new/root"
    for k in "$BULLSEYE_OLD" "$BULLSEYE_NEW"; do
        for package in $(headers_of "$k"); do dpkg-deb -x "$(deb "$package")" "$new/root" || return 1; done
    done
    "$TOP/packaging/intree-archive.sh" --series 5.10 --package "$(deb linux-source-5.10)" --out "$new" >"$new/driver.said" || return $?
    read -r _ version sha256 file <"$new/driver.said" || return 1
    printf '%s %s %s\n' "$version" "$sha256" "${file##*/}" >"$new/driver"
    rm -rf "$new/driver.said" "$DIR"
    mv "$new" "$DIR" && printf '%s\n' "$key" >"$DIR/key"
}

# bullseye_kernels: OLD, NEW, BAD, the driver and the repositories become bullseye's, which is the last suite; BAD is one that its
# compiler is too old for.
bullseye_kernels() {
    local all=$R bad=$NEW file
    read -r DRIVER_VERSION DRIVER_SHA256 file <"$DIR/driver"
    DRIVER=$DIR/$file
    OLD=$(el_name "$BULLSEYE_OLD") NEW=$(el_name "$BULLSEYE_NEW") BAD=$bad R=$WORK/repo-bullseye
    mkdir "$R"
    cp -al "$all/vfguard" "$all/el7" "$all/base" "$R"
    cp -al "$all/new" "$R/bad"
    kernel_packages "$BULLSEYE_OLD" "$OLD" "$R/old" "$DIR/root"
    kernel_packages "$BULLSEYE_NEW" "$NEW" "$R/new" "$DIR/root"
    repository "$R/new"
}

bullseye_cases() {
    FORCE=--force-debian
    prepare_base
    scenario "rpm 4.16, dnf 4 without plugins: an update with the headers in the same transaction ends built" dnf_update
    scenario "rpm -i alone builds" rpm_i
    scenario "headers that come in a later transaction: refused, then built" devel_later
    scenario "a kernel that is removed leaves nothing" kernel_removed
    scenario "a kernel that the compiler is too old for: dnf succeeds, the reboot is refused" compiler_too_old
    grubby_cases
}
compiler_too_old() {
    update "$DNF --enablerepo=bad update kernel kernel-core kernel-devel"
    refused "$BAD"
    told "building ixgbevf .* for $BAD"
    told 'the compiler does not know a flag'
    fired rpm-trigger
    fired kernel-install
}
