//! The boot default: held on a proven kernel, promoted to the wanted one. The record comes first, each move is resolved again
//! by the loader's own rules, and one that did not take is an error with everything put back.

use super::choose::{self, Loader};
use super::moves::{self, Purpose, Undo};
use super::{Candidate, NextBoot, Role};
use crate::error::{advise, Remedy};
use crate::host::lock::BootLock;
use crate::host::{failpoint, files, Host};
use crate::kernel::{installed, KernelRelease};
use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// The record of a hold, below the root.
pub const RECORD: &str = "/var/lib/vfguard/records/hold.json";

/// A hold that is on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    /// What would boot without it.
    pub wanted: KernelRelease,
    /// The wanted kernel's entry.
    pub entry: String,
    /// The kernel that the default is held on.
    pub held: KernelRelease,
    /// When, as RFC 3339.
    pub when: String,
    /// Why.
    pub why: String,
}

impl Hold {
    /// The record, if there is one that can be read.
    pub fn read(host: &Host) -> Option<Hold> {
        serde_json::from_slice(&host.read(RECORD).ok()?).ok()
    }

    /// One line for people.
    pub fn line(&self) -> String {
        let since = if self.when.is_empty() { String::new() } else { format!(" since {}", self.when) };
        format!("boot default: held on {} instead of {}{since}: {}", self.held, self.wanted, self.why)
    }

    fn write(&self, host: &Host) -> Result<()> {
        host.write_atomic(RECORD, &serde_json::to_vec_pretty(self)?, 0o644)
    }
}

/// What was done to the boot default.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Whether anything was written.
    pub changed: bool,
    /// The kernel that the default is now.
    pub kernel: KernelRelease,
    /// A sentence for the journal and the audit log.
    pub what: String,
}

/// The one loader in charge, with what it does now.
fn in_charge(host: &Host) -> Result<(Loader, NextBoot)> {
    let (loaders, _) = choose::loaders(host);
    let Some(loader) = loaders.first().cloned() else {
        return Err(advise(
            "no boot loader that is known is installed",
            "set boot.loader = \"none\" if the kernel comes from outside",
        ));
    };
    let answer = choose::resolve(host);
    Ok((loader, answer))
}

/// How often a move is made that another tool undoes.
const ATTEMPTS: usize = 4;
/// Between the two looks that say that the default was moved.
const BETWEEN: Duration = Duration::from_millis(20);

/// Writes, and looks whether that came to what it was to come to; once more after a moment, since another tool that had read the file
/// before may write it after us. Whoever is overtaken puts back what is left of it, and writes again. `Err` holds how to undo what did
/// not take.
fn lastingly(host: &Host, write: impl Fn() -> Result<Undo>, arrived: impl Fn() -> bool) -> Result<Result<(), Undo>> {
    let mut undo = write()?;
    for _ in 1..ATTEMPTS {
        match (arrived(), undo.overtaken()) {
            (true, false) => return Ok(Ok(())),
            (false, false) => return Ok(Err(undo)),
            (true, true) if arrived() => return Ok(Ok(())),
            (_, true) => {
                undo.undo(host)?;
                undo = write()?;
            }
        }
    }
    Ok(if arrived() { Ok(()) } else { Err(undo) })
}

/// Moves the default, resolves again and compares; puts everything back where it did not take.
fn moved(host: &Host, loader: &Loader, to: &KernelRelease, entry: Option<&str>, purpose: Purpose) -> Result<()> {
    let lasting = || choose::ask(host, loader).lasting().map(|c| c.kernel.clone());
    let mark = matches!(purpose, Purpose::Hold(_)).then(|| to.as_str());
    let marked =
        || !matches!(loader, Loader::Grub2(_)) || moves::marked(host, loader).as_ref().map(|m| m.held.as_str()) == mark;
    let arrived = || lasting().as_ref() == Some(to) && marked();
    let write = || moves::make(host, moves::plan(host, loader, to, entry, purpose)?);
    let Err(undo) = lastingly(host, write, arrived)? else { return Ok(()) };
    let got = lasting().map_or("nothing that is known".to_owned(), |kernel| kernel.to_string());
    undo.undo(host).context("putting the boot default back")?;
    Err(advise(format!("the boot default was set to {to}, and the boot loader would still start {got}"), remedy(loader)))
}

