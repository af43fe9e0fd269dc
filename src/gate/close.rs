//! Closing the gate: the record first, then the files that refuse, then the question whether they do; and telling people.

use super::override_::{self, active as active_override};
use super::systemd::{self, Files, Initctl};
use super::{audit, kernels_of, look, record, upstart, Lock, Reason, Record, State, RECORD};
use crate::config::Gate as Settings;
use crate::error::{advise, Remedy};
use crate::host::{failpoint, files, Host};
use crate::kernel::KernelRelease;
use crate::report::notices::{self, Topic};
use crate::report::text::Text;
use anyhow::Result;

/// What closing came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Closed {
    /// Closed; or overridden, where an override covers all the kernels of the reasons.
    pub state: State,
    /// Whether it was not closed before, or for other reasons.
    pub changed: bool,
    /// A shutdown that is scheduled and will be refused, as a line for people.
    pub scheduled: Option<String>,
}

/// Closes the gate for these reasons, unless an override covers them; then makes sure that it is closed. Quick where it was
/// closed for the same reasons.
///
/// # Errors
/// When it is not seen closed afterwards; whatever refuses by then stays.
pub fn close(host: &Host, settings: &Settings, reasons: &[Reason]) -> Result<Closed> {
    let lock = Lock::take_to_close(host)?;
    if active_override(host).is_some_and(|o| o.covers(reasons.iter().filter_map(|r| r.kernel.as_ref()))) {
        return Ok(Closed { state: State::Overridden, changed: false, scheduled: None });
    }
    close_locked(host, settings, reasons, &lock)
}

/// Closes the gate by hand: an override that runs ends with it.
///
/// # Errors
/// Those of [`close`], and when the audit log cannot be written.
pub fn close_by_hand(host: &Host, settings: &Settings, reasons: &[Reason]) -> Result<Closed> {
    let lock = Lock::take_to_close(host)?;
    let why = reasons.iter().map(Reason::line).collect::<Vec<_>>().join("; ");
    files::remove(&host.path(override_::FILE))?;
    let closed = close_locked(host, settings, reasons, &lock)?;
    // Refusing is the safe side: it does not depend on the log.
    audit::append(host, &audit::Event::now(host, audit::What::Close, &why, None))?;
    Ok(closed)
}

/// Closes the gate because a run ended before it decided. An override stays, and so do the reasons of a gate that is closed
/// already.
///
/// # Errors
/// Those of [`close`].
pub fn close_undecided(host: &Host, settings: &Settings, reason: Reason) -> Result<Closed> {
    let lock = Lock::take_to_close(host)?;
    if active_override(host).is_some() {
        return Ok(Closed { state: State::Overridden, changed: false, scheduled: None });
    }
    let known = record(host).filter(|_| look(host, false) == Files::All).map(|r| r.reasons);
    close_locked(host, settings, &known.unwrap_or_else(|| vec![reason]), &lock)
}

fn close_locked(host: &Host, settings: &Settings, reasons: &[Reason], _: &Lock) -> Result<Closed> {
    let old = record(host);
    let whole = look(host, settings.poweroff) == Files::All;
    let same = |r: &Record| r.reasons == reasons && r.poweroff == settings.poweroff && r.confirmed;
    // Somebody may have had systemd read its units while the files were not there.
    let still =
        || !host.is_live() || upstart::is_upstart(host) || systemd::ask(settings.poweroff).is_ok_and(|f| f == Files::All);
    if whole && old.as_ref().is_some_and(same) && still() {
        return Ok(Closed { state: State::Closed, changed: false, scheduled: None });
    }
    let told = old.as_ref().is_some_and(|r| r.reasons == reasons) && whole;
    // Whoever is logged in is told once on a kernel's account; what is better known later is in the other channels.
    let interrupt = !whole || old.as_ref().is_none_or(|r| kernels_of(&r.reasons) != kernels_of(reasons));
    let kept = old.unwrap_or_default();
    let upstart = upstart::is_upstart(host);
    let initctl = if upstart { Initctl::default() } else { systemd::initctl_before(host, &kept.initctl) };
    let since = if whole { kept.since } else { audit::now() };
    let mut new =
        Record { reasons: reasons.to_vec(), since, poweroff: settings.poweroff, initctl, confirmed: false, failed: None };
    // One that has ended, or that another kernel ended. What refuses does not depend on its removal.
    let _ = files::remove(&host.path(override_::FILE));
    // The record first: it knows what to put back. Where it cannot be written (a full /run), nothing is masked that nobody would
    // put back, and the reboot is refused all the same.
    let recorded = store(host, &new);
    if recorded.is_err() {
        new.initctl = Initctl::default();
    }
    failpoint::hit("gate-recorded-before-files");
    let effect = if upstart {
        write_upstart(host, settings, reasons)
    } else {
        let written = systemd::write(host, settings.poweroff).and(systemd::mask_initctl(host, &new.initctl));
        failpoint::hit("gate-written-before-confirmed");
        // Already seen closed and only the reasons are new: nothing for systemd to read.
        let known = whole && kept.confirmed && kept.poweroff == settings.poweroff;
        // What was written refuses some ways to reboot even where the rest could not be.
        let effect = if host.is_live() { take_effect(host, settings, known) } else { Ok(()) };
        written.and(effect)
    };
    if let Err(e) = effect {
        let why = format!("{e:#}");
        notices::journal(host, Topic::GateFailed, &format!("the gate was written and is not confirmed: {why}"), &[]);
        new.failed = Some(why);
        let _ = store(host, &new);
        return Err(e);
    }
    new.confirmed = true;
    // Without a record systemd is asked each time, and says the same.
    let _ = store(host, &new);
    let scheduled = (!told).then(|| scheduled(host, settings.poweroff)).flatten();
    if !told {
        tell_closed(host, reasons, scheduled.as_deref(), interrupt);
    }
    Ok(Closed { state: State::Closed, changed: !told, scheduled })
}

