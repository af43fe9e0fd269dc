//! A device whose master carries the network without it: a kernel that lacks its driver degrades the machine and locks nobody out. In
//! doubt it does.

#[path = "../../machine/mod.rs"]
mod machine;

use machine::{ko, Machine, Run, VF};
use serde_json::Value;
use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;

const OLD: &str = "6.1.0-53-cloud-amd64";
const NEW: &str = "6.1.0-54-cloud-amd64";
const DROP_IN: &str = "run/systemd/system/reboot.target.d/50-vfguard.conf";
const MLX5: &str = "pci:v000015B3d00001016sv000015B3sd00000190bc02sc00i00";
const ENA: &str = "pci:v00001D0Fd0000EC20sv00001D0Fsd0000EC20bc02sc00i00";
const VIRTIO_PCI: &str = "pci:v00001AF4d00001041sv00001AF4sd00001100bc02sc00i00";
const VIRTIO: &str = "virtio:d00000001v00001AF4";
/// HV_NIC_GUID.
const HYPERV: &str = "vmbus:635161f83edfc546913ff2d2f965ed0e";
/// What drives each of them, as `modules.builtin.modinfo` has it.
const DRIVERS: [(&str, &str); 5] = [
    ("mlx5_core", "pci:v000015B3d00001016sv*sd*bc*sc*i*"),
    ("ena", "pci:v00001D0Fd0000EC20sv*sd*bc*sc*i*"),
    ("virtio_pci", "pci:v00001AF4d*sv*sd*bc*sc*i*"),
    ("virtio_net", "virtio:d00000001v*"),
    ("hv_netvsc", HYPERV),
];
const FUNCTION: &str = "0001:00:02.0";

/// OLD runs; NEW is the boot default, and has what is said: drivers, and further modules of masters.
fn machine(has: &[&str]) -> Machine {
    let machine = Machine::new().grub().offline().file("proc/sys/kernel/osrelease", &format!("{OLD}\n"));
    let machine = machine.kernel(OLD).kernel(NEW).boot_entry(OLD).boot_entry(NEW).boot_default(NEW);
    let all: Vec<&str> = DRIVERS.iter().map(|(name, _)| *name).collect();
    booted(drives(drives(machine, OLD, &all), NEW, has), "one")
}

fn drives(machine: Machine, kernel: &str, has: &[&str]) -> Machine {
    let aliases = DRIVERS.iter().filter(|(name, _)| has.contains(name));
    let aliases: String =
        aliases.map(|(name, alias)| format!("{name}.alias={alias}\0{name}.file=drivers/net/{name}\0")).collect();
    let builtin: String = has.iter().map(|name| format!("kernel/drivers/net/{name}.ko\n")).collect();
    machine
        .file(&format!("lib/modules/{kernel}/modules.builtin.modinfo"), &aliases)
        .file(&format!("lib/modules/{kernel}/modules.builtin"), &builtin)
}

fn booted(machine: Machine, boot: &str) -> Machine {
    let _ = fs::remove_dir_all(machine.path("run/vfguard"));
    machine.file("proc/sys/kernel/random/boot_id", &format!("{boot}\n"))
}

fn interface(machine: Machine, name: &str) -> Machine {
    machine.file(&format!("sys/class/net/{name}/operstate"), "up\n")
}

/// With a device of a bus that has an interface; a PCI function where its address says so.
fn device(machine: Machine, bus: &str, address: &str, modalias: &str, driver: &str, name: &str) -> Machine {
    let dir = format!("sys/bus/{bus}/devices/{address}");
    let mut machine = interface(machine, name).file(&format!("{dir}/modalias"), &format!("{modalias}\n"));
    if bus == "pci" {
        machine = machine.file(&format!("{dir}/class"), "0x020000\n").file(&format!("{dir}/net/{name}/operstate"), "up\n");
    }
    let _ = symlink(format!("../../../../bus/{bus}/drivers/{driver}"), machine.path(&dir).join("driver"));
    symlink(format!("../../../bus/{bus}/devices/{address}"), machine.path("sys/class/net").join(name).join("device"))
        .unwrap();
    machine
}

fn vf(machine: Machine, name: &str) -> Machine {
    device(machine, "pci", FUNCTION, MLX5, "mlx5_core", name)
}

fn virtio(machine: Machine, name: &str) -> Machine {
    device(machine, "virtio", "virtio0", VIRTIO, "virtio_net", name)
}

/// Makes an interface a port.
fn port(machine: Machine, name: &str, master: &str) -> Machine {
    let link = machine.path("sys/class/net").join(name).join("master");
    let _ = fs::remove_file(&link);
    symlink(format!("../{master}"), link).unwrap();
    machine
}

