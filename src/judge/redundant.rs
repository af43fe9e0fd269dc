//! A device whose network goes on without it: its master does, by another port that the kernel drives, or by itself. Losing it degrades
//! and locks nobody out.

use super::need::{described, Weighed};
use super::{KernelReport, Link, Master, Need};
use crate::finding::{Code, Finding, Severity, Verdict};
use crate::host::master::Kind;
use std::collections::BTreeSet;

/// Of each device that no module serves and that its master does without, what refuses becomes a warning.
pub(super) fn excuse(report: &mut KernelReport, needs: &[Need], weighed: &[Weighed]) {
    let refused = |at: usize| weighed[at].findings.iter().filter(|f| f.severity == Severity::Unsafe);
    let (lost, rest): (Vec<usize>, Vec<usize>) = (0..needs.len()).partition(|&at| goes_on(needs, weighed, at).is_some());
    let kept: Vec<&Finding> = rest.into_iter().flat_map(refused).collect();
    for at in lost {
        let mut any = false;
        for finding in refused(at).filter(|f| !kept.contains(f)) {
            for told in report.findings.iter_mut().filter(|told| *told == finding) {
                told.severity = Severity::Warning;
                any = true;
            }
        }
        if let (true, Some(by)) = (any, goes_on(needs, weighed, at)) {
            let own = needs[at].candidates.iter().any(|m| Verdict::of(&m.findings) == Verdict::Safe);
            let how = if own { "has not the driver that is wanted" } else { "is lost" };
            let detail = format!("{} {how} under {}; {by}", described(&needs[at]), report.kernel);
            report.findings.push(Finding::warn(Code::DeviceRedundant, detail, ""));
        }
    }
}

/// How the network of a device that no module serves goes on; none where it does not, or where that is not certain.
fn goes_on(needs: &[Need], weighed: &[Weighed], at: usize) -> Option<String> {
    let need = &needs[at];
    let harmless = need.candidates.iter().flat_map(|m| &m.findings).chain(&weighed[at].findings);
    let mut harmless = harmless.filter(|f| f.severity == Severity::Unsafe);
    if weighed[at].served || need.required || need.masters.is_empty() || !harmless.all(|f| only_keeps_out(f.code)) {
        return None;
    }
    let each: Option<Vec<String>> = need.masters.iter().map(|master| carries(master, needs, weighed, at)).collect();
    Some(each?.join("; "))
}

/// How a master goes on without a device.
fn carries(master: &Master, needs: &[Need], weighed: &[Weighed], without: usize) -> Option<String> {
    if master.lacks.is_some() {
        return None;
    }
    let name = |need: &Need| need.device.as_ref().and_then(|d| d.interface.clone());
    let address = |need: &Need| need.device.as_ref().map(|d| d.address.clone());
    let is_port = |need: &Need| match master.kind {
        Kind::Synthetic => name(need).as_ref() == Some(&master.name),
        Kind::Failover | Kind::Bond | Kind::Team => need.masters.iter().any(|m| m.name == master.name),
    };
    let others = needs.iter().filter(|n| address(n) != address(&needs[without]) && is_port(n));
    // An interface may take more than one driver (virtio's, and that of its PCI function).
    let works = |interface: &String| {
        let mut own = needs.iter().zip(weighed).filter(|(n, _)| name(n).as_ref() == Some(interface));
        own.all(|(n, w)| w.served && is_linked(n, master.kind))
    };
    let ports: BTreeSet<String> = others.filter_map(name).filter(works).collect();
    let what = format!("its master {} ({})", master.name, master.kind.name());
    match master.kind {
        _ if ports.len() < master.min_links.max(1) => None,
        Kind::Synthetic => Some(format!("{what} carries the network by itself")),
        Kind::Failover | Kind::Bond | Kind::Team => {
            let ports: Vec<String> = ports.into_iter().collect();
            Some(format!("{what} carries the network by {}", ports.join(", ")))
        }
    }
}

/// Whether a device is in use with a link. What a hypervisor pairs may have none as long as nobody has brought it up.
fn is_linked(need: &Need, kind: Kind) -> bool {
    let linked = match (kind, need.link) {
        (_, Link::Up) => true,
        (_, Link::Down) => false,
        (Kind::Synthetic | Kind::Failover, Link::Unknown) => true,
        (Kind::Bond | Kind::Team, Link::Unknown) => false,
    };
    linked && !need.missing && need.device.as_ref().is_some_and(|d| d.present && d.in_use())
}

/// Whether all that comes of a finding is that the module is not there or that the kernel refuses it. One that might be loaded, and then
/// do harm, is no loss that a master makes good.
fn only_keeps_out(code: Code) -> bool {
    match code {
        Code::ModuleMissing
        | Code::ModuleUnreadable
        | Code::WrongArch
        | Code::VermagicRelease
        | Code::VermagicFlags
        | Code::SymbolCrc
        | Code::SymbolMissing
        | Code::SymbolUnversioned
        | Code::SymbolRestricted
        | Code::VersionsMissing
        | Code::DeviceUnclaimed
        | Code::DependencyMissing
        | Code::DepmodStale
        | Code::Shadowed
        | Code::Blacklisted
        | Code::Unsigned
        | Code::SignerUntrusted
        | Code::SignatureInvalid => true,
        Code::NotElf
        | Code::Stripped
        | Code::SymversMissing
        | Code::WrongVersion
        | Code::InitramfsStale
        | Code::InterfaceRename
        | Code::HeadersMissing
        | Code::BuildFailed
        | Code::FetchFailed
        | Code::BuildPending
        | Code::BoundByHand
        | Code::BootUnknown
        | Code::InTree
        | Code::InTreeFallback
        | Code::ModversionsOff
        | Code::CompilerMismatch
        | Code::ProvenByUse
        | Code::LastSafeKernel
        | Code::PromoteFailed
        | Code::DeviceMissing
        | Code::DeviceRedundant
        | Code::ImageDamaged
        | Code::ImageFormat
        | Code::EntryStops
        | Code::BootSpace
        | Code::NewestNotBooting => false,
    }
}
