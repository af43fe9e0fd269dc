//! Opening the gate: what refuses goes first, then systemd is seen to let a reboot through, and what the gate was closed for goes last,
//! so that it outlives an opener that is killed.

use super::by_hand::by_hand;
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

/// The transient timers that close again once an override or a pass has ended; the rest of the name is when, and who armed it.
const TIMER: &str = "vfguard-override-end-";
/// All of them, for systemctl.
const TIMERS: &str = "vfguard-override-end-*.timer";

/// What opening came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opened {
    /// Nothing of the gate refuses any more.
    Open {
        /// Whether all of it refused before.
        was_closed: bool,
    },
    /// A person closed it and has not opened it: nothing was changed.
    ByHand,
    /// Somebody raised the generation since the machine was judged: what is there now has to be judged first, and nothing was changed.
    Overtaken,
}

/// Opens the gate: removes all that refuses, puts back what was masked, and asks whether it is open. Idempotent. An override
/// is left to end by itself.
///
/// `judged` is the generation in which all was found safe; it is compared under the gate's lock, under which every closing raises
/// it, so nothing is opened that was closed since; nor what a person closed by hand. Without one it opens whatever was judged: for a mode or place where nothing is refused.
///
/// # Errors
/// When something cannot be removed or the live system is not seen open; a later call tries again.
pub fn open(host: &Host, judged: Option<u64>) -> Result<Opened> {
    let overtaken = || judged.is_some_and(|judged| generation::current(host) != judged);
    if is_clear(host) {
        return Ok(if overtaken() { Opened::Overtaken } else { Opened::Open { was_closed: false } });
    }
    // Before the lock, so that nobody waits there for the disk that this is on. An order that comes later raises the generation.
    if judged.is_some() && by_hand(host).is_some() {
        return Ok(Opened::ByHand);
    }
    let lock = Lock::take(host)?;
    if overtaken() {
        return Ok(Opened::Overtaken);
    }
    failpoint::hit("gate-compared-before-opening");
    let was_closed = open_locked(host, &lock)?;
    drop(lock);
    if was_closed {
        let why = if judged.is_some() { "all kernels that may boot are safe" } else { "nothing is refused here any more" };
        // A log that cannot be written, or a disk that hangs, keeps no gate closed.
        let _ = audit::append(host, &audit::Event::now(host, What::Opened, why, None));
        notices::journal(host, Topic::GateOpened, "gate opened, reboots go through", &[("VFGUARD_GATE", "open")]);
        notices::wall(host, &Text::of("vfguard: this machine may be rebooted again."));
    }
    Ok(Opened::Open { was_closed })
}

/// Takes away all that refuses, and an override or a pass with it, for good: what a package's removal calls. No reason is needed, and
/// nothing but the loss of a file's removal hinders it.
///
/// # Errors
/// Those of [`open`].
pub fn remove(host: &Host) -> Result<()> {
    let lock = Lock::take(host)?;
    host.remove(override_::FILE)?;
    host.remove(pass::FILE)?;
    if host.is_live() && host.is_dir(crate::host::systemd::BOOTED) {
        // Timers that would call a program that is gone.
        let _ = crate::host::systemd::order("stop", &[TIMERS]);
    }
    if open_locked(host, &lock)? {
        notices::journal(host, Topic::GateOpened, "gate removed, reboots go through", &[("VFGUARD_GATE", "open")]);
    }
    Ok(())
}

/// Whether it was closed before.
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

/// What closes again once an override or a pass is over: vfguard decides, and whatever kills it is refused for. `$$` is systemd's own `$`.
const END: &str =
    "\"$$0\" reconcile --no-build --from override-end; [ $$? -lt 100 ] || systemctl start vfguard-fail-closed.service";

/// Has the run that closes again come once `term` is over. On upstart, cron looks every few minutes (packaging/el6).
pub(super) fn close_later(host: &Host, term: &Term, lasts: Duration) -> Result<()> {
    if !host.is_live() || is_upstart(host) {
        return Ok(());
    }
    let program = std::env::current_exe().context("finding out where vfguard is")?;
    // A second later, so that it is over when the run looks.
    let later = crate::host::systemd::later(&timer(term), lasts + Duration::from_secs(1), &end(&program));
    command::run_ok(&later)
        .remedy(
            "arming the timer that closes the gate again",
            "systemctl list-timers; nothing was opened, since nothing would close it again",
        )
        .map(drop)
}

/// The same by the clock, for a machine that is suspended meanwhile; without the gate's lock, since it may be waited for in vain.
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
