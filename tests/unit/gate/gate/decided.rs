//! What a run decides: unsafe or undecided closes, safe opens.

use super::*;

#[test]
fn an_unsafe_kernel_closes_the_gate_and_its_driver_opens_it_again() {
    let machine = refused();
    assert!(files(&machine));
    let value = shown(&machine);
    assert_eq!(
        (&value["schema"], &value["gate"], &value["override"]),
        (&1.into(), &"closed".into(), &serde_json::Value::Null)
    );
    assert!(value["reasons"][0].as_str().unwrap().contains(NEW), "{value}");
    assert!(fs::read_to_string(machine.path("run/motd.d/50-vfguard")).unwrap().contains(NEW));
    let machine = good(machine, NEW);
    assert_eq!(machine.run(&["reconcile"]).code, 0);
    assert_eq!(gate(&machine), "open");
    assert!(!files(&machine) && !machine.path("run/motd.d/50-vfguard").exists());
    assert_eq!(machine.saved_entry(), NEW);
}

#[test]
fn a_gate_that_somebody_damaged_is_noticed_and_closed_again() {
    let machine = refused();
    fs::remove_file(machine.path("run/systemd/system/systemd-reboot.service.d/50-vfguard.conf")).unwrap();
    assert_eq!(gate(&machine), "open");
    assert_eq!(machine.run(&["reconcile"]).code, 3);
    assert_eq!(gate(&machine), "closed");
}

#[test]
fn a_partly_closed_gate_is_removed_once_all_is_safe() {
    let machine = settled().file(DROP_IN, "[Unit]\nRequires=left-over.service\n");
    assert_eq!(machine.run(&["reconcile"]).code, 0);
    assert!(!machine.path(DROP_IN).exists(), "a left-over drop-in still refuses reboots");
}

#[test]
fn an_error_closes_the_gate_and_broken_settings_do_not_keep_it_from_opening() {
    let machine = settled().file("etc/vfguard/config.toml", "mode = [[[");
    assert_eq!(machine.run(&["reconcile"]).code, 1);
    let value = shown(&machine);
    assert_eq!(value["gate"], "closed");
    assert!(value["reasons"][0].as_str().unwrap().contains("config.toml"), "{value}");
    assert_eq!(open(&machine, &[]).code, 0);
    assert_eq!(gate(&machine), "overridden");
    assert_eq!(machine.run(&["reconcile", "--no-such-option"]).code, 2);
}

#[test]
fn a_run_that_died_closes_the_gate_but_respects_an_override() {
    let machine = settled();
    assert_eq!(machine.run(&["gate", "close", "--undecided"]).code, 0);
    assert!(shown(&machine)["reasons"][0].as_str().unwrap().contains("ended without a decision"));
    assert_eq!(machine.run(&["reconcile"]).code, 0);
    assert_eq!(gate(&machine), "open", "the next decision opens it");
    let machine = refused();
    let before = shown(&machine);
    assert_eq!(machine.run(&["gate", "close", "--undecided"]).code, 0);
    assert_eq!(shown(&machine), before, "the reasons are lost");
    assert_eq!(open(&machine, &[]).code, 0);
    assert_eq!(machine.run(&["gate", "close", "--undecided"]).code, 0);
    assert_eq!(gate(&machine), "overridden");
    let machine = settled().file("etc/vfguard/config.toml", "mode = 'observe'\n");
    assert_eq!(machine.run(&["gate", "close", "--undecided"]).code, 0, "what policy leaves open is no failure");
    assert_eq!(gate(&machine), "open");
}

#[test]
fn deciding_without_building_closes_at_once_and_builds_nothing() {
    let machine = Machine::new().grub().file("etc/os-release", "ID=rhel\nVERSION_ID=9.4\nID_LIKE=fedora\n");
    let machine = machine.vf("ixgbevf").running(OLD).kernel(OLD).boot_entry(OLD).boot_default(OLD).offline();
    let run = machine.run(&["reconcile", "--no-build", "--from", "boot"]);
    assert_eq!(run.code, 3, "{}", run.stderr);
    assert_eq!(gate(&machine), "closed");
    assert!(!machine.path("var/lib/vfguard/log").exists(), "something was built");
}

#[test]
fn an_unsafe_kernel_is_refused_while_another_run_still_builds() {
    use nix::fcntl::{Flock, FlockArg};
    let machine = bad(settled(), NEW).boot_default(NEW).file("etc/vfguard/config.d/1.toml", "[hook]\nlock_timeout = 0\n");
    fs::create_dir_all(machine.path("run/vfguard")).unwrap();
    let file = fs::File::create(machine.path("run/vfguard/lock")).unwrap();
    let held = Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, e)| e).unwrap();
    assert_eq!(machine.run(&["reconcile"]).code, 4);
    assert_eq!(gate(&machine), "closed");
    drop(held);
}

#[test]
fn a_full_grubenv_is_not_to_be_removed_and_the_remedy_names_an_existing_program() {
    let machine = bad(settled(), NEW).boot_default(NEW);
    let grubenv = machine.path("boot/grub2/grubenv");
    // Another tool's variable uses nearly all of the space, as the kernel command line may on EL8.
    let text = fs::read_to_string(&grubenv).unwrap();
    let saved = text.lines().find(|line| line.starts_with("saved_entry=")).unwrap();
    let head = format!("# GRUB Environment Block\n{saved}\nkernelopts=");
    let full = format!("{head}{}\n", "x".repeat(1024 - head.len() - 1));
    fs::write(&grubenv, full).unwrap();
    let run = machine.run(&["reconcile"]);
    let said = format!("{}{}", run.stdout, run.stderr);
    assert!(run.code == 3 && files(&machine), "{said}");
    assert!(said.contains("it is full") && said.contains("grub2-editenv /boot/grub2/grubenv unset"), "{said}");
    assert!(!said.contains("rm /boot"), "{said}");
}
