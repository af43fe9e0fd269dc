//! The way of the data in one function: judge; if not all is safe, close the gate and hold the boot default, prepare, judge
//! again; open only on `safe`.
//!
//! ```text
//!            judge ── safe, gate open, no hold ──► done (no process, no lock)
//!              │
//!          not safe ──► hold, close (src/flow/refuse.rs: before any lock that a build holds)
//!              │
//!            lock ──► judge ── safe ──► promote ──► open ──► look once more ── not safe ──► (again)
//!              │                                     ▲
//!          not safe ──► hold, close ──► prepare ──► judge ── not safe ──► stays closed, says why
//! ```

mod build;
mod effort;
mod leave;
mod open;

pub use effort::{Effort, Standing};

pub use leave::left_over;

use super::look::Look;
use super::plan::{Plan, Rights};
use super::refuse::{self, Refused};
use crate::boot;
use crate::boot::declined;
use crate::config::{Config, Mode};
use crate::driver::prepare::leftovers;
use crate::driver::{self, headers};
use crate::error;
use crate::finding::Verdict;
use crate::gate;
use crate::host::lock::{BootLock, WriteLock};
use crate::host::locks;
use crate::host::place::{self, Place};
use crate::host::{failpoint, Host};
use crate::kernel::{leaving, KernelRelease};
use crate::progress::Progress;
use crate::retention::protect::{self, Occasion};
use crate::verdict::judge::Judgement;
use crate::verdict::survey::{self, Survey};
use anyhow::Result;
use std::time::Duration;

/// How often a run starts over because a kernel arrived meanwhile; then it leaves the gate closed and says so.
const MAX_ROUNDS: usize = 5;

/// How long a run that only decides waits for another: it is one that only decides too, or one that builds.
const DECIDING: Duration = Duration::from_secs(3);

/// What a run came to.
#[derive(Debug)]
pub struct Outcome {
    /// The verdict on what may boot.
    pub judgement: Judgement,
    /// The gate as it is left.
    pub gate: gate::State,
    /// One line for people where vfguard keeps its hands off.
    pub hands_off: Option<String>,
    /// What was done and what could not be, a line each.
    pub done: Vec<String>,
    /// Why the gate is not seen closed, where it should be.
    pub failed: Option<anyhow::Error>,
    /// All is safe, and nothing was promoted or opened, since packages are being changed.
    pub withheld: bool,
}

