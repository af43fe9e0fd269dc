//! Opens the gate: first the files that refuse are removed, then systemd must confirm that it allows a reboot. The record is
//! removed last, so that it survives if the process is killed.

use super::by_hand::{self, by_hand};
use super::lock::Lock;
use super::means::systemd::{self, Files};
use super::means::upstart;
use super::term::Term;
use super::{generation, is_clear, look, override_, pass, record, RECORD};
use crate::audit::{self, What};
use crate::error::{advise, Remedy};
use crate::host::notices::{self, Topic};
use crate::host::upstart::is_upstart;
use crate::host::{command, failpoint, Host};
use crate::text::Text;
use anyhow::{Context, Result};
use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

/// The prefix of the transient timers that close the gate after an override or a pass. The rest of the name is the end time
/// and the process that armed it.
const TIMER: &str = "vfguard-override-end-";
/// All of them, as a pattern for systemctl.
const TIMERS: &str = "vfguard-override-end-*.timer";

/// The result of opening.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opened {
    /// No part of the gate refuses any more.
    Open {
        /// Whether it was completely closed before.
        was_closed: bool,
    },
    /// A person closed it and has not opened it: call [`keep_closed`](super::keep_closed), since the order may have come while it was
    /// being opened.
    ByHand,
    /// The generation was raised since the machine was judged. The machine must be judged again first, and nothing was
    /// changed.
    Overtaken,
}

/// Opens the gate: removes all files that refuse, restores what was masked, and checks that it is open. Idempotent. A
/// running override stays until it ends by itself.
///
/// `judged` is the generation in which all kernels were found safe. It is compared under the gate's lock, and every closing
/// raises it under that lock, so a gate that was closed since is not opened. A person's order to keep it closed is looked for before and
/// after that.
/// Without `judged` the gate is opened whatever the verdict is: for a mode or a system in which nothing is refused.
///
/// # Errors
/// When something cannot be removed, or the live system does not confirm that it is open; a later call tries again.
pub fn open(host: &Host, judged: Option<u64>) -> Result<Opened> {
    let overtaken = || judged.is_some_and(|judged| generation::current(host) != judged);
    if is_clear(host) {
        return Ok(if overtaken() { Opened::Overtaken } else { Opened::Open { was_closed: false } });
    }
    // Not under the lock: those who refuse would wait there for the disk that the order is on.
    let ordered = || judged.is_some() && by_hand(host).is_some();
    if ordered() {
        return Ok(Opened::ByHand);
    }
    let lock = Lock::take(host)?;
    if overtaken() {
        return Ok(Opened::Overtaken);
    }
    failpoint::hit("gate-compared-before-opening");
    let was_closed = open_locked(host, &lock)?;
    drop(lock);
    // An order is on the disk before its closing has the lock. That closing may have been killed, or may not have raised the generation.
    if ordered() {
        return Ok(Opened::ByHand);
    }
    if was_closed {
        let why = if judged.is_some() { "all kernels that may boot are safe" } else { "nothing is refused here any more" };
        // The gate opens even if the log cannot be written or its disk hangs.
        let _ = audit::append(host, &audit::Event::now(host, What::Opened, why, None));
        notices::journal(host, Topic::GateOpened, "gate opened, reboots go through", &[("VFGUARD_GATE", "open")]);
        notices::wall(host, &Text::of("vfguard: this machine may be rebooted again."));
    }
    Ok(Opened::Open { was_closed })
}

/// Removes all files that refuse, and an override or a pass with them, permanently; a package's removal calls this. It needs
/// no reason, and only a file that cannot be removed makes it fail. Returns the error where a person's order to keep the gate closed cannot
/// be removed, as on a read-only /var: the gate is open all the same.
///
/// # Errors
/// Those of [`open`].
pub fn remove(host: &Host) -> Result<Option<anyhow::Error>> {
    let lock = Lock::take(host)?;
    host.remove(override_::FILE)?;
    host.remove(pass::FILE)?;
    if host.is_live() && host.is_dir(crate::host::systemd::BOOTED) {
        // These timers would call a program that no longer exists.
        let _ = crate::host::systemd::order("stop", &[TIMERS]);
    }
    if open_locked(host, &lock)? {
        notices::journal(host, Topic::GateOpened, "gate removed, reboots go through", &[("VFGUARD_GATE", "open")]);
    }
    // Under the lock, so that an order that comes later is not removed with it.
    Ok(by_hand::end(host).err())
}

/// Returns whether it was closed before.
pub(super) fn open_locked(host: &Host, _: &Lock) -> Result<bool> {
    if is_clear(host) {
        let _ = notices::motd(host, None);
        return Ok(false);
    }
    let was = look(host, false) == Files::All;
    let initctl = record(host).unwrap_or_default().initctl;
    let upstart = is_upstart(host);
    if upstart {
        upstart::remove(host)?;
    } else {
        systemd::remove(host, &initctl)?;
    }
    failpoint::hit("gate-removed-before-reload");
    if host.is_live() && !upstart {
        systemd::apply_open(host, &initctl)?;
        if systemd::ask(true)? != Files::None {
            return Err(advise("systemd still refuses a reboot", systemd::WAY_OUT));
        }
    }
    let _ = notices::motd(host, None);
    failpoint::hit("gate-removed-before-record");
    host.remove(RECORD)?;
    Ok(was)
}

/// What the timer runs after an override or a pass: vfguard decides, and if it is killed, the gate is closed. `$$` is
/// systemd's escape for `$`.
const END: &str =
    "\"$$0\" reconcile --no-build --from override-end; [ $$? -lt 100 ] || systemctl start vfguard-fail-closed.service";

/// Schedules the run that closes the gate again after `term`. On upstart, cron runs vfguard every few minutes
/// (packaging/el6).
pub(super) fn close_later(host: &Host, term: &Term, lasts: Duration) -> Result<()> {
    if !host.is_live() || is_upstart(host) {
        return Ok(());
    }
    let program = std::env::current_exe().context("finding out where vfguard is")?;
    // One second later, so that the term has ended when the run checks it.
    let later = crate::host::systemd::later(&timer(term), lasts + Duration::from_secs(1), &end(&program));
    command::run_ok(&later)
        .remedy(
            "arming the timer that closes the gate again",
            "systemctl list-timers; nothing was opened, since nothing would close it again",
        )
        .map(drop)
}

/// The same by wall-clock time, for a machine that is suspended in the meantime. Called without the gate's lock, because
/// systemd may not answer.
pub(super) fn close_by_clock(host: &Host, term: &Term) {
    let Ok(program) = std::env::current_exe() else { return };
    if host.is_live() && !is_upstart(host) {
        let unit = format!("{}-clock", timer(term));
        let _ = command::run(&crate::host::systemd::at_clock(host, &unit, term.until.saturating_add(1), &end(&program)));
    }
}

fn end(program: &Path) -> [OsString; 4] {
    ["/bin/sh".into(), "-c".into(), END.into(), program.into()]
}

fn timer(term: &Term) -> String {
    format!("{TIMER}{}-{}", term.until, std::process::id())
}
