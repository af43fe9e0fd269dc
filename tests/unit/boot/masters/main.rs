//! A device whose master carries the network without it: a kernel that lacks its driver only reduces the redundancy. In doubt the kernel is
//! refused.

mod bonds;
mod early;
mod hyperv;
#[path = "../../../machine/mod.rs"]
mod machine;
mod other_masters;
mod recipes;

use machine::{ko, Machine, Run};
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
/// The driver of each kind of device, as in `modules.builtin.modinfo`.
const DRIVERS: [(&str, &str); 5] = [
    ("mlx5_core", "pci:v000015B3d00001016sv*sd*bc*sc*i*"),
    ("ena", "pci:v00001D0Fd0000EC20sv*sd*bc*sc*i*"),
    ("virtio_pci", "pci:v00001AF4d*sv*sd*bc*sc*i*"),
    ("virtio_net", "virtio:d00000001v*"),
    ("hv_netvsc", HYPERV),
];
const FUNCTION: &str = "0001:00:02.0";

/// OLD runs; NEW is the boot default and has these drivers and modules of masters.
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

/// Adds a device with an interface on this bus; it is a PCI function if its address looks so.
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

/// A virtual function eth0 and virtio's eth1 in a bond; virtio's device is a PCI function too.
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

/// Two functions of different kinds in a bond.
fn pair(has: &[&str], second: (&str, &str)) -> Machine {
    let machine = device(vf(machine(has), "eth0"), "pci", "0002:00:02.0", second.1, second.0, "eth1");
    let machine = interface(machine, "bond0").file("sys/class/net/bond0/bonding/slaves", "eth0 eth1\n");
    port(port(machine, "eth0", "bond0"), "eth1", "bond0")
}

fn said(run: &Run) -> String {
    format!("{}{}", run.stdout, run.stderr)
}

/// The findings about masters on NEW, as `check` reports them.
fn findings(machine: &Machine) -> (i32, Vec<(String, String, String)>) {
    let run = machine.run(&["--format", "json", "check", NEW]);
    let text = |v: &Value| v.as_str().unwrap().to_owned();
    let json = run.json();
    let all = json["kernels"][0]["findings"].as_array().unwrap().iter();
    (run.code, all.map(|f| (text(&f["code"]), text(&f["severity"]), text(&f["detail"]))).collect())
}

/// Asserts that NEW is safe with a warning of each code, that the one about the master contains `told`, and that nothing is refused.
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
