//! The network devices that were in use, remembered across boots. A device may be absent for a moment: a virtual function that comes late
//! at boot, a hot-plug, a live migration that unplugs it. Without this record, such a moment would make a kernel safe that cannot drive the
//! device. So a remembered device that is missing is judged as if it were there, until one of these shows that it is gone for good:
//!
//! - a person says so (`vfguard decline --device`);
//! - it was missing in `BOOTS` boots in a row, and another device carries the default route (without a route the boots prove nothing, since
//!   a machine that is cut off is restarted);
//! - it was last there in an earlier boot, and a device that came later carries the default route: the hardware was changed. A device that
//!   was there together with it replaces nothing, since it may have carried the route before as well.
//!
//! `merged`, `outlived` and `bounded` are pure; they compute the list that the record holds.

use crate::gate::generation;
use crate::host::devices::master::{self, Made};
use crate::host::devices::pci::{self, Device};
use crate::host::devices::routes;
use crate::host::{files, Host};
use crate::verdict::judge::Binding;
use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use std::cell::OnceCell;

/// The record, below the root.
pub(super) const RECORD: &str = "/var/lib/vfguard/records/devices.json";
/// After this many boots without it, a device counts as gone. One or two may be an accident.
const BOOTS: usize = 3;
/// How many boots without a device are remembered.
const MAX_MISSED: usize = 8;
/// Limit for the record; MAX_DEVICES devices need less than half of it.
const MAX_RECORD: u64 = 64 << 10;
/// How many devices are remembered.
const MAX_DEVICES: usize = 64;
/// The kernel's id of this boot (random(4)). Without it, boots cannot be told apart, and only a person drops a device.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// A device as it was when it was last in use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Known {
    /// `0000:00:03.0`.
    pub address: String,
    /// Its modalias in sysfs.
    pub modalias: String,
    /// Its network interface.
    pub interface: Option<String>,
    /// The driver that was bound.
    pub driver: Option<String>,
    /// The module behind it.
    pub module: Option<String>,
    /// How it was driven.
    pub binding: Binding,
    /// The masters of its interfaces. Their kind, and whether they carry the network without the device, is looked up each time.
    #[serde(default)]
    pub masters: Vec<String>,
    /// The bonds and teams among them, which may not exist yet early at boot.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub made: Vec<Made>,
    /// The boot in which it was first seen in use.
    pub since: String,
    /// The boot in which it was last seen in use.
    pub seen: String,
    /// The boots since then without it.
    pub missed: Vec<String>,
}

impl Known {
    fn now(device: &Device, binding: Binding, boot: &str) -> Known {
        Known {
            address: device.address.clone(),
            modalias: device.modalias.clone(),
            interface: device.interface.clone(),
            driver: device.driver.clone(),
            module: device.module.clone(),
            binding,
            masters: Vec::new(),
            made: Vec::new(),
            since: boot.to_owned(),
            seen: boot.to_owned(),
            missed: Vec::new(),
        }
    }

    /// Whether this is the same device at the same address.
    pub fn is(&self, device: &Device) -> bool {
        self.address == device.address && self.modalias == device.modalias
    }

    fn is_among(&self, places: &[Place]) -> bool {
        places.iter().any(|(address, modalias)| (address, modalias) == (&self.address, &self.modalias))
    }

    /// The device as it was when last seen.
    pub fn device(&self) -> Device {
        Device {
            address: self.address.clone(),
            modalias: self.modalias.clone(),
            interface: self.interface.clone(),
            driver: self.driver.clone(),
            module: self.module.clone(),
            class: pci::CLASS_NETWORK << 16,
            driver_override: None,
            present: false,
        }
    }

    /// Its name for people: `eth0 (0000:00:03.0, ixgbevf)`.
    pub fn name(&self) -> String {
        let interface = self.interface.as_deref().unwrap_or("the network device");
        format!("{interface} ({}, {})", self.address, self.driver.as_deref().unwrap_or("no driver"))
    }
}

/// A device's address and modalias.
type Place = (String, String);

/// The remembered devices after one look.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Devices {
    /// The devices that are in use now.
    pub here: Vec<Known>,
    /// The devices that are missing.
    pub gone: Vec<Known>,
}

impl Devices {
    /// All of them, as they are written to the record.
    fn list(&self) -> Vec<Known> {
        bounded(self.here.iter().chain(&self.gone).cloned().collect())
    }
}

