//! Closes the gate: first the record, then the files that refuse, then the check that they do. After that people are
//! informed.

use super::by_hand::{self, ByHand};
use super::lock::Lock;
use super::means::systemd::{self, Files, Initctl};
use super::means::upstart;
use super::override_::{self, active as active_override};
use super::removing::removing;
use super::{generation, kernels_of, look, pass, record, Reason, Record, State, RECORD};
use crate::audit::{self, What};
use crate::config::Gate as Settings;
use crate::error::{advise, Remedy};
use crate::host::notices::{self, Topic};
use crate::host::upstart::{is_upstart, unwrapped};
use crate::host::{failpoint, Host};
use crate::kernel::KernelRelease;
use crate::text::Text;
use anyhow::Result;

/// The result of closing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Closed {
    /// Closed; overridden, if an override or a pass covers all kernels of the reasons; open, while vfguard is being removed.
    pub state: State,
    /// Whether it was open before, or closed for other reasons.
    pub changed: bool,
    /// Whether this raised the generation by one. Runs that judged before do not open the gate then.
    pub bumped: bool,
    /// A scheduled shutdown that will be refused, as a line for people.
    pub scheduled: Option<String>,
}

/// Closes the gate for these reasons, unless an override or a pass covers them or vfguard is being removed; then checks that
/// it is closed. Fast if it was already closed for the same reasons.
///
/// # Errors
/// When systemd does not confirm that it is closed; what was written stays in place.
pub fn close(host: &Host, settings: &Settings, reasons: &[Reason]) -> Result<Closed> {
    let lock = Lock::take_to_close(host)?;
    close_unless_let_through(host, settings, reasons, lock)
}

/// Closes the gate again if a person closed it and has not opened it since. Other reasons for which it is closed are kept.
///
/// # Errors
/// Those of [`close`].
pub fn keep_closed(host: &Host, settings: &Settings) -> Result<Option<Closed>> {
    let Some(order) = by_hand::by_hand(host) else {
        by_hand::forget(host)?;
        return Ok(None);
    };
    // Other reasons are not re-evaluated here; they stay.
    let known = record(host).unwrap_or_default().reasons.into_iter().filter(|reason| !by_hand::is_order(reason));
    let reasons: Vec<Reason> = std::iter::once(order.reason()).chain(known).collect();
    close(host, settings, &reasons).map(Some)
}

/// The same after all kernels were found safe: only the person's order remains as a reason.
///
/// # Errors
/// Those of [`close`].
pub fn keep_closed_by_order(host: &Host, settings: &Settings) -> Result<Option<Closed>> {
    by_hand::by_hand(host).map(|order| close(host, settings, &[order.reason()])).transpose()
}

/// Closes the gate by hand, which ends a running override or pass. With an `order` it stays closed until a person opens it;
/// the order is on the disk before anything is closed.
///
/// # Errors
/// Those of [`close`], and when the order or the audit log cannot be written.
pub fn close_by_hand(host: &Host, settings: &Settings, reasons: &[Reason], order: Option<&ByHand>) -> Result<Closed> {
    if let (Some(order), false) = (order, removing(host)) {
        by_hand::store(host, order)?;
    }
    let lock = Lock::take_to_close(host)?;
    if removing(host) {
        return Ok(not_closed(State::Open));
    }
    if let Some(order) = order.filter(|order| by_hand::by_hand(host).as_ref() != Some(*order)) {
        // Somebody opened the gate in the meantime, which removed the order. The later request counts.
        by_hand::store(host, order)?;
    }
    host.remove(override_::FILE)?;
    host.remove(pass::FILE)?;
    let closed = close_and_tell(host, settings, reasons, lock)?;
    // Refusing is the safe side, so closing does not depend on the audit log.
    let why = order.map_or_else(|| lines(reasons), |order| order.reason.clone());
    audit::append(host, &audit::Event::now(host, What::Close, &why, None))?;
    Ok(closed)
}

