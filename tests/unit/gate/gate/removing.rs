//! `gate remove`: neither gate nor override is left.

use super::*;

#[test]
fn removing_leaves_neither_gate_nor_override_and_needs_no_reason() {
    for overridden in [false, true] {
        let machine = refused();
        if overridden {
            assert_eq!(open(&machine, &[]).code, 0);
        }
        let run = machine.run(&["gate", "remove"]);
        assert_eq!(run.code, 0, "{}", run.stderr);
        assert!(run.stdout.contains(OLD), "that the default stays held is not said: {}", run.stdout);
        assert!(!files(&machine) && !machine.path("run/motd.d/50-vfguard").exists());
        assert_eq!(fs::read_dir(machine.path("run/systemd/system")).unwrap().count(), 0);
        assert_eq!((gate(&machine), &shown(&machine)["override"]), ("open".into(), &serde_json::Value::Null));
        assert!(audited(&machine, "remove") && audited(&machine, "override") == overridden);
        assert_eq!(machine.run(&["gate", "remove"]).code, 0, "twice");
    }
    let machine = refused();
    fs::remove_file(machine.path("var/lib/vfguard/audit.log")).unwrap();
    fs::create_dir_all(machine.path("var/lib/vfguard/audit.log")).unwrap();
    assert_eq!(machine.run(&["gate", "remove"]).code, 0, "an audit log that cannot be written keeps the gate");
    assert!(!files(&machine));
}

#[test]
fn an_order_that_cannot_be_ended_does_not_keep_the_gate_from_being_removed() {
    let machine = refused();
    fs::create_dir_all(machine.path("var/lib/vfguard/closed-by-hand.json/x")).unwrap();
    let run = machine.run(&["gate", "remove"]);
    assert!(run.code == 1 && run.stderr.contains("closed-by-hand.json"), "{}{}", run.stdout, run.stderr);
    assert!(!files(&machine), "the gate stays closed");
    let told = run.stdout + &run.stderr;
    assert!(told.contains("the boot default stays on"), "what comes after it is left out: {told}");
}

#[test]
fn an_order_that_comes_while_the_gate_is_being_removed_stays() {
    use nix::fcntl::{Flock, FlockArg};
    let machine = refused();
    assert_eq!(machine.run(&["gate", "close", "--reason", "A"]).code, 0);
    // Removing waits here once the gate is open.
    let file = fs::File::options().create(true).append(true).open(machine.path("run/vfguard/boot.lock")).unwrap();
    let held = Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, e)| e).unwrap();
    let mut removing = machine.command(&["gate", "remove"]).spawn().unwrap();
    let any = || machine.path(DROP_IN).exists() || machine.path(UNIT).symlink_metadata().is_ok();
    while any() {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    assert_eq!(machine.run(&["gate", "close", "--reason", "B"]).code, 0);
    drop(held);
    assert!(removing.wait().unwrap().success());
    assert!(files(&machine) && shown(&machine)["reasons"][0].as_str().unwrap().ends_with(": B"), "{}", shown(&machine));
    assert_eq!(machine.run(&["reconcile", "--no-build"]).code, 3);
    assert!(shown(&machine)["reasons"][0].as_str().unwrap().ends_with(": B"), "{}", shown(&machine));
}
