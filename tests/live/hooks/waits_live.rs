//! How long a hook waits, on a live root: for a worker that systemd does not start, and for one that does not end.

#[path = "../../machine/mod.rs"]
mod machine;

use machine::live::enter;
use machine::Machine;
use std::fs;
use std::os::unix::fs::PermissionsExt;

const OLD: &str = "6.1.0-53-amd64";
const NEW: &str = "6.1.0-54-amd64";

/// A stand-in for systemd. The worker's job waits for others until it is cancelled (/srv/queued), or runs without end.
const SYSTEMCTL: &str = r#"#!/bin/bash
echo "$*" >>/srv/calls
case $* in
"start vfguard.service")
    if [ -e /srv/queued ]; then
        until [ -e /srv/cancelled ]; do sleep 0.1; done
        echo 'Job for vfguard.service canceled.' >&2; exit 1
    fi
    echo running >/srv/state; exec sleep 600 ;;
"cancel 4711") touch /srv/cancelled ;;
*ActiveState*)
    if [ -e /srv/state ]; then echo ActiveState=activating; else echo ActiveState=inactive; fi
    if [ -e /srv/queued ] && ! [ -e /srv/cancelled ]; then echo Job=4711; else echo Job=0; fi ;;
show*)
    refuser=VFGUARD_blocks_reboot__run_vfguard_status.service
    for u in "${@:3}"; do
        loaded=loaded requires=
        [ ! -e "/run/systemd/system/$u.d/50-vfguard.conf" ] || requires=$refuser
        [ "$u" != $refuser ] || { loaded=not-found; [ ! -L "/run/systemd/system/$u" ] || loaded=masked; }
        printf 'Id=%s\nLoadState=%s\nRequires=%s\n\n' "$u" $loaded "$requires"
    done ;;
esac
"#;

/// OLD runs on an out-of-tree driver. NEW is the boot default, has headers, and needs that driver built.
fn machine() -> Machine {
    let machine = Machine::new().grub().vf("ixgbevf").offline();
    let headers = format!("usr/src/kernels/{NEW}");
    let machine = machine
        .kernel(OLD)
        .boot_entry(OLD)
        .kernel(NEW)
        .boot_entry(NEW)
        .boot_default(NEW)
        .file("osrelease", &format!("{OLD}\n"))
        .file("cmdline", "ro\n")
        .file("sys/module/ixgbevf/taint", "OE\n")
        .file(&format!("{headers}/include/generated/utsrelease.h"), &format!("#define UTS_RELEASE \"{NEW}\"\n"))
        .file(&format!("{headers}/include/linux/module.h"), "")
        .file(&format!("{headers}/Makefile"), "")
        .file("usr/lib/systemd/system/vfguard.service", "")
        .file("run/systemd/system/x", "")
        .file("usr/local/sbin/systemctl", SYSTEMCTL);
    fs::set_permissions(machine.path("usr/local/sbin/systemctl"), fs::Permissions::from_mode(0o755)).unwrap();
    fs::create_dir_all(machine.path("usr/bin")).unwrap();
    fs::copy(env!("CARGO_BIN_EXE_vfguard"), machine.path("usr/bin/vfguard")).unwrap();
    fs::create_dir_all(machine.path("srv")).unwrap();
    machine
}

fn calls(machine: &Machine) -> Vec<String> {
    fs::read_to_string(machine.path("srv/calls")).unwrap_or_default().lines().map(str::to_owned).collect()
}

fn closed(machine: &Machine) -> bool {
    machine.path("run/systemd/system/reboot.target.d/50-vfguard.conf").exists()
}

/// As if the worker is ordered after something that waits for the hook's own caller.
#[test]
fn a_worker_that_systemd_does_not_start_is_not_waited_for_and_the_hook_builds_itself() {
    let machine = machine().file("srv/queued", "");
    let run = enter(&machine, "timeout -k 1 120 vfguard reconcile --from yum");
    let calls = calls(&machine);
    assert_eq!(run.code, 3, "124 is the test's own limit: {}{}{calls:#?}", run.stdout, run.stderr);
    let at = |call: &str| calls.iter().position(|c| c == call).unwrap_or_else(|| panic!("no {call:?} in {calls:#?}"));
    assert!(at("start vfguard.service") < at("cancel 4711"), "{calls:#?}");
    assert!(at("cancel 4711") < at("start --no-block vfguard.service"), "it never looks again: {calls:#?}");
    assert!(run.stderr.contains("waits for something that may wait for this hook"), "{}", run.stderr);
    assert!(run.stderr.contains(&format!("{NEW}: preparing ixgbevf")), "{}", run.stderr);
    assert!(closed(&machine));
}

#[test]
fn a_hook_at_the_end_of_its_budget_leaves_the_work_to_the_background_with_the_gate_closed() {
    let machine = machine().file("etc/vfguard/config.d/9.toml", "[hook]\nbudget = 3\n");
    let run = enter(&machine, "timeout -k 1 120 vfguard reconcile --from dnf");
    let calls = calls(&machine);
    assert_eq!(run.code, 3, "124 is the test's own limit: {}{}{calls:#?}", run.stdout, run.stderr);
    assert!(run.stderr.contains("not done after 3 s (hook.budget)"), "{}", run.stderr);
    assert!(run.stderr.contains("goes on in the background"), "{}", run.stderr);
    assert!(run.stdout.contains("a reboot is refused"), "{}", run.stdout);
    assert!(calls.iter().any(|c| c == "start --no-block vfguard.service"), "{calls:#?}");
    assert!(!calls.iter().any(|c| c.starts_with("cancel")), "a worker that runs was taken back: {calls:#?}");
    assert!(closed(&machine));
}

/// Without a service, the longest step is the wait for another run.
#[test]
fn a_hook_that_builds_itself_waits_for_another_run_no_longer_than_its_budget() {
    let machine = machine().file("etc/vfguard/config.d/9.toml", "[hook]\nbudget = 3\n");
    fs::remove_file(machine.path("usr/lib/systemd/system/vfguard.service")).unwrap();
    fs::create_dir_all(machine.path("run/vfguard")).unwrap();
    let script = "exec 9>/run/vfguard/lock; flock 9; timeout -k 1 120 vfguard reconcile --from dnf 9>&-";
    let run = enter(&machine, script);
    assert_eq!(run.code, 4, "124 is the test's own limit: {}{}", run.stdout, run.stderr);
    assert!(run.stderr.contains("another vfguard run holds"), "{}", run.stderr);
    assert!(closed(&machine));
}
