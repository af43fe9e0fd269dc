//! The fixed input of a simulated boot.

use crate::boot::grub2::bls::dialect::Dialect;
use crate::boot::steps::plan::real;
use crate::host::{files, Host};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Whose rules decide how a default is interpreted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flavor {
    /// GNU GRUB, and Red Hat's before Fedora 30 and EL8.
    Upstream,
    /// rhboot/grub2 since Fedora 30 and EL8.
    Fedora,
    /// Either of the two, on a distribution that has shipped both: both are tried.
    Unknown,
    /// The distribution is unknown: Fedora's rules if `blscfg` produced entries, which GNU's GRUB of those years cannot do, else GNU's.
    ByEntries,
    /// GNU GRUB, possibly openSUSE's: the file name of an entry selects it too.
    Suse,
}

/// The fixed input of a simulation.
pub struct World<'a> {
    /// The machine.
    pub host: &'a Host,
    /// The rules for a default.
    pub flavor: Flavor,
    /// How entries are read and sorted.
    pub dialect: Dialect,
    /// Whether an entry may be a copy of another one, including its id (grubby of EL7 and Amazon Linux 2).
    pub copies_ids: bool,
    /// Whether the firmware is UEFI.
    pub efi: bool,
    /// Whether GRUB can write its environment block.
    pub writable: bool,
    /// Files whose content replaces that on the disk.
    pub planned: &'a Planned,
}

impl World<'_> {
    fn planned(&self, path: &Path) -> Option<&Option<Vec<u8>>> {
        if self.planned.is_empty() {
            return None;
        }
        self.planned.get(&self.host.name(&real(self.host, path)))
    }

    /// Whether a file exists.
    pub(super) fn exists(&self, path: &Path) -> bool {
        self.planned(path).map_or_else(|| self.host.exists(path), Option::is_some)
    }

    /// The planned content of a file.
    pub(in crate::boot::grub2) fn content(&self, path: &Path) -> Option<&[u8]> {
        self.planned(path)?.as_deref()
    }

    pub(super) fn read(&self, path: &Path, limit: u64) -> std::io::Result<Vec<u8>> {
        match self.content(path) {
            Some(content) => Ok(content.to_vec()),
            None => files::read_bounded(&self.host.path(path), limit),
        }
    }
}

/// A remark of a simulation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remark {
    /// Whether it makes the answer uncertain.
    pub doubt: bool,
    /// What was seen.
    pub message: String,
    /// The fix.
    pub remedy: String,
}

/// Planned contents of files, by their real names below the root; none if the file is to be missing.
pub type Planned = BTreeMap<PathBuf, Option<Vec<u8>>>;
