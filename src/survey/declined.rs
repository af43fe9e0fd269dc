//! Kernels that a person has declined, a line each: nobody needs to be told that such a one does not boot. The record absolves nothing.

use crate::host::Host;
use crate::kernel::{installed, KernelRelease};
use anyhow::{Context, Result};

/// Below the root.
const RECORD: &str = "/var/lib/vfguard/records/declined";

/// The kernels that were declined.
pub fn read(host: &Host) -> Vec<KernelRelease> {
    let text = host.read_text(RECORD).unwrap_or_default();
    text.lines().filter_map(|l| l.parse().ok()).collect()
}

/// Remembers that a kernel was declined. Those that are no longer installed are forgotten.
///
/// # Errors
/// Those of writing.
pub fn remember(host: &Host, kernel: &KernelRelease) -> Result<()> {
    let mut known = read(host);
    if !known.contains(kernel) {
        known.push(kernel.clone());
    }
    known.retain(|k| k == kernel || host.is_dir(installed::modules_dir(k)));
    let lines: String = known.iter().map(|k| format!("{k}\n")).collect();
    host.write_atomic(RECORD, lines.as_bytes(), 0o644).context("remembering that a kernel was declined")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn declined_kernels_are_remembered_while_they_are_installed() {
        let dir = tempfile::tempdir().unwrap();
        let host = Host::new(dir.path()).unwrap();
        let k = |n: usize| format!("6.1.0-{n}").parse::<KernelRelease>().unwrap();
        for n in [1, 2] {
            host.write_atomic(format!("/lib/modules/6.1.0-{n}/modules.dep"), b"", 0o644).unwrap();
            remember(&host, &k(n)).unwrap();
        }
        remember(&host, &k(2)).unwrap();
        assert_eq!(read(&host), [k(1), k(2)]);
        std::fs::remove_dir_all(host.path("/lib/modules/6.1.0-1")).unwrap();
        remember(&host, &k(3)).unwrap();
        assert_eq!(read(&host), [k(2), k(3)]);
    }
}
