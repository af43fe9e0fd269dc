//! A counter in /run that every hook raises before it takes the lock: a run opens the gate only if nobody raised it since
//! the run looked at the machine.
//!
//! The number is the length of a file to which each hook appends one byte: `O_APPEND` makes that atomic without a lock,
//! and a hook that is killed half-way has either raised it or not.

use crate::host::{files, Host};
use anyhow::{Context, Result};
use std::fs::File;
use std::io::Write;
use std::path::Path;

/// Where it is, below the root. /run is empty after a boot, and so are the runs that could have read it.
pub const FILE: &str = "/run/vfguard/generation";

/// Raises the counter; the value is what it is now, which others may have raised too.
///
/// # Errors
/// When the file cannot be written.
pub fn bump(host: &Host) -> Result<u64> {
    let path = host.path(FILE);
    files::create_dirs(path.parent().unwrap_or(Path::new("/")), 0o755)?;
    let act = || format!("raising the generation counter {}", path.display());
    let mut file = File::options().create(true).append(true).open(&path).with_context(act)?;
    file.write_all(b".").with_context(act)?;
    Ok(file.metadata().with_context(act)?.len())
}

/// The counter's value; 0 where no hook ever ran since boot.
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
}
