//! One look at the machine, and the plan that follows from it.

use super::plan::{plan, Plan, Rights, Situation};
use crate::boot;
use crate::config::Config;
use crate::gate;
use crate::host::Host;
use crate::kernel::leaving;
use crate::verdict::judge::{Judged, Judgement, Work};
use crate::verdict::survey::Survey;
use anyhow::Result;

/// What was seen, and when.
pub struct Look<'a> {
    host: &'a Host,
    /// The generation before anything was read. A change that raised it later may not have been seen.
    pub generation: u64,
    /// The machine.
    pub survey: Survey<'a>,
    /// The verdict on the machine.
    pub judgement: Judgement,
    /// What the verdict asks to be built.
    pub work: Vec<Work>,
}

impl<'a> Look<'a> {
    /// Looks and judges.
    ///
    /// # Errors
    /// Those of [`Survey::new`].
    pub fn new(host: &'a Host, config: &'a Config) -> Result<Look<'a>> {
        Look::with(host, || Survey::new(host, config))
    }

    /// The same while the machine starts.
    ///
    /// # Errors
    /// Those of [`Survey::at_boot`].
    pub fn at_boot(host: &'a Host, config: &'a Config) -> Result<Look<'a>> {
        Look::with(host, || Survey::at_boot(host, config))
    }

    fn with(host: &'a Host, survey: impl FnOnce() -> Result<Survey<'a>>) -> Result<Look<'a>> {
        let generation = gate::generation::current(host);
        let survey = survey()?;
        let Judged { judgement, work } = survey.judged();
        Ok(Look { host, generation, survey, judgement, work })
    }

    /// The verdict and its work, once the rest is not needed any more.
    pub fn judged(self) -> Judged {
        Judged { judgement: self.judgement, work: self.work }
    }

    /// What a run with these rights has to do.
    pub fn plan(&self, rights: Rights) -> Plan<'_> {
        let over = gate::active_override(self.host);
        // The removal of a kernel may still fail, and the kernel is then wanted as before.
        let settled = || self.survey.next.lasting().is_none() || !leaving::any(self.host);
        let rights = Rights { promote: rights.promote && settled(), ..rights };
        plan(&Situation {
            rights,
            judgement: &self.judgement,
            work: &self.work,
            next: &self.survey.next,
            wanted: self.survey.wanted.as_ref(),
            declined: self.survey.held_off.is_some() && self.survey.wanted.is_none(),
            declined_next: self.survey.declined_next(),
            held: self.held(),
            clear: gate::is_clear(self.host),
            excused: over.as_ref().map(|over| over.kernels.as_slice()),
            hold_target: &|| self.survey.hold_target(self.host),
        })
    }

    /// Whether a hold is on or its record is left. The record tells, or the mark in the boot loader's files where the record is lost.
    pub fn held(&self) -> bool {
        self.survey.held_off.is_some() || boot::Hold::read(self.host).is_some()
    }

    /// Whether the generation was raised since this look.
    pub fn is_overtaken(&self) -> bool {
        gate::generation::current(self.host) != self.generation
    }
}
