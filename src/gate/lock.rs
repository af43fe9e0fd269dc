//! The gate's lock: closing and opening exclude each other, and nobody builds under it.

use crate::error::{advise, Remedy};
use crate::host::{failpoint, lock, Host};
use anyhow::Result;
use nix::fcntl::Flock;
use std::fs::File;
use std::time::Duration;

/// Where it is, below the root; packaging/systemd/fail-closed takes it as well.
pub(super) const LOCK: &str = "/run/vfguard/gate.lock";

/// Longer than whoever holds the lock may take. What is waited for under it, at the longest, each time with 2 s more for a program
/// that has to be killed:
///
/// | closing | s | opening | s | override or pass | s | `gate remove` | s |
/// |---|---|---|---|---|---|---|---|
/// | was it closed before? (show) | 25 | | | arm the timer (systemd-run) | 25 | stop timers | 25 |
/// | does initctl listen? (show) | 25 | | | | | | |
/// | daemon-reload | 90 | daemon-reload | 90 | | 90 | | 90 |
/// | stop initctl | 25 | start initctl | 25 | | 25 | | 25 |
/// | start the inhibitor | 25 | stop the inhibitor | 25 | | 25 | | 25 |
/// | does it refuse? (show) | 25 | is it open? (show) | 25 | | 25 | | 25 |
/// | **sum** | **227** | | **173** | | **200** | | **200** |
///
/// Telling people (wall, 10 s) and the audit log of what was done come after the lock. The shell of vfguard-fail-closed.service
/// holds it for 85 s.
const PATIENCE: Duration = Duration::from_secs(240);
const RETRY: Duration = Duration::from_millis(20);

/// Closing or opening is under way.
#[derive(Debug)]
pub(super) struct Lock {
    _file: Option<Flock<File>>,
}

impl Lock {
    pub(super) fn take(host: &Host) -> Result<Lock> {
        let taken = Lock::acquire(host);
        Lock::of(taken.remedy(
            format!("taking the gate's lock {LOCK}"),
            format!("run this as root, with room in /run; if that cannot be had: {}", super::means::systemd::WAY_OUT),
        )?)
    }

    /// The same to close, which is the safe side: where the file cannot be made or opened (a /run that is full), it is closed without.
    pub(super) fn take_to_close(host: &Host) -> Result<Lock> {
        Lock::acquire(host).map_or(Ok(Lock { _file: None }), Lock::of)
    }

    fn acquire(host: &Host) -> Result<Option<Flock<File>>> {
        failpoint::hit("gate-lock-before-taken");
        let taken = lock::acquire(host, LOCK, PATIENCE, RETRY);
        failpoint::hit("gate-lock-taken");
        taken
    }

    fn of(taken: Option<Flock<File>>) -> Result<Lock> {
        if taken.is_none() {
            return Err(advise("waiting for the gate to be closed or opened: another run is at it still", "run this again"));
        }
        Ok(Lock { _file: taken })
    }
}
