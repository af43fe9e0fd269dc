//! Working out how a boot loader's default is moved, and what that would come to; nothing is written here. GRUB's environment file,
//! GRUB legacy's `default=`, systemd-boot's `default` or variable.

use super::choose::{efi_config, Asked, Loader};
use super::script::eval::EnvFiles;
use super::script::Choice;
use super::{efi, grub2, grubenv, image, legacy, mark, systemd_boot, Candidate, NextBoot, Role, Source};
use crate::error::{advise, Remedy};
use crate::host::{files, Host};
use crate::kernel::KernelRelease;
use anyhow::{Context, Result};
use std::path::{Path, PathBuf};

/// What a move of the default is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose<'a> {
    /// A hold, marked with what would boot without it, if that is known.
    Hold(Option<&'a KernelRelease>),
    /// The end of one.
    Promotion,
}

impl Purpose<'_> {
    /// The comment of a text file.
    fn comment(self, held: &KernelRelease) -> Option<String> {
        match self {
            Purpose::Hold(wanted) => Some(mark::comment(held, wanted)),
            Purpose::Promotion => None,
        }
    }
}

/// How a default is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// Over the bytes that are there: same size, same blocks.
    InPlace,
    /// As a new file under the old name.
    Replace,
    /// By bootctl(1), to which `at` is the entry's id: a variable of the firmware.
    Bootctl(efi::Choice),
}

/// A move that is worked out and not made yet.
pub(super) struct Plan {
    /// The file as it lies on the disk; the entry's id for bootctl.
    pub at: PathBuf,
    pub way: Way,
    pub before: Option<Vec<u8>>,
    /// What has to stand there; for bootctl what the variable holds then, with its attributes, and nothing where it goes.
    pub after: Vec<u8>,
}

/// The file that a path really is: links are followed, below the root.
pub(super) fn real(host: &Host, path: &Path) -> PathBuf {
    let real = host.path(path);
    real.canonicalize().unwrap_or(real)
}

/// Works out how `to` becomes the default of a loader. `entry` is preferred among its entries.
pub(super) fn plan(host: &Host, loader: &Loader, to: &KernelRelease, entry: Option<&str>, purpose: Purpose) -> Result<Plan> {
    match loader {
        Loader::Grub2(config) => plan_grub2(host, config, to, entry, purpose),
        Loader::Legacy(config) => plan_legacy(host, config, to, purpose),
        Loader::SystemdBoot(top) => plan_systemd(host, top, to, purpose),
    }
}

/// Works out how what is set for the next boot only ends.
pub(super) fn clear_once(host: &Host, asked: &Asked) -> Result<Plan> {
    match &asked.loader {
        Loader::Grub2(_) => plan_env(host, &asked.env_file, &[("next_entry", None), ("prev_saved_entry", None)]),
        Loader::Legacy(_) => anyhow::bail!("GRUB legacy has nothing set for one boot"),
        Loader::SystemdBoot(_) => {
            let before = efi::Choice::OneShot.read(host)?;
            Ok(Plan { at: PathBuf::new(), way: Way::Bootctl(efi::Choice::OneShot), before, after: Vec::new() })
        }
    }
}

/// What the loader does by the bytes that a move starts from; none where it starts from no file.
pub(super) fn before(host: &Host, loader: &Loader, plan: &Plan) -> Option<NextBoot> {
    let before = plan.before.clone()?;
    Some(preview(host, loader, &Plan { at: plan.at.clone(), way: plan.way, before: None, after: before }))
}

/// What the loader would do once a move is made, worked out in memory: none is made that has no effect.
pub(super) fn preview(host: &Host, loader: &Loader, plan: &Plan) -> NextBoot {
    match loader {
        Loader::Grub2(config) => {
            let variables = grubenv::variables(&plan.after).map(|(variables, _)| variables).unwrap_or_default();
            let env = EnvFiles::from([(host.name(&plan.at), variables)]);
            grub2::resolve_with(host, config, efi_config(host, config), &env).answer
        }
        Loader::Legacy(config) => legacy::resolve_text(host, config, &String::from_utf8_lossy(&plan.after)),
        Loader::SystemdBoot(top) => systemd_boot::resolve_with(host, top, Some(plan)),
    }
}