fn write_upstart(host: &Host, settings: &Settings, reasons: &[Reason]) -> Result<()> {
    upstart::write(host, settings.poweroff, reasons)?;
    if upstart::look(host, settings.poweroff) == Files::All {
        return Ok(());
    }
    Err(advise(
        format!("the gate is not seen closed: no wrapper around {}", upstart::unwrapped(host).join(", ")),
        "do not reboot; vfguard-upstart install",
    ))
}

/// Has systemd read what was written, and asks it whether it refuses: that counts, whatever became of the reload. `known`: it refused before.
fn take_effect(host: &Host, settings: &Settings, known: bool) -> Result<()> {
    if known && systemd::ask(settings.poweroff).is_ok_and(|files| files == Files::All) {
        return Ok(());
    }
    let applied = systemd::apply_closed(host, settings.poweroff);
    let seen = match systemd::ask(settings.poweroff) {
        Ok(Files::All) => return Ok(()),
        Ok(asked) => advise(
            format!("the gate is not seen closed ({asked:?} of its units refuse)"),
            format!(
                "do not reboot; systemctl daemon-reload; systemctl show -p Requires reboot.target must list {}",
                systemd::UNIT
            ),
        ),
        Err(e) => e,
    };
    Err(applied.err().unwrap_or(seen))
}

fn store(host: &Host, record: &Record) -> Result<()> {
    host.write_atomic(RECORD, &serde_json::to_vec_pretty(record)?, 0o644)
        .remedy("recording why the gate is closed", "run this as root; /run must be writable")
}

fn scheduled(host: &Host, poweroff: bool) -> Option<String> {
    let (mode, at) = systemd::scheduled(host, poweroff)?;
    Some(format!("the {mode} scheduled for {} will be refused (`shutdown -c` cancels it)", audit::stamp(at)))
}

fn tell_closed(host: &Host, reasons: &[Reason], scheduled: Option<&str>, interrupt: bool) {
    let mut text = Text::of("vfguard refuses to reboot this machine: it might come up without its network.");
    for reason in reasons {
        text.line(&format!("  {}", reason.line()));
        text.line(&format!("    to mend it: {}", reason.remedy));
    }
    if let Some(line) = scheduled {
        text.line(&format!("  {line}"));
    }
    text.line("  More: vfguard status. To reboot all the same: vfguard gate open --reason TEXT");
    let lines = reasons.iter().map(Reason::line).collect::<Vec<_>>().join("; ");
    let kernels = kernels_of(reasons).into_iter().flatten().map(KernelRelease::as_str).collect::<Vec<_>>().join(" ");
    let fields =
        [("VFGUARD_GATE", "closed"), ("VFGUARD_KERNEL", kernels.as_str()), ("VFGUARD_SCHEDULED", scheduled.unwrap_or(""))];
    notices::journal(host, Topic::GateClosed, &format!("gate closed, reboots are refused: {lines}"), &fields);
    if interrupt {
        notices::wall(host, &text);
    }
    // The hard gate holds whether or not this can be written.
    let _ = notices::motd(host, Some(&text));
}
