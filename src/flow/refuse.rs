//! Refuses: holds the boot default on a proven kernel and closes the gate. Each is tried whether or not the other succeeds, and both
//! results are reported.
//!
//! Both happen at the same time. Closing waits for systemd, which may hang until this process is killed. Holding writes to /boot, which may
//! block forever on a frozen file system or a dead disk. Neither waits for the other, nor for a build.

use super::look::Look;
use super::plan::{self, Act, Hindrance, Hold, Refusal, Rights};
use crate::audit;
use crate::boot;
use crate::config::{Config, Gate as Settings};
use crate::error::{advise, exit, Exit};
use crate::gate::{self, Closed, Reason};
use crate::host::lock::BootLock;
use crate::host::notices::{self, Topic};
use crate::host::place::Place;
use crate::host::{failpoint, Host};
use crate::kernel::installed;
use crate::verdict::judge::Judgement;
use crate::verdict::survey;
use anyhow::Result;
use std::sync::Mutex;
use std::thread;

/// The result of refusing.
#[derive(Debug, Default)]
pub struct Refused {
    /// What was done and what failed, a line each.
    pub done: Vec<String>,
    /// Whether the boot default was moved or the one-shot default removed.
    pub moved: bool,
    /// How often the generation was raised.
    pub raised: u64,
    /// Why the gate could not be confirmed as closed.
    pub failed: Option<anyhow::Error>,
    /// Whether the default should be held and is not.
    pub not_held: bool,
}

impl Refused {
    fn held(&mut self, host: &Host, moved: Result<boot::Change>) {
        match moved {
            Ok(change) => {
                self.moved |= change.changed;
                self.done.push(told(host, change));
            }
            Err(e) => {
                self.done.push(format!("boot default not held: {e:#}{}; a power cycle is not covered", remedy(&e)));
                self.not_held = true;
            }
        }
    }

    fn closed(&mut self, closed: Result<Closed>) {
        match closed {
            Ok(closed) if closed.state == gate::State::Closed => {
                self.raised += u64::from(closed.bumped);
                self.done.extend(closed.scheduled);
                if closed.changed {
                    self.done.push("gate closed: a reboot is refused".into());
                }
            }
            Ok(_) => {}
            Err(e) => {
                self.done.push(format!("gate not confirmed: {e:#}; do not reboot{}", remedy(&e)));
                self.failed = Some(e);
            }
        }
    }
}

/// A line that says that a person closed the gate and has not opened it yet.
pub fn order(host: &Host) -> Option<String> {
    let order = gate::order(host)?;
    Some(format!("the gate is {}; to open it: {}", order.summary, order.remedy))
}

/// The remedy of an error, in parentheses, to append to a line.
pub fn remedy(error: &anyhow::Error) -> String {
    crate::error::remedy(error).map(|remedy| format!(" ({remedy})")).unwrap_or_default()
}

/// Holds the default where the kernel that boots is not safe. The gate stays as it is: this is for a gate that a person closes.
///
/// # Errors
/// Those of [`Look::new`].
pub fn hold_only(host: &Host, config: &Config, place: Place) -> Result<Vec<String>> {
    let look = Look::new(host, config)?;
    let mut refused = Refused::default();
    let rights = Rights { close: false, ..Rights::new(config.mode, place, false, gate::removing(host)) };
    if let Act::Refuse(refusal) = look.plan(rights).act {
        keep_off(host, config, &refusal, &mut refused);
    }
    Ok(refused.done)
}

/// How many findings a reason summarises; `vfguard status` lists them all.
const SUMMED: usize = 3;

/// The reasons of a judgement to refuse.
pub fn reasons(judgement: &Judgement) -> Vec<gate::Reason> {
    judgement
        .refused()
        .map(|report| {
            let unsafe_ones: Vec<_> = report.findings.iter().filter(|f| f.refuses()).collect();
            let told = if unsafe_ones.is_empty() { report.findings.iter().take(1).collect() } else { unsafe_ones };
            let mut summary = told.iter().take(SUMMED).map(|f| f.detail.as_str()).collect::<Vec<_>>().join("; ");
            if told.len() > SUMMED {
                summary += &format!("; and {} more", told.len() - SUMMED);
            }
            if summary.is_empty() {
                summary = "not proven".into();
            }
            let remedy = told.iter().map(|f| f.remedy.as_str()).find(|r| !r.is_empty()).unwrap_or("vfguard status");
            gate::Reason { kernel: Some(report.kernel.clone()), summary, remedy: remedy.to_owned() }
        })
        .collect()
}

/// Carries out a refusal.
pub fn refuse(host: &Host, config: &Config, refusal: &Refusal, judgement: &Judgement) -> Refused {
    let mut refused = Refused::default();
    let close = || gate::close(host, &config.gate, &reasons(judgement));
    both(&mut refused, refusal.close.then_some(close), |refused| keep_off(host, config, refusal, refused));
    refused
}

