//! Leaving a mode undoes its gate and hold: the default is promoted if the wanted kernel is safe; otherwise every report says what is left,
//! and how to end it.

#[path = "../../machine/mod.rs"]
mod machine;

use machine::{Machine, Run};
use serde_json::Value;
use std::fs;

const OLD: &str = "6.1.0-53-amd64";
const NEW: &str = "6.1.0-54-amd64";
const NIC: &str = "pci:v00001D0Fd0000EC20sv00001D0Fsd0000EC20bc02sc00i00";
const DRIVER: &str = "ena.alias=pci:v00001D0Fd0000EC20sv*sd*bc*sc*i*\0ena.file=drivers/net/ena\0";
const OBSERVE: (&str, &str) = ("etc/vfguard/config.toml", "mode = 'observe'\n");
const OFF: (&str, &str) = ("proc/cmdline", "root=/dev/vda1 vfguard=off\n");

/// OLD runs. NEW was installed, is wanted, and cannot drive the card; the gate is closed and the default held on OLD.
fn refused() -> Machine {
    let machine = Machine::new().grub().file("etc/os-release", "ID=rhel\nVERSION_ID=9.4\nID_LIKE=fedora\n");
    let machine = machine.device("0000:00:05.0", NIC, Some("ena")).kernel(OLD).boot_entry(OLD).kernel(NEW).boot_entry(NEW);
    let machine = machine
        .file("proc/sys/kernel/osrelease", &format!("{OLD}\n"))
        .file(&format!("lib/modules/{OLD}/modules.builtin.modinfo"), DRIVER)
        .boot_default(NEW);
    assert_eq!(machine.run(&["reconcile"]).code, 3);
    assert_eq!((gate(&machine), machine.saved_entry().as_str()), ("closed".into(), OLD));
    machine
}

fn good(machine: Machine) -> Machine {
    machine.file(&format!("lib/modules/{NEW}/modules.builtin.modinfo"), DRIVER)
}

fn json(machine: &Machine, args: &[&str]) -> Value {
    let run = machine.run(&[&["--format", "json"], args].concat());
    assert_eq!(run.code, 0, "{}", run.stderr);
    run.json()
}

fn gate(machine: &Machine) -> String {
    json(machine, &["gate", "show"])["gate"].as_str().unwrap().to_owned()
}

/// The kernels of a hold: the held one, and the one that is held off.
fn hold(value: &Value) -> Option<(&str, &str)> {
    Some((value["held"].as_str()?, value["wanted"].as_str()?))
}

fn block(machine: &Machine) -> String {
    fs::read_to_string(machine.path("boot/grub2/grubenv")).unwrap()
}

fn nothing_of_ours(machine: &Machine) {
    assert!(!machine.path("var/lib/vfguard/records/hold.json").exists());
    assert!(!block(machine).contains("vfguard"), "{}", block(machine));
    assert_eq!(json(machine, &["gate", "show"])["hold"], Value::Null);
    assert_eq!(json(machine, &["status"])["held"], Value::Null);
}

/// Asserts that each report says that the default is held, on which kernel, and how to end that.
fn said(machine: &Machine, run: &Run) {
    assert_eq!(hold(&json(machine, &["gate", "show"])["hold"]), Some((OLD, NEW)));
    assert_eq!(hold(&json(machine, &["status"])["held"]), Some((OLD, NEW)));
    for (name, text) in [
        ("reconcile", run.stdout.clone()),
        ("gate show", machine.run(&["gate", "show"]).stdout),
        ("status", machine.run(&["status"]).stdout),
    ] {
        assert!(text.contains("held on") && text.contains(OLD), "{name}: {text}");
        assert!(text.contains(&format!("vfguard decline {NEW}")), "{name}: {text}");
        assert!(text.contains(&format!("gate open --kernel {NEW}")), "{name}: {text}");
    }
}

