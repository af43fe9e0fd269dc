//! The distribution of a machine: os-release(5), and older files.

use super::Host;
use std::path::{Path, PathBuf};

/// The text of the file, in either place; none on EL6 and older.
pub fn text(host: &Host) -> Option<String> {
    ["/etc/os-release", "/usr/lib/os-release"].iter().find_map(|p| host.read_text(p).ok())
}

/// Every file of `/etc` that identifies a distribution. Makefiles look for `SuSE-release`, `redhat-release`,
/// `debian_version` and others.
pub fn files(host: &Host) -> Vec<PathBuf> {
    let etc = Path::new("/etc");
    let mut names = host.read_dir(etc).unwrap_or_default();
    names.retain(|n| n == "debian_version" || n.to_string_lossy().ends_with("-release"));
    names.into_iter().map(|n| etc.join(n)).collect()
}

/// A value without its quotes; empty if it is missing.
pub fn value(text: &str, key: &str) -> String {
    let line = text.lines().find_map(|l| l.trim().strip_prefix(key)?.strip_prefix('='));
    line.unwrap_or_default().trim_matches(['"', '\'']).to_owned()
}
