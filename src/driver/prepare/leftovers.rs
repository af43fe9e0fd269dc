//! Cleans up after killed runs and after a removed kernel: vfguard's modules below the kernel's directory, what depmod wrote
//! there because of them, and the records. If the directory stays in `/lib/modules`, weak-modules, dracut, DKMS and people
//! take it for an installed kernel.

use crate::driver::install::{self, initramfs};
use crate::driver::packing::ENDINGS;
use crate::host::files::remove;
use crate::host::lock::WriteLock;
use crate::host::{cache, files, Host};
use crate::kernel::{installed, KernelRelease};
use anyhow::{Context, Result};
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

/// The files that depmod writes (depmod(8)). modules.order, modules.builtin and modules.builtin.modinfo come with the
/// kernel's package.
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
/// Directories of build logs and records; their file names contain the kernel's release.
const LOGS: &str = "/var/lib/vfguard/log";
const RECORDS: &str = "/var/lib/vfguard/records";
/// Directories in which files are written atomically, so that a killed run may leave temporary files.
const WRITTEN: [&str; 13] = [
    "/boot",
    "/boot/grub",
    "/boot/grub2",
    "/boot/loader",
    "/boot/efi/loader",
    "/efi/loader",
    "/run/motd.d",
    "/run/vfguard",
    "/var/lib/vfguard",
    "/var/lib/vfguard/ready",
    RECORDS,
    crate::driver::headers::DIR,
    cache::DIR,
];
/// The directory that contains those of the gate's drop-ins for systemd's units.
const UNITS: &str = "/run/systemd/system";

/// How many archives are kept that no recipe names any more, for example because an update of vfguard dropped their release.
/// The newest are kept.
const MAX_UNNAMED: usize = 8;

/// Removes what killed runs left (build directories, temporary files, second names of previous modules) and the oldest files
/// where there would be more and more. This run holds the lock, so no other run uses them. What cannot be removed is left to
/// the next run.
pub fn sweep(host: &Host, _lock: &WriteLock) {
    for name in host.read_dir(crate::driver::prepare::WORK).unwrap_or_default() {
        let _ = host.dir(crate::driver::prepare::WORK).map(|dir| remove::tree(&dir.at(name)));
    }
    initramfs::sweep(&host.path("/boot"));
    for dir in WRITTEN {
        files::sweep_temporaries(&host.path(dir));
    }
    for unit in host.read_dir(UNITS).unwrap_or_default() {
        files::sweep_temporaries(&host.path(UNITS).join(unit));
    }
    for kernel in host.read_dir("/lib/modules").unwrap_or_default().iter().filter_map(release) {
        let _ = install::sweep(&host.path(dir(&kernel).join(install::DIR)));
    }
    // If a recipe cannot be read, it is unknown which archives it names.
    if let Ok(recipes) = crate::driver::recipes(host) {
        let named: BTreeSet<String> =
            recipes.iter().flat_map(|recipe| recipe.releases.iter().map(|r| recipe.archive_name(r))).collect();
        let unnamed = |name: &str| ENDINGS.iter().any(|ending| name.ends_with(ending)) && !named.contains(name);
        files::keep_newest(&host.path(crate::driver::fetch::SOURCES), MAX_UNNAMED, unnamed);
    }
}

/// Kernels that are removed, but of which vfguard's modules or records still exist. Reads a few directories and starts
/// nothing.
pub fn removed(host: &Host) -> Vec<KernelRelease> {
    let running = installed::running(host);
    let ours = host.read_dir("/lib/modules").unwrap_or_default();
    let ours = ours.iter().filter_map(release).filter(|k| host.is_dir(dir(k).join(install::DIR)));
    let mut recorded = host.read_dir(RECORDS).unwrap_or_default();
    recorded.extend(host.read_dir(crate::driver::headers::DIR).unwrap_or_default());
    let recorded = recorded.iter().filter_map(|n| release(&n.to_str()?.strip_suffix(".json")?.into()));
    let mut found: BTreeSet<KernelRelease> = ours.chain(recorded).collect();
    found.retain(|k| running.as_ref() != Some(k) && gone(host, k));
    found.into_iter().collect()
}

/// A kernel release begins with a digit. `hold.json` and others are in the same directory as the records of kernels.
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

