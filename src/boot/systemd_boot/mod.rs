//! systemd-boot (systemd's `src/boot/boot.c`, loader.conf(5), the UAPI group's Boot Loader and Version Format Specifications,
//! systemd.io/BOOT_LOADER_INTERFACE and AUTOMATIC_BOOT_ASSESSMENT).

mod loader;
mod pick;
pub mod uapi;
pub mod uki;

pub(super) use loader::SystemdBoot;

use super::entry::{candidate, leaves, BootEntry};
use super::image::TREE;
use super::steps::plan::{Move, Way};
use super::{efi, BootRole, NextBoot, Source};
use crate::host::{files, Host};
use pick::{matching, select, Ids};
use std::cmp::Ordering;
use std::path::{Path, PathBuf};
use uapi::compare_versions;

/// An entry or loader.conf is below 1 KiB.
const MAX_FILE: u64 = 1 << 20;
/// More entries than any machine has.
const MAX_ENTRIES: usize = 20_000;
/// What all entries together may take: 20,000 of 1 KiB take 20 MB.
const MAX_TOTAL: usize = 64 << 20;

/// An entry of the menu.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LoaderEntry {
    /// The file's name in lower case, without its counter.
    pub id: String,
    /// The file's name as it is, in lower case.
    pub name: String,
    /// `sort-key`.
    pub sort_key: Option<String>,
    /// `machine-id`.
    pub machine_id: String,
    /// `version`.
    pub version: String,
    /// The kernel's file below the root.
    pub image: PathBuf,
    /// `options`.
    pub cmdline: String,
    /// `initrd`, below the root.
    pub initrds: Vec<String>,
    /// The boots left before the entry counts as bad; none if boots are not counted.
    pub tries: Option<u32>,
}

impl LoaderEntry {
    /// The memory that it takes.
    fn size(&self) -> usize {
        let texts = [&self.id, &self.name, &self.machine_id, &self.version, &self.cmdline].map(String::len);
        let initrds = self.initrds.iter().map(|initrd| initrd.len() + size_of::<String>());
        let others = self.image.as_os_str().len() + self.sort_key.as_ref().map_or(0, String::len);
        size_of::<LoaderEntry>() + others + texts.iter().sum::<usize>() + initrds.sum::<usize>()
    }

    /// A pattern that names this entry for every version of systemd-boot: before 259 the counter is a part of an id, and it changes with
    /// each boot.
    fn pattern(&self) -> String {
        match (self.tries, self.id.rsplit_once('.')) {
            (Some(_), Some((stem, suffix))) => format!("{stem}[.+]*{suffix}"),
            _ => self.id.clone(),
        }
    }
}

/// boot.c's `boot_entry_compare`: the entry that comes first is `Less`.
fn compare(a: &LoaderEntry, b: &LoaderEntry) -> Ordering {
    let bad = |e: &LoaderEntry| e.tries == Some(0);
    let mut order = bad(a).cmp(&bad(b)).then(a.sort_key.is_none().cmp(&b.sort_key.is_none()));
    if a.sort_key.is_some() && b.sort_key.is_some() {
        order = order
            .then_with(|| a.sort_key.cmp(&b.sort_key))
            .then_with(|| a.machine_id.cmp(&b.machine_id))
            .then_with(|| compare_versions(&b.version, &a.version));
    }
    order.then_with(|| compare_versions(&b.id, &a.id)).then_with(|| b.tries.cmp(&a.tries))
}

/// Splits `name+LEFT-DONE.conf` into the name without its counter, and the boots that are left.
fn counter(name: &str) -> (String, Option<u32>) {
    let (stem, suffix) = name.rsplit_once('.').map_or((name, ""), |(s, _)| (s, &name[s.len()..]));
    let Some((base, count)) = stem.rsplit_once('+') else { return (name.into(), None) };
    let (left, done) = count.split_once('-').unwrap_or((count, "0"));
    match (left.parse(), done.parse::<u32>()) {
        (Ok(left), Ok(_)) => (format!("{base}{suffix}"), Some(left)),
        _ => (name.into(), None),
    }
}

