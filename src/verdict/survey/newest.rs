//! `newest-not-booting`: the newest installed kernel will never start, although vfguard does not hold it back. Updates are then installed
//! but never run, and nothing else reports that.
//!
//! How distributions do it: 20-grub.install of rhboot/grub2 and new-kernel-pkg of grubby move the default where /etc/sysconfig/kernel says
//! `UPDATEDEFAULT=yes`. update-grub(8) puts the newest kernel first, which a default of 0 follows.

use super::Survey;
use crate::boot::grubenv;
use crate::boot::{self, Candidate, Source};
use crate::finding::{Fact, Finding};
use crate::host::{files, Host};
use crate::kernel::{installed, Kernel, KernelRelease};
use crate::packages::Packages;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// The configuration files of GRUB 2, the most common first.
const CONFIGS: [&str; 2] = ["/boot/grub2/grub.cfg", "/boot/grub/grub.cfg"];
/// Where entries of the Boot Loader Specification may lie.
const ENTRIES: [&str; 4] =
    ["/boot/loader/entries", "/boot/efi/loader/entries", "/efi/loader/entries", "/boot/boot/loader/entries"];
const SYSCONFIG: &str = "/etc/sysconfig/kernel";
const SETTINGS: &str = "/etc/default/grub";

/// Why the kernel never starts.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Why {
    /// The boot loader has no entry for it.
    NoEntry,
    /// Its entry is where the active boot loader does not look.
    Elsewhere(PathBuf),
    /// Entries with another machine-id sort before its own.
    MachineId(String),
    /// The default is saved by name. The second value says why kernel packages do not move it.
    Saved(String, Option<String>),
    /// grub.cfg itself names the default.
    Literal(String, PathBuf),
    /// Another reason, in the words of the boot loader's room.
    Other(String),
}

impl Survey<'_> {
    /// The finding about the newest installed kernel, if it will never start. None while the boot default is held, or where the next boot
    /// is not certain: every kernel that may start is judged then.
    pub(super) fn newest_not_booting(&self) -> Option<(KernelRelease, Finding)> {
        let next = self.next.lasting().filter(|_| self.next.certain && self.wanted.is_none())?;
        let declined = crate::boot::declined::read(self.host);
        let flavour = flavour(&next.kernel);
        let counts = |k: &&Kernel| !declined.iter().any(|d| d.kernel == k.release) && self::flavour(&k.release) == flavour;
        let newest = self.kernels.iter().find(counts).map(|k| &k.release)?;
        let starts = |c: &Candidate| c.kernel == *newest;
        if *newest <= next.kernel || self.next.kernels.iter().any(starts) {
            return None;
        }
        let entry = boot::wanted_entry(self.host, newest);
        let why = why(self.host, self.next.source, next, newest, entry.as_ref());
        let age = installed_since(self.host, newest).map(age).unwrap_or_default();
        let detail = format!("{newest}, the newest installed kernel{age}, will never start: {}", told(&why, next));
        let remedy = remedy(self.host, self.next.source, newest, entry.as_ref(), &why);
        let finding = Finding::new(Fact::NewestNotBooting, detail, remedy);
        Some((newest.clone(), finding))
    }
}

/// The part of a release behind its numbers. A kernel of another kind (rt, debug, cloud) is not a newer one of the same kind.
fn flavour(kernel: &KernelRelease) -> (String, bool) {
    let name = kernel.as_str();
    let parts: Vec<&str> = name.split('-').collect();
    let last = parts.iter().rposition(|p| p.starts_with(|c: char| c.is_ascii_digit())).unwrap_or(0);
    let words = parts[last + 1..].join("-");
    let plus = parts[last].split_once('+').filter(|_| words.is_empty() && last > 0).map_or("", |(_, plus)| plus);
    (format!("{words}{plus}"), name.contains(".rt"))
}

fn why(host: &Host, source: Source, next: &Candidate, newest: &KernelRelease, entry: Option<&Candidate>) -> Why {
    let Some(entry) = entry else {
        return elsewhere(host, next, newest).map_or(Why::NoEntry, Why::Elsewhere);
    };
    let grub = matches!(source, Source::Grub2 | Source::Bls);
    let literal = literal_default(host).filter(|_| grub);
    let saved = saved(host).filter(|_| grub && literal.is_none());
    let named = |saved: &String| next.entry.contains(saved.as_str()) || next.why.contains(saved.as_str());
    if let Some(saved) = saved.filter(named) {
        return Why::Saved(saved, pinned(host));
    }
    if let (Source::Bls, Some(other), Some(own)) = (source, machine_id(&next.entry), machine_id(&entry.entry)) {
        if other != own {
            return Why::MachineId(other.to_owned());
        }
    }
    literal.map_or_else(|| Why::Other(next.why.clone()), |(name, config)| Why::Literal(name, config))
}

