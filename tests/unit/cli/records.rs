//! A record that only informs does not affect the verdict: if it cannot be written, that is a line of output. For a record that decides, it
//! is an error.

#[path = "../../machine/mod.rs"]
mod machine;

use machine::Machine;
use std::fs;

const K: &str = "6.1.0-56-amd64";
const OLD: &str = "6.1.0-55-amd64";
const RECORDS: &str = "var/lib/vfguard/records";
const AUDIT: &str = "var/lib/vfguard/audit.log";
const NOT_REMEMBERED: &str = "remembering that the running kernel has booted: ";

/// K boots next, OLD runs.
fn machine() -> Machine {
    Machine::new().grub().kernel(OLD).boot_entry(OLD).kernel(K).boot_entry(K).boot_default(K).running(OLD).offline()
}

#[test]
fn failing_to_remember_a_boot_is_a_line_and_does_not_change_the_verdict() {
    let machine = machine().file(RECORDS, "no directory");
    let run = machine.run(&["reconcile"]);
    assert_eq!(run.code, 0, "{}{}", run.stdout, run.stderr);
    assert!(run.stdout.contains(NOT_REMEMBERED), "{}", run.stdout);
    assert!(machine.run(&["-q", "reconcile"]).stderr.is_empty(), "quiet means refusals and errors only");
}

#[test]
fn an_unsafe_kernel_is_refused_by_gate_and_hold_even_if_no_record_can_be_written() {
    let machine = machine().vf("ixgbevf").file(RECORDS, "no directory").file("var/lib/vfguard/log", "no directory");
    let run = machine.run(&["reconcile"]);
    assert_eq!(run.code, 3, "{}{}", run.stdout, run.stderr);
    assert!(run.stdout.contains(NOT_REMEMBERED), "{}", run.stdout);
    assert!(machine.path("run/systemd/system/reboot.target.d").exists(), "the gate is open");
    assert!(run.stdout.contains("held on") && run.stdout.contains("not recorded: "), "{}", run.stdout);
    assert_eq!(machine.saved_entry(), OLD);
}

#[test]
fn a_safe_reboot_needs_no_audit_log_and_one_against_the_verdict_needs_it() {
    let safe = machine();
    fs::create_dir_all(safe.path(AUDIT)).unwrap();
    let run = safe.run(&["reboot"]);
    assert_eq!(run.code, 0, "{}{}", run.stdout, run.stderr);
    assert!(
        run.stdout.contains("not in the audit log: ") && run.stdout.contains("would reboot: all kernels"),
        "{}",
        run.stdout
    );

    let overridden = machine().vf("ixgbevf");
    assert_eq!(overridden.run(&["reconcile", "--no-build"]).code, 3);
    assert_eq!(overridden.run(&["gate", "open", "--reason", "a test"]).code, 0);
    assert_eq!(overridden.run(&["reboot"]).code, 0);
    fs::remove_file(overridden.path(AUDIT)).unwrap();
    fs::create_dir_all(overridden.path(AUDIT)).unwrap();
    let run = overridden.run(&["reboot"]);
    assert!(run.code == 1 && run.stderr.contains("audit log"), "{} {}", run.code, run.stderr);
    let run = overridden.run(&["gate", "open", "--reason", "once more"]);
    assert!(run.code == 1 && run.stderr.contains("audit log"), "{} {}", run.code, run.stderr);
}
