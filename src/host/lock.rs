//! One writer at a time: an flock(2) on a file that is never renamed or removed, so that all callers lock the same inode.
//! The kernel frees it when its holder dies.

use super::{files, Host};
use crate::error::{advise_exit, Exit};
use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use std::fs::{self, File, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

/// Where the lock is, below the root.
const LOCK: &str = "/run/vfguard/lock";
/// Whoever may open it may lock it: any user could keep vfguard from ever building or holding.
const MODE: u32 = 0o600;
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
        let mut file = open(&path).with_context(|| format!("opening the lock {}", path.display()))?;
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

/// Opens the file of a lock, made where it is missing, and closes it to others, as an older vfguard or another umask left it.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    let file = File::options().create(true).truncate(false).write(true).mode(MODE).open(path)?;
    file.set_permissions(Permissions::from_mode(MODE))?;
    Ok(file)
}

/// Whether some process holds the lock now; the caller must not. It is tried for a moment, as a reader.
pub fn is_held(host: &Host) -> bool {
    let path = host.path(LOCK);
    match File::open(&path) {
        Ok(file) => matches!(Flock::lock(file, FlockArg::LockSharedNonblock), Err((_, Errno::EWOULDBLOCK))),
        Err(e) if e.kind() == ErrorKind::PermissionDenied => is_listed(&path),
        Err(_) => false,
    }
}

/// Whether the kernel lists a lock of a file (proc_locks(5)), for those who may not open it.
fn is_listed(path: &Path) -> bool {
    let (Ok(meta), Ok(locks)) = (fs::metadata(path), fs::read_to_string("/proc/locks")) else { return false };
    let (major, minor) = (nix::sys::stat::major(meta.dev()), nix::sys::stat::minor(meta.dev()));
    locks.contains(&format!(" {major:02x}:{minor:02x}:{} ", meta.ino()))
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
        let path = host.path(LOCK);
        assert!(is_held(&host) && is_listed(&path));
        drop(first);
        assert!(!is_held(&host) && !is_listed(&path));
        WriteLock::take(&host, Duration::ZERO).unwrap();
    }

    #[test]
    fn nobody_else_may_open_the_lock_even_if_an_older_vfguard_let_them() {
        let dir = tempfile::tempdir().unwrap();
        let host = Host::new(dir.path()).unwrap();
        let mode = || fs::metadata(host.path(LOCK)).unwrap().mode() & 0o7777;
        drop(WriteLock::take(&host, Duration::ZERO).unwrap());
        assert_eq!(mode(), 0o600);
        fs::set_permissions(host.path(LOCK), Permissions::from_mode(0o644)).unwrap();
        drop(WriteLock::take(&host, Duration::ZERO).unwrap());
        assert_eq!(mode(), 0o600);
    }
}
