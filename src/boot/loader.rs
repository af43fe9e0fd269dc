//! The questions that a boot loader answers, and the list of known loaders. Everything specific to one loader is in its own folder.

use super::grub2::Grub2;
use super::legacy::Legacy;
use super::steps::plan::{Move, Purpose};
use super::steps::told::HoldMark;
use super::systemd_boot::SystemdBoot;
use super::{Candidate, NextBoot};
use crate::host::Host;
use crate::kernel::KernelRelease;
use anyhow::Result;
use std::ops::Deref;
use std::path::{Path, PathBuf};

/// A loader and its configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Loader {
    /// GRUB 2.
    Grub2(Grub2),
    /// GRUB 0.97.
    Legacy(Legacy),
    /// systemd-boot.
    SystemdBoot(SystemdBoot),
}

/// How loaders with a configuration file are found.
pub(super) struct Family {
    /// Their configurations outside the EFI partition.
    pub configs: &'static [&'static str],
    /// Their configurations in a directory of the EFI partition.
    pub on_efi: fn(&Host, &Path) -> Vec<PathBuf>,
    /// Whether they are installed for a machine without UEFI.
    pub installed: fn(&Host) -> bool,
    /// The loaders with these configurations.
    pub make: fn(&Host, Vec<PathBuf>) -> Vec<Loader>,
}

/// All families, the likeliest first.
pub(super) const FAMILIES: [Family; 2] = [super::grub2::FAMILY, super::legacy::FAMILY];

impl Loader {
    /// What the loader would do, and which files that was read from.
    pub fn ask(&self, host: &Host) -> NextBoot {
        let (mut answer, places) = self.resolve(host);
        answer.asked = Some(Asked { loader: self.clone(), places });
        answer
    }
}

impl Deref for Loader {
    type Target = dyn BootLoader;

    fn deref(&self) -> &Self::Target {
        match self {
            Loader::Grub2(loader) => loader,
            Loader::Legacy(loader) => loader,
            Loader::SystemdBoot(loader) => loader,
        }
    }
}

/// A loader that was asked, and what its answer was read from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Asked {
    /// The loader.
    pub loader: Loader,
    /// Its files.
    pub places: Places,
}

/// Files of a loader, below the root.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Places {
    /// GRUB 2's environment file; empty for another loader.
    pub env_file: PathBuf,
    /// GRUB 2's custom.cfg, which may not be there; empty for another loader.
    pub custom: PathBuf,
    /// All that the answer depends on: the configurations and the directories that were looked into.
    pub files: Vec<PathBuf>,
}

/// The questions that a loader answers. Paths are below the root.
pub(super) trait BootLoader {
    /// Its configuration: a file, or the top of a partition.
    fn config(&self) -> &Path;

    /// What boots, and the files that decide it.
    fn resolve(&self, host: &Host) -> (NextBoot, Places);

    /// Every entry that starts a kernel, in the order of its menu.
    fn menu(&self, host: &Host) -> Vec<Candidate>;

    /// Works out how `to` becomes the default: every available means, the best first, whether or not the loader obeys it. `entry` is
    /// preferred among the kernel's entries.
    fn plans(&self, host: &Host, to: &KernelRelease, entry: Option<&str>, purpose: Purpose) -> Vec<Result<Move>>;

    /// Works out how to clear the one-shot default.
    fn plan_clear_once(&self, host: &Host, asked: &Asked) -> Result<Move>;

    /// What it would do once a move is made, worked out in memory.
    fn preview(&self, host: &Host, plan: &Move) -> NextBoot;

    /// The mark of a hold, if there is one.
    fn mark(&self, host: &Host, asked: &Asked) -> Option<HoldMark>;

    /// Whether each hold leaves a mark.
    fn always_marks(&self) -> bool;

    /// What it would do without the current hold; none if only the mark says that.
    fn unheld(&self, host: &Host, asked: &Asked) -> Option<NextBoot>;

    /// Whether ending the current hold can lead only to what its files say.
    fn ends_one_way(&self, _host: &Host, _asked: &Asked) -> bool {
        false
    }

    /// Works out how to remove the mark and, if possible, leave the default on `held`; the best means first.
    fn plans_unmarked(&self, host: &Host, asked: &Asked, held: &KernelRelease) -> Vec<Result<Move>>;

    /// What its files say about the default, to detect that it was moved. None if they cannot be read whole, for example while another tool
    /// writes them. The second part is the name or number of the default, if the files have one.
    fn named(&self, host: &Host, asked: &Asked) -> Option<(Vec<u8>, Option<String>)>;

    /// Input beyond [`Places::files`] that decides, and that changes without new file times.
    fn untimed(&self, host: &Host, asked: &Asked) -> Vec<u8>;

    /// The file through which a default could be moved.
    ///
    /// # Errors
    /// Why no default could be moved.
    fn settable(&self, host: &Host) -> Result<PathBuf>;

    /// How a person can make a default settable.
    fn remedy(&self, host: &Host) -> String;

    /// Has the machine's own tools generate a configuration that obeys a default that is moved to `to`; none if there is no such way.
    fn teach(&self, _host: &Host, _to: &KernelRelease) -> Option<Result<()>> {
        None
    }

    /// Undoes that, if the default stays the same without it. Returns a message for the user; none if there is nothing to undo.
    fn unteach(&self, _host: &Host) -> Option<String> {
        None
    }

    /// How a person clears a one-shot default.
    fn once_remedy(&self, host: &Host) -> String;
}
