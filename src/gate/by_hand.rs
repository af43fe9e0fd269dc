//! The gate closed by a person with a reason (a change freeze): it stays closed, also across reboots, until a person opens
//! it.

use super::lock::Lock;
use super::{record, Reason, RECORD};
use crate::audit;
use crate::audit::Who;
use crate::error::{advise_exit, Exit};
use crate::host::files::trust;
use crate::host::Host;
use anyhow::Result;
use serde::{Deserialize, Serialize};
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// The file of the order, below the root.
const FILE: &str = "/var/lib/vfguard/closed-by-hand.json";
/// How its line among the gate's reasons begins.
const SUMMARY: &str = "closed by hand by";
/// The summary of a gate that a person closed without giving a reason, and how that of an order begins.
pub const CLOSED: &str = "closed by hand";
/// What opens it.
const TO_OPEN: &str = "vfguard gate open --reason TEXT";

/// Who closed it, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ByHand {
    /// Why.
    pub reason: String,
    /// When, in unix seconds.
    pub since: i64,
    /// Who.
    #[serde(flatten)]
    pub who: Who,
}

impl ByHand {
    /// An order by this process, from now on.
    ///
    /// # Errors
    /// When the reason is missing.
    pub fn new(host: &Host, reason: &str) -> Result<ByHand> {
        let usage = |message: &str| advise_exit(Exit::Usage, message, "say why in a line: vfguard gate close --reason TEXT");
        let reason = audit::reason(reason).map_err(|why| usage(&why))?;
        Ok(ByHand { reason, since: audit::now(), who: Who::current(host) })
    }

    /// The order as one of the gate's reasons.
    pub fn reason(&self) -> Reason {
        let who = self.who.told();
        let summary = format!("{SUMMARY} {who} since {}: {}", audit::stamp(self.since), self.reason);
        Reason { kernel: None, summary, remedy: TO_OPEN.into() }
    }
}

/// Whether a person closed the gate, with an order or without.
pub(super) fn is_persons(reason: &Reason) -> bool {
    reason.kernel.is_none() && reason.summary.starts_with(CLOSED)
}

/// Whether this reason is a person's order.
pub(super) fn is_order(reason: &Reason) -> bool {
    reason.kernel.is_none() && reason.summary.starts_with(SUMMARY)
}

/// The order that keeps the gate closed, if there is one. A record that is unreadable, or that others could have written,
/// counts as an order. An ordinary user, who may not read it, gets none.
pub fn by_hand(host: &Host) -> Option<ByHand> {
    let since = match host.path_of_link(FILE).symlink_metadata() {
        Ok(meta) => meta.mtime(),
        Err(e) if e.kind() == ErrorKind::NotFound => return None,
        Err(e) if e.kind() == ErrorKind::PermissionDenied && !nix::unistd::geteuid().is_root() => return None,
        Err(_) => 0,
    };
    let read = trust::read_text(&host.path(FILE), Path::new(FILE));
    let parsed = read.and_then(|text| Ok(serde_json::from_str(&text)?));
    Some(parsed.unwrap_or_else(|e| ByHand {
        reason: format!("its record cannot be read ({e:#})"),
        since,
        who: Who::default(),
    }))
}

/// The order as one of the gate's reasons. An ordinary user gets it from the gate's own record.
pub fn order(host: &Host) -> Option<Reason> {
    match by_hand(host) {
        Some(order) => Some(order.reason()),
        None if nix::unistd::geteuid().is_root() => None,
        None => record(host)?.reasons.into_iter().find(is_order),
    }
}

/// These reasons, preceded by a person's order: the order among them, else the one for which the gate is already closed. It
/// is read from /run, so that closing does not wait for the disk that the order itself is on.
pub(super) fn with(host: &Host, reasons: &[Reason]) -> Vec<Reason> {
    let known = || record(host)?.reasons.into_iter().find(is_order);
    let order = reasons.iter().find(|r| is_order(r)).cloned().or_else(known);
    order.into_iter().chain(reasons.iter().filter(|r| !is_order(r)).cloned()).collect()
}

/// Removes an order that is not on the disk any more from the reasons for which the gate is closed; [`with`] would carry it on.
///
/// # Errors
/// Those of the lock and of writing the record.
pub(super) fn forget(host: &Host) -> Result<()> {
    if !record(host).is_some_and(|record| record.reasons.iter().any(is_order)) {
        return Ok(());
    }
    let _lock = Lock::take_to_close(host)?;
    let Some(mut record) = record(host) else { return Ok(()) };
    record.reasons.retain(|reason| !is_order(reason));
    host.write_atomic(RECORD, &serde_json::to_vec(&record)?, 0o644)
}

pub(super) fn store(host: &Host, order: &ByHand) -> Result<()> {
    host.write_atomic(FILE, &serde_json::to_vec_pretty(order)?, 0o644)
}

/// Ends the order. If there is none, nothing is written, because the file system may be read-only.
///
/// # Errors
/// When it cannot be removed.
pub(super) fn end(host: &Host) -> Result<()> {
    match host.path_of_link(FILE).symlink_metadata() {
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(()),
        _ => host.remove_durably(FILE).map(drop),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_is_listed_first_and_once_and_an_unreadable_record_of_it_counts() {
        let dir = tempfile::tempdir().unwrap();
        let host = Host::new(dir.path()).unwrap();
        let other = Reason { kernel: None, summary: "x".into(), remedy: "y".into() };
        assert_eq!(by_hand(&host), None);
        assert_eq!(with(&host, std::slice::from_ref(&other)), std::slice::from_ref(&other));
        let order = ByHand::new(&host, " change freeze ").unwrap();
        store(&host, &order).unwrap();
        assert_eq!(by_hand(&host), Some(order.clone()));
        assert_eq!(with(&host, &[other.clone(), order.reason()]), [order.reason(), other.clone()]);
        assert_eq!(with(&host, std::slice::from_ref(&other)), std::slice::from_ref(&other), "it read the disk");
        let closed = super::super::Record { reasons: vec![order.reason()], ..Default::default() };
        host.write_atomic(super::super::RECORD, &serde_json::to_vec(&closed).unwrap(), 0o644).unwrap();
        assert_eq!(with(&host, std::slice::from_ref(&other)), [order.reason(), other.clone()]);
        host.write_atomic(FILE, b"{", 0o644).unwrap();
        assert!(by_hand(&host).unwrap().reason().summary.contains("cannot be read"));
        end(&host).unwrap();
        assert_eq!(by_hand(&host), None);
        for reason in ["", " \t", "two\nlines", &"x".repeat(2000)] {
            assert_eq!(crate::error::exit(&ByHand::new(&host, reason).unwrap_err()), Exit::Usage);
        }
    }
}