/// Closes the gate because a run ended before it decided. An override or a pass stays. So do the reasons of a gate that is
/// closed already, or that a killed run left half open.
///
/// # Errors
/// Those of [`close`].
pub fn close_undecided(host: &Host, settings: &Settings, reason: Reason) -> Result<Closed> {
    let lock = Lock::take_to_close(host)?;
    if let Some(state) = let_through(host, &[]) {
        return Ok(not_closed(state));
    }
    let known = record(host).map(|r| r.reasons).filter(|known| !known.is_empty());
    close_by_itself(host, settings, &known.unwrap_or_else(|| vec![reason]), lock)
}

/// Ends a pass whose reboot did not happen, and closes the gate for these reasons in the same step.
///
/// # Errors
/// Those of [`close`].
pub fn end_pass(host: &Host, settings: &Settings, reasons: &[Reason]) -> Result<Closed> {
    let lock = Lock::take_to_close(host)?;
    host.remove(pass::FILE)?;
    close_unless_let_through(host, settings, reasons, lock)
}

fn close_unless_let_through(host: &Host, settings: &Settings, reasons: &[Reason], lock: Lock) -> Result<Closed> {
    match let_through(host, reasons) {
        Some(state) => Ok(not_closed(state)),
        None => close_by_itself(host, settings, reasons, lock),
    }
}

/// The state in which a reboot is allowed in spite of these reasons; none if it is refused. Call it with the gate's lock
/// held.
fn let_through(host: &Host, reasons: &[Reason]) -> Option<State> {
    if removing(host) {
        return Some(State::Open);
    }
    let kernels = || reasons.iter().filter_map(|r| r.kernel.as_ref());
    let covered = active_override(host).is_some_and(|o| o.covers(kernels()))
        || pass::active(host).is_some_and(|p| p.covers(kernels()));
    covered.then_some(State::Overridden)
}

fn not_closed(state: State) -> Closed {
    Closed { state, changed: false, bumped: false, scheduled: None }
}

/// Closes without a person's request. The audit log records it if it can be written.
fn close_by_itself(host: &Host, settings: &Settings, reasons: &[Reason], lock: Lock) -> Result<Closed> {
    let closed = close_and_tell(host, settings, reasons, lock)?;
    if closed.changed {
        let _ = audit::append(host, &audit::Event::now(host, What::Closed, &lines(reasons), None));
    }
    Ok(closed)
}

/// Closes the gate, and informs people after the lock is released.
fn close_and_tell(host: &Host, settings: &Settings, reasons: &[Reason], lock: Lock) -> Result<Closed> {
    let reasons = by_hand::with(host, reasons);
    let (closed, interrupt) = close_locked(host, settings, &reasons, &lock)?;
    drop(lock);
    if closed.changed {
        tell_closed(host, &reasons, closed.scheduled.as_deref(), interrupt);
    }
    Ok(closed)
}

