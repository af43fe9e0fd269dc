//! The boot default: held on a proven kernel, promoted to the wanted one. The effect of a move is worked out by the loader's own rules
//! before anything is written. A move without effect is not written, since a watch on these files would start the next try. Then the record
//! is written first, the files are resolved again, and a move that did not take effect is undone and reported as an error.

mod end;
mod means;
mod record;
pub(super) mod rest;

pub use super::steps::flush::flush;
pub use end::{clean, release, unmark, unteach};
pub use record::{HeldOff, Hold};

use super::declined;
use super::loader::{Asked, Loader};
use super::meanwhile::SetMeanwhile;
use super::steps::moves::{lastingly, make, Written, ATTEMPTS};
use super::steps::plan::{self, Purpose};
use super::{choose, BootRole, Candidate, NextBoot};
use crate::config::Boot;
use crate::error::{advise, Remedy};
use crate::host::lock::BootLock;
use crate::host::{failpoint, locks, Host};
use crate::kernel::KernelRelease;
use anyhow::{Context, Result};
use means::{disobeyed, obeyed, plan_from};
use record::Seen;
pub(super) use record::RECORD;
use std::time::Duration;

/// What was done to the boot default.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Whether anything was written.
    pub changed: bool,
    /// The kernel that is the default now.
    pub kernel: KernelRelease,
    /// A sentence for the journal and the audit log.
    pub what: String,
}

/// The loader in charge, and what it would do now.
fn in_charge(host: &Host) -> Result<(Asked, NextBoot)> {
    let answer = choose::resolve(host);
    match answer.asked.clone() {
        Some(asked) => Ok((asked, answer)),
        None => Err(advise(
            "no boot loader that is known is installed",
            "set boot.loader = \"none\" if the kernel comes from outside",
        )),
    }
}

/// The pause between the two looks that establish that the default was moved.
const BETWEEN: Duration = Duration::from_millis(20);

/// Whether a move was abandoned because somebody else set the default: the machine then has to be judged again.
pub fn was_set_meanwhile(error: &anyhow::Error) -> bool {
    error.downcast_ref::<SetMeanwhile>().is_some()
}

/// Moves the default, resolves again and compares; undoes the move if it did not take effect.
fn moved(
    host: &Host,
    loader: &Loader,
    from: Option<&KernelRelease>,
    to: &KernelRelease,
    entry: Option<&str>,
    purpose: Purpose,
) -> Result<()> {
    let held = purpose.hold().map(|_| to);
    let arrived = || {
        let now = loader.ask(host);
        let mark = now.asked.as_ref().and_then(|asked| loader.mark(host, asked));
        let marked = !loader.always_marks() || mark.as_ref().map(|mark| &mark.held) == held;
        marked && now.lasting().is_some_and(|next| next.kernel == *to)
    };
    let write = || make(host, plan_from(host, loader, from, to, entry, purpose)?);
    let Written::Not(undo) = lastingly(host, write, arrived)? else { return Ok(()) };
    let error = disobeyed(host, loader, to, loader.ask(host).lasting());
    undo.undo(host).context("putting the boot default back")?;
    Err(error)
}

/// Whether the default was moved away from the held kernel. Looks twice, and only at whole files: a file that another tool is writing
/// proves nothing. With `named`, the files must name another default; without it, it is enough that another kernel boots.
fn moved_away(host: &Host, named: bool) -> bool {
    let look = || {
        let asked = choose::resolve(host).asked?;
        let before = asked.loader.named(host, &asked)?;
        let ended = Seen::new(host, &asked.loader.ask(host)).has_ended();
        let steady = asked.loader.named(host, &asked).as_ref() == Some(&before);
        (steady && ended && !(named && before.1.is_none())).then_some(())
    };
    look().is_some() && {
        std::thread::sleep(BETWEEN);
        look().is_some()
    }
}

/// Holds the default on `to`, after recording what would boot otherwise.
///
/// # Errors
/// If no loader is known, no entry starts `to`, or a write fails or has no effect; the default is then unchanged.
pub fn hold(host: &Host, _lock: &BootLock, to: &KernelRelease) -> Result<Change> {
    for _ in 1..ATTEMPTS {
        match try_hold(host, to) {
            // Retry: what somebody has just set is the wanted default.
            Err(e) if was_set_meanwhile(&e) => std::thread::sleep(BETWEEN),
            held => return held,
        }
    }
    try_hold(host, to)
}

