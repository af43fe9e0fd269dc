//! A missing network device proves nothing: a hold and a closed gate on its account stay until it is back, or gone for good.

mod gone;
#[path = "../../../machine/mod.rs"]
mod machine;
mod missing;
mod record;
mod udev;

use machine::{Machine, Run};
use std::fs;
use std::path::PathBuf;

const OLD: &str = "6.1.0-53-amd64";
const NEW: &str = "6.1.0-54-amd64";
const NIC: &str = "pci:v00001D0Fd0000EC20sv00001D0Fsd0000EC20bc02sc00i00";
const DRIVER: &str = "ena.alias=pci:v00001D0Fd0000EC20sv*sd*bc*sc*i*\0ena.file=drivers/net/ena\0";
const OTHER_DRIVER: &str = "igb.alias=pci:v00008086d00001521sv*sd*bc*sc*i*\0igb.file=drivers/net/igb\0";
const ADDRESS: &str = "0000:00:05.0";
const DROP_IN: &str = "run/systemd/system/reboot.target.d/50-vfguard.conf";
const RECORD: &str = "var/lib/vfguard/records/devices.json";

/// OLD runs and drives the card; NEW is the boot default and does not.
fn machine() -> Machine {
    let machine = Machine::new()
        .grub()
        .kernel(OLD)
        .kernel(NEW)
        .boot_entry(OLD)
        .boot_entry(NEW)
        .boot_default(NEW)
        .device(ADDRESS, NIC, Some("ena"))
        .file(&format!("lib/modules/{OLD}/modules.builtin.modinfo"), &format!("{DRIVER}{OTHER_DRIVER}"))
        .file(&format!("lib/modules/{NEW}/modules.builtin.modinfo"), OTHER_DRIVER)
        .file("proc/sys/kernel/osrelease", &format!("{OLD}\n"));
    booted(machine, "one")
}

/// The same, with the hold and the closed gate on account of the card.
fn held() -> Machine {
    let machine = machine();
    let run = machine.run(&["reconcile"]);
    assert_eq!(run.code, 3, "{}", said(&run));
    assert_closed(&machine, &run);
    machine
}

/// Boots the machine with this boot id; nothing has run yet.
fn booted(machine: Machine, boot: &str) -> Machine {
    let _ = fs::remove_dir_all(machine.path("run"));
    machine.file("proc/sys/kernel/random/boot_id", &format!("{boot}\n"))
}

/// Gives NEW a driver for the card.
fn built(machine: Machine) -> Machine {
    machine.file(&format!("lib/modules/{NEW}/modules.builtin.modinfo"), &format!("{DRIVER}{OTHER_DRIVER}"))
}

fn sysfs(machine: &Machine, address: &str) -> PathBuf {
    machine.path("sys/bus/pci/devices").join(address)
}

fn unplug(machine: &Machine, address: &str) {
    fs::rename(sysfs(machine, address), machine.path("unplugged")).unwrap();
}

fn plug(machine: &Machine, address: &str) {
    fs::rename(machine.path("unplugged"), sysfs(machine, address)).unwrap();
}

fn said(run: &Run) -> String {
    format!("{}{}", run.stdout, run.stderr)
}

fn assert_closed(machine: &Machine, run: &Run) {
    assert_eq!(machine.saved_entry(), OLD, "not held: {}", said(run));
    assert!(machine.path(DROP_IN).exists(), "not closed: {}", said(run));
}

fn assert_promoted(machine: &Machine, run: &Run) {
    assert_eq!((run.code, machine.saved_entry().as_str()), (0, NEW), "{}", said(run));
    assert!(!machine.path(DROP_IN).exists(), "{}", said(run));
}

fn remembered(machine: &Machine) -> Vec<String> {
    let record: serde_json::Value = serde_json::from_slice(&fs::read(machine.path(RECORD)).unwrap()).unwrap();
    record["devices"].as_array().unwrap().iter().map(|d| d["address"].as_str().unwrap().to_owned()).collect()
}
