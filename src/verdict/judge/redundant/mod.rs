//! A device whose network continues without it: its master carries it, by another port that the kernel drives or by itself. Losing such a
//! device means less redundancy, but the machine stays reachable.

use super::need::{described, Weighed};
use super::{KernelReport, Link, Master, Need};
use crate::finding::{Fact, Finding, Verdict};
use crate::host::devices::master::Kind;
use std::collections::BTreeSet;

/// For each device that no module serves and that its master can do without, turns the refusing findings into warnings. Where the master
/// does not count, an info says why.
pub(super) fn excuse(report: &mut KernelReport, needs: &[Need], weighed: &[Weighed]) {
    let refused = |at: usize| weighed[at].findings.iter().filter(|f| f.refuses());
    let each: Vec<Without> = (0..needs.len()).map(|at| without(report, needs, weighed, at)).collect();
    let lost = |at: &usize| matches!(each[*at], Without::GoesOn(_));
    let kept: Vec<&Finding> = (0..needs.len()).filter(|at| !lost(at)).flat_map(refused).collect();
    for (at, without) in each.iter().enumerate() {
        let device = described(&needs[at]);
        match without {
            Without::GoesOn(by) => {
                let mut any = false;
                for finding in refused(at).filter(|f| !kept.contains(f)) {
                    for told in report.findings.iter_mut().filter(|told| *told == finding) {
                        told.excuse();
                        any = true;
                    }
                }
                if any {
                    let detail = format!("{device} is lost under {}; {by}", report.kernel);
                    report.findings.push(Finding::new(Fact::DeviceRedundant, detail, ""));
                }
            }
            Without::Lost(why) => {
                let still = refused(at).any(|f| report.findings.contains(f));
                for why in why.iter().filter(|_| still) {
                    report.findings.push(Finding::new(Fact::MasterDoesNotCarry, format!("{device}: {why}"), ""));
                }
            }
        }
    }
}

/// Whether the network of a device continues without it.
enum Without {
    /// It continues; how.
    GoesOn(String),
    /// It does not, or that is not certain; why each master that matters does not count.
    Lost(Vec<String>),
}

/// Whether the network of a device that no module serves continues. A module that exists and that nothing keeps from loading will be loaded
/// and take over the traffic, even if it is not wanted.
fn without(report: &KernelReport, needs: &[Need], weighed: &[Weighed], at: usize) -> Without {
    let need = &needs[at];
    let loads = need.candidates.iter().any(|m| Verdict::of(&m.findings) == Verdict::Safe);
    let mut all = need.candidates.iter().flat_map(|m| &m.findings).chain(&weighed[at].findings);
    let harmful = all.any(|f| f.refuses() && !f.is_excused_by_master());
    if weighed[at].served || need.required || loads || harmful || need.masters.is_empty() {
        return Without::Lost(Vec::new());
    }
    let told = |master: &Master| {
        let what = format!("its master {} ({})", master.name, master.kind.name());
        match carries(report, master, needs, weighed, at) {
            Ok(how) => Ok(format!("{what} carries the network {how}")),
            Err(why) => Err(format!("{what} does not count: {why}")),
        }
    };
    let (on, off): (Vec<_>, Vec<_>) = need.masters.iter().map(told).partition(Result::is_ok);
    if off.is_empty() {
        return Without::GoesOn(on.into_iter().flatten().collect::<Vec<_>>().join("; "));
    }
    Without::Lost(off.into_iter().filter_map(Result::err).collect())
}

/// How a master continues without a device, or why it does not.
fn carries(
    report: &KernelReport,
    master: &Master,
    needs: &[Need],
    weighed: &[Weighed],
    without: usize,
) -> Result<String, String> {
    if let Some(module) = &master.lacks {
        return Err(format!("{} cannot load {module}", report.kernel));
    }
    let name = |need: &Need| need.device.as_ref().and_then(|d| d.interface.clone());
    let address = |need: &Need| need.device.as_ref().map(|d| d.address.clone());
    let is_there = |need: &Need| need.device.as_ref().is_some_and(|d| d.present);
    let is_port = |need: &Need| match master.kind {
        Kind::Synthetic => name(need).as_ref() == Some(&master.name),
        Kind::Failover | Kind::Bond | Kind::Team => {
            need.masters.iter().any(|m| m.name == master.name) && need.masters.iter().all(|m| m.kind != Kind::Other)
        }
        Kind::Other => false,
    };
    let others = needs.iter().filter(|n| address(n) != address(&needs[without]) && is_there(n) && is_port(n));
    // An interface may need more than one driver (virtio's, and that of its PCI function). A missing device that had this name does not
    // count.
    let works = |interface: &String| {
        let mut own = needs.iter().zip(weighed).filter(|(n, _)| is_there(n) && name(n).as_ref() == Some(interface));
        own.all(|(n, w)| w.served && is_linked(n, master))
    };
    let ports: BTreeSet<String> = others.filter_map(name).filter(works).collect();
    let few = ports.len() < master.min_links.max(1);
    let ports = ports.into_iter().collect::<Vec<_>>().join(", ");
    match master.kind {
        Kind::Other => Err("nothing says that its ports lead to one network".into()),
        Kind::Synthetic if few => Err(format!("{} does not drive it, or it has no link", report.kernel)),
        Kind::Synthetic => Ok("by itself".into()),
        Kind::Failover | Kind::Bond | Kind::Team if few && !ports.is_empty() => {
            Err(format!("it wants {} links, and only {ports} is left under {}", master.min_links, report.kernel))
        }
        Kind::Failover | Kind::Bond | Kind::Team if few => {
            Err(format!("no other port of it has a link and a driver of {}", report.kernel))
        }
        Kind::Failover | Kind::Bond | Kind::Team => Ok(format!("by {ports}")),
    }
}

/// Whether a device is in use and its link is up. A device that a hypervisor pairs may have no link until somebody brings it up.
fn is_linked(need: &Need, master: &Master) -> bool {
    let linked = match (master.kind, need.link) {
        (_, Link::Up) => true,
        (Kind::Bond | Kind::Team, Link::Down | Link::Unknown) => master.early,
        (Kind::Synthetic | Kind::Failover, Link::Unknown) => true,
        (Kind::Synthetic | Kind::Failover, Link::Down) | (Kind::Other, Link::Down | Link::Unknown) => false,
    };
    linked && !need.missing && need.device.as_ref().is_some_and(|d| d.present && d.in_use())
}

#[cfg(test)]
mod tests;
