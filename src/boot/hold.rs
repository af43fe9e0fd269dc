//! The boot default, held on a kernel that is safe and moved back to the wanted one: `saved_entry` of GRUB's environment
//! block, written in place. After each write the next boot is resolved again and compared; a write that did not take is put
//! back and is an error.

use super::choose::{self, Loader};
use super::{bls, grub2, grubenv, image, next_boot, NextBoot, Role};
use crate::config;
use crate::error::{advise, Remedy};
use crate::host::lock::WriteLock;
use crate::host::{files, Host};
use crate::kernel::KernelRelease;
use anyhow::Result;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// The record of a hold, below the root.
const RECORD: &str = "/var/lib/vfguard/records/hold.json";
/// Where GRUB's Boot Loader Specification entries are.
const ENTRIES: &str = "/boot/loader/entries";
/// What to type when vfguard cannot.
const BY_HAND: &str =
    "set the default by hand (`grubby --set-default /boot/vmlinuz-K`, `grub2-set-default ENTRY`), then `vfguard reconcile`";

/// What would boot without our hold, and where the default is held instead.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    /// The kernel that was the default.
    pub wanted: KernelRelease,
    /// What `saved_entry` was.
    pub wanted_entry: String,
    /// The kernel that the default is held on.
    pub held: KernelRelease,
    /// When, seconds since the epoch.
    pub since: i64,
}

impl fmt::Display for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "on {} instead of {}", self.held, self.wanted)
    }
}

/// What was changed, for people.
#[derive(Clone, Debug)]
pub struct Change(String);

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The hold that is on, by its record.
pub fn held(host: &Host) -> Option<Hold> {
    serde_json::from_slice(&host.read(RECORD).ok()?).ok()
}

/// The kernel that would boot without our hold; none where no hold is on: then the next boot itself is what is wanted.
pub fn wanted(host: &Host, next: &NextBoot) -> Option<KernelRelease> {
    let hold = held(host)?;
    let there = host.is_dir(crate::kernel::installed::modules_dir(&hold.wanted));
    (there && next.lasting().is_none_or(|c| c.kernel != hold.wanted)).then_some(hold.wanted)
}

/// Moves the boot default to `to`. The wanted kernel is recorded first, so that a crash in between loses nothing; it stays that
/// of an earlier hold, unless the default has moved since.
///
/// # Errors
/// When the boot loader's default cannot be moved natively, or the move did not take (it is put back).
pub fn hold(host: &Host, _lock: &WriteLock, to: &KernelRelease) -> Result<Change> {
    let environment = Environment::open(host)?;
    let now = next_boot(host, &config::Boot::default());
    let Some(wanted) = now.lasting().map(|c| c.kernel.clone()) else {
        return Err(advise("the boot loader names no default that could be held", BY_HAND));
    };
    let target = entry_of(host, to)?;
    let record = Hold {
        wanted: wanted.clone(),
        wanted_entry: environment.get("saved_entry").unwrap_or_default(),
        held: to.clone(),
        since: crate::gate::audit::now(),
    };
    host.write_atomic(RECORD, &serde_json::to_vec_pretty(&record)?, 0o644)?;
    environment.change(host, &[("saved_entry", Some(&target))], |next| next.lasting().is_some_and(|c| &c.kernel == to))?;
    Ok(Change(format!("boot default held on {to} instead of {wanted}")))
}

/// Moves the boot default back to the wanted kernel and ends the hold.
///
/// # Errors
/// Those of [`hold`]; the hold then stays.
pub fn promote(host: &Host, _lock: &WriteLock) -> Result<Change> {
    let Some(hold) = held(host) else { return Err(advise("no hold is on", "nothing needs to be done")) };
    let installed = host.is_dir(crate::kernel::installed::modules_dir(&hold.wanted));
    let now = next_boot(host, &config::Boot::default());
    let line = match now.lasting() {
        // Somebody moved it meanwhile, or the kernel is gone: what is there now is wanted.
        Some(current) if current.kernel != hold.held => format!("boot default left on {}", current.kernel),
        _ if !installed => format!("boot default left on {}: {} is gone", hold.held, hold.wanted),
        _ => {
            let entry = entry_of(host, &hold.wanted)?;
            let environment = Environment::open(host)?;
            let moved = |next: &NextBoot| next.lasting().is_some_and(|c| c.kernel == hold.wanted);
            environment.change(host, &[("saved_entry", Some(&entry))], moved)?;
            format!("boot default moved to {}", hold.wanted)
        }
    };
    files::remove(&host.path(RECORD))?;
    Ok(Change(line))
}

