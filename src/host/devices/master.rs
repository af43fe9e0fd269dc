//! What a network interface is a port of: the `master` link of `Documentation/ABI/testing/sysfs-class-net`, and which
//! masters keep working without one of their ports.

use super::pci::{self, link_name, Device, DEVICES, NET};
use crate::host::Host;
use serde::{Deserialize, Serialize};
use std::io;
use std::path::{Path, PathBuf};

/// No real network has more layers of bonds, bridges and VLANs.
const MAX_LAYERS: usize = 16;
/// Where teamd has the pid file and the socket of each team. sysfs does not distinguish a team from other masters.
const TEAMD: &str = "/run/teamd";

/// A kind of master. The ports of the first four lead to the same network, so that the master keeps working with one of
/// them. The ports of a bridge, of Open vSwitch or of a VRF lead to different networks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Hyper-V's own NIC, which carries the traffic that its virtual function does not (`drivers/net/hyperv/netvsc_drv.c`).
    Synthetic,
    /// virtio's pair of a virtual function and a standby (`Documentation/networking/net_failover.rst`).
    Failover,
    /// `Documentation/networking/bonding.rst`.
    Bond,
    /// A team that teamd runs.
    Team,
    /// Any other kind, or a missing interface: assume that it does not keep working.
    Other,
}

impl Kind {
    /// For people: the driver's name.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Synthetic => "hv_netvsc",
            Kind::Failover => "net_failover",
            Kind::Bond => "bond",
            Kind::Team => "team",
            Kind::Other => "of another kind",
        }
    }
}

/// A bond or a team, remembered for early boot, when it does not exist yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Made {
    /// Its interface.
    pub name: String,
    /// Its kind.
    pub kind: Kind,
    /// How many working links it needs.
    pub min_links: usize,
}

/// The existing bonds and teams among these names.
pub fn made(host: &Host, names: &[String], devices: &[Device]) -> Vec<Made> {
    let look = |name: &String| {
        let kind = kind(host, name, devices);
        let min_links = min_links(host, name);
        matches!(kind, Kind::Bond | Kind::Team).then(|| Made { name: name.clone(), kind, min_links })
    };
    names.iter().filter_map(look).collect()
}

/// Whether an interface with this name exists.
pub fn is_there(host: &Host, name: &str) -> bool {
    host.exists(Path::new(NET).join(name))
}

/// A master and the masters above it.
pub fn chain(host: &Host, name: &str) -> Vec<String> {
    let above = |name: &String| of(host, name);
    std::iter::successors(Some(name.to_owned()), above).take(MAX_LAYERS).collect()
}

/// The master of an interface; none if it cannot be read.
fn of(host: &Host, interface: &str) -> Option<String> {
    link_name(host, Path::new(NET).join(interface).join("master")).ok().flatten()
}

/// An interface and everything built on it, layer by layer: masters, and the `upper_NAME` links (Linux 3.9 and newer).
pub fn built_on(host: &Host, interface: &str) -> Vec<String> {
    let mut all = vec![interface.to_owned()];
    let mut at = 0;
    while let Some(name) = all.get(at).cloned().filter(|_| at < MAX_LAYERS) {
        let files = host.read_dir(Path::new(NET).join(&name)).unwrap_or_default();
        let uppers = files.iter().filter_map(|f| Some(f.to_str()?.strip_prefix("upper_")?.to_owned()));
        let found: Vec<String> = uppers.chain(of(host, &name)).filter(|n| !all.contains(n)).collect();
        all.extend(found);
        at += 1;
    }
    all
}

/// The masters of a device: one for each of its interfaces, or none if one of them has none. In doubt the result is empty.
pub fn of_device(host: &Host, device: &Device) -> Vec<String> {
    let interfaces = match pci::interfaces(host, &Path::new(DEVICES).join(&device.address)) {
        Ok(interfaces) if interfaces.is_empty() => device.interface.iter().cloned().collect(),
        Ok(interfaces) => interfaces,
        Err(_) => Vec::new(),
    };
    let masters = interfaces.iter().map(|i| of(host, i).filter(|master| !leads_back(host, i, master)));
    masters.collect::<Option<Vec<String>>>().unwrap_or_default()
}

/// Whether the chain of masters from `master` on contains `interface` or a cycle. No kernel creates that.
fn leads_back(host: &Host, interface: &str, master: &str) -> bool {
    let mut seen = vec![interface.to_owned()];
    let mut at = Some(master.to_owned());
    while let Some(name) = at {
        if seen.contains(&name) || seen.len() > MAX_LAYERS {
            return true;
        }
        at = of(host, &name);
        seen.push(name);
    }
    false
}

