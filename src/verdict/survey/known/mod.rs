//! The network devices that were in use, kept across boots. A device that is not there for a moment (a virtual function that comes
//! late at boot, a hot-plug, a live migration that unplugs it) would otherwise make a kernel safe that cannot drive it. So one that is
//! remembered and missing is judged as if it were there, until something says that it is gone for good:
//!
//! - a person does (`vfguard decline --device`);
//! - it was missing in `BOOTS` boots in a row, and another device carries the default route: a machine that is cut off is restarted, and
//!   proves nothing by that;
//! - it was last there in an earlier boot, and a device that came since then carries the default route: the hardware was changed. A device
//!   that was there beside it replaces nothing: it carried its route then, too.
//!
//! `merged`, `outlived` and `bounded` are pure; the record is the list that they leave.

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
/// So many boots without a device say that it does not come back. One or two may be an accident.
const BOOTS: usize = 3;
/// As many boots without a device are remembered.
const MAX_MISSED: usize = 8;
/// As many devices as are remembered need less than half of it.
const MAX_RECORD: u64 = 64 << 10;
/// As many are remembered.
const MAX_DEVICES: usize = 64;
/// Another text for each boot (random(4)). Where there is none, no boot is told from another, and only a person drops a device.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// A device as it was when it was last in use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Known {
    /// `0000:00:03.0`.
    pub address: String,
    /// As sysfs said it.
    pub modalias: String,
    /// Its network interface.
    pub interface: Option<String>,
    /// The driver that was bound.
    pub driver: Option<String>,
    /// The module behind it.
    pub module: Option<String>,
    /// How it was driven.
    pub binding: Binding,
    /// The masters of its interfaces. What they are, and whether they carry the network without it, is looked at anew each time.
    #[serde(default)]
    pub masters: Vec<String>,
    /// Those of them that are bonds and teams: early at boot they are not made yet.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub made: Vec<Made>,
    /// The boot in which it was first seen in use.
    pub since: String,
    /// The boot in which it was last seen in use.
    pub seen: String,
    /// The boots since then in which it was not.
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

    /// Whether it is this device, where it was.
    pub fn is(&self, device: &Device) -> bool {
        self.address == device.address && self.modalias == device.modalias
    }

    fn is_among(&self, places: &[Place]) -> bool {
        places.iter().any(|(address, modalias)| (address, modalias) == (&self.address, &self.modalias))
    }

    /// The device as it was.
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

    /// For people: `eth0 (0000:00:03.0, ixgbevf)`.
    pub fn name(&self) -> String {
        let interface = self.interface.as_deref().unwrap_or("the network device");
        format!("{interface} ({}, {})", self.address, self.driver.as_deref().unwrap_or("no driver"))
    }
}

/// A device's address and modalias.
type Place = (String, String);

/// What is remembered as of one look.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Devices {
    /// Those in use now.
    pub here: Vec<Known>,
    /// Those that are missing.
    pub gone: Vec<Known>,
}

impl Devices {
    /// All of them, as the record has them.
    fn list(&self) -> Vec<Known> {
        bounded(self.here.iter().chain(&self.gone).cloned().collect())
    }
}

/// What was remembered, and what is in use now. A device that is back, maybe at another address, keeps the boot that it is known since;
/// each boot without one is counted once.
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
    // One that is there and has no driver is not gone: it is what a kernel without its driver looks like.
    for known in gone.iter_mut().filter(|known| !known.is_among(idle)) {
        if known.seen != boot && known.missed.iter().all(|b| b != boot) {
            known.missed.push(boot.to_owned());
            let over = known.missed.len().saturating_sub(MAX_MISSED);
            known.missed.drain(..over);
        }
    }
    Devices { here, gone }
}

/// Drops those that are gone for good; a line for each. `idle` are there without a driver. `carries` says whether a device carries the
/// default route.
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
        // Known since a boot that the other one missed: it came later.
        let instead = here.iter().find(|new| gone.missed.contains(&new.since) && carries(new));
        lines.extend(
            instead
                .map(|new| format!("{name} is gone; {} works in its place: if it comes back it counts again", new.name())),
        );
        instead.is_none()
    });
    lines
}

/// In order, and not without end. Virtual functions come by the dozen and are alike: those that another one stands for go first.
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

/// The record; none where it was never written, or is lost.
fn read(host: &Host) -> Option<Vec<Known>> {
    let text = files::read_bounded(&host.path(RECORD), MAX_RECORD).ok()?;
    let record: Record = serde_json::from_slice(&text).ok()?;
    Some(bounded(record.devices))
}

fn write(host: &Host, devices: Vec<Known>) -> Result<()> {
    let text = serde_json::to_vec_pretty(&Record { devices })?;
    host.write_atomic(RECORD, &text, 0o644).context("remembering the network devices in use")
}

