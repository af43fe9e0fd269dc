//! What `reconcile` does to a machine, and where it keeps its hands off.

use super::*;

#[test]
fn observe_mode_reports_and_touches_nothing() {
    let machine = Machine::new().kernel(K).vf("ixgbevf").offline().file("etc/vfguard/config.toml", "mode = 'observe'\n");
    let run = machine.run(&["reconcile"]);
    assert_eq!(run.code, 3, "{}{}", run.stdout, run.stderr);
    assert!(!machine.path("run/systemd/system").exists());
}

#[test]
fn a_move_of_the_boot_default_is_in_the_audit_log() {
    let machine = Machine::new().grub().kernel("6.1.0-55-amd64").boot_entry("6.1.0-55-amd64").kernel(K).boot_entry(K);
    let machine = machine.boot_default(K).vf("ixgbevf").running("6.1.0-55-amd64").offline();
    assert_eq!(machine.run(&["reconcile"]).code, 3);
    assert_eq!(machine.saved_entry(), "6.1.0-55-amd64");
    let log = fs::read_to_string(machine.path("var/lib/vfguard/audit.log")).unwrap();
    assert!(log.contains("boot-default") && log.contains("6.1.0-55-amd64"), "{log}");
}

#[test]
fn observe_mode_opens_a_gate_that_was_closed_before() {
    let machine = Machine::new().kernel(K).vf("ixgbevf").offline();
    assert_eq!(machine.run(&["reconcile"]).code, 3);
    assert!(machine.path("run/systemd/system/reboot.target.d/50-vfguard.conf").is_file());
    let machine = machine.file("etc/vfguard/config.toml", "mode = 'observe'\n");
    assert_eq!(machine.run(&["reconcile"]).code, 3);
    assert!(!machine.path("run/systemd/system/reboot.target.d/50-vfguard.conf").exists());
}

#[test]
fn a_kernel_that_ran_is_remembered_once() {
    let machine = Machine::new().kernel(K).running(K);
    assert_eq!(machine.run(&["reconcile"]).code, 0);
    assert_eq!(machine.run(&["reconcile"]).code, 0);
    assert_eq!(fs::read_to_string(machine.path("var/lib/vfguard/records/booted")).unwrap(), format!("{K}\n"));
}

#[test]
fn reconcile_with_no_headers_closes_the_gate_and_says_what_is_missing() {
    let machine = Machine::new().kernel(K).vf("ixgbevf").offline();
    let run = machine.run(&["--format", "json", "reconcile", "--from", "test"]);
    assert_eq!(run.code, 3, "{}", run.stderr);
    assert_eq!(run.json()["gate"], "closed");
    assert!(machine.path("run/systemd/system/reboot.target.d/50-vfguard.conf").is_file());
    let value = machine.run(&["--format", "json", "check", K]).json();
    let findings = value["kernels"][0]["findings"].as_array().unwrap();
    assert!(findings.iter().any(|f| f["code"] == "headers-missing"), "{findings:?}");
}

#[test]
fn reconcile_of_a_safe_machine_does_nothing() {
    let machine = Machine::new().kernel(K);
    let run = machine.run(&["--format", "json", "reconcile"]);
    assert_eq!((run.code, run.json()["gate"].clone()), (0, Value::from("open")), "{}", run.stderr);
    assert!(!machine.path("run/systemd/system").exists());
}

#[test]
fn vfguard_off_on_the_command_line_disables_everything() {
    let machine = Machine::new().kernel(K).vf("ixgbevf").file("proc/cmdline", "ro quiet vfguard=off\n");
    let run = machine.run(&["reconcile"]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert!(run.stdout.contains("vfguard=off"));
    assert!(!machine.path("run/systemd/system/reboot.target.d").exists());
}
