//! Whether the running kernel is proven by use: each device is bound and its link is up, and the next boot of this kernel would load what
//! is loaded now. A working driver says nothing about a file on disk that is not the loaded one. So two things are required: positive
//! evidence from sysfs (build ids), and that nothing that decides modprobe's choice has changed since the boot. In doubt the kernel is not
//! proven.

use crate::finding::Finding;
use crate::host::devices::pci::{self, Device};
use crate::host::Host;
use crate::kernel::{installed, KernelRelease};
use crate::module::{self, Module, Target};
use crate::verdict::judge::{ModuleEvidence, Need};
use std::collections::VecDeque;
use std::ffi::OsString;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};
use std::time::UNIX_EPOCH;

/// The number of symbolic links that Linux follows in one look-up (path_resolution(7)).
const MAX_LINKS: u32 = 40;
/// Directories in which any package update creates or removes names, so their own times are not compared. A kernel's directory and those
/// below it are not among them.
const SHARED: [&str; 12] = [
    "/lib",
    "/lib/modules",
    "/usr",
    "/usr/lib",
    "/usr/lib/modules",
    "/usr/local",
    "/usr/local/lib",
    "/etc",
    "/run",
    "/opt",
    "/var",
    "/var/lib",
];
/// Device nodes that the kernel makes as it starts; udev may change some of their times.
const EARLY: [&str; 4] = ["/dev/null", "/dev/zero", "/dev/full", "/dev/kmsg"];
/// Words of the command line that the boot loader adds, so they may differ.
const LOADERS: [&str; 2] = ["BOOT_IMAGE=", "initrd="];
/// The setup part of a bzImage, which holds its version, has at most 64 sectors.
const SETUP: u64 = 64 * 512;
/// `TAINT_FORCED_MODULE` of `/proc/sys/kernel/tainted`.
const FORCED: u64 = 1 << 1;

/// Whether the next boot of the running kernel would find the drivers that serve the needs now. `cmdline` is that of its boot entry.
pub(super) fn proven_by_use(host: &Host, running: &KernelRelease, target: &Target, needs: &[Need], cmdline: &str) -> bool {
    let objected = |need: &Need| {
        let findings = need.candidates.first().map(|m| m.findings.as_slice()).unwrap_or_default();
        findings.iter().any(Finding::refuses)
    };
    // If no finding refuses the modules in use, there is nothing to excuse, and the files are not read.
    if !needs.iter().any(objected) {
        return false;
    }
    let Some(since) = Boot::of(host) else { return false };
    needs.iter().all(|need| used(host, need))
        && same_words(&host.read_text("/proc/cmdline").unwrap_or_default(), cmdline)
        && image_runs(&since, running)
        && tables_are_old(&since, running)
        && nothing_is_mounted_over(host)
        && needs.iter().filter_map(|n| n.candidates.first()).all(|m| is_loaded(&since, target, m))
}

/// The device is driven by the module that modprobe would take, and its link is up.
fn used(host: &Host, need: &Need) -> bool {
    let up = |device: &Device| {
        let up = |interface: &String| pci::link_is_up(host, &device.address, interface);
        // If the device is gone, another one may have its interface name.
        device.present && device.driver.is_some() && device.interface.as_ref().is_some_and(up)
    };
    let driver = need.device.as_ref().and_then(|d| d.module.as_ref().or(d.driver.as_ref())).map(|n| n.replace('-', "_"));
    need.device.as_ref().is_some_and(up) && need.candidates.first().is_some_and(|m| Some(&m.name) == driver.as_ref())
}

/// A word of the command line may turn on signature checks, or give a module another setting, so any difference counts.
fn same_words(now: &str, then: &str) -> bool {
    let words = |line: &str| -> Vec<String> {
        let words = line.split_whitespace().filter(|w| !LOADERS.iter().any(|l| w.starts_with(l)));
        words.map(str::to_owned).collect()
    };
    words(now) == words(then)
}

/// The time of the boot, to compare times of files with.
struct Boot<'h> {
    host: &'h Host,
    /// Nanoseconds since the epoch.
    time: i128,
}

const SECOND: i128 = 1_000_000_000;