/// Merges the remembered devices with those in use now. A device that is back, maybe at another address, keeps the boot in which it was
/// first seen; each boot without a device is counted once.
fn merged(remembered: Vec<Known>, mut here: Vec<Known>, idle: &[Place], boot: &str) -> Devices {
    let mut gone = remembered;
    let mut back = vec![false; here.len()];
    for elsewhere in [false, true] {
        for (known, back) in here.iter_mut().zip(&mut back).filter(|(_, back)| !**back) {
            let same = |old: &Known| old.modalias == known.modalias && (elsewhere || old.address == known.address);
            if let Some(at) = gone.iter().position(same) {
                known.since = gone.remove(at).since;
                *back = true;
            }
        }
    }
    // A device that is there without a driver is not gone: this is how it looks under a kernel that lacks the driver.
    for known in gone.iter_mut().filter(|known| !known.is_among(idle)) {
        if known.seen != boot && known.missed.iter().all(|b| b != boot) {
            known.missed.push(boot.to_owned());
            let over = known.missed.len().saturating_sub(MAX_MISSED);
            known.missed.drain(..over);
        }
    }
    Devices { here, gone }
}

/// Drops the devices that are gone for good, and returns a line for each. `idle` devices are there without a driver. `carries` tells
/// whether a device carries the default route.
fn outlived(devices: &mut Devices, idle: &[Place], carries: impl Fn(&Known) -> bool) -> Vec<String> {
    let mut lines = Vec::new();
    let here = &devices.here;
    devices.gone.retain(|gone| {
        let name = gone.name();
        if gone.is_among(idle) {
            return true;
        }
        if gone.missed.len() >= BOOTS && here.iter().any(&carries) {
            lines.push(format!(
                "{name} is not counted any more, after {BOOTS} boots without it: if it comes back it counts again"
            ));
            return false;
        }
        // A device that was first seen in a boot that the missing one missed: it came later.
        let instead = here.iter().find(|new| gone.missed.contains(&new.since) && carries(new));
        lines.extend(
            instead
                .map(|new| format!("{name} is gone; {} works in its place: if it comes back it counts again", new.name())),
        );
        instead.is_none()
    });
    lines
}

/// Sorts the list and limits its length. Virtual functions come by the dozen and are alike, so devices of which another one of the same
/// kind is kept are dropped first.
fn bounded(mut list: Vec<Known>) -> Vec<Known> {
    list.sort_by(|a, b| (&a.address, &a.modalias).cmp(&(&b.address, &b.modalias)));
    while list.len() > MAX_DEVICES {
        let alike = (1..list.len()).rev().find(|&at| list[..at].iter().any(|k| k.modalias == list[at].modalias));
        list.remove(alike.unwrap_or(list.len() - 1));
    }
    list
}

#[derive(Default, Serialize, Deserialize)]
struct Record {
    devices: Vec<Known>,
}

/// Reads the record; `None` if it was never written or is lost.
fn read(host: &Host) -> Option<Vec<Known>> {
    let text = files::read_bounded(&host.path(RECORD), MAX_RECORD).ok()?;
    let record: Record = serde_json::from_slice(&text).ok()?;
    Some(bounded(record.devices))
}

fn write(host: &Host, devices: Vec<Known>) -> Result<()> {
    let text = serde_json::to_vec_pretty(&Record { devices })?;
    host.write_atomic(RECORD, &text, 0o644).context("remembering the network devices in use")
}

/// The devices in use at one look, merged with the remembered ones.
#[derive(Clone, Debug)]
pub struct Memory {
    /// The devices that are remembered now.
    pub devices: Devices,
    /// The record as it was at the look.
    record: Option<Vec<Known>>,
    /// A line for each device that another one has replaced.
    lines: Vec<String>,
    boot: String,
    /// Devices that are there without a driver.
    idle: Vec<Place>,
    replace: bool,
}

impl Memory {
    /// Looks, and writes nothing. `replace`: whether a missing device may be dropped for another one that works. Not early at boot, when
    /// the missing one may still come.
    pub(super) fn look(host: &Host, devices: &[Device], binding: impl Fn(&Device) -> Binding, replace: bool) -> Memory {
        let boot = host.read_text(BOOT_ID).map_or_else(|_| "unknown".into(), |id| id.trim().to_owned());
        let (in_use, idle): (Vec<&Device>, Vec<&Device>) = devices.iter().partition(|d| d.in_use());
        let now = |d: &Device| {
            let masters = master::of_device(host, d);
            let made = master::made(host, &masters, devices);
            Known { masters, made, ..Known::now(d, binding(d), &boot) }
        };
        let here = in_use.into_iter().map(now).collect();
        let idle = idle.into_iter().map(|d| (d.address.clone(), d.modalias.clone())).collect();
        Memory::of(host, here, idle, boot, replace)
    }

