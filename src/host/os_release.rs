//! What a machine says it is: os-release(5).

use super::Host;

/// The file, wherever it lies; none on EL6 and older.
pub fn text(host: &Host) -> Option<String> {
    ["/etc/os-release", "/usr/lib/os-release"].iter().find_map(|p| host.read_text(p).ok())
}

/// A value, without its quotes; empty where nothing is said.
pub fn value(text: &str, key: &str) -> String {
    let line = text.lines().find_map(|l| l.trim().strip_prefix(key)?.strip_prefix('='));
    line.unwrap_or_default().trim_matches(['"', '\'']).to_owned()
}
