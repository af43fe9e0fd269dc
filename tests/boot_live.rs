//! The boot default on a live root of its own, where vfguard asks the machine's own programs: grubby, bootctl, grub-editenv.
//! In rescue mode, so that the default is held and no systemd is needed to refuse a reboot.

mod machine;

use machine::live::enter;
use machine::{Machine, Run};
use serde_json::Value;
use std::fs;
use std::os::unix::fs::PermissionsExt;

const OLD: &str = "6.1.0-53-amd64";
const NEW: &str = "6.1.0-54-amd64";
const NIC: &str = "pci:v00001D0Fd0000EC20sv00001D0Fsd0000EC20bc02sc00i00";
const DRIVER: &str = "ena.alias=pci:v00001D0Fd0000EC20sv*sd*bc*sc*i*\0ena.file=drivers/net/ena\0";

/// OLD runs and drives the card, NEW does not.
fn machine() -> Machine {
    let machine = Machine::new().kernel(OLD).kernel(NEW).device("0000:00:05.0", NIC, Some("ena"));
    let machine = machine
        .file(&format!("lib/modules/{OLD}/modules.builtin.modinfo"), DRIVER)
        .file("osrelease", &format!("{OLD}\n"))
        .file("cmdline", "ro single\n")
        .file("run/systemd/system/x", "");
    fs::create_dir_all(machine.path("usr/bin")).unwrap();
    fs::copy(env!("CARGO_BIN_EXE_vfguard"), machine.path("usr/bin/vfguard")).unwrap();
    machine
}

/// With a program of the machine's own.
fn program(machine: Machine, path: &str, script: &str) -> Machine {
    let machine = machine.file(path, script);
    fs::set_permissions(machine.path(path), fs::Permissions::from_mode(0o755)).unwrap();
    machine
}

/// What a verb says.
fn told(machine: &Machine, verb: &str) -> (Value, Run) {
    let run = enter(machine, &format!("vfguard --format json {verb}"));
    (run.json(), run)
}

#[test]
fn a_grubby_that_disagrees_is_told_and_changes_no_verdict() {
    // grubby says NEW, which is not safe, while the environment block holds the default on OLD.
    let machine = machine().grub().file("etc/os-release", "ID=rhel\nVERSION_ID=9.4\nID_LIKE=fedora\n");
    let machine = machine.boot_entry(OLD).boot_entry(NEW).boot_default(OLD);
    let machine = program(machine, "usr/sbin/grubby", &format!("#!/bin/sh\necho /boot/vmlinuz-{NEW}\n"));
    for verb in ["check", "status", "reconcile"] {
        let (value, run) = told(&machine, verb);
        assert_eq!((&value["verdict"], run.code), (&Value::from("safe"), 0), "{verb}: {value}");
    }
    let (status, _) = told(&machine, "status");
    assert_eq!(status["next_boot_certain"], true);
    let (next, run) = told(&machine, "next-boot");
    assert_eq!((&next["certain"], run.code), (&Value::from(true), 0), "{next}");
    let problems = next["problems"].to_string();
    assert!(problems.contains("grubby") && problems.contains(NEW), "{problems}");
    let (doctor, _) = told(&machine, "doctor");
    let of = |name: &str| {
        let checks = doctor["checks"].as_array().unwrap().iter();
        checks.filter(|c| c["name"] == name).map(|c| c["status"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!((of("boot-default"), of("grubby")), (vec!["ok".to_owned()], vec!["warning".to_owned()]), "{doctor}");
}
