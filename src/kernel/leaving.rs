//! Kernels that a package manager is about to remove. `prerm.d` and `postrm.d` name them while their files still exist in full or in part:
//! such a kernel is not a candidate, and the boot default is moved away from it.

use super::KernelRelease;
use crate::host::{files, locks, Host};
use anyhow::{Context, Result};
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

/// Their names below the root, one per line.
const FILE: &str = "/run/vfguard/leaving";
/// The removal follows its hook at once. After this time, and if that package manager is no longer at work, it was aborted.
const AT_ONCE: Duration = Duration::from_secs(60);
const MAX_FILE: u64 = 64 << 10;
/// No machine removes more kernels at once.
const MAX: usize = 64;

/// Records that a kernel is about to be removed.
///
/// # Errors
/// If the file cannot be written.
pub fn note(host: &Host, kernel: &KernelRelease) -> Result<()> {
    let mut names = named(host);
    names.retain(|name| name != kernel);
    names.push(kernel.clone());
    let lines: String = names.iter().rev().take(MAX).map(|name| format!("{name}\n")).collect();
    host.write_atomic(FILE, lines.as_bytes(), 0o644).context("noting that a kernel is being removed")
}

/// Forgets all: when the next hook runs, their files are gone or were reinstalled.
pub fn forget(host: &Host) {
    let _ = host.remove(FILE);
}

/// Whether a kernel is being removed now.
pub fn is(host: &Host, kernel: &KernelRelease) -> bool {
    named(host).contains(kernel) && is_valid(host)
}

/// All kernels that are being removed now.
pub fn all(host: &Host) -> Vec<KernelRelease> {
    if any(host) {
        named(host)
    } else {
        Vec::new()
    }
}

/// Whether any kernel is being removed now.
pub fn any(host: &Host) -> bool {
    host.exists(FILE) && is_valid(host)
}

/// Forgets the kernels whose removal is over or was aborted, so that they do not count in a later transaction.
pub fn sweep(host: &Host) {
    if host.exists(FILE) && !any(host) {
        forget(host);
    }
}

fn named(host: &Host) -> Vec<KernelRelease> {
    let bytes = files::read_bounded(&host.path(FILE), MAX_FILE).unwrap_or_default();
    String::from_utf8_lossy(&bytes).lines().filter_map(|line| line.parse().ok()).collect()
}

/// Whether the recorded kernels are still being removed: recorded a moment ago, or in a transaction that was running when they were
/// recorded.
fn is_valid(host: &Host) -> bool {
    let Ok(meta) = host.metadata(FILE) else { return false };
    let young = meta.modified().is_ok_and(|written| written.elapsed().is_ok_and(|age| age < AT_ONCE));
    young || locks::since(host, meta.mtime())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::time::SystemTime;

    #[test]
    fn a_kernel_is_leaving_for_a_minute_or_while_a_package_manager_is_at_work() {
        let dir = tempfile::tempdir().unwrap();
        let host = Host::new(dir.path()).unwrap();
        let k = |n: u32| -> KernelRelease { format!("3.10.0-{n}.el7.x86_64").parse().unwrap() };
        note(&host, &k(1)).unwrap();
        note(&host, &k(2)).unwrap();
        note(&host, &k(1)).unwrap();
        assert_eq!((is(&host, &k(1)), is(&host, &k(2)), is(&host, &k(3))), (true, true, false));
        let long_ago = SystemTime::now() - AT_ONCE - AT_ONCE;
        File::options().write(true).open(host.path(FILE)).unwrap().set_modified(long_ago).unwrap();
        assert!(!is(&host, &k(1)), "the removal was given up");
        host.write_atomic("/var/run/yum.pid", b"7", 0o644).unwrap();
        host.write_atomic("/proc/7/x", b"", 0o644).unwrap();
        assert!(is(&host, &k(1)));
        // A package manager that started later removes something else.
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
        let stat = format!("7 (yum) S{} 100 0\n", " 0".repeat(18));
        host.write_atomic("/proc/7/stat", stat.as_bytes(), 0o644).unwrap();
        host.write_atomic("/proc/stat", format!("btime {}\n", now - 10).as_bytes(), 0o644).unwrap();
        assert!(!is(&host, &k(1)));
        sweep(&host);
        assert!(!host.exists(FILE));
        note(&host, &k(1)).unwrap();
        sweep(&host);
        assert!(is(&host, &k(1)));
        forget(&host);
        assert!(!is(&host, &k(1)));
    }
}