/// An entry of the kernel in a directory that the active boot loader does not read.
fn elsewhere(host: &Host, next: &Candidate, newest: &KernelRelease) -> Option<PathBuf> {
    let looks_there = |dir: &&str| host.exists(Path::new(dir).join(format!("{}.conf", next.entry)));
    let is = |name: &Path| name.to_str().is_some_and(|n| n.ends_with(&format!("-{newest}.conf")));
    ENTRIES.into_iter().filter(|dir| !looks_there(dir)).find_map(|dir| {
        let names = host.read_dir(dir).unwrap_or_default();
        names.into_iter().find(|n| is(Path::new(n))).map(|name| Path::new(dir).join(name))
    })
}

/// The 32 digits that an entry's id may begin with (machine-id(5)).
fn machine_id(entry: &str) -> Option<&str> {
    let (id, _) = entry.split_once('-')?;
    (id.len() == 32 && id.bytes().all(|b| b.is_ascii_hexdigit())).then_some(id)
}

/// All existing grub.cfg files, including those on an EFI partition.
fn configs(host: &Host) -> Vec<PathBuf> {
    let vendors = ["/boot/efi/EFI", "/efi/EFI"].into_iter().flat_map(|top| {
        host.read_dir(top).unwrap_or_default().into_iter().map(move |v| Path::new(top).join(v).join("grub.cfg"))
    });
    CONFIGS.into_iter().map(PathBuf::from).chain(vendors).filter(|p| host.is_file(p)).collect()
}

/// The default that GRUB's environment block saves.
fn saved(host: &Host) -> Option<String> {
    let files = configs(host).into_iter().map(|c| c.with_file_name("grubenv"));
    files.into_iter().find_map(|file| {
        let block = files::read_bounded(&host.path(file), grubenv::MAX).ok()?;
        grubenv::get(&block, "saved_entry").filter(|entry| !entry.is_empty())
    })
}

/// The default that a grub.cfg sets itself, and the file.
fn literal_default(host: &Host) -> Option<(String, PathBuf)> {
    configs(host).into_iter().find_map(|c| Some((literal(&host.read_text(&c).ok()?)?, c)))
}

/// A literal default in grub.cfg. It is in the part that 00_header writes, at the top, which then has no saved default.
fn literal(text: &str) -> Option<String> {
    let mut values = text.lines().filter_map(|l| l.trim().strip_prefix("set default=")).map(|v| v.trim_matches(['"', '\'']));
    let value = values.find(|v| !v.contains("next_entry"))?;
    (!value.is_empty() && !value.contains('$')).then(|| value.to_owned())
}

/// Why kernel packages do not move a saved default, although their distribution's would.
fn pinned(host: &Host) -> Option<String> {
    let moves = host.exists("/usr/lib/kernel/install.d/20-grub.install") || host.exists("/sbin/new-kernel-pkg");
    let Ok(text) = host.read_text(SYSCONFIG) else {
        return moves.then(|| format!("{SYSCONFIG} is not there"));
    };
    let value = text.lines().rev().find_map(|l| l.trim().strip_prefix("UPDATEDEFAULT="));
    match value.map(|v| v.trim_matches(['"', '\''])) {
        Some("yes") => None,
        Some(other) => Some(format!("UPDATEDEFAULT={other} in {SYSCONFIG}")),
        None => Some(format!("{SYSCONFIG} does not say UPDATEDEFAULT=yes")),
    }
}

fn told(why: &Why, next: &Candidate) -> String {
    let boots = &next.kernel;
    match why {
        Why::NoEntry => format!("the boot loader has no entry for it ({boots} boots)"),
        Why::Elsewhere(path) => {
            format!("its entry is {}, where the boot loader in charge does not look ({boots} boots)", path.display())
        }
        Why::MachineId(id) => format!("entries of another machine-id ({id}) sort first, so {boots} boots"),
        Why::Saved(entry, None) => format!("the boot default is saved as {entry:?}"),
        Why::Saved(entry, Some(pinned)) => format!("the boot default is saved as {entry:?}, and {pinned}"),
        Why::Literal(value, config) if value.bytes().all(|b| b.is_ascii_digit() || b == b'>') => {
            format!("{} names the boot default by its number, {value:?}, which is {boots}", config.display())
        }
        Why::Literal(value, config) => format!("{} itself names the boot default, {value:?}", config.display()),
        Why::Other(why) => format!("{boots} boots: {why}"),
    }
}

