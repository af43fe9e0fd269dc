//! GRUB 2. One boot is simulated with the present environment file, and a second one with the environment that the first one left, which
//! reveals a one-shot entry (`next_entry`, `prev_saved_entry`). Sources: rhboot/grub2 (its rhel-7, rhel-8, rhel-9 and fedora branches) and
//! GNU GRUB; `util/grub.d/00_header.in`, `08_fallback_counting.in`, `10_linux.in`.

pub mod bls;
mod custom;
mod loader;
mod mkconfig;
mod pick;
mod rules;
pub mod script;

pub(super) use loader::Grub2;
pub use loader::OR_EDIT;

use super::entry::{candidate, BootEntry};
use super::image;
use super::loader::{Family, Loader};
use super::{BootRole, NextBoot, Source};
use crate::boot::grubenv;
use crate::host::Host;
use crate::kernel::KernelRelease;
use bls::dialect::Dialect;
use rules::{copies_ids, order_of_binary, rules};
use script::embedded::{self, is_program};
use script::eval::EnvFiles;
use script::world::Planned;
use script::{Choice, Machine, Simulated, World};
use std::path::Path;

/// The memory of a word, a variable or an entry in addition to its text, for allocator and tables.
const ITEM: usize = 64;

/// Where GRUB 2 is found: its configuration on BIOS machines and the target of an EFI stub; the modules that grub-install leaves.
pub(super) const FAMILY: Family = Family {
    configs: &["/boot/grub2/grub.cfg", "/boot/grub/grub.cfg"],
    on_efi: |host, directory| embedded::program(host, directory).into_iter().chain([directory.join("grub.cfg")]).collect(),
    installed: |host| {
        // The last one is the module directory of GRUB 1.99.
        let modules =
            |at: &str| ["i386-pc", "x86_64-efi", "normal.mod"].iter().any(|name| host.exists(Path::new(at).join(name)));
        modules("/boot/grub2") || modules("/boot/grub")
    },
    make: |_, configs| configs.into_iter().map(|config| Loader::Grub2(Grub2(config))).collect(),
};

/// The full result of a simulation, for code that moves the default.
pub struct Seen {
    /// The answer.
    pub answer: NextBoot,
    /// The first boot: what starts next.
    pub first: Simulated,
    /// The default after that.
    pub default: Option<String>,
    /// The entry that starts after that.
    pub lasting: Option<Choice>,
    /// Whether GRUB can write its environment file.
    pub writable: bool,
}

/// What boots with this configuration, a path below the root.
pub fn resolve(host: &Host, config: &Path, efi: bool) -> Seen {
    resolve_with(host, config, efi, &Planned::new())
}

/// Like [`resolve`], with files replaced by planned ones.
fn resolve_with(host: &Host, config: &Path, efi: bool, planned: &Planned) -> Seen {
    let (flavor, dialects) = rules(host);
    let unwritable = if is_program(config) { None } else { unwritable(host) };
    let copies_ids = copies_ids(host);
    let simulate = |dialect: &Dialect| {
        let world = World { host, flavor, dialect: *dialect, copies_ids, efi, writable: unwritable.is_none(), planned };
        (dialect.order, simulate(&world, config))
    };
    let (order, mut seen) = simulate(&dialects[0]);
    let agree = |a: &Seen, b: &Seen| releases(&a.answer) == releases(&b.answer);
    // The results rarely differ. If they do, the installed GRUB program decides.
    if seen.first.bls && dialects.len() > 1 {
        let mut all = vec![(order, seen)];
        all.extend(dialects[1..].iter().map(simulate));
        if !all.iter().all(|(_, other)| agree(&all[0].1, other)) {
            if let Some(known) = order_of_binary(host, config).filter(|known| all.iter().any(|(order, _)| order == known)) {
                all.retain(|(order, _)| *order == known);
            }
        }
        let certain = all.iter().all(|(_, other)| agree(&all[0].1, other));
        seen = all.swap_remove(0).1;
        if !certain {
            seen.answer.doubt(
                "GRUBs sort entries, and name those with a boot counter, by rules that differ in what boots here; which of them is installed is not known",
                "name the default by its id: grub2-set-default ID (grubby --set-default /boot/vmlinuz-K; sdbootutil set-default ID)",
            );
        }
    }
    if let (Some(why), true) = (&unwritable, seen.first.once) {
        seen.answer.note(
            format!("GRUB cannot write its environment ({why}), so what is set for one boot stays"),
            format!("{} - unset next_entry", grubenv::tool(config)),
        );
    }
    seen
}

