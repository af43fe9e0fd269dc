//! What the model remembers: small, comparable, and no more than the properties and the real functions need.

use super::actor::{Actor, Pc, Who, ALL};
use super::real::{self, HeldOff};
use super::scene::{Budget, Mutation, Scene};
use std::fmt;

/// A kernel of the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum K {
    /// Runs at first, and drives the card.
    Old,
    /// The update.
    New,
    /// Another installed kernel, newer than both, that is not an update. It is first in the menu.
    Newest,
}

/// All kernels, oldest first.
pub const KERNELS: [K; 3] = [K::Old, K::New, K::Newest];

/// A set of kernels.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Set(u8);

impl Set {
    pub fn of(kernels: &[K]) -> Set {
        kernels.iter().fold(Set(0), |set, k| set.with(*k))
    }
    pub fn has(self, k: K) -> bool {
        self.0 & (1 << k as u8) != 0
    }
    pub fn with(self, k: K) -> Set {
        Set(self.0 | 1 << k as u8)
    }
    pub fn without(self, k: K) -> Set {
        Set(self.0 & !(1 << k as u8))
    }
    pub fn within(self, other: Set) -> bool {
        self.0 & !other.0 == 0
    }
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }
    pub fn iter(self) -> impl DoubleEndedIterator<Item = K> {
        KERNELS.into_iter().filter(move |k| self.has(*k))
    }
}

impl fmt::Debug for Set {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

/// GRUB's environment block, as far as it matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Vars {
    pub saved: K,
    pub once: Option<K>,
    /// The mark of a hold: the held kernel, and the one that would boot without the hold.
    pub mark: Option<(K, K)>,
}

/// The file that holds the block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Env {
    Whole(Vars),
    /// Truncated: another tool is about to write it, or died before.
    Empty,
}

/// The record of a hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Hold {
    pub held: K,
    pub wanted: K,
}

/// The network card.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Card {
    Here,
    /// There, but not seen yet: the machine is starting.
    Late,
    /// Away for a while; it comes back.
    Away,
    /// The hardware changed: it never comes back.
    Gone,
}

/// The gate's files, and systemd's state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Gate {
    /// The record: the kernels for which the gate is closed.
    pub record: Option<Set>,
    pub files: bool,
    /// systemd refuses reboots.
    pub loaded: bool,
}

/// The locks, in the order in which they may be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Lock {
    Write,
    Boot,
    Gate,
}

/// Events that must not happen, or that affect the properties.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Seen {
    /// A default was set that neither a hook nor a path unit notices; only a timer will.
    pub unheard: bool,
    /// The gate was opened by a run whose look was older than one that had closed it (P1).
    pub opened_over: bool,
    /// A kernel was promoted that does not drive the card that is or was there (P5).
    pub promoted_unproven: bool,
    /// A declined kernel was promoted (P9).
    pub promoted_declined: bool,
    /// A reboot that vfguard had allowed was refused by its own gate (P6).
    pub reboot_refused: bool,
    /// Starts of the watch since the last event from outside (P7).
    pub starts: u8,
}

/// The complete state.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct World {
    pub installed: Set,
    /// The kernels whose module drives the card.
    pub drives: Set,
    pub env: Env,
    pub hold: Option<Hold>,
    /// The same two after a power cut.
    pub kept_env: Env,
    pub kept_hold: Option<Hold>,
    /// The kernels that a person declined, and those that would still be declined after a power cut.
    pub declined: Set,
    pub kept_declined: Set,
    /// The card was in use, and is not known to be gone.
    pub remembered: bool,
    /// The number of boots since then without it, and whether this boot is counted.
    pub absent: u8,
    pub missed: bool,
    pub card: Card,
    pub kexec: bool,
    pub network: bool,
    pub running: K,
    /// The machine came up without its network: nobody can reach it any more.
    pub lost: bool,
    pub gate: Gate,
    pub over: Option<Set>,
    /// `reboot --held` lets its own reboot through although these kernels are refused.
    pub pass: Option<Set>,
    /// vfguard is being removed, or gone.
    pub removing: bool,
    pub removed: bool,
    /// The path unit noticed a change.
    pub heard: bool,
    pub locks: [Option<Who>; 3],
    pub actors: [Actor; ALL.len()],
    pub left: Budget,
    /// The kernel that somebody last made the default on purpose.
    pub intent: K,
    pub seen: Seen,
}

impl World {
    pub fn actor(&mut self, who: Who) -> &mut Actor {
        &mut self.actors[who as usize]
    }
    pub fn at(&self, who: Who) -> &Actor {
        &self.actors[who as usize]
    }
    pub fn is_idle(&self, who: Who) -> bool {
        self.at(who).pc == Pc::Idle
    }
    pub fn go(&mut self, who: Who, pc: Pc) -> bool {
        self.actor(who).pc = pc;
        true
    }

