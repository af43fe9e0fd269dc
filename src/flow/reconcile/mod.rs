//! The main function: judge; if not all is safe, close the gate and hold the boot default, build, judge again; open only if `safe`.
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
mod end;
mod leave;
mod open;
mod outside;
mod pending;
mod run;

pub use effort::{Effort, Standing};
pub use end::Outcome;
pub use leave::left_over;
pub use pending::{pending, Pending};

use self::end::{end, Ended, Way};
use self::open::Allowed;
use self::outside::{hands_off, outside};
use self::run::Run;
use super::look::Look;
use super::plan::{Act, Rights};
use super::refuse::{self, Refused};
use crate::boot;
use crate::config::{Config, Mode};
use crate::driver::prepare::leftovers;
use crate::error;
use crate::gate;
use crate::host::lock::WriteLock;
use crate::host::place;
use crate::host::{failpoint, Host};
use crate::kernel::leaving;
use crate::progress::Progress;
use crate::retention::protect::{self, Occasion};
use crate::verdict::survey::{self, Survey};
use anyhow::Result;
use std::time::Duration;

/// How long a run that only decides waits for another. If the other only decides too, this is long enough; if it builds, no wait would be.
const DECIDING: Duration = Duration::from_secs(3);

/// Brings the machine to the state that its kernels deserve: gate, boot default, drivers. Idempotent.
///
/// # Errors
/// When no verdict can be reached, another run holds the lock too long, or the gate cannot be opened.
pub fn reconcile(
    host: &Host,
    config: &Config,
    effort: Effort,
    standing: Standing,
    progress: &dyn Progress,
) -> Result<Outcome> {
    end(host, decide(host, config, effort, standing, progress))
}

fn decide(host: &Host, config: &Config, effort: Effort, standing: Standing, progress: &dyn Progress) -> Result<Ended> {
    // A failure to raise the counter decides nothing: without it, a run at work still looks once more after it has opened the gate.
    let mut done: Vec<String> = Vec::new();
    done.extend(gate::generation::bump(host).err().map(|e| format!("{e:#}")));
    failpoint::hit("raised-before-judged");
    leaving::sweep(host);
    let place = place::place(host);
    if let Some(line) = hands_off(place) {
        return outside(host, config, progress, place, line);
    }
    // First finish a write that a power cut interrupted, since these files decide what boots.
    done.extend(boot::heal(host).unwrap_or_else(|e| Some(format!("{e:#}"))));
    if (config.mode == Mode::Observe || !place.may_close()) && !gate::is_clear(host) {
        // Left from before the mode or the place changed; now nothing is refused.
        gate::open(host, None)?;
    }
    let allowed = Rights::new(config.mode, place, effort == Effort::Early, gate::removing(host));
    // A gate that a person closed is closed again after a boot, whatever the verdict is.
    let not_closed = if allowed.close { gate::keep_closed(host, &config.gate).err() } else { None };
    done.extend(refuse::order(host).filter(|_| allowed.close));
    let look = effort.look(host, config)?;
    let plan = look.plan(standing.limit(host, allowed));
    if plan.is_idle() && leftovers::removed(host).is_empty() {
        done.extend(survey::remember(host, &look.survey));
        done.extend(leave_ready(host, config, &look.survey));
        // No hold is on.
        done.extend(protect::follow(host, None, Occasion::Run));
        return Ok(Ended { judged: look.judged(), done, failed: not_closed, way: Way::Idle });
    }
    failpoint::hit("judged-before-refused");
    // Another run may hold the lock for as long as a build takes, so unsafe kernels are refused before taking it.
    let Refused { done: said, failed, .. } = match &plan.act {
        Act::Refuse(refusal) => refuse::refuse(host, config, refusal, &look.judgement),
        Act::Rest | Act::Allow { .. } | Act::Tell => Refused::default(),
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
            // The counter was raised, so that run looks again before it opens.
            done.push("another run is at work; it looks again before it opens the gate".into());
            return Ok(Ended { judged: look.judged(), done, failed, way: Way::Overtaken });
        }
        (Err(e), _) => {
            // What was refused stays refused, and is printed in addition to the error.
            done.iter().for_each(|line| progress.note(line));
            return Err(e);
        }
    };
    let mut run = Run { host, config, progress, effort, allowed, standing, lock, done, failed, withheld: false };
    run.clean();
    let judged = run.rounds()?;
    if let Ok(survey) = Survey::new(host, config) {
        run.done.extend(leave_ready(host, config, &survey));
    }
    run.done.extend(keep_held(host));
    Ok(run.ended(judged))
}

/// For a module that something else changed under the lock (a `prepare` by hand): opens the gate if all is safe now, else refuses. Nothing
/// is built.
///
/// # Errors
/// Those of [`reconcile`].
pub fn judge_again(host: &Host, config: &Config, lock: WriteLock, progress: &dyn Progress) -> Result<Outcome> {
    end(host, decide_after(host, config, lock, progress))
}

fn decide_after(host: &Host, config: &Config, lock: WriteLock, progress: &dyn Progress) -> Result<Ended> {
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
        // Another kernel boots next now.
        look = Look::new(host, config)?;
    }
    let judged = match look.plan(allowed).act {
        Act::Rest | Act::Allow { .. } if hands_off(place::place(host)).is_some() => look.judged(),
        Act::Rest | Act::Allow { .. } => match run.allow(look)? {
            Allowed::Opened(judged) => judged,
            Allowed::Again(_) => {
                let look = Look::new(host, config)?;
                run.refuse(&look);
                look.judged()
            }
        },
        Act::Refuse(_) | Act::Tell => {
            run.refuse(&look);
            look.judged()
        }
    };
    run.done.extend(keep_held(host));
    Ok(run.ended(judged))
}

/// Prepares a hold and notes the mode, for the case that a later run dies. Returns a line if that failed.
fn leave_ready(host: &Host, config: &Config, survey: &Survey) -> Option<String> {
    let hold_target = (config.mode == Mode::Enforce).then(|| survey.hold_target(host)).flatten();
    let left = boot::ready::leave(host, &survey.next, survey.held_off.as_ref(), hold_target.as_ref());
    left.and(boot::ready::leave_mode(host, config.mode)).err().map(|e| format!("no hold is left ready: {e:#}"))
}

/// Protects the packages of the kernel that the default is held on, and releases those of a kernel that is no longer held.
fn keep_held(host: &Host) -> Vec<String> {
    protect::follow(host, boot::held(host).map(|hold| hold.held).as_ref(), Occasion::Run)
}
