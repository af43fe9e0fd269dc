//! The locks. Each is an flock(2) on a file that vfguard never renames or removes, so that all runs lock the same inode. The
//! kernel releases it when its holder dies.
//!
//! Something else may remove the file (a cleaner of /run, a person). Then the next run creates another file, and its lock
//! does not exclude the first holder. So a run that has taken a lock checks that the file still has its name, and takes the
//! lock again if not. A run that has held a lock for long checks once more before each effect that another run could have at
//! the same time ([`WriteLock::still_ours`]).
//!
//! There are two locks, so that quick work never waits for slow work: [`WriteLock`] is held during a build, [`BootLock`]
//! only while the boot default moves. The holder of the first may take the second, never the other way round.

use super::{failpoint, Host};
use crate::error::{advise_exit, exit, Exit};
use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use std::fs::{self, File, Metadata, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The file of the build lock, below the root.
const LOCK: &str = "/run/vfguard/lock";
/// The file of the boot default's lock, below the root.
const BOOT_LOCK: &str = "/run/vfguard/boot.lock";
/// A move writes one small file and syncs one file system; bootctl may take 30 s.
const MOVING: Duration = Duration::from_secs(40);
/// A user who may open the file could lock it, and so prevent every build and every hold.
const MODE: u32 = 0o600;
/// The interval between attempts; flock(2) has no time limit.
const RETRY: Duration = Duration::from_millis(100);

/// Proof that only this process builds and installs. Functions that do so take it by reference.
#[derive(Debug)]
pub struct WriteLock {
    file: Flock<File>,
    path: PathBuf,
}

impl WriteLock {
    /// Takes the lock, waiting at most `patience`.
    ///
    /// # Errors
    /// [`Exit::Locked`] when another run still holds it; those of opening the file.
    pub fn take(host: &Host, patience: Duration) -> Result<WriteLock> {
        failpoint::hit("write-lock-before-taken");
        let file = take(host, LOCK, patience)?;
        failpoint::hit("write-lock-taken");
        Ok(WriteLock { file, path: host.path(LOCK) })
    }

    /// Checks that this is still the lock that other runs take. Call it right before an effect that must not happen twice or
    /// at the same time: installing a module, promoting a default, opening the gate. Refusing needs no such proof.
    ///
    /// # Errors
    /// [`Exit::Locked`] when its file was removed, since another run may have the lock now.
    pub fn still_ours(&self) -> Result<()> {
        if is_named(&self.path, &self.file) {
            return Ok(());
        }
        Err(advise_exit(
            Exit::Locked,
            format!("{} was removed while this run held it, and another one may be at work", self.path.display()),
            "vfguard reconcile",
        ))
    }
}

/// Proof that no other run moves the boot default.
#[derive(Debug)]
pub struct BootLock {
    _file: Option<Flock<File>>,
}

impl BootLock {
    /// Takes the lock. Waits while another run moves the default.
    ///
    /// # Errors
    /// [`Exit::Locked`] when the other run does not finish; those of opening the file.
    pub fn take(host: &Host) -> Result<BootLock> {
        failpoint::hit("boot-lock-before-taken");
        let file = take(host, BOOT_LOCK, MOVING)?;
        failpoint::hit("boot-lock-taken");
        Ok(BootLock { _file: Some(file) })
    }

    /// The same for a hold, which is the safe side: if the file cannot be created or opened (/run is full), the default is
    /// held without the lock.
    ///
    /// # Errors
    /// [`Exit::Locked`] when the other run does not finish.
    pub fn take_to_hold(host: &Host) -> Result<BootLock> {
        match BootLock::take(host) {
            Err(e) if exit(&e) != Exit::Locked => Ok(BootLock { _file: None }),
            taken => taken,
        }
    }
}

fn take(host: &Host, name: &str, patience: Duration) -> Result<Flock<File>> {
    acquire(host, name, patience, RETRY)?.ok_or_else(|| {
        advise_exit(
            Exit::Locked,
            format!("another vfguard run holds {} (waited {} s)", host.path(name).display(), patience.as_secs()),
            "wait until it is done (`vfguard status` shows its log), then run this again",
        )
    })
}

/// Takes a lock, with an attempt every `retry`; none if another process still has it after `patience`. Each attempt opens
/// the file again. A file that lost its name does not count, because no other run would find it.
///
/// # Errors
/// Those of creating, opening and locking the file.
pub(crate) fn acquire(host: &Host, name: &str, patience: Duration, retry: Duration) -> Result<Option<Flock<File>>> {
    let (start, path) = (Instant::now(), &host.path(name));
    loop {
        let place = host.place(name)?;
        let file = open(&place.path()).with_context(|| format!("opening the lock {}", path.display()))?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(held) if is_named(path, &held) => return Ok(Some(held)),
            Ok(_) | Err((_, Errno::EWOULDBLOCK)) if start.elapsed() < patience => std::thread::sleep(retry),
            Ok(_) | Err((_, Errno::EWOULDBLOCK)) => return Ok(None),
            Err((_, e)) => return Err(e).with_context(|| format!("locking {}", path.display())),
        }
    }
}

