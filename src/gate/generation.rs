//! A counter in /run. Every hook raises it before it takes the lock, and every closing of the gate raises it under the
//! gate's lock. A run opens the gate only if the counter has not changed since the run looked at the machine.
//!
//! The number is the length of a file to which each hook appends one byte. `O_APPEND` makes that atomic without a lock, and
//! a hook that is killed has either raised it or not.

use crate::host::lock::WriteLock;
use crate::host::Host;
use anyhow::{Context, Result};
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;

/// The file, below the root. A boot empties /run and also ends all runs that could have read the counter.
pub const FILE: &str = "/run/vfguard/generation";

/// /run is in memory. A machine that is up for years and calls a hook each minute reaches this size.
const MAX_LENGTH: u64 = 1 << 20;

/// Raises the counter and returns its new value, which may include raises by others.
///
/// # Errors
/// When the file cannot be written.
pub fn bump(host: &Host) -> Result<u64> {
    let act = || format!("raising the generation counter {FILE}");
    let place = host.place(FILE)?;
    let mut file = File::options()
        .create(true)
        .append(true)
        .custom_flags(nix::libc::O_NOFOLLOW)
        .open(place.path())
        .with_context(act)?;
    file.write_all(b".").with_context(act)?;
    Ok(file.metadata().with_context(act)?.len())
}

/// Truncates the file once it is large. A run that compares holds this lock since it read the counter, so no comparison
/// spans the truncation. A hook that raised the counter before it wrote its kernel's files before, too, so the next run sees
/// them.
pub fn trim(host: &Host, _lock: &WriteLock) {
    if current(host) > MAX_LENGTH {
        let Ok(place) = host.place(FILE) else { return };
        let opened = File::options().write(true).custom_flags(nix::libc::O_NOFOLLOW).open(place.path());
        let _ = opened.and_then(|file| file.set_len(0));
    }
}

/// The counter's value; 0 if no hook ran since boot.
pub fn current(host: &Host) -> u64 {
    host.metadata(FILE).map_or(0, |m| m.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_raise_is_lost_when_many_hooks_come_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let host = Host::new(dir.path()).unwrap();
        assert_eq!(current(&host), 0);
        std::thread::scope(|s| {
            for _ in 0..8 {
                s.spawn(|| (0..50).for_each(|_| assert!(bump(&host).unwrap() > 0)));
            }
        });
        assert_eq!(current(&host), 400);
        assert_eq!(bump(&host).unwrap(), 401);
    }

    #[test]
    fn it_is_truncated_under_the_lock_once_it_is_large_and_not_before() {
        let dir = tempfile::tempdir().unwrap();
        let host = Host::new(dir.path()).unwrap();
        let lock = WriteLock::take(&host, std::time::Duration::ZERO).unwrap();
        trim(&host, &lock);
        host.write_atomic(FILE, &vec![b'.'; MAX_LENGTH as usize], 0o644).unwrap();
        trim(&host, &lock);
        assert_eq!(current(&host), MAX_LENGTH);
        bump(&host).unwrap();
        trim(&host, &lock);
        assert_eq!((current(&host), bump(&host).unwrap()), (0, 1));
    }
}
