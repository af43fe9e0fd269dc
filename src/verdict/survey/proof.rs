//! Whether the running kernel is proven by use: each device is bound and its link up, and what the next boot of this kernel
//! would load for it is what is loaded now. That the driver works says nothing of a file that is not the one in the kernel, so
//! both are asked for: positive evidence from sysfs (build ids), and that nothing which decides modprobe's choice has changed
//! since the boot. In doubt it is not proven.

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

/// As many links as Linux follows in one look-up (path_resolution(7)).
const MAX_LINKS: u32 = 40;
/// Directories in which any package update makes or removes names. The kernel's own and those in it are not among them.
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
/// Device nodes that the kernel makes as it starts, and what udev leaves of their times.
const EARLY: [&str; 4] = ["/dev/null", "/dev/zero", "/dev/full", "/dev/kmsg"];
/// A boot loader that fills in these words, in any way.
const LOADERS: [&str; 2] = ["BOOT_IMAGE=", "initrd="];
/// The setup part of a bzImage, in which it says what it is, is at most 64 sectors.
const SETUP: u64 = 64 * 512;
/// `TAINT_FORCED_MODULE` of `/proc/sys/kernel/tainted`.
const FORCED: u64 = 1 << 1;

/// Whether what drives the needs now is what the next boot of the running kernel finds. `cmdline` is that of its boot entry.
pub(super) fn proven_by_use(host: &Host, running: &KernelRelease, target: &Target, needs: &[Need], cmdline: &str) -> bool {
    let objected = |need: &Need| {
        let findings = need.candidates.first().map(|m| m.findings.as_slice()).unwrap_or_default();
        findings.iter().any(Finding::refuses)
    };
    // Where no strict rule objects to what runs, there is nothing to excuse and nothing is read.
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
        // Where it is gone, another one may have its interface's name.
        device.present && device.driver.is_some() && device.interface.as_ref().is_some_and(up)
    };
    let driver = need.device.as_ref().and_then(|d| d.module.as_ref().or(d.driver.as_ref())).map(|n| n.replace('-', "_"));
    need.device.as_ref().is_some_and(up) && need.candidates.first().is_some_and(|m| Some(&m.name) == driver.as_ref())
}

/// The words of a command line may turn signature checks on, or give a module another setting: any difference counts.
fn same_words(now: &str, then: &str) -> bool {
    let words = |line: &str| -> Vec<String> {
        let words = line.split_whitespace().filter(|w| !LOADERS.iter().any(|l| w.starts_with(l)));
        words.map(str::to_owned).collect()
    };
    words(now) == words(then)
}

/// A look at the times of files.
struct Boot<'h> {
    host: &'h Host,
    /// Nanoseconds since the epoch.
    time: i128,
}

const SECOND: i128 = 1_000_000_000;

impl Boot<'_> {
    /// `btime` of proc_stat(5) is today's clock less the time since the boot, so it moves when the clock is set or the machine is
    /// stopped and resumed. The nodes that the kernel made keep the clock of the boot; the earlier of the two counts.
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
        // What was made older by hand (mtime) has a younger ctime, and so has what was renamed or linked.
        nanos(meta.mtime(), meta.mtime_nsec()) < self.time && nanos(meta.ctime(), meta.ctime_nsec()) < self.time
    }

    /// Whether a path leads where it led at the boot: what lies there, each link and each directory on the way.
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

    /// The same for a directory and all that lies right in it and is named so; one that is not there is as it was, or what it said
    /// is no longer heeded, which the look at what is loaded finds.
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

/// The image on the disk is the one that runs: a distribution may build the same release anew. A bzImage says which build it is
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

/// depmod's tables of the kernel, and the settings of modprobe and depmod.
fn tables_are_old(since: &Boot, running: &KernelRelease) -> bool {
    let dir = installed::modules_dir(running);
    let settings = module::settings();
    since.directory_is_unchanged(&dir, |name| name.starts_with("modules."))
        && settings.directories.iter().all(|d| since.directory_is_unchanged(Path::new(d), |_| true))
        && settings.files.iter().all(|f| !since.host.exists(f) || since.is_unchanged(Path::new(f)))
}

/// A mount over modules or settings shows what the next boot may not find; when it was made nobody can say.
fn nothing_is_mounted_over(host: &Host) -> bool {
    let Ok(table) = host.read_text("/proc/self/mountinfo") else { return false };
    let settings = module::settings();
    let places = ["/lib/modules", "/usr/lib/modules"].into_iter().chain(settings.directories).chain(settings.files);
    let places: Vec<PathBuf> = places.flat_map(|p| [PathBuf::from(p), host.name(&host.path(p))]).collect();
    // proc_pid_mountinfo(5): the fifth field; a blank in it is an escape, which none of these places has.
    !table.lines().filter_map(|l| l.split(' ').nth(4)).any(|at| places.iter().any(|p| Path::new(at).starts_with(p)))
}

/// The file is the one that modprobe takes, is as old as the boot, and is what the kernel holds; so is each module that it needs.
fn is_loaded(since: &Boot, target: &Target, module: &ModuleEvidence) -> bool {
    let Some(path) = &module.path else { return true };
    let needs = target.dependencies(&module.name);
    target.module_file(&module.name).as_ref() == Some(path)
        && std::iter::once(path).chain(&needs).all(|p| since.is_unchanged(p) && is_in_the_kernel(since.host, p))
}

/// The build id of the module that the kernel holds, if it shows one.
pub(super) fn loaded_build(host: &Host, name: &str) -> Option<Vec<u8>> {
    let note = host.read(Path::new("/sys/module").join(name).join("notes/.note.gnu.build-id")).ok()?;
    build_id(&note).map(<[u8]>::to_vec)
}

/// By what the kernel shows of the module that it holds: the linker's digest, else that of the sources; and that it was not
/// loaded by force, which no boot does.
fn is_in_the_kernel(host: &Host, path: &Path) -> bool {
    let Some(file) = host.read(path).ok().and_then(|bytes| Module::read(bytes).ok()) else { return false };
    let dir = Path::new("/sys/module").join(&file.name);
    let text = |name: &str| host.read_text(dir.join(name)).ok().map(|t| t.trim().to_owned()).filter(|t| !t.is_empty());
    let forced = match host.read_text(dir.join("taint")) {
        Ok(taint) => Some(taint.contains('F')),
        // Before Linux 3.3 no module has its own.
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
        // Both were made without.
        (None, None) => host.is_dir(&dir) && note.is_none() && file.srcversion.is_some() && text("srcversion").is_some(),
        _ => false,
    };
    forced == Some(false) && same && told("srcversion", &file.srcversion) && told("version", &file.version)
}

/// What an ELF note of `GNU` holds (elf(5)).
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
    fn an_interface_that_has_the_name_of_a_missing_devices_proves_nothing_of_it() {
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