/// Brings the machine to the state that its kernels deserve. Idempotent.
///
/// # Errors
/// When it cannot be decided, another run holds the lock too long, or the gate cannot be opened.
pub fn reconcile(
    host: &Host,
    config: &Config,
    effort: Effort,
    standing: Standing,
    progress: &dyn Progress,
) -> Result<Outcome> {
    // It decides nothing: without the counter a run under way looks once more after it opened.
    let mut done: Vec<String> = Vec::new();
    done.extend(gate::generation::bump(host).err().map(|e| format!("{e:#}")));
    failpoint::hit("raised-before-judged");
    leaving::sweep(host);
    let place = place::place(host);
    if let Some(line) = hands_off(place) {
        return outside(host, config, progress, place, line);
    }
    // What boots is judged by files that are whole.
    done.extend(boot::heal(host).unwrap_or_else(|e| Some(format!("{e:#}"))));
    if (config.mode == Mode::Observe || !place.may_close()) && !gate::is_clear(host) {
        // Left from before the mode or the place changed; now nothing is refused.
        gate::open(host, None)?;
    }
    let allowed = Rights::new(config.mode, place, effort == Effort::Early, gate::removing(host));
    // What a person closed is closed again after a boot, whatever is found.
    let not_closed = if allowed.close { gate::keep_closed(host, &config.gate).err() } else { None };
    done.extend(refuse::order(host).filter(|_| allowed.close));
    let look = effort.look(host, config)?;
    let plan = look.plan(standing.limit(host, allowed));
    let idle = look.judgement.kernels.iter().all(|k| k.builds.is_empty()) && leftovers::removed(host).is_empty();
    if plan == Plan::Rest && idle {
        done.extend(survey::remember(host, &look.survey));
        done.extend(leave_ready(host, config, &look.survey));
        // Nothing is held.
        done.extend(protect::follow(host, None, Occasion::Run));
        let (gate, judgement) = (gate::State::Open, look.judgement);
        return Ok(Outcome { judgement, gate, hands_off: None, done, failed: not_closed, withheld: false });
    }
    failpoint::hit("judged-before-refused");
    // Another run may hold the lock for as long as a build takes; what is unsafe is refused before that.
    let Refused { done: said, failed, .. } = match &plan {
        Plan::Refuse(refusal) => refuse::refuse(host, config, refusal, &look.judgement),
        Plan::Rest | Plan::Allow { .. } | Plan::Tell => Refused::default(),
    };
    done.extend(said);
    let failed = failed.or(not_closed);
    done.extend(survey::remember(host, &look.survey));
    let patience = match effort {
        Effort::Whole | Effort::Within(_) => config.hook.patience(),
        Effort::Decide | Effort::Early => DECIDING,
    };
    let lock = match (WriteLock::take(host, patience), effort) {
        (Ok(lock), _) => lock,
        (Err(e), Effort::Decide | Effort::Early) if error::exit(&e) == error::Exit::Locked => {
            // The counter was raised: that run looks again before it opens.
            done.push("another run is at work; it looks again before it opens the gate".into());
            let gate = gate::state(host).state;
            return Ok(Outcome { judgement: look.judgement, gate, hands_off: None, done, failed, withheld: false });
        }
        (Err(e), _) => {
            // What was refused stays refused, and is told beside the error.
            done.iter().for_each(|line| progress.note(line));
            return Err(e);
        }
    };
    let mut run = Run { host, config, progress, effort, allowed, standing, lock, done, failed, withheld: false };
    run.clean();
    let judgement = run.rounds()?;
    if let Ok(survey) = Survey::new(host, config) {
        run.done.extend(leave_ready(host, config, &survey));
    }
    run.done.extend(keep_held(host));
    Ok(run.outcome(judgement))
}

/// After something else changed a module under the lock (a `prepare` by hand): opens the gate if all is safe now, and refuses
/// otherwise; nothing is built.
///
/// # Errors
/// Those of [`reconcile`].
pub fn settle(host: &Host, config: &Config, lock: WriteLock, progress: &dyn Progress) -> Result<Outcome> {
    let allowed = Rights::new(config.mode, place::place(host), false, gate::removing(host));
    let mut run = Run {
        host,
        config,
        progress,
        effort: Effort::Decide,
        allowed,
        standing: Standing::Final,
        lock,
        done: vec![],
        failed: None,
        withheld: false,
    };
    let mut look = Look::new(host, config)?;
    if run.refuse(&look).moved {
        // What boots is another kernel now.
        look = Look::new(host, config)?;
    }
    let judgement = match look.plan(allowed) {
        Plan::Rest | Plan::Allow { .. } if hands_off(place::place(host)).is_some() => look.judgement,
        Plan::Rest | Plan::Allow { .. } => match run.allow(look)? {
            Ok(opened) => opened,
            Err(_) => {
                let look = Look::new(host, config)?;
                run.refuse(&look);
                look.judgement
            }
        },
        Plan::Refuse(_) | Plan::Tell => {
            run.refuse(&look);
            look.judgement
        }
    };
    run.done.extend(keep_held(host));
    Ok(run.outcome(judgement))
}

/// A driver that a kernel wants and that a build may still bring.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pending {
    /// The kernel.
    pub kernel: KernelRelease,
    /// The recipe's name.
    pub driver: String,
    /// Whether the kernel's headers are there.
    pub headers: bool,
}

/// What is left to build after a judgement. What would only fail again is not.
///
/// # Errors
/// A recipe that cannot be read.
pub fn pending(host: &Host, judgement: &Judgement) -> Result<Vec<Pending>> {
    let recipes = driver::recipes(host)?;
    let mut pending = Vec::new();
    for report in &judgement.kernels {
        let named = recipes.iter().filter(|r| report.builds.contains(&r.name));
        for recipe in named.filter(|r| !driver::would_fail_again(host, &report.kernel, r, &report.devices)) {
            let headers = !headers::missing(host, &report.kernel);
            pending.push(Pending { kernel: report.kernel.clone(), driver: recipe.name.clone(), headers });
        }
    }
    Ok(pending)
}