fn no_entry(to: &KernelRelease) -> anyhow::Error {
    advise(format!("no boot entry starts {to} and can be named"), format!("install the package of {to} again"))
}

fn starts(host: &Host, choice: &Choice, to: &KernelRelease) -> bool {
    choice.failed.is_none() && choice.image.as_deref().is_some_and(|i| image::look(host, i).release.as_ref() == Some(to))
}

/// Whether an entry's command line is for repairing a system.
pub(super) fn is_rescue(cmdline: &str) -> bool {
    const RESCUE: [&str; 6] = ["single", "recovery", "rescue", "emergency", "systemd.unit=rescue.target", "nomodeset"];
    cmdline.split(' ').any(|w| RESCUE.contains(&w))
}

/// The entry by which to name a kernel: not a rescue one, and rather one whose name holds the release, for a name that stays
/// the same when the next kernel comes.
fn pick(host: &Host, choices: &[Choice], to: &KernelRelease, entry: Option<&str>) -> Option<Choice> {
    let usable = choices.iter().filter(|c| !c.selector.is_empty() && starts(host, c, to));
    let rank = |c: &&Choice| {
        let rescue = is_rescue(&c.cmdline);
        let named = c.selector.contains(to.as_str());
        (Some(c.entry.as_str()) != entry, rescue, !named)
    };
    usable.min_by_key(rank).cloned()
}

fn plan_grub2(host: &Host, config: &Path, to: &KernelRelease, entry: Option<&str>, purpose: Purpose) -> Result<Plan> {
    let (choices, env_file) = grub2::survey(host, config, efi_config(host, config));
    let choice = pick(host, &choices, to, entry).ok_or_else(|| no_entry(to))?;
    let (held, wanted) = match purpose {
        Purpose::Hold(wanted) => (Some(to.as_str()), wanted.map(KernelRelease::as_str)),
        Purpose::Promotion => (None, None),
    };
    let [held, wanted, entry] = mark::variables(held, wanted);
    let changes = [("saved_entry", Some(choice.selector.as_str())), ("prev_saved_entry", None), held, wanted, entry];
    plan_env(host, &env_file.unwrap_or_else(|| usual_env(config)), &changes)
}

/// Where it is by GRUB's own custom.
pub(super) fn usual_env(config: &Path) -> PathBuf {
    config.with_file_name("grubenv")
}

/// Works out an edit of GRUB's environment file: in place, so that GRUB's own block list and a link to it stay true.
pub(super) fn plan_env(host: &Host, name: &Path, changes: &[(&str, Option<&str>)]) -> Result<Plan> {
    let at = real(host, name);
    let create = format!("grub2-editenv {} create", name.display());
    if !at.exists() {
        let mut empty = grubenv::SIGNATURE.to_vec();
        empty.resize(grubenv::SIZE, b'#');
        return Ok(Plan { at, way: Way::Replace, before: None, after: grubenv::edit(&empty, changes)? });
    }
    let before = grubenv::read(&at).remedy(format!("reading {}", name.display()), create.clone())?;
    if grubenv::get(&before, "env_block").is_some_and(|v| !v.is_empty()) {
        return Err(advise(
            format!("{} keeps its variables outside the file system (env_block)", name.display()),
            "grub2-editenv - set saved_entry=…, by hand",
        ));
    }
    let after = grubenv::edit(&before, changes)
        .remedy(format!("editing {}", name.display()), format!("rm {}; {create}", name.display()))?;
    Ok(Plan { at, way: Way::InPlace, before: Some(before), after })
}

