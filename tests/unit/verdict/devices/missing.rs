//! A device that is missing: what is held on its account stays held, and what arrives meanwhile is refused.

use super::*;

const LATER: &str = "6.1.0-55-amd64";

#[test]
fn if_the_device_of_a_held_machine_is_missing_for_one_run_it_stays_held_until_the_driver_is_built() {
    let machine = held();
    unplug(&machine, ADDRESS);
    let run = machine.run(&["reconcile"]);
    assert_eq!(run.code, 3, "{}", said(&run));
    assert_closed(&machine, &run);
    assert!(run.stdout.contains(&format!("eth0 ({ADDRESS}, not there now) was in use")), "{}", said(&run));
    assert!(run.stdout.contains(&format!("vfguard decline --device {ADDRESS}")), "{}", said(&run));
    assert!(run.stdout.contains(&format!("device {ADDRESS} eth0, ena, not there now")), "{}", said(&run));
    let shown = machine.run(&["--format", "json", "check"]).json();
    assert_eq!((&shown["verdict"], &shown["gate"]), (&"unsafe".into(), &"closed".into()), "{shown}");
    assert_eq!(shown["kernels"][0]["devices"][0]["present"], false, "{shown}");
    plug(&machine, ADDRESS);
    let run = machine.run(&["reconcile"]);
    assert_eq!(run.code, 3, "{}", said(&run));
    let shown = machine.run(&["--format", "json", "check"]).json();
    assert!(shown["kernels"][0]["devices"][0].get("present").is_none(), "the contract's shape: {shown}");
    let machine = built(machine);
    assert_promoted(&machine, &machine.run(&["reconcile"]));
}

#[test]
fn a_missing_device_that_the_wanted_kernel_drives_delays_nothing() {
    let machine = built(held());
    unplug(&machine, ADDRESS);
    let run = machine.run(&["-v", "reconcile"]);
    assert_promoted(&machine, &run);
    assert!(run.stdout.contains("info: ") && run.stdout.contains("[device-missing]"), "{}", said(&run));
}

#[test]
fn a_device_that_is_missing_at_the_first_run_of_a_boot_is_waited_for_and_judged() {
    let machine = booted(held(), "two");
    unplug(&machine, ADDRESS);
    let run = machine.run(&["reconcile", "--no-build", "--from", "boot"]);
    assert_eq!(run.code, 3, "{}", said(&run));
    assert_closed(&machine, &run);
    assert!(run.stdout.contains("waited "), "{}", said(&run));
    plug(&machine, ADDRESS);
    let machine = built(machine);
    assert_promoted(&machine, &machine.run(&["reconcile"]));
}

#[test]
fn a_kernel_that_arrives_while_a_device_is_missing_is_refused() {
    let machine = built(machine());
    assert_eq!(machine.run(&["reconcile"]).code, 0);
    unplug(&machine, ADDRESS);
    assert_eq!(machine.run(&["reconcile"]).code, 0);
    let machine = machine.kernel(LATER).boot_entry(LATER).boot_default(LATER);
    let run = machine.run(&["reconcile", "--from", "postinst"]);
    assert_eq!(run.code, 3, "{}", said(&run));
    assert_closed(&machine, &run);
}

#[test]
fn a_device_at_another_address_counts_as_back() {
    let machine = held();
    unplug(&machine, ADDRESS);
    plug(&machine, "0000:00:07.0");
    let run = machine.run(&["reconcile"]);
    assert_eq!(run.code, 3, "{}", said(&run));
    assert!(!said(&run).contains("not there now"), "{}", said(&run));
    assert_eq!(remembered(&machine), ["0000:00:07.0"]);
}

#[test]
fn a_device_that_lost_its_driver_is_judged_by_its_record() {
    let machine = held();
    fs::remove_file(sysfs(&machine, ADDRESS).join("driver")).unwrap();
    fs::remove_dir_all(sysfs(&machine, ADDRESS).join("net")).unwrap();
    let run = machine.run(&["reconcile"]);
    assert_eq!(run.code, 3, "{}", said(&run));
    assert_closed(&machine, &run);
    assert!(run.stdout.contains(&format!("the network device {ADDRESS}, without a driver now")), "{}", said(&run));
}