/// The second result is whether people should be interrupted.
pub(super) fn close_locked(host: &Host, settings: &Settings, reasons: &[Reason], _: &Lock) -> Result<(Closed, bool)> {
    let old = record(host);
    let whole = look(host, settings.poweroff) == Files::All;
    let same = |r: &Record| r.reasons == reasons && r.poweroff == settings.poweroff && r.confirmed;
    // A daemon-reload may have happened while the files were missing.
    let still = || !host.is_live() || is_upstart(host) || systemd::ask(settings.poweroff).is_ok_and(|f| f == Files::All);
    // First of all: runs that judged before this must not open the gate afterwards, even if this process is killed. Also if
    // the gate is closed correctly: a run that looked before the last change would open the gate that is confirmed here.
    let bumped = generation::bump(host).is_ok();
    let confirmed = whole && old.as_ref().is_some_and(same);
    if confirmed && still() {
        return Ok((Closed { bumped, ..not_closed(State::Closed) }, false));
    }
    let told = old.as_ref().is_some_and(|r| r.reasons == reasons) && whole;
    // Logged-in people are interrupted once per kernel; later details go to the other channels only.
    let interrupt = !whole || old.as_ref().is_none_or(|r| kernels_of(&r.reasons) != kernels_of(reasons));
    let kept = old.unwrap_or_default();
    let upstart = is_upstart(host);
    let initctl = if upstart { Initctl::default() } else { systemd::initctl_before(host, &kept.initctl) };
    let since = if whole { kept.since } else { audit::now() };
    let mut new =
        Record { reasons: reasons.to_vec(), since, poweroff: settings.poweroff, initctl, confirmed: false, failed: None };
    // Remove an expired one, or one that does not cover a new kernel. Refusing does not depend on the removal.
    let _ = (host.remove(override_::FILE), host.remove(pass::FILE));
    // The record comes first, because it lists what opening must restore. If it cannot be written (/run is full), no unit of
    // initctl is masked, since nothing would unmask it; the reboot is refused all the same.
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
        // It was confirmed as closed before and only the reasons changed, so systemd has nothing to read. (If the reasons
        // are the same, it was asked above.)
        let known = whole && kept.confirmed && kept.poweroff == settings.poweroff && !confirmed;
        // The files that could be written refuse some ways to reboot, so they take effect even if others could not be
        // written.
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
    // Without a record, systemd is asked each time and gives the same answer.
    let _ = store(host, &new);
    let scheduled = (!told).then(|| scheduled(host, settings.poweroff)).flatten();
    if !told {
        // The gate is closed whether or not this can be written.
        let _ = notices::motd(host, Some(&text(reasons, scheduled.as_deref())));
    }
    Ok((Closed { state: State::Closed, changed: !told, bumped, scheduled }, interrupt))
}

fn write_upstart(host: &Host, settings: &Settings, reasons: &[Reason]) -> Result<()> {
    upstart::write(host, settings.poweroff, reasons)?;
    if upstart::look(host, settings.poweroff) == Files::All {
        return Ok(());
    }
    Err(advise(
        format!("the gate is not seen closed: no wrapper around {}", unwrapped(host).join(", ")),
        "do not reboot; vfguard-upstart install",
    ))
}

/// Has systemd read the files, and asks it whether it refuses. Its answer counts, not the exit code of the reload. `known`:
/// it refused before.
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

fn text(reasons: &[Reason], scheduled: Option<&str>) -> Text {
    let mut text = Text::of(if reasons.iter().all(by_hand::is_persons) {
        "vfguard refuses to reboot this machine: an administrator closed the gate."
    } else {
        "vfguard refuses to reboot this machine: it might come up without its network."
    });
    for reason in reasons {
        text.line(&format!("  {}", reason.line()));
        text.line(&format!("    to mend it: {}", reason.remedy));
    }
    if let Some(line) = scheduled {
        text.line(&format!("  {line}"));
    }
    text.line("  More: vfguard status. To reboot all the same: vfguard gate open --reason TEXT");
    text
}

fn lines(reasons: &[Reason]) -> String {
    reasons.iter().map(Reason::line).collect::<Vec<_>>().join("; ")
}

fn tell_closed(host: &Host, reasons: &[Reason], scheduled: Option<&str>, interrupt: bool) {
    let kernels = kernels_of(reasons).into_iter().flatten().map(KernelRelease::as_str).collect::<Vec<_>>().join(" ");
    let fields =
        [("VFGUARD_GATE", "closed"), ("VFGUARD_KERNEL", kernels.as_str()), ("VFGUARD_SCHEDULED", scheduled.unwrap_or(""))];
    notices::journal(host, Topic::GateClosed, &format!("gate closed, reboots are refused: {}", lines(reasons)), &fields);
    if interrupt {
        notices::wall(host, &text(reasons, scheduled));
    }
}
