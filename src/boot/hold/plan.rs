//! A move of the boot default as a value: each loader works its own out, and what that would come to; nothing is written before that.

use super::mark;
use crate::boot::efi;
use crate::error::advise;
use crate::host::Host;
use crate::kernel::KernelRelease;
use std::path::{Path, PathBuf};

/// What a move of the default is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::boot) enum Purpose<'a> {
    /// A hold, marked with what would boot without it, if that is known.
    Hold(Option<&'a KernelRelease>),
    /// The end of one.
    Promotion,
}

impl Purpose<'_> {
    /// The comment of a text file.
    pub(in crate::boot) fn comment(self, held: &KernelRelease) -> Option<String> {
        match self {
            Purpose::Hold(wanted) => Some(mark::comment(held, wanted)),
            Purpose::Promotion => None,
        }
    }
}

/// How a default is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::boot) enum Way {
    /// Over the bytes that are there: same size, same blocks.
    InPlace,
    /// As a new file under the old name.
    Replace,
    /// By bootctl(1), to which `at` is the entry's id: a variable of the firmware.
    Bootctl(efi::Choice),
}

/// A move that is worked out and not made yet.
pub(in crate::boot) struct Plan {
    /// The file as it lies on the disk; the entry's id for bootctl.
    pub at: PathBuf,
    pub way: Way,
    pub before: Option<Vec<u8>>,
    /// What has to stand there; for bootctl what the variable holds then, with its attributes, and nothing where it goes.
    pub after: Vec<u8>,
}

impl Plan {
    /// The bytes that it starts from, as if they were written; none where it starts from no file.
    pub fn start(&self) -> Option<Plan> {
        let before = self.before.clone()?;
        Some(Plan { at: self.at.clone(), way: self.way, before: None, after: before })
    }
}

/// The file that a path really is: links are followed, below the root.
pub(in crate::boot) fn real(host: &Host, path: &Path) -> PathBuf {
    let real = host.path(path);
    real.canonicalize().unwrap_or(real)
}

pub(in crate::boot) fn no_entry(to: &KernelRelease) -> anyhow::Error {
    advise(format!("no boot entry starts {to} and can be named"), format!("install the package of {to} again"))
}

/// Whether an entry's command line is for repairing a system.
pub(in crate::boot) fn is_rescue(cmdline: &str) -> bool {
    const RESCUE: [&str; 6] = ["single", "recovery", "rescue", "emergency", "systemd.unit=rescue.target", "nomodeset"];
    cmdline.split(' ').any(|w| RESCUE.contains(&w))
}