/// Whether the default was moved from the kernel that it was held on. Looked at twice, by files that are whole: a file that another
/// tool is writing says nothing. With `named`, the files must name another default; else it is enough that another kernel boots.
fn moved_away(host: &Host, hold: &Hold, named: bool) -> bool {
    let look = || {
        let loader = choose::loaders(host).0.into_iter().next()?;
        let before = moves::named(host, &loader)?;
        let lasting = choose::ask(host, &loader).lasting()?.kernel.clone();
        let steady = moves::named(host, &loader).as_ref() == Some(&before);
        (steady && lasting != hold.held && !(named && before.1.is_none())).then_some(())
    };
    look().is_some() && {
        std::thread::sleep(BETWEEN);
        look().is_some()
    }
}

/// How to make a default settable.
pub(super) fn remedy(loader: &Loader) -> String {
    match loader {
        Loader::Grub2(config) if config.starts_with("/boot/grub") && !config.starts_with("/boot/grub2") => {
            "set GRUB_DEFAULT=saved in /etc/default/grub and run update-grub".into()
        }
        Loader::Grub2(config) => {
            format!("set GRUB_DEFAULT=saved in /etc/default/grub and run grub2-mkconfig -o {}", config.display())
        }
        Loader::Legacy(config) => format!("set default= in {} by hand", config.display()),
        Loader::SystemdBoot(_) => "bootctl set-default, by hand".into(),
    }
}

/// Holds the default on `to`: what would boot else is recorded first.
///
/// # Errors
/// When no loader is known, no entry starts `to`, or a write fails or does not take; the default then is as it was.
pub fn hold(host: &Host, _lock: &BootLock, to: &KernelRelease) -> Result<Change> {
    let (loader, now) = in_charge(host)?;
    let lasting = now.lasting();
    let before = Hold::read(host);
    if lasting.is_some_and(|c| c.kernel == *to) {
        complete(host, &loader, &now, to)?;
        let what = format!("the boot default is {to} already");
        return Ok(Change { changed: false, kernel: to.clone(), what });
    }
    let (wanted, entry) = kept(host, &loader, &now, to);
    let when = jiff::Timestamp::now().to_string();
    let why = format!("{wanted} is not proven to come up with its network");
    let record = Hold { wanted: wanted.clone(), entry, held: to.clone(), when, why: why.clone() };
    // The mark in the loader's own files says the same, so a full disk hinders no hold.
    let unrecorded = record.write(host).err();
    failpoint::hit("hold-recorded-before-move");
    if let Err(error) = moved(host, &loader, to, None, Purpose::Hold(Some(&wanted))) {
        // That the record cannot be put back either (a full disk) is not the cause.
        let _ = match before {
            Some(before) => before.write(host),
            None => files::remove(&host.path(RECORD)).map(drop),
        };
        return Err(error);
    }
    let mut what = format!("the boot default is held on {to} ({wanted} is wanted): {why}");
    if let Some(e) = unrecorded {
        what += &format!(" (not recorded: {e:#})");
    }
    Ok(Change { changed: true, kernel: to.clone(), what })
}

/// What is wanted, and by which entry, while the default is held on `to`: what is recorded of a hold that is on, else what boots `now`.
fn kept(host: &Host, loader: &Loader, now: &NextBoot, to: &KernelRelease) -> (KernelRelease, String) {
    let (before, lasting) = (Hold::read(host), now.lasting());
    match (before, lasting) {
        // A default that is not the held one was set since, by a package or a person: that is what is wanted now.
        (Some(b), Some(l)) if b.held == l.kernel || !moved_away(host, &b, false) => (b.wanted, b.entry),
        (_, Some(l)) => (l.kernel.clone(), l.entry.clone()),
        (Some(b), None) => (b.wanted, b.entry),
        (None, None) => {
            let first = moves::menu(host, loader).into_iter().next();
            (first.map_or_else(|| to.clone(), |c| c.kernel), String::new())
        }
    }
}

