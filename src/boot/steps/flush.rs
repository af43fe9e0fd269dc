//! Making a change below /boot visible to a boot loader that reads no journal.

use crate::host::files::{freeze, mounts};
use crate::host::Host;
use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::sys::statfs::{fstatfs, XFS_SUPER_MAGIC};
use std::fs::{self, File};
use std::path::Path;
use std::time::Duration;

/// With a value other than 0 here, a sync of XFS also starts what else happens every 30 seconds only: that what its log holds is written
/// to its place (`xfs_fs_sync_fs` in fs/xfs/xfs_super.c, from Linux 2.6.32 to 6.19; later ones only warn of whoever writes here).
const LAPTOP_MODE: &str = "/proc/sys/vm/laptop_mode";
/// Those writes are begun and not waited for; a second sync begins those that the first could not.
const WRITES: Duration = Duration::from_millis(100);

/// Makes a change below /boot durable for GRUB: freeze and thaw where /boot is a file system of its own with a journal, else a
/// sync of it.
pub fn flush(host: &Host, path: &Path) -> Result<()> {
    let directory = path.parent().unwrap_or(Path::new("/"));
    let open = File::open(directory).with_context(|| format!("opening {}", directory.display()))?;
    if host.is_live() {
        if let Some(mount) = mounts::freezable(&open) {
            if freeze::freeze_and_thaw(host, &open, &mount)? {
                return Ok(());
            }
        }
    }
    let synced = if host.is_live() && fstatfs(&open).is_ok_and(|fs| fs.filesystem_type() == XFS_SUPER_MAGIC) {
        sync_xfs(host, &open)
    } else {
        sync(&open)
    };
    synced.with_context(|| format!("syncing the file system of {}", directory.display()))
}

fn sync(open: &File) -> nix::Result<()> {
    match nix::unistd::syncfs(open) {
        // Before Linux 2.6.39 there is no way to name one file system.
        Err(Errno::ENOSYS) => {
            nix::unistd::sync();
            Ok(())
        }
        result => result,
    }
}

/// Syncs an XFS that may not be frozen. Where the kernel's setting cannot be had, what was written comes to its place within 30 seconds.
fn sync_xfs(host: &Host, open: &File) -> nix::Result<()> {
    let release = host.read_text("/proc/sys/kernel/osrelease").unwrap_or_default();
    let major: u32 = release.split('.').next().and_then(|major| major.parse().ok()).unwrap_or(0);
    let before = fs::read(LAPTOP_MODE).ok().filter(|mode| major < 7 && mode.trim_ascii() == b"0");
    let set = before.is_some() && fs::write(LAPTOP_MODE, "1").is_ok();
    let synced = sync(open).and_then(|()| {
        std::thread::sleep(WRITES);
        sync(open)
    });
    std::thread::sleep(WRITES);
    if set {
        // It says how eagerly Linux writes and no more; should this fail, nothing else does.
        let _ = fs::write(LAPTOP_MODE, "0");
    }
    synced
}
