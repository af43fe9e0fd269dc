//! The locks: an flock(2) each, on a file that no vfguard renames or removes, so that all callers lock the same inode. The kernel frees it
//! when its holder dies.
//!
//! Somebody else may remove it (a cleaner of /run, a person): then the next run makes another file, and its lock does not exclude the first
//! holder. So whoever has taken a lock looks whether the file still has its name, and takes it anew if not; and whoever has held one for
//! long looks once more before each effect that another run may be about to have as well ([`WriteLock::still_ours`]).
//!
//! Two of them, so that what must be quick never waits for what is slow: [`WriteLock`] is held through a build, [`BootLock`] for the
//! moment in which the boot default moves. Who holds the first may take the second, never the other way round.

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

/// Where the lock of a build is, below the root.
const LOCK: &str = "/run/vfguard/lock";
/// Where the boot default's is, below the root.
const BOOT_LOCK: &str = "/run/vfguard/boot.lock";
/// A move writes one small file and syncs one file system; bootctl has 30 s.
const MOVING: Duration = Duration::from_secs(40);
/// Whoever may open it may lock it: any user could keep vfguard from ever building or holding.
const MODE: u32 = 0o600;
/// How often a taken lock is tried again; flock(2) has no time limit of its own.
const RETRY: Duration = Duration::from_millis(100);

/// Proof that this process is the one that builds and installs; what does so takes it by reference.
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

    /// Looks whether this is still the lock that others take; right before what must not be done twice or by two: a module that is
    /// installed, a default that is promoted, a gate that is opened. Refusing needs no such proof.
    ///
    /// # Errors
    /// [`Exit::Locked`] when its file was removed, since another run may hold the lock by now.
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

/// Proof that nobody else moves the boot default.
#[derive(Debug)]
pub struct BootLock {
    _file: Option<Flock<File>>,
}

impl BootLock {
    /// Takes the lock. A move under way is waited for.
    ///
    /// # Errors
    /// [`Exit::Locked`] when the other does not end; those of opening the file.
    pub fn take(host: &Host) -> Result<BootLock> {
        failpoint::hit("boot-lock-before-taken");
        let file = take(host, BOOT_LOCK, MOVING)?;
        failpoint::hit("boot-lock-taken");
        Ok(BootLock { _file: Some(file) })
    }

    /// The same for a hold, which is the safe side: where the file cannot be made or opened (a /run that is full), the default is held
    /// without it.
    ///
    /// # Errors
    /// [`Exit::Locked`] when another move does not end.
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

/// Takes a lock, tried each `retry`; none when another still holds it after `patience`. The file is opened anew each time, and one that has
/// lost its name is no lock: nobody else would ever find it.
///
/// # Errors
/// Those of making, opening and locking the file.
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

/// Opens the file of a lock, made where it is missing, and closes it to others, as an older vfguard or another umask left it.
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
    fn a_lock_whose_file_was_removed_is_no_longer_ours_and_excludes_nobody_from_the_new_one() {
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

    /// A file that is removed between opening and locking is another one than the next run opens.
    #[test]
    fn whoever_waited_for_a_file_that_was_removed_meanwhile_takes_the_new_one() {
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
