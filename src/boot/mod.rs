//! Which kernel boots next, decided from the files on disk exactly as the boot loader would decide it, and the boot default that is held on
//! a proven kernel.
//!
//! [`next_boot`] finds the loaders that may be in charge (`choose`), evaluates each one's own rules ([`legacy`], [`grub2`] with its small
//! interpreter, [`systemd_boot`]) and compares. Nothing that could not be read is assumed: `certain` is then false, and the file and line
//! are named.

mod check;
mod choose;
pub mod declined;
pub mod efi;
mod entry;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
pub mod grub2;
pub mod grubenv;
pub mod hold;
pub mod image;
mod kept;
pub mod legacy;
mod loader;
mod meanwhile;
pub mod ready;
pub mod steps;
pub mod systemd_boot;

pub use check::{second_opinion, settable};
pub use grub2::OR_EDIT;
pub use grubenv::torn::heal;
pub use hold::{
    clean, clear_once, flush, forget_stale, held, held_off, hold, hold_with, promote, release, unmark, unteach,
    wanted_entry, was_set_meanwhile, Change, HeldOff, Hold,
};
pub use steps::told;

use crate::config;
use crate::host::Host;
use crate::kernel::KernelRelease;
use serde::Serialize;
use std::path::PathBuf;

/// The boot loader that decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// GRUB 0.97: `grub.conf` or `menu.lst`.
    GrubLegacy,
    /// GRUB 2 with its entries in `grub.cfg`.
    Grub2,
    /// GRUB 2 whose entries are Boot Loader Specification files.
    Bls,
    /// systemd-boot.
    SystemdBoot,
    /// Unknown.
    Unknown,
}

/// Why a kernel may start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum BootRole {
    /// The default.
    Next,
    /// The next boot only; what follows it is `Next`.
    Once,
    /// The entry that the loader starts when the default fails.
    Fallback,
}

/// A kernel that the boot loader may start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Candidate {
    /// Its release.
    pub kernel: KernelRelease,
    /// Why it may start.
    pub role: BootRole,
    /// The entry: a Boot Loader Specification id, or the title (with the submenu's before it).
    pub entry: String,
    /// How that was determined.
    pub why: String,
    /// The command line that the entry gives it.
    #[serde(skip)]
    pub cmdline: String,
    /// The initial ramdisks that the entry names, below the root.
    #[serde(skip)]
    pub initrds: Vec<PathBuf>,
    /// The image is an EFI program, which may hold a ramdisk and a command line of its own.
    #[serde(skip)]
    pub unified: bool,
    /// The image is missing, as far as can be seen.
    #[serde(skip)]
    pub absent: bool,
    /// Why the loader certainly stops at this entry and waits for a person, if it does.
    #[serde(skip)]
    pub stops: Option<Problem>,
}

impl Candidate {
    /// Whether the entry is for repairing a system.
    pub fn is_for_repairs(&self) -> bool {
        let words = ["single", "recovery", "rescue", "emergency", "systemd.unit=rescue.target"];
        let name = self.entry.to_ascii_lowercase();
        self.cmdline.split(' ').any(|word| words.contains(&word))
            || name.contains("(recovery mode)")
            || name.contains("-0-rescue")
    }

    /// Whether it loads a ramdisk: one that the entry names, one on the kernel command line, or one inside a unified image.
    pub fn has_ramdisk(&self) -> bool {
        self.unified || !self.initrds.is_empty() || self.cmdline.split(' ').any(|word| word.starts_with("initrd="))
    }
}

/// Something about the next boot that a person should know, and its fix.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// What was seen, with file and line.
    pub message: String,
    /// What to type or edit.
    pub remedy: String,
}

/// The answer: which kernels may start, and whether that is certain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NextBoot {
    /// Everything that decides was read and understood.
    pub certain: bool,
    /// The same for the boot loader alone. A kernel that is loaded for kexec makes the next boot uncertain, but not the boot loader's
    /// choice. Moves of the boot default rely on this one.
    #[serde(skip)]
    pub loader_certain: bool,
    /// The loader in charge.
    pub source: Source,
    /// The kernels that may start: once, next, fallback.
    pub kernels: Vec<Candidate>,
    /// Doubts, and other things worth knowing.
    pub problems: Vec<Problem>,
    /// The loader in charge, and the files that the answer was read from; none if no known loader is in charge.
    #[serde(skip)]
    asked: Option<loader::Asked>,
}

/// More problems than this say nothing new.
const MAX_PROBLEMS: usize = 20;

impl NextBoot {
    /// An answer without kernels and, so far, without doubts.
    pub fn new(source: Source) -> NextBoot {
        NextBoot { certain: true, loader_certain: true, source, kernels: Vec::new(), problems: Vec::new(), asked: None }
    }

    /// Records something that makes the boot loader's answer uncertain.
    fn doubt(&mut self, message: impl Into<String>, remedy: impl Into<String>) {
        self.loader_certain = false;
        self.doubt_past_loader(message, remedy);
    }

    /// Records a way in which a kernel may start without the boot loader.
    fn doubt_past_loader(&mut self, message: impl Into<String>, remedy: impl Into<String>) {
        self.certain = false;
        self.note(message, remedy);
    }

    /// Records something worth knowing.
    fn note(&mut self, message: impl Into<String>, remedy: impl Into<String>) {
        let problem = Problem { message: message.into(), remedy: remedy.into() };
        if self.problems.len() < MAX_PROBLEMS && !self.problems.contains(&problem) {
            self.problems.push(problem);
        }
    }

    /// The kernel that starts next: `once` if there is one, else `next`.
    pub fn first(&self) -> Option<&Candidate> {
        let role = |r| self.kernels.iter().find(move |c| c.role == r);
        role(BootRole::Once).or_else(|| role(BootRole::Next))
    }

    /// The kernel that later boots start; none if they stop at the boot loader.
    pub fn lasting(&self) -> Option<&Candidate> {
        self.kernels.iter().find(|c| c.role == BootRole::Next && c.stops.is_none())
    }
}

/// Which kernels the boot loader may start next. Reads files only and never fails: what it cannot know makes the answer uncertain.
pub fn next_boot(host: &Host, config: &config::Boot) -> NextBoot {
    if config.loader == config::Loader::None {
        let mut answer = NextBoot::new(Source::Unknown);
        answer.doubt(
            "boot.loader is \"none\": the next kernel comes from outside this machine, so every installed kernel is judged",
            "remove boot.loader from the settings if this machine has a boot loader of its own",
        );
        return answer;
    }
    let mut answer = choose::resolve(host);
    kexec(host, &mut answer);
    answer
}

/// Every entry that starts a kernel, from the loader that gave this answer, in the order of its menu.
pub fn menu(host: &Host, answer: &NextBoot) -> Vec<Candidate> {
    answer.asked.as_ref().map(|asked| asked.loader.menu(host)).unwrap_or_default()
}

/// Checks for a kernel loaded by kexec_load(2) (`/sys/kernel/kexec_loaded`): `systemctl kexec` and some shutdown scripts start it instead
/// of booting through the firmware.
fn kexec(host: &Host, answer: &mut NextBoot) {
    if let Ok(text) = host.read_text("/sys/kernel/kexec_loaded") {
        if text.trim() != "0" {
            answer.doubt_past_loader(
                "/sys/kernel/kexec_loaded: a kernel is loaded for kexec, and a reboot by kexec starts it past the boot loader",
                "kexec -u",
            );
        }
    }
}

#[cfg(test)]
mod tests;