/// Every entry with the kernel that it would start, with files replaced by planned ones.
pub(super) fn survey(host: &Host, config: &Path, efi: bool, planned: &Planned) -> Vec<Choice> {
    let (flavor, dialects) = rules(host);
    let (writable, copies_ids) = (unwritable(host).is_none(), copies_ids(host));
    let world = World { host, flavor, dialect: dialects[0], copies_ids, efi, writable, planned };
    Machine::survey(&world, config).0
}

fn releases(answer: &NextBoot) -> Vec<(&KernelRelease, BootRole)> {
    answer.kernels.iter().map(|c| (&c.kernel, c.role)).collect()
}

fn simulate(world: &World, config: &Path) -> Seen {
    let first = Machine::boot(world, config, EnvFiles::new());
    let from_entries = first.choice.as_ref().map_or(first.bls, |c| c.bls);
    let mut answer = NextBoot::new(if from_entries { Source::Bls } else { Source::Grub2 });
    remarks(&mut answer, &first);
    let ours = |choice: &Choice| is_ours(world, config, choice);
    let mut default = first.default.clone();
    let lasting = if first.once && world.writable {
        let second = Machine::boot(world, config, first.env.clone());
        remarks(&mut answer, &second);
        if let Some(choice) = &first.choice {
            add(world.host, &mut answer, BootRole::Once, choice, &once_reason(&first), &ours);
        }
        default = second.default;
        second.choice
    } else {
        first.choice.clone()
    };
    if let Some(choice) = &lasting {
        add(world.host, &mut answer, BootRole::Next, choice, "", &ours);
    }
    for choice in &first.fallbacks {
        add(world.host, &mut answer, BootRole::Fallback, choice, "", &ours);
    }
    counting(world, config, &first, &mut answer);
    tried(world, config, &first, lasting.as_ref(), &mut answer);
    trying(world, config, &first, &mut answer);
    Seen { answer, first, default, lasting, writable: world.writable }
}

fn remarks(answer: &mut NextBoot, outcome: &Simulated) {
    for remark in &outcome.remarks {
        if remark.doubt {
            answer.doubt(&remark.message, &remark.remedy);
        } else {
            answer.note(&remark.message, &remark.remedy);
        }
    }
}

fn once_reason(first: &Simulated) -> String {
    let file = first.env_file.as_ref().map(|p| format!(" in {}", p.display())).unwrap_or_default();
    format!("for one boot (next_entry or prev_saved_entry{file}); ")
}

/// Adds the entry that starts after failed boots: if `boot_counter` is set and the boots are not marked as good, it runs out and
/// `08_fallback_counting` starts the entry with the number 1.
fn counting(world: &World, config: &Path, first: &Simulated, answer: &mut NextBoot) {
    let counts = |v: &[(String, String)]| v.iter().any(|(n, v)| n == "boot_counter" && !v.is_empty() && v != "-1");
    if !first.env.values().any(|v| counts(v)) {
        return;
    }
    let mut env = first.env.clone();
    for variables in env.values_mut() {
        variables.retain(|(n, _)| n != "boot_counter" && n != "boot_success");
        variables.push(("boot_counter".into(), "0".into()));
        variables.push(("boot_success".into(), "0".into()));
    }
    if let Some(choice) = Machine::boot(world, config, env).choice {
        if !answer.kernels.iter().any(|c| c.entry == choice.entry) {
            let ours = |choice: &Choice| is_ours(world, config, choice);
            add(world.host, answer, BootRole::Fallback, &choice, "once boot_counter has run out; ", &ours);
        }
    }
}

/// Handles a configuration that records a boot without `boot_once`, for example that a slot was tried (RAUC, Mender): unless that is reset,
/// the boot after this one may start something else.
fn trying(world: &World, config: &Path, first: &Simulated, answer: &mut NextBoot) {
    if first.once || !world.writable || !first.env.iter().any(|(file, now)| notes(world, file, now)) {
        return;
    }
    let second = Machine::boot(world, config, first.env.clone());
    let image = |outcome: &Simulated| outcome.choice.as_ref().map(|c| (c.image.clone(), c.cmdline.clone()));
    if image(&second) == image(first) {
        return;
    }
    remarks(answer, &second);
    if let Some(choice) = second.choice.filter(|choice| !answer.kernels.iter().any(|c| c.entry == choice.entry)) {
        let ours = |choice: &Choice| is_ours(world, config, choice);
        add(world.host, answer, BootRole::Fallback, &choice, "unless this boot is marked as good; ", &ours);
    }
}

