//! The setting of each part of the model: who may act, what may happen, and the initial state; and the guards that can be removed.

use super::actor::{Actor, Deed, Who, ALL};
use super::world::{Card, Env, Gate, Hold, Seen, Set, Vars, World, K};

/// A guard of the protocol that is removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutation {
    /// An opener compares the generation before it has the gate's lock.
    ComparesOutsideLock,
    ClosingDoesNotRaise,
    /// A closing that finds the gate closed does not raise the generation.
    SameClosingDoesNotRaise,
    /// When an override ends, no run decides again.
    OverrideEndsUnseen,
    /// The worker looks while the path unit misses events.
    WorkerDoesNotWaitForWatch,
    HoldWaitsForBuild,
    /// A kernel loaded for kexec makes the next boot uncertain.
    KexecEndsHold,
    /// After a move the block is checked only at once, and not again after a moment.
    LooksOnlyOnce,
    /// A move overwrites a default that was set since the look.
    MovesWhatItDidNotRead,
    /// A truncated block is taken for the one that the boot loader finds.
    HalfWrittenIsReal,
    /// A promotion removes record and mark before it moves the default.
    RecordEndsFirst,
    DeclineIsNotSynced,
    /// No kernel is wanted instead of a declined one.
    DeclinePins,
    /// A declined kernel is still wanted.
    DeclinedIsWanted,
    AbsentDeviceForgotten,
    BootPromotes,
    /// A run that finds a device that was not remembered does not raise the generation.
    FoundDeviceDoesNotRaise,
    /// The kernel that is wanted at that time is promoted, not the judged one.
    PromotesWhatIsWanted,
    /// `reboot --held` opens the gate instead of writing a pass.
    OpensForReboot,
    /// A hold without effect is written and undone each time.
    FailedHoldWrites,
    NoRemovingStamp,
    /// The worker is ordered after the network.
    WorkerWaitsForNetwork,
}

/// How often things may happen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Budget {
    /// A bit for each deed of the scene that was not begun.
    pub deeds: u16,
    pub kills: u8,
    pub cuts: u8,
    pub cards: u8,
    pub kexecs: u8,
}

/// The initial state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// One kernel, all safe.
    Quiet,
    /// The default is held on the old kernel, the new one is wanted, and the gate is closed.
    Held,
    /// The default is the new kernel, which drives the card now; the gate is closed for this kernel, and nothing is held.
    Closed(K),
}

/// A part of the model. What a scene does not name does not exist and does not happen.
#[derive(Clone, Debug)]
pub struct Scene {
    pub name: &'static str,
    pub start: Start,
    /// Installed besides the old and the new kernel.
    pub installed: Set,
    /// The kernels for which a build succeeds.
    pub builds: Set,
    /// The kernels that come with a driver.
    pub good: Set,
    pub deeds: Vec<(Who, Deed)>,
    /// The actors that may be killed.
    pub mortal: Vec<Who>,
    pub kills: u8,
    pub cuts: u8,
    pub cards: u8,
    pub kexecs: u8,
    pub network: bool,
    /// The boot loader's default is a literal that vfguard cannot move.
    pub fixed_default: bool,
    /// vfguard-watch.path and vfguard.service exist.
    pub watch: bool,
    pub worker: bool,
    /// The card appears late in a boot.
    pub late: bool,
    /// The record does not know a card that was in use.
    pub forgotten: bool,
    /// The number of boots after which an absent card is gone.
    pub patience: u8,
    pub mutation: Option<Mutation>,
}

impl Default for Scene {
    fn default() -> Scene {
        Scene {
            name: "",
            start: Start::Quiet,
            installed: Set::default(),
            builds: Set::of(&[K::New]),
            good: Set::default(),
            deeds: vec![],
            mortal: vec![],
            kills: 0,
            cuts: 0,
            cards: 0,
            kexecs: 0,
            network: true,
            fixed_default: false,
            watch: false,
            worker: false,
            late: false,
            forgotten: false,
            patience: 3,
            mutation: None,
        }
    }
}

impl Scene {
    /// Whether a guard is removed.
    pub fn without(&self, mutation: Mutation) -> bool {
        self.mutation == Some(mutation)
    }
    /// Whether syncing makes a difference.
    pub fn syncs(&self) -> bool {
        self.cuts > 0
    }

    /// The initial state.
    pub fn world(&self) -> World {
        let (held, shut) = (self.start == Start::Held, self.start != Start::Quiet);
        let closed_for = if let Start::Closed(k) = self.start { k } else { K::New };
        let installed = Set::of(&[K::Old]);
        let installed = self.installed.iter().fold(if shut { installed.with(K::New) } else { installed }, Set::with);
        let intent = if shut { K::New } else { K::Old };
        let saved = if held { K::Old } else { intent };
        let vars = Vars { saved, once: None, mark: held.then_some((K::Old, K::New)) };
        let hold = held.then_some(Hold { held: K::Old, wanted: K::New });
        let gate = Gate { record: shut.then(|| Set::of(&[closed_for])), files: shut, loaded: shut };
        let deeds = (1u16 << self.deeds.len()) - 1;
        World {
            installed,
            drives: self.good.with(K::Old),
            env: Env::Whole(vars),
            hold,
            kept_env: Env::Whole(vars),
            kept_hold: hold,
            declined: Set::default(),
            kept_declined: Set::default(),
            remembered: !self.forgotten,
            absent: 0,
            missed: false,
            card: Card::Here,
            kexec: false,
            network: self.network,
            running: K::Old,
            lost: false,
            gate,
            over: None,
            pass: None,
            removing: false,
            removed: false,
            heard: false,
            locks: [None; 3],
            actors: [Actor::default(); ALL.len()],
            left: Budget { deeds, kills: self.kills, cuts: self.cuts, cards: self.cards, kexecs: self.kexecs },
            intent,
            seen: Seen::default(),
        }
    }
}