#[test]
fn a_hold_is_shown_by_gate_show_while_it_is_on() {
    let machine = refused();
    let value = json(&machine, &["gate", "show"]);
    assert_eq!(hold(&value["hold"]), Some((OLD, NEW)), "{value}");
    assert!(machine.run(&["gate", "show"]).stdout.contains(&format!("held on {OLD}")));
    // The record is lost, but the mark is there.
    fs::remove_file(machine.path("var/lib/vfguard/records/hold.json")).unwrap();
    assert_eq!(hold(&json(&machine, &["gate", "show"])["hold"]), Some((OLD, NEW)));
    assert_eq!(hold(&json(&machine, &["status"])["held"]), Some((OLD, NEW)));
    // Somebody moved the default, so the record does not apply any more.
    let machine = refused().boot_default(NEW);
    assert_eq!(json(&machine, &["gate", "show"])["hold"], Value::Null);
    assert_eq!(json(&machine, &["status"])["held"], Value::Null);
}

#[test]
fn leaving_for_observe_or_off_promotes_a_safe_wanted_kernel() {
    for (path, text) in [OBSERVE, OFF] {
        let machine = good(refused()).file(path, text);
        let run = machine.run(&["reconcile"]);
        assert_eq!(run.code, 0, "{}{}", run.stdout, run.stderr);
        assert!(run.stdout.contains(NEW), "{path}: {}", run.stdout);
        assert_eq!((gate(&machine).as_str(), machine.saved_entry().as_str()), ("open", NEW), "{path}");
        nothing_of_ours(&machine);
        let log = fs::read_to_string(machine.path("var/lib/vfguard/audit.log")).unwrap();
        assert_eq!(log.matches("\"boot-default\"").count(), 2, "{log}");
        assert_eq!(machine.run(&["reconcile"]).code, 0, "{path}: again");
        assert_eq!(machine.saved_entry(), NEW, "{path}");
    }
}

#[test]
fn leaving_for_observe_or_off_opens_the_gate_and_reports_that_an_unsafe_kernel_stays_held_off() {
    for (path, text) in [OBSERVE, OFF] {
        let machine = refused().file(path, text);
        for _ in 0..2 {
            let run = machine.run(&["reconcile"]);
            assert_eq!((gate(&machine).as_str(), machine.saved_entry().as_str()), ("open", OLD), "{path}");
            said(&machine, &run);
        }
        // Both commands of the report work.
        let run = machine.run(&["decline", NEW]);
        assert_eq!(run.code, 0, "{path}: {}", run.stderr);
        assert_eq!(machine.saved_entry(), OLD);
        // A kernel that a person declined is held off in any mode, and only one command is named to end that.
        let value = json(&machine, &["gate", "show"]);
        assert_eq!((value["hold"]["held"].as_str(), value["hold"]["declined"].as_str()), (Some(OLD), Some(NEW)), "{path}");
        for args in [&["gate", "show"][..], &["status"], &["reconcile"]] {
            let text = machine.run(args).stdout;
            assert!(!text.contains("vfguard decline") && !text.contains("from before"), "{path}: {args:?}: {text}");
        }
        assert_eq!(machine.saved_entry(), OLD);
        let machine = refused().file(path, text);
        assert_eq!(machine.run(&["reconcile"]).code, if path == OFF.0 { 0 } else { 3 });
        let run = machine.run(&["gate", "open", "--kernel", NEW, "--reason", "x"]);
        assert_eq!(run.code, 0, "{path}: {}", run.stderr);
        assert_eq!(machine.saved_entry(), NEW);
        nothing_of_ours(&machine);
    }
}

#[test]
fn a_hold_that_the_default_was_moved_away_from_is_forgotten_in_observe_mode_too() {
    let machine = refused().file(OBSERVE.0, OBSERVE.1).boot_default(NEW);
    assert_eq!(machine.run(&["reconcile"]).code, 3);
    assert_eq!(machine.saved_entry(), NEW);
    nothing_of_ours(&machine);
}