/// One look at what is in use beside what is remembered.
#[derive(Clone, Debug)]
pub struct Memory {
    /// What is remembered now.
    pub devices: Devices,
    /// The record as it was.
    record: Option<Vec<Known>>,
    /// Which devices have outlived others, a line each.
    lines: Vec<String>,
    boot: String,
    /// Devices that are there without a driver.
    idle: Vec<Place>,
    replace: bool,
}

impl Memory {
    /// Looks; nothing is written. `replace`: whether one that is gone may be dropped for another device that works. Early at boot it may
    /// not, as what is missing may still come.
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
        // Early at boot a bond is not made yet.
        for known in here.iter_mut().filter(|known| !replace && known.masters.is_empty()) {
            let old = record.iter().flatten().find(|old| (&old.address, &old.modalias) == (&known.address, &known.modalias));
            (known.masters, known.made) = old.map(|old| (old.masters.clone(), old.made.clone())).unwrap_or_default();
        }
        let mut devices = merged(record.clone().unwrap_or_default(), here, &idle, &boot);
        let routes = OnceCell::new();
        let lines = outlived(&mut devices, &idle, |known| replace && carries(host, &routes, known));
        Memory { devices, record, lines, boot, idle, replace }
    }

    /// Whether there is no record, or none that can be read. One that says that there is no device is another thing.
    pub(super) fn is_lost(&self) -> bool {
        self.record.is_none()
    }

    /// Whether this is early at boot.
    pub(super) fn is_early(&self) -> bool {
        !self.replace
    }

    /// A bond or a team of the boot before, early at boot: it may not be made yet, or not whole.
    pub(super) fn made_before(&self, name: &str) -> Option<&Made> {
        let all = self.devices.here.iter().chain(&self.devices.gone).flat_map(|known| &known.made);
        all.filter(|made| self.is_early() && made.name == name).max_by_key(|made| made.min_links)
    }

    /// Those that are missing.
    pub fn gone(&self) -> &[Known] {
        &self.devices.gone
    }

    /// What is known of a device of this machine.
    pub(super) fn of_device(&self, device: &Device) -> Option<&Known> {
        self.devices.here.iter().chain(&self.devices.gone).find(|known| known.is(device))
    }

    /// Makes it last, where anything is new. Says what is not counted any more, a line each. That a machine has no network device is
    /// worth a record too, but not while a default is `held`: then it may be the record of what it is held for that is lost.
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
        // Another run may have written since: what it saw, or what a person declined, is not undone.
        let now = Memory::of(host, self.devices.here.clone(), self.idle.clone(), self.boot.clone(), self.replace);
        if is_new(&now) {
            write(host, now.devices.list())?;
            // A run that looked before this one came, or came back, judged without it, and opens and promotes nothing any more.
            let before = now.record.clone().unwrap_or_default();
            let known = |device: &Known| before.iter().any(|old| old.modalias == device.modalias && old.seen == device.seen);
            if !now.devices.here.iter().all(known) {
                generation::bump(host)?;
            }
        }
        Ok(now.lines)
    }
}

/// The master of Open vSwitch's ports. Which of its bridges a port belongs to is not in sysfs.
const OPEN_VSWITCH: &str = "ovs-system";

/// Whether its link is up, and it or what is built on it (a bond, a bridge, a VLAN, these on top of each other) carries a default route.
fn carries(host: &Host, routes: &OnceCell<Vec<String>>, known: &Known) -> bool {
    let Some(interface) = &known.interface else { return false };
    let routed = routes.get_or_init(|| routes::default_interfaces(host));
    (pci::link_is_up(host, &known.address, interface) || pci::has_carrier(host, interface))
        && master::built_on(host, interface)
            .iter()
            .any(|name| routed.contains(name) || (name == OPEN_VSWITCH && !routed.is_empty()))
}

/// Forgets a device that is missing.
///
/// # Errors
/// Those of writing the record.
pub fn forget(host: &Host, device: &Known) -> Result<()> {
    let mut devices = read(host).unwrap_or_default();
    devices.retain(|known| (&known.address, &known.modalias) != (&device.address, &device.modalias));
    write(host, devices)
}

/// The addresses of the PCI functions that are remembered and are not there, bound or not: early at boot they are worth waiting for.
pub fn expected(host: &Host) -> Vec<String> {
    let here = pci::devices(host).unwrap_or_default();
    let here = here.iter().map(|d| Known::now(d, Binding::Unbound, "")).collect();
    let gone = merged(read(host).unwrap_or_default(), here, &[], "").gone;
    gone.into_iter().filter(|known| known.modalias.starts_with("pci:")).map(|known| known.address).collect()
}

/// Whether a device that was in use is there without a driver: the running kernel may lack it.
pub(super) fn is_undriven(host: &Host) -> bool {
    let remembered = read(host).unwrap_or_default();
    let idle = pci::devices(host).unwrap_or_default().into_iter().filter(|device| !device.in_use());
    idle.into_iter().any(|device| remembered.iter().any(|known| known.is(&device)))
}

#[cfg(test)]
mod tests;
