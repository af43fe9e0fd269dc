//! The one exit of a run that came to a judgement: what is counted or printed for every such run belongs here. What the gate itself does is
//! announced where it is done (`gate`, by `host::notices`).

use crate::boot;
use crate::finding::Verdict;
use crate::gate;
use crate::host::lock::WriteLock;
use crate::host::Host;
use crate::verdict::judge::{Judged, Judgement, Work};
use anyhow::Result;

/// The result of a run.
#[derive(Debug)]
pub struct Outcome {
    /// The verdict on what may boot.
    pub judgement: Judgement,
    /// What is still to be built.
    pub work: Vec<Work>,
    /// The state of the gate at the end.
    pub gate: gate::State,
    /// One line for people where vfguard does not act.
    pub hands_off: Option<String>,
    /// What was done and what failed, a line each.
    pub done: Vec<String>,
    /// Why the gate could not be confirmed as closed, where it should be.
    pub failed: Option<anyhow::Error>,
    /// All is safe, but nothing was promoted or opened, because packages are changing.
    pub withheld: bool,
}

/// A run at its end.
pub(super) struct Ended {
    pub judged: Judged,
    /// What was done and what failed, a line each.
    pub done: Vec<String>,
    /// Why the gate could not be confirmed as closed, where it should be.
    pub failed: Option<anyhow::Error>,
    pub way: Way,
}

/// How far a run came.
pub(super) enum Way {
    /// All is safe, and neither gate nor hold is in force.
    Idle,
    /// Another run holds the lock, and will look again.
    Overtaken,
    /// Nothing is refused here; the line that says why.
    HandsOff(&'static str),
    /// To its end, under the lock. `withheld`: all was safe, but packages were changing.
    Whole { lock: WriteLock, withheld: bool },
}

/// Ends a run, whether it succeeded or failed. Its lock is held until the end of this function.
///
/// # Errors
/// The one that the run ended with.
pub(super) fn end(host: &Host, ended: Result<Ended>) -> Result<Outcome> {
    let Ended { judged: Judged { judgement, work }, done, failed, way } = ended?;
    let gate = match way {
        Way::Idle | Way::HandsOff(_) => gate::State::Open,
        Way::Overtaken | Way::Whole { .. } => gate::state(host).state,
    };
    let kept = || gate == gate::State::Closed || boot::held(host).is_some_and(|hold| hold.declined.is_none());
    let (hands_off, withheld) = match &way {
        Way::Idle | Way::Overtaken => (None, false),
        Way::HandsOff(line) => (Some((*line).to_owned()), false),
        Way::Whole { lock: _, withheld } => (None, *withheld && judgement.verdict == Verdict::Safe && kept()),
    };
    // The lock is held until here, so no other run changes the state that is reported.
    if let Way::Whole { lock, .. } = way {
        drop(lock);
    }
    Ok(Outcome { judgement, work, gate, hands_off, done, failed, withheld })
}