fn plan_legacy(host: &Host, config: &Path, to: &KernelRelease, purpose: Purpose) -> Result<Plan> {
    let path = real(host, config);
    let before = files::read_bounded(&path, 4 << 20).with_context(|| format!("reading {}", config.display()))?;
    let text = String::from_utf8(before.clone())
        .remedy(format!("{} is no UTF-8", config.display()), format!("write {} anew", config.display()))?;
    let at = (0..legacy::parse(&text).titles.len()).find(|n| {
        let mut answer = NextBoot::new(Source::GrubLegacy);
        legacy::add_number(host, config, &mut answer, &text, *n);
        answer.certain && answer.kernels.iter().any(|c| c.kernel == *to)
    });
    let at = at.ok_or_else(|| no_entry(to))?;
    let mut head = format!("default={at}\n");
    head.insert_str(0, &purpose.comment(to).unwrap_or_default());
    let mut lines: Vec<&str> = Vec::new();
    let mut entries = false;
    let mut placed = None;
    for line in text.split_inclusive('\n') {
        let word = line.trim_start().split([' ', '\t', '=']).next().unwrap_or_default();
        entries |= word == "title";
        if line.starts_with(mark::COMMENT) {
            continue;
        }
        if !entries && word == "default" {
            placed.get_or_insert(lines.len());
            continue;
        }
        lines.push(line);
    }
    lines.insert(placed.unwrap_or(0), &head);
    Ok(Plan { at: path, way: Way::Replace, before: Some(before), after: lines.concat().into_bytes() })
}

fn plan_systemd(host: &Host, top: &Path, to: &KernelRelease, purpose: Purpose) -> Result<Plan> {
    let mut answer = NextBoot::new(Source::SystemdBoot);
    let entries = systemd_boot::entries(host, top, &mut answer);
    let entry = entries.iter().find(|e| systemd_boot::release(host, e).as_ref() == Some(to)).ok_or_else(|| no_entry(to))?;
    // Where the variable is set it counts before loader.conf.
    if let Some(before) = efi::Choice::Default.read(host)? {
        let after = efi::value(&entry.id, Some(&before));
        return Ok(Plan {
            at: entry.id.clone().into(),
            way: Way::Bootctl(efi::Choice::Default),
            before: Some(before),
            after,
        });
    }
    let path = real(host, &top.join("loader/loader.conf"));
    let before = files::read_bounded(&path, 1 << 20).ok();
    let text = String::from_utf8_lossy(before.as_deref().unwrap_or_default()).into_owned();
    let keep = |l: &&str| !l.starts_with(mark::COMMENT) && l.trim_start().split([' ', '\t']).next() != Some("default");
    let mut lines: Vec<String> = text.lines().filter(keep).map(|l| format!("{l}\n")).collect();
    lines.extend(purpose.comment(to));
    lines.push(format!("default {}\n", entry.id));
    Ok(Plan { at: path, way: Way::Replace, before, after: lines.concat().into_bytes() })
}

/// Every entry of the loader that starts a kernel, in the order of its menu.
pub(super) fn menu(host: &Host, loader: &Loader) -> Vec<Candidate> {
    let mut answer = NextBoot::new(Source::Unknown);
    match loader {
        Loader::Grub2(config) => {
            let (choices, _) = grub2::survey(host, config, efi_config(host, config));
            let whole = choices.iter().filter(|c| c.failed.is_none());
            whole.for_each(|c| grub2::add(host, &mut answer, Role::Next, c, ""));
        }
        Loader::Legacy(config) => {
            let text = host.read_text(config).unwrap_or_default();
            (0..legacy::parse(&text).titles.len()).for_each(|n| legacy::add_number(host, config, &mut answer, &text, n));
        }
        Loader::SystemdBoot(top) => {
            let entries = systemd_boot::entries(host, top, &mut answer);
            entries.iter().for_each(|e| systemd_boot::add(host, &mut answer, Role::Next, e, String::new()));
        }
    }
    answer.kernels
}