/// Record and mark of a hold belong together: the one that is lost (another tool wrote the mark away) is made again.
fn complete(host: &Host, loader: &Loader, now: &NextBoot, to: &KernelRelease) -> Result<()> {
    let marked = moves::marked(host, loader).is_some_and(|mark| mark.held == to.as_str());
    match Hold::read(host).filter(|hold| hold.held == *to) {
        Some(_) if marked || !matches!(loader, Loader::Grub2(_)) => Ok(()),
        Some(hold) => moved(host, loader, to, None, Purpose::Hold(Some(&hold.wanted))),
        None if marked => {
            // Where there is no room for it, the mark alone keeps the hold.
            let _ = recovered(host, now).map(|hold| hold.write(host));
            Ok(())
        }
        None => Ok(()),
    }
}

/// The hold that only its mark tells of.
fn recovered(host: &Host, now: &NextBoot) -> Option<Hold> {
    let (wanted, held) = (wanted(host, now)?, now.lasting()?.kernel.clone());
    let entry = wanted_entry(host, &wanted).map(|c| c.entry).unwrap_or_default();
    Some(Hold { wanted, entry, held, when: String::new(), why: "the record of why is lost".into() })
}

/// Moves the default to the wanted kernel and ends the hold. Without a hold nothing is done. `judged` is what was wanted when the
/// kernels were judged: another one would start unjudged.
///
/// # Errors
/// Those of [`hold`], and when another kernel is wanted by now; the hold then stays.
pub fn promote(host: &Host, lock: &BootLock, judged: Option<&KernelRelease>) -> Result<Change> {
    let (loader, now) = in_charge(host)?;
    let found = wanted(host, &now);
    if found.as_ref() != judged {
        let name = |kernel: Option<&KernelRelease>| kernel.map_or("none".to_owned(), ToString::to_string);
        return Err(advise(
            format!("another kernel is wanted by now ({}) than was judged ({})", name(found.as_ref()), name(judged)),
            "vfguard reconcile",
        ));
    }
    let Some(wanted) = found else {
        if Hold::read(host).is_some_and(|hold| !moved_away(host, &hold, false)) {
            return Err(advise(
                "where the boot default points cannot be told now, so the hold stays recorded",
                "vfguard next-boot",
            ));
        }
        release(host, lock)?;
        let kernel = now.lasting().map(|c| c.kernel.clone());
        let kernel = kernel.ok_or_else(|| advise("what boots next is not known", "vfguard next-boot"))?;
        return Ok(Change { changed: false, what: format!("no hold is on; the boot default stays {kernel}"), kernel });
    };
    let entry = Hold::read(host).map(|h| h.entry);
    moved(host, &loader, &wanted, entry.as_deref(), Purpose::Promotion)?;
    failpoint::hit("promoted-before-record");
    files::remove(&host.path(RECORD))?;
    Ok(Change { changed: true, what: format!("the boot default is {wanted}, and the hold has ended"), kernel: wanted })
}

/// Ends a hold and leaves the default where it is: the held kernel is the wanted one now.
///
/// # Errors
/// Those of reading and writing the loader's files.
pub fn release(host: &Host, _lock: &BootLock) -> Result<()> {
    if let Some(loader) = choose::loaders(host).0.first() {
        if moves::marked(host, loader).is_some() {
            moves::unmark(host, loader)?;
        }
    }
    files::remove(&host.path(RECORD)).map(|_| ())
}

/// Takes the marks of a hold out of the loader's files, for the removal of vfguard, and leaves default and record where they are: should
/// it be installed again, what was wanted is known.
///
/// # Errors
/// Those of reading and writing the loader's files and the record.
pub fn unmark(host: &Host, _lock: &BootLock, hold: &Hold) -> Result<()> {
    if Hold::read(host).is_none() {
        hold.write(host)?;
    }
    match choose::loaders(host).0.first() {
        Some(loader) if moves::marked(host, loader).is_some() => moves::unmark(host, loader),
        Some(_) | None => Ok(()),
    }
}

