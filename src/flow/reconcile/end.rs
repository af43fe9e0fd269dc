//! The one exit of a run that came to a judgement: what is counted or printed for every such run belongs here. What the gate itself does is
//! announced where it is done (`gate`, by `host::notices`).

use crate::boot;
use crate::finding::Verdict;
use crate::gate;
use crate::host::lock::WriteLock;
use crate::host::Host;
use crate::verdict::judge::{Judged, Judgement, Work};
use anyhow::Result;

/// What a run came to.
#[derive(Debug)]
pub struct Outcome {
    /// The verdict on what may boot.
    pub judgement: Judgement,
    /// What it asks to be made still.
    pub work: Vec<Work>,
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

/// A run that has come to its end.
pub(super) struct Ended {
    pub judged: Judged,
    /// What was done and what could not be, a line each.
    pub done: Vec<String>,
    /// Why the gate is not seen closed, where it should be.
    pub failed: Option<anyhow::Error>,
    pub way: Way,
}

/// How far a run came.
pub(super) enum Way {
    /// All is safe and nothing of ours is in force.
    Idle,
    /// Another run is at work, which looks again.
    Overtaken,
    /// Nothing is refused here; the line that says why.
    HandsOff(&'static str),
    /// To its end, under the lock. `withheld`: packages were being changed when all was found safe.
    Whole { lock: WriteLock, withheld: bool },
}

/// Ends a run, whatever came of it. A lock that it holds is held until then.
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
    // Until here nobody else moves what is told.
    if let Way::Whole { lock, .. } = way {
        drop(lock);
    }
    Ok(Outcome { judgement, work, gate, hands_off, done, failed, withheld })
}
