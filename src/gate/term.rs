//! How long something in /run that lets reboots through lasts: by the clock, by the time since boot, and for this boot alone.

use crate::audit;
use crate::host::Host;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// A time with an end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Term {
    /// Since when, in unix seconds.
    pub since: i64,
    /// When it ends, in unix seconds.
    pub until: i64,
    /// The same in seconds since boot, which no change of the clock moves.
    pub until_uptime: Option<u64>,
    /// The boot that it belongs to (`/proc/sys/kernel/random/boot_id`).
    pub boot_id: Option<String>,
}

impl Term {
    /// From now on.
    pub(super) fn new(host: &Host, lasts: Duration) -> Term {
        let since = audit::now();
        Term {
            since,
            until: since.saturating_add(lasts.as_secs() as i64),
            until_uptime: uptime(host).map(|u| u.saturating_add(lasts.as_secs())),
            boot_id: boot_id(host),
        }
    }

    /// Whether it still runs. A clock set forward ends it early; one set back does not prolong it, since the time since
    /// boot counts too (where that is unknown, a clock before its start ends it).
    pub(super) fn runs(&self, host: &Host, now: i64) -> bool {
        let by_boot = match (self.until_uptime, uptime(host)) {
            (Some(until), Some(up)) => up < until,
            (None, _) | (_, None) => now >= self.since,
        };
        now < self.until && by_boot && self.boot_id == boot_id(host)
    }
}

/// Seconds since boot: the first number of `/proc/uptime` (proc(5)), which counts suspended time too.
pub(super) fn uptime(host: &Host) -> Option<u64> {
    host.read_text("/proc/uptime").ok()?.split(['.', ' ']).next()?.parse().ok()
}

fn boot_id(host: &Host) -> Option<String> {
    host.read_text("/proc/sys/kernel/random/boot_id").ok().map(|t| t.trim().to_owned())
}
