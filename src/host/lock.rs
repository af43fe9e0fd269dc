//! One writer at a time: an flock(2) on a file that is never renamed or removed, so that all callers lock the same inode.
//! The kernel frees it when its holder dies.

use super::{files, Host};
use crate::error::{advise_exit, Exit};
use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use std::fs::File;
use std::path::Path;
use std::time::{Duration, Instant};

/// Where the lock is, below the root.
const LOCK: &str = "/run/vfguard/lock";
/// How often a taken lock is tried again; flock(2) has no time limit of its own.
const RETRY: Duration = Duration::from_millis(100);

/// Proof that this process is the one writer; what changes state takes it by reference.
#[derive(Debug)]
pub struct WriteLock {
    _file: Flock<File>,
}

impl WriteLock {
    /// Takes the lock, waiting at most `patience`.
    ///
    /// # Errors
    /// [`Exit::Locked`] when another run still holds it; those of opening the file.
    pub fn take(host: &Host, patience: Duration) -> Result<WriteLock> {
        let path = host.path(LOCK);
        files::create_dirs(path.parent().unwrap_or(Path::new("/")), 0o755)?;
        let mut file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .with_context(|| format!("opening the lock {}", path.display()))?;
        let start = Instant::now();
        loop {
            match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(held) => return Ok(WriteLock { _file: held }),
                Err((back, Errno::EWOULDBLOCK)) if start.elapsed() < patience => {
                    file = back;
                    std::thread::sleep(RETRY);
                }
                Err((_, Errno::EWOULDBLOCK)) => {
                    return Err(advise_exit(
                        Exit::Locked,
                        format!("another vfguard run holds {} (waited {} s)", path.display(), patience.as_secs()),
                        "wait until it is done (`vfguard status` shows its log), then run this again",
                    ));
                }
                Err((_, e)) => return Err(e).with_context(|| format!("locking {}", path.display())),
            }
        }
    }
}

/// Whether some process holds the lock now; the caller must not. It is tried for a moment, as a reader.
pub fn is_held(host: &Host) -> bool {
    let Ok(file) = File::open(host.path(LOCK)) else { return false };
    matches!(Flock::lock(file, FlockArg::LockSharedNonblock), Err((_, Errno::EWOULDBLOCK)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_writer_is_turned_away_until_the_first_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let host = Host::new(dir.path()).unwrap();
        let first = WriteLock::take(&host, Duration::ZERO).unwrap();
        let error = WriteLock::take(&host, Duration::from_millis(150)).unwrap_err();
        assert_eq!(crate::error::exit(&error), Exit::Locked);
        assert!(is_held(&host));
        drop(first);
        assert!(!is_held(&host));
        WriteLock::take(&host, Duration::ZERO).unwrap();
    }
}