/// Clears what is set for one boot.
///
/// # Errors
/// Those of [`hold`].
pub fn clear_once(host: &Host, _lock: &WriteLock) -> Result<Change> {
    let environment = Environment::open(host)?;
    let gone = |next: &NextBoot| next.kernels.iter().all(|c| c.role != Role::Once);
    environment.change(host, &[("next_entry", None)], gone)?;
    Ok(Change("the entry set for one boot was cleared (next_entry)".into()))
}

/// The id of the entry that starts a kernel.
fn entry_of(host: &Host, kernel: &KernelRelease) -> Result<String> {
    let (snippets, _) = bls::read(host, Path::new(ENTRIES));
    let starts =
        |s: &&bls::Snippet| s.get("linux").is_some_and(|linux| image::look(host, linux).release.as_ref() == Some(kernel));
    // Of several entries of one kernel the plain one has the shortest id (others add -debug, -rescue).
    let ids = snippets.iter().filter(starts).map(|s| &s.id);
    ids.min_by_key(|id| id.len()).cloned().ok_or_else(|| {
        advise(format!("no entry in {ENTRIES} starts {kernel}, so the boot default cannot be moved to it"), BY_HAND)
    })
}

/// GRUB's environment block.
struct Environment {
    path: PathBuf,
    block: Vec<u8>,
}

impl Environment {
    fn open(host: &Host) -> Result<Environment> {
        let (loaders, _) = choose::loaders(host);
        let Some(Loader::Grub2(config)) = loaders.into_iter().next() else {
            return Err(advise("the boot loader is not GRUB 2, whose default vfguard can move", BY_HAND));
        };
        let seen = grub2::resolve(host, &config, choose::is_efi(host));
        if !seen.first.bls {
            return Err(advise("grub.cfg holds its entries itself (no blscfg); their default is not moved yet", BY_HAND));
        }
        if let (false, Some(why)) = (seen.writable, grub2::unwritable(host)) {
            return Err(advise(format!("GRUB cannot use its environment block safely: {why}"), BY_HAND));
        }
        let Some(name) = seen.first.env_file else {
            return Err(advise("grub.cfg loads no environment block, so saved_entry does nothing", BY_HAND));
        };
        let path = host.path(&name);
        let block = files::read_bounded(&path, grubenv::MAX).remedy(format!("reading {}", name.display()), BY_HAND)?;
        Ok(Environment { path, block })
    }

    fn get(&self, name: &str) -> Option<String> {
        grubenv::get(&self.block, name)
    }

    /// Writes, resolves again and compares; what did not take is put back.
    fn change(&self, host: &Host, changes: &[(&str, Option<&str>)], took: impl Fn(&NextBoot) -> bool) -> Result<()> {
        let act = || format!("writing {}", host.name(&self.path).display());
        let edited = grubenv::edit(&self.block, changes).remedy(act(), "grub2-editenv create makes a new block")?;
        self.write(&edited).remedy(act(), BY_HAND)?;
        if took(&next_boot(host, &config::Boot::default())) {
            return Ok(());
        }
        self.write(&self.block).remedy(act(), BY_HAND)?;
        Err(advise(format!("{}: the boot loader does not follow it; it is put back as it was", act()), BY_HAND))
    }

    /// In place: GRUB writes to the blocks that it found the file in, so that it must stay the same inode (and, through a
    /// link, on its partition). One write of one block.
    fn write(&self, block: &[u8]) -> std::io::Result<()> {
        let file = File::options().write(true).open(&self.path)?;
        file.write_all_at(block, 0)?;
        file.sync_all()
    }
}