/// Like [`hold`], but if no means works and the `settings` allow it, it first makes the loader obey a saved default, once.
///
/// # Errors
/// Those of [`hold`], and of changing the loader's configuration; everything is then unchanged.
pub fn hold_with(host: &Host, lock: &BootLock, settings: &Boot, to: &KernelRelease) -> Result<Change> {
    let held = hold(host, lock, to);
    let Some(error) = held.as_ref().err().filter(|e| settings.edit_grub_defaults && !was_set_meanwhile(e)) else {
        return held;
    };
    let (asked, _) = in_charge(host)?;
    if let Some(failed) = rest::is_on(host, &asked, to) {
        return Err(failed);
    }
    match asked.loader.teach(host, to) {
        None => held,
        Some(Ok(())) => hold(host, lock, to),
        Some(Err(e)) => {
            let error = e.context(format!("{error:#}"));
            if !was_set_meanwhile(&error) {
                rest::begin(host, &asked, to, &error);
            }
            Err(error)
        }
    }
}

fn try_hold(host: &Host, to: &KernelRelease) -> Result<Change> {
    let (asked, now) = in_charge(host)?;
    let loader = asked.loader.clone();
    let seen = Seen::new(host, &now);
    if seen.lasting.as_ref() == Some(to) {
        complete(host, &loader, &seen, to)?;
        let what = format!("the boot default is {to} already");
        return Ok(Change { changed: false, kernel: to.clone(), what });
    }
    let (wanted, entry) = kept(host, &loader, &now, &seen, to);
    let declined = declined::read(host).iter().any(|d| d.kernel == wanted);
    let note = obeyed(host, &loader, to, None, Purpose::Hold(Some(&wanted)))?.note;
    if let Some(failed) = rest::is_on(host, &asked, to) {
        return Err(failed);
    }
    let when = jiff::Timestamp::now().to_string();
    let stopped = now.kernels.iter().find(|c| c.role == BootRole::Next).and_then(|c| c.stops.as_ref());
    let why = match stopped {
        Some(stopped) => stopped.message.clone(),
        None if declined => "nothing leads into it any more".into(),
        None => format!("{wanted} is not proven to come up with its network"),
    };
    let record = Hold { wanted: wanted.clone(), entry, held: to.clone(), when, why: why.clone(), declined: None };
    // The mark in the loader's own files says the same, so a full disk does not prevent a hold.
    let unrecorded = record.write(host).err();
    failpoint::hit("hold-recorded-before-move");
    if let Err(error) = moved(host, &loader, seen.lasting.as_ref(), to, None, Purpose::Hold(Some(&wanted))) {
        // The cause to report is `error`, not that the record cannot be restored (a full disk).
        let _ = match seen.record {
            Some(before) => before.write(host),
            None => host.remove(RECORD).map(drop),
        };
        if !was_set_meanwhile(&error) {
            rest::begin(host, &asked, to, &error);
        }
        return Err(error);
    }
    rest::end(host);
    let instead = match (wanted == *to, declined) {
        (true, _) => String::new(),
        (false, true) => format!(" ({wanted} is declined)"),
        (false, false) => format!(" ({wanted} is wanted)"),
    };
    let mut what = format!("the boot default is held on {to}{instead}: {why}");
    if let Some(e) = unrecorded {
        what += &format!(" (not recorded: {e:#})");
    }
    what.extend(note.map(|note| format!("; {note}")));
    Ok(Change { changed: true, kernel: to.clone(), what })
}

/// What would boot, and by which entry, while the default is held on `to`: from the record or mark of the current hold, else what boots
/// `now`.
fn kept(host: &Host, loader: &Loader, now: &NextBoot, seen: &Seen, to: &KernelRelease) -> (KernelRelease, String) {
    if let Some(HeldOff { kernel: wanted, .. }) = seen.held_off(host) {
        let entry = wanted_entry(host, &wanted).map(|c| c.entry).unwrap_or_default();
        return (wanted, entry);
    }
    match (&seen.record, now.lasting()) {
        // A default other than the held one was set since, by a package or a person, and is the wanted one.
        (Some(record), Some(_)) if !moved_away(host, false) => (record.wanted.clone(), record.entry.clone()),
        (_, Some(next)) => (next.kernel.clone(), next.entry.clone()),
        (Some(record), None) => (record.wanted.clone(), record.entry.clone()),
        (None, None) => match now.kernels.iter().find(|c| c.role == BootRole::Next) {
            // The default stops at the loader, but it still was the default. If its image is gone for good, nothing is wanted any more.
            Some(stopped) if stopped.absent && locks::transaction(host).is_none() => (to.clone(), String::new()),
            Some(stopped) => (stopped.kernel.clone(), stopped.entry.clone()),
            None => {
                let first = loader.menu(host).into_iter().next();
                (first.map_or_else(|| to.clone(), |c| c.kernel), String::new())
            }
        },
    }
}

