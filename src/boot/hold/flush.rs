//! Making a change below /boot visible to a boot loader that reads no journal.

use crate::host::{freeze, mounts, Host};
use anyhow::{Context, Result};
use nix::errno::Errno;
use std::fs::File;
use std::path::Path;

/// Makes a change below /boot durable for GRUB: freeze and thaw where /boot is a file system of its own with a journal, else a
/// sync of it.
pub fn settle(host: &Host, path: &Path) -> Result<()> {
    let directory = path.parent().unwrap_or(Path::new("/"));
    let open = File::open(directory).with_context(|| format!("opening {}", directory.display()))?;
    if host.is_live() {
        if let Some(mount) = mounts::freezable(&open) {
            if freeze::freeze_and_thaw(host, &open, &mount)? {
                return Ok(());
            }
        }
    }
    match nix::unistd::syncfs(&open) {
        // Before Linux 2.6.39 there is no way to name one file system.
        Err(Errno::ENOSYS) => {
            nix::unistd::sync();
            Ok(())
        }
        result => result.with_context(|| format!("syncing the file system of {}", directory.display())),
    }
}