fn keys(text: &str) -> impl Iterator<Item = (&str, &str)> {
    let lines = text.lines().map(str::trim).filter(|l| !l.starts_with('#'));
    lines.filter_map(|l| l.split_once([' ', '\t'])).map(|(k, v)| (k, v.trim()))
}

fn type1(host: &Host, top: &Path, name: &str, text: &str) -> Option<LoaderEntry> {
    let lower = name.to_lowercase();
    let (id, tries) = counter(&lower);
    let mut entry = LoaderEntry { id, name: lower, tries, ..LoaderEntry::default() };
    let mut image = None;
    let mut cmdline = Vec::new();
    for (key, value) in keys(text) {
        let below = || top.join(value.trim_start_matches('/')).display().to_string();
        match key {
            "linux" | "efi" | "uki" => image = Some(below()),
            "initrd" => entry.initrds.push(format!("({TREE}){}", below())),
            "options" => cmdline.push(value),
            "sort-key" => entry.sort_key = Some(value.into()),
            "machine-id" => entry.machine_id = value.into(),
            "version" => entry.version = value.into(),
            _ => {}
        }
    }
    entry.cmdline = cmdline.join(" ");
    entry.image = image?.into();
    // An entry whose image does not exist is dropped.
    host.is_file(&entry.image).then_some(entry)
}

/// All entries in the order of the menu.
fn entries(host: &Host, top: &Path, answer: &mut NextBoot) -> Vec<LoaderEntry> {
    let mut tops = vec![top.to_owned()];
    let boot = Path::new("/boot");
    if host.path(boot).canonicalize().ok() != host.path(top).canonicalize().ok() {
        tops.push(boot.to_owned());
    }
    let mut found = Found::default();
    for top in tops {
        let directory = top.join("loader/entries");
        for name in listed(host, &directory, ".conf", answer) {
            let path = directory.join(&name);
            match files::read_bounded(&host.path(&path), MAX_FILE) {
                Ok(bytes) => {
                    let entry = type1(host, &top, &name, &String::from_utf8_lossy(&bytes));
                    if !entry.is_none_or(|entry| found.add(entry)) {
                        break;
                    }
                }
                Err(e) => {
                    answer.doubt(format!("reading {}: {e}", path.display()), format!("mend or remove {}", path.display()))
                }
            }
        }
        let directory = top.join("EFI/Linux");
        for name in listed(host, &directory, ".efi", answer) {
            let path = directory.join(&name);
            let sections = uki::sections(host, &path);
            let (id, tries) = counter(&name.to_lowercase());
            let entry = LoaderEntry {
                id,
                name: name.to_lowercase(),
                tries,
                sort_key: sections.sort_key,
                version: sections.version,
                image: path,
                cmdline: sections.cmdline,
                ..LoaderEntry::default()
            };
            if !found.add(entry) {
                break;
            }
        }
    }
    if found.too_many {
        answer.doubt(
            format!("there are more than {MAX_ENTRIES} boot entries, or they take more than {} MiB", MAX_TOTAL >> 20),
            "remove old entries (bootctl list)",
        );
    }
    found.entries.sort_by(compare);
    found.entries
}

/// The entries that were found.
#[derive(Default)]
struct Found {
    entries: Vec<LoaderEntry>,
    taken: usize,
    too_many: bool,
}

impl Found {
    /// Returns whether there was room for it.
    fn add(&mut self, entry: LoaderEntry) -> bool {
        self.taken += entry.size();
        self.too_many |= self.taken > MAX_TOTAL || self.entries.len() == MAX_ENTRIES;
        if !self.too_many {
            self.entries.push(entry);
        }
        !self.too_many
    }
}

