//! What a run does about a judgement: it turns facts into a plan. Pure: [`crate::flow::refuse`] and [`crate::flow::reconcile`] collect the
//! facts, ask here, and carry out the plan. docs/states.md says who acts, which lock guards what, and in which order changes become
//! durable.
//!
//! ```text
//!   all safe    ── gate open, nothing held but a declined kernel off ──► Rest
//!               ├─ a declined kernel boots next ──► Allow: hold it off, then open the gate
//!               └─ else ─────────────────────► Allow: end the hold, then open the gate
//!   not safe    ── may be refused here ──────► Refuse: close the gate and hold the default, each by itself
//!               └─ else ─────────────────────► Tell
//!   no verdict  ── close, and hold on the running kernel, unless the default is known to be better, each by itself
//! ```

use crate::boot::{BootRole, NextBoot};
use crate::config::Mode;
use crate::finding::Verdict;
use crate::host::place::Place;
use crate::kernel::KernelRelease;
use crate::verdict::judge::{Judgement, Work};

/// What a run may do to the machine, whatever it finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Rights {
    /// Close the gate.
    pub close: bool,
    /// Hold the boot default.
    pub hold: bool,
    /// Move the boot default to the wanted kernel.
    pub promote: bool,
    /// Open the gate.
    pub open: bool,
}

impl Rights {
    /// The rights of a run in this mode and place. `early`: the machine is still starting, and a device that has not come up yet looks
    /// missing, so such a run promotes no other kernel. `removing`: vfguard's package is being removed.
    pub fn new(mode: Mode, place: Place, early: bool, removing: bool) -> Rights {
        let acts = mode == Mode::Enforce && !removing;
        Rights {
            close: acts && place.may_close(),
            hold: acts && place.may_hold(),
            promote: acts && place.may_hold() && !early,
            open: true,
        }
    }

    /// The same while packages change: no kernel is promoted and the gate is not opened until the files on disk are complete.
    pub fn meanwhile(self) -> Rights {
        Rights { promote: false, open: false, ..self }
    }
}

/// What a plan is made from.
pub struct Situation<'a, 'w> {
    /// What the run may do.
    pub rights: Rights,
    /// The verdict on each kernel that counts.
    pub judgement: &'a Judgement,
    /// Drivers to build and initramfs to rebuild.
    pub work: &'w [Work],
    /// What the boot loader may start.
    pub next: &'a NextBoot,
    /// What would boot without our hold, while one is on; declined kernels are skipped.
    pub wanted: Option<&'a KernelRelease>,
    /// A hold is on, a declined kernel would boot without it, and no other kernel is wanted.
    pub declined: bool,
    /// The kernel that boots next is declined. Without a hold, this means that the kernel that was promoted instead of it is gone.
    pub declined_next: bool,
    /// A hold is on, or its record or mark is left.
    pub held: bool,
    /// No file of the gate exists.
    pub clear: bool,
    /// The kernels that an override lets through; `None` where no override is active.
    pub excused: Option<&'a [KernelRelease]>,
    /// Where the default may be held. A function, because it is needed only sometimes.
    pub hold_target: &'a dyn Fn() -> Option<KernelRelease>,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan<'w> {
    /// What happens to the gate and the boot default.
    pub act: Act,
    /// What is built for each kernel: drivers and initramfs.
    pub work: &'w [Work],
}

impl Plan<'_> {
    /// Whether there is nothing to do: neither gate nor hold is in force, and no driver has to be built.
    pub fn is_idle(&self) -> bool {
        self.act == Act::Rest && self.work.iter().all(|work| work.builds.is_empty())
    }
}

/// What happens to the gate and the boot default.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    /// Nothing: all is safe, and neither gate nor hold is in force.
    Rest,
    /// All that may boot is safe.
    Allow {
        /// What happens to the hold. It ends before the gate opens, so that the gate never opens on a default that was not judged.
        end: End,
        /// Whether the gate has files to remove.
        open: bool,
    },
    /// Something that may boot is not safe.
    Refuse(Refusal),
    /// Something is not safe, but nothing is refused, because of the mode, the place or an override.
    Tell,
}

/// How a hold ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// No hold is on, or it stays: this run may not move the default, or the hold keeps a declined kernel off.
    Leave,
    /// This kernel becomes the default.
    Promote(KernelRelease),
    /// Somebody else moved the default, so only the record is removed.
    Forget,
    /// A hold begins: a declined kernel would boot next, and this kernel becomes the default instead.
    KeepOff(KernelRelease),
}

/// What is refused. Gate and hold do not wait for each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Whether the gate is closed.
    pub close: bool,
    /// Whether the one-shot default is removed.
    pub end_once: bool,
    /// What happens to the default.
    pub hold: Hold,
}

