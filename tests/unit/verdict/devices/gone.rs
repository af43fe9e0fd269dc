//! A device that is gone for good: another one works in its place, or a person says so.

use super::*;
use vfguard::config::Config;
use vfguard::finding::Verdict;
use vfguard::host::Host;
use vfguard::verdict::survey::Survey;

/// Another card, which every kernel here can drive.
const OTHER: &str = "pci:v00008086d00001521sv00008086sd00000000bc02sc00i00";

/// Adds the other card, as eth1.
fn other(machine: Machine) -> Machine {
    let machine = machine.device("0000:00:06.0", OTHER, Some("igb"));
    let net = sysfs(&machine, "0000:00:06.0").join("net");
    fs::rename(net.join("eth0"), net.join("eth1")).unwrap();
    machine
}

/// Sets the default route to an interface.
fn routed(machine: Machine, interface: &str) -> Machine {
    machine.file(
        "proc/net/route",
        &format!(
            "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n\
             {interface}\t00000000\t0100000A\t0003\t0\t0\t100\t00000000\t0\t0\t0\n"
        ),
    )
}

#[test]
fn changed_hardware_is_judged_by_what_is_there_now() {
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
    // Early at boot a missing device may still come.
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
fn the_default_route_of_a_bond_counts_for_its_port() {
    let machine = routed(other(booted(held(), "two")), "bond0");
    unplug(&machine, ADDRESS);
    fs::create_dir_all(machine.path("sys/class/net/eth1")).unwrap();
    assert_eq!(machine.run(&["reconcile"]).code, 3);
    std::os::unix::fs::symlink("../bond0", machine.path("sys/class/net/eth1/master")).unwrap();
    assert_promoted(&machine, &machine.run(&["reconcile"]));
}

#[test]
fn a_device_that_was_there_all_along_does_not_replace_another() {
    let machine = routed(other(machine()), "eth1");
    assert_eq!(machine.run(&["reconcile"]).code, 3);
    let machine = booted(machine, "two");
    unplug(&machine, ADDRESS);
    let run = machine.run(&["reconcile"]);
    assert_eq!(run.code, 3, "{}", said(&run));
    assert_closed(&machine, &run);
    assert_eq!(remembered(&machine), [ADDRESS, "0000:00:06.0"]);
    // If that device is missing instead, nothing is refused: each kernel drives it.
    plug(&machine, ADDRESS);
    unplug(&machine, "0000:00:06.0");
    let machine = built(machine);
    assert_promoted(&machine, &machine.run(&["reconcile"]));
}

#[test]
fn a_device_that_was_missing_in_three_boots_is_gone_if_another_one_works() {
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
    // Early at boot it may still come.
    let early = machine.run(&["reconcile", "--no-build", "--from", "boot"]);
    assert_eq!(early.code, 3, "{}", said(&early));
    let run = machine.run(&["reconcile"]);
    assert_promoted(&machine, &run);
    assert!(run.stdout.contains(&format!("eth0 ({ADDRESS}, ena) is not counted any more")), "{}", said(&run));
    assert_eq!(remembered(&machine), ["0000:00:06.0"]);
}

#[test]
fn restarts_of_a_machine_without_network_prove_nothing() {
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
    // A person who removes all network devices has to say so.
    let run = machine.run(&["decline", "--device", ADDRESS]);
    assert_promoted(&machine, &machine.run(&["reconcile"]));
    assert_eq!(run.code, 0, "{}", said(&run));
}

#[test]
fn a_person_may_declare_a_device_gone() {
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
    // A device that is there cannot be declined, and counts again.
    plug(&machine, ADDRESS);
    assert_eq!(machine.run(&["decline", "--device", ADDRESS]).code, 1);
    assert_eq!(machine.run(&["reconcile"]).code, 3);
    assert_closed(&machine, &machine.run(&["check"]));
}
