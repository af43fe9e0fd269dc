//! The list of devices in use: when it is written, and what is not in it.

use super::*;

#[test]
fn failing_to_remember_devices_is_a_line_and_does_not_change_the_verdict() {
    let machine = built(machine()).file("var/lib/vfguard/records/devices.json/in-its-place", "");
    let run = machine.run(&["reconcile"]);
    assert_promoted(&machine, &run);
    assert!(run.stdout.contains("remembering the network devices in use: "), "{}", said(&run));
    let machine = self::machine().file("var/lib/vfguard/records/devices.json/in-its-place", "");
    let run = machine.run(&["reconcile"]);
    assert_eq!(run.code, 3, "{}", said(&run));
    assert_closed(&machine, &run);
}

#[test]
fn the_record_is_written_only_if_anything_is_new_and_only_by_runs_that_decide() {
    let machine = built(machine());
    assert_eq!(machine.run(&["check"]).code, 0);
    assert!(!machine.path(RECORD).exists());
    let written = || fs::metadata(machine.path(RECORD)).unwrap().modified().unwrap();
    assert_eq!(machine.run(&["reconcile"]).code, 0);
    let first = written();
    assert_eq!(machine.run(&["reconcile"]).code, 0);
    assert_eq!(written(), first, "nothing is new");
    unplug(&machine, ADDRESS);
    assert_eq!(machine.run(&["reconcile"]).code, 0);
    assert_eq!(written(), first, "nothing is new within the boot in which it was there");
    fs::write(machine.path("proc/sys/kernel/random/boot_id"), "two\n").unwrap();
    assert_eq!(machine.run(&["check"]).code, 0);
    assert_eq!(written(), first, "a check changes nothing");
    assert_eq!(machine.run(&["reconcile"]).code, 0);
    assert_ne!(written(), first);
}

#[test]
fn virtual_interfaces_are_not_remembered() {
    let machine = built(machine());
    for name in ["veth1a2b", "docker0", "br0"] {
        fs::create_dir_all(machine.path("sys/class/net").join(name)).unwrap();
    }
    assert_eq!(machine.run(&["reconcile"]).code, 0);
    assert_eq!(remembered(&machine), [ADDRESS]);
}

#[test]
fn a_machine_that_never_had_a_network_device_is_not_held_for_one() {
    let machine = machine();
    fs::remove_dir_all(sysfs(&machine, ADDRESS)).unwrap();
    let entry = machine.path(&format!("boot/loader/entries/{}-{NEW}.conf", machine::MACHINE_ID));
    fs::write(&entry, fs::read_to_string(&entry).unwrap() + "initrd /initrd\n").unwrap();
    assert_eq!(machine.run(&["reconcile"]).code, 3, "it has no initramfs");
    assert_eq!(machine.saved_entry(), OLD);
    let machine = machine.file("boot/initrd", &machine::ramdisk());
    assert_promoted(&machine, &machine.run(&["reconcile"]));
}
