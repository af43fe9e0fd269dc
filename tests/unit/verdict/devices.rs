//! A network device that is missing proves nothing: what is held and closed on its account stays so until it is back, or gone for good.

#[path = "../../machine/mod.rs"]
mod machine;

use machine::{Machine, Run};
use std::fs;
use std::path::PathBuf;
use vfguard::config::Config;
use vfguard::finding::Verdict;
use vfguard::host::Host;
use vfguard::verdict::survey::Survey;

const OLD: &str = "6.1.0-53-amd64";
const NEW: &str = "6.1.0-54-amd64";
const LATER: &str = "6.1.0-55-amd64";
const NIC: &str = "pci:v00001D0Fd0000EC20sv00001D0Fsd0000EC20bc02sc00i00";
const DRIVER: &str = "ena.alias=pci:v00001D0Fd0000EC20sv*sd*bc*sc*i*\0ena.file=drivers/net/ena\0";
/// Another card, which every kernel here drives.
const OTHER: &str = "pci:v00008086d00001521sv00008086sd00000000bc02sc00i00";
const OTHER_DRIVER: &str = "igb.alias=pci:v00008086d00001521sv*sd*bc*sc*i*\0igb.file=drivers/net/igb\0";
const ADDRESS: &str = "0000:00:05.0";
const DROP_IN: &str = "run/systemd/system/reboot.target.d/50-vfguard.conf";
const RECORD: &str = "var/lib/vfguard/records/devices.json";

/// OLD runs and drives the card; NEW is the boot default and does not.
fn machine() -> Machine {
    let machine = Machine::new()
        .grub()
        .kernel(OLD)
        .kernel(NEW)
        .boot_entry(OLD)
        .boot_entry(NEW)
        .boot_default(NEW)
        .device(ADDRESS, NIC, Some("ena"))
        .file(&format!("lib/modules/{OLD}/modules.builtin.modinfo"), &format!("{DRIVER}{OTHER_DRIVER}"))
        .file(&format!("lib/modules/{NEW}/modules.builtin.modinfo"), OTHER_DRIVER)
        .file("proc/sys/kernel/osrelease", &format!("{OLD}\n"));
    booted(machine, "one")
}

/// The same, held and closed on account of the card.
fn held() -> Machine {
    let machine = machine();
    let run = machine.run(&["reconcile"]);
    assert_eq!(run.code, 3, "{}", said(&run));
    assert_closed(&machine, &run);
    machine
}

/// In a boot of this name, before anything has run.
fn booted(machine: Machine, boot: &str) -> Machine {
    let _ = fs::remove_dir_all(machine.path("run"));
    machine.file("proc/sys/kernel/random/boot_id", &format!("{boot}\n"))
}

/// NEW drives the card as well.
fn built(machine: Machine) -> Machine {
    machine.file(&format!("lib/modules/{NEW}/modules.builtin.modinfo"), &format!("{DRIVER}{OTHER_DRIVER}"))
}

fn sysfs(machine: &Machine, address: &str) -> PathBuf {
    machine.path("sys/bus/pci/devices").join(address)
}

fn unplug(machine: &Machine, address: &str) {
    fs::rename(sysfs(machine, address), machine.path("unplugged")).unwrap();
}

fn plug(machine: &Machine, address: &str) {
    fs::rename(machine.path("unplugged"), sysfs(machine, address)).unwrap();
}

/// With the other card, as eth1.
fn other(machine: Machine) -> Machine {
    let machine = machine.device("0000:00:06.0", OTHER, Some("igb"));
    let net = sysfs(&machine, "0000:00:06.0").join("net");
    fs::rename(net.join("eth0"), net.join("eth1")).unwrap();
    machine
}

/// With the default route on an interface.
fn routed(machine: Machine, interface: &str) -> Machine {
    machine.file(
        "proc/net/route",
        &format!(
            "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n\
             {interface}\t00000000\t0100000A\t0003\t0\t0\t100\t00000000\t0\t0\t0\n"
        ),
    )
}

fn said(run: &Run) -> String {
    format!("{}{}", run.stdout, run.stderr)
}

fn assert_closed(machine: &Machine, run: &Run) {
    assert_eq!(machine.saved_entry(), OLD, "not held: {}", said(run));
    assert!(machine.path(DROP_IN).exists(), "not closed: {}", said(run));
}

fn assert_promoted(machine: &Machine, run: &Run) {
    assert_eq!((run.code, machine.saved_entry().as_str()), (0, NEW), "{}", said(run));
    assert!(!machine.path(DROP_IN).exists(), "{}", said(run));
}

