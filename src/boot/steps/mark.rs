//! The mark of a hold in a loader's own files, should the record be lost or never have been written (a full disk).

use super::told::HoldMark;
use crate::host::{files, Host};
use crate::kernel::KernelRelease;
use std::path::Path;

/// The variables in GRUB's environment that say a hold is on, and what would boot without it. GRUB does not know them.
pub(in crate::boot) const MARK: &str = "vfguard_hold";
pub(in crate::boot) const MARK_WANTED: &str = "vfguard_wanted";
/// What was saved before the hold, empty where nothing was: a promotion puts it back. Where the shell of vfguard-fail-closed.service held,
/// which knows entries and no kernels, it tells what is wanted as well.
pub(in crate::boot) const MARK_ENTRY: &str = "vfguard_entry";
/// The same in text files: the held kernel, then the wanted one.
pub(in crate::boot) const COMMENT: &str = "# vfguard-hold ";

/// The mark in GRUB's environment, or no mark.
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

/// What stands behind the word of a mark.
pub(in crate::boot) fn parse(mark: &str) -> Option<HoldMark> {
    let mut words = mark.split_ascii_whitespace();
    Some(HoldMark { held: words.next()?.parse().ok()?, wanted: words.next().and_then(|w| w.parse().ok()) })
}
