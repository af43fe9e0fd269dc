//! The proof by use: what it answers, and what not.

use super::{KernelReport, Need};
use crate::finding::{Code, Finding, Severity};

/// The running kernel drives its devices right now with what the next boot would load: a strict rule's objection is said as a
/// warning.
pub(super) fn excuse(report: &mut KernelReport, needs: &[Need]) {
    let mut excused = Vec::new();
    // What runs is modprobe's own choice; what is said of another copy is not excused.
    let running: Vec<&Finding> = needs.iter().filter_map(|n| n.candidates.first()).flat_map(|m| &m.findings).collect();
    for finding in report.findings.iter_mut().filter(|f| f.severity == Severity::Unsafe) {
        if excusable(finding.code) && running.contains(&&*finding) {
            finding.severity = Severity::Warning;
            excused.push(finding.detail.clone());
        }
    }
    if !excused.is_empty() {
        report.findings.push(Finding::warn(
            Code::ProvenByUse,
            format!(
                "{} is running with its devices up and its modules unchanged since boot, although: {}",
                report.kernel,
                excused.join("; ")
            ),
            format!("vfguard prepare {}", report.kernel),
        ));
    }
}

/// Which objections the proof by use answers: those about a file that loaded and works. Not those about what a new boot
/// would find elsewhere (a missing or shadowed file, another initramfs, a blacklist added since).
fn excusable(code: Code) -> bool {
    match code {
        Code::ModuleUnreadable
        | Code::NotElf
        | Code::WrongArch
        | Code::Stripped
        | Code::VermagicRelease
        | Code::VermagicFlags
        | Code::SymbolCrc
        | Code::SymbolMissing
        | Code::SymbolUnversioned
        | Code::VersionsMissing
        | Code::SymversMissing
        | Code::WrongVersion
        | Code::Unsigned
        | Code::SignerUntrusted
        | Code::SignatureInvalid
        | Code::SymbolRestricted
        | Code::CompilerMismatch
        | Code::HeadersMissing
        | Code::BuildFailed
        | Code::FetchFailed => true,
        Code::ModuleMissing
        | Code::DeviceUnclaimed
        | Code::DependencyMissing
        | Code::DepmodStale
        | Code::Shadowed
        | Code::Blacklisted
        | Code::InitramfsStale
        | Code::InterfaceRename
        | Code::BuildPending
        | Code::BoundByHand
        | Code::BootUnknown
        | Code::InTree
        | Code::ModversionsOff
        | Code::ProvenByUse
        | Code::LastSafeKernel
        | Code::PromoteFailed
        | Code::DeviceMissing
        | Code::EntryStops
        | Code::ImageDamaged
        | Code::ImageFormat
        | Code::BootSpace
        | Code::DeviceRedundant
        | Code::InTreeFallback
        | Code::NewestNotBooting => false,
    }
}
