//! Making a change below /boot visible to a boot loader that reads no journal.

use crate::host::files::{freeze, mounts};
use crate::host::Host;
use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::sys::statfs::{fstatfs, XFS_SUPER_MAGIC};
use std::fs::{self, File};
use std::path::Path;
use std::time::Duration;

/// With a value other than 0 here, a sync of XFS also starts the work that otherwise happens only every 30 seconds: writing the contents of
/// its log to their final places (`xfs_fs_sync_fs` in fs/xfs/xfs_super.c, from Linux 2.6.32 to 6.19; later kernels only warn if this is
/// written).
const LAPTOP_MODE: &str = "/proc/sys/vm/laptop_mode";
/// The sync starts those writes without waiting for them; a second sync starts those that the first could not.
const WRITES: Duration = Duration::from_millis(100);

/// Makes a change below /boot durable for GRUB: freeze and thaw if /boot is a separate file system with a journal, else a sync.
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
        // Before Linux 2.6.39 a single file system cannot be synced.
        Err(Errno::ENOSYS) => {
            nix::unistd::sync();
            Ok(())
        }
        result => result,
    }
}

/// Syncs an XFS that cannot be frozen. If the kernel setting is not available, the data reaches its final place within 30 seconds.
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
        // The setting only controls how eagerly Linux writes, so a failure here has no other effect.
        let _ = fs::write(LAPTOP_MODE, "0");
    }
    synced
}
