//! Who calls `reconcile`, and what that says of the disk.

use super::order::Stage;
use crate::flow::reconcile::Standing;

/// Who calls `reconcile`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Caller {
    /// Nobody says: a person.
    Person,
    /// vfguard.service.
    Worker,
    /// vfguard-headers.service.
    Headers,
    /// vfguard-boot.service: early, before devices, mounts and the network are sure to be there.
    Boot,
    /// Something of this machine outside any transaction: the watch, a timer, the end of an override.
    Machine,
    /// dnf5's actions plugin, for which stdout is a protocol.
    Dnf5,
    /// yum 3's action, which has the terminal, and which another root's transaction and one that is only tested call as well.
    Yum,
    /// Any other hook; its transaction may still be under way.
    Hook(Stage),
}

impl Caller {
    /// By the name after `--from`.
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

    /// How far the transaction is; none where the caller is no hook.
    pub(super) fn stage(self) -> Option<Stage> {
        match self {
            Caller::Hook(stage) => Some(stage),
            Caller::Yum | Caller::Dnf5 => Some(Stage::Done),
            Caller::Person | Caller::Worker | Caller::Headers | Caller::Boot | Caller::Machine => None,
        }
    }

    /// Whether what is on disk now may be led into.
    pub fn standing(self) -> Standing {
        match (self, self.stage()) {
            (Caller::Person, _) => Standing::Final,
            (_, Some(stage)) if stage.is_final() => Standing::Final,
            (_, Some(_)) => Standing::Changing,
            (_, None) => Standing::Unasked,
        }
    }
}
