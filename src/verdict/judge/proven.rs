//! The proof by use: what it answers, and what not.

use super::{KernelReport, Need};
use crate::finding::{Fact, Finding};

/// The running kernel drives its devices right now with what the next boot would load: a strict rule's objection is said as a
/// warning.
pub(super) fn excuse(report: &mut KernelReport, needs: &[Need]) {
    let mut excused = Vec::new();
    // What runs is modprobe's own choice; what is said of another copy is not excused.
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
