//! depmod's tables of a kernel as text (modules.dep(5)): `modules.dep`, `modules.alias`, `modules.builtin`,
//! `modules.builtin.modinfo`. libkmod reads their `.bin` forms, and these where there is none.

use super::{fits, name_of};
use crate::host::Host;
use crate::kernel::installed::modules_dir;
use crate::kernel::KernelRelease;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// What would drive a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Provider {
    /// A driver built into the kernel.
    BuiltIn(String),
    /// A module, by name.
    Module(String),
}

/// The tables.
pub struct Index {
    dir: PathBuf,
    dep: String,
    alias: String,
    builtin: String,
    builtin_info: Vec<u8>,
    /// When `modules.dep` was written.
    pub(super) written: Option<SystemTime>,
}

impl Index {
    /// Reads the tables; one that is missing is empty.
    pub fn load(host: &Host, release: &KernelRelease) -> Index {
        let dir = modules_dir(release);
        let text = |name: &str| host.read_text(dir.join(name)).unwrap_or_default();
        Index {
            dep: text("modules.dep"),
            alias: text("modules.alias"),
            builtin: text("modules.builtin"),
            builtin_info: host.read(dir.join("modules.builtin.modinfo")).unwrap_or_default(),
            written: host.metadata(dir.join("modules.dep")).and_then(|m| m.modified()).ok(),
            dir,
        }
    }

    /// The file that modules.dep gives for a name, below the root.
    pub fn path(&self, name: &str) -> Option<PathBuf> {
        self.entry(name).map(|(file, _)| self.absolute(file))
    }

    /// The files that must be loaded before it.
    pub fn dependencies(&self, name: &str) -> Vec<PathBuf> {
        let Some((_, needs)) = self.entry(name) else { return Vec::new() };
        needs.split_whitespace().map(|f| self.absolute(f)).collect()
    }

    fn entry(&self, name: &str) -> Option<(&str, &str)> {
        self.dep.lines().filter_map(|l| l.split_once(':')).find(|(file, _)| same_name(file, name))
    }

    fn absolute(&self, file: &str) -> PathBuf {
        // An absolute path stands in modules.dep for a module outside of the directory.
        self.dir.join(Path::new(file))
    }

    /// Whether a module is built in.
    pub fn is_builtin(&self, name: &str) -> bool {
        self.builtin.lines().any(|l| same_name(l, name))
    }

    /// What would drive a device: built-in drivers first, as they are there already; then modules in the order of the table.
    pub fn resolve(&self, modalias: &str) -> Vec<Provider> {
        let mut found: Vec<Provider> = Vec::new();
        let mut add = |provider: Provider| {
            if !found.contains(&provider) {
                found.push(provider);
            }
        };
        for entry in self.builtin_info.split(|&b| b == 0).filter_map(|e| std::str::from_utf8(e).ok()) {
            let parts = entry.split_once('=').and_then(|(key, pattern)| Some((key.strip_suffix(".alias")?, pattern)));
            if let Some((module, _)) = parts.filter(|(_, pattern)| fits(pattern, modalias)) {
                add(Provider::BuiltIn(module.replace('-', "_")));
            }
        }
        for line in self.alias.lines() {
            let Some(rest) = line.strip_prefix("alias ") else { continue };
            if let Some((_, module)) = rest.rsplit_once(' ').filter(|(pattern, _)| fits(pattern, modalias)) {
                add(Provider::Module(module.replace('-', "_")));
            }
        }
        found
    }

    /// Some module that came with the kernel, for its vermagic; the first of the table below `kernel/`.
    pub(super) fn own_module(&self) -> Option<PathBuf> {
        let files = self.dep.lines().filter_map(|l| l.split(':').next());
        files.into_iter().find(|f| f.starts_with("kernel/")).map(|f| self.absolute(f))
    }
}

/// Whether a path of a table is the file of a module, without allocating: `-` and `_` are the same.
fn same_name(file: &str, name: &str) -> bool {
    let base = file.rsplit('/').next().unwrap_or(file);
    let Some(rest) = base.get(..name.len()) else { return false };
    let same = rest.bytes().zip(name.bytes()).all(|(a, b)| a == b || (a == b'-' && b == b'_') || (a == b'_' && b == b'-'));
    same && base[name.len()..].starts_with(".ko") && name_of(base) == name.replace('-', "_")
}
