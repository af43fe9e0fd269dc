//! Cleaning up after killed runs, and after a removed kernel: our modules below its directory, what depmod wrote there on their account, and what was
//! kept about it. A directory that stays behind in `/lib/modules` looks like an installed kernel to weak-modules, dracut, DKMS
//! and people.

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
/// Where build logs and records are; the file names hold the kernel's.
const LOGS: &str = "/var/lib/vfguard/log";
const RECORDS: &str = "/var/lib/vfguard/records";
/// Where files are written whole or not at all.
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
/// The gate's drop-ins for systemd's units are in directories of this one.
const UNITS: &str = "/run/systemd/system";

/// Archives that no recipe names any more, such as those of releases that an update of vfguard took out: the newest are kept.
const MAX_UNNAMED: usize = 8;

/// Removes what killed runs left (build directories, temporaries of files, second names of former modules) and the oldest of
/// what would grow without end. The lock is ours, so whoever made them is dead. What cannot be removed is left to the next run.
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
    // Where a recipe cannot be read, nobody knows which archives it names.
    if let Ok(recipes) = crate::driver::recipes(host) {
        let named: BTreeSet<String> =
            recipes.iter().flat_map(|recipe| recipe.releases.iter().map(|r| recipe.archive_name(r))).collect();
        let unnamed = |name: &str| ENDINGS.iter().any(|ending| name.ends_with(ending)) && !named.contains(name);
        files::keep_newest(&host.path(crate::driver::fetch::SOURCES), MAX_UNNAMED, unnamed);
    }
}

/// Kernels that are gone, but not what we put beside or kept about them. A few directories are read, nothing is started.
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

/// Removes what is left of each kernel that [`removed`] names; what somebody else put there stays. Says what was done, a line
/// each. That something could not be removed is a line too: the rest stays for the next run.
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
        // Each only if it is empty by then.
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
    // `6.1.0-` is not the beginning of what belongs to a `6.1.0-56-amd64` that is there.
    let others: Vec<String> =
        host.read_dir("/lib/modules").unwrap_or_default().iter().filter_map(release).map(|k| format!("{k}-")).collect();
    let theirs = |name: &str| others.iter().any(|k| k.len() > prefix.len() && name.starts_with(k));
    remove_named(host, LOGS, |name| name.starts_with(&prefix) && name.ends_with(".log") && !theirs(name))?;
    remove_named(host, cache::DIR, |name| name.starts_with("initramfs-") && name.contains(&about))?;
    host.remove(Path::new(crate::driver::headers::DIR).join(format!("{kernel}.json")))?;
    host.remove(record(kernel))?;
    Ok(())
}

/// Whether nothing is left in a kernel's directory but what depmod writes and the links to headers, which dangle.
fn only_depmods(top: &Path) -> bool {
    let Ok(entries) = fs::read_dir(top) else { return false };
    entries.flatten().all(|entry| {
        let name = entry.file_name();
        let path = entry.path();
        let depmods = is_depmods(&name) && path.is_file();
        depmods || ((name == "build" || name == "source") && path.is_symlink())
    })
}

/// What depmod writes, also as one that was killed leaves it: `modules.dep.PID.MICROSECONDS.SECONDS`, `modules.dep.temp` of older ones.
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

    /// A file that was last written so many hours ago.
    fn write(host: &Host, path: &str, hours: u64) {
        host.write_atomic(path, b"x", 0o644).unwrap();
        let file = fs::File::options().write(true).open(host.path(path)).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_secs(hours * 3600)).unwrap();
    }

    #[test]
    fn what_killed_runs_left_goes_and_what_is_being_written_or_is_somebody_elses_stays() {
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
        // Nobody knows what a recipe that cannot be read names.
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
    fn a_sweep_that_can_remove_nothing_stops_nothing() {
        let (_dir, host) = host();
        let lock = WriteLock::take(&host, Duration::ZERO).unwrap();
        for path in [crate::driver::prepare::WORK, RECORDS, crate::driver::fetch::SOURCES] {
            host.write_atomic(path, b"a file in a directory's place", 0o644).unwrap();
        }
        sweep(&host, &lock);
        assert!(clean(&host, &lock).is_empty());
    }

    #[test]
    fn what_was_tried_for_headers_of_a_kernel_that_is_gone_goes_with_it() {
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
