//! The ini files in which yum and dnf keep their settings (yum.conf(5), dnf.conf(5)).

use crate::host::Host;

/// A setting of a section, in lower case; the last line counts.
pub fn setting(host: &Host, file: &str, section: &str, key: &str) -> Option<String> {
    let text = host.read_text(file).unwrap_or_default();
    let mut inside = false;
    let mut found = None;
    for line in text.lines().map(str::trim) {
        if let Some(head) = line.strip_prefix('[') {
            inside = head.strip_suffix(']') == Some(section);
        } else if let Some((k, v)) = line.split_once('=').filter(|_| inside) {
            if k.trim() == key {
                found = Some(v.trim().to_lowercase());
            }
        }
    }
    found
}

/// Whether a section enables something; `unset` is the default.
pub fn is_on(host: &Host, file: &str, section: &str, key: &str, unset: bool) -> bool {
    setting(host, file, section, key).map_or(unset, |value| matches!(value.as_str(), "1" | "yes" | "true" | "on"))
}
