//! `decline` affects one kernel: it is held off and refuses nothing, a later kernel is treated as usual, and `accept` reverses it.

mod declining;
mod loaders;
#[path = "../../../machine/mod.rs"]
mod machine;

use machine::{Machine, Run, MACHINE_ID};
use serde_json::Value;
use std::fs;

const OLD: &str = "6.1.0-53-amd64";
const NEW: &str = "6.1.0-54-amd64";
const LATER: &str = "6.1.0-55-amd64";
const NIC: &str = "pci:v00001D0Fd0000EC20sv00001D0Fsd0000EC20bc02sc00i00";
const DRIVER: &str = "ena.alias=pci:v00001D0Fd0000EC20sv*sd*bc*sc*i*\0ena.file=drivers/net/ena\0";
const RECORD: &str = "var/lib/vfguard/records/declined.json";
const HOLD: &str = "var/lib/vfguard/records/hold.json";
const GRUB: &str = "boot/grub2/grub.cfg";

fn good(machine: Machine, kernel: &str) -> Machine {
    machine.kernel(kernel).boot_entry(kernel).file(&format!("lib/modules/{kernel}/modules.builtin.modinfo"), DRIVER)
}

fn bad(machine: Machine, kernel: &str) -> Machine {
    machine.kernel(kernel).boot_entry(kernel)
}

fn settled() -> Machine {
    let machine = Machine::new().grub().file("etc/os-release", "ID=rhel\nVERSION_ID=9.4\nID_LIKE=fedora\n");
    let machine = machine.device("0000:00:05.0", NIC, Some("ena"));
    good(machine, OLD).boot_default(OLD).file("proc/sys/kernel/osrelease", &format!("{OLD}\n"))
}

/// OLD runs. NEW was installed, is the boot default, and cannot drive the device; a hook has run.
fn refused() -> Machine {
    let machine = bad(settled(), NEW).boot_default(NEW);
    let run = machine.run(&["reconcile"]);
    assert_eq!(run.code, 3, "{}", said(&run));
    machine
}

fn said(run: &Run) -> String {
    format!("{}{}", run.stdout, run.stderr)
}

fn json(machine: &Machine, args: &[&str]) -> Value {
    machine.run(&[&["--format", "json"], args].concat()).json()
}

fn gate(machine: &Machine) -> String {
    json(machine, &["gate", "show"])["gate"].as_str().unwrap().to_owned()
}

fn next(machine: &Machine) -> String {
    json(machine, &["next-boot"])["kernels"][0]["kernel"].as_str().unwrap().to_owned()
}

fn audit(machine: &Machine) -> String {
    fs::read_to_string(machine.path("var/lib/vfguard/audit.log")).unwrap()
}

#[test]
fn a_declined_kernel_that_somebody_makes_the_default_is_judged_as_the_next_boot() {
    let machine = refused();
    assert_eq!(machine.run(&["decline", NEW]).code, 0);
    let machine = machine.boot_default(NEW);
    let run = machine.run(&["check"]);
    assert!(run.code == 3 && run.stdout.contains(&format!("next: {NEW}")), "{}", said(&run));
    assert_eq!(machine.run(&["reboot"]).code, 3);
    let run = machine.run(&["reconcile"]);
    assert_eq!((run.code, machine.saved_entry().as_str(), gate(&machine).as_str()), (0, OLD, "open"), "{}", said(&run));
    assert!(run.stdout.contains(&format!("held on {OLD} ({NEW} is declined)")), "{}", said(&run));
}

#[test]
fn a_safe_declined_kernel_made_the_default_by_hand_is_accepted_by_any_first_look() {
    let set = || {
        let machine = refused();
        assert_eq!(machine.run(&["decline", NEW]).code, 0);
        machine.boot_default(NEW).file(&format!("lib/modules/{NEW}/modules.builtin.modinfo"), DRIVER)
    };
    for args in [&["reconcile"][..], &["reconcile", "--no-build", "--from", "watch"], &["reconcile", "--from", "service"]] {
        let machine = set();
        let run = machine.run(args);
        assert!(said(&run).contains(&format!("{NEW} was made the boot default")), "{args:?}: {}", said(&run));
        assert_eq!(machine.run(&["reconcile", "--from", "timer"]).code, 0);
        assert_eq!((machine.saved_entry().as_str(), gate(&machine).as_str()), (NEW, "open"), "{args:?}: {}", said(&run));
        assert!(!machine.path(RECORD).exists() && !machine.path(HOLD).exists(), "{args:?}");
    }
    // A package made it the default, and its hook looks first.
    let machine = set();
    machine.run(&["reconcile", "--from", "dnf"]);
    assert_eq!(machine.run(&["reconcile", "--from", "timer"]).code, 0);
    assert!(machine.saved_entry() == OLD && machine.path(RECORD).exists());
}

#[test]
fn a_kernel_that_is_removed_is_not_declined_any_more() {
    let machine = refused();
    assert_eq!(machine.run(&["decline", NEW]).code, 0);
    fs::remove_file(machine.path(&format!("boot/loader/entries/{MACHINE_ID}-{NEW}.conf"))).unwrap();
    fs::remove_file(machine.path(&format!("boot/vmlinuz-{NEW}"))).unwrap();
    fs::remove_dir_all(machine.path(&format!("lib/modules/{NEW}"))).unwrap();
    assert_eq!(json(&machine, &["status"])["declined"], serde_json::json!([]));
    assert_eq!(machine.run(&["reconcile"]).code, 0);
    assert!(!machine.path(RECORD).exists());
    let machine = bad(machine, NEW);
    assert_eq!(machine.run(&["accept", NEW]).code, 1);
}

#[test]
fn an_override_that_names_a_declined_kernel_moves_no_default_and_says_why() {
    let machine = refused();
    assert_eq!(machine.run(&["decline", NEW]).code, 0);
    let run = machine.run(&["gate", "open", "--kernel", NEW, "--reason", "x"]);
    assert_eq!((run.code, machine.saved_entry().as_str()), (0, OLD), "{}", said(&run));
    assert!(run.stdout.contains("stays held") && run.stdout.contains(&format!("vfguard accept {NEW}")), "{}", said(&run));
    // An override that names the held kernel does not end the hold either.
    assert_eq!(machine.run(&["gate", "open", "--kernel", OLD, "--reason", "x"]).code, 0);
    assert!(machine.path(HOLD).exists());
}
