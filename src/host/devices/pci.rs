//! PCI functions from sysfs (`Documentation/ABI/testing/sysfs-bus-pci`): modalias, bound driver, network interface; and the
//! network devices of other buses.

use crate::host::Host;
use nix::errno::Errno;
use serde::Serialize;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// A PCI function.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Device {
    /// `0000:00:03.0`.
    pub address: String,
    /// `pci:v00008086d000010ED…`, as in sysfs.
    pub modalias: String,
    /// The network interface, if a driver created one.
    pub interface: Option<String>,
    /// The bound driver, if any.
    pub driver: Option<String>,
    /// The module of that driver (a few have another name); none for a built-in driver.
    #[serde(skip)]
    pub module: Option<String>,
    /// PCI class, e.g. 0x020000 for Ethernet.
    #[serde(skip)]
    pub class: u32,
    /// `driver_override`, if it is set.
    #[serde(skip)]
    pub driver_override: Option<String>,
    /// Whether the device exists now. False for a remembered device ([`crate::verdict::survey`]).
    #[serde(skip_serializing_if = "is_there")]
    pub present: bool,
}

/// The JSON contract leaves the field out for devices that exist.
fn is_there(present: &bool) -> bool {
    *present
}

/// PCI base class of network controllers (pci.ids: class 02).
pub const CLASS_NETWORK: u32 = 0x02;

impl Device {
    /// Whether it is a network controller, by class or by its interface.
    pub fn is_network(&self) -> bool {
        self.class >> 16 == CLASS_NETWORK || self.interface.is_some()
    }

    /// Whether the machine uses it now: a network device with a bound driver.
    pub fn in_use(&self) -> bool {
        self.is_network() && self.driver.is_some()
    }
}

/// Whether a function is a virtual function of a card in this machine: `physfn` leads to the card. In a guest it does not
/// exist.
pub fn is_of_own_card(host: &Host, device: &Device) -> bool {
    host.path_of_link(Path::new(DEVICES).join(&device.address).join("physfn")).is_symlink()
}

pub(in crate::host) const DEVICES: &str = "/sys/bus/pci/devices";

/// Network interfaces of any bus.
pub(in crate::host) const NET: &str = "/sys/class/net";

/// All PCI functions in order of address, then the network devices of other buses (virtio on MMIO, Xen, Hyper-V, USB) that
/// have an interface. A machine without PCI has no PCI functions.
///
/// # Errors
/// When there is no sysfs, or something in it cannot be read. A machine whose devices cannot be read must not count as one
/// without devices.
pub fn devices(host: &Host) -> io::Result<Vec<Device>> {
    let names = match host.read_dir(DEVICES) {
        Ok(names) => names,
        Err(e) if e.kind() == io::ErrorKind::NotFound && host.is_dir("/sys/bus") => Vec::new(),
        Err(e) => return Err(e),
    };
    let mut devices = Vec::new();
    for name in names.iter().filter_map(|n| n.to_str()) {
        devices.extend(device(host, name)?);
    }
    let interfaces = there(Path::new(NET), host.read_dir(NET))?.unwrap_or_default();
    for interface in interfaces.iter().filter_map(|n| n.to_str()) {
        devices.extend(other_bus(host, interface)?);
    }
    Ok(devices)
}

/// The same for a root that need not have a sysfs, for checks of a module or a recipe only.
///
/// # Errors
/// When sysfs exists and something in it cannot be read.
pub fn devices_if_any(host: &Host) -> io::Result<Vec<Device>> {
    devices(host).or_else(|e| if e.kind() == io::ErrorKind::NotFound { Ok(Vec::new()) } else { Err(e) })
}

/// The result of reading, or none if the file does not exist: a device may disappear in the meantime, and a copied tree may
/// have a plain directory instead of a symbolic link. Any other error is returned with the path.
fn there<T>(path: &Path, read: io::Result<T>) -> io::Result<Option<T>> {
    let absent = [Errno::ENOENT, Errno::ENOTDIR, Errno::ENODEV, Errno::ENXIO, Errno::EINVAL];
    match read {
        Ok(value) => Ok(Some(value)),
        Err(e) if e.raw_os_error().is_some_and(|raw| absent.contains(&Errno::from_raw(raw))) => Ok(None),
        Err(e) => Err(io::Error::new(e.kind(), format!("{}: {e}", path.display()))),
    }
}

