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
    /// The same by a shell that judges nothing: what is set for one boot ends as well.
    Unattended(Option<&'a KernelRelease>),
    /// The end of one.
    Promotion,
}

impl<'a> Purpose<'a> {
    /// Whether it is a hold, and what would boot without it, if that is known.
    pub fn hold(self) -> Option<Option<&'a KernelRelease>> {
        match self {
            Purpose::Hold(wanted) | Purpose::Unattended(wanted) => Some(wanted),
            Purpose::Promotion => None,
        }
    }

    /// The comment of a text file.
    pub fn comment(self, held: &KernelRelease) -> Option<String> {
        self.hold().map(|wanted| mark::comment(held, wanted))
    }
}

/// How a default is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::boot) enum Way {
    /// Over the bytes that are there: same size, same blocks.
    InPlace,
    /// As a new file under the old name, or no file.
    Replace,
    /// By bootctl(1), to which `at` is the entry's id: a variable of the firmware.
    Bootctl(efi::Choice),
}

/// One write of a move.
#[derive(Clone, Debug)]
pub(in crate::boot) struct Step {
    /// The file as it lies on the disk; the entry's id for bootctl.
    pub at: PathBuf,
    pub way: Way,
    /// None where there is no file, or no variable.
    pub before: Option<Vec<u8>>,
    /// What has to stand there; for bootctl what the variable holds then, with its attributes. None where it goes.
    pub after: Option<Vec<u8>>,
}

/// A move that is worked out and not made yet.
#[derive(Clone, Debug)]
pub(in crate::boot) struct Move {
    /// What is written, in this order; the first one is what moves the default.
    pub steps: Vec<Step>,
    /// What a person should know about it.
    pub note: Option<String>,
}

impl Move {
    pub fn one(step: Step) -> Move {
        Move { steps: vec![step], note: None }
    }

    /// What it starts from, as if that were written.
    pub fn start(&self) -> Move {
        let steps = self.steps.iter().map(|step| Step { before: None, after: step.before.clone(), ..step.clone() });
        Move { steps: steps.collect(), note: None }
    }
}

/// The file that a path really is: links are followed, below the root.
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

/// Whether an entry's command line is for repairing a system.
pub(in crate::boot) fn is_rescue(cmdline: &str) -> bool {
    const RESCUE: [&str; 6] = ["single", "recovery", "rescue", "emergency", "systemd.unit=rescue.target", "nomodeset"];
    cmdline.split(' ').any(|w| RESCUE.contains(&w))
}