/// A one-line command that makes the kernel boot. If it has an entry, the command first checks that it is safe.
fn remedy(host: &Host, source: Source, newest: &KernelRelease, entry: Option<&Candidate>, why: &Why) -> String {
    let packages = Packages::of(host);
    let config = configs(host).into_iter().next().unwrap_or_else(|| CONFIGS[0].into());
    let mkconfig = match packages {
        Some(Packages::Apt) => "update-grub".to_owned(),
        Some(Packages::Dnf | Packages::Yum) | None => format!("grub2-mkconfig -o {}", config.display()),
    };
    let image = installed::image(host, newest).unwrap_or_else(|| format!("/boot/vmlinuz-{newest}").into());
    let Some(entry) = entry else {
        return match source {
            Source::Bls | Source::SystemdBoot => format!("kernel-install add {newest} {}", image.display()),
            Source::GrubLegacy => format!("new-kernel-pkg --package kernel --install {newest}"),
            Source::Grub2 | Source::Unknown => mkconfig,
        };
    };
    let name = shell(&entry.entry);
    let default = match (source, packages) {
        (Source::SystemdBoot, _) => format!("bootctl set-default {name}"),
        (Source::GrubLegacy, _) | (_, Some(Packages::Dnf | Packages::Yum)) => {
            format!("grubby --set-default={}", image.display())
        }
        // The first entry is the newest kernel's, also after each update.
        (_, Some(Packages::Apt)) => format!("{} && {mkconfig}", setting(host, "0")),
        (_, None) => format!("grub2-set-default {name}"),
    };
    let literal = matches!(source, Source::Grub2 | Source::Bls) && literal_default(host).is_some();
    let act = match (why, packages) {
        (_, Some(Packages::Dnf | Packages::Yum) | None) if literal => {
            format!("{} && {mkconfig} && {default}", setting(host, "saved"))
        }
        (Why::Saved(_, Some(_)), Some(Packages::Dnf | Packages::Yum)) if updates_default(host) => {
            format!("sed -i 's/^UPDATEDEFAULT=.*/UPDATEDEFAULT=yes/' {SYSCONFIG} && {default}")
        }
        _ => default,
    };
    format!("vfguard check {newest} && {act}")
}

fn updates_default(host: &Host) -> bool {
    host.read_text(SYSCONFIG).is_ok_and(|t| t.lines().any(|l| l.starts_with("UPDATEDEFAULT=")))
}

/// The command that sets GRUB_DEFAULT in the file that decides.
fn setting(host: &Host, value: &str) -> String {
    let dir = Path::new(SETTINGS).with_extension("d");
    let mut names = host.read_dir(&dir).unwrap_or_default();
    names.sort_by(|a, b| b.cmp(a));
    let drop_ins = names.into_iter().map(|n| dir.join(n)).filter(|p| p.extension().is_some_and(|e| e == "cfg"));
    let says = |file: &PathBuf| host.read_text(file).is_ok_and(|t| t.lines().any(|l| l.starts_with("GRUB_DEFAULT=")));
    match drop_ins.chain([SETTINGS.into()]).find(says) {
        Some(file) => format!("sed -i 's/^GRUB_DEFAULT=.*/GRUB_DEFAULT={value}/' {}", file.display()),
        None => format!("echo GRUB_DEFAULT={value} >>{SETTINGS}"),
    }
}

/// Quotes a word for the shell.
fn shell(word: &str) -> String {
    format!("'{}'", word.replace('\'', "'\\''"))
}

/// When the kernel was installed: the time of dpkg's list of its files, or the creation of its module directory, whichever is earlier.
/// Later times do not count, since depmod and the package's build change them.
fn installed_since(host: &Host, kernel: &KernelRelease) -> Option<SystemTime> {
    let dpkg = format!("/var/lib/dpkg/info/linux-image-{kernel}.list");
    let list = host.metadata(dpkg).ok().and_then(|m| m.modified().ok());
    let made = host.metadata(installed::modules_dir(kernel)).ok().and_then(|m| m.created().ok());
    list.into_iter().chain(made).min()
}

fn age(since: SystemTime) -> String {
    match SystemTime::now().duration_since(since).map_or(0, |time| time.as_secs() / 86400) {
        0 => ", installed today".into(),
        1 => ", installed 1 day ago".into(),
        days => format!(", installed {days} days ago"),
    }
}

#[cfg(test)]
#[path = "newest_tests.rs"]
mod tests;
