//! Overrides: who opens, why, for how long, and what ends it.

use super::*;

const LATER: &str = "6.1.0-55-amd64";

#[test]
fn an_override_needs_a_reason_and_a_time_within_limits() {
    let machine = refused();
    for args in [
        &["gate", "open"][..],
        &["gate", "open", "--reason", ""],
        &["gate", "open", "--reason", " \t "],
        &["gate", "open", "--reason", "x", "--for", "25h"],
        &["gate", "open", "--reason", "x", "--for", "0s"],
        &["gate", "open", "--reason", "x", "--for", "soon"],
        &["gate", "open", "--reason", "x", "--for", "99999999999999999999y"],
    ] {
        assert_eq!(machine.run(args).code, 2, "{args:?}");
    }
    assert_eq!(machine.run(&["gate", "open", "--reason", "x", "--kernel", "9.9"]).code, 1);
    assert_eq!(gate(&machine), "closed");
    assert!(!audited(&machine, "override"));
}

#[test]
fn an_override_opens_is_reported_as_such_and_is_audited() {
    let machine = refused();
    let run = open(&machine, &["--for", "10m"]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert!(run.stdout.contains("the console is at hand"), "{}", run.stdout);
    assert!(!files(&machine));
    let value = shown(&machine);
    assert_eq!(value["gate"], "overridden");
    let over = &value["override"];
    assert_eq!(over["until"].as_i64().unwrap() - over["since"].as_i64().unwrap(), 600);
    let log = fs::read_to_string(machine.path("var/lib/vfguard/audit.log")).unwrap();
    let line = log.lines().find(|line| line.contains("\"override\"")).unwrap();
    let line: serde_json::Value = serde_json::from_str(line).unwrap();
    assert_eq!((&line["event"], &line["reason"]), (&"override".into(), &"the console is at hand".into()));
    assert!(line["uid"].is_u64() && line["until"].is_string());
    // `check` does not respect it, and a hook leaves it in force.
    assert_eq!(machine.run(&["check"]).code, 3);
    assert_eq!(machine.run(&["reconcile"]).code, 3);
    assert_eq!(gate(&machine), "overridden");
}

#[test]
fn a_kernel_that_the_override_did_not_name_closes_the_gate_again() {
    let machine = refused();
    assert_eq!(open(&machine, &[]).code, 0);
    let machine = bad(machine, LATER).boot_default(LATER);
    assert_eq!(machine.run(&["reconcile"]).code, 3);
    assert_eq!(gate(&machine), "closed");
    // The override has ended, and the removal of the other kernel does not revive it.
    fs::remove_file(machine.path(&format!("boot/vmlinuz-{LATER}"))).unwrap();
    fs::remove_dir_all(machine.path(&format!("lib/modules/{LATER}"))).unwrap();
    fs::remove_file(machine.path(&format!("boot/loader/entries/0123456789abcdef0123456789abcdef-{LATER}.conf"))).unwrap();
    let machine = machine.boot_default(NEW);
    assert_eq!(machine.run(&["reconcile"]).code, 3);
    assert_eq!(gate(&machine), "closed");
}

#[test]
fn an_expired_override_does_not_count_and_the_next_look_closes() {
    let machine = refused();
    assert_eq!(open(&machine, &[]).code, 0);
    let path = machine.path("run/vfguard/override.json");
    let mut over: serde_json::Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    over["until"] = 1.into();
    fs::write(&path, over.to_string()).unwrap();
    assert_ne!(gate(&machine), "overridden");
    assert_eq!(machine.run(&["reconcile"]).code, 3);
    assert_eq!(gate(&machine), "closed");
}

#[test]
fn an_override_that_names_the_held_off_kernel_lets_it_become_the_default() {
    let machine = refused();
    assert_eq!(machine.saved_entry(), OLD, "the default was not held");
    let run = open(&machine, &["--kernel", NEW]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert_eq!(machine.saved_entry(), NEW);
    assert_eq!(machine.run(&["reconcile"]).code, 3);
    assert_eq!((machine.saved_entry().as_str(), gate(&machine).as_str()), (NEW, "overridden"));
}

#[test]
fn an_override_covers_a_kernel_with_an_image_but_no_modules() {
    let machine = bad(settled(), NEW).boot_default(NEW);
    fs::remove_dir_all(machine.path(&format!("lib/modules/{NEW}"))).unwrap();
    assert_eq!(machine.run(&["reconcile"]).code, 3);
    assert!(files(&machine));
    let run = machine.run(&["gate", "open", "--reason", "it needs none"]);
    assert_eq!((run.code, files(&machine)), (0, false), "{}{}", run.stdout, run.stderr);
}
