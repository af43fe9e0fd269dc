//! What is to be done about a judgement: facts in, a plan out. Pure: [`crate::flow::refuse`] and [`crate::flow::reconcile`] look, ask here, and carry
//! the answer out. Who acts, which lock guards what, and in which order things become durable: docs/states.md.
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
    /// Those of a run in this mode and place. `early`: it looks while the machine starts, when devices may still be on their way. They
    /// may be missed, so such a run leads into no other kernel. `removing`: vfguard is on its way off this machine.
    pub fn new(mode: Mode, place: Place, early: bool, removing: bool) -> Rights {
        let acts = mode == Mode::Enforce && !removing;
        Rights {
            close: acts && place.may_close(),
            hold: acts && place.may_hold(),
            promote: acts && place.may_hold() && !early,
            open: true,
        }
    }

    /// The same while packages change: what is on disk may not be led into yet.
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
    /// What it asks to be made.
    pub work: &'w [Work],
    /// What the boot loader may start.
    pub next: &'a NextBoot,
    /// What would boot without our hold, while one is on; declined kernels are skipped.
    pub wanted: Option<&'a KernelRelease>,
    /// A hold is on, a declined kernel would boot without it, and no other one is wanted.
    pub declined: bool,
    /// The kernel that boots next is declined. Where no hold was on, one that was promoted in its place is gone.
    pub declined_next: bool,
    /// A hold is on, or its record or mark is left.
    pub held: bool,
    /// Nothing of the gate is there.
    pub clear: bool,
    /// The kernels that an override lets through; none where none runs.
    pub excused: Option<&'a [KernelRelease]>,
    /// Where the default may be held; asked only if that is needed.
    pub hold_target: &'a dyn Fn() -> Option<KernelRelease>,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan<'w> {
    /// What becomes of the gate and the boot default.
    pub act: Act,
    /// What is to be made, kernel by kernel: drivers, and initramfs.
    pub work: &'w [Work],
}

impl Plan<'_> {
    /// Whether all may stay as it is: nothing of ours is in force, and no driver is to be built.
    pub fn is_idle(&self) -> bool {
        self.act == Act::Rest && self.work.iter().all(|work| work.builds.is_empty())
    }
}

/// What becomes of the gate and the boot default.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    /// Nothing: all is safe, and nothing of ours is in force.
    Rest,
    /// All that may boot is safe.
    Allow {
        /// What becomes of the hold; first, so that the gate never opens on a default that is not what was judged.
        end: End,
        /// Whether something of the gate has to go.
        open: bool,
    },
    /// Something that may boot is not safe.
    Refuse(Refusal),
    /// The same, and nothing is refused: the mode, the place or a person says so.
    Tell,
}

/// How a hold ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// None is on; or it stays, since this run may not move the default, or to keep a declined kernel off.
    Leave,
    /// The default goes to this kernel.
    Promote(KernelRelease),
    /// The default was moved by somebody else; only the record is left.
    Forget,
    /// It begins: a declined kernel would boot next, and goes off the default for this one.
    KeepOff(KernelRelease),
}

/// What is refused. The two locks do not wait for each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Whether the gate is closed.
    pub close: bool,
    /// Whether what is set for one boot ends.
    pub end_once: bool,
    /// What becomes of the default.
    pub hold: Hold,
}

/// What becomes of the boot default where something is not safe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hold {
    /// It leads where it may.
    Leave,
    /// It goes to this kernel.
    On(KernelRelease),
    /// The held kernel is not safe any more, and this one, which is wanted, is: the hold ends.
    Promote(KernelRelease),
    /// It leads where it must not, or may do so, and cannot be moved.
    Cannot(Hindrance),
}

/// Why a default is not moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hindrance {
    /// What the boot loader starts is not certain: nobody could say what a move does.
    Uncertain,
    /// No kernel is known to be good.
    NoHoldTarget,
}

/// What is to be done about a judgement.
pub fn plan<'w>(facts: &Situation<'_, 'w>) -> Plan<'w> {
    let act = match facts.judgement.verdict {
        Verdict::Safe => allow(facts),
        Verdict::Unsafe | Verdict::Unknown => refuse(facts),
    };
    Plan { act, work: facts.work }
}

fn allow(facts: &Situation) -> Act {
    // A hold that keeps a declined kernel off stays, and nothing comes of it.
    let held = facts.held && !facts.declined;
    let boots = facts.next.lasting().map(|c| &c.kernel);
    let may_move = facts.rights.hold && facts.rights.promote && facts.next.loader_certain;
    if facts.declined_next && !facts.held && may_move {
        // Without another kernel that is known to be good it stays.
        if let Some(hold_target) = (facts.hold_target)().filter(|hold_target| Some(hold_target) != boots) {
            return Act::Allow { end: End::KeepOff(hold_target), open: !facts.clear && facts.rights.open };
        }
    }
    if facts.clear && !held {
        return Act::Rest;
    }
    let end = match (held && facts.rights.promote, facts.wanted) {
        (false, _) => End::Leave,
        // The kernel that was judged. Another one that is wanted by the time of the move is not moved to.
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

/// What a run may do that ended without a verdict. An override is about what was known when it was given; that something failed since is
/// not a kernel that it does not name.
pub fn undecided(rights: Rights, overridden: bool) -> Rights {
    Rights { close: rights.close && !overridden, hold: rights.hold && !overridden, promote: false, open: false }
}

/// What becomes of the boot default then: the running kernel (none where its files are gone) is the one that is known to work, whichever
/// other one would boot. A default that is one of the `trusted` ones stays: the kernel that it is held on, and, where a device has no driver
/// under the running kernel, those that have booted before.
pub fn hold_running(next: &NextBoot, running: Option<&KernelRelease>, trusted: &[KernelRelease]) -> Refusal {
    keep_off(true, next, |kernel| Some(kernel) != running && !trusted.contains(kernel), &|| running.cloned())
}

fn only(close: bool) -> Refusal {
    Refusal { close, end_once: false, hold: Hold::Leave }
}

/// Keeps the boot loader off the kernels that it must not start. Of a fallback nothing is known that could be moved.
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