/// Makes record and mark of a hold complete: a missing one (another tool overwrote the mark), or one that names another kernel, is written
/// again.
fn complete(host: &Host, loader: &Loader, seen: &Seen, to: &KernelRelease) -> Result<()> {
    let marked = seen.mark.as_ref().is_some_and(|mark| mark.held == *to);
    match seen.record.as_ref().filter(|record| record.held == *to) {
        Some(_) if marked || !loader.always_marks() => Ok(()),
        Some(record) => moved(host, loader, Some(to), to, None, Purpose::Hold(Some(&record.wanted))),
        None if marked => {
            // If there is no room for the record, the mark alone keeps the hold.
            let _ = recovered(host, seen).map(|hold| hold.write(host));
            Ok(())
        }
        None => Ok(()),
    }
}

/// The hold as far as its mark alone describes it.
fn recovered(host: &Host, seen: &Seen) -> Option<Hold> {
    let (HeldOff { kernel: wanted, .. }, held) = (seen.held_off(host)?, seen.held()?.clone());
    let entry = wanted_entry(host, &wanted).map(|c| c.entry).unwrap_or_default();
    Some(Hold { wanted, entry, held, when: String::new(), why: "the record of why is lost".into(), declined: None })
}

/// Moves the default to the wanted kernel and ends the hold. Does nothing without a hold. `judged` is the kernel that was wanted when the
/// kernels were judged: any other would start unjudged.
///
/// # Errors
/// Those of [`hold`], and if another kernel has become the wanted one; the hold then stays.
pub fn promote(host: &Host, lock: &BootLock, judged: Option<&KernelRelease>) -> Result<Change> {
    let (Asked { loader, .. }, now) = in_charge(host)?;
    let held_off = held_off(host, &now);
    let found = held_off.as_ref().and_then(|off| off.wanted.clone());
    if found.as_ref() != judged {
        let name = |kernel: Option<&KernelRelease>| kernel.map_or("none".to_owned(), ToString::to_string);
        let what = format!("another kernel is wanted by now ({}) than was judged ({})", name(found.as_ref()), name(judged));
        return Err(SetMeanwhile).remedy(what, "vfguard reconcile");
    }
    let Some(wanted) = found else {
        if let Some(HeldOff { kernel: declined, .. }) = held_off {
            return Err(advise(
                format!("{declined} is declined and would boot without the hold, so it stays"),
                format!("vfguard accept {declined}"),
            ));
        }
        if Hold::read(host).is_some() && !moved_away(host, false) {
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
    obeyed(host, &loader, &wanted, entry.as_deref(), Purpose::Promotion)?;
    let from = now.lasting().map(|c| &c.kernel);
    moved(host, &loader, from, &wanted, entry.as_deref(), Purpose::Promotion)?;
    failpoint::hit("promoted-before-record");
    let mut what = format!("the boot default is {wanted}, and the hold has ended");
    // The default is moved, which is what counts; a record that names another default is ignored.
    if let Err(e) = end::forget(host) {
        what += &format!(" (its record stays: {e:#})");
    }
    Ok(Change { changed: true, what, kernel: wanted })
}

/// What would boot without the current hold: what the loader's files say, if they do; else what its mark or record says; if that is lost or
/// its kernel is gone, the first kernel of the loader's menu. Also what is wanted, which is never a declined kernel. None if no hold is on:
/// then the kernel that boots is the wanted one. See `steps::told`.
pub fn held_off(host: &Host, now: &NextBoot) -> Option<HeldOff> {
    Seen::new(host, now).held_off(host)
}

/// The current hold: from its record or, if that is lost or names another kernel, from its mark in the loader's files. None if the default
/// was moved since.
pub fn held(host: &Host) -> Option<Hold> {
    let now = choose::resolve(host);
    let seen = Seen::new(host, &now);
    match (&seen.record, seen.held()) {
        (Some(record), Some(held)) if record.held == *held => Some(for_now(host, &seen, record.clone())),
        (_, Some(_)) => recovered(host, &seen).map(|hold| for_now(host, &seen, hold)),
        // If another kernel starts for certain, nothing is held, whatever the record says.
        (Some(_), None) if now.loader_certain && now.lasting().is_some() => None,
        (Some(record), None) => (!moved_away(host, false)).then(|| record.clone()),
        (None, None) => None,
    }
}

/// The hold with the kernel that is wanted now.
fn for_now(host: &Host, seen: &Seen, hold: Hold) -> Hold {
    match seen.held_off(host) {
        Some(HeldOff { wanted: Some(wanted), .. }) => Hold { wanted, ..hold },
        Some(HeldOff { kernel, wanted: None }) => Hold { wanted: hold.held.clone(), declined: Some(kernel), ..hold },
        None => hold,
    }
}

/// Ends a hold whose default somebody has moved. Its record is removed, so that it cannot take effect later if the default is set to the
/// formerly held kernel again. Only if the loader's files, read whole, name another default.
///
/// # Errors
/// Those of [`release`].
pub fn forget_stale(host: &Host, lock: &BootLock, now: &NextBoot) -> Result<()> {
    if Hold::read(host).is_some() && Seen::new(host, now).has_ended() && moved_away(host, true) {
        release(host, lock)?;
    }
    Ok(())
}

/// The entry by which the wanted kernel would start, with its ramdisks and command line: the kernel is judged by them before the default is
/// moved to it.
pub fn wanted_entry(host: &Host, wanted: &KernelRelease) -> Option<Candidate> {
    let now = choose::resolve(host);
    if let Some(unheld) = Seen::new(host, &now).unheld(host).filter(|c| c.kernel == *wanted) {
        return Some(unheld);
    }
    let recorded = Hold::read(host).map(|h| h.entry);
    let entries = now.asked?.loader.menu(host).into_iter().filter(|c| c.kernel == *wanted);
    entries.min_by_key(|c| (c.stops.is_some(), Some(&c.entry) != recorded.as_ref(), plan::is_rescue(&c.cmdline)))
}

/// Clears the one-shot default (`next_entry`, LoaderEntryOneShot), resolves again and compares.
///
/// # Errors
/// If it cannot be written or has no effect; it is then unchanged.
pub fn clear_once(host: &Host, _lock: &BootLock) -> Result<Change> {
    let (asked, before) = in_charge(host)?;
    let once = before.kernels.iter().find(|c| c.role == BootRole::Once).map(|c| c.kernel.clone());
    let next = before.lasting().map(|c| c.kernel.clone());
    let Some(once) = once else {
        let kernel = before.first().map(|c| c.kernel.clone());
        let kernel = kernel.ok_or_else(|| advise("what boots next is not known", "vfguard next-boot"))?;
        return Ok(Change { changed: false, what: "nothing is set for one boot".into(), kernel });
    };
    let loader = &asked.loader;
    let remedy = loader.once_remedy(host);
    let gone = |now: &NextBoot| {
        now.kernels.iter().all(|c| c.role != BootRole::Once) && now.lasting().map(|c| &c.kernel) == next.as_ref()
    };
    let stays = || advise(format!("{once} is set for the next boot, and it still is once that is cleared"), remedy.clone());
    let act = "ending what is set for the next boot";
    if !gone(&loader.preview(host, &loader.plan_clear_once(host, &asked).remedy(act, remedy.clone())?)) {
        return Err(stays());
    }
    let write = || make(host, loader.plan_clear_once(host, &asked)?);
    if let Written::Not(undo) = lastingly(host, write, || gone(&loader.ask(host))).remedy(act, remedy.clone())? {
        undo.undo(host).context("putting the next boot back")?;
        return Err(stays());
    }
    let then = next.as_ref().map_or("what is next is not known".to_owned(), |next| format!("{next} is next"));
    let kernel = next.unwrap_or_else(|| once.clone());
    Ok(Change { changed: true, what: format!("{once} is no longer set for the next boot; {then}"), kernel })
}
