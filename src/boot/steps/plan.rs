//! A move of the boot default as a value. Each loader works out its own moves and their effect; nothing is written before that.

use super::mark;
use crate::boot::efi;
use crate::error::advise;
use crate::host::Host;
use crate::kernel::KernelRelease;
use std::path::{Path, PathBuf};

/// What a move of the default is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::boot) enum Purpose<'a> {
    /// A hold, marked with the kernel that would boot without it, if known.
    Hold(Option<&'a KernelRelease>),
    /// A hold by a shell script that judges nothing: it also clears the one-shot default.
    Unattended(Option<&'a KernelRelease>),
    /// The end of a hold: the wanted kernel becomes the default.
    Promotion,
}

impl<'a> Purpose<'a> {
    /// Whether it is a hold, and which kernel would boot without it, if known.
    pub fn hold(self) -> Option<Option<&'a KernelRelease>> {
        match self {
            Purpose::Hold(wanted) | Purpose::Unattended(wanted) => Some(wanted),
            Purpose::Promotion => None,
        }
    }

    /// The mark as a comment in a text file.
    pub fn comment(self, held: &KernelRelease) -> Option<String> {
        self.hold().map(|wanted| mark::comment(held, wanted))
    }
}

/// How a default is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::boot) enum Way {
    /// Overwritten in place: same size, same disk blocks.
    InPlace,
    /// Replaced by a new file of the same name, or removed.
    Replace,
    /// By bootctl(1) as a variable of the firmware; `at` is the entry's id.
    Bootctl(efi::Choice),
}

/// One write of a move.
#[derive(Clone, Debug)]
pub(in crate::boot) struct Step {
    /// The file on the disk; for bootctl the entry's id.
    pub at: PathBuf,
    pub way: Way,
    /// The previous content; none if there is no file, or no variable.
    pub before: Option<Vec<u8>>,
    /// The content to write; for bootctl the variable's value with its attributes. None to remove it.
    pub after: Option<Vec<u8>>,
}

/// A move that is worked out but not made yet.
#[derive(Clone, Debug)]
pub(in crate::boot) struct Move {
    /// The writes, in this order; the first one moves the default.
    pub steps: Vec<Step>,
    /// What a person should know about it.
    pub note: Option<String>,
}

impl Move {
    pub fn one(step: Step) -> Move {
        Move { steps: vec![step], note: None }
    }

    /// A move that writes the previous content, to preview the state before this move.
    pub fn start(&self) -> Move {
        let steps = self.steps.iter().map(|step| Step { before: None, after: step.before.clone(), ..step.clone() });
        Move { steps: steps.collect(), note: None }
    }
}

/// The file behind a path: links are followed, below the root.
pub(in crate::boot) fn real(host: &Host, path: &Path) -> PathBuf {
    let real = host.path(path);
    real.canonicalize().unwrap_or(real)
}

pub(in crate::boot) fn no_entry(to: &KernelRelease) -> anyhow::Error {
    advise(
        format!("no boot entry that is whole and asks for no password starts {to} and can be named"),
        format!("install the package of {to} again"),
    )
}

/// Whether an entry with this command line is for repairing a system.
pub(in crate::boot) fn is_rescue(cmdline: &str) -> bool {
    const RESCUE: [&str; 6] = ["single", "recovery", "rescue", "emergency", "systemd.unit=rescue.target", "nomodeset"];
    cmdline.split(' ').any(|w| RESCUE.contains(&w))
}
