//! What is asked of a boot loader, and the list of those that are known. All that one of them does for itself lies in its own folder.

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

/// A loader with its configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Loader {
    /// GRUB 2.
    Grub2(Grub2),
    /// GRUB 0.97.
    Legacy(Legacy),
    /// systemd-boot.
    SystemdBoot(SystemdBoot),
}

/// How loaders are found that have a configuration file.
pub(super) struct Family {
    /// Their configurations outside the EFI partition.
    pub configs: &'static [&'static str],
    /// What of them lies in a directory of the EFI partition.
    pub on_efi: fn(&Host, &Path) -> Vec<PathBuf>,
    /// Whether they are installed for a machine without UEFI.
    pub installed: fn(&Host) -> bool,
    /// The loaders with these configurations.
    pub make: fn(&Host, Vec<PathBuf>) -> Vec<Loader>,
}

/// All of them, the likeliest first.
pub(super) const FAMILIES: [Family; 2] = [super::grub2::FAMILY, super::legacy::FAMILY];

impl Loader {
    /// What it would do, and what that was read from.
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

/// What a loader can be asked. Paths are below the root.
pub(super) trait BootLoader {
    /// Its configuration: a file, or the top of a partition.
    fn config(&self) -> &Path;

    /// What boots, and the files that say so.
    fn resolve(&self, host: &Host) -> (NextBoot, Places);

    /// Every entry that starts a kernel, in the order of its menu.
    fn menu(&self, host: &Host) -> Vec<Candidate>;

    /// Works out how `to` becomes the default: each means that there is, the best first, whether or not the loader obeys it. `entry` is
    /// preferred among the kernel's entries.
    fn plans(&self, host: &Host, to: &KernelRelease, entry: Option<&str>, purpose: Purpose) -> Vec<Result<Move>>;

    /// Works out how what is set for the next boot only ends.
    fn plan_clear_once(&self, host: &Host, asked: &Asked) -> Result<Move>;

    /// What it would do once a move is made, worked out in memory.
    fn preview(&self, host: &Host, plan: &Move) -> NextBoot;

    /// The mark of a hold, if there is one.
    fn mark(&self, host: &Host, asked: &Asked) -> Option<HoldMark>;

    /// Whether each hold leaves a mark.
    fn always_marks(&self) -> bool;

    /// What it would do without the hold that is on; none where only the mark tells that.
    fn unheld(&self, host: &Host, asked: &Asked) -> Option<NextBoot>;

    /// Whether the hold that is on can end in what its files say alone.
    fn ends_one_way(&self, _host: &Host, _asked: &Asked) -> bool {
        false
    }

    /// Works out how the mark goes, and the default stays `held` if that can be; the best means first.
    fn plans_unmarked(&self, host: &Host, asked: &Asked, held: &KernelRelease) -> Vec<Result<Move>>;

    /// What its files say about the default, for telling whether it was moved: none where they cannot be read whole, as while another
    /// tool writes them. The second is the name or number that they give the default, if they do.
    fn named(&self, host: &Host, asked: &Asked) -> Option<(Vec<u8>, Option<String>)>;

    /// What decides beside [`Places::files`]: it changes without a trace in their times.
    fn untimed(&self, host: &Host, asked: &Asked) -> Vec<u8>;

    /// The file by which a default could be moved.
    ///
    /// # Errors
    /// Why it could not.
    fn settable(&self, host: &Host) -> Result<PathBuf>;

    /// How a person makes a default settable.
    fn remedy(&self, host: &Host) -> String;

    /// Has the machine's own tools make a configuration that obeys a default that is moved to `to`; none where there is no such way.
    fn teach(&self, _host: &Host, _to: &KernelRelease) -> Option<Result<()>> {
        None
    }

    /// Takes that back where the default stays what it is. What a person should know; none where there is nothing to take back.
    fn unteach(&self, _host: &Host) -> Option<String> {
        None
    }

    /// How a person ends what is set for one boot.
    fn once_remedy(&self, host: &Host) -> String;
}
