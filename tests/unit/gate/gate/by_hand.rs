//! A gate that a person closed: with a reason it stays closed until a person opens it.

use super::*;

#[test]
fn a_gate_closed_by_hand_stays_closed_until_all_is_safe() {
    let machine = settled();
    let run = machine.run(&["gate", "close"]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert!(files(&machine));
    assert_eq!(machine.run(&["reconcile"]).code, 0);
    assert_eq!(gate(&machine), "open");
    let machine = refused();
    assert_eq!(open(&machine, &[]).code, 0);
    assert_eq!(machine.run(&["gate", "close"]).code, 0);
    assert_eq!(gate(&machine), "closed");
    assert_eq!(shown(&machine)["override"], serde_json::Value::Null);
}

#[test]
fn a_gate_closed_with_a_reason_stays_closed_until_a_person_opens_it() {
    let machine = settled();
    assert_eq!(machine.run(&["gate", "close", "--reason", ""]).code, 2);
    assert_eq!(machine.run(&["gate", "close", "--reason", "two\nlines"]).code, 2);
    assert!(!files(&machine), "a closing that is refused closed");
    let run = machine.run(&["gate", "close", "--reason", "change freeze until Monday"]);
    assert!(run.code == 0 && run.stdout.contains("change freeze until Monday"), "{}{}", run.stdout, run.stderr);
    let log = fs::read_to_string(machine.path("var/lib/vfguard/audit.log")).unwrap();
    assert!(log.contains("\"event\":\"close\"") && log.contains("\"reason\":\"change freeze until Monday\""), "{log}");
    let motd = fs::read_to_string(machine.path("run/motd.d/50-vfguard")).unwrap();
    assert!(motd.contains("an administrator closed the gate") && motd.contains("vfguard gate open --reason TEXT"), "{motd}");
    for by in ["a look", "a boot"] {
        if by == "a boot" {
            fs::remove_dir_all(machine.path("run")).unwrap();
        }
        for args in
            [&["reconcile"][..], &["reconcile", "--from", "99-install"], &["reconcile", "--no-build", "--from", "watch"]]
        {
            let run = machine.run(args);
            assert_eq!(run.code, 0, "all is safe: {}{}", run.stdout, run.stderr);
            assert!(files(&machine), "opened by {args:?} after {by}");
        }
        let check = machine.run(&["check"]);
        assert!(check.code == 0 && check.stdout.contains("the gate is closed by hand by uid "), "{}", check.stdout);
        assert!(check.stdout.contains("change freeze until Monday; to open it: vfguard gate open --reason TEXT"));
        let reboot = machine.run(&["reboot"]);
        assert!(
            reboot.code == 3 && reboot.stderr.contains("change freeze until Monday"),
            "{}{}",
            reboot.stdout,
            reboot.stderr
        );
        assert_eq!(machine.run(&["reboot", "--held"]).code, 3);
        assert!(files(&machine));
    }
    // An unsafe kernel is reported as an additional reason, and removed from the reasons once it is safe.
    let machine = bad(machine, NEW).boot_default(NEW);
    assert_eq!(machine.run(&["reconcile"]).code, 3);
    let reasons = shown(&machine)["reasons"].as_array().unwrap().clone();
    assert!(reasons.len() == 2 && reasons[0].as_str().unwrap().contains("freeze"), "{reasons:?}");
    let machine = good(machine, NEW);
    assert_eq!(machine.run(&["reconcile"]).code, 0);
    assert_eq!(machine.saved_entry(), NEW, "a freeze is about reboots: the boot default follows");
    let reasons = shown(&machine)["reasons"].as_array().unwrap().clone();
    assert!(files(&machine) && reasons.len() == 1 && reasons[0].as_str().unwrap().contains("freeze"), "{reasons:?}");
    // Opened as the remedy says; then the verdict decides again.
    assert_eq!(open(&machine, &[]).code, 0);
    assert!(!files(&machine));
    fs::remove_file(machine.path("run/vfguard/override.json")).unwrap();
    assert_eq!(machine.run(&["reconcile"]).code, 0);
    assert_eq!(gate(&machine), "open");
    // An unreadable record counts, and is opened in the same way.
    let machine = machine.file("var/lib/vfguard/closed-by-hand.json", "{");
    assert_eq!(machine.run(&["reconcile"]).code, 0);
    assert!(files(&machine) && shown(&machine)["reasons"][0].as_str().unwrap().contains("cannot be read"));
    assert_eq!(open(&machine, &[]).code, 0);
    assert!(!files(&machine) && !machine.path("var/lib/vfguard/closed-by-hand.json").exists());
    // It is removed together with vfguard.
    assert_eq!(machine.run(&["gate", "close", "--reason", "x"]).code, 0);
    assert_eq!(machine.run(&["gate", "remove"]).code, 0);
    assert!(!files(&machine) && !machine.path("var/lib/vfguard/closed-by-hand.json").exists());
}

#[test]
fn a_freeze_refuses_nothing_where_vfguard_does_not_act() {
    let machine = settled();
    assert_eq!(machine.run(&["gate", "close", "--reason", "freeze"]).code, 0);
    let machine = machine.file("etc/vfguard/config.toml", "mode = 'observe'\n");
    assert_eq!(machine.run(&["reconcile"]).code, 0);
    assert!(!files(&machine));
    let reboot = machine.run(&["reboot"]);
    assert!(reboot.code == 0 && reboot.stdout.contains("would reboot"), "{}{}", reboot.stdout, reboot.stderr);
    let machine = machine.file("etc/vfguard/config.toml", "");
    assert_eq!(machine.run(&["reconcile"]).code, 0);
    assert!(files(&machine), "the freeze is forgotten");
}

#[test]
fn an_order_beside_an_unsafe_kernel_is_reported_once_and_so_is_an_unreadable_one() {
    let log = |machine: &Machine| fs::read_to_string(machine.path("var/lib/vfguard/audit.log")).unwrap().lines().count();
    let machine = refused();
    assert_eq!(machine.run(&["gate", "close", "--reason", "freeze"]).code, 0);
    for record in [None, Some("{")] {
        record.iter().for_each(|text| fs::write(machine.path("var/lib/vfguard/closed-by-hand.json"), text).unwrap());
        assert_eq!(machine.run(&["reconcile", "--no-build"]).code, 3);
        let (lines, reasons) = (log(&machine), shown(&machine)["reasons"].clone());
        assert!(reasons.as_array().unwrap().len() == 2 && reasons[1].as_str().unwrap().contains(NEW), "{reasons}");
        for _ in 0..3 {
            assert_eq!(machine.run(&["reconcile", "--no-build"]).code, 3);
        }
        assert_eq!((log(&machine), &shown(&machine)["reasons"]), (lines, &reasons), "each run tells it anew");
    }
}
