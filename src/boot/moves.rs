//! Moving a boot loader's default, natively: GRUB's environment file in place, GRUB legacy's `default=`, systemd-boot's
//! `default` or variable. Each move can be undone byte by byte.

use super::choose::{efi_config, Loader};
use super::script::Choice;
use super::{efi, grub2, grubenv, image, legacy, systemd_boot, Candidate, NextBoot, Role, Source};
use crate::error::{advise, Remedy};
use crate::host::command::{run_ok, Spec};
use crate::host::{failpoint, files, sys, Host};
use crate::kernel::KernelRelease;
use anyhow::{Context, Result};
use std::fs::File;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The variable in GRUB's environment that says a hold is on, should its record be lost. GRUB does not know it.
pub const MARK: &str = "vfguard_hold";
/// The same in text files.
const COMMENT: &str = "# vfguard-hold ";
/// bootctl writes one variable.
const BOOTCTL_LIMIT: Duration = Duration::from_secs(30);

/// A changed file as it was.
pub(super) struct Undo {
    path: PathBuf,
    before: Option<Vec<u8>>,
    in_place: bool,
}

impl Undo {
    /// Puts the file back.
    pub(super) fn undo(self, host: &Host) -> Result<()> {
        match self.before {
            None => files::remove(&self.path).map(|_| ()),
            Some(bytes) if self.in_place => write_in_place(&self.path, &bytes),
            Some(bytes) => replace(host, &self.path, &bytes),
        }
    }
}

/// The file that a path really is: links are followed, below the root.
pub(super) fn real(host: &Host, path: &Path) -> PathBuf {
    let real = host.path(path);
    real.canonicalize().unwrap_or(real)
}

