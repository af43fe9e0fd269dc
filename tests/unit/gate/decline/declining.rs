//! What `decline` and `accept` do, and what they refuse.

use super::*;

#[test]
fn only_declined_kernels_can_be_accepted_and_declined_ones_are_listed() {
    let machine = refused();
    let run = machine.run(&["accept", NEW]);
    assert!(run.code == 1 && run.stderr.contains("declined: none"), "{}", said(&run));
    // A kernel that is not about to boot can be declined too.
    let machine = bad(machine, LATER);
    assert_eq!(machine.run(&["decline", LATER]).code, 0);
    let run = machine.run(&["accept", OLD]);
    assert!(run.code == 1 && run.stderr.contains(&format!("{OLD} is not declined (declined: {LATER})")), "{}", said(&run));
    assert_eq!(gate(&machine), "closed");
    assert!(!audit(&machine).contains("\"accept\""));
}

#[test]
fn declining_keeps_the_held_default_and_opens() {
    let machine = refused();
    let run = machine.run(&["decline", NEW, "--reason", "waits for the next driver"]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert_eq!((gate(&machine).as_str(), machine.saved_entry().as_str()), ("open", OLD));
    assert_eq!(machine.run(&["check"]).code, 0);
    assert_eq!(machine.run(&["reconcile"]).code, 0);
    let log = audit(&machine);
    assert!(log.contains("\"decline\"") && log.contains(NEW) && log.contains("waits for the next driver"), "{log}");
}

#[test]
fn a_running_or_missing_kernel_cannot_be_declined() {
    let machine = refused();
    for kernel in [OLD, "9.9.9"] {
        assert_eq!(machine.run(&["decline", kernel]).code, 1, "{kernel}");
    }
    assert_eq!(gate(&machine), "closed");
    assert!(!audit(&machine).contains("\"decline\"") && !machine.path(RECORD).exists());
}

#[test]
fn declining_the_next_kernel_moves_the_default_first() {
    let machine = bad(settled(), NEW).boot_default(NEW);
    assert_eq!(machine.run(&["decline", NEW]).code, 0);
    assert_eq!((gate(&machine).as_str(), machine.saved_entry().as_str()), ("open", OLD));
    assert_eq!(machine.run(&["reconcile"]).code, 0);
    assert_eq!(machine.saved_entry(), OLD);
}

#[test]
fn declining_a_kernel_that_is_both_one_shot_and_default_removes_both() {
    let machine = bad(settled(), NEW).boot_default(NEW);
    let env = machine.path("boot/grub2/grubenv");
    let block = fs::read_to_string(&env).unwrap();
    let saved = block.lines().find(|l| l.starts_with("saved_entry=")).unwrap();
    let once = saved.replace("saved_entry", "next_entry");
    fs::write(&env, format!("# GRUB Environment Block\n{saved}\n{once}\n{:#<1$}", "", 1024 - 27 - saved.len() - once.len()))
        .unwrap();
    assert_eq!(machine.run(&["decline", NEW]).code, 0);
    assert_eq!((gate(&machine).as_str(), machine.saved_entry().as_str()), ("open", OLD));
    assert_eq!(machine.run(&["check"]).code, 0);
}

#[test]
fn declining_a_safe_kernel_in_favour_of_an_unsafe_one_closes_the_gate() {
    let machine = good(settled(), NEW).boot_default(NEW).file(&format!("lib/modules/{OLD}/modules.builtin.modinfo"), "");
    let run = machine.run(&["decline", NEW]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert_eq!((gate(&machine).as_str(), machine.saved_entry().as_str()), ("closed", OLD));
    assert!(run.stdout.contains("what may boot now is not safe"), "{}", run.stdout);
}
