//! `vfguard reboot`, and a reboot that is scheduled.

use super::*;

#[test]
fn a_scheduled_reboot_is_noticed_when_the_gate_closes() {
    let machine =
        bad(settled(), NEW).boot_default(NEW).file("run/systemd/shutdown/scheduled", "USEC=1700000000000000\nMODE=reboot\n");
    let run = machine.run(&["reconcile"]);
    assert_eq!(run.code, 3);
    let said = machine.run(&["reconcile"]).stdout;
    let told = fs::read_to_string(machine.path("run/motd.d/50-vfguard")).unwrap();
    for text in [&told, &run.stdout] {
        assert!(text.contains("2023-11-14T22:13:20Z") && text.contains("shutdown -c"), "{text}");
    }
    assert!(!said.contains("shutdown -c"), "said again by a run that changed nothing: {said}");
}

#[test]
fn reboot_checks_and_refuses_like_check() {
    assert_eq!(settled().run(&["reboot"]).code, 0);
    let machine = refused();
    let run = machine.run(&["reboot"]);
    assert_eq!(run.code, 3);
    assert!(run.stdout.contains(NEW), "{}", run.stdout);
    assert_eq!(gate(&machine), "closed");
}

#[test]
fn a_reboot_into_the_held_kernel_works_and_into_an_unsafe_next_one_does_not() {
    let machine = refused();
    let run = machine.run(&["reboot", "--held"]);
    assert_eq!(run.code, 0, "{}{}", run.stdout, run.stderr);
    assert!(run.stdout.contains(OLD), "{}", run.stdout);
    assert!(fs::read_to_string(machine.path("var/lib/vfguard/audit.log")).unwrap().contains("\"reboot\""));
    let machine = bad(settled(), NEW).boot_default(NEW);
    assert_ne!(machine.run(&["reboot", "--held"]).code, 0);
}

#[test]
fn only_an_override_that_covers_the_kernel_lets_the_reboot_through() {
    let machine = refused();
    assert_eq!(open(&machine, &["--kernel", NEW]).code, 0);
    let run = machine.run(&["reboot"]);
    assert_eq!(run.code, 0, "{}{}", run.stdout, run.stderr);
    let machine = refused();
    assert_eq!(open(&machine, &["--kernel", OLD]).code, 0);
    assert_eq!(machine.run(&["reboot"]).code, 3);
}

#[test]
fn a_reboot_waits_for_a_run_only_on_request() {
    use nix::fcntl::{Flock, FlockArg};
    let machine = settled();
    fs::create_dir_all(machine.path("run/vfguard")).unwrap();
    let file = fs::File::create(machine.path("run/vfguard/lock")).unwrap();
    let held = Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, e)| e).unwrap();
    assert_eq!(machine.run(&["reboot"]).code, 4);
    // The gate waits for no run.
    assert_eq!(machine.run(&["gate", "close"]).code, 0);
    assert_eq!(open(&machine, &[]).code, 0);
    let mut waiting = machine.command(&["reboot", "--wait"]).spawn().unwrap();
    std::thread::sleep(std::time::Duration::from_millis(300));
    assert!(waiting.try_wait().unwrap().is_none());
    drop(held);
    assert!(waiting.wait().unwrap().success());
}

#[test]
fn a_reboot_is_refused_where_the_next_boot_is_uncertain() {
    let machine = refused();
    fs::remove_file(machine.path("boot/grub2/grub.cfg")).unwrap();
    assert_ne!(machine.run(&["reboot", "--held"]).code, 0);
    assert_eq!(machine.run(&["reconcile"]).code, 3);
    assert_eq!(gate(&machine), "closed");
}
