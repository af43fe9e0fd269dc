//! What a loader's own files tell of a hold: its mark, should the record be lost or never have been written (a full disk), and where they
//! name a default of their own.

use super::choose::{efi_config, Asked, Loader};
use super::moves::{make, replace};
use super::plan::{plan_env, real};
use super::told::Told;
use super::{efi, grub2, grubenv, image, legacy, systemd_boot, NextBoot, Source};
use crate::host::{files, Host};
use crate::kernel::KernelRelease;
use anyhow::{Context, Result};
use std::path::Path;

/// The variables in GRUB's environment that say a hold is on, and what would boot without it. GRUB does not know them.
pub const MARK: &str = "vfguard_hold";
const MARK_WANTED: &str = "vfguard_wanted";
/// The default that a hold took the place of, where the shell of vfguard-fail-closed.service held: it knows entries and no kernels.
const MARK_ENTRY: &str = "vfguard_entry";
/// The same in text files: the held kernel, then the wanted one.
pub(super) const COMMENT: &str = "# vfguard-hold ";

/// The mark in GRUB's environment, or no mark.
pub(super) fn variables<'a>(held: Option<&'a str>, wanted: Option<&'a str>) -> [(&'static str, Option<&'a str>); 3] {
    [(MARK, held), (MARK_WANTED, wanted), (MARK_ENTRY, None)]
}

/// The mark in a text file: a line of its own.
pub(super) fn comment(held: &KernelRelease, wanted: Option<&KernelRelease>) -> String {
    let wanted = wanted.map(|kernel| format!(" {kernel}")).unwrap_or_default();
    format!("{COMMENT}{held}{wanted}\n")
}

/// The mark of a hold, if there is one.
pub(super) fn read(host: &Host, asked: &Asked) -> Option<Told> {
    match &asked.loader {
        Loader::Grub2(config) => {
            let block = whole_env(host, &asked.env_file)?;
            let held = grubenv::get(&block, MARK)?.parse().ok()?;
            let wanted = grubenv::get(&block, MARK_WANTED).and_then(|w| w.parse().ok());
            let entry = || grubenv::get(&block, MARK_ENTRY).filter(|e| !e.is_empty());
            Some(Told { held, wanted: wanted.or_else(|| started_by(host, config, &entry()?)) })
        }
        Loader::Legacy(config) => in_text(host, config),
        Loader::SystemdBoot(top) => in_text(host, &top.join("loader/loader.conf")),
    }
}

fn in_text(host: &Host, path: &Path) -> Option<Told> {
    let bytes = files::read_bounded(&host.path(path), 4 << 20).unwrap_or_default();
    let line = bytes.split(|b| *b == b'\n').find_map(|l| l.strip_prefix(COMMENT.as_bytes()))?;
    let line = String::from_utf8_lossy(line);
    let mut words = line.split_ascii_whitespace();
    Some(Told { held: words.next()?.parse().ok()?, wanted: words.next().and_then(|w| w.parse().ok()) })
}

/// Takes the mark away and leaves the default where it is.
pub(super) fn drop(host: &Host, asked: &Asked) -> Result<()> {
    match &asked.loader {
        Loader::Grub2(_) => make(host, plan_env(host, &asked.env_file, &variables(None, None))?).map(|_| ()),
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
fn whole_env(host: &Host, env_file: &Path) -> Option<Vec<u8>> {
    grubenv::read(&real(host, env_file)).ok().filter(|block| grubenv::is_whole(block))
}

/// The kernel that the entry of this name or title starts.
fn started_by(host: &Host, config: &Path, entry: &str) -> Option<KernelRelease> {
    let (choices, _) = grub2::survey(host, config, efi_config(host, config));
    let choice = choices.into_iter().find(|c| c.failed.is_none() && (c.selector == entry || c.entry == entry))?;
    image::look(host, choice.image.as_deref()?).release
}

/// What the loader's files say about the default, for telling whether it was moved: none where they cannot be read whole, as while
/// another tool writes them. The second is the name or number that they give the default, if they do.
pub(super) fn named(host: &Host, asked: &Asked) -> Option<(Vec<u8>, Option<String>)> {
    match &asked.loader {
        Loader::Grub2(_) => {
            let block = whole_env(host, &asked.env_file)?;
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
                None => systemd_boot::configured(host, top).ok()?,
                set => set,
            };
            Some((name.clone().unwrap_or_default().into_bytes(), name))
        }
    }
}