impl Boot<'_> {
    /// `btime` of proc_stat(5) is the present clock minus the time since the boot, so it moves when the clock is set or the machine is
    /// stopped and resumed. The nodes that the kernel made keep the clock of the boot. The earlier of the two counts.
    fn of(host: &Host) -> Option<Boot<'_>> {
        let stat = host.read_text("/proc/stat").ok()?;
        let told: i128 = stat.lines().find_map(|l| l.strip_prefix("btime "))?.trim().parse().ok()?;
        let nodes = EARLY.iter().filter_map(|node| host.metadata(node).ok());
        let seen = nodes.flat_map(|m| {
            let made = m.created().ok().and_then(|t| t.duration_since(UNIX_EPOCH).ok());
            let made = made.and_then(|t| i128::try_from(t.as_nanos()).ok()).filter(|t| *t > 0);
            [Some(nanos(m.mtime(), m.mtime_nsec())), Some(nanos(m.ctime(), m.ctime_nsec())), made]
        });
        let seen = seen.flatten().min()?;
        Some(Boot { host, time: seen.min(told * SECOND) })
    }

    fn is_older(&self, meta: &std::fs::Metadata) -> bool {
        // A file whose mtime was set back by hand has a younger ctime, and so has one that was renamed or linked.
        nanos(meta.mtime(), meta.mtime_nsec()) < self.time && nanos(meta.ctime(), meta.ctime_nsec()) < self.time
    }

    /// Whether a path leads to the same file as at the boot: the file, each symbolic link and each directory on the way are older than the
    /// boot.
    fn is_unchanged(&self, path: &Path) -> bool {
        let mut at = PathBuf::from("/");
        let mut todo: VecDeque<OsString> = parts(path).collect();
        let mut links = 0;
        while let Some(part) = todo.pop_front() {
            if part == ".." {
                at.pop();
                continue;
            }
            let next = at.join(part);
            let real = self.host.path_of_link(&next);
            let Ok(meta) = std::fs::symlink_metadata(&real) else { return false };
            let shared = meta.is_dir() && SHARED.iter().any(|s| next == Path::new(s));
            if !shared && !self.is_older(&meta) {
                return false;
            }
            if !meta.is_symlink() {
                at = next;
                continue;
            }
            let Ok(target) = std::fs::read_link(&real) else { return false };
            links += 1;
            if links > MAX_LINKS {
                return false;
            }
            if target.is_absolute() {
                at = PathBuf::from("/");
            }
            todo = parts(&target).chain(todo).collect();
        }
        true
    }

    /// The same for a directory and the files right in it whose name fits. A directory that does not exist counts as unchanged: if it was
    /// removed since, its settings do not apply any more, and `is_loaded` finds the difference.
    fn directory_is_unchanged(&self, dir: &Path, named: impl Fn(&str) -> bool) -> bool {
        match self.host.read_dir(dir) {
            Ok(names) => {
                let inside = names.iter().filter(|n| n.to_str().is_none_or(&named));
                self.is_unchanged(dir) && inside.map(|n| dir.join(n)).all(|p| self.is_unchanged(&p))
            }
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => true,
            Err(_) => false,
        }
    }
}

fn nanos(seconds: i64, rest: i64) -> i128 {
    i128::from(seconds) * SECOND + i128::from(rest)
}

fn parts(path: &Path) -> impl Iterator<Item = OsString> + '_ {
    path.components().filter_map(|part| match part {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    })
}

/// Whether the image on the disk is the one that runs: a distribution may rebuild the same release. A bzImage tells which build it is
/// (`kernel_version` of `Documentation/arch/x86/boot.rst`).
fn image_runs(since: &Boot, running: &KernelRelease) -> bool {
    let host = since.host;
    let Some(path) = installed::image(host, running) else { return false };
    if !host.metadata(&path).is_ok_and(|m| since.is_older(&m)) {
        return false;
    }
    let (Ok(setup), Ok(version)) = (host.read_start(&path, SETUP), host.read_text("/proc/sys/kernel/version")) else {
        return false;
    };
    if setup.get(0x202..0x206) != Some(b"HdrS") {
        return true;
    }
    let at = setup.get(0x20e..0x210).map_or(0, |b| usize::from(u16::from_le_bytes([b[0], b[1]])) + 0x200);
    let text = setup.get(at..).and_then(|t| t.split(|&b| b == 0).next()).unwrap_or_default();
    let text = String::from_utf8_lossy(text);
    !version.trim().is_empty() && text.split(' ').next() == Some(running.as_str()) && text.ends_with(version.trim())
}

/// Whether depmod's tables of the kernel, and the settings of modprobe and depmod, are older than the boot.
fn tables_are_old(since: &Boot, running: &KernelRelease) -> bool {
    let dir = installed::modules_dir(running);
    let settings = module::settings();
    since.directory_is_unchanged(&dir, |name| name.starts_with("modules."))
        && settings.directories.iter().all(|d| since.directory_is_unchanged(Path::new(d), |_| true))
        && settings.files.iter().all(|f| !since.host.exists(f) || since.is_unchanged(Path::new(f)))
}

