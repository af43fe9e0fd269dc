//! Freezing a file system and thawing it at once, so that it can never stay frozen: every later write to it would hang, the
//! shutdown too.
//!
//! ```text
//! vfguard ── marker, its lock ── fork ── wait ─────────────────────── done
//!                                 └─ guard: freeze ── thaw ── clear the marker
//! ```
//!
//! The guard is in a session of its own with every signal blocked, so whatever ends vfguard does not end it. What ends both (systemd
//! kills a whole control group) leaves the marker, which names the file system: the next run, or `ExecStopPost=` of the unit, thaws
//! it. The guard inherits the lock of the marker with its open file, so what is locked is being thawed by somebody who lives.

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

/// Names what is being frozen: `MAJOR:MINOR MOUNT-POINT`. Empty when nothing is. Never removed, so that all lock the same file; in
/// /run, so that it can be written while /boot cannot. Units read it too (packaging/systemd).
pub const MARKER: &str = "/run/vfguard/frozen";
/// How long another run's freeze is waited for; it takes as long as the disk needs for what is not written yet.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often a taken lock is tried again.
const RETRY: Duration = Duration::from_millis(20);
/// How often thawing is tried where it fails for another reason than that nothing is frozen, and the milliseconds between.
const THAWS: (usize, u16) = (50, 100);
/// The guard's exit code where it could not thaw. Errors of freezing are told by their number, which is less.
const STILL_FROZEN: u8 = u8::MAX;
/// Milliseconds that a test gets to kill what it wants to kill.
const PAUSE: u16 = 3000;

/// Freezes the file system of an open directory and thaws it at once: its journal then is empty, and a boot loader that reads no
/// journal sees what was written. Says whether that was done; if not, the kernel or another one's freeze does not allow it.
///
/// # Errors
/// Those of freezing that are no refusal, such as `EIO`; and when it cannot be thawed.
pub fn freeze_and_thaw(host: &Host, directory: &File, mount: &Mount) -> Result<bool> {
    // Without a marker nobody could find what stays frozen: rather not frozen at all.
    let Some(marker) = take(host) else { return Ok(false) };
    if clear(&marker).is_err() {
        // What it names is still to be thawed; each run says so at its start.
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
            // No guard, so nothing was frozen.
            marker.set_len(0).context("clearing the marker of frozen file systems")?;
            Ok(false)
        }
        Ok(Ok(WaitStatus::Exited(_, 0))) => Ok(true),
        Ok(Ok(WaitStatus::Exited(_, code))) if code != i32::from(STILL_FROZEN) => refused(Errno::from_raw(code), mount),
        // It was killed. Or nobody can say how it ended: main.rs resets an ignored SIGCHLD, another user of the library may not.
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
        // Not frozen, or not by us: nothing to thaw.
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

/// Thaws, however often that takes. What is not frozen, or was thawed by another one, is fine.
fn thaw(directory: &File) -> nix::Result<()> {
    let mut last = Errno::EINTR;
    for _ in 0..THAWS.0 {
        match sys::thaw(directory) {
            Ok(()) | Err(Errno::EINVAL) => return Ok(()),
            Err(Errno::EINTR) => {}
            // It will not be allowed later either.
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

/// The marker, locked. None where it cannot be had.
fn take(host: &Host) -> Option<Flock<File>> {
    let place = host.place(MARKER).ok()?;
    let mut options = File::options();
    options.create(true).truncate(false).read(true).write(true).mode(0o600).custom_flags(nix::libc::O_NOFOLLOW);
    locked(options.open(place.path()).ok()?)
}

/// The lock of the marker, as soon as nobody else has it.
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

/// Thaws what a run left frozen that was killed together with its guard. Where nothing was left, this is one stat(2).
///
/// The marker is written before the freeze, so it may name what another program froze after our run was killed in between. That is
/// rare, and a snapshot that is not consistent is a smaller harm than a machine that hangs.
///
/// # Errors
/// When what the marker names cannot be found or thawed.
pub fn thaw_left(host: &Host) -> Result<()> {
    let path = host.path(MARKER);
    if fs::metadata(&path).map_or(true, |m| m.len() == 0) {
        return Ok(());
    }
    // Not made here: one that is gone meanwhile names nothing.
    let marker = match File::options().read(true).write(true).open(&path) {
        Ok(file) => file,
        Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::PermissionDenied) => return Ok(()),
        Err(e) => return Err(e).with_context(|| format!("reading {MARKER}")),
    };
    // Whoever froze it lives, and thaws it; or it was killed, and is gone once the kernel has frozen, which no signal cuts short.
    locked(marker).map_or(Ok(()), |marker| clear(&marker))
}

/// Thaws what a locked marker names, whose writer is gone, and empties it.
fn clear(marker: &File) -> Result<()> {
    let mut text = [0; 4096];
    let length = marker.read_at(&mut text, 0).with_context(|| format!("reading {MARKER}"))?;
    let text = String::from_utf8_lossy(&text[..length]);
    // Without its line break it was not written whole, so nothing was frozen.
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