/// The text of a file; none if it does not exist.
fn text(host: &Host, path: &Path) -> io::Result<Option<String>> {
    let text = there(path, host.read_text(path))?.map(|t| t.trim().to_owned());
    Ok(text.filter(|t| !t.is_empty()))
}

/// Exists while udev has events to handle (systemd's `udev_queue_is_empty()`, which `udevadm settle` uses).
const UDEV_QUEUE: &str = "/run/udev/queue";
/// Other buses with network devices, and the beginning of such a device's modalias: virtio's device number 1, Xen's vif,
/// Hyper-V's HV_NIC_GUID in its order in memory.
const OTHER_BUSES: [(&str, &str); 3] =
    [("virtio", "virtio:d00000001v"), ("xen", "xen:vif"), ("vmbus", "vmbus:635161f83edfc546913ff2d2f965ed0e")];
const LOOK: Duration = Duration::from_millis(20);
/// udev is done if its queue was missing this many times in a row; between two events it may be missing for an instant.
const QUIET_LOOKS: u32 = 5;

/// The result of waiting early at boot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waited {
    /// How long it waited.
    pub time: Duration,
    /// The network devices that had no driver at first, or did not exist.
    pub devices: Vec<String>,
    /// Those that still have none.
    pub left: Vec<String>,
    /// The time limit was reached before udev was done: existing devices without a driver may still get one.
    pub cut_short: bool,
}

/// Early at boot: waits for drivers that udev is about to load, since a device without one does not count as in use. It ends
/// at once if each device has its driver, and soon if udev has nothing left to do. It takes hardly any CPU time from a busy
/// udev: only the devices that lack a driver are checked again, and all devices once those have theirs (a virtio device
/// appears with the driver of its PCI function). The PCI functions in `expected` (their addresses) are waited for until they
/// exist, since udev has nothing to do for a function that the hypervisor has not plugged in yet.
pub fn await_drivers(host: &Host, limit: Duration, expected: &[String]) -> Waited {
    let start = Instant::now();
    let mut absent: Vec<PathBuf> = expected.iter().map(|address| Path::new(DEVICES).join(address)).collect();
    absent.retain(|d| !host.exists(d));
    let mut left = unbound(host);
    let devices = names(left.iter().chain(&absent));
    let mut quiet = 0;
    while start.elapsed() < limit && (!absent.is_empty() || (quiet < QUIET_LOOKS && !left.is_empty())) {
        quiet = if host.exists(UDEV_QUEUE) { 0 } else { quiet + 1 };
        std::thread::sleep(LOOK);
        let (lacked, lacking) = (absent.len(), left.len());
        absent.retain(|d| !host.exists(d));
        left.retain(|d| !bound(host, d));
        let came = absent.len() < lacked;
        if came || (left.is_empty() && lacking > 0) {
            left = unbound(host);
        }
        if came {
            // udev will handle it next.
            quiet = 0;
        }
    }
    let cut_short = !left.is_empty() && quiet < QUIET_LOOKS;
    Waited { time: start.elapsed(), devices, left: names(left.iter().chain(&absent)), cut_short }
}

fn names<'d>(devices: impl Iterator<Item = &'d PathBuf>) -> Vec<String> {
    devices.filter_map(|d| Some(d.file_name()?.to_string_lossy().into_owned())).collect()
}

fn bound(host: &Host, device: &Path) -> bool {
    link_name(host, device.join("driver")).map_or(true, |driver| driver.is_some())
}

/// The network devices without a driver.
fn unbound(host: &Host) -> Vec<PathBuf> {
    let text = |path: PathBuf| host.read_text(path).unwrap_or_default();
    let mut found = without_driver(host, Path::new(DEVICES));
    found.retain(|d| class(&text(d.join("class"))) >> 16 == CLASS_NETWORK);
    for (bus, device) in OTHER_BUSES {
        let mut others = without_driver(host, &Path::new("/sys/bus").join(bus).join("devices"));
        others.retain(|d| text(d.join("modalias")).starts_with(device));
        found.append(&mut others);
    }
    found
}

fn without_driver(host: &Host, dir: &Path) -> Vec<PathBuf> {
    let devices = host.read_dir(dir).unwrap_or_default();
    devices.iter().map(|name| dir.join(name)).filter(|d| !bound(host, d)).collect()
}