/// A mount over modules or settings may hide what the next boot will find, and nothing tells when it was made.
fn nothing_is_mounted_over(host: &Host) -> bool {
    let Ok(table) = host.read_text("/proc/self/mountinfo") else { return false };
    let settings = module::settings();
    let places = ["/lib/modules", "/usr/lib/modules"].into_iter().chain(settings.directories).chain(settings.files);
    let places: Vec<PathBuf> = places.flat_map(|p| [PathBuf::from(p), host.name(&host.path(p))]).collect();
    // proc_pid_mountinfo(5): the fifth field. A blank in it is escaped, but none of these paths has one.
    !table.lines().filter_map(|l| l.split(' ').nth(4)).any(|at| places.iter().any(|p| Path::new(at).starts_with(p)))
}

/// Whether modprobe would choose this file, it is older than the boot, and it is the one that is loaded; the same for each module that it
/// needs.
fn is_loaded(since: &Boot, target: &Target, module: &ModuleEvidence) -> bool {
    let Some(path) = &module.path else { return true };
    let needs = target.dependencies(&module.name);
    target.module_file(&module.name).as_ref() == Some(path)
        && std::iter::once(path).chain(&needs).all(|p| since.is_unchanged(p) && is_in_the_kernel(since.host, p))
}

/// The build id of the loaded module, if the kernel shows one.
pub(super) fn loaded_build(host: &Host, name: &str) -> Option<Vec<u8>> {
    let note = host.read(Path::new("/sys/module").join(name).join("notes/.note.gnu.build-id")).ok()?;
    build_id(&note).map(<[u8]>::to_vec)
}

/// Whether this file is the loaded module: by the linker's build id, or else by the digest of the sources. The module must not be loaded by
/// force either, since no boot does that.
fn is_in_the_kernel(host: &Host, path: &Path) -> bool {
    let Some(file) = host.read(path).ok().and_then(|bytes| Module::read(bytes).ok()) else { return false };
    let dir = Path::new("/sys/module").join(&file.name);
    let text = |name: &str| host.read_text(dir.join(name)).ok().map(|t| t.trim().to_owned()).filter(|t| !t.is_empty());
    let forced = match host.read_text(dir.join("taint")) {
        Ok(taint) => Some(taint.contains('F')),
        // Before Linux 3.3 a module has no taint file of its own.
        Err(_) => {
            let all = host.read_text("/proc/sys/kernel/tainted").ok();
            all.and_then(|t| t.trim().parse::<u64>().ok()).map(|t| t & FORCED != 0)
        }
    };
    let told = |name: &str, own: &Option<String>| text(name).is_none_or(|t| Some(&t) == own.as_ref());
    let note = host.read(dir.join("notes/.note.gnu.build-id")).ok();
    let loaded = note.as_deref().and_then(build_id);
    let same = match (&loaded, &file.build_id) {
        (Some(loaded), Some(own)) => loaded == own,
        // Both were built without a build id.
        (None, None) => host.is_dir(&dir) && note.is_none() && file.srcversion.is_some() && text("srcversion").is_some(),
        _ => false,
    };
    forced == Some(false) && same && told("srcversion", &file.srcversion) && told("version", &file.version)
}

/// The content of an ELF note of `GNU` (elf(5)).
fn build_id(note: &[u8]) -> Option<&[u8]> {
    let length = u32::from_le_bytes(note.get(4..8)?.try_into().ok()?) as usize;
    let id = note.get(16..)?.get(..length)?;
    (note.get(12..16)? == b"GNU\0" && !id.is_empty()).then_some(id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verdict::judge::{Binding, Link, Origin};

    #[test]
    fn an_interface_with_the_name_of_a_missing_device_proves_nothing_about_that_device() {
        let dir = tempfile::tempdir().unwrap();
        let host = Host::new(dir.path()).unwrap();
        host.write_atomic("/sys/class/net/eth0/operstate", b"up\n", 0o644).unwrap();
        let device = |present| Device {
            address: "0000:00:03.0".into(),
            modalias: "pci:v0".into(),
            interface: Some("eth0".into()),
            driver: Some("ixgbevf".into()),
            module: None,
            class: pci::CLASS_NETWORK << 16,
            driver_override: None,
            present,
        };
        let (name, origin) = ("ixgbevf".to_owned(), Origin::Prebuilt);
        let module = ModuleEvidence { name, path: None, version: None, build_id: None, origin, findings: vec![] };
        let need = |present| Need {
            device: Some(device(present)),
            recipe: None,
            required: false,
            binding: Binding::OutOfTree,
            missing: !present,
            unbuildable: false,
            masters: vec![],
            link: Link::Unknown,
            candidates: vec![module.clone()],
        };
        assert!(used(&host, &need(true)) && !used(&host, &need(false)));
    }
}