/// Leaves ready what holds the default should a later run die, and the mode; that it cannot be left is a line.
fn leave_ready(host: &Host, config: &Config, survey: &Survey) -> Option<String> {
    let refuge = (config.mode == Mode::Enforce).then(|| survey.refuge(host)).flatten();
    let left = boot::ready::leave(host, &survey.next, survey.held_off.as_ref(), refuge.as_ref());
    left.and(boot::ready::leave_mode(host, config.mode)).err().map(|e| format!("no hold is left ready: {e:#}"))
}

/// Keeps the packages of the kernel that the default is held on, or gives back those of one on which it was.
fn keep_held(host: &Host) -> Vec<String> {
    protect::follow(host, boot::held(host).map(|hold| hold.held).as_ref(), Occasion::Run)
}

/// Why nothing of this machine is touched, if so: neither gate nor boot default would be its own.
fn hands_off(place: Place) -> Option<&'static str> {
    if place.may_hold() {
        None
    } else {
        place.hands_off()
    }
}

/// In an image build there is nothing to refuse: `drivers.required` are built for the kernels of the image. Turned off, or without
/// the wrappers that upstart's gate needs, a hold from before ends. The state file of those wrappers stays: an update of upstart
/// takes them away for a moment, and `vfguard-upstart remove` removes both for good.
fn outside(host: &Host, config: &Config, progress: &dyn Progress, place: Place, line: &str) -> Result<Outcome> {
    let mut done = Vec::new();
    let survey = Survey::new(host, config)?;
    if place == Place::Off {
        if !gate::is_clear(host) {
            gate::open(host, None)?;
            done.push("gate opened".into());
        }
    } else {
        let lock = WriteLock::take(host, config.hook.patience())?;
        done.extend(leftovers::clean(host, &lock));
        for kernel in &survey.kernels {
            for recipe in survey.recipes.iter().filter(|r| config.drivers.required.contains(&r.name)) {
                let tried = build::build(host, config, &lock, &survey, &kernel.release, recipe, progress);
                done.push(tried.unwrap_or_else(|e| build::not_prepared(&kernel.release, recipe, &e)));
            }
        }
    }
    let mut look = Look::new(host, config)?;
    let ours = place == Place::Off || (place == Place::NoInit && crate::host::upstart::is_upstart(host));
    if ours && look.held() {
        let left = BootLock::take(host).map(|lock| leave::leave(host, &lock, &look));
        let (moved, line) = left.unwrap_or_else(|e| Some((false, format!("the hold was not ended: {e:#}")))).unzip();
        done.extend(line);
        if moved == Some(true) {
            look = Look::new(host, config)?;
        }
    } else {
        done.extend(boot::held(host).and_then(|hold| left_over(config, place, &hold)));
    }
    if ours {
        done.extend(keep_held(host));
    }
    let (gate, judgement) = (gate::State::Open, look.judgement);
    Ok(Outcome { judgement, gate, hands_off: Some(line.into()), done, failed: None, withheld: false })
}

/// One run that holds the lock.
struct Run<'a> {
    host: &'a Host,
    config: &'a Config,
    progress: &'a dyn Progress,
    effort: Effort,
    /// By mode and place.
    allowed: Rights,
    standing: Standing,
    lock: WriteLock,
    done: Vec<String>,
    /// Why the gate is not seen closed, as the last try left it.
    failed: Option<anyhow::Error>,
    /// Packages were being changed when all was found safe.
    withheld: bool,
}

impl<'a> Run<'a> {
    /// What killed runs and removed kernels left behind. That it could not be removed is said and stops nothing.
    fn clean(&mut self) {
        gate::generation::trim(self.host, &self.lock);
        leftovers::sweep(self.host, &self.lock);
        self.done.extend(leftovers::clean(self.host, &self.lock));
    }

