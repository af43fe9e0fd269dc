//! Bonds: by which of their ports they carry the network.

use super::*;

#[test]
fn a_bond_continues_by_a_port_whose_drivers_and_module_the_kernel_has() {
    let (all, told) = (["virtio_net", "virtio_pci", "bonding"], "its master bond0 (bond) carries the network by eth1");
    assert_degrades("bond", &bond(&all), told);
    for lacking in all {
        let rest: Vec<&str> = all.into_iter().filter(|name| *name != lacking).collect();
        assert_refused(lacking, &bond(&rest));
    }
    assert_refused("the link of the other is down", &bond(&all).file("sys/class/net/eth1/operstate", "down\n"));
    assert_refused("two links are wanted", &bond(&all).file("sys/class/net/bond0/bonding/min_links", "2\n"));
    // Virtio's link is visible in two places.
    let machine = bond(&all).file("sys/class/net/bond0/bonding/min_links", "many\n");
    assert_refused("nobody knows how many", &machine);
    let machine = bond(&all);
    fs::remove_file(machine.path("sys/class/net/eth1/master")).unwrap();
    assert_refused("the other is no port", &machine);
}

#[test]
fn a_bond_of_two_functions_continues_by_the_one_that_is_driven() {
    assert_degrades("another card", &pair(&["ena", "bonding"], ("ena", ENA)), "carries the network by eth1");
    assert_refused("another card that is lost as well", &pair(&["bonding"], ("ena", ENA)));
    assert_refused("the same driver", &pair(&["bonding"], ("mlx5_core", MLX5)));
}

#[test]
fn a_bonding_module_is_proven_like_a_driver() {
    let modinfo = [("vermagic", format!("{NEW} SMP mod_unload ")), ("intree", "Y".into()), ("name", "bonding".into())];
    let info: Vec<(&str, &str)> = modinfo.iter().map(|(key, value)| (*key, value.as_str())).collect();
    let path = format!("lib/modules/{NEW}/kernel/drivers/net/bonding/bonding.ko");
    let machine = pair(&["ena"], ("ena", ENA))
        .file(&format!("lib/modules/{NEW}/modules.dep"), "kernel/drivers/net/bonding/bonding.ko:\n")
        .file(&format!("lib/modules/{NEW}/modules.order"), "kernel/drivers/net/bonding/bonding.ko\n")
        .file(&path, "no module");
    assert_refused("a damaged file", &machine);
    fs::write(machine.path(&path), ko::module("bonding", &info)).unwrap();
    let build = format!("lib/modules/{NEW}/build");
    let machine = machine
        .file(&format!("{build}/Module.symvers"), "0x00000000\tmodule_layout\tvmlinux\tEXPORT_SYMBOL\t\n")
        .file(&format!("{build}/include/generated/utsrelease.h"), &format!("#define UTS_RELEASE \"{NEW}\"\n"));
    assert!(Command::new("depmod").arg("-b").arg(machine.root()).arg(NEW).status().unwrap().success());
    assert_degrades("its own", &machine, "carries the network by eth1");
}

/// A port's attribute that its bond sets.
fn of_port(machine: Machine, port: &str, name: &str, value: &str) -> Machine {
    machine.file(&format!("sys/class/net/{port}/bonding_slave/{name}"), &format!("{value}\n"))
}

#[test]
fn a_port_that_the_bond_holds_down_does_not_count_though_its_link_is_up() {
    let bond = || bond(&["virtio_net", "virtio_pci", "bonding"]);
    assert_degrades("up", &of_port(bond(), "eth1", "mii_status", "up"), "by eth1");
    for status in ["down", "going back", ""] {
        let machine = of_port(bond(), "eth1", "mii_status", "up");
        let machine = of_port(machine, "eth1", "mii_status", status);
        match status {
            "" => assert_degrades("it says nothing", &machine, "by eth1"),
            _ => assert_refused(status, &machine),
        }
    }
    let lacp = |own: &str, partner: &str| {
        let machine = of_port(of_port(bond(), "eth0", "ad_aggregator_id", "1"), "eth1", "ad_aggregator_id", own);
        let machine = machine.file("sys/class/net/bond0/bonding/ad_partner_mac", &format!("{partner}\n"));
        machine.file("sys/class/net/bond0/bonding/ad_aggregator", "1\n")
    };
    assert_degrades("in the link that is in use", &lacp("1", "00:23:04:ee:be:01"), "by eth1");
    assert_refused("in another one", &lacp("2", "00:23:04:ee:be:01"));
    assert_refused("the partner does not speak 802.3ad", &lacp("1", "00:00:00:00:00:00"));
    // Other modes: the bond's are empty, the port's is N/A.
    let machine = of_port(bond(), "eth1", "ad_aggregator_id", "N/A");
    let machine = machine.file("sys/class/net/bond0/bonding/ad_aggregator", "");
    assert_degrades("another mode", &machine.file("sys/class/net/bond0/bonding/ad_partner_mac", ""), "by eth1");
    assert_refused("no carrier", &bond().file("sys/class/net/eth1/carrier", "0\n"));
}

#[test]
fn each_bond_on_top_of_a_master_must_be_possible_again_too() {
    let bonded = |has: &[&str]| {
        let machine = interface(azure(has), "bond0").file("sys/class/net/bond0/bonding/min_links", "0\n");
        port(machine, "eth0", "bond0")
    };
    assert_refused("no bonding", &bonded(&["hv_netvsc"]));
    let machine = bonded(&["hv_netvsc", "bonding"]);
    assert_degrades("bonding", &machine, "its master eth0 (hv_netvsc) carries the network by itself");
    assert_refused("the bond holds it down", &of_port(machine, "eth0", "mii_status", "down"));
    // No device requires a bridge on top.
    let machine = interface(bonded(&["hv_netvsc", "bonding"]), "br0").file("sys/class/net/br0/bridge/bridge_id", "x\n");
    assert_degrades("a bridge", &port(machine, "bond0", "br0"), "eth0 (hv_netvsc)");
}
