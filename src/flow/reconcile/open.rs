//! Opens the gate where all is safe: promotes the wanted kernel, opens, and looks once more.

use super::run::Run;
use crate::boot;
use crate::error;
use crate::finding::{Fact, Finding, Verdict};
use crate::flow::look::Look;
use crate::flow::plan::{Act, End};
use crate::flow::refuse;
use crate::gate::{self, Opened};
use crate::host::failpoint;
use crate::host::lock::BootLock;
use crate::kernel::leaving;
use crate::verdict::judge::{Judged, Judgement};
use anyhow::Result;

/// The result of opening after a look that found all safe.
pub(super) enum Allowed {
    /// All was still safe at the end, and everything that this run may open is open.
    Opened(Judged),
    /// Not safe after all, or another run changed something: the caller has to look again.
    Again(Judged),
}

impl Run<'_> {
    /// Ends the hold and opens the gate, then looks once more.
    pub(super) fn allow(&mut self, look: Look) -> Result<Allowed> {
        let rights = self.rights();
        self.withheld = !rights.open || leaving::any(self.host);
        let (end, open) = match look.plan(rights).act {
            Act::Allow { end, open } => (end, open),
            Act::Rest => return Ok(Allowed::Opened(look.judged())),
            Act::Refuse(_) | Act::Tell => return Ok(Allowed::Again(look.judged())),
        };
        failpoint::hit("safe-before-promoted");
        let mut not_promoted = None;
        let judged = match &end {
            End::Leave | End::KeepOff(_) => None,
            End::Promote(kernel) => Some(Some(kernel)),
            End::Forget => Some(None),
        };
        self.lock.still_ours()?;
        if let Some(judged) = judged {
            let lock = BootLock::take(self.host);
            // The previous holder of this lock may have held the default off another kernel meanwhile.
            if look.is_overtaken() {
                return Ok(Allowed::Again(look.judged()));
            }
            match lock.and_then(|lock| boot::promote(self.host, &lock, judged)) {
                Ok(change) => self.done.push(refuse::told(self.host, change)),
                // The current default was not judged.
                Err(e) if boot::was_set_meanwhile(&e) => return Ok(Allowed::Again(look.judged())),
                Err(e) => not_promoted = Some(e),
            }
        }
        if let End::KeepOff(hold_target) = &end {
            let lock = BootLock::take(self.host);
            if look.is_overtaken() {
                return Ok(Allowed::Again(look.judged()));
            }
            match lock.and_then(|lock| boot::hold_with(self.host, &lock, &self.config.boot, hold_target)) {
                Ok(change) => self.done.push(refuse::told(self.host, change)),
                Err(e) => self.done.push(format!("the declined kernel still boots next: {e:#}{}", refuse::remedy(&e))),
            }
        }
        failpoint::hit("promoted-before-open");
        if open {
            self.lock.still_ours()?;
            // Also removes what a killed run left half done.
            match gate::open(self.host, Some(look.generation))? {
                Opened::Overtaken => return Ok(Allowed::Again(look.judged())),
                Opened::Open { was_closed: true } => {
                    self.done.push("gate opened: all kernels that may boot are safe".into());
                }
                Opened::Open { was_closed: false } => {}
                // The kernels are no reason to refuse any more; the gate stays closed by the person's order.
                Opened::ByHand => {
                    gate::keep_closed_by_order(self.host, &self.config.gate)?;
                    refuse::order(self.host).into_iter().for_each(|line| self.say(line));
                }
            }
        }
        self.failed = None;
        let look = self.look()?;
        if look.judgement.verdict == Verdict::Safe {
            let mut judged = look.judged();
            if let Some(e) = not_promoted {
                note_promote(&mut judged.judgement, &e);
            }
            return Ok(Allowed::Opened(judged));
        }
        // Refuse at once, since this may have been the last round.
        self.refuse(&look);
        Ok(Allowed::Again(look.judged()))
    }
}

/// A promote that fails is a warning if the next boot is safe, and the gate still opens.
fn note_promote(judgement: &mut Judgement, why: &anyhow::Error) {
    let remedy = error::remedy(why).unwrap_or("set the boot default by hand: `grubby --set-default`").to_owned();
    for kernel in &mut judgement.kernels {
        kernel.findings.push(Finding::new(Fact::PromoteFailed, format!("{why:#}"), remedy.clone()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finding::Code;
    use crate::verdict::judge::{KernelReport, Role};

    #[test]
    fn a_failed_promote_is_a_warning_with_a_command_as_remedy() {
        let report = KernelReport {
            kernel: "6.1".parse().unwrap(),
            role: Role::Next,
            verdict: Verdict::Safe,
            devices: vec![],
            modules: vec![],
            findings: vec![],
            attempts: None,
        };
        let mut judgement = Judgement { verdict: Verdict::Safe, kernels: vec![report] };
        note_promote(&mut judgement, &anyhow::anyhow!("grubenv is read-only"));
        let finding = &judgement.kernels[0].findings[0];
        assert_eq!((finding.code, judgement.kernels[0].verdict), (Code::PromoteFailed, Verdict::Safe));
        assert!(finding.detail.contains("read-only") && finding.remedy.contains("grubby"), "{finding:?}");
    }
}
