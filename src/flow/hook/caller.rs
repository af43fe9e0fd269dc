//! Who calls `reconcile`, and whether the files on disk are final then.

use super::order::Stage;
use crate::flow::reconcile::Standing;

/// Who calls `reconcile`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Caller {
    /// No `--from` was given: a person.
    Person,
    /// vfguard.service.
    Worker,
    /// vfguard-headers.service.
    Headers,
    /// vfguard-boot.service: early, when devices, mounts and the network may still be missing.
    Boot,
    /// A unit of this machine outside any transaction: the watch, a timer, the end of an override.
    Machine,
    /// dnf5's actions plugin, for which stdout is a protocol.
    Dnf5,
    /// yum 3's action. It has the terminal, and also runs for another root's transaction and for one that is only tested.
    Yum,
    /// Any other hook; its transaction may still be running.
    Hook(Stage),
}

impl Caller {
    /// The caller with this name after `--from`.
    pub fn of(name: Option<&str>) -> Caller {
        match name {
            None => Caller::Person,
            Some("service") => Caller::Worker,
            Some("headers") => Caller::Headers,
            Some("boot") => Caller::Boot,
            Some("watch" | "timer" | "override-end") => Caller::Machine,
            Some("dnf5") => Caller::Dnf5,
            Some("yum") => Caller::Yum,
            Some(name) => Caller::Hook(Stage::of(name)),
        }
    }

    /// Whether a package manager waits for this call.
    pub fn in_transaction(self) -> bool {
        match self {
            Caller::Hook(_) | Caller::Yum | Caller::Dnf5 => true,
            Caller::Person | Caller::Worker | Caller::Headers | Caller::Boot | Caller::Machine => false,
        }
    }

    /// How far the transaction is; `None` where the caller is no hook.
    pub(super) fn stage(self) -> Option<Stage> {
        match self {
            Caller::Hook(stage) => Some(stage),
            Caller::Yum | Caller::Dnf5 => Some(Stage::Done),
            Caller::Person | Caller::Worker | Caller::Headers | Caller::Boot | Caller::Machine => None,
        }
    }

    /// Whether the files on disk are final.
    pub fn standing(self) -> Standing {
        match (self, self.stage()) {
            (Caller::Person, _) => Standing::Final,
            (_, Some(stage)) if stage.is_final() => Standing::Final,
            (_, Some(_)) => Standing::Changing,
            (_, None) => Standing::Unasked,
        }
    }
}
