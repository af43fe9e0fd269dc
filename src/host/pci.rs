//! PCI functions from sysfs (`Documentation/ABI/testing/sysfs-bus-pci`): modalias, bound driver, network interface.

use super::Host;
use serde::Serialize;
use std::path::{Path, PathBuf};

/// A PCI function.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Device {
    /// `0000:00:03.0`.
    pub address: String,
    /// `pci:v00008086d000010ED…`, as sysfs says it.
    pub modalias: String,
    /// The network interface, if a driver made one.
    pub interface: Option<String>,
    /// The driver that is bound, if any.
    pub driver: Option<String>,
    /// The module behind that driver (differs from its name for a few); none for a built-in driver.
    #[serde(skip)]
    pub module: Option<String>,
    /// PCI class, e.g. 0x020000 for Ethernet.
    #[serde(skip)]
    pub class: u32,
    /// `driver_override`, when somebody set one.
    #[serde(skip)]
    pub driver_override: Option<String>,
}

/// PCI base class of network controllers (pci.ids: class 02).
const CLASS_NETWORK: u32 = 0x02;

impl Device {
    /// Whether it is a network controller, by class or by its interface.
    pub fn is_network(&self) -> bool {
        self.class >> 16 == CLASS_NETWORK || self.interface.is_some()
    }

    /// Whether the machine uses it now: a network device with a driver bound.
    pub fn in_use(&self) -> bool {
        self.is_network() && self.driver.is_some()
    }
}

const DEVICES: &str = "/sys/bus/pci/devices";

/// All PCI functions, in order of address. A machine without PCI has none.
pub fn devices(host: &Host) -> Vec<Device> {
    let names = host.read_dir(DEVICES).unwrap_or_default();
    names.iter().filter_map(|name| device(host, name.to_str()?)).collect()
}

fn device(host: &Host, address: &str) -> Option<Device> {
    let dir = Path::new(DEVICES).join(address);
    let text = |file: &str| host.read_text(dir.join(file)).ok().map(|t| t.trim().to_owned()).filter(|t| !t.is_empty());
    Some(Device {
        address: address.to_owned(),
        modalias: text("modalias")?,
        interface: interface(host, &dir),
        driver: link_name(host, dir.join("driver")),
        module: link_name(host, dir.join("driver/module")),
        class: text("class").and_then(|c| u32::from_str_radix(c.trim_start_matches("0x"), 16).ok()).unwrap_or(0),
        driver_override: text("driver_override").filter(|t| t != "(null)"),
    })
}

/// `net/eth0` of a PCI driver, or one level down for virtio (`virtio0/net/eth0`).
fn interface(host: &Host, dir: &Path) -> Option<String> {
    let first = |d: PathBuf| host.read_dir(d).ok()?.first()?.to_str().map(str::to_owned);
    first(dir.join("net")).or_else(|| {
        let names = host.read_dir(dir).ok()?;
        names.iter().filter(|n| n.to_string_lossy().starts_with("virtio")).find_map(|n| first(dir.join(n).join("net")))
    })
}

/// The last component of a link's target. In a copied tree a plain directory may stand for the link: then its own name is
/// not the driver's, so only links count.
fn link_name(host: &Host, path: PathBuf) -> Option<String> {
    host.read_link(path).ok()?.file_name()?.to_str().map(str::to_owned)
}