/// Whether the link of a device's interface is up according to sysfs. In a copied tree the interface may exist below its
/// device only.
pub fn link_is_up(host: &Host, address: &str, interface: &str) -> bool {
    let places = [Path::new(DEVICES).join(address).join("net").join(interface), Path::new(NET).join(interface)];
    places.iter().any(|dir| host.read_text(dir.join("operstate")).is_ok_and(|state| state.trim() == "up"))
}

/// Whether an interface has a carrier while its driver reports no state (`operstate` stays `unknown`).
pub fn has_carrier(host: &Host, interface: &str) -> bool {
    let says =
        |file: &str, what: &str| host.read_text(Path::new(NET).join(interface).join(file)).is_ok_and(|t| t.trim() == what);
    says("operstate", "unknown") && says("carrier", "1")
}

fn class(text: &str) -> u32 {
    u32::from_str_radix(text.trim().trim_start_matches("0x"), 16).unwrap_or(0)
}

fn other_bus(host: &Host, interface: &str) -> io::Result<Option<Device>> {
    let dir = Path::new(NET).join(interface).join("device");
    let Some(modalias) = text(host, &dir.join("modalias"))?.filter(|m| !m.starts_with("pci:")) else { return Ok(None) };
    Ok(Some(Device {
        address: link_name(host, dir.clone())?.unwrap_or_else(|| interface.to_owned()),
        modalias,
        interface: Some(interface.to_owned()),
        driver: link_name(host, dir.join("driver"))?,
        module: link_name(host, dir.join("driver/module"))?,
        class: CLASS_NETWORK << 16,
        driver_override: None,
        present: true,
    }))
}

fn device(host: &Host, address: &str) -> io::Result<Option<Device>> {
    let dir = Path::new(DEVICES).join(address);
    let text = |file: &str| text(host, &dir.join(file));
    let Some(modalias) = text("modalias")? else { return Ok(None) };
    Ok(Some(Device {
        address: address.to_owned(),
        modalias,
        interface: interface(host, &dir)?,
        driver: link_name(host, dir.join("driver"))?,
        module: link_name(host, dir.join("driver/module"))?,
        class: text("class")?.map_or(0, |c| class(&c)),
        driver_override: text("driver_override")?.filter(|t| t != "(null)"),
        present: true,
    }))
}

/// The first interface of a PCI function; almost all have one.
fn interface(host: &Host, dir: &Path) -> io::Result<Option<String>> {
    Ok(interfaces(host, dir)?.into_iter().next())
}

/// `net/eth0` for a PCI driver, or one level down for virtio (`virtio0/net/eth0`). A function with several ports has
/// several.
pub(in crate::host) fn interfaces(host: &Host, dir: &Path) -> io::Result<Vec<String>> {
    let all = |d: PathBuf| -> io::Result<Vec<String>> {
        let names = there(&d, host.read_dir(&d))?.unwrap_or_default();
        Ok(names.iter().filter_map(|n| n.to_str()).map(str::to_owned).collect())
    };
    let own = all(dir.join("net"))?;
    if !own.is_empty() {
        return Ok(own);
    }
    let names = there(dir, host.read_dir(dir))?.unwrap_or_default();
    for name in names.iter().filter(|n| n.to_string_lossy().starts_with("virtio")) {
        let below = all(dir.join(name).join("net"))?;
        if !below.is_empty() {
            return Ok(below);
        }
    }
    Ok(Vec::new())
}