/// Makes `to` the default of a loader; `held` marks a hold (or ends it). `entry` is preferred among its entries.
pub(super) fn set(host: &Host, loader: &Loader, to: &KernelRelease, entry: Option<&str>, held: bool) -> Result<Undo> {
    match loader {
        Loader::Grub2(config) => set_grub2(host, config, to, entry, held),
        Loader::Legacy(config) => set_legacy(host, config, to, held),
        Loader::SystemdBoot(top) => set_systemd(host, top, to, held),
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

fn set_grub2(host: &Host, config: &Path, to: &KernelRelease, entry: Option<&str>, held: bool) -> Result<Undo> {
    let choices = grub2::survey(host, config, efi_config(host, config));
    let choice = pick(host, &choices, to, entry).ok_or_else(|| no_entry(to))?;
    let mark = held.then_some(to.as_str());
    edit_env(host, config, &[("saved_entry", Some(&choice.selector)), ("prev_saved_entry", None), (MARK, mark)])
}

/// The environment file of a configuration, below the root.
pub(super) fn env_file(host: &Host, config: &Path) -> PathBuf {
    let seen = grub2::resolve(host, config, efi_config(host, config));
    seen.first.env_file.unwrap_or_else(|| config.with_file_name("grubenv"))
}

/// Edits GRUB's environment file in place, so that GRUB's own block list and a link to it stay true.
pub(super) fn edit_env(host: &Host, config: &Path, changes: &[(&str, Option<&str>)]) -> Result<Undo> {
    let name = env_file(host, config);
    let path = real(host, &name);
    let create = format!("grub2-editenv {} create", name.display());
    if !path.exists() {
        let mut empty = grubenv::SIGNATURE.to_vec();
        empty.resize(grubenv::SIZE, b'#');
        let block = grubenv::edit(&empty, changes)?;
        files::write_atomic(&path, &block, 0o600)?;
        settle(host, &path)?;
        return Ok(Undo { path, before: None, in_place: true });
    }
    let before = files::read_bounded(&path, grubenv::MAX).remedy(format!("reading {}", name.display()), create.clone())?;
    if grubenv::get(&before, "env_block").is_some_and(|v| !v.is_empty()) {
        return Err(advise(
            format!("{} keeps its variables outside the file system (env_block)", name.display()),
            "grub2-editenv - set saved_entry=…, by hand",
        ));
    }
    let after = grubenv::edit(&before, changes)
        .remedy(format!("editing {}", name.display()), format!("rm {}; {create}", name.display()))?;
    if after != before {
        write_in_place(&path, &after).with_context(|| format!("writing {}", name.display()))?;
    }
    Ok(Undo { path, before: Some(before), in_place: true })
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

/// Makes a change below /boot durable for GRUB: freeze and thaw where /boot is a file system of its own, else a sync of it.
pub fn settle(host: &Host, path: &Path) -> Result<()> {
    use std::os::unix::fs::MetadataExt;
    let directory = path.parent().unwrap_or(Path::new("/"));
    let open = File::open(directory).with_context(|| format!("opening {}", directory.display()))?;
    if host.is_live() && open.metadata()?.dev() != std::fs::metadata("/")?.dev() {
        match sys::freeze_and_thaw(&open) {
            Ok(()) => return Ok(()),
            // vfat cannot be frozen on older kernels, and has no journal either.
            Err(
                nix::errno::Errno::EOPNOTSUPP
                | nix::errno::Errno::ENOTTY
                | nix::errno::Errno::EBUSY
                | nix::errno::Errno::EPERM,
            ) => {}
            Err(e) => return Err(e).with_context(|| format!("freezing the file system of {}", directory.display())),
        }
    }
    match nix::unistd::syncfs(&open) {
        // Before Linux 2.6.39 there is no way to name one file system.
        Err(nix::errno::Errno::ENOSYS) => {
            nix::unistd::sync();
            Ok(())
        }
        result => result.with_context(|| format!("syncing the file system of {}", directory.display())),
    }
}

fn set_legacy(host: &Host, config: &Path, to: &KernelRelease, held: bool) -> Result<Undo> {
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
    if held {
        head.insert_str(0, &format!("{COMMENT}{to}\n"));
    }
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
    replace(host, &path, lines.concat().as_bytes())?;
    Ok(Undo { path, before: Some(before), in_place: false })
}

fn set_systemd(host: &Host, top: &Path, to: &KernelRelease, held: bool) -> Result<Undo> {
    let mut answer = NextBoot::new(Source::SystemdBoot);
    let entries = systemd_boot::entries(host, top, &mut answer);
    let entry = entries.iter().find(|e| systemd_boot::release(host, e).as_ref() == Some(to)).ok_or_else(|| no_entry(to))?;
    let variable = host.path(efi::loader_path("LoaderEntryDefault"));
    if variable.exists() {
        let before = files::read_bounded(&variable, 64 << 10).context("reading LoaderEntryDefault")?;
        if host.is_live() {
            // efivarfs guards its files by a flag; bootctl knows how to lift it.
            run_ok(&Spec::new("bootctl", ["set-default", entry.id.as_str()], BOOTCTL_LIMIT))?;
        } else {
            let mut value = before.get(..4).unwrap_or(&[7, 0, 0, 0]).to_vec();
            value.extend(entry.id.encode_utf16().chain([0]).flat_map(u16::to_le_bytes));
            files::write_atomic(&variable, &value, 0o644)?;
        }
        return Ok(Undo { path: variable, before: Some(before), in_place: host.is_live() });
    }
    let path = real(host, &top.join("loader/loader.conf"));
    let before = files::read_bounded(&path, 1 << 20).ok();
    let text = String::from_utf8_lossy(before.as_deref().unwrap_or_default()).into_owned();
    let keep = |l: &&str| !l.starts_with(COMMENT) && l.trim_start().split([' ', '\t']).next() != Some("default");
    let mut lines: Vec<String> = text.lines().filter(keep).map(|l| format!("{l}\n")).collect();
    if held {
        lines.push(format!("{COMMENT}{to}\n"));
    }
    lines.push(format!("default {}\n", entry.id));
    replace(host, &path, lines.concat().as_bytes())?;
    Ok(Undo { path, before, in_place: false })
}

/// Ends what is set for the next boot only.
pub(super) fn clear_once(host: &Host, loader: &Loader) -> Result<Undo> {
    match loader {
        Loader::Grub2(config) => edit_env(host, config, &[("next_entry", None), ("prev_saved_entry", None)]),
        Loader::Legacy(_) => anyhow::bail!("GRUB legacy has nothing set for one boot"),
        Loader::SystemdBoot(_) => {
            let path = host.path(efi::loader_path("LoaderEntryOneShot"));
            let before = files::read_bounded(&path, 64 << 10).context("reading LoaderEntryOneShot")?;
            if host.is_live() {
                run_ok(&Spec::new("bootctl", ["set-oneshot", ""], BOOTCTL_LIMIT))?;
            } else {
                files::remove(&path)?;
            }
            Ok(Undo { path, before: Some(before), in_place: false })
        }
    }
}

/// Takes the mark of a hold away and leaves the default where it is.
pub(super) fn unmark(host: &Host, loader: &Loader) -> Result<()> {
    match loader {
        Loader::Grub2(config) => edit_env(host, config, &[(MARK, None)]).map(|_| ()),
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

/// The kernel that a loader's files say the default is held on, if a hold is on.
pub(super) fn marked(host: &Host, loader: &Loader) -> Option<String> {
    let comment = |path: &Path| {
        let bytes = files::read_bounded(&host.path(path), 4 << 20).unwrap_or_default();
        let line = bytes.split(|b| *b == b'\n').find_map(|l| l.strip_prefix(COMMENT.as_bytes()).map(<[u8]>::to_vec));
        line.map(|l| String::from_utf8_lossy(&l).trim().to_owned())
    };
    match loader {
        Loader::Grub2(config) => {
            let block = files::read_bounded(&real(host, &env_file(host, config)), grubenv::MAX).unwrap_or_default();
            grubenv::get(&block, MARK).filter(|v| !v.is_empty())
        }
        Loader::Legacy(config) => comment(config),
        Loader::SystemdBoot(top) => comment(&top.join("loader/loader.conf")),
    }
}

/// Every entry of the loader that starts a kernel, in the order of its menu.
pub(super) fn menu(host: &Host, loader: &Loader) -> Vec<Candidate> {
    let mut answer = NextBoot::new(Source::Unknown);
    match loader {
        Loader::Grub2(config) => {
            let choices = grub2::survey(host, config, efi_config(host, config));
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
