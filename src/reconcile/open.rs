//! Opens the gate where all is safe: promotes what the default was held off, opens, and looks once more.

use super::{held, Run};
use crate::boot;
use crate::error;
use crate::finding::{Code, Finding, Verdict};
use crate::gate;
use crate::host::lock::BootLock;
use crate::judge::Judgement;
use crate::refuse;
use crate::survey::Survey;
use anyhow::Result;

impl Run<'_> {
    /// Promotes and opens, then looks once more. `Err` holds the judgement that says: not safe after all, or a hook came by.
    pub(super) fn open(
        &mut self,
        survey: &Survey,
        judgement: Judgement,
        generation: u64,
    ) -> Result<Result<Judgement, Judgement>> {
        let mut not_promoted = None;
        if self.acts() && self.place.may_hold() && held(self.host, survey) {
            let lock = BootLock::take(self.host);
            // Whoever held that lock may have held the default off another kernel meanwhile.
            let wanted = boot::wanted(self.host, &boot::next_boot(self.host, &self.config.boot));
            if gate::generation::current(self.host) != generation || wanted != survey.wanted {
                return Ok(Err(judgement));
            }
            match lock.and_then(|lock| boot::promote(self.host, &lock, wanted.as_ref())) {
                Ok(change) => self.done.push(refuse::told(self.host, change)),
                Err(e) => not_promoted = Some(e),
            }
        }
        if gate::generation::current(self.host) != generation {
            return Ok(Err(judgement));
        }
        let closed = gate::state(self.host).state == gate::State::Closed;
        // Clears away what a run that died left half-done, too.
        gate::open(self.host)?;
        self.failed = None;
        if closed {
            self.done.push("gate opened: all kernels that may boot are safe".into());
        }
        let survey = Survey::new(self.host, self.config)?;
        let mut again = survey.judge();
        if again.verdict == Verdict::Safe {
            if let Some(e) = not_promoted {
                note_promote(&mut again, &e);
            }
            return Ok(Ok(again));
        }
        // At once: this may have been the last round.
        self.refuse(&survey, &again);
        Ok(Err(again))
    }
}

/// A promote that fails while next is safe is a warning, and the gate opens.
fn note_promote(judgement: &mut Judgement, why: &anyhow::Error) {
    let remedy = error::remedy(why).unwrap_or("set the boot default by hand: `grubby --set-default`").to_owned();
    for kernel in &mut judgement.kernels {
        kernel.findings.push(Finding::warn(Code::PromoteFailed, format!("{why:#}"), remedy.clone()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::judge::{KernelReport, Role};

    #[test]
    fn a_promote_that_fails_is_a_warning_with_what_to_type() {
        let report = KernelReport {
            kernel: "6.1".parse().unwrap(),
            role: Role::Next,
            verdict: Verdict::Safe,
            devices: vec![],
            modules: vec![],
            findings: vec![],
            builds: vec![],
            initramfs: false,
        };
        let mut judgement = Judgement { verdict: Verdict::Safe, kernels: vec![report] };
        note_promote(&mut judgement, &anyhow::anyhow!("grubenv is read-only"));
        let finding = &judgement.kernels[0].findings[0];
        assert_eq!((finding.code, judgement.kernels[0].verdict), (Code::PromoteFailed, Verdict::Safe));
        assert!(finding.detail.contains("read-only") && finding.remedy.contains("grubby"), "{finding:?}");
    }
}