/// No image, no modules other than vfguard's, and no headers. A package that is being installed or removed has one of them.
fn gone(host: &Host, kernel: &KernelRelease) -> bool {
    let dir = dir(kernel);
    installed::image(host, kernel).is_none()
        && !host.exists(dir.join("kernel"))
        && !host.exists(dir.join("modules.order"))
        && !host.exists(dir.join("modules.builtin"))
        && !host.exists(dir.join("build"))
}

/// Removes what is left of each kernel that [`removed`] returns; files of others stay. Returns one line for each thing done.
/// A failure to remove something is a line too; it stays for the next run.
pub fn clean(host: &Host, _lock: &WriteLock) -> Vec<String> {
    let line = |kernel: &KernelRelease| match clean_one(host, kernel) {
        Ok(()) => format!("{kernel} was removed: its modules, records and logs are cleaned up"),
        Err(e) => format!("cleaning up after {kernel}: {e:#}"),
    };
    removed(host).iter().map(line).collect()
}

fn clean_one(host: &Host, kernel: &KernelRelease) -> Result<()> {
    if host.is_dir(dir(kernel)) {
        let held = host.dir(dir(kernel))?;
        let (top, shown) = (held.path(), held.shown().display());
        let ours = dir(kernel).join(install::DIR);
        if host.is_dir(&ours) {
            let updates = host.dir(dir(kernel).join("updates"))?;
            fs::remove_dir_all(updates.at("vfguard")).with_context(|| format!("removing {}", ours.display()))?;
        }
        // Each directory only if it is empty now.
        let _ = fs::remove_dir(top.join("updates"));
        let _ = fs::remove_dir(top.join("weak-updates"));
        if only_depmods(&top) {
            for name in fs::read_dir(&top).into_iter().flatten().flatten().map(|e| e.file_name()).filter(is_depmods) {
                files::remove(&top.join(name))?;
            }
            for link in ["build", "source"] {
                if top.join(link).is_symlink() {
                    files::remove(&top.join(link))?;
                }
            }
            fs::remove_dir(host.dir("/lib/modules")?.at(kernel.as_str())).with_context(|| format!("removing {shown}"))?;
        }
    }
    let (prefix, about) = (format!("{kernel}-"), format!("-{kernel}-"));
    // The logs of an installed `6.1.0-56-amd64` begin with `6.1.0-` too; they stay.
    let others: Vec<String> =
        host.read_dir("/lib/modules").unwrap_or_default().iter().filter_map(release).map(|k| format!("{k}-")).collect();
    let theirs = |name: &str| others.iter().any(|k| k.len() > prefix.len() && name.starts_with(k));
    remove_named(host, LOGS, |name| name.starts_with(&prefix) && name.ends_with(".log") && !theirs(name))?;
    remove_named(host, cache::DIR, |name| name.starts_with("initramfs-") && name.contains(&about))?;
    host.remove(Path::new(crate::driver::headers::DIR).join(format!("{kernel}.json")))?;
    host.remove(record(kernel))?;
    Ok(())
}

/// Whether a kernel's directory contains only depmod's files and dangling symbolic links to headers.
fn only_depmods(top: &Path) -> bool {
    let Ok(entries) = fs::read_dir(top) else { return false };
    entries.flatten().all(|entry| {
        let name = entry.file_name();
        let path = entry.path();
        let depmods = is_depmods(&name) && path.is_file();
        depmods || ((name == "build" || name == "source") && path.is_symlink())
    })
}

/// Whether depmod writes it, also the temporary files of a killed one: `modules.dep.PID.MICROSECONDS.SECONDS`,
/// `modules.dep.temp` of older versions.
fn is_depmods(name: &OsString) -> bool {
    let unfinished =
        |rest: &str| rest == ".temp" || (rest.starts_with('.') && rest.bytes().all(|b| b == b'.' || b.is_ascii_digit()));
    let Some(name) = name.to_str() else { return false };
    DEPMOD.iter().any(|d| name.strip_prefix(d).is_some_and(|rest| rest.is_empty() || unfinished(rest)))
}