/// What would boot without our hold, while one is on: from its record; if that is lost or its kernel gone, the first kernel of
/// the loader's menu. None if no hold is on: then what boots is what is wanted.
pub fn wanted(host: &Host, now: &NextBoot) -> Option<KernelRelease> {
    let (loaders, _) = choose::loaders(host);
    let loader = loaders.first()?;
    let lasting = now.lasting().map(|c| &c.kernel);
    let there = |k: &KernelRelease| installed::image(host, k).is_some();
    if let Some(record) = Hold::read(host) {
        // A default that was moved since is itself what is wanted.
        if lasting.is_some_and(|l| *l != record.held) {
            return None;
        }
        if there(&record.wanted) {
            return Some(record.wanted);
        }
    } else {
        // A mark of a hold from which the default was moved since says nothing.
        let mark = moves::marked(host, loader)?;
        if lasting.is_some_and(|l| l.as_str() != mark.held) {
            return None;
        }
        if let Some(wanted) = mark.wanted.filter(there) {
            return Some(wanted);
        }
    }
    moves::menu(host, loader).into_iter().map(|c| c.kernel).find(there)
}

/// The hold that is on: by its record or, where that is lost, by its mark on the boot loader. None where the default was moved
/// since.
pub fn held(host: &Host) -> Option<Hold> {
    let now = choose::resolve(host);
    let record = Hold::read(host);
    let wanted = wanted(host, &now);
    if let Some(record) = record {
        let moved = now.lasting().is_some_and(|l| l.kernel != record.held) && moved_away(host, &record, false);
        return (!moved).then(|| Hold { wanted: wanted.unwrap_or_else(|| record.wanted.clone()), ..record });
    }
    recovered(host, &now)
}

/// A hold whose default somebody moved since has ended; its record goes, so that it does not come to life again when the default
/// is one day set to the kernel that it was held on. Only where the loader's files, read whole, name another default.
///
/// # Errors
/// Those of [`release`].
pub fn forget_stale(host: &Host, lock: &BootLock, now: &NextBoot) -> Result<()> {
    let stale = |hold: &Hold| now.lasting().is_some_and(|next| next.kernel != hold.held) && moved_away(host, hold, true);
    if Hold::read(host).as_ref().is_some_and(stale) {
        release(host, lock)?;
    }
    Ok(())
}

/// The entry by which the wanted kernel would start, with its ramdisks and command line: a kernel is judged by them before the
/// default is moved to it, not after.
pub fn wanted_entry(host: &Host, wanted: &KernelRelease) -> Option<Candidate> {
    let (loaders, _) = choose::loaders(host);
    let recorded = Hold::read(host).map(|h| h.entry);
    let entries = moves::menu(host, loaders.first()?).into_iter().filter(|c| c.kernel == *wanted);
    entries.min_by_key(|c| (Some(&c.entry) != recorded.as_ref(), moves::is_rescue(&c.cmdline)))
}

/// Ends what is set for the next boot only (`next_entry`, LoaderEntryOneShot), resolves again and compares.
///
/// # Errors
/// When it cannot be written or does not take; it then is as it was.
pub fn clear_once(host: &Host, _lock: &BootLock) -> Result<Change> {
    let (loader, before) = in_charge(host)?;
    let once = before.kernels.iter().find(|c| c.role == Role::Once).map(|c| c.kernel.clone());
    let next = before.lasting().map(|c| c.kernel.clone());
    let Some(once) = once else {
        let kernel = before.first().map(|c| c.kernel.clone());
        let kernel = kernel.ok_or_else(|| advise("what boots next is not known", "vfguard next-boot"))?;
        return Ok(Change { changed: false, what: "nothing is set for one boot".into(), kernel });
    };
    let remedy = match loader {
        Loader::SystemdBoot(_) => "bootctl set-oneshot ''",
        Loader::Grub2(_) | Loader::Legacy(_) => "grub2-editenv - unset next_entry",
    };
    let arrived = || {
        let now = choose::ask(host, &loader);
        now.kernels.iter().all(|c| c.role != Role::Once) && now.lasting().map(|c| &c.kernel) == next.as_ref()
    };
    let cleared = lastingly(host, || moves::clear_once(host, &loader), arrived);
    if let Err(undo) = cleared.remedy("ending what is set for the next boot", remedy)? {
        undo.undo(host).context("putting the next boot back")?;
        return Err(advise(format!("{once} was set for the next boot, and it still is after clearing it"), remedy));
    }
    let then = next.as_ref().map_or("what is next is not known".to_owned(), |next| format!("{next} is next"));
    let kernel = next.unwrap_or_else(|| once.clone());
    Ok(Change { changed: true, what: format!("{once} is no longer set for the next boot; {then}"), kernel })
}
