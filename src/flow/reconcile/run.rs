//! A run that holds the lock: it looks, refuses, builds, looks again and opens.

use super::end::{Ended, Way};
use super::leave;
use super::open::Allowed;
use super::{Effort, Standing};
use crate::boot;
use crate::boot::declined;
use crate::config::{Config, Mode};
use crate::driver::prepare::leftovers;
use crate::error;
use crate::finding::Verdict;
use crate::flow::look::Look;
use crate::flow::plan::{Act, Rights};
use crate::flow::refuse;
use crate::gate;
use crate::host::lock::{BootLock, WriteLock};
use crate::host::{failpoint, locks, Host};
use crate::progress::Progress;
use crate::verdict::judge::Judged;
use anyhow::Result;

/// How often a run starts over because a kernel arrived meanwhile. After that it leaves the gate closed and says so.
const MAX_ROUNDS: usize = 5;

/// One run that holds the lock.
pub(super) struct Run<'a> {
    pub(super) host: &'a Host,
    pub(super) config: &'a Config,
    pub(super) progress: &'a dyn Progress,
    pub(super) effort: Effort,
    /// The rights by mode and place.
    pub(super) allowed: Rights,
    pub(super) standing: Standing,
    pub(super) lock: WriteLock,
    pub(super) done: Vec<String>,
    /// Why the last attempt to close the gate could not be confirmed.
    pub(super) failed: Option<anyhow::Error>,
    /// All was safe, but packages were changing.
    pub(super) withheld: bool,
}

impl<'a> Run<'a> {
    /// Removes what killed runs and removed kernels left behind. A failure is reported and does not stop the run.
    pub(super) fn clean(&mut self) {
        gate::generation::trim(self.host, &self.lock);
        leftovers::sweep(self.host, &self.lock);
        self.done.extend(leftovers::clean(self.host, &self.lock));
    }

    /// Looks, refuses, builds, looks again and opens; starts over if other runs changed something meanwhile.
    pub(super) fn rounds(&mut self) -> Result<Judged> {
        let mut last = None;
        for _ in 0..MAX_ROUNDS {
            let mut look = self.look()?;
            if self.end_hold(&look)? {
                look = self.look()?;
            }
            failpoint::hit("judged-before-decided");
            let first = look.generation;
            let mut own = self.refuse(&look);
            let moved = own.moved;
            // Another kernel may boot next now: the default was held, or an unsafe one-shot default removed.
            let again = self.prepare(&look) || moved;
            self.lock.still_ours()?;
            if again {
                look = self.look()?;
            }
            match look.plan(self.rights()).act {
                Act::Rest | Act::Allow { .. } => match self.allow(look)? {
                    Allowed::Opened(judged) => return Ok(judged),
                    Allowed::Again(judged) => last = Some(judged),
                },
                Act::Refuse(_) | Act::Tell => {
                    // The builds may have brought better reasons.
                    if again {
                        own.raised += self.refuse(&look).raised;
                    }
                    // A kernel that arrived after the first look may need a build, so look again. But if the gate is not confirmed as
                    // closed, report that first.
                    if self.failed.is_some() || gate::generation::current(self.host) == first + own.raised {
                        return Ok(look.judged());
                    }
                    last = Some(look.judged());
                }
            }
        }
        // All was safe, but the gate was not opened. It stays closed, and the runs that interfered have refused what is unsafe.
        last.filter(|judged| judged.judgement.verdict != Verdict::Safe).ok_or_else(|| {
            error::advise_exit(
                error::Exit::Locked,
                "other runs keep coming, so this one neither opened the gate nor moved the boot default",
                "run `vfguard reconcile` once the package manager is done",
            )
        })
    }

    pub(super) fn look(&self) -> Result<Look<'a>> {
        self.effort.look(self.host, self.config)
    }

    /// What may be done now; a transaction may have begun or ended since the last look.
    pub(super) fn rights(&self) -> Rights {
        self.standing.limit(self.host, self.allowed)
    }

    /// Ends the run; the lock is kept until the result is reported.
    pub(super) fn ended(self, judged: Judged) -> Ended {
        let way = Way::Whole { lock: self.lock, withheld: self.withheld };
        Ended { judged, done: self.done, failed: self.failed, way }
    }

    /// Refuses what is not safe, and records what was done and what failed.
    pub(super) fn refuse(&mut self, look: &Look) -> Own {
        let Act::Refuse(refusal) = look.plan(self.rights()).act else { return Own::default() };
        let refused = refuse::refuse(self.host, self.config, &refusal, &look.judgement);
        refused.done.into_iter().for_each(|line| self.say(line));
        self.failed = refused.failed;
        Own { moved: refused.moved, raised: refused.raised }
    }

    /// Removes the record of a hold if the default was moved away from it. Where holds are not kept any more, ends an earlier one. Returns
    /// whether the boot default was moved.
    fn end_hold(&mut self, look: &Look) -> Result<bool> {
        if !look.held() {
            return Ok(false);
        }
        let lock = BootLock::take(self.host)?;
        if self.config.mode == Mode::Enforce {
            // The hold has ended even if its record cannot be removed.
            if let Err(e) = boot::forget_stale(self.host, &lock, &look.survey.next) {
                self.say(format!("the record of a hold that has ended stays: {e:#}"));
            }
            return self.accept_default(look, &lock);
        }
        if self.effort == Effort::Early {
            // Devices may still be missing; the next run ends it.
            return Ok(false);
        }
        let Some((moved, line)) = leave::leave(self.host, &lock, look) else { return Ok(false) };
        self.say(line);
        Ok(moved)
    }

    /// Somebody moved the default from the held kernel to a safe declined one, so they want it: removes it from the declined kernels.
    /// Returns whether anything changed.
    fn accept_default(&mut self, look: &Look, lock: &BootLock) -> Result<bool> {
        // A package that sets a default does not speak for a person. So this is skipped in its transaction and in runs of hooks.
        let no_hook = self.standing == Standing::Unasked || self.effort == Effort::Whole;
        let by_hand = no_hook && locks::transaction(self.host).is_none();
        let safe = by_hand && look.judgement.verdict == Verdict::Safe && look.survey.declined_next() && !look.is_overtaken();
        let Some(next) = look.survey.next.lasting().filter(|_| safe && boot::held(self.host).is_none()) else {
            return Ok(false);
        };
        declined::remove(self.host, lock, &next.kernel)?;
        self.say(format!("{} was made the boot default, so it is not declined any more", next.kernel));
        Ok(true)
    }

    pub(super) fn say(&mut self, line: String) {
        if !self.done.contains(&line) {
            self.done.push(line);
        }
    }
}

/// What a run itself changed while it refused.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Own {
    /// Whether the boot default was moved, or the one-shot default removed.
    pub moved: bool,
    /// How often the generation was raised.
    pub raised: u64,
}