/// Hyper-V's NIC eth0, and its virtual function enP1s1.
fn azure(has: &[&str]) -> Machine {
    let machine = device(machine(has), "vmbus", "3ad4d2a5-0000", HYPERV, "hv_netvsc", "eth0");
    port(vf(machine, "enP1s1"), "enP1s1", "eth0")
}

/// A virtual function eth0 and virtio's eth1 in a bond; what drives virtio's is a PCI function too.
fn bond(has: &[&str]) -> Machine {
    let machine = virtio(vf(machine(has), "eth0"), "eth1");
    let function = "sys/bus/pci/devices/0000:00:04.0";
    let machine = machine
        .file(&format!("{function}/modalias"), &format!("{VIRTIO_PCI}\n"))
        .file(&format!("{function}/class"), "0x020000\n")
        .file(&format!("{function}/virtio0/net/eth1/operstate"), "up\n");
    symlink("../../drivers/virtio-pci", machine.path(function).join("driver")).unwrap();
    let machine = interface(machine, "bond0").file("sys/class/net/bond0/bonding/min_links", "0\n");
    port(port(machine, "eth0", "bond0"), "eth1", "bond0")
}

/// Two functions of other kinds in a bond.
fn pair(has: &[&str], second: (&str, &str)) -> Machine {
    let machine = device(vf(machine(has), "eth0"), "pci", "0002:00:02.0", second.1, second.0, "eth1");
    let machine = interface(machine, "bond0").file("sys/class/net/bond0/bonding/slaves", "eth0 eth1\n");
    port(port(machine, "eth0", "bond0"), "eth1", "bond0")
}

fn said(run: &Run) -> String {
    format!("{}{}", run.stdout, run.stderr)
}

/// The severities of a code on NEW, as `check` tells them.
fn findings(machine: &Machine) -> (i32, Vec<(String, String, String)>) {
    let run = machine.run(&["--format", "json", "check", NEW]);
    let text = |v: &Value| v.as_str().unwrap().to_owned();
    let json = run.json();
    let all = json["kernels"][0]["findings"].as_array().unwrap().iter();
    (run.code, all.map(|f| (text(&f["code"]), text(&f["severity"]), text(&f["detail"]))).collect())
}

/// Safe, with a warning of each code, and `told` in the one about the master; and nothing is refused.
fn assert_degrades(what: &str, machine: &Machine, told: &str) {
    let (code, findings) = findings(machine);
    assert_eq!(code, 0, "{what}: {findings:?}");
    let of = |code: &str| findings.iter().filter(|f| f.0 == code).collect::<Vec<_>>();
    assert!(of("device-redundant").iter().any(|f| f.1 == "warning" && f.2.contains(told)), "{what}: {findings:?}");
    assert!(of("device-unclaimed").iter().all(|f| f.1 == "warning"), "{what}: {findings:?}");
    let run = machine.run(&["reconcile"]);
    assert_eq!((run.code, machine.saved_entry().as_str()), (0, NEW), "{what}: {}", said(&run));
    assert!(!machine.path(DROP_IN).exists(), "{what}: {}", said(&run));
}

fn assert_refused(what: &str, machine: &Machine) {
    let (code, findings) = findings(machine);
    assert_eq!(code, 3, "{what}: {findings:?}");
    let run = machine.run(&["reconcile", "--no-build"]);
    assert_eq!((run.code, machine.saved_entry().as_str()), (3, OLD), "{what}: {}", said(&run));
    assert!(machine.path(DROP_IN).exists(), "{what}: {}", said(&run));
}

#[test]
fn the_loss_of_a_virtual_function_below_hyper_vs_own_nic_is_a_warning() {
    let machine = azure(&["hv_netvsc"]);
    assert_degrades("azure", &machine, "enP1s1 (0001:00:02.0) is lost under");
    let (_, findings) = findings(&machine);
    assert!(
        findings.iter().any(|f| f.2.ends_with("its master eth0 (hv_netvsc) carries the network by itself")),
        "{findings:?}"
    );
    // Both are there: nothing is said.
    assert!(!said(&azure(&["hv_netvsc", "mlx5_core"]).run(&["-v", "check", NEW])).contains("device-redundant"));
    assert_refused("no hv_netvsc either", &azure(&[]));
    assert_refused("the virtual function alone", &azure(&["mlx5_core"]));
}