fn listed(host: &Host, directory: &Path, suffix: &str, answer: &mut NextBoot) -> Vec<String> {
    match host.read_dir(directory) {
        Ok(names) => {
            let names = names.into_iter().filter_map(|n| n.into_string().ok());
            names.filter(|n| !n.starts_with('.') && n.to_lowercase().ends_with(suffix)).collect()
        }
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Vec::new(),
        Err(e) => {
            answer.doubt(
                format!("reading {}: {e}", directory.display()),
                format!("make {} a readable directory", directory.display()),
            );
            Vec::new()
        }
    }
}

/// The default that loader.conf names.
fn configured(host: &Host, top: &Path) -> Result<Option<String>, String> {
    conf(host, top).map(|text| setting(&text, "default"))
}

/// loader.conf; empty where there is none.
fn conf(host: &Host, top: &Path) -> Result<String, String> {
    let path = top.join("loader/loader.conf");
    match files::read_bounded(&host.path(&path), MAX_FILE) {
        Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
        Err(e) => Err(format!("reading {}: {e}", path.display())),
    }
}

/// The value of a key in loader.conf.
fn setting(conf: &str, key: &str) -> Option<String> {
    keys(conf).filter(|(k, _)| *k == key).last().map(|(_, v)| v.to_owned()).filter(|value| !value.is_empty())
}

/// The files that an answer depends on, besides the firmware's variables.
fn files(top: &Path) -> Vec<PathBuf> {
    let of = |top: &Path| ["loader/loader.conf", "loader/entries", "EFI/Linux"].map(|name| top.join(name));
    [of(top), of(Path::new("/boot"))].concat()
}

/// What boots with this EFI system partition, as it is or with a move applied.
fn resolve_with(host: &Host, top: &Path, plan: Option<&Move>) -> NextBoot {
    let mut answer = NextBoot::new(Source::SystemdBoot);
    let entries = entries(host, top, &mut answer);
    if entries.is_empty() {
        answer.doubt(format!("systemd-boot finds no entry in {}", top.display()), "kernel-install add-all");
        return answer;
    }
    let mut read = |what: Result<Option<String>, String>| {
        what.unwrap_or_else(|message| {
            answer.doubt(message, "bootctl status");
            None
        })
    };
    let step = |way| plan.and_then(|plan| plan.steps.iter().find(|step| step.way == way));
    let mut variable = |choice: efi::Choice| match step(Way::Bootctl(choice)) {
        Some(step) => {
            let value = step.after.as_deref().and_then(|after| after.get(4..));
            value.map(efi::utf16).filter(|value| !value.is_empty())
        }
        None => read(efi::loader_string(host, choice.name())),
    };
    let (once, default) = (variable(efi::Choice::OneShot), variable(efi::Choice::Default));
    let conf = match step(Way::Replace) {
        Some(step) => String::from_utf8_lossy(step.after.as_deref().unwrap_or_default()).into_owned(),
        None => read(conf(host, top).map(Some)).unwrap_or_default(),
    };
    let sources = [("LoaderEntryDefault", default), ("default in loader.conf", setting(&conf, "default"))];
    let preferred = [read(efi::loader_string(host, "LoaderEntryPreferred")), setting(&conf, "preferred")];
    let last = read(efi::loader_string(host, "LoaderEntryLastBooted"));
    let ids = Ids::of(read(efi::loader_string(host, "LoaderInfo")).as_deref());
    let once_by = |ids| once.as_deref().and_then(|id| matching(&entries, id, ids));
    let next_by = |ids| select(&entries, &sources, last.as_deref(), ids);
    let first: Vec<_> = ids.ways().map(|ids| (once_by(ids), next_by(ids).map(|(entry, _)| entry))).collect();
    if first.windows(2).any(|pair| pair[0] != pair[1]) {
        answer.doubt(
            "a default or one-shot names an entry whose boots are counted, and whether it means it depends on the version of systemd-boot",
            "bootctl set-default PATTERN, with one that matches the file's name with and without its counter (NAME[.+]*conf)",
        );
    }
    if let Some(entry) = once_by(ids) {
        add(host, &mut answer, BootRole::Once, entry, "LoaderEntryOneShot names it".into());
    }
    if let Some((entry, why)) = next_by(ids) {
        add(host, &mut answer, BootRole::Next, entry, why);
        // systemd 260 and later look at the preferred entry of the variable and of loader.conf first, skipping entries without a try left;
        // earlier versions know neither.
        let good: Vec<LoaderEntry> = entries.iter().filter(|e| e.tries != Some(0)).cloned().collect();
        let other = preferred.iter().flatten().find_map(|p| matching(&good, p, Ids::Plain)).filter(|p| p.name != entry.name);
        if let Some(other) = other {
            answer.doubt(
                format!(
                    "{} is preferred (LoaderEntryPreferred or loader.conf), which systemd-boot follows since 260",
                    other.id
                ),
                "bootctl set-preferred '', and take preferred out of loader.conf",
            );
        }
        if entry.tries.is_some() {
            let mut later = entries.clone();
            later.iter_mut().filter(|e| e.name == entry.name).for_each(|e| e.tries = Some(0));
            later.sort_by(compare);
            if let Some((other, why)) = select(&later, &sources, last.as_deref(), ids).filter(|(o, _)| o.name != entry.name)
            {
                let why = format!("once {} has no try left; {why}", entry.name);
                add(host, &mut answer, BootRole::Fallback, other, why);
            }
        }
    }
    answer
}

