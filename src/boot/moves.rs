//! Moving a boot loader's default, natively: GRUB's environment file in place, GRUB legacy's `default=`, systemd-boot's
//! `default` or variable. Each move can be undone byte by byte.

use super::choose::{efi_config, Loader};
use super::flush::settle;
use super::script::Choice;
use super::{efi, grub2, grubenv, image, legacy, systemd_boot, Candidate, NextBoot, Role, Source};
use crate::error::{advise, Remedy};
use crate::host::{failpoint, files, Host};
use crate::kernel::KernelRelease;
use anyhow::{Context, Result};
use std::fs::File;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The variables in GRUB's environment that say a hold is on, and what would boot without it, should its record be lost or never
/// have been written (a full disk). GRUB does not know them.
pub const MARK: &str = "vfguard_hold";
const MARK_WANTED: &str = "vfguard_wanted";
/// The default that a hold took the place of, where the shell of vfguard-fail-closed.service held: it knows entries and no kernels.
const MARK_ENTRY: &str = "vfguard_entry";
/// grub-editenv reads and writes within a few milliseconds.
const OVERTAKEN: Duration = Duration::from_millis(50);
/// The same in text files: the held kernel, then the wanted one.
const COMMENT: &str = "# vfguard-hold ";

/// What was changed, as it was.
pub(super) enum Undo {
    /// A file that was replaced; none where there was none.
    File { path: PathBuf, before: Option<Vec<u8>> },
    /// GRUB's environment file.
    Env { path: PathBuf, before: Vec<u8>, after: Vec<u8> },
    /// A variable of systemd-boot, with its attributes.
    Variable { choice: efi::Choice, before: Option<Vec<u8>> },
}

impl Undo {
    /// Puts it back, the way it was changed.
    pub(super) fn undo(self, host: &Host) -> Result<()> {
        match self {
            Undo::File { path, before: None } => files::remove(&path).map(|_| ()),
            Undo::File { path, before: Some(bytes) } => replace(host, &path, &bytes),
            Undo::Env { path, before, after } => {
                let now = grubenv::read(&path).with_context(|| format!("reading {}", path.display()))?;
                if now == after {
                    return write_in_place(&path, &before);
                }
                // Another tool wrote since; what it wrote stays.
                let ours = grubenv::differing(&after, &before);
                let ours: Vec<_> = ours.iter().map(|(name, value)| (name.as_str(), value.as_deref())).collect();
                write_in_place(&path, &grubenv::edit(&now, &ours)?)
            }
            Undo::Variable { choice, before } => choice.put(host, before),
        }
    }

    /// Whether another tool has written since, from what it had read before our write: then that is lost. Looked at after a moment,
    /// in which such a tool comes to its end.
    pub(super) fn overtaken(&self) -> bool {
        match self {
            Undo::Env { path, after, .. } => {
                std::thread::sleep(OVERTAKEN);
                grubenv::read(path).map_or(true, |now| now != *after)
            }
            // Nothing reads these, changes what it read and writes it back.
            Undo::File { .. } | Undo::Variable { .. } => false,
        }
    }
}

/// A hold as a loader's own files tell it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    /// The kernel that the default is held on.
    pub held: String,
    /// The kernel that would boot without the hold, where the mark says so.
    pub wanted: Option<KernelRelease>,
}

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
            Purpose::Hold(Some(wanted)) => Some(format!("{COMMENT}{held} {wanted}\n")),
            Purpose::Hold(None) => Some(format!("{COMMENT}{held}\n")),
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
    Bootctl,
}

