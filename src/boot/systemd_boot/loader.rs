//! systemd-boot's default. It is moved by the variable if that is set, since it takes precedence, else by loader.conf. In both cases a mark
//! in loader.conf identifies the hold; below the mark is the default, or the variable's previous value.

use super::{add, configured, entries, files, release, resolve_with, LoaderEntry, MAX_FILE};
use crate::boot::efi::{self, Choice};
use crate::boot::image;
use crate::boot::kept;
use crate::boot::loader::{Asked, BootLoader, Places};
use crate::boot::steps::mark;
use crate::boot::steps::moves::can_be_made;
use crate::boot::steps::plan::{no_entry, real, Move, Purpose, Step, Way};
use crate::boot::steps::told::HoldMark;
use crate::boot::{BootRole, Candidate, NextBoot, Source};
use crate::error::Remedy;
use crate::host::Host;
use crate::kernel::KernelRelease;
use anyhow::{Context, Result};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// The previous value of the variable, before a hold that moved it; a comment below the mark.
const FORMER: &str = "# vfguard-keep LoaderEntryDefault ";

/// systemd-boot with the top of its EFI system partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::boot) struct SystemdBoot(pub PathBuf);

impl BootLoader for SystemdBoot {
    fn config(&self) -> &Path {
        &self.0
    }

    fn resolve(&self, host: &Host) -> (NextBoot, Places) {
        (resolve_with(host, &self.0, None), Places { files: files(&self.0), ..Places::default() })
    }

    fn menu(&self, host: &Host) -> Vec<Candidate> {
        let mut answer = NextBoot::new(Source::Unknown);
        let entries = entries(host, &self.0, &mut answer);
        entries.iter().for_each(|e| add(host, &mut answer, BootRole::Next, e, String::new()));
        answer.kernels
    }

    fn plans(&self, host: &Host, to: &KernelRelease, _entry: Option<&str>, purpose: Purpose) -> Vec<Result<Move>> {
        if purpose == Purpose::Promotion {
            // First choice: restore what was set before the hold.
            let released = self.marked(host).map(|_| self.released(host));
            return released.into_iter().chain([self.set_for_good(host, to)]).collect();
        }
        vec![self.held(host, to, purpose)]
    }

    fn plan_clear_once(&self, host: &Host, _asked: &Asked) -> Result<Move> {
        let before = Choice::OneShot.read(host)?;
        Ok(Move::one(Step { at: PathBuf::new(), way: Way::Bootctl(Choice::OneShot), before, after: None }))
    }

    fn preview(&self, host: &Host, plan: &Move) -> NextBoot {
        resolve_with(host, &self.0, Some(plan))
    }

    fn mark(&self, host: &Host, _asked: &Asked) -> Option<HoldMark> {
        self.marked(host)
    }

    /// A firmware variable can hold no comment, and loader.conf may be on a file system that cannot be written.
    fn always_marks(&self) -> bool {
        false
    }

    fn unheld(&self, host: &Host, _asked: &Asked) -> Option<NextBoot> {
        self.marked(host)?;
        Some(self.preview(host, &self.released(host).ok()?))
    }

    fn plans_unmarked(&self, host: &Host, _asked: &Asked, _held: &KernelRelease) -> Vec<Result<Move>> {
        let stays = self.edit(host, |text| text.map(kept::unmarked));
        vec![stays.map(Move::one), self.edit(host, given_back).map(Move::one)]
    }

    fn named(&self, host: &Host, _asked: &Asked) -> Option<(Vec<u8>, Option<String>)> {
        let name = match efi::loader_string(host, Choice::Default.name()).ok()? {
            None => configured(host, &self.0).ok()?,
            set => set,
        };
        Some((name.clone().unwrap_or_default().into_bytes(), name))
    }

    fn untimed(&self, host: &Host, _asked: &Asked) -> Vec<u8> {
        Choice::Default.read(host).ok().flatten().unwrap_or_default()
    }

    fn settable(&self, host: &Host) -> Result<PathBuf> {
        let directory = self.0.join("loader");
        host.read_dir(&directory).remedy(format!("reading {}", directory.display()), self.remedy(host))?;
        Ok(self.settings())
    }

    fn remedy(&self, _host: &Host) -> String {
        "bootctl set-default, by hand".into()
    }

    fn once_remedy(&self, _host: &Host) -> String {
        "bootctl set-oneshot ''".into()
    }
}

fn sets_default(line: &[u8]) -> bool {
    line.trim_ascii_start().split(u8::is_ascii_whitespace).next() == Some(b"default")
}

fn is_former(line: &[u8]) -> bool {
    line.starts_with(FORMER.as_bytes())
}

fn is_set(line: &[u8]) -> bool {
    sets_default(line) || is_former(line)
}

/// loader.conf as it was before the hold.
fn given_back(text: Option<&[u8]>) -> Option<Vec<u8>> {
    kept::given_back(text?, is_set)
}