    /// Takes a lock if it is free or already the actor's.
    pub fn take(&mut self, lock: Lock, who: Who) -> bool {
        let holder = &mut self.locks[lock as usize];
        let free = holder.is_none_or(|by| by == who);
        if free {
            *holder = Some(who);
        }
        free
    }
    pub fn is_free(&self, lock: Lock) -> bool {
        self.locks[lock as usize].is_none()
    }
    pub fn drop_lock(&mut self, lock: Lock, who: Who) {
        if self.locks[lock as usize] == Some(who) {
            self.locks[lock as usize] = None;
        }
    }
    /// flock(2): the locks of a dead process are free.
    pub fn drop_locks(&mut self, who: Who) {
        self.locks.iter_mut().filter(|l| **l == Some(who)).for_each(|l| *l = None);
    }

    /// Raises the generation: every look in progress is out of date.
    pub fn raise(&mut self, by: Who) {
        for who in ALL.into_iter().filter(|w| *w != by) {
            let actor = self.actor(who);
            if actor.pc != Pc::Idle {
                (actor.overtaken, actor.came) = (true, true);
            }
        }
    }

    /// Looks for the card. A boot without it is counted; after enough of them the card is gone for good.
    pub fn find_card(&mut self, scene: &Scene, by: Who) {
        if self.card == Card::Here {
            if !self.remembered && !scene.without(Mutation::FoundDeviceDoesNotRaise) {
                self.raise(by);
            }
            (self.remembered, self.missed, self.absent) = (true, false, 0);
        } else if self.remembered && !self.missed {
            (self.missed, self.absent) = (true, self.absent + 1);
            self.remembered = self.absent < scene.patience;
        }
    }

    /// A look begins: it is newer than all looks in progress.
    pub fn look(&mut self, by: Who) {
        let others = ALL.into_iter().filter(|w| *w != by && self.at(*w).pc != Pc::Idle);
        let newer_than = others.fold(0, |set, who| set | 1 << who as u8);
        self.actors.iter_mut().for_each(|actor| actor.newer_than &= !(1 << by as u8));
        let actor = self.actor(by);
        (actor.overtaken, actor.contradicted, actor.newer_than) = (false, false, newer_than);
    }

    /// An actor finds that the gate has to be closed: every older look in progress has seen too little.
    pub fn contradict(&mut self, by: Who) {
        let newer_than = self.at(by).newer_than;
        ALL.into_iter().filter(|w| newer_than & 1 << *w as u8 != 0).for_each(|who| self.actor(who).contradicted = true);
    }

    /// The path unit notices a change, unless the service that it starts is running.
    pub fn notify(&mut self, scene: &Scene) {
        self.heard |= scene.watch && self.is_idle(Who::Watch) && !self.removed;
    }

    /// Writes the boot loader's block. It is synced too where the scene has no power cut.
    pub fn write_env(&mut self, scene: &Scene, env: Env) {
        self.env = env;
        if !scene.syncs() {
            self.kept_env = env;
        }
        self.notify(scene);
    }
    pub fn sync_env(&mut self) {
        self.kept_env = self.env;
    }
    /// Writes a record to a temporary file, syncs and renames it, and syncs its directory.
    pub fn write_hold(&mut self, hold: Option<Hold>) {
        (self.hold, self.kept_hold) = (hold, hold);
    }
    pub fn remove_hold(&mut self, scene: &Scene) {
        self.hold = None;
        if !scene.syncs() {
            self.kept_hold = None;
        }
    }

    /// Another tool has truncated the block and will write it.
    pub fn is_being_written(&self) -> bool {
        self.env == Env::Empty && self.actors.iter().any(|actor| actor.pc == Pc::EditWrite)
    }
    /// Another tool has read the block and will write what it read.
    pub fn is_rewritten(&self) -> bool {
        self.actors.iter().any(|actor| matches!(actor.pc, Pc::EditTruncate | Pc::EditWrite))
    }

    /// Whether a kernel comes up with the network.
    pub fn is_good(&self, k: K) -> bool {
        let needed = match self.card {
            Card::Here | Card::Late => true,
            Card::Away => self.remembered,
            Card::Gone => false,
        };
        !needed || self.drives.has(k)
    }
    /// The kernel that a boot starts.
    pub fn boots(&self, env: Env) -> K {
        let (once, next) = real::boots(self.installed, env);
        once.unwrap_or(next)
    }
    /// All kernels that may boot.
    pub fn may_boot(&self, env: Env) -> Set {
        let (once, next) = real::boots(self.installed, env);
        once.map_or(Set::default(), |k| Set::of(&[k])).with(next)
    }
    /// The wanted kernel, with or without a hold.
    pub fn wanted(&self) -> K {
        let next = real::boots(self.installed, self.env).1;
        self.held_off().and_then(|off| off.wanted).unwrap_or(next)
    }
    /// The kernel that a hold keeps off, if one is on.
    pub fn held_off(&self) -> Option<HeldOff> {
        real::held_off(self.installed, self.env, self.hold, self.declined)
    }
    /// The kernels that a run takes as declined.
    pub fn skipped(&self, scene: &Scene, declined: Set) -> Set {
        if scene.without(Mutation::DeclinedIsWanted) {
            Set::default()
        } else {
            declined
        }
    }
    /// Whether the card counts in a look: it is there, or it was in use and is not known to be gone.
    pub fn counts(&self, scene: &Scene) -> bool {
        self.card == Card::Here || (self.remembered && !scene.without(Mutation::AbsentDeviceForgotten))
    }
}