fn remove_named(host: &Host, dir: &str, ours: impl Fn(&str) -> bool) -> Result<()> {
    for name in host.read_dir(dir).unwrap_or_default() {
        if name.to_str().is_some_and(&ours) {
            host.remove(Path::new(dir).join(&name))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, SystemTime};

    fn host() -> (tempfile::TempDir, Host) {
        let dir = tempfile::tempdir().unwrap();
        let host = Host::new(dir.path()).unwrap();
        (dir, host)
    }

    /// Writes a file and sets its age to so many hours.
    fn write(host: &Host, path: &str, hours: u64) {
        host.write_atomic(path, b"x", 0o644).unwrap();
        let file = fs::File::options().write(true).open(host.path(path)).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_secs(hours * 3600)).unwrap();
    }

    #[test]
    fn leftovers_of_killed_runs_are_removed_and_files_in_use_or_of_others_stay() {
        let (_dir, host) = host();
        let lock = WriteLock::take(&host, Duration::ZERO).unwrap();
        let dirs = || WRITTEN.into_iter().chain(["/run/systemd/system/reboot.target.d"]);
        for dir in dirs() {
            for (name, hours) in [(".vfguard-aB3dE9", 2), (".vfguard-young1", 0), (".vfguard-note.txt", 2), ("other", 2)] {
                write(&host, &format!("{dir}/{name}"), hours);
            }
        }
        write(&host, "/var/cache/vfguard/build/run-1/deep/file", 2);
        sweep(&host, &lock);
        for dir in dirs() {
            let there = |name: &str| host.exists(format!("{dir}/{name}"));
            assert!(!there(".vfguard-aB3dE9"), "{dir}");
            assert!(there(".vfguard-young1") && there(".vfguard-note.txt") && there("other"), "{dir}");
        }
        assert!(host.read_dir("/var/cache/vfguard/build").unwrap().is_empty());
    }

    #[test]
    fn archives_that_no_recipe_names_are_bounded_and_those_that_one_names_stay() {
        let (_dir, host) = host();
        let lock = WriteLock::take(&host, Duration::ZERO).unwrap();
        let at = |name: &str| format!("{}/{name}", crate::driver::fetch::SOURCES);
        let recipes = crate::driver::recipes(&host).unwrap();
        let named: Vec<String> = recipes[0].releases.iter().map(|r| recipes[0].archive_name(r)).collect();
        named.iter().for_each(|name| write(&host, &at(name), 1000));
        let gone = |n: u64| at(&format!("gone-{n}{}", ENDINGS[n as usize % ENDINGS.len()]));
        (0..30).for_each(|n| write(&host, &gone(n), 100 + n));
        write(&host, &at("a-note"), 2000);
        // The archives of a recipe that cannot be read are unknown.
        host.write_atomic("/etc/vfguard/drivers.d/bad.toml", b"[[[", 0o644).unwrap();
        sweep(&host, &lock);
        assert_eq!(host.read_dir(crate::driver::fetch::SOURCES).unwrap().len(), named.len() + 31);
        fs::remove_file(host.path("/etc/vfguard/drivers.d/bad.toml")).unwrap();
        sweep(&host, &lock);
        assert!(named.iter().chain([&"a-note".to_owned()]).all(|name| host.exists(at(name))));
        let unnamed = |n: &u64| host.exists(gone(*n));
        assert_eq!((0..30).filter(unnamed).collect::<Vec<_>>(), (0..8).collect::<Vec<_>>(), "the newest stay");
    }

    #[test]
    fn a_sweep_that_cannot_remove_anything_does_not_fail() {
        let (_dir, host) = host();
        let lock = WriteLock::take(&host, Duration::ZERO).unwrap();
        for path in [crate::driver::prepare::WORK, RECORDS, crate::driver::fetch::SOURCES] {
            host.write_atomic(path, b"a file in a directory's place", 0o644).unwrap();
        }
        sweep(&host, &lock);
        assert!(clean(&host, &lock).is_empty());
    }

    #[test]
    fn records_of_tries_for_headers_are_removed_with_their_kernel() {
        let (_dir, host) = host();
        let lock = WriteLock::take(&host, Duration::ZERO).unwrap();
        write(&host, "/boot/vmlinuz-6.1.0-2", 0);
        for kernel in ["6.1.0-1", "6.1.0-2"] {
            write(&host, &format!("{}/{kernel}.json", crate::driver::headers::DIR), 0);
        }
        write(&host, "/var/lib/vfguard/log/6.1.0-1-headers.log", 0);
        write(&host, "/var/cache/vfguard/initramfs-1234-6.1.0-1-x.json", 0);
        let lines = clean(&host, &lock);
        assert!(lines.len() == 1 && lines[0].starts_with("6.1.0-1 was removed"), "{lines:?}");
        assert_eq!(host.read_dir(crate::driver::headers::DIR).unwrap(), ["6.1.0-2.json"]);
        assert!(host.read_dir(LOGS).unwrap().is_empty() && host.read_dir(cache::DIR).unwrap().is_empty());
    }
}