/// The last component of a symbolic link's target. A copied tree may have a plain directory instead of the link, and its
/// name is not the driver's, so only links count.
pub(in crate::host) fn link_name(host: &Host, path: PathBuf) -> io::Result<Option<String>> {
    let target = there(&path, host.read_link(&path))?;
    Ok(target.and_then(|t| t.file_name()?.to_str().map(str::to_owned)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    fn write(root: &Path, path: &str, text: &str) {
        fs::create_dir_all(root.join(path).parent().unwrap()).unwrap();
        fs::write(root.join(path), text).unwrap();
    }

    #[test]
    fn a_vf_is_seen_with_its_driver_and_interface() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        let device = "sys/bus/pci/devices/0000:00:03.0";
        write(root, &format!("{device}/modalias"), "pci:v00008086d000010EDsv00008086sd00000000bc02sc00i00\n");
        write(root, &format!("{device}/class"), "0x020000\n");
        write(root, &format!("{device}/net/eth0/operstate"), "up\n");
        fs::create_dir_all(root.join("sys/bus/pci/drivers/ixgbevf")).unwrap();
        symlink("../../../../bus/pci/drivers/ixgbevf", root.join(device).join("driver")).unwrap();
        let devices = devices(&Host::new(root).unwrap()).unwrap();
        assert_eq!(devices.len(), 1);
        assert_eq!(devices[0].interface.as_deref(), Some("eth0"));
        assert_eq!(devices[0].driver.as_deref(), Some("ixgbevf"));
        assert!(devices[0].in_use());
    }

    #[test]
    fn a_xen_interface_counts_and_a_bridge_does_not() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        fs::create_dir_all(root.join("sys/bus/xen")).unwrap();
        write(root, "sys/devices/vif-0/modalias", "xen:vif\n");
        fs::create_dir_all(root.join("sys/class/net/eth0")).unwrap();
        fs::create_dir_all(root.join("sys/class/net/br0")).unwrap();
        symlink("../../../devices/vif-0", root.join("sys/class/net/eth0/device")).unwrap();
        let devices = devices(&Host::new(root).unwrap()).unwrap();
        assert_eq!(devices.iter().map(|d| d.address.as_str()).collect::<Vec<_>>(), ["vif-0"]);
    }

    #[test]
    fn a_device_that_appears_with_the_driver_of_another_is_waited_for_too() {
        let dir = tempfile::tempdir().unwrap();
        let (root, host) = (dir.path(), Host::new(dir.path()).unwrap());
        let (function, device) = ("sys/bus/pci/devices/0000:00:03.0", "sys/bus/virtio/devices/virtio0");
        write(root, &format!("{function}/class"), "0x020000\n");
        write(root, "run/udev/queue", "");
        let bind = |device: &str| symlink("driver", root.join(device).join("driver")).unwrap();
        let waited = std::thread::scope(|s| {
            let waits = s.spawn(|| await_drivers(&host, Duration::from_secs(20), &[]));
            std::thread::sleep(Duration::from_millis(200));
            write(root, &format!("{device}/modalias"), "virtio:d00000001v00001AF4\n");
            bind(function);
            std::thread::sleep(Duration::from_millis(300));
            bind(device);
            waits.join().unwrap()
        });
        assert_eq!((waited.devices, waited.left), (vec!["0000:00:03.0".to_owned()], vec![]));
        assert!(waited.time > Duration::from_millis(400) && waited.time < Duration::from_secs(10), "{:?}", waited.time);
    }

    #[test]
    fn a_function_that_does_not_exist_yet_is_waited_for_and_then_its_driver() {
        let dir = tempfile::tempdir().unwrap();
        let (root, host) = (dir.path(), Host::new(dir.path()).unwrap());
        let (limit, device) = (Duration::from_secs(20), "sys/bus/pci/devices/0000:00:03.0");
        let expected = ["0000:00:03.0".to_owned()];
        let waited = std::thread::scope(|s| {
            let waits = s.spawn(|| await_drivers(&host, limit, &expected));
            // Longer than the wait for a udev that has nothing to do.
            std::thread::sleep(LOOK * QUIET_LOOKS * 3);
            write(root, &format!("{device}/class"), "0x020000\n");
            std::thread::sleep(LOOK * 2);
            symlink("driver", root.join(device).join("driver")).unwrap();
            waits.join().unwrap()
        });
        assert_eq!((waited.devices, waited.left, waited.cut_short), (expected.to_vec(), vec![], false));
        assert!(waited.time < limit);
        // A function that never appears does not count as a busy udev.
        let limit = Duration::from_millis(200);
        let waited = await_drivers(&host, limit, &["0000:00:04.0".to_owned()]);
        assert_eq!((waited.left, waited.cut_short), (vec!["0000:00:04.0".to_owned()], false));
        assert!(waited.time >= limit && await_drivers(&host, limit, &expected).time < limit);
    }

    #[test]
    fn a_machine_whose_sysfs_is_missing_is_not_a_machine_without_devices() {
        let dir = tempfile::tempdir().unwrap();
        let host = Host::new(dir.path()).unwrap();
        assert!(devices(&host).is_err());
        assert_eq!(devices_if_any(&host).unwrap(), []);
        fs::create_dir_all(dir.path().join("sys/bus")).unwrap();
        assert_eq!(devices(&host).unwrap(), []);
        // A file that exists and cannot be read is an error, too.
        fs::create_dir_all(dir.path().join("sys/bus/pci/devices/0000:00:03.0/modalias")).unwrap();
        assert!(devices(&host).is_err() && devices_if_any(&host).is_err());
    }
}
