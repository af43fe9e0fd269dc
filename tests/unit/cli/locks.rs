//! The lock of a run, if something cleans `/run` while it is held.

#[path = "../../machine/mod.rs"]
mod machine;

use machine::Machine;
use nix::fcntl::{Flock, FlockArg};
use std::fs::{self, File};
use std::process::Stdio;
use std::time::Duration;

const OLD: &str = "5.14.0-1.el9.x86_64";
const NEW: &str = "5.14.0-2.el9.x86_64";
const GATE: &str = "run/systemd/system/reboot.target.d/50-vfguard.conf";

/// NEW is wanted and was not safe. Now it is, and the next run promotes it and opens the gate.
fn about_to_open() -> Machine {
    let machine = Machine::new().grub().kernel(OLD).boot_entry(OLD).running(OLD).kernel(NEW).boot_entry(NEW);
    let machine = machine.boot_default(NEW);
    let entry = machine.path("boot/loader/entries").join(format!("{}-{NEW}.conf", machine::MACHINE_ID));
    let text = fs::read_to_string(&entry).unwrap() + &format!("initrd /initramfs-{NEW}.img\n");
    fs::write(&entry, text).unwrap();
    let run = machine.run(&["reconcile"]);
    assert!(run.code == 3 && machine.path(GATE).is_file(), "{}{}", run.stdout, run.stderr);
    machine.file(&format!("boot/initramfs-{NEW}.img"), &machine::ramdisk())
}

fn is_held(machine: &Machine) -> bool {
    File::open(machine.path("run/vfguard/lock")).is_ok_and(|file| Flock::lock(file, FlockArg::LockSharedNonblock).is_err())
}

fn until(what: &str, mut there: impl FnMut() -> bool) {
    for _ in 0..600 {
        if there() {
            return;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    panic!("{what} did not come");
}

#[test]
fn of_two_runs_that_hold_the_lock_the_one_whose_file_was_removed_neither_promotes_nor_opens() {
    let machine = about_to_open();
    // Both stop here, each holding the lock of a build.
    let boot = File::options().write(true).open(machine.path("run/vfguard/boot.lock")).unwrap();
    let boot = Flock::lock(boot, FlockArg::LockExclusive).map_err(|(_, e)| e).unwrap();
    let start = || machine.command(&["reconcile"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let first = start();
    until("the first run's lock", || is_held(&machine));
    fs::remove_file(machine.path("run/vfguard/lock")).unwrap();
    let second = start();
    until("the second run's lock", || is_held(&machine));
    drop(boot);
    let first: machine::Run = first.wait_with_output().unwrap().into();
    let second: machine::Run = second.wait_with_output().unwrap().into();
    assert_eq!(first.code, 4, "{}{}", first.stdout, first.stderr);
    assert!(first.stderr.contains("was removed while this run held it"), "{}", first.stderr);
    assert!(first.stderr.contains("vfguard reconcile"), "no remedy: {}", first.stderr);
    assert_eq!(second.code, 0, "{}{}", second.stdout, second.stderr);
    assert!(machine.saved_entry().contains(NEW) && !machine.path(GATE).exists(), "{}", second.stdout);
}

#[test]
fn a_run_whose_lock_is_cleaned_away_with_its_directory_leaves_the_gate_closed() {
    let machine = about_to_open();
    let boot = File::options().write(true).open(machine.path("run/vfguard/boot.lock")).unwrap();
    let _boot = Flock::lock(boot, FlockArg::LockExclusive).map_err(|(_, e)| e).unwrap();
    let run = machine.command(&["reconcile"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    until("the run's lock", || is_held(&machine));
    // In one step, so that the run finds all files or none. It then goes on, because the boot default's lock is a new file too.
    fs::rename(machine.path("run/vfguard"), machine.path("run/cleaned")).unwrap();
    let run: machine::Run = run.wait_with_output().unwrap().into();
    assert_eq!(run.code, 4, "{}{}", run.stdout, run.stderr);
    assert!(machine.path(GATE).is_file() && machine.saved_entry().contains(OLD), "{}", run.stdout);
    assert_eq!(machine.run(&["reconcile"]).code, 0);
    assert!(machine.saved_entry().contains(NEW) && !machine.path(GATE).exists());
}