/// What happens to the boot default where something is not safe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hold {
    /// The default may stay.
    Leave,
    /// The default is held on this kernel.
    On(KernelRelease),
    /// The held kernel is not safe any more and this kernel, the wanted one, is: the hold ends.
    Promote(KernelRelease),
    /// The default leads to an unsafe kernel, or may do so, and cannot be moved.
    Cannot(Hindrance),
}

/// Why a default is not moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hindrance {
    /// It is not certain which kernel the boot loader starts, so the effect of a move is not known.
    Uncertain,
    /// No kernel is known to be good.
    NoHoldTarget,
}

/// The plan for this situation.
pub fn plan<'w>(facts: &Situation<'_, 'w>) -> Plan<'w> {
    let act = match facts.judgement.verdict {
        Verdict::Safe => allow(facts),
        Verdict::Unsafe | Verdict::Unknown => refuse(facts),
    };
    Plan { act, work: facts.work }
}

fn allow(facts: &Situation) -> Act {
    // A hold that keeps a declined kernel off stays, and causes no action.
    let held = facts.held && !facts.declined;
    let boots = facts.next.lasting().map(|c| &c.kernel);
    let may_move = facts.rights.hold && facts.rights.promote && facts.next.loader_certain;
    if facts.declined_next && !facts.held && may_move {
        // Without another kernel that is known to be good, the default stays.
        if let Some(hold_target) = (facts.hold_target)().filter(|hold_target| Some(hold_target) != boots) {
            return Act::Allow { end: End::KeepOff(hold_target), open: !facts.clear && facts.rights.open };
        }
    }
    if facts.clear && !held {
        return Act::Rest;
    }
    let end = match (held && facts.rights.promote, facts.wanted) {
        (false, _) => End::Leave,
        // The kernel that was judged. If another kernel is wanted at the time of the move, the default is not moved.
        (true, Some(wanted)) => End::Promote(wanted.clone()),
        (true, None) => End::Forget,
    };
    Act::Allow { end, open: !facts.clear && facts.rights.open }
}

fn refuse(facts: &Situation) -> Act {
    let Rights { close, hold, promote: _, open: _ } = facts.rights;
    let refused = || facts.judgement.refused().map(|k| &k.kernel);
    let excused = facts.excused.is_some_and(|excused| refused().all(|kernel| excused.contains(kernel)));
    if excused || !(close || hold) {
        return Act::Tell;
    }
    let kernels = &facts.judgement.kernels;
    let safe = |kernel: &KernelRelease| kernels.iter().any(|k| &k.kernel == kernel && k.verdict == Verdict::Safe);
    if !hold {
        return Act::Refuse(only(close));
    }
    let mut refusal = keep_off(close, facts.next, |kernel| !safe(kernel), facts.hold_target);
    let proven = facts.wanted.filter(|wanted| facts.held && facts.rights.promote && safe(wanted));
    if let (Hold::On(_) | Hold::Cannot(Hindrance::NoHoldTarget), Some(wanted)) = (&refusal.hold, proven) {
        refusal.hold = Hold::Promote(wanted.clone());
    }
    Act::Refuse(refusal)
}

/// What a run may do that ended without a verdict. An active override is respected, because an error is not evidence against a kernel that
/// the override does not name.
pub fn undecided(rights: Rights, overridden: bool) -> Rights {
    Rights { close: rights.close && !overridden, hold: rights.hold && !overridden, promote: false, open: false }
}

/// The refusal for a run without a verdict: hold the default on the running kernel, which is known to work (`None` where its files are
/// gone). The default stays if it is one of `trusted`: the kernel that it is held on and, where a device has no driver under the running
/// kernel, the kernels that have booted before.
pub fn hold_running(next: &NextBoot, running: Option<&KernelRelease>, trusted: &[KernelRelease]) -> Refusal {
    keep_off(true, next, |kernel| Some(kernel) != running && !trusted.contains(kernel), &|| running.cloned())
}

fn only(close: bool) -> Refusal {
    Refusal { close, end_once: false, hold: Hold::Leave }
}

/// Keeps the boot loader from starting these kernels. A fallback is left alone, since there is no known way to move it.
fn keep_off(
    close: bool,
    next: &NextBoot,
    must_not: impl Fn(&KernelRelease) -> bool,
    hold_target: &dyn Fn() -> Option<KernelRelease>,
) -> Refusal {
    if !next.loader_certain {
        return Refusal { hold: Hold::Cannot(Hindrance::Uncertain), ..only(close) };
    }
    let leads = |role| next.kernels.iter().any(|c| c.role == role && (c.stops.is_some() || must_not(&c.kernel)));
    let hold = match leads(BootRole::Next) {
        false => Hold::Leave,
        true => hold_target().map_or(Hold::Cannot(Hindrance::NoHoldTarget), Hold::On),
    };
    Refusal { close, end_once: leads(BootRole::Once), hold }
}

#[cfg(test)]
mod tests;
