//! Early at boot, when a bond is not made yet, or not whole.

use super::*;

#[test]
fn an_incomplete_master_early_at_boot_is_not_forgotten_and_counts_until_the_next_look() {
    let machine = bond(&["virtio_net", "virtio_pci", "bonding"]);
    let masters = || {
        let record = fs::read(machine.path("var/lib/vfguard/records/devices.json")).unwrap();
        let record: Value = serde_json::from_slice(&record).unwrap();
        let all = record["devices"].as_array().unwrap().clone();
        all.iter().find(|d| d["address"] == FUNCTION).unwrap()["masters"].to_string()
    };
    assert_eq!(machine.run(&["reconcile"]).code, 0);
    assert_eq!(masters(), "[\"bond0\"]");
    fs::remove_file(machine.path("sys/class/net/eth0/master")).unwrap();
    assert_eq!(machine.run(&["reconcile", "--no-build", "--from", "boot"]).code, 0);
    assert_eq!(masters(), "[\"bond0\"]");
    assert_eq!(machine.run(&["reconcile", "--no-build"]).code, 3);
    assert_eq!(masters(), "[]");
}

#[test]
fn early_at_boot_a_bond_that_does_not_exist_yet_counts_as_it_was() {
    // Degraded and restarted into NEW: the virtual function has no driver there, and the network is not set up yet.
    let restarted = |links: &str| {
        let machine = pair(&["ena", "bonding"], ("ena", ENA)).file("sys/class/net/bond0/bonding/min_links", links);
        machine.run(&["reconcile"]);
        let machine = booted(machine, "two").file("proc/sys/kernel/osrelease", &format!("{NEW}\n")).boot_default(NEW);
        let function = machine.path("sys/bus/pci/devices").join(FUNCTION);
        fs::remove_file(function.join("driver")).unwrap();
        for dir in [function.join("net"), machine.path("sys/class/net/eth0"), machine.path("sys/class/net/bond0")] {
            fs::remove_dir_all(dir).unwrap();
        }
        fs::remove_file(machine.path("sys/class/net/eth1/master")).unwrap();
        fs::write(machine.path("sys/class/net/eth1/operstate"), "down\n").unwrap();
        machine.file("sys/bus/pci/devices/0002:00:02.0/net/eth1/operstate", "down\n")
    };
    let early = |machine: &Machine| {
        let run = machine.run(&["reconcile", "--no-build", "--from", "boot"]);
        (run.code, machine.saved_entry(), machine.path(DROP_IN).exists(), said(&run))
    };
    let machine = restarted("0\n");
    let (code, entry, closed, told) = early(&machine);
    assert_eq!((code, entry.as_str(), closed), (0, NEW, false), "{told}");
    // Later it is judged as it is.
    assert_eq!(machine.run(&["check", NEW]).code, 3);
    let machine = interface(machine, "bond0").file("sys/class/net/bond0/bonding/min_links", "0\n");
    let machine = port(interface(machine, "eth1"), "eth1", "bond0");
    let machine = machine.file("sys/bus/pci/devices/0002:00:02.0/net/eth1/operstate", "up\n");
    assert_degrades("once it is made", &machine, "its master bond0 (bond) carries the network by eth1");
    assert_eq!(early(&restarted("2\n")).0, 3, "it wants both links");
    let machine = restarted("0\n");
    fs::remove_file(machine.path("sys/bus/pci/devices/0002:00:02.0/driver")).unwrap();
    assert_eq!(early(&machine).0, 3, "the other port has no driver");
}
