//! The audit log: it only grows, and refusing does not need it.

use super::*;

#[test]
fn closing_by_hand_does_not_depend_on_the_audit_log() {
    let machine = settled();
    fs::create_dir_all(machine.path("var/lib/vfguard/audit.log")).unwrap();
    assert_eq!(machine.run(&["gate", "close"]).code, 1);
    assert!(files(&machine));
}

#[test]
fn the_audit_log_only_ever_grows() {
    use std::os::unix::fs::MetadataExt;
    let machine = refused();
    let path = machine.path("var/lib/vfguard/audit.log");
    let inode = fs::metadata(&path).unwrap().ino();
    let mut before = fs::read(&path).unwrap();
    let steps: [&[&str]; 6] = [
        &["gate", "open", "--reason", "one"],
        &["reboot"],
        &["gate", "close"],
        &["gate", "remove"],
        &["decline", NEW, "--reason", "two"],
        &["reboot"],
    ];
    for args in steps {
        assert_eq!(machine.run(args).code, 0, "{args:?}");
        let after = fs::read(&path).unwrap();
        assert!(after.len() > before.len() && after.starts_with(&before), "{args:?}");
        assert_eq!(fs::metadata(&path).unwrap().ino(), inode, "{args:?}: another file took its place");
        before = after;
    }
}
