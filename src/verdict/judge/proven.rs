//! The proof by use: which findings it excuses, and which not.

use super::{KernelReport, Need};
use crate::finding::{Fact, Finding};

/// The running kernel drives its devices now with the modules that the next boot would load, so the refusing findings about these become
/// warnings.
pub(super) fn excuse(report: &mut KernelReport, needs: &[Need]) {
    let mut excused = Vec::new();
    // The loaded module is the one that modprobe chooses; findings about other copies are not excused.
    let running: Vec<&Finding> = needs.iter().filter_map(|n| n.candidates.first()).flat_map(|m| &m.findings).collect();
    for finding in report.findings.iter_mut().filter(|f| f.is_excused_by_use()) {
        if running.contains(&&*finding) {
            finding.excuse();
            excused.push(finding.detail.clone());
        }
    }
    if !excused.is_empty() {
        report.findings.push(Finding::new(
            Fact::ProvenByUse,
            format!(
                "{} is running with its devices up and its modules unchanged since boot, although: {}",
                report.kernel,
                excused.join("; ")
            ),
            format!("vfguard prepare {}", report.kernel),
        ));
    }
}
