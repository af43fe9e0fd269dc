//! Freezes a file system and thaws it at once, and makes sure that it never stays frozen: every later write to it would
//! hang, also during shutdown.
//!
//! ```text
//! vfguard ── marker, its lock ── fork ── wait ─────────────────────── done
//!                                 └─ guard: freeze ── thaw ── clear the marker
//! ```
//!
//! The guard is in its own session with every signal blocked, so a signal that kills vfguard does not kill it. If both are
//! killed (systemd kills a whole control group), the marker remains and names the file system: the next run, or
//! `ExecStopPost=` of the unit, thaws it. The guard inherits the locked marker, so while the marker is locked, a living
//! process is going to thaw the file system.

use super::mounts::{self, Mount};
use crate::error::advise;
use crate::host::{failpoint, sys, Host};
use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::poll::{poll, PollTimeout};
use nix::sys::wait::{waitpid, WaitStatus};
use nix::unistd;
use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

/// Names the file system that is being frozen: `MAJOR:MINOR MOUNT-POINT`. Empty if there is none. It is never removed, so
/// that all runs lock the same file. It is in /run, so that it can be written while /boot is frozen. Units read it too
/// (packaging/systemd).
pub const MARKER: &str = "/run/vfguard/frozen";
/// How long to wait for another run's freeze. A freeze takes as long as the disk needs to write pending data.
const PATIENCE: Duration = Duration::from_secs(30);
/// The interval between attempts to lock.
const RETRY: Duration = Duration::from_millis(20);
/// How often thawing is tried if it fails with another error than "not frozen", and the milliseconds between attempts.
const THAWS: (usize, u16) = (50, 100);
/// The guard's exit code if it could not thaw. Errors of freezing are reported as their errno, which is smaller.
const STILL_FROZEN: u8 = u8::MAX;
/// Milliseconds in which a test can kill the processes.
const PAUSE: u16 = 3000;

/// Freezes the file system of an open directory and thaws it at once. That empties the journal, so a boot loader that does
/// not read the journal sees what was written. Returns whether it was done; if not, the kernel refuses it or another freeze
/// is in progress.
///
/// # Errors
/// Errors of freezing that are not refusals, such as `EIO`; and when it cannot be thawed.
pub fn freeze_and_thaw(host: &Host, directory: &File, mount: &Mount) -> Result<bool> {
    // Without a marker nothing could find a file system that stays frozen, so do not freeze.
    let Some(marker) = take(host) else { return Ok(false) };
    if clear(&marker).is_err() {
        // The file system in the marker still has to be thawed; each run reports that at its start.
        return Ok(false);
    }
    let name = format!("{} {}\n", mount.device, mount.point.display());
    if marker.write_all_at(name.as_bytes(), 0).is_err() {
        let _ = marker.set_len(0);
        return Ok(false);
    }
    let pause = failpoint::is_wanted("frozen-before-thaw");
    let guard = sys::fork_helper(|_| guard(directory, &marker, pause));
    let ended = guard.map(|pid| loop {
        match waitpid(pid, None) {
            Err(Errno::EINTR) => {}
            ended => break ended,
        }
    });
    match ended {
        Err(_) => {
            // Without a guard nothing was frozen.
            marker.set_len(0).context("clearing the marker of frozen file systems")?;
            Ok(false)
        }
        Ok(Ok(WaitStatus::Exited(_, 0))) => Ok(true),
        Ok(Ok(WaitStatus::Exited(_, code))) if code != i32::from(STILL_FROZEN) => refused(Errno::from_raw(code), mount),
        // The guard was killed, or its exit status is unknown: main.rs resets an ignored SIGCHLD, but another user of the
        // library may not.
        Ok(_) => {
            thaw(directory).and_then(|()| marker.set_len(0).map_err(|_| Errno::EIO)).map_err(|e| stuck(e, &mount.point))?;
            Ok(false)
        }
    }
}

/// Runs in a forked process: system calls only.
fn guard(directory: &File, marker: &File, pause: bool) -> u8 {
    let _ = unistd::setsid();
    let code = match sys::freeze(directory) {
        Ok(()) => {
            if pause {
                wait(PAUSE);
            }
            0
        }
        // It is not frozen, or not by this process: nothing to thaw.
        Err(e) => u8::try_from(e as i32).ok().filter(|code| (1..STILL_FROZEN).contains(code)).unwrap_or(Errno::EIO as u8),
    };
    if code == 0 && thaw(directory).is_err() {
        return STILL_FROZEN;
    }
    let _ = unistd::ftruncate(marker, 0);
    code
}

