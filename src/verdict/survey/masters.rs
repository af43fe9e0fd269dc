//! The masters of a device's interfaces, and whether a kernel can create them again.

use super::evidence::examine;
use super::known::{Known, Memory};
use crate::finding::Verdict;
use crate::host::devices::master::{self, Kind};
use crate::host::devices::pci::{self, Device};
use crate::host::Host;
use crate::module::Target;
use crate::verdict::judge::{Link, Master};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::Path;

/// The modes of a team are modules of their own; those that are loaded now are needed again.
const TEAM_MODES: &str = "team_mode_";

/// The masters on one kernel; each is looked up once.
pub(super) struct Masters<'a> {
    host: &'a Host,
    devices: &'a [Device],
    memory: &'a Memory,
    target: &'a Target,
    cmdline: &'a str,
    seen: RefCell<BTreeMap<String, Master>>,
}

impl<'a> Masters<'a> {
    pub(super) fn new(
        host: &'a Host,
        devices: &'a [Device],
        memory: &'a Memory,
        target: &'a Target,
        cmdline: &'a str,
    ) -> Masters<'a> {
        Masters { host, devices, memory, target, cmdline, seen: RefCell::default() }
    }

    /// The masters of a device, if each of its interfaces has one. If the device has lost its driver and so its interface, or is not yet a
    /// port because it is early at boot, the record tells the names.
    pub(super) fn of(&self, device: &Device, known: Option<&Known>) -> Vec<Master> {
        let in_use = device.present && device.in_use();
        let now = if in_use { master::of_device(self.host, device) } else { Vec::new() };
        let names = match known {
            Some(known) if !in_use || (now.is_empty() && self.memory.is_early()) => known.masters.clone(),
            Some(_) | None => now,
        };
        names.iter().map(|name| self.named(name)).collect()
    }

    fn named(&self, name: &str) -> Master {
        let look = || {
            let before = self.memory.made_before(name);
            let (kind, min_links) = match before.filter(|_| !master::is_there(self.host, name)) {
                Some(made) => (made.kind, made.min_links),
                None => (master::kind(self.host, name, self.devices), master::min_links(self.host, name)),
            };
            let early = before.is_some_and(|made| made.kind == kind);
            let mut above = master::chain(self.host, name).into_iter().skip(1);
            let above = above.find_map(|name| self.lacking(master::kind(self.host, &name, self.devices)));
            Master { name: name.to_owned(), kind, min_links, early, lacks: self.lacking(kind).or(above) }
        };
        self.seen.borrow_mut().entry(name.to_owned()).or_insert_with(look).clone()
    }

    /// The first module for this kind of master that the kernel does not have or does not load. A bridge, a VLAN and the like are not
    /// checked: a kernel without them has no network anyway, with or without this port.
    fn lacking(&self, kind: Kind) -> Option<String> {
        let modules = match kind {
            // The NIC is judged as a device. But its driver loads only if the driver of its bus is loaded before.
            Kind::Synthetic if self.target.is_builtin("hv_netvsc") => Vec::new(),
            Kind::Synthetic => vec!["hv_vmbus".to_owned()],
            Kind::Other => Vec::new(),
            Kind::Failover => vec!["net_failover".to_owned()],
            Kind::Bond => vec!["bonding".to_owned()],
            Kind::Team => std::iter::once("team".to_owned()).chain(self.team_modes()).collect(),
        };
        modules.into_iter().find(|module| !self.loads(module))
    }

    fn team_modes(&self) -> impl Iterator<Item = String> {
        let loaded = self.host.read_dir("/sys/module").unwrap_or_default().into_iter();
        loaded.filter_map(|name| name.into_string().ok()).filter(|name| name.starts_with(TEAM_MODES))
    }

    fn loads(&self, module: &str) -> bool {
        let verified = |path: &Path| {
            let found = examine(self.host, self.target, module, path, None, None, self.cmdline);
            Verdict::of(&found.findings) == Verdict::Safe
        };
        self.target.is_builtin(module) || self.target.module_file(module).is_some_and(|path| verified(&path))
    }
}

/// The link state of a device's interface.
pub(super) fn link(host: &Host, device: &Device) -> Link {
    let Some(interface) = device.interface.as_deref().filter(|_| device.present) else { return Link::Unknown };
    if master::link_is_down(host, interface) || master::is_held_down(host, interface) {
        Link::Down
    } else if pci::link_is_up(host, &device.address, interface) || pci::has_carrier(host, interface) {
        Link::Up
    } else {
        Link::Unknown
    }
}