/// Whether a boot changes anything in its environment beyond its success.
fn notes(world: &World, file: &Path, now: &[(String, String)]) -> bool {
    const OF_ITS_SUCCESS: [&str; 4] = ["boot_success", "boot_indeterminate", "menu_show_once", "recordfail"];
    let block = world.content(file).map(<[u8]>::to_vec).or_else(|| grubenv::read(&world.host.path(file)).ok());
    let before = block.and_then(|block| grubenv::variables(&block).ok()).unwrap_or_default().0;
    let said = |all: &[(String, String)]| {
        let mut said: Vec<_> = all.iter().filter(|(name, _)| !OF_ITS_SUCCESS.contains(&name.as_str())).cloned().collect();
        said.sort();
        said
    };
    said(&before) != said(now)
}

/// Whether the entry's file system belongs to this machine: some entry's image on the same device exists here.
fn is_ours(world: &World, config: &Path, choice: &Choice) -> bool {
    let here = |other: &Choice| {
        other.device == choice.device && other.image.as_deref().and_then(|i| image::locate(world.host, i)).is_some()
    };
    choice.device == image::TREE || Machine::survey(world, config).0.iter().any(here)
}

/// Adds the default that follows once the default's own boot counter has run out.
fn tried(world: &World, config: &Path, first: &Simulated, lasting: Option<&Choice>, answer: &mut NextBoot) {
    let Some((choice, file)) = lasting.and_then(|choice| Some((choice, choice.counted.clone()?))) else { return };
    let mut env = first.env.clone();
    env.insert(file, Vec::new());
    let later = Machine::boot(world, config, env).choice;
    if let Some(other) = later.filter(|other| other.entry != choice.entry) {
        let reason = format!("once {} has no try left; ", choice.entry);
        add(world.host, answer, BootRole::Fallback, &other, &reason, &|choice| is_ours(world, config, choice));
    }
}

const UNRESTRICTED: &str =
    "add --unrestricted to CLASS (and to the submenu) in /etc/grub.d/10_linux, then grub2-mkconfig or update-grub";
const UNUSERED: &str = "take grub_users out of the entry in /boot/loader/entries, and grub2-editenv - unset grub_users";

/// Adds the kernel of an entry that was chosen, or could be.
fn add(host: &Host, answer: &mut NextBoot, role: BootRole, choice: &Choice, reason: &str, ours: &dyn Fn(&Choice) -> bool) {
    if choice.image.is_none() && choice.failed.is_none() {
        // Its kernel is on another partition, for which there is a remark already.
        return;
    }
    let spec = choice.image.clone().unwrap_or_default();
    let why = format!("{reason}{}", choice.why);
    // A missing image is handled by `candidate`.
    let failed = choice.failed.clone().filter(|_| spec.is_empty() || image::locate(host, &spec).is_some());
    candidate(
        host,
        answer,
        BootEntry {
            role,
            entry: choice.entry.clone(),
            why,
            spec,
            cmdline: choice.cmdline.clone(),
            initrds: &choice.initrds,
            failed,
            locked: choice.locked.then_some(if choice.bls { UNUSERED } else { UNRESTRICTED }),
            ours: &|| ours(choice),
        },
    );
}

/// Whether a file is reached by a link from one file system into another. GRUB follows links only inside a file system
/// (`grub-core/fs/fshelp.c`), so a grubenv on the EFI partition does not exist for a grub.cfg in /boot/grub2.
pub(super) fn crosses(host: &Host, path: &Path) -> bool {
    let Ok(real) = host.path(path).canonicalize() else { return false };
    let real = host.name(&real);
    if real == path {
        return false;
    }
    let mounts = host.read_text("/proc/mounts").unwrap_or_default();
    let places: Vec<&str> = mounts.lines().filter_map(|l| l.split(' ').nth(1)).collect();
    let place = |p: &Path| places.iter().filter(|m| p.starts_with(m)).map(|m| m.len()).max();
    place(path) != place(&real)
}

/// Why GRUB cannot write its environment file, if it cannot: it does not write through LVM, RAID, btrfs, ZFS or F2FS
/// (`grub-core/commands/loadenv.c` needs plain blocks on a disk; `disk/diskfilter.c` cannot write).
pub(super) fn unwritable(host: &Host) -> Option<String> {
    let mounts = host.read_text("/proc/mounts").ok()?;
    let find = |place: &str| {
        let mut lines = mounts.lines().rev().map(|l| l.split(' ').collect::<Vec<_>>());
        lines.find(|f| f.len() > 2 && f[1] == place).map(|f| (f[0].to_owned(), f[2].to_owned()))
    };
    let (device, kind) = ["/boot/grub2", "/boot/grub", "/boot", "/"].iter().find_map(|p| find(p))?;
    if matches!(kind.as_str(), "btrfs" | "zfs" | "f2fs") {
        return Some(format!("/boot is {kind}"));
    }
    let layered = device.starts_with("/dev/mapper/") || device.starts_with("/dev/md") || device.starts_with("/dev/dm-");
    layered.then(|| format!("/boot is on {device}"))
}