#[test]
fn what_was_degraded_stays_open_and_promoted_once_it_runs() {
    let machine = azure(&["hv_netvsc"]);
    assert_degrades("before", &machine, "eth0 (hv_netvsc)");
    let machine = booted(machine, "two").file("proc/sys/kernel/osrelease", &format!("{NEW}\n"));
    let function = machine.path("sys/bus/pci/devices").join(FUNCTION);
    fs::remove_file(function.join("driver")).unwrap();
    fs::remove_dir_all(function.join("net")).unwrap();
    fs::remove_dir_all(machine.path("sys/class/net/enP1s1")).unwrap();
    for args in [&["reconcile", "--no-build", "--from", "boot"][..], &["reconcile"], &["check"]] {
        let run = machine.run(args);
        assert_eq!((run.code, machine.saved_entry().as_str()), (0, NEW), "{}", said(&run));
        assert!(!machine.path(DROP_IN).exists(), "{}", said(&run));
        assert!(run.stdout.contains("its master eth0 (hv_netvsc)"), "{}", said(&run));
    }
    // The record only has the name: what it was must be there.
    fs::remove_dir_all(machine.path("sys/class/net/eth0")).unwrap();
    let (code, findings) = findings(&machine);
    assert_eq!(code, 3, "{findings:?}");
}

#[test]
fn a_bond_goes_on_by_a_port_whose_drivers_and_whose_own_module_the_kernel_has() {
    let (all, told) = (["virtio_net", "virtio_pci", "bonding"], "its master bond0 (bond) carries the network by eth1");
    assert_degrades("bond", &bond(&all), told);
    for lacking in all {
        let rest: Vec<&str> = all.into_iter().filter(|name| *name != lacking).collect();
        assert_refused(lacking, &bond(&rest));
    }
    assert_refused("the link of the other is down", &bond(&all).file("sys/class/net/eth1/operstate", "down\n"));
    assert_refused("two links are wanted", &bond(&all).file("sys/class/net/bond0/bonding/min_links", "2\n"));
    // Virtio's link is seen in two places.
    let machine = bond(&all).file("sys/class/net/bond0/bonding/min_links", "many\n");
    assert_refused("nobody knows how many", &machine);
    let machine = bond(&all);
    fs::remove_file(machine.path("sys/class/net/eth1/master")).unwrap();
    assert_refused("the other is no port", &machine);
}