#[test]
fn coming_back_from_observe_mode_holds_as_before() {
    let machine = refused().file(OBSERVE.0, OBSERVE.1);
    assert_eq!(machine.run(&["reconcile"]).code, 3);
    let machine = machine.file(OBSERVE.0, "");
    assert_eq!(machine.run(&["reconcile"]).code, 3);
    assert_eq!((gate(&machine).as_str(), machine.saved_entry().as_str()), ("closed", OLD));
    let machine = good(machine);
    assert_eq!(machine.run(&["reconcile"]).code, 0);
    assert_eq!((gate(&machine).as_str(), machine.saved_entry().as_str()), ("open", NEW));
    nothing_of_ours(&machine);
}

#[test]
fn a_gate_that_was_closed_before_rescue_mode_is_opened_there_and_the_hold_stays() {
    let machine = refused().file("sys/fs/cgroup/system.slice/rescue.service/cgroup.procs", "");
    assert_eq!(machine.run(&["reconcile"]).code, 3);
    assert_eq!((gate(&machine).as_str(), machine.saved_entry().as_str()), ("open", OLD));
    assert_eq!(hold(&json(&machine, &["gate", "show"])["hold"]), Some((OLD, NEW)));
}

#[test]
fn a_kernel_from_outside_ends_the_hold_once_all_is_safe() {
    let machine = refused().file("etc/vfguard/config.toml", "[boot]\nloader = 'none'\n");
    assert_eq!(machine.run(&["reconcile"]).code, 3);
    assert_eq!(hold(&json(&machine, &["gate", "show"])["hold"]), Some((OLD, NEW)));
    let machine = good(machine);
    assert_eq!(machine.run(&["reconcile"]).code, 0);
    nothing_of_ours(&machine);
}

#[test]
fn a_driver_that_is_not_required_any_more_ends_gate_and_hold() {
    let machine = good(Machine::new().grub().file("etc/os-release", "ID=rhel\nVERSION_ID=9.4\nID_LIKE=fedora\n"))
        .offline()
        .kernel(OLD)
        .boot_entry(OLD)
        .running(OLD)
        .kernel(NEW)
        .boot_entry(NEW)
        .boot_default(NEW)
        .file("etc/vfguard/config.toml", "[drivers]\nrequired = ['ixgbevf']\n");
    assert_eq!(machine.run(&["reconcile", "--no-build"]).code, 3);
    assert_eq!((gate(&machine).as_str(), machine.saved_entry().as_str()), ("closed", OLD));
    let machine = machine.file("etc/vfguard/config.toml", "");
    assert_eq!(machine.run(&["reconcile"]).code, 0);
    assert_eq!((gate(&machine).as_str(), machine.saved_entry().as_str()), ("open", NEW));
    nothing_of_ours(&machine);
}

#[test]
fn poweroff_goes_through_again_once_the_setting_is_gone() {
    let machine = refused().file("etc/vfguard/config.toml", "[gate]\npoweroff = true\n");
    assert_eq!(machine.run(&["reconcile"]).code, 3);
    let drop_in = machine.path("run/systemd/system/poweroff.target.d/50-vfguard.conf");
    assert!(drop_in.exists());
    let machine = machine.file("etc/vfguard/config.toml", "");
    assert_eq!(machine.run(&["reconcile"]).code, 3);
    assert!(!drop_in.exists() && gate(&machine) == "closed");
}

#[test]
fn removing_the_gate_for_good_leaves_the_default_and_no_mark_of_ours() {
    let machine = refused();
    let run = machine.run(&["gate", "remove"]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert!(run.stdout.contains(&format!("stays on {OLD}")) && run.stdout.contains(NEW), "{}", run.stdout);
    assert_eq!(machine.saved_entry(), OLD);
    let block = fs::read_to_string(machine.path("boot/grub2/grubenv")).unwrap();
    assert!(!block.contains("vfguard_"), "{block}");
    assert!(!machine.path("var/lib/vfguard/ready/hold").exists());
    // Installed again: the wanted kernel is known, and refused as before.
    let run = machine.run(&["reconcile"]);
    assert_eq!(run.code, 3, "{}{}", run.stdout, run.stderr);
    assert_eq!((gate(&machine).as_str(), machine.saved_entry().as_str()), ("closed", OLD));
}
