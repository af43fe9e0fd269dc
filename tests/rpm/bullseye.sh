# shellcheck shell=bash disable=SC2034,SC2154 # what is set here is for run.sh and the cases, which set $mirror and more
# Kernels for bullseye: Debian 12's want a newer compiler, and the tools in their headers a newer glibc, than it has; so it gets its own
# two, 5.10, with the in-tree driver of their own source. From bullseye's archive, with lists of its own: the host's apt knows
# another release. Sourced by run.sh.

BULLSEYE_OLD=5.10.0-30-amd64 BULLSEYE_NEW=5.10.0-32-amd64 # the last two of a release that changes no more

# bullseye_archive: the headers as one tree, `root`, and the driver, in the cache's directory $DIR; they stay there. Called where
# errexit is off.
bullseye_archive() {
    DIR=$LAB/rpm/bullseye-5.10
    [ ! -e "$DIR/driver" ] || return 0
    local new=$WORK/bullseye-5.10 package packages=() config version sha256 file
    config=$new/apt/apt.conf
    mkdir -p "$new"/apt/{lists/partial,archives/partial,parts,sources} "$new/debs" "$new/root"
    echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror bullseye main" >"$new/apt/sources.list"
    cat >"$config" <<C
Dir::Etc::sourcelist "$new/apt/sources.list";
Dir::Etc::sourceparts "$new/apt/sources";
Dir::State::lists "$new/apt/lists";
Dir::State::status "/dev/null";
Dir::Cache "$new/apt";
APT::Sandbox::User "root";
Acquire::Check-Valid-Until "false";
C
    APT_CONFIG=$config apt-get -qq update >&2 || return "$EX_UNAVAILABLE"
    packages=("linux-headers-$BULLSEYE_OLD" "linux-headers-${BULLSEYE_OLD%-amd64}-common" "linux-headers-$BULLSEYE_NEW"
        "linux-headers-${BULLSEYE_NEW%-amd64}-common" linux-kbuild-5.10)
    (cd "$new/debs" && APT_CONFIG=$config apt-get -qq download "${packages[@]}" >&2) || return "$EX_UNAVAILABLE"
    for package in "$new"/debs/*.deb; do dpkg-deb -x "$package" "$new/root" || return 1; done
    APT_CONFIG=$config "$TOP/packaging/intree-archive.sh" --series 5.10 --out "$new" >"$new/driver.said" || return $?
    read -r _ version sha256 file <"$new/driver.said" || return 1
    printf '%s %s %s\n' "$version" "$sha256" "${file##*/}" >"$new/driver.new"
    rm -rf "$new/apt" "$new/debs" "$new/driver.said" "$DIR"
    mv "$new" "$DIR" && mv "$DIR/driver.new" "$DIR/driver"
}

# bullseye_kernels: OLD, NEW, BAD, the driver and the repositories become bullseye's, which is the last suite; BAD is one that its
# compiler is too old for.
bullseye_kernels() {
    local all=$R bad=$NEW file
    read -r DRIVER_VERSION DRIVER_SHA256 file <"$DIR/driver"
    DRIVER=$DIR/$file
    OLD=5.10.0-30.el9.x86_64 NEW=5.10.0-32.el9.x86_64 BAD=$bad R=$WORK/repo-bullseye
    mkdir "$R"
    cp -al "$all/vfguard" "$all/base" "$R"
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
}
compiler_too_old() {
    update "$DNF --enablerepo=bad update kernel kernel-core kernel-devel"
    refused "$BAD"
    told "building ixgbevf .* for $BAD"
    told 'the compiler does not know a flag'
    fired rpm-trigger
    fired kernel-install
}