    fn of(host: &Host, mut here: Vec<Known>, idle: Vec<Place>, boot: String, replace: bool) -> Memory {
        let record = read(host);
        // Early at boot a bond may not exist yet, so its record is used.
        for known in here.iter_mut().filter(|known| !replace && known.masters.is_empty()) {
            let old = record.iter().flatten().find(|old| (&old.address, &old.modalias) == (&known.address, &known.modalias));
            (known.masters, known.made) = old.map(|old| (old.masters.clone(), old.made.clone())).unwrap_or_default();
        }
        let mut devices = merged(record.clone().unwrap_or_default(), here, &idle, &boot);
        let routes = OnceCell::new();
        let lines = outlived(&mut devices, &idle, |known| replace && carries(host, &routes, known));
        Memory { devices, record, lines, boot, idle, replace }
    }

    /// Whether there is no readable record. A record without any device is not lost.
    pub(super) fn is_lost(&self) -> bool {
        self.record.is_none()
    }

    /// Whether this is early at boot.
    pub(super) fn is_early(&self) -> bool {
        !self.replace
    }

    /// Early at boot: a bond or a team of the previous boot, which may not exist yet or lack ports.
    pub(super) fn made_before(&self, name: &str) -> Option<&Made> {
        let all = self.devices.here.iter().chain(&self.devices.gone).flat_map(|known| &known.made);
        all.filter(|made| self.is_early() && made.name == name).max_by_key(|made| made.min_links)
    }

    /// The missing devices.
    pub fn gone(&self) -> &[Known] {
        &self.devices.gone
    }

    /// The record of a device of this machine.
    pub(super) fn of_device(&self, device: &Device) -> Option<&Known> {
        self.devices.here.iter().chain(&self.devices.gone).find(|known| known.is(device))
    }

    /// Writes the record if anything is new. Returns a line for each device that no longer counts. A machine without any network device
    /// gets a record too, but not while the default is `held`: the record of the device that it is held for may be the one that was lost.
    ///
    /// # Errors
    /// Those of writing the record.
    pub(super) fn store(&self, host: &Host, held: bool) -> Result<Vec<String>> {
        let is_new = |memory: &Memory| {
            memory.devices.list() != memory.record.clone().unwrap_or_default() || (memory.is_lost() && !held)
        };
        if !is_new(self) {
            return Ok(Vec::new());
        }
        // Another run may have written since. Keep what it saw, and what a person declined.
        let now = Memory::of(host, self.devices.here.clone(), self.idle.clone(), self.boot.clone(), self.replace);
        if is_new(&now) {
            write(host, now.devices.list())?;
            // A run that looked before this device appeared judged without it. Raising the generation keeps that run from opening or
            // promoting.
            let before = now.record.clone().unwrap_or_default();
            let known = |device: &Known| before.iter().any(|old| old.modalias == device.modalias && old.seen == device.seen);
            if !now.devices.here.iter().all(known) {
                generation::bump(host)?;
            }
        }
        Ok(now.lines)
    }
}

/// The master of Open vSwitch's ports. sysfs does not tell to which of its bridges a port belongs.
const OPEN_VSWITCH: &str = "ovs-system";

/// Whether the device's link is up, and it or an interface on top of it (bond, bridge, VLAN, or several of these) carries a default route.
fn carries(host: &Host, routes: &OnceCell<Vec<String>>, known: &Known) -> bool {
    let Some(interface) = &known.interface else { return false };
    let routed = routes.get_or_init(|| routes::default_interfaces(host));
    (pci::link_is_up(host, &known.address, interface) || pci::has_carrier(host, interface))
        && master::built_on(host, interface)
            .iter()
            .any(|name| routed.contains(name) || (name == OPEN_VSWITCH && !routed.is_empty()))
}

/// Forgets a missing device.
///
/// # Errors
/// Those of writing the record.
pub fn forget(host: &Host, device: &Known) -> Result<()> {
    let mut devices = read(host).unwrap_or_default();
    devices.retain(|known| (&known.address, &known.modalias) != (&device.address, &device.modalias));
    write(host, devices)
}

/// The addresses of the remembered PCI functions that are missing, whether or not they had a driver. Early at boot it is worth waiting for
/// them.
pub fn expected(host: &Host) -> Vec<String> {
    let here = pci::devices(host).unwrap_or_default();
    let here = here.iter().map(|d| Known::now(d, Binding::Unbound, "")).collect();
    let gone = merged(read(host).unwrap_or_default(), here, &[], "").gone;
    gone.into_iter().filter(|known| known.modalias.starts_with("pci:")).map(|known| known.address).collect()
}

/// Whether a device that was in use is there without a driver, which the running kernel may lack.
pub(super) fn is_undriven(host: &Host) -> bool {
    let remembered = read(host).unwrap_or_default();
    let idle = pci::devices(host).unwrap_or_default().into_iter().filter(|device| !device.in_use());
    idle.into_iter().any(|device| remembered.iter().any(|known| known.is(&device)))
}

#[cfg(test)]
mod tests;
