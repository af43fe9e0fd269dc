//! How long a file in /run that allows reboots is valid: by the clock, by the time since boot, and only in this boot.

use crate::audit;
use crate::host::Host;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// A limited period of time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Term {
    /// Since when, in unix seconds.
    pub since: i64,
    /// When it ends, in unix seconds.
    pub until: i64,
    /// The same in seconds since boot, which changes of the clock do not affect.
    pub until_uptime: Option<u64>,
    /// The boot for which it is valid (`/proc/sys/kernel/random/boot_id`).
    pub boot_id: Option<String>,
}

impl Term {
    /// Starts now.
    pub(super) fn new(host: &Host, lasts: Duration) -> Term {
        let since = audit::now();
        Term {
            since,
            until: since.saturating_add(lasts.as_secs() as i64),
            until_uptime: uptime(host).map(|u| u.saturating_add(lasts.as_secs())),
            boot_id: boot_id(host),
        }
    }

    /// Whether it is still valid. A clock that is set forward ends it early. A clock that is set back does not extend it,
    /// since the time since boot counts too; if that is unknown, a clock before its start ends it.
    pub(super) fn runs(&self, host: &Host, now: i64) -> bool {
        let by_boot = match (self.until_uptime, uptime(host)) {
            (Some(until), Some(up)) => up < until,
            (None, _) | (_, None) => now >= self.since,
        };
        now < self.until && by_boot && self.boot_id == boot_id(host)
    }
}

/// Seconds since boot: the first number of `/proc/uptime` (proc(5)). It includes time in suspend.
pub(super) fn uptime(host: &Host) -> Option<u64> {
    host.read_text("/proc/uptime").ok()?.split(['.', ' ']).next()?.parse().ok()
}

fn boot_id(host: &Host) -> Option<String> {
    host.read_text("/proc/sys/kernel/random/boot_id").ok().map(|t| t.trim().to_owned())
}