    /// Looks, refuses, builds, looks again and opens; over again where others came by meanwhile.
    fn rounds(&mut self) -> Result<Judgement> {
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
            // What boots may be another kernel now: an unsafe one that was set for one boot is not any more.
            let again = self.prepare(&look) || moved;
            self.lock.still_ours()?;
            if again {
                look = self.look()?;
            }
            match look.plan(self.rights()) {
                Plan::Rest | Plan::Allow { .. } => match self.allow(look)? {
                    Ok(opened) => return Ok(opened),
                    Err(again) => last = Some(again),
                },
                Plan::Refuse(_) | Plan::Tell => {
                    // The reasons may be better known now.
                    if again {
                        own.raised += self.refuse(&look).raised;
                    }
                    // A kernel that came after the first look may want a build. Where the gate is not seen closed, that is told first.
                    if self.failed.is_some() || gate::generation::current(self.host) == first + own.raised {
                        return Ok(look.judgement);
                    }
                    last = Some(look.judgement);
                }
            }
        }
        // One that was safe was not opened for. What is closed stays closed, and what is unsafe was refused by whoever came with it.
        last.filter(|j| j.verdict != Verdict::Safe).ok_or_else(|| {
            error::advise_exit(
                error::Exit::Locked,
                "other runs keep coming, so this one neither opened the gate nor moved the boot default",
                "run `vfguard reconcile` once the package manager is done",
            )
        })
    }

    fn look(&self) -> Result<Look<'a>> {
        self.effort.look(self.host, self.config)
    }

    /// What may be done now: a transaction may have begun or ended since the last look.
    fn rights(&self) -> Rights {
        self.standing.limit(self.host, self.allowed)
    }

    fn outcome(self, judgement: Judgement) -> Outcome {
        let gate = gate::state(self.host).state;
        let kept = gate == gate::State::Closed || boot::held(self.host).is_some_and(|hold| hold.declined.is_none());
        let withheld = self.withheld && judgement.verdict == Verdict::Safe && kept;
        Outcome { judgement, gate, hands_off: None, done: self.done, failed: self.failed, withheld }
    }

    /// Refuses what is not safe, and keeps what was done and what failed.
    fn refuse(&mut self, look: &Look) -> Own {
        let Plan::Refuse(refusal) = look.plan(self.rights()) else { return Own::default() };
        let refused = refuse::refuse(self.host, self.config, &refusal, &look.judgement);
        refused.done.into_iter().for_each(|line| self.say(line));
        self.failed = refused.failed;
        Own { moved: refused.moved, raised: refused.raised }
    }

    /// Forgets a hold from which the default was moved; where nothing is held, undoes one from before. Says whether the boot default
    /// was moved.
    fn end_hold(&mut self, look: &Look) -> Result<bool> {
        if !look.held() {
            return Ok(false);
        }
        let lock = BootLock::take(self.host)?;
        if self.config.mode == Mode::Enforce {
            // It has ended whether or not its record can be removed.
            if let Err(e) = boot::forget_stale(self.host, &lock, &look.survey.next) {
                self.say(format!("the record of a hold that has ended stays: {e:#}"));
            }
            return self.accept_default(look, &lock);
        }
        if self.effort == Effort::Early {
            // Devices may be missing still; the next run ends it.
            return Ok(false);
        }
        let Some((moved, line)) = leave::leave(self.host, &lock, look) else { return Ok(false) };
        self.say(line);
        Ok(moved)
    }

    /// Where somebody moved the default from a hold to a declined kernel that is safe, they want it: it is declined no more. Says whether
    /// anything changed.
    fn accept_default(&mut self, look: &Look, lock: &BootLock) -> Result<bool> {
        // A package that sets a default asks nobody: neither in its transaction, nor where its hooks look.
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

    fn say(&mut self, line: String) {
        if !self.done.contains(&line) {
            self.done.push(line);
        }
    }
}

/// What a run itself changed while it refused.
#[derive(Clone, Copy, Debug, Default)]
struct Own {
    /// The boot loader's choice.
    moved: bool,
    /// How often it raised the generation.
    raised: u64,
}