fn refused(e: Errno, mount: &Mount) -> Result<bool> {
    match e {
        Errno::EOPNOTSUPP | Errno::ENOTTY | Errno::EBUSY | Errno::EPERM => Ok(false),
        e => Err(e).with_context(|| format!("freezing {}", mount.point.display())),
    }
}

/// Thaws, with as many attempts as allowed. It is fine if the file system is not frozen, or if another process thawed it.
fn thaw(directory: &File) -> nix::Result<()> {
    let mut last = Errno::EINTR;
    for _ in 0..THAWS.0 {
        match sys::thaw(directory) {
            Ok(()) | Err(Errno::EINVAL) => return Ok(()),
            Err(Errno::EINTR) => {}
            // Another attempt would be refused as well.
            Err(e @ (Errno::EPERM | Errno::ENOTTY | Errno::EOPNOTSUPP)) => return Err(e),
            Err(e) => {
                last = e;
                wait(THAWS.1);
            }
        }
    }
    Err(last)
}

fn wait(milliseconds: u16) {
    let _ = poll(&mut [], PollTimeout::from(milliseconds));
}

fn stuck(e: Errno, point: &Path) -> anyhow::Error {
    let point = point.display();
    advise(
        format!("{point} is frozen by vfguard and cannot be thawed: {}", e.desc()),
        format!("fsfreeze --unfreeze {point}; without that every write to it hangs"),
    )
}

/// The marker, locked. None if it cannot be opened or locked.
fn take(host: &Host) -> Option<Flock<File>> {
    let place = host.place(MARKER).ok()?;
    let mut options = File::options();
    options.create(true).truncate(false).read(true).write(true).mode(0o600).custom_flags(nix::libc::O_NOFOLLOW);
    locked(options.open(place.path()).ok()?)
}

/// Locks the marker, and waits while another process has it locked.
fn locked(mut file: File) -> Option<Flock<File>> {
    let start = Instant::now();
    loop {
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(marker) => return Some(marker),
            Err((back, Errno::EWOULDBLOCK | Errno::EINTR)) if start.elapsed() < PATIENCE => {
                file = back;
                std::thread::sleep(RETRY);
            }
            Err(_) => return None,
        }
    }
}

/// Thaws a file system that stayed frozen because a run was killed together with its guard. If there is none, this costs one
/// stat(2).
///
/// The marker is written before the freeze. If a run was killed in between and another program then froze the same file
/// system, this thaws it. That is rare, and an inconsistent snapshot does less harm than a machine that hangs.
///
/// # Errors
/// When the file system in the marker cannot be found or thawed.
pub fn thaw_left(host: &Host) -> Result<()> {
    let path = host.path(MARKER);
    if fs::metadata(&path).map_or(true, |m| m.len() == 0) {
        return Ok(());
    }
    // Not created here: if it was removed in the meantime, there is nothing to thaw.
    let marker = match File::options().read(true).write(true).open(&path) {
        Ok(file) => file,
        Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::PermissionDenied) => return Ok(()),
        Err(e) => return Err(e).with_context(|| format!("reading {MARKER}")),
    };
    // If the lock is taken, its holder is alive and thaws. Or it was killed, and then it dies as soon as the kernel has
    // finished freezing, which no signal interrupts.
    locked(marker).map_or(Ok(()), |marker| clear(&marker))
}

/// Thaws the file system in a locked marker whose writer is gone, and empties the marker.
fn clear(marker: &File) -> Result<()> {
    let mut text = [0; 4096];
    let length = marker.read_at(&mut text, 0).with_context(|| format!("reading {MARKER}"))?;
    let text = String::from_utf8_lossy(&text[..length]);
    // Without its line break the marker was not completely written, so nothing was frozen.
    if let Some((device, point)) = text.strip_suffix('\n').and_then(|line| line.split_once(' ')) {
        let point = Path::new(point);
        match mounts::open(device, point) {
            Some(directory) => thaw(&directory).map_err(|e| stuck(e, point))?,
            None => anyhow::bail!(advise(
                format!("{} (device {device}) may be frozen by vfguard, and is not mounted here", point.display()),
                format!("mount it, fsfreeze --unfreeze it; then: rm {MARKER}"),
            )),
        }
    }
    marker.set_len(0).with_context(|| format!("clearing {MARKER}"))
}
