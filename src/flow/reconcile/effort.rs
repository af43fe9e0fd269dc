//! How much a run may do, and whether the files on disk are final.

use crate::config::Config;
use crate::flow::look::Look;
use crate::flow::plan::Rights;
use crate::host::{locks, Host};
use anyhow::Result;
use std::time::Instant;

/// How much a run may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effort {
    /// Judge, refuse, build, open.
    Whole,
    /// The same, but no build begins after this instant, and each build ends at it: for hooks, for which a package manager waits.
    Within(Instant),
    /// Judge, and refuse or open; build nothing: for hooks that do not wait.
    Decide,
    /// Like `Decide`, while the machine starts. Devices may still be missing, so no other kernel is promoted.
    Early,
}

/// Whether the files on disk are those that will boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Yes: a person calls, or a hook that runs when everything is written.
    Final,
    /// No, and a later hook of the same transaction decides again.
    Changing,
    /// Yes, unless a package manager is running; the caller is not part of a transaction.
    Unasked,
}

impl Standing {
    /// The rights that are left at this standing, of those that the mode and the place give.
    pub(super) fn limit(self, host: &Host, rights: Rights) -> Rights {
        let changing = match self {
            Standing::Final => false,
            Standing::Changing => true,
            Standing::Unasked => locks::transaction(host).is_some(),
        };
        if changing {
            rights.meanwhile()
        } else {
            rights
        }
    }
}

impl Effort {
    pub(super) fn look<'a>(self, host: &'a Host, config: &'a Config) -> Result<Look<'a>> {
        match self {
            Effort::Whole | Effort::Within(_) | Effort::Decide => Look::new(host, config),
            Effort::Early => Look::at_boot(host, config),
        }
    }
}
