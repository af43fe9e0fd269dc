//! The mark of a hold in a loader's own files, in case the record is lost or could never be written (a full disk).

use super::told::HoldMark;
use crate::host::{files, Host};
use crate::kernel::KernelRelease;
use std::path::Path;

/// The variables in GRUB's environment that say that a hold is on, and what would boot without it. GRUB itself ignores them.
pub(in crate::boot) const MARK: &str = "vfguard_hold";
pub(in crate::boot) const MARK_WANTED: &str = "vfguard_wanted";
/// The saved default from before the hold, empty if there was none: a promotion restores it. After a hold by the shell script of
/// vfguard-fail-closed.service, which knows entries but not kernels, it also identifies the wanted kernel.
pub(in crate::boot) const MARK_ENTRY: &str = "vfguard_entry";
/// The mark in text files: the held kernel, then the wanted one.
pub(in crate::boot) const COMMENT: &str = "# vfguard-hold ";

/// The variables of a mark in GRUB's environment, or of none.
pub(in crate::boot) fn variables<'a>(
    held: Option<&'a str>,
    wanted: Option<&'a str>,
) -> [(&'static str, Option<&'a str>); 3] {
    [(MARK, held), (MARK_WANTED, wanted), (MARK_ENTRY, None)]
}

/// The mark in a text file: a line of its own.
pub(in crate::boot) fn comment(held: &KernelRelease, wanted: Option<&KernelRelease>) -> String {
    let wanted = wanted.map(|kernel| format!(" {kernel}")).unwrap_or_default();
    format!("{COMMENT}{held}{wanted}\n")
}

/// The mark in a text file, if there is one.
pub(in crate::boot) fn in_text(host: &Host, path: &Path) -> Option<HoldMark> {
    let bytes = files::read_bounded(&host.path(path), 4 << 20).unwrap_or_default();
    let line = bytes.split(|b| *b == b'\n').find_map(|l| l.strip_prefix(COMMENT.as_bytes()))?;
    parse(&String::from_utf8_lossy(line))
}

/// Parses the rest of a mark, after its keyword.
pub(in crate::boot) fn parse(mark: &str) -> Option<HoldMark> {
    let mut words = mark.split_ascii_whitespace();
    Some(HoldMark { held: words.next()?.parse().ok()?, wanted: words.next().and_then(|w| w.parse().ok()) })
}