#[test]
fn an_out_of_tree_driver_is_needed_while_its_device_is_only_missing() {
    let own = "ixgbevf.alias=pci:v00008086d000010EDsv*sd*bc*sc*i*\0ixgbevf.file=drivers/net/ixgbevf\0";
    let machine = machine().vf("ixgbevf").file("sys/module/ixgbevf/taint", "OE\n").offline();
    let machine = built(machine).file(&format!("lib/modules/{NEW}/modules.builtin.modinfo"), &format!("{DRIVER}{own}"));
    assert_eq!(machine.run(&["reconcile", "--no-build"]).code, 3);
    fs::remove_file(sysfs(&machine, "0000:00:03.0").join("driver")).unwrap();
    fs::remove_file(machine.path("sys/module/ixgbevf/taint")).unwrap();
    let run = machine.run(&["check", NEW]);
    assert_eq!(run.code, 3, "its own would do where none was in use: {}", said(&run));
    assert!(run.stdout.contains("an out-of-tree driver is wanted"), "{}", said(&run));
}

#[test]
fn a_kernel_that_runs_without_its_driver_is_no_hold_target() {
    // OLD works and has booted. NEW was started once, and lacks the driver.
    let machine = machine().boot_default(OLD);
    assert_eq!(machine.run(&["reconcile"]).code, 0);
    let machine = booted(machine, "two").file("proc/sys/kernel/osrelease", &format!("{NEW}\n"));
    fs::remove_file(sysfs(&machine, ADDRESS).join("driver")).unwrap();
    fs::remove_dir_all(sysfs(&machine, ADDRESS).join("net")).unwrap();
    let run = machine.run(&["reconcile", "--no-build", "--from", "boot"]);
    assert_eq!((run.code, machine.saved_entry().as_str()), (0, OLD), "{}", said(&run));
    // An error, so that nothing can be decided.
    let broken = machine.file("etc/vfguard/config.d/x.toml", "nonsense = 1\n");
    let run = broken.run(&["reconcile"]);
    assert_eq!((run.code, broken.saved_entry().as_str()), (1, OLD), "{}", said(&run));
    let run = broken.run(&["gate", "close", "--undecided"]);
    assert_eq!(broken.saved_entry(), OLD, "{}", said(&run));
    // Another kernel without the driver is the default now: the hold goes to the kernel that works, not to the running one.
    fs::remove_file(broken.path("etc/vfguard/config.d/x.toml")).unwrap();
    let machine = broken.kernel(LATER).boot_entry(LATER).boot_default(LATER);
    let run = machine.run(&["reconcile", "--no-build"]);
    assert_eq!((run.code, machine.saved_entry().as_str()), (3, OLD), "{}", said(&run));
}

#[test]
fn a_hold_without_any_device_and_without_the_record_is_undecided() {
    let machine = held();
    unplug(&machine, ADDRESS);
    fs::remove_file(machine.path(RECORD)).unwrap();
    let run = machine.run(&["reconcile"]);
    assert_eq!(run.code, 1, "{}", said(&run));
    assert_closed(&machine, &run);
    assert!(run.stdout.contains("[device-missing]"), "{}", said(&run));
    assert!(run.stdout.contains(&format!("vfguard decline {NEW}")), "{}", said(&run));
    // The device is back, so the next run decides. A person can decline without waiting for that.
    plug(&machine, ADDRESS);
    assert_eq!(machine.run(&["reconcile"]).code, 3);
    unplug(&machine, ADDRESS);
    fs::remove_file(machine.path(RECORD)).unwrap();
    assert_eq!(machine.run(&["decline", NEW]).code, 0);
    assert!(!machine.path(DROP_IN).exists() && machine.saved_entry() == OLD);
}
