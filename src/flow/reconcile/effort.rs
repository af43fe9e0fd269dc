//! How far a run goes, and whether what it finds on the disk may be led into.

use crate::config::Config;
use crate::flow::look::Look;
use crate::flow::plan::Rights;
use crate::host::{locks, Host};
use anyhow::Result;
use std::time::Instant;

/// How far a run goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effort {
    /// Judge, refuse, build, open.
    Whole,
    /// The same, but no build begins after this instant, and each ends by then: for hooks, while which a package manager waits.
    Within(Instant),
    /// Judge, and refuse or open; build nothing: for hooks that do not wait.
    Decide,
    /// The same while the machine starts: devices may still be on their way, so the boot default is moved to no other kernel.
    Early,
}

/// Whether what is on disk is what will boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It is: a person asks, or a hook that calls once all is written.
    Final,
    /// It is not, and a later hook of the same transaction decides again.
    Changing,
    /// It is, unless a package manager is at work: nobody of its own asks.
    Unasked,
}

impl Standing {
    /// What may be done of what the mode and the place allow.
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
