//! What a simulated boot is given and cannot change.

use crate::boot::grub2::bls::dialect::Dialect;
use crate::boot::steps::plan::real;
use crate::host::{files, Host};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Whose rules say what a default means and how entries are sorted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flavor {
    /// GNU GRUB, and Red Hat's before Fedora 30 and EL8.
    Upstream,
    /// rhboot/grub2 since Fedora 30 and EL8.
    Fedora,
    /// One of the two, by a distribution that has shipped both: both are tried.
    Unknown,
    /// The machine does not say what it runs: Fedora's where `blscfg` brought entries, which GNU's of these years cannot, else
    /// GNU's.
    ByEntries,
    /// GNU GRUB, which may be openSUSE's: the name of an entry's file means it too.
    Suse,
}

/// What a simulation cannot change.
pub struct World<'a> {
    /// The machine.
    pub host: &'a Host,
    /// Whose rules.
    pub flavor: Flavor,
    /// How entries are read and sorted.
    pub dialect: Dialect,
    /// Whether entries are made from a copy of another one, its id included (grubby of EL7 and Amazon Linux 2).
    pub copies_ids: bool,
    /// Whether the firmware is UEFI.
    pub efi: bool,
    /// Whether GRUB can write its environment block.
    pub writable: bool,
    /// Files that are not what lies on the disk.
    pub planned: &'a Planned,
}

impl World<'_> {
    fn planned(&self, path: &Path) -> Option<&Option<Vec<u8>>> {
        if self.planned.is_empty() {
            return None;
        }
        self.planned.get(&self.host.name(&real(self.host, path)))
    }

    /// Whether a file is there.
    pub(super) fn exists(&self, path: &Path) -> bool {
        self.planned(path).map_or_else(|| self.host.exists(path), Option::is_some)
    }

    /// The content of a file that is planned.
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
    /// What mends it.
    pub remedy: String,
}

/// Files, by their real names below the root, with another content than on the disk; none where there is no file.
pub type Planned = BTreeMap<PathBuf, Option<Vec<u8>>>;