/// The kind of a master; `devices` are the machine's devices.
pub fn kind(host: &Host, name: &str, devices: &[Device]) -> Kind {
    let dir = Path::new(NET).join(name);
    if !host.is_dir(&dir) {
        return Kind::Other;
    }
    let is = |bus: &str, driver: &str| {
        let mut own = devices.iter().filter(|d| d.present && d.interface.as_deref() == Some(name));
        own.any(|d| d.modalias.starts_with(bus) && d.driver.as_deref() == Some(driver))
    };
    if is("vmbus:", "hv_netvsc") {
        return Kind::Synthetic;
    }
    if is("virtio:", "virtio_net") {
        return Kind::Failover;
    }
    let has = |file: &str| host.exists(dir.join(file));
    if host.is_dir(dir.join("bonding")) {
        return Kind::Bond;
    }
    let teamd = ["pid", "sock"].iter().any(|end| host.exists(PathBuf::from(format!("{TEAMD}/{name}.{end}"))));
    if teamd && !has("device") && !has("bridge") {
        Kind::Team
    } else {
        Kind::Other
    }
}

/// How many working links a bond needs before it carries traffic (`min_links`); 1 if it is not set.
pub fn min_links(host: &Host, name: &str) -> usize {
    match host.read_text(Path::new(NET).join(name).join("bonding/min_links")) {
        Ok(text) => text.trim().parse().unwrap_or(usize::MAX).max(1),
        Err(e) if e.kind() == io::ErrorKind::NotFound => 1,
        Err(_) => usize::MAX,
    }
}

/// Whether a bond does not use a port although the port's own link may be up: its ARP probes fail, or its partner does not
/// aggregate the port with the active link (IEEE 802.3ad). Attributes that a kernel does not have are ignored.
pub fn is_held_down(host: &Host, port: &str) -> bool {
    let Some(bond) = of(host, port) else { return false };
    let read = |file: PathBuf| match host.read_text(file) {
        Ok(text) => Some(text.trim().to_owned()).filter(|t| !t.is_empty()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => None,
        Err(_) => Some("not readable".into()),
    };
    let of_port = |file: &str| read(Path::new(NET).join(port).join("bonding_slave").join(file));
    let of_bond = |file: &str| read(Path::new(NET).join(&bond).join("bonding").join(file));
    let fails = of_port("mii_status").is_some_and(|status| status != "up");
    let no_partner = of_bond("ad_partner_mac").is_some_and(|mac| mac.bytes().all(|b| b == b'0' || b == b':'));
    // In other modes the bond's attribute is empty, and the port's is N/A.
    let elsewhere = match (of_bond("ad_aggregator"), of_port("ad_aggregator_id")) {
        (Some(active), Some(own)) => active != own,
        (_, None) | (None, _) => false,
    };
    fails || no_partner || elsewhere
}

/// Whether the link of an interface is known to be down. It is not known while the interface has not been brought up.
pub fn link_is_down(host: &Host, interface: &str) -> bool {
    host.read_text(Path::new(NET).join(interface).join("carrier")).is_ok_and(|t| t.trim() == "0")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    #[test]
    fn a_device_has_no_master_if_one_of_its_ports_has_none_or_the_masters_are_cyclic() {
        let dir = tempfile::tempdir().unwrap();
        let (root, host) = (dir.path(), Host::new(dir.path()).unwrap());
        let net = |name: &str| root.join("sys/class/net").join(name);
        let function = "sys/bus/pci/devices/0000:00:03.0";
        fs::create_dir_all(root.join(function).join("net/p0")).unwrap();
        for (file, text) in [("modalias", "pci:v0\n"), ("class", "0x020000\n")] {
            fs::write(root.join(function).join(file), text).unwrap();
        }
        for name in ["p0", "p1", "bond0", "bond1", "br0"] {
            fs::create_dir_all(net(name)).unwrap();
        }
        let master = |name: &str, of: &str| {
            let _ = fs::remove_file(net(name).join("master"));
            symlink(format!("../{of}"), net(name).join("master")).unwrap();
        };
        let found = || of_device(&host, &pci::devices(&host).unwrap()[0]);
        assert_eq!(found(), Vec::<String>::new());
        master("p0", "bond0");
        master("bond0", "br0");
        assert_eq!(found(), ["bond0"]);
        // Another port of the same function.
        fs::create_dir_all(root.join(function).join("net/p1")).unwrap();
        assert_eq!(found(), Vec::<String>::new());
        master("p1", "bond1");
        assert_eq!(found(), ["bond0", "bond1"]);
        for (name, of) in [("br0", "bond0"), ("br0", "br0"), ("bond0", "p0"), ("p0", "p0")] {
            master(name, of);
            assert_eq!(found(), Vec::<String>::new(), "{name} leads to {of}");
        }
    }
}
