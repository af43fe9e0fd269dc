//! The gate from outside: what closes it, what opens it, and where vfguard does not act.

mod audit;
mod by_hand;
mod decided;
mod early;
mod hands_off;
#[path = "../../../machine/mod.rs"]
mod machine;
mod overrides;
mod reboots;
mod removing;
mod units;

use machine::{Machine, Run};
use std::fs;

const OLD: &str = "6.1.0-53-amd64";
const NEW: &str = "6.1.0-54-amd64";
/// A network device that no recipe claims, so each kernel needs an in-tree driver for it.
const NIC: &str = "pci:v00001234d0000BEEFsv00001234sd0000BEEFbc02sc00i00";
const UNIT: &str = "run/systemd/system/VFGUARD_blocks_reboot__run_vfguard_status.service";
const DROP_IN: &str = "run/systemd/system/reboot.target.d/50-vfguard.conf";

/// A kernel that drives the device with a built-in driver.
fn good(machine: Machine, kernel: &str) -> Machine {
    machine.kernel(kernel).boot_entry(kernel).file(
        &format!("lib/modules/{kernel}/modules.builtin.modinfo"),
        "ena.alias=pci:v00001234d0000BEEFsv*sd*bc*sc*i*\0ena.file=drivers/net/ena\0",
    )
}

/// A kernel without a driver for the device.
fn bad(machine: Machine, kernel: &str) -> Machine {
    machine.kernel(kernel).boot_entry(kernel)
}

fn settled() -> Machine {
    // The meaning of a default depends on the distribution's GRUB.
    let machine = Machine::new().grub().file("etc/os-release", "ID=rhel\nVERSION_ID=9.4\nID_LIKE=fedora\n");
    let machine = machine.device("0000:00:05.0", NIC, Some("ena"));
    good(machine, OLD).boot_default(OLD).file("proc/sys/kernel/osrelease", &format!("{OLD}\n"))
}

/// OLD runs. NEW was installed, is the boot default, and cannot drive the device; a hook has run.
fn refused() -> Machine {
    let machine = bad(settled(), NEW).boot_default(NEW);
    let run = machine.run(&["reconcile"]);
    assert_eq!(run.code, 3, "{}{}", run.stdout, run.stderr);
    machine
}

fn shown(machine: &Machine) -> serde_json::Value {
    let run = machine.run(&["--format", "json", "gate", "show"]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    run.json()
}

fn gate(machine: &Machine) -> String {
    shown(machine)["gate"].as_str().unwrap().to_owned()
}

fn files(machine: &Machine) -> bool {
    let closed = machine.path(DROP_IN).exists();
    assert_eq!(closed, machine.path(UNIT).symlink_metadata().is_ok());
    closed
}

fn open(machine: &Machine, more: &[&str]) -> Run {
    machine.run(&[&["gate", "open", "--reason", "the console is at hand"], more].concat())
}

/// Whether the audit log has an event of that kind, besides the event of the hold.
fn audited(machine: &Machine, event: &str) -> bool {
    let log = fs::read_to_string(machine.path("var/lib/vfguard/audit.log")).unwrap_or_default();
    assert!(log.contains("\"boot-default\""), "{log}");
    log.contains(&format!("\"{event}\""))
}
