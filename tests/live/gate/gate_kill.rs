//! An opener that is killed at any instant of opening: the gate's record of the reasons is not lost.
#![cfg(feature = "failpoints")]

#[path = "../../machine/mod.rs"]
mod machine;

use machine::{Machine, Run};
use std::fs;

const OLD: &str = "6.1.0-53-amd64";
const NEW: &str = "6.1.0-54-amd64";
const NIC: &str = "pci:v00001D0Fd0000EC20sv00001D0Fsd0000EC20bc02sc00i00";
const DRIVER: &str = "ena.alias=pci:v00001D0Fd0000EC20sv*sd*bc*sc*i*\0ena.file=drivers/net/ena\0";
/// The failpoints of opening, in order. With another root than `/` nothing is reloaded between the last two.
const OPENING: [&str; 4] =
    ["gate-compared-before-opening", "gate-removed-in-part", "gate-removed-before-reload", "gate-removed-before-record"];

/// OLD runs. NEW was installed, is wanted, and cannot drive the card; the gate is closed and the default held on OLD.
fn refused() -> Machine {
    let machine = Machine::new().grub().file("etc/os-release", "ID=rhel\nVERSION_ID=9.4\nID_LIKE=fedora\n");
    let machine = machine.device("0000:00:05.0", NIC, Some("ena")).kernel(OLD).boot_entry(OLD).kernel(NEW).boot_entry(NEW);
    let machine = machine
        .file("proc/sys/kernel/osrelease", &format!("{OLD}\n"))
        .file("proc/uptime", "100.00 1.00\n")
        .file(&format!("lib/modules/{OLD}/modules.builtin.modinfo"), DRIVER)
        .boot_default(NEW);
    assert_eq!(machine.run(&["reconcile"]).code, 3);
    machine
}

fn driver(machine: Machine, text: &str) -> Machine {
    machine.file(&format!("lib/modules/{NEW}/modules.builtin.modinfo"), text)
}

fn killed(machine: &Machine, args: &[&str], point: &str) {
    let status = machine.command(args).env("VFGUARD_FAILPOINT", point).output().unwrap().status;
    assert_eq!(status.code(), None, "{point} was not reached");
}

fn closed_for(machine: &Machine) -> (String, String) {
    let shown = machine.run(&["--format", "json", "gate", "show"]).json();
    (shown["gate"].as_str().unwrap().to_owned(), shown["reasons"].to_string())
}

fn said(run: &Run) -> String {
    format!("{}{}", run.stdout, run.stderr)
}

#[test]
fn an_opener_killed_at_any_instant_does_not_lose_the_reasons_of_the_gate() {
    for point in OPENING {
        // Judged safe, but not safe any more at the next look.
        let machine = driver(refused(), DRIVER);
        let before = closed_for(&machine);
        killed(&machine, &["reconcile"], point);
        let machine = driver(machine, "");
        // The command that systemd runs when a run dies.
        assert_eq!(machine.run(&["gate", "close", "--undecided"]).code, 0, "{point}");
        assert_eq!(closed_for(&machine), before, "{point}");
        assert!(fs::read_to_string(machine.path("run/motd.d/50-vfguard")).unwrap().contains(NEW), "{point}");

        let machine = driver(refused(), DRIVER);
        killed(&machine, &["reconcile"], point);
        let machine = driver(machine, "");
        let run = machine.run(&["reconcile"]);
        assert_eq!(run.code, 3, "{point}: {}", said(&run));
        assert_eq!(closed_for(&machine), before, "{point}");
        assert!(fs::read_to_string(machine.path("run/motd.d/50-vfguard")).unwrap().contains(NEW), "{point}");

        let machine = driver(refused(), DRIVER);
        killed(&machine, &["reconcile"], point);
        let run = machine.run(&["reconcile"]);
        assert_eq!((run.code, closed_for(&machine).0.as_str()), (0, "open"), "{point}: {}", said(&run));
        assert!(!machine.path("run/vfguard/gate.json").exists() && !machine.path("run/motd.d/50-vfguard").exists());
    }
}

#[test]
fn a_reboot_killed_while_it_opens_for_itself_leaves_a_gate_that_closes_again() {
    for point in ["pass-given-before-opening"].iter().chain(&OPENING[1..]) {
        let machine = refused();
        let before = closed_for(&machine);
        killed(&machine, &["reboot", "--held"], point);
        assert_eq!(machine.run(&["reconcile", "--no-build"]).code, 3, "{point}");
        // The timer ends once the pass has expired.
        let machine = machine.file("proc/uptime", "221.00 1.00\n");
        assert_eq!(machine.run(&["reconcile", "--from", "override-end"]).code, 3, "{point}");
        assert_eq!(closed_for(&machine), before, "{point}");
        assert!(machine.run(&["--format", "json", "gate", "show"]).json().get("pass").is_none(), "{point}");
    }
}
