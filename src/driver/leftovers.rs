//! Cleaning up after killed runs, and after a removed kernel: our modules below its directory, what depmod wrote there on their account, and what was
//! kept about it. A directory that stays behind in `/lib/modules` looks like an installed kernel to weak-modules, dracut, DKMS
//! and people.

use super::install;
use crate::host::lock::WriteLock;
use crate::host::{files, remove, Host};
use crate::kernel::{installed, KernelRelease};
use anyhow::{Context, Result};
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

/// What depmod writes (depmod(8)); a kernel's package brings modules.order, modules.builtin and modules.builtin.modinfo itself.
const DEPMOD: [&str; 13] = [
    "modules.alias",
    "modules.alias.bin",
    "modules.builtin.alias.bin",
    "modules.builtin.bin",
    "modules.ccwmap",
    "modules.dep",
    "modules.dep.bin",
    "modules.devname",
    "modules.softdep",
    "modules.symbols",
    "modules.symbols.bin",
    "modules.weakdep",
    "modules.pcimap",
];
/// Where build logs, caches and records are; the file names hold the kernel's.
const LOGS: &str = "/var/lib/vfguard/log";
const RECORDS: &str = "/var/lib/vfguard/records";
const CACHE: &str = "/var/cache/vfguard";

/// Removes what killed runs left: build directories, temporaries beside our modules, second names of former ones. The lock is
/// ours, so whoever made them is dead. What cannot be removed is left to the next run.
pub fn sweep(host: &Host, _lock: &WriteLock) {
    for name in host.read_dir(super::prepare::WORK).unwrap_or_default() {
        let _ = remove::tree(&host.path(super::prepare::WORK).join(name));
    }
    for kernel in host.read_dir("/lib/modules").unwrap_or_default().iter().filter_map(release) {
        let _ = install::sweep(&host.path(dir(&kernel).join(install::DIR)));
    }
}

/// Kernels that are gone, but not what we put beside or kept about them. A few directories are read, nothing is started.
pub fn removed(host: &Host) -> Vec<KernelRelease> {
    let running = installed::running(host);
    let ours = host.read_dir("/lib/modules").unwrap_or_default();
    let ours = ours.iter().filter_map(release).filter(|k| host.is_dir(dir(k).join(install::DIR)));
    let recorded = host.read_dir(RECORDS).unwrap_or_default();
    let recorded = recorded.iter().filter_map(|n| release(&n.to_str()?.strip_suffix(".json")?.into()));
    let mut found: BTreeSet<KernelRelease> = ours.chain(recorded).collect();
    found.retain(|k| running.as_ref() != Some(k) && gone(host, k));
    found.into_iter().collect()
}

/// A kernel's release begins with a digit; `hold.json` and the like lie beside the records of kernels.
fn release(name: &OsString) -> Option<KernelRelease> {
    let name = name.to_str()?;
    name.parse().ok().filter(|_| name.starts_with(|c: char| c.is_ascii_digit()))
}

fn dir(kernel: &KernelRelease) -> PathBuf {
    installed::modules_dir(kernel)
}

fn record(kernel: &KernelRelease) -> PathBuf {
    Path::new(RECORDS).join(format!("{kernel}.json"))
}

/// Neither an image nor a module of its own, nor headers for it: a package that is half-way in or out has one of them.
fn gone(host: &Host, kernel: &KernelRelease) -> bool {
    let dir = dir(kernel);
    installed::image(host, kernel).is_none()
        && !host.exists(dir.join("kernel"))
        && !host.exists(dir.join("modules.order"))
        && !host.exists(dir.join("modules.builtin"))
        && !host.exists(dir.join("build"))
}

/// Removes what is left of a kernel that [`removed`] named; what somebody else put there stays. Says what was done, as a line.
///
/// # Errors
/// Those of removing; the rest stays for the next run.
pub fn clean(host: &Host, _lock: &WriteLock, kernel: &KernelRelease) -> Result<String> {
    let top = host.path(dir(kernel));
    if top.is_dir() {
        let ours = top.join(install::DIR);
        if ours.is_dir() {
            fs::remove_dir_all(&ours).with_context(|| format!("removing {}", ours.display()))?;
        }
        // Each only if it is empty by then.
        let _ = fs::remove_dir(top.join("updates"));
        let _ = fs::remove_dir(top.join("weak-updates"));
        if only_depmods(&top) {
            for name in DEPMOD {
                files::remove(&top.join(name))?;
            }
            for link in ["build", "source"] {
                if top.join(link).is_symlink() {
                    files::remove(&top.join(link))?;
                }
            }
            fs::remove_dir(&top).with_context(|| format!("removing {}", top.display()))?;
        }
    }
    let (prefix, about) = (format!("{kernel}-"), format!("-{kernel}-"));
    // `6.1.0-` is not the beginning of what belongs to a `6.1.0-56-amd64` that is there.
    let others: Vec<String> =
        host.read_dir("/lib/modules").unwrap_or_default().iter().filter_map(release).map(|k| format!("{k}-")).collect();
    let theirs = |name: &str| others.iter().any(|k| k.len() > prefix.len() && name.starts_with(k));
    remove_named(host, LOGS, |name| name.starts_with(&prefix) && name.ends_with(".log") && !theirs(name))?;
    remove_named(host, CACHE, |name| name.starts_with("initramfs-") && name.contains(&about))?;
    files::remove(&host.path(Path::new(super::headers::DIR).join(format!("{kernel}.json"))))?;
    files::remove(&host.path(record(kernel)))?;
    Ok(format!("{kernel} was removed: its modules, records and logs are cleaned up"))
}

/// Whether nothing is left in a kernel's directory but what depmod writes and the links to headers, which dangle.
fn only_depmods(top: &Path) -> bool {
    let Ok(entries) = fs::read_dir(top) else { return false };
    entries.flatten().all(|entry| {
        let name = entry.file_name();
        let path = entry.path();
        let depmods = DEPMOD.iter().any(|d| name == *d) && path.is_file();
        depmods || ((name == "build" || name == "source") && path.is_symlink())
    })
}

fn remove_named(host: &Host, dir: &str, ours: impl Fn(&str) -> bool) -> Result<()> {
    for name in host.read_dir(dir).unwrap_or_default() {
        if name.to_str().is_some_and(&ours) {
            files::remove(&host.path_of_link(Path::new(dir).join(&name)))?;
        }
    }
    Ok(())
}