/// Refuses because no verdict was reached; `close` closes the gate.
pub fn undecided(
    host: &Host,
    config: &Config,
    place: Place,
    close: impl FnOnce(&Settings) -> Result<Closed> + Send,
) -> Refused {
    let rights =
        plan::undecided(Rights::new(config.mode, place, false, gate::removing(host)), gate::active_override(host).is_some());
    let mut refused = Refused::default();
    // The boot loader's files are read while the gate closes, because they may be on a disk that hangs.
    both(&mut refused, rights.close.then_some(|| close(&config.gate)), |refused| {
        if rights.hold {
            // First finish a write that a power cut interrupted, since these files decide what boots.
            refused.done.extend(boot::heal(host).unwrap_or_else(|e| Some(format!("{e:#}"))));
            let running = installed::running(host).filter(|k| installed::image(host, k).is_some());
            let trusted = survey::trusted(host, running.as_ref());
            let refusal = plan::hold_running(&boot::next_boot(host, &config.boot), running.as_ref(), &trusted);
            keep_off(host, config, &refusal, refused);
        }
    });
    refused
}

/// Closes the gate on a thread of its own while `hold` holds the default. If no thread can be made, one runs after the other.
fn both(refused: &mut Refused, close: Option<impl FnOnce() -> Result<Closed> + Send>, hold: impl FnOnce(&mut Refused)) {
    let close = Mutex::new(close);
    let closing = || close.lock().ok().and_then(|mut close| close.take()).map(|close| close());
    let closed = thread::scope(|scope| {
        let thread = thread::Builder::new().spawn_scoped(scope, closing);
        hold(refused);
        match thread {
            Ok(thread) => {
                thread.join().unwrap_or_else(|_| Some(Err(anyhow::anyhow!("closing the gate did not end as it should"))))
            }
            Err(_) => closing(),
        }
    });
    if let Some(closed) = closed {
        refused.closed(closed);
    }
}

/// Removes the one-shot default and holds the default, where they lead to a kernel that must not boot.
fn keep_off(host: &Host, config: &Config, refusal: &Refusal, refused: &mut Refused) {
    if let Hold::Cannot(hindrance) = refusal.hold {
        refused.held(host, Err(hindered(hindrance)));
    }
    if !refusal.end_once && matches!(refusal.hold, Hold::Leave | Hold::Cannot(_)) {
        return;
    }
    failpoint::hit("unsafe-before-held");
    let lock = match BootLock::take_to_hold(host) {
        Ok(lock) => lock,
        Err(e) => return refused.held(host, Err(e)),
    };
    // The removal of vfguard may have begun since this run started; nothing would end a hold after that.
    if gate::removing(host) {
        return;
    }
    if refusal.end_once {
        refused.held(host, boot::clear_once(host, &lock));
    }
    match &refusal.hold {
        Hold::On(kernel) => refused.held(host, boot::hold_with(host, &lock, &config.boot, kernel)),
        Hold::Promote(kernel) => refused.held(host, boot::promote(host, &lock, Some(kernel))),
        Hold::Leave | Hold::Cannot(_) => {}
    }
}

fn hindered(hindrance: Hindrance) -> anyhow::Error {
    match hindrance {
        Hindrance::Uncertain => advise("what boots next is not certain, so it is not moved", "vfguard next-boot says why"),
        Hindrance::NoHoldTarget => advise(
            "no kernel is known to be good: the running one lacks a driver or its files, and no other that has booted is safe",
            "install a kernel that worked before a reboot",
        ),
    }
}

/// Whether an error left the machine without a decision. A wrong command line does not, nor does a lock that another run holds, which then
/// decides.
pub fn leaves_undecided(error: &anyhow::Error) -> bool {
    match exit(error) {
        Exit::Usage | Exit::Locked => false,
        Exit::Done | Exit::Undecided | Exit::Unsafe => true,
    }
}

/// The reason of a gate that was closed because of an error.
pub fn no_decision(error: &anyhow::Error) -> Reason {
    let remedy = crate::error::remedy(error).unwrap_or("vfguard check").to_owned();
    Reason { kernel: None, summary: format!("nothing could be decided: {error:#}"), remedy }
}

/// Writes a move of the boot default to the journal and the audit log, and returns the line about it. The move stands even if neither can
/// be written.
pub fn told(host: &Host, change: boot::Change) -> String {
    if !change.changed {
        return change.what;
    }
    notices::journal(host, Topic::BootDefault, &change.what, &[("VFGUARD_KERNEL", change.kernel.as_str())]);
    let event = audit::Event::now(host, audit::What::BootDefault, &change.what, Some(&change.kernel));
    match audit::append(host, &event) {
        Ok(()) => change.what,
        Err(e) => format!("{} (not in the audit log: {e:#})", change.what),
    }
}
