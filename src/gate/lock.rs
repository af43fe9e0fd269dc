//! The gate's lock: closing and opening exclude each other, and no build runs while it is held.

use crate::error::{advise, Remedy};
use crate::host::{failpoint, lock, Host};
use anyhow::Result;
use nix::fcntl::Flock;
use std::fs::File;
use std::time::Duration;

/// The file, below the root; packaging/systemd/fail-closed uses it as well.
pub(super) const LOCK: &str = "/run/vfguard/gate.lock";

/// Longer than any process holds the lock. The waits under it, at most; each can take 2 s more if a program must be killed:
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
/// Informing people (wall, 10 s) and the audit log come after the lock is released. The shell of vfguard-fail-closed.service
/// holds it for 85 s.
const PATIENCE: Duration = Duration::from_secs(240);
const RETRY: Duration = Duration::from_millis(20);

/// Held while closing or opening.
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

    /// The same for closing, which is the safe side: if the file cannot be created or opened (/run is full), the gate is
    /// closed without the lock.
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
