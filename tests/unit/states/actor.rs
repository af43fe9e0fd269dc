//! The actors, where each is in its program, and what it has in memory.

use super::world::{Env, Hold, Set, K};

/// An actor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Who {
    /// The package manager, and the hook that it calls.
    Package,
    /// Another package manager's hook, or a timer's run that only decides.
    Run,
    /// vfguard.service.
    Worker,
    /// vfguard-watch.service, started by its path unit.
    Watch,
    /// vfguard-boot.service.
    Boot,
    /// vfguard-fail-closed.service.
    FailClosed,
    Person,
    /// A tool that writes grubenv: grub-editenv reads, truncates, writes.
    Foreign,
}

pub const ALL: [Who; 8] =
    [Who::Package, Who::Run, Who::Worker, Who::Watch, Who::Boot, Who::FailClosed, Who::Person, Who::Foreign];

/// Where an actor is: the next step that it takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Pc {
    #[default]
    Idle,
    // A unit that was started and may have to wait for others.
    Queued,
    // A run of vfguard: src/flow/reconcile/mod.rs.
    Raise,
    Look,
    Read,
    Judge,
    Refuse,
    CloseLock,
    CloseFiles,
    CloseLoad,
    HoldLock,
    HoldWrite,
    HoldSync,
    HoldCheck,
    TakeWrite,
    Forget,
    ForgetSync,
    Build,
    PromoteLock,
    PromoteForget,
    PromoteWrite,
    PromoteSync,
    PromoteCheck,
    PromoteRecord,
    PromoteRecordSync,
    OpenCompare,
    OpenLock,
    OpenLoad,
    OpenRecord,
    // A package manager.
    Unpack,
    WaitWorker,
    Handover,
    // A unit that has started another one and is still active.
    Ending,
    // Who writes grubenv as grub-editenv does.
    EditRead,
    EditTruncate,
    EditWrite,
    // A person.
    PrepareLock,
    OverrideLock,
    OverrideLoad,
    OverrideRecord,
    DeclineLock,
    DeclineSync,
    RebootLock,
    RebootBoot,
    RebootLook,
    RebootPass,
    RebootLoad,
    RebootRecord,
    RebootAsk,
    Stamp,
    StopUnits,
    RemoveLock,
    RemoveLoad,
    RemoveRecord,
}

/// The purpose of a run's look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Phase {
    /// Before taking the write lock: refuse at once.
    #[default]
    First,
    /// With the lock.
    Round,
    /// After a build.
    Again,
    /// After the gate was opened.
    Last,
}

/// The result of the real decision.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Plan {
    #[default]
    Rest,
    Tell,
    Allow {
        end: End,
        open: bool,
    },
    Refuse {
        close: bool,
        once: bool,
        hold: Option<K>,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum End {
    Leave,
    Promote(K),
    Forget,
}

/// One actor: where it is and what it has in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Actor {
    pub pc: Pc,
    pub phase: Phase,
    pub round: u8,
    /// Others raised the generation since the last look.
    pub overtaken: bool,
    /// The same since the first look of this round: others changed something.
    pub came: bool,
    /// A run with a later look found that the gate has to be closed.
    pub contradicted: bool,
    /// The actors whose look is older than this actor's.
    pub newer_than: u8,
    /// The card was seen in this look, or is remembered.
    pub card: bool,
    pub env: Env,
    pub hold: Option<Hold>,
    pub declined: Set,
    /// The record of a hold before this actor wrote its own.
    pub before: Option<Hold>,
    pub plan: Plan,
    /// The kernels that the last look refused.
    pub refused: Set,
    /// Whether the gate is still to be closed, and the default to be held.
    pub to_close: bool,
    pub to_hold: bool,
    pub built: bool,
    /// How often its program has called a run; the next step depends on that.
    pub turn: u8,
    /// The act of a package manager or a person.
    pub deed: Option<Deed>,
}

/// The beginning of a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Deed {
    Install(K),
    /// The same by a package that does not move the default.
    Add(K),
    Remove(K),
    /// A default set by hand, or by a package without a hook of ours.
    Default(K),
    /// A one-shot default.
    Once(K),
    /// Another change of grubenv; the rest is written as it was read.
    Rewrite,
    /// vfguard is called to decide.
    Decide,
    Override,
    Decline,
    RebootHeld,
    /// `vfguard prepare` by hand: builds for the update, and judges again.
    Prepare,
    RemovePackage,
}

impl Default for Actor {
    fn default() -> Actor {
        Actor {
            pc: Pc::Idle,
            phase: Phase::First,
            round: 0,
            overtaken: false,
            came: false,
            contradicted: false,
            newer_than: 0,
            card: false,
            // Nothing was read.
            env: Env::Empty,
            hold: None,
            declined: Set::default(),
            before: None,
            plan: Plan::Rest,
            refused: Set::default(),
            to_close: false,
            to_hold: false,
            built: false,
            turn: 0,
            deed: None,
        }
    }
}
