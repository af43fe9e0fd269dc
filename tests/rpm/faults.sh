# shellcheck shell=bash
# Transactions in which something goes wrong, and upgrades of vfguard itself. Sourced by run.sh.

# Without scriptlets and triggers, nothing of vfguard runs; whoever moves the boot default then is seen by the watch, or at the next boot.
noscripts() {
    update "$DNF --setopt=tsflags=noscripts --enablerepo=new install $(kernel_of "$NEW")"
    not built "$NEW"
    [ ! -s "$M/var/hooks" ]
    update "cd /usr/lib/kernel/install.d && ./20-grub.install add $NEW - /lib/modules/$NEW/vmlinuz && ./50-dracut.install add $NEW
        vfguard reconcile --no-build --from watch; echo watch \$?"
    told '^watch 3$'
    told '^GATE CLOSED$'
    default_is "$OLD"
    # Another /run, as after a boot.
    update "vfguard reconcile --no-build --from boot; echo boot \$?"
    told '^boot 3$'
    told '^GATE CLOSED$'
    update "systemctl start vfguard.service"
    safe_on "$NEW"
}
# Hook and worker, whenever one of them is at work. (The unit's OnFailure is the vm tier's business; the gate closed before.)
killed() {
    update "touch /var/kill; $DNF --enablerepo=new update kernel-core kernel-devel"
    told '^GATE CLOSED$'
    not built "$NEW"
    default_is "$OLD"
    grep -q '^service .* 137 ' "$M/var/hooks"
    grep -Eq '^(kernel-install|rpm-trigger) .* 137 ' "$M/var/hooks"
    update "rm /var/kill; vfguard reconcile"
    safe_on "$NEW"
}
transaction_fails() {
    inside "$M" host "$DNF --enablerepo=new install $(kernel_of "$NEW") clash$STATE"
    cat "$OUT"
    told '^rc 1$'
    told 'conflicts'
    safe_on "$OLD"
    [ ! -e "$M/usr/lib/modules/$NEW" ] && [ ! -s "$M/var/hooks" ]
    inside "$M" host "$DNF --enablerepo=new install $(kernel_of "$NEW") broken$STATE"
    cat "$OUT"
    told '^rc 1$'
    safe_on "$NEW"
}
upgrade_together() {
    update "$DNF --enablerepo=new install $(kernel_of "$NEW") /repo/newer/vfguard-99-1.rpm; rpm -q vfguard"
    told '^vfguard-99-1'
    safe_on "$NEW"
}
overridden() {
    update "rpm -i $FORCE /repo/bad/kernel-*.rpm; vfguard gate open --reason 'the console is at hand'
        rpm -U --force $FORCE /repo/vfguard/*.rpm; vfguard --format json gate show"
    told '^GATE OPEN$'
    told '"gate": "overridden"'
    default_is "$OLD"
}
# The package for EL7 has no file trigger; the database's file may still hold what was removed, so rpm is asked.
doctor_asks_rpm() {
    local ask="vfguard doctor | grep -A 1 hook-rpm-trigger"
    update "$ask; rpm -U --force --nodeps $FORCE /repo/el7/*.rpm; $ask"
    told '^ok: hook-rpm-trigger: rpm knows it'
    told "^failed: hook-rpm-trigger: rpm's database has no file trigger of vfguard"
    told '^  to mend it: reinstall the package vfguard'
}
