# shellcheck shell=bash disable=SC2034 # FORCE is for the cases
# Which cases run under which package manager. Sourced by run.sh.

bookworm_cases() {
    FORCE=--force-debian
    prepare_base
    scenario "dnf 4 update with the headers in the same transaction ends built, default moved, gate open" dnf_update
    scenario "headers that come in a later transaction: refused, then built" devel_later
    scenario "headers that nobody has: refused, with what to do" devel_never
    scenario "headers that the machine's own dnf brings after the transaction: built" devel_brought
    scenario "headers of another kernel: refused, nothing built from them" devel_of_another
    scenario "a driver that does not compile: dnf succeeds, the reboot is refused, the default held" compile_failure
    scenario "rpm -i alone builds" rpm_i
    scenario "dnf --noplugins builds" noplugins
    scenario "two kernels in one transaction" two_kernels
    scenario "a rehearsal of the kernel that dnf 4 offers, also where another repository is gone" rehearsed
    scenario "a kernel that is removed leaves nothing" kernel_removed
    scenario "the old kernel goes by installonly_limit when the new one comes" limit_reached
    scenario "in a Japanese locale" japanese
    scenario "an image build in a chroot builds what is required and closes nothing" image_build
    scenario "tsflags=noscripts: the watch judges, and so does the next boot" noscripts
    scenario "vfguard is killed in the transaction: closed, and the next run ends the work" killed
    scenario "a transaction that fails before it begins changes nothing, and one that fails half-way is judged" transaction_fails
    scenario "vfguard is upgraded in the kernel's own transaction" upgrade_together
    scenario "an override outlives an upgrade of vfguard" overridden
    scenario "doctor asks rpm for the trigger, and misses it" doctor_asks_rpm
    scenario "removal opens the gate and leaves the default on the held kernel" removal
    scenario "Debian's package and hooks: dpkg installs a kernel and its headers: built; removes them: nothing is left" dpkg_installs_and_removes
    scenario "Debian's package and hooks: a kernel without headers is refused, until vfguard goes; late headers end built" dpkg_without_headers
    package_cases
    grubby_cases
}

# With a plugin that runs actions, the action fires too, once.
action_fires() {
    dnf_update
    [ "$(grep -c '^dnf ' "$M/var/hooks")" = 1 ]
}
trixie_cases() {
    FORCE=
    prepare_base
    scenario "dnf 4 with a working action plugin: each hook fires, the build is one" action_fires
    scenario --long "a driver that does not compile: dnf succeeds, the reboot is refused, the default held" compile_failure
}

forky_cases() {
    FORCE=
    prepare_base
    scenario "dnf 5 update builds, and its protocol hears nothing" dnf5_update
    scenario "a driver that does not compile: dnf 5 says why and fails, the packages stay, the reboot is refused" dnf5_refuses
    scenario "rpm 6 alone builds" rpm_i
    scenario "a rehearsal of the kernel that dnf 5 offers, also where another repository is gone" rehearsed
    hostile_packages
    scenario "rpm 6, dnf 5: headers are taken if a key signed them that the repository names as a file" only_keys_of_the_repository
    scenario "rpm 6, dnf 5: unsigned headers are taken only where the repository and the setting say so" allowed_unsigned
    scenario "rpm 6, dnf 5: a key that would have to be fetched is asked for, and counts once rpm has it" imported_key
}
dnf5_update() {
    dnf_update
    fired dnf5
    [ "$(cat "$M"/var/said/dnf5.?????? | wc -c)" = 0 ]
}
dnf5_refuses() {
    inside "$M" host "$DNF --enablerepo=bad update kernel kernel-core kernel-devel$STATE"
    cat "$OUT"
    told '^rc 1$'
    refused "$BAD"
    told 'u64_stats_fetch_begin_irq'
    told 'Action sent error message: vfguard: a reboot is refused'
    [ "$(cat "$M"/var/said/dnf5.?????? | grep -c '^error=vfguard: ')" = 1 ]
    [ "$(cat "$M"/var/said/dnf5.?????? | wc -l)" = 1 ]
    [ -e "$M/usr/lib/modules/$BAD/vmlinuz" ]
}