#[test]
fn a_master_that_is_not_whole_yet_early_at_boot_is_not_forgotten_and_counts_until_the_next_look() {
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
fn a_bond_of_two_functions_goes_on_by_the_one_that_is_driven() {
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

#[test]
fn ports_of_other_masters_lead_elsewhere() {
    let all = ["virtio_net", "virtio_pci", "bonding"];
    for (what, marks) in [("a bridge", &["bridge/bridge_id"][..]), ("a VRF or Open vSwitch", &[])] {
        let machine = bond(&all);
        fs::remove_dir_all(machine.path("sys/class/net/bond0/bonding")).unwrap();
        let machine = marks.iter().fold(machine, |m, mark| m.file(&format!("sys/class/net/bond0/{mark}"), "x\n"));
        assert_refused(what, &machine);
    }
    // What is built on it is no master.
    let machine = vf(machine(&all), "eth0");
    let machine = interface(interface(machine, "eth0.100"), "eth1");
    symlink("../eth0.100", machine.path("sys/class/net/eth0/upper_eth0.100")).unwrap();
    assert_refused("a VLAN", &machine);
}

#[test]
fn a_team_goes_on_where_its_mode_is_there_too() {
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
fn a_failover_pair_goes_on_by_its_standby() {
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

/// A port's attribute that its bond sets.
fn of_port(machine: Machine, port: &str, name: &str, value: &str) -> Machine {
    machine.file(&format!("sys/class/net/{port}/bonding_slave/{name}"), &format!("{value}\n"))
}

#[test]
fn a_port_that_the_bond_holds_down_carries_nothing_though_its_own_link_is_up() {
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
fn each_bond_on_top_of_a_master_must_be_made_again_too() {
    let bonded = |has: &[&str]| {
        let machine = interface(azure(has), "bond0").file("sys/class/net/bond0/bonding/min_links", "0\n");
        port(machine, "eth0", "bond0")
    };
    assert_refused("no bonding", &bonded(&["hv_netvsc"]));
    let machine = bonded(&["hv_netvsc", "bonding"]);
    assert_degrades("bonding", &machine, "its master eth0 (hv_netvsc) carries the network by itself");
    assert_refused("the bond holds it down", &of_port(machine, "eth0", "mii_status", "down"));
    // A bridge on top is asked for by no device.
    let machine = interface(bonded(&["hv_netvsc", "bonding"]), "br0").file("sys/class/net/br0/bridge/bridge_id", "x\n");
    assert_degrades("a bridge", &port(machine, "bond0", "br0"), "eth0 (hv_netvsc)");
}

#[test]
fn hyper_vs_own_nic_needs_its_bus() {
    let machine = |vmbus: bool| {
        let own = |name: &str, alias: &str, dir: &str| {
            let vermagic = format!("{NEW} SMP mod_unload ");
            let info =
                [("vermagic", vermagic.as_str()), ("intree", "Y"), ("name", name), ("license", "GPL"), ("alias", alias)];
            (format!("kernel/drivers/{dir}/{name}.ko"), ko::module(name, &info))
        };
        let all = [own("hv_netvsc", HYPERV, "net/hyperv"), own("hv_vmbus", "acpi*:VMBUS:*", "hv")];
        let machine = azure(&[]);
        let dir = format!("lib/modules/{NEW}");
        let order: String = all.iter().map(|(path, _)| format!("{path}\n")).collect();
        let machine = machine.file(&format!("{dir}/modules.order"), &order);
        for (path, module) in all.iter().filter(|(path, _)| vmbus || !path.contains("vmbus")) {
            fs::create_dir_all(machine.path(&dir).join(path).parent().unwrap()).unwrap();
            fs::write(machine.path(&dir).join(path), module).unwrap();
        }
        let machine = machine
            .file(&format!("{dir}/build/Module.symvers"), "0x00000000\tmodule_layout\tvmlinux\tEXPORT_SYMBOL\t\n")
            .file(&format!("{dir}/build/include/generated/utsrelease.h"), &format!("#define UTS_RELEASE \"{NEW}\"\n"));
        assert!(Command::new("depmod").arg("-b").arg(machine.root()).arg(NEW).status().unwrap().success());
        machine
    };
    assert_degrades("both", &machine(true), "eth0 (hv_netvsc)");
    assert_refused("no bus", &machine(false));
    // Only its own alias loads it: without the bus there is no device that asks for the NIC's driver.
    for line in ["blacklist hv_vmbus", "install hv_vmbus /bin/true"] {
        assert_refused(line, &machine(true).file("etc/modprobe.d/x.conf", &format!("{line}\n")));
    }
}

#[test]
fn early_at_boot_a_bond_that_is_not_made_yet_counts_as_it_was() {
    // Degraded, and restarted into NEW: the virtual function has no driver there, and the network is not set up yet.
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
    // Later it is looked at as it is.
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

#[test]
fn a_master_that_cannot_be_followed_is_none() {
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
    // Whether the devices can be told at all then is another matter.
    assert_ne!(machine.run(&["check", NEW]).code, 0, "a link to itself");
}

/// ixgbevf, which a recipe claims, below Hyper-V's own NIC.
fn claimed() -> Machine {
    let machine = device(machine(&["hv_netvsc"]), "vmbus", "3ad4d2a5-0000", HYPERV, "hv_netvsc", "eth0");
    let machine = device(machine, "pci", FUNCTION, VF, "ixgbevf", "enP1s1").file("sys/module/ixgbevf/taint", "OE\n");
    port(machine, "enP1s1", "eth0")
}

#[test]
fn a_driver_that_a_master_does_without_is_still_built_and_one_that_is_required_is_demanded() {
    let machine = claimed();
    let run = machine.run(&["reconcile"]);
    assert_eq!((run.code, machine.saved_entry().as_str()), (0, NEW), "{}", said(&run));
    assert!(run.stdout.contains(&format!("{NEW}: ixgbevf was not prepared")), "{}", said(&run));
    assert!(!machine.path(DROP_IN).exists(), "{}", said(&run));
    let (code, findings) = findings(&machine);
    let severity = |code: &str| findings.iter().find(|f| f.0 == code).map(|f| f.1.as_str());
    assert_eq!(code, 0, "{findings:?}");
    for code in ["module-missing", "device-redundant", "headers-missing"] {
        assert_eq!(severity(code), Some("warning"), "{code}: {findings:?}");
    }
    // Each run tries again; people are told in a line, and how to see why.
    assert!(run.stdout.contains(&format!("ixgbevf was not built; why: vfguard -v check {NEW}")), "{}", said(&run));
    assert!(!said(&run).contains("headers-missing"), "{}", said(&run));
    assert!(machine.run(&["-v", "check", NEW]).stdout.contains("[headers-missing]"));
    let required = claimed().file("etc/vfguard/config.d/r.toml", "[drivers]\nrequired = ['ixgbevf']\n");
    assert_refused("required", &required);
}

#[test]
fn a_module_that_might_be_loaded_and_do_harm_is_no_loss() {
    let path = format!("lib/modules/{NEW}/updates/vfguard/ixgbevf.ko");
    let machine =
        claimed().file(&format!("lib/modules/{NEW}/modules.dep"), "updates/vfguard/ixgbevf.ko:\n").file(&path, "no module");
    let (code, findings) = findings(&machine);
    assert!(findings.iter().any(|f| f.0 == "not-elf" && f.1 == "unsafe"), "{findings:?}");
    assert_eq!(code, 3);
}