/// Whether a path leads to this file.
fn is_named(path: &Path, file: &File) -> bool {
    let id = |meta: io::Result<Metadata>| meta.map(|m| (m.dev(), m.ino())).ok();
    id(file.metadata()).is_some_and(|ours| id(fs::metadata(path)) == Some(ours))
}

/// Opens the file of a lock, creates it if it is missing, and removes other users' access, which an older vfguard or another
/// umask may have allowed.
fn open(path: &Path) -> io::Result<File> {
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(MODE)
        .custom_flags(nix::libc::O_NOFOLLOW)
        .open(path)?;
    file.set_permissions(Permissions::from_mode(MODE))?;
    Ok(file)
}

/// Whether some process has the lock now; the caller must not have it. It tries a shared lock for a moment.
pub fn is_held(host: &Host) -> bool {
    let path = host.path(LOCK);
    match File::open(&path) {
        Ok(file) => matches!(Flock::lock(file, FlockArg::LockSharedNonblock), Err((_, Errno::EWOULDBLOCK))),
        Err(e) if e.kind() == ErrorKind::PermissionDenied => is_listed(&path),
        Err(_) => false,
    }
}

/// Whether the kernel lists a lock of this file (proc_locks(5)), for users who may not open it.
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
    fn the_boot_default_can_be_held_while_a_build_holds_its_lock_and_where_no_lock_can_be_made() {
        let dir = tempfile::tempdir().unwrap();
        let host = Host::new(dir.path()).unwrap();
        let _build = WriteLock::take(&host, Duration::ZERO).unwrap();
        drop(BootLock::take(&host).unwrap());
        fs::remove_dir_all(dir.path().join("run")).unwrap();
        fs::write(dir.path().join("run"), "").unwrap();
        assert!(BootLock::take(&host).is_err());
        assert!(BootLock::take_to_hold(&host).is_ok());
    }

    #[test]
    fn a_removed_lock_file_makes_the_lock_invalid_and_a_new_lock_possible() {
        let dir = tempfile::tempdir().unwrap();
        let host = Host::new(dir.path()).unwrap();
        let first = WriteLock::take(&host, Duration::ZERO).unwrap();
        first.still_ours().unwrap();
        fs::remove_dir_all(host.path("/run/vfguard")).unwrap();
        let lost = |lock: &WriteLock| crate::error::exit(&lock.still_ours().unwrap_err());
        assert_eq!(lost(&first), Exit::Locked);
        let second = WriteLock::take(&host, Duration::ZERO).unwrap();
        assert_eq!(lost(&first), Exit::Locked, "the file of another run was taken for its own");
        second.still_ours().unwrap();
    }

    /// A file that is removed between opening and locking. The next run opens another one.
    #[test]
    fn a_run_that_waited_for_a_removed_lock_file_takes_the_new_one() {
        let dir = tempfile::tempdir().unwrap();
        let host = Host::new(dir.path()).unwrap();
        let first = BootLock::take(&host).unwrap();
        let waiting = std::thread::scope(|scope| {
            let waiting = scope.spawn(|| BootLock::take(&host).unwrap());
            std::thread::sleep(2 * RETRY);
            fs::remove_dir_all(host.path("/run/vfguard")).unwrap();
            let waited = waiting.join().unwrap();
            assert!(is_named(&host.path(BOOT_LOCK), waited._file.as_ref().unwrap()));
            waited
        });
        drop(first);
        assert!(acquire(&host, BOOT_LOCK, Duration::ZERO, RETRY).unwrap().is_none(), "two hold it");
        drop(waiting);
        assert!(acquire(&host, BOOT_LOCK, Duration::ZERO, RETRY).unwrap().is_some());
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