/// The release that an entry starts.
fn release(host: &Host, entry: &LoaderEntry) -> Option<crate::kernel::KernelRelease> {
    if entry.image.extension().is_some_and(|e| e.eq_ignore_ascii_case("efi")) {
        if let Some(release) = uki::release(host, &entry.image) {
            return Some(release);
        }
    }
    super::image::look(host, &format!("({TREE}){}", entry.image.display())).release
}

/// Adds what an entry starts.
fn add(host: &Host, answer: &mut NextBoot, role: BootRole, entry: &LoaderEntry, why: String) {
    let spec = format!("({TREE}){}", entry.image.display());
    if entry.image.extension().is_some_and(|e| e.eq_ignore_ascii_case("efi")) {
        if let Some(kernel) = release(host, entry) {
            let (entry, cmdline) = (entry.id.clone(), entry.cmdline.clone());
            let stops = leaves(host, &kernel);
            answer.kernels.push(super::Candidate {
                kernel,
                role,
                entry,
                why,
                cmdline,
                initrds: Vec::new(),
                unified: true,
                absent: false,
                stops,
            });
            return;
        }
    }
    let named = BootEntry {
        role,
        entry: entry.id.clone(),
        why,
        spec,
        cmdline: entry.cmdline.clone(),
        initrds: &entry.initrds,
        failed: None,
        locked: None,
        ours: &|| false,
    };
    candidate(host, answer, named);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_counter_is_not_part_of_the_id() {
        assert_eq!(counter("a-6.1+3-1.conf"), ("a-6.1.conf".into(), Some(3)));
        assert_eq!(counter("a-6.1+0-3.conf"), ("a-6.1.conf".into(), Some(0)));
        assert_eq!(counter("a-6.1.0+deb12.conf"), ("a-6.1.0+deb12.conf".into(), None));
    }

    fn entry() -> impl Strategy<Value = LoaderEntry> {
        ("[a-c0-2.~^-]{0,6}", proptest::option::of("[ab]"), "[ab]", "[0-2.~a]{0,4}", proptest::option::of(0u32..3)).prop_map(
            |(id, sort_key, machine_id, version, tries)| LoaderEntry {
                id,
                sort_key,
                machine_id,
                version,
                tries,
                ..LoaderEntry::default()
            },
        )
    }

    proptest! {
        #[test]
        fn the_order_of_the_menu_is_total(a in entry(), b in entry(), c in entry()) {
            prop_assert_eq!(compare(&a, &b), compare(&b, &a).reverse());
            if compare(&a, &b) != Ordering::Greater && compare(&b, &c) != Ordering::Greater {
                prop_assert_ne!(compare(&a, &c), Ordering::Greater);
            }
        }
    }
}