fn remembered(machine: &Machine) -> Vec<String> {
    let record: serde_json::Value = serde_json::from_slice(&fs::read(machine.path(RECORD)).unwrap()).unwrap();
    record["devices"].as_array().unwrap().iter().map(|d| d["address"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_held_machine_whose_device_is_missing_for_one_run_stays_held_until_the_driver_is_built() {
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
fn a_device_that_is_missing_and_that_the_wanted_kernel_drives_holds_nothing_up() {
    let machine = built(held());
    unplug(&machine, ADDRESS);
    let run = machine.run(&["-v", "reconcile"]);
    assert_promoted(&machine, &run);
    assert!(run.stdout.contains("info: ") && run.stdout.contains("[device-missing]"), "{}", said(&run));
}

#[test]
fn a_device_that_is_missing_at_the_first_run_of_the_next_boot_is_waited_for_and_judged() {
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
fn hardware_that_really_changed_is_judged_by_what_it_has_now() {
    let machine = other(booted(held(), "two"));
    fs::remove_dir_all(sysfs(&machine, ADDRESS)).unwrap();
    // The network is not up yet.
    let run = machine.run(&["reconcile"]);
    assert_eq!(run.code, 3, "{}", said(&run));
    assert_closed(&machine, &run);
    let state = "sys/bus/pci/devices/0000:00:06.0/net/eth1/operstate";
    let machine = routed(machine, "eth1").file(state, "down\n");
    assert_eq!(machine.run(&["reconcile"]).code, 3, "a route alone carries nothing");
    let machine = machine.file(state, "up\n");
    // Early at boot what is missing may still come.
    let (host, config) = (Host::new(machine.root()).unwrap(), Config::default());
    assert_eq!(Survey::at_boot(&host, &config).unwrap().judge().verdict, Verdict::Unsafe);
    let run = machine.run(&["reconcile"]);
    assert_promoted(&machine, &run);
    let told = format!("eth0 ({ADDRESS}, ena) is gone; eth1 (0000:00:06.0, igb) works in its place");
    assert!(run.stdout.contains(&told), "{}", said(&run));
    assert_eq!(remembered(&machine), ["0000:00:06.0"]);
    assert!(!machine.run(&["reconcile"]).stdout.contains("in its place"), "told again");
}

#[test]
fn the_default_route_of_a_bond_is_that_of_its_port() {
    let machine = routed(other(booted(held(), "two")), "bond0");
    unplug(&machine, ADDRESS);
    fs::create_dir_all(machine.path("sys/class/net/eth1")).unwrap();
    assert_eq!(machine.run(&["reconcile"]).code, 3);
    std::os::unix::fs::symlink("../bond0", machine.path("sys/class/net/eth1/master")).unwrap();
    assert_promoted(&machine, &machine.run(&["reconcile"]));
}

#[test]
fn a_second_device_that_was_there_all_along_stands_for_no_other() {
    let machine = routed(other(machine()), "eth1");
    assert_eq!(machine.run(&["reconcile"]).code, 3);
    let machine = booted(machine, "two");
    unplug(&machine, ADDRESS);
    let run = machine.run(&["reconcile"]);
    assert_eq!(run.code, 3, "{}", said(&run));
    assert_closed(&machine, &run);
    assert_eq!(remembered(&machine), [ADDRESS, "0000:00:06.0"]);
    // That one missing instead refuses nothing: each kernel drives it.
    plug(&machine, ADDRESS);
    unplug(&machine, "0000:00:06.0");
    let machine = built(machine);
    assert_promoted(&machine, &machine.run(&["reconcile"]));
}

#[test]
fn a_device_that_is_back_at_another_address_is_back() {
    let machine = held();
    unplug(&machine, ADDRESS);
    plug(&machine, "0000:00:07.0");
    let run = machine.run(&["reconcile"]);
    assert_eq!(run.code, 3, "{}", said(&run));
    assert!(!said(&run).contains("not there now"), "{}", said(&run));
    assert_eq!(remembered(&machine), ["0000:00:07.0"]);
}

#[test]
fn a_device_that_lost_its_driver_is_judged_as_it_was() {
    let machine = held();
    fs::remove_file(sysfs(&machine, ADDRESS).join("driver")).unwrap();
    fs::remove_dir_all(sysfs(&machine, ADDRESS).join("net")).unwrap();
    let run = machine.run(&["reconcile"]);
    assert_eq!(run.code, 3, "{}", said(&run));
    assert_closed(&machine, &run);
    assert!(run.stdout.contains(&format!("the network device {ADDRESS}, without a driver now")), "{}", said(&run));
}

#[test]
fn an_out_of_tree_driver_is_wanted_as_long_as_its_device_is_only_missing() {
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
fn a_device_that_was_missing_in_three_boots_is_gone_where_another_one_works() {
    let machine = routed(other(machine()), "eth1");
    assert_eq!(machine.run(&["reconcile"]).code, 3);
    unplug(&machine, ADDRESS);
    let mut machine = machine;
    for boot in ["two", "three"] {
        machine = booted(machine, boot);
        assert_eq!(machine.run(&["reconcile"]).code, 3);
        assert_eq!(machine.run(&["reconcile"]).code, 3, "a boot counts once");
    }
    machine = booted(machine, "four");
    // Early in the boot it may still come.
    let early = machine.run(&["reconcile", "--no-build", "--from", "boot"]);
    assert_eq!(early.code, 3, "{}", said(&early));
    let run = machine.run(&["reconcile"]);
    assert_promoted(&machine, &run);
    assert!(run.stdout.contains(&format!("eth0 ({ADDRESS}, ena) is not counted any more")), "{}", said(&run));
    assert_eq!(remembered(&machine), ["0000:00:06.0"]);
}

#[test]
fn restarts_of_a_machine_that_is_cut_off_prove_nothing() {
    let machine = held();
    unplug(&machine, ADDRESS);
    let mut machine = machine;
    for boot in ["two", "three", "four", "five", "six"] {
        machine = booted(machine, boot);
        for args in
            [&["reconcile", "--no-build", "--from", "boot"] as &[&str], &["reconcile", "--no-build", "--from", "timer"]]
        {
            let run = machine.run(args);
            assert_eq!(run.code, 3, "{boot}: {}", said(&run));
            assert_closed(&machine, &run);
        }
    }
    // Who takes all network away says so.
    let run = machine.run(&["decline", "--device", ADDRESS]);
    assert_promoted(&machine, &machine.run(&["reconcile"]));
    assert_eq!(run.code, 0, "{}", said(&run));
}

#[test]
fn a_kernel_that_runs_without_its_driver_is_no_hold_target() {
    // OLD works and has booted; NEW was started once, and lacks the driver.
    let machine = machine().boot_default(OLD);
    assert_eq!(machine.run(&["reconcile"]).code, 0);
    let machine = booted(machine, "two").file("proc/sys/kernel/osrelease", &format!("{NEW}\n"));
    fs::remove_file(sysfs(&machine, ADDRESS).join("driver")).unwrap();
    fs::remove_dir_all(sysfs(&machine, ADDRESS).join("net")).unwrap();
    let run = machine.run(&["reconcile", "--no-build", "--from", "boot"]);
    assert_eq!((run.code, machine.saved_entry().as_str()), (0, OLD), "{}", said(&run));
    // Nothing can be decided.
    let broken = machine.file("etc/vfguard/config.d/x.toml", "nonsense = 1\n");
    let run = broken.run(&["reconcile"]);
    assert_eq!((run.code, broken.saved_entry().as_str()), (1, OLD), "{}", said(&run));
    let run = broken.run(&["gate", "close", "--undecided"]);
    assert_eq!(broken.saved_entry(), OLD, "{}", said(&run));
    // Another kernel without the driver is the default by now: back to the one that works, not to the one that runs.
    fs::remove_file(broken.path("etc/vfguard/config.d/x.toml")).unwrap();
    let machine = broken.kernel(LATER).boot_entry(LATER).boot_default(LATER);
    let run = machine.run(&["reconcile", "--no-build"]);
    assert_eq!((run.code, machine.saved_entry().as_str()), (3, OLD), "{}", said(&run));
}

#[test]
fn a_person_may_say_that_a_device_is_gone() {
    let machine = held();
    unplug(&machine, ADDRESS);
    assert_eq!(machine.run(&["reconcile"]).code, 3);
    let run = machine.run(&["decline", "--device", "0000:00:09.0"]);
    assert!(run.code == 1 && run.stderr.contains(&format!("eth0 ({ADDRESS}, ena)")), "{}", said(&run));
    for wrong in [&["decline"][..], &["decline", NEW, "--device", ADDRESS]] {
        assert_eq!(machine.run(wrong).code, 2, "{wrong:?}");
    }
    let run = machine.run(&["decline", "--device", ADDRESS, "--reason", "another instance type"]);
    assert_promoted(&machine, &run);
    let log = fs::read_to_string(machine.path("var/lib/vfguard/audit.log")).unwrap();
    let line = log.lines().find(|l| l.contains("\"decline\"")).unwrap();
    assert!(line.contains(ADDRESS) && line.contains("another instance type"), "{line}");
    // What is there cannot be declined, and counts again.
    plug(&machine, ADDRESS);
    assert_eq!(machine.run(&["decline", "--device", ADDRESS]).code, 1);
    assert_eq!(machine.run(&["reconcile"]).code, 3);
    assert_closed(&machine, &machine.run(&["check"]));
}

#[test]
fn that_devices_cannot_be_remembered_is_a_line_and_the_verdict_is_the_same() {
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
fn the_list_is_written_where_it_is_new_and_only_by_runs_that_decide() {
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
fn a_hold_without_any_device_and_without_the_record_is_undecided() {
    let machine = held();
    unplug(&machine, ADDRESS);
    fs::remove_file(machine.path(RECORD)).unwrap();
    let run = machine.run(&["reconcile"]);
    assert_eq!(run.code, 1, "{}", said(&run));
    assert_closed(&machine, &run);
    assert!(run.stdout.contains("[device-missing]"), "{}", said(&run));
    assert!(run.stdout.contains(&format!("vfguard decline {NEW}")), "{}", said(&run));
    // It decides again once the device is back, and a person need not wait for that.
    plug(&machine, ADDRESS);
    assert_eq!(machine.run(&["reconcile"]).code, 3);
    unplug(&machine, ADDRESS);
    fs::remove_file(machine.path(RECORD)).unwrap();
    assert_eq!(machine.run(&["decline", NEW]).code, 0);
    assert!(!machine.path(DROP_IN).exists() && machine.saved_entry() == OLD);
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

/// What a rule of udev's starts for a device, as far as ours go: conditions, TEST, GOTO and what is added to SYSTEMD_WANTS (udev(7)).
fn udev(keys: &[(&str, &str)], decided: bool) -> Vec<String> {
    let rules = include_str!("../../../packaging/udev/60-vfguard.rules");
    let (mut wants, mut skip) = (Vec::new(), None);
    for line in rules.lines().filter(|l| !l.starts_with('#')) {
        if skip.is_some_and(|label| line != format!("LABEL=\"{label}\"")) {
            continue;
        }
        skip = None;
        let mut applies = true;
        for part in line.split(", ") {
            let (left, right) = part.split_once('=').unwrap();
            let value = right.trim_start_matches('=').trim_matches('"');
            let key = left.trim_end_matches(['!', '+']);
            let matches = || match key {
                "TEST" => decided && value == "/run/vfguard/generation",
                _ => {
                    keys.iter().any(|(k, v)| *k == key && value.strip_suffix('*').map_or(*v == value, |p| v.starts_with(p)))
                }
            };
            match (left.chars().next_back(), right.starts_with('=')) {
                (Some('!'), _) => applies &= !matches(),
                (_, true) => applies &= matches(),
                _ if !applies || key == "LABEL" => {}
                _ if key == "GOTO" => skip = Some(value),
                _ if key == "ENV{SYSTEMD_WANTS}" => wants.push(value.to_owned()),
                _ => assert_eq!((left, value), ("TAG+", "systemd"), "not known here"),
            }
        }
    }
    wants
}

#[test]
fn a_network_device_that_comes_after_the_boots_decision_starts_the_watch_and_a_virtual_one_does_not() {
    let card = "/devices/pci0000:00/0000:00:03.0";
    let pci = [("ACTION", "add"), ("SUBSYSTEM", "pci"), ("ATTR{class}", "0x020000"), ("DEVPATH", card)];
    let interface = "/devices/pci0000:00/0000:00:03.0/net/eth0";
    let net = [("ACTION", "add"), ("SUBSYSTEM", "net"), ("DEVPATH", interface)];
    for device in [&pci[..], &net] {
        assert_eq!(udev(device, true), ["vfguard-watch.service"], "{device:?}");
        assert!(udev(device, false).is_empty(), "before the boot's own decision: {device:?}");
        let acted =
            |act: &'static str| device.iter().map(|(k, v)| (*k, if *v == "add" { act } else { v })).collect::<Vec<_>>();
        // An interface that is renamed is ready with this one.
        assert_eq!(udev(&acted("move"), true), ["vfguard-watch.service"], "{device:?}");
        assert!(udev(&acted("remove"), true).is_empty(), "{device:?}");
    }
    let veth = [("ACTION", "add"), ("SUBSYSTEM", "net"), ("DEVPATH", "/devices/virtual/net/veth1a2b")];
    let disk = [("ACTION", "add"), ("SUBSYSTEM", "pci"), ("ATTR{class}", "0x010802"), ("DEVPATH", card)];
    assert!(udev(&veth, true).is_empty() && udev(&disk, true).is_empty());
}
