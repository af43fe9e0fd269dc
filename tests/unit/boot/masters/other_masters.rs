//! Teams, failover pairs, bridges; and what cannot be followed.

use super::*;

#[test]
fn ports_of_other_masters_do_not_count() {
    let all = ["virtio_net", "virtio_pci", "bonding"];
    for (what, marks) in [("a bridge", &["bridge/bridge_id"][..]), ("a VRF or Open vSwitch", &[])] {
        let machine = bond(&all);
        fs::remove_dir_all(machine.path("sys/class/net/bond0/bonding")).unwrap();
        let machine = marks.iter().fold(machine, |m, mark| m.file(&format!("sys/class/net/bond0/{mark}"), "x\n"));
        assert_refused(what, &machine);
    }
    // An interface on top of it is no master.
    let machine = vf(machine(&all), "eth0");
    let machine = interface(interface(machine, "eth0.100"), "eth1");
    symlink("../eth0.100", machine.path("sys/class/net/eth0/upper_eth0.100")).unwrap();
    assert_refused("a VLAN", &machine);
}

#[test]
fn a_team_continues_if_its_mode_is_there_too() {
    let team = |has: &[&str]| {
        let machine = bond(has);
        fs::remove_dir_all(machine.path("sys/class/net/bond0/bonding")).unwrap();
        machine.file("run/teamd/bond0.pid", "1\n").file("sys/module/team_mode_activebackup/refcnt", "1\n")
    };
    let all = ["virtio_net", "virtio_pci", "team", "team_mode_activebackup"];
    assert_degrades("team", &team(&all), "its master bond0 (team) carries the network by eth1");
    for lacking in ["team", "team_mode_activebackup"] {
        let rest: Vec<&str> = all.into_iter().filter(|name| *name != lacking).collect();
        assert_refused(lacking, &team(&rest));
    }
}

#[test]
fn a_failover_pair_continues_by_its_standby() {
    let failover = |has: &[&str]| {
        let machine = virtio(virtio(vf(machine(has), "ens4"), "ens3"), "ens3nsby");
        port(port(machine, "ens4", "ens3"), "ens3nsby", "ens3")
    };
    let all = ["virtio_net", "net_failover"];
    assert_degrades("failover", &failover(&all), "its master ens3 (net_failover) carries the network by ens3nsby");
    for lacking in all {
        let rest: Vec<&str> = all.into_iter().filter(|name| *name != lacking).collect();
        assert_refused(lacking, &failover(&rest));
    }
    let unplugged = failover(&all).file("sys/class/net/ens3nsby/operstate", "down\n");
    assert_degrades("nobody has brought it up", &unplugged, "by ens3nsby");
    let unplugged = failover(&all).file("sys/class/net/ens3nsby/operstate", "down\n");
    assert_refused("its link is down", &unplugged.file("sys/class/net/ens3nsby/carrier", "0\n"));
}

#[test]
fn a_master_that_cannot_be_followed_does_not_count() {
    for (what, name, master) in [
        ("dangling", "enP1s1", "gone0"),
        ("itself", "enP1s1", "enP1s1"),
        ("a circle", "eth0", "enP1s1"),
        ("a longer circle", "eth0", "eth0"),
    ] {
        assert_refused(what, &port(azure(&["hv_netvsc"]), name, master));
    }
    let machine = azure(&["hv_netvsc"]);
    let link = machine.path("sys/class/net/enP1s1/master");
    fs::remove_file(&link).unwrap();
    assert_refused("a file in its place", &machine.file("sys/class/net/enP1s1/master", "eth0"));
    let machine = azure(&["hv_netvsc"]);
    let dir = machine.path("sys/class/net/enP1s1");
    fs::remove_dir_all(&dir).unwrap();
    symlink("enP1s1", &dir).unwrap();
    // Whether devices can be listed at all then is not tested here.
    assert_ne!(machine.run(&["check", NEW]).code, 0, "a link to itself");
}