/// A move that is worked out and not made yet.
pub(super) struct Plan {
    /// The file as it lies on the disk; the entry's id for bootctl.
    pub at: PathBuf,
    pub way: Way,
    before: Option<Vec<u8>>,
    /// What has to stand there; for bootctl what the variable holds then.
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

/// Makes a move.
pub(super) fn make(host: &Host, plan: Plan) -> Result<Undo> {
    let Plan { at, way, before, after } = plan;
    match (way, before) {
        (Way::InPlace, Some(before)) => {
            if before != after {
                write_in_place(&at, &after)?;
            }
            Ok(Undo::Env { path: at, before, after })
        }
        (Way::InPlace | Way::Replace, before) => {
            replace(host, &at, &after)?;
            Ok(Undo::File { path: at, before })
        }
        (Way::Bootctl, before) => {
            efi::Choice::Default.put(host, Some(after))?;
            Ok(Undo::Variable { choice: efi::Choice::Default, before })
        }
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
    let changes = [
        ("saved_entry", Some(choice.selector.as_str())),
        ("prev_saved_entry", None),
        (MARK, held),
        (MARK_WANTED, wanted),
        (MARK_ENTRY, None),
    ];
    plan_env(host, &env_file.unwrap_or_else(|| usual_env(config)), &changes)
}

/// The environment file of a configuration, below the root.
pub(super) fn env_file(host: &Host, config: &Path) -> PathBuf {
    let seen = grub2::resolve(host, config, efi_config(host, config));
    seen.first.env_file.unwrap_or_else(|| usual_env(config))
}

/// Where it is by GRUB's own custom.
fn usual_env(config: &Path) -> PathBuf {
    config.with_file_name("grubenv")
}

/// Edits GRUB's environment file.
pub(super) fn edit_env(host: &Host, config: &Path, changes: &[(&str, Option<&str>)]) -> Result<Undo> {
    plan_env(host, &env_file(host, config), changes).and_then(|plan| make(host, plan))
}

/// Works out an edit of GRUB's environment file: in place, so that GRUB's own block list and a link to it stay true.
fn plan_env(host: &Host, name: &Path, changes: &[(&str, Option<&str>)]) -> Result<Plan> {
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

fn write_in_place(path: &Path, block: &[u8]) -> Result<()> {
    let file = File::options().write(true).open(path).with_context(|| format!("opening {}", path.display()))?;
    failpoint::hit("grubenv-before-write");
    // One write of one or two sectors of the same size: the file never changes its length or its blocks.
    file.write_all_at(block, 0).with_context(|| format!("writing {}", path.display()))?;
    failpoint::hit("grubenv-before-sync");
    file.sync_all().with_context(|| format!("syncing {}", path.display()))
}

/// Replaces a file of /boot whole, keeping its mode, and makes that visible to a loader that reads no journal.
fn replace(host: &Host, path: &Path, content: &[u8]) -> Result<()> {
    let mode = std::fs::metadata(path).map_or(0o644, |m| m.permissions().mode() & 0o7777);
    files::write_atomic(path, content, mode)?;
    settle(host, path)
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
        if line.starts_with(COMMENT) {
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
        return Ok(Plan { at: entry.id.clone().into(), way: Way::Bootctl, before: Some(before), after });
    }
    let path = real(host, &top.join("loader/loader.conf"));
    let before = files::read_bounded(&path, 1 << 20).ok();
    let text = String::from_utf8_lossy(before.as_deref().unwrap_or_default()).into_owned();
    let keep = |l: &&str| !l.starts_with(COMMENT) && l.trim_start().split([' ', '\t']).next() != Some("default");
    let mut lines: Vec<String> = text.lines().filter(keep).map(|l| format!("{l}\n")).collect();
    lines.extend(purpose.comment(to));
    lines.push(format!("default {}\n", entry.id));
    Ok(Plan { at: path, way: Way::Replace, before, after: lines.concat().into_bytes() })
}

/// Ends what is set for the next boot only.
pub(super) fn clear_once(host: &Host, loader: &Loader) -> Result<Undo> {
    match loader {
        Loader::Grub2(config) => edit_env(host, config, &[("next_entry", None), ("prev_saved_entry", None)]),
        Loader::Legacy(_) => anyhow::bail!("GRUB legacy has nothing set for one boot"),
        Loader::SystemdBoot(_) => {
            let before = efi::Choice::OneShot.read(host)?;
            efi::Choice::OneShot.put(host, None)?;
            Ok(Undo::Variable { choice: efi::Choice::OneShot, before })
        }
    }
}

/// Takes the mark of a hold away and leaves the default where it is.
pub(super) fn unmark(host: &Host, loader: &Loader) -> Result<()> {
    match loader {
        Loader::Grub2(config) => {
            edit_env(host, config, &[(MARK, None), (MARK_WANTED, None), (MARK_ENTRY, None)]).map(|_| ())
        }
        Loader::Legacy(config) => drop_comment(host, &real(host, config)),
        Loader::SystemdBoot(top) => drop_comment(host, &real(host, &top.join("loader/loader.conf"))),
    }
}

fn drop_comment(host: &Host, path: &Path) -> Result<()> {
    let text = files::read_bounded(path, 4 << 20).with_context(|| format!("reading {}", path.display()))?;
    let lines: Vec<&[u8]> = text.split_inclusive(|b| *b == b'\n').filter(|l| !l.starts_with(COMMENT.as_bytes())).collect();
    let after = lines.concat();
    if after == text {
        Ok(())
    } else {
        replace(host, path, &after)
    }
}

/// GRUB's environment, where that is whole.
fn whole_env(host: &Host, config: &Path) -> Option<Vec<u8>> {
    grubenv::read(&real(host, &env_file(host, config))).ok().filter(|block| grubenv::is_whole(block))
}

/// The hold that a loader's files tell, if one is on.
pub(super) fn marked(host: &Host, loader: &Loader) -> Option<Mark> {
    let comment = |path: &Path| {
        let bytes = files::read_bounded(&host.path(path), 4 << 20).unwrap_or_default();
        let line = bytes.split(|b| *b == b'\n').find_map(|l| l.strip_prefix(COMMENT.as_bytes()).map(<[u8]>::to_vec))?;
        let line = String::from_utf8_lossy(&line).into_owned();
        let mut words = line.split_ascii_whitespace();
        Some(Mark { held: words.next()?.to_owned(), wanted: words.next().and_then(|w| w.parse().ok()) })
    };
    match loader {
        Loader::Grub2(config) => {
            let block = whole_env(host, config)?;
            let held = grubenv::get(&block, MARK).filter(|v| !v.is_empty())?;
            let wanted = grubenv::get(&block, MARK_WANTED).and_then(|w| w.parse().ok());
            let entry = || grubenv::get(&block, MARK_ENTRY).filter(|e| !e.is_empty());
            Some(Mark { held, wanted: wanted.or_else(|| started_by(host, config, &entry()?)) })
        }
        Loader::Legacy(config) => comment(config),
        Loader::SystemdBoot(top) => comment(&top.join("loader/loader.conf")),
    }
}

/// The kernel that the entry of this name or title starts.
fn started_by(host: &Host, config: &Path, entry: &str) -> Option<KernelRelease> {
    let (choices, _) = grub2::survey(host, config, efi_config(host, config));
    let choice = choices.into_iter().find(|c| c.failed.is_none() && (c.selector == entry || c.entry == entry))?;
    image::look(host, choice.image.as_deref()?).release
}

/// What the loader's files say about the default, for telling whether it was moved: none where they cannot be read whole, as while
/// another tool writes them. The second is the name or number that they give the default, if they do.
pub(super) fn named(host: &Host, loader: &Loader) -> Option<(Vec<u8>, Option<String>)> {
    match loader {
        Loader::Grub2(config) => {
            let block = whole_env(host, config)?;
            let name = grubenv::get(&block, "saved_entry").filter(|v| !v.is_empty());
            Some((block, name))
        }
        Loader::Legacy(config) => {
            let text = host.read(config).ok()?;
            let menu = legacy::parse(&String::from_utf8_lossy(&text));
            // Without `default=` it is the first entry.
            let (number, _) = legacy::default(host, config, &menu, &mut NextBoot::new(Source::GrubLegacy));
            (!menu.titles.is_empty()).then(|| (text, Some(number.to_string())))
        }
        Loader::SystemdBoot(top) => {
            let name = match efi::loader_string(host, efi::Choice::Default.name()).ok()? {
                None => systemd_boot::configured(host, top, "default").ok()?,
                set => set,
            };
            Some((name.clone().unwrap_or_default().into_bytes(), name))
        }
    }
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