/// The variable that takes precedence over loader.conf, with its text, if it is set.
fn variable(host: &Host) -> Result<Option<(Vec<u8>, String)>> {
    let bytes = Choice::Default.read(host)?;
    let text = bytes.map(|bytes| (efi::utf16(bytes.get(4..).unwrap_or_default()), bytes));
    Ok(text.filter(|(text, _)| !text.is_empty()).map(|(text, bytes)| (bytes, text)))
}

fn set(entry: &str, before: Vec<u8>) -> Step {
    let after = Some(efi::value(entry, Some(&before)));
    Step { at: entry.into(), way: Way::Bootctl(Choice::Default), before: Some(before), after }
}

fn default(entry: &LoaderEntry) -> String {
    format!("default {}\n", entry.pattern())
}

impl SystemdBoot {
    /// The first entry that starts this kernel and whose ramdisks exist.
    fn entry(&self, host: &Host, to: &KernelRelease) -> Result<LoaderEntry> {
        let mut answer = NextBoot::new(Source::SystemdBoot);
        let whole = |e: &LoaderEntry| e.initrds.iter().all(|initrd| image::locate(host, initrd).is_some());
        let mut of_kernel =
            entries(host, &self.0, &mut answer).into_iter().filter(|e| release(host, e).as_ref() == Some(to));
        of_kernel.find(whole).ok_or_else(|| no_entry(to))
    }

    fn marked(&self, host: &Host) -> Option<HoldMark> {
        mark::in_text(host, &self.settings())
    }

    /// The variable's value before the hold, as recorded in loader.conf.
    fn former(&self, host: &Host) -> Option<String> {
        let text = host.read(self.settings()).ok()?;
        let line = text.split(|byte| *byte == b'\n').find_map(|line| line.strip_prefix(FORMER.as_bytes()))?;
        Some(String::from_utf8_lossy(line).into_owned()).filter(|former| !former.is_empty())
    }

    fn held(&self, host: &Host, to: &KernelRelease, purpose: Purpose) -> Result<Move> {
        let entry = self.entry(host, to)?;
        let mark = purpose.comment(to).unwrap_or_default();
        let Some((before, text)) = variable(host)? else {
            let ours = mark + &default(&entry);
            return self.edit(host, |text| Some(kept::held(text, is_set, &ours))).map(Move::one);
        };
        // If a hold is on, loader.conf records the value from before the first hold.
        let lasting = resolve_with(host, &self.0, None).lasting().map(|c| c.kernel.clone());
        let on = self.marked(host).is_some_and(|told| Some(told.held) == lasting);
        let former = self.former(host).filter(|_| on).unwrap_or(text);
        let sound = !former.contains(|c: char| c.is_control() || c == '\u{fffd}');
        let ours = format!("{mark}{FORMER}{}\n", if sound { &former } else { "" });
        let mut plan = Move::one(set(&entry.pattern(), before));
        let marked = self.edit(host, |text| {
            // The default of an earlier hold is removed. A default of loader.conf itself has no effect now, and stays.
            let rest = given_back(text);
            Some(kept::held(rest.as_deref(), is_former, &ours))
        });
        let marked = marked.map(Move::one).and_then(|marked| can_be_made(&marked).map(|()| marked));
        plan.steps.extend(marked.into_iter().flat_map(|marked| marked.steps));
        Ok(plan)
    }

    /// Restores loader.conf and the variable as they were before the hold.
    fn released(&self, host: &Host) -> Result<Move> {
        let back = self.former(host).zip(variable(host)?).map(|(former, (before, _))| set(&former, before));
        let steps = back.into_iter().chain([self.edit(host, given_back)?]).collect();
        Ok(Move { steps, note: None })
    }

    /// Sets the kernel by name, for when what was set before is unknown or leads to another kernel.
    fn set_for_good(&self, host: &Host, to: &KernelRelease) -> Result<Move> {
        let entry = self.entry(host, to)?;
        if let Some((before, _)) = variable(host)? {
            let steps = vec![set(&entry.pattern(), before), self.edit(host, given_back)?];
            return Ok(Move { steps, note: None });
        }
        self.edit(host, |text| Some(kept::set(text.unwrap_or_default(), is_set, &default(&entry)))).map(Move::one)
    }

    /// A change of loader.conf.
    fn edit(&self, host: &Host, change: impl FnOnce(Option<&[u8]>) -> Option<Vec<u8>>) -> Result<Step> {
        let at = real(host, &self.settings());
        let before = match crate::host::files::read_bounded(&at, MAX_FILE) {
            Ok(text) => Some(text),
            Err(e) if e.kind() == ErrorKind::NotFound => None,
            Err(e) => return Err(e).with_context(|| format!("reading {}", self.settings().display())),
        };
        let after = change(before.as_deref());
        Ok(Step { at, way: Way::Replace, before, after })
    }

    fn settings(&self) -> PathBuf {
        self.0.join("loader/loader.conf")
    }
}
