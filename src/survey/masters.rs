//! The masters of a device's interfaces, and whether a kernel can make them again.

use super::evidence::examine;
use super::known::Known;
use crate::finding::Verdict;
use crate::host::master::{self, Kind};
use crate::host::pci::{self, Device};
use crate::host::Host;
use crate::judge::{Link, Master};
use crate::module::Target;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::Path;

/// The modes of a team are modules of their own; those that are loaded now are needed again.
const TEAM_MODES: &str = "team_mode_";

/// What is known of masters on one kernel; each is looked at once.
pub(super) struct Masters<'a> {
    host: &'a Host,
    devices: &'a [Device],
    target: &'a Target,
    cmdline: &'a str,
    seen: RefCell<BTreeMap<String, Option<Master>>>,
}

impl<'a> Masters<'a> {
    pub(super) fn new(host: &'a Host, devices: &'a [Device], target: &'a Target, cmdline: &'a str) -> Masters<'a> {
        Masters { host, devices, target, cmdline, seen: RefCell::default() }
    }

    /// The masters of a device, if each of its interfaces has one that goes on without it. A device that has lost its driver has no
    /// interface: then the record has the names, and whether they carry its network is told by what is there now.
    pub(super) fn of(&self, device: &Device, known: Option<&Known>) -> Vec<Master> {
        let in_use = device.present && device.in_use();
        let remembered = || known.map(|k| k.masters.clone()).unwrap_or_default();
        let names = if in_use { master::of_device(self.host, device) } else { remembered() };
        names.iter().map(|name| self.named(name)).collect::<Option<Vec<Master>>>().unwrap_or_default()
    }

    fn named(&self, name: &str) -> Option<Master> {
        let look = || {
            let kind = master::kind(self.host, name, self.devices)?;
            let min_links = if kind == Kind::Bond { master::min_links(self.host, name) } else { 1 };
            Some(Master { name: name.to_owned(), kind, min_links, lacks: self.lacking(kind) })
        };
        self.seen.borrow_mut().entry(name.to_owned()).or_insert_with(look).clone()
    }

    /// The first module of a kind of master that the kernel has not, or does not load. Hyper-V's own NIC is a device, and judged as one.
    fn lacking(&self, kind: Kind) -> Option<String> {
        let modules = match kind {
            Kind::Synthetic => Vec::new(),
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

/// The link of a device's interface.
pub(super) fn link(host: &Host, device: &Device) -> Link {
    let Some(interface) = device.interface.as_deref().filter(|_| device.present) else { return Link::Unknown };
    if pci::link_is_up(host, &device.address, interface) || pci::has_carrier(host, interface) {
        Link::Up
    } else if master::link_is_down(host, interface) {
        Link::Down
    } else {
        Link::Unknown
    }
}
