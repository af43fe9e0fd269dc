//! The gate: what refuses the reboot. Its state is read from the files that refuse, never from a record; the record beside
//! them says why, and what has to be put back.
//!
//! ```text
//!   open ──close(reasons)──► closed ──open──► open
//!     ▲                        │ open_override(reason)
//!     └──── a verdict ◄── overridden ── time, boot, a kernel it does not name ──► closed
//! ```

pub mod audit;
pub mod generation;
mod override_;
pub mod systemd;
pub mod upstart;

pub use override_::{active as active_override, Override, LONGEST, USUAL};

use crate::config::Gate as Settings;
use crate::error::{advise, Remedy};
use crate::host::{command, failpoint, files, Host};
use crate::judge::Judgement;
use crate::kernel::KernelRelease;
use crate::report::notices::{self, Topic};
use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::path::Path;
use std::time::{Duration, Instant};
use systemd::{Files, Initctl};

/// Why the gate is closed and what has to be put back, below the root. Its presence also says that systemd has not been
/// seen open since.
const RECORD: &str = "/run/vfguard/gate.json";
/// Closing and opening exclude each other; nobody builds under this lock.
const LOCK: &str = "/run/vfguard/gate.lock";
/// The transient timers that end overrides; the rest of the name is when.
const OVERRIDE_TIMER: &str = "vfguard-override-end-";
/// All of them, for systemctl.
const OVERRIDE_TIMERS: &str = "vfguard-override-end-*.timer";
/// Longer than systemd may take to read its units.
const PATIENCE: Duration = Duration::from_secs(120);
const RETRY: Duration = Duration::from_millis(20);
/// A record is a page of text.
const MAX_RECORD: u64 = 1 << 20;
/// Findings that a reason sums up; `vfguard status` has them all.
const SUMMED: usize = 3;

/// The gate as the contract spells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Reboots go through.
    Open,
    /// Reboots are refused.
    Closed,
    /// Reboots go through because a person said so.
    Overridden,
}

/// A state as the contract spells it.
pub fn word(state: State) -> &'static str {
    match state {
        State::Open => "open",
        State::Closed => "closed",
        State::Overridden => "overridden",
    }
}

/// Why the gate is closed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reason {
    /// On whose account; none where it is no kernel's.
    pub kernel: Option<KernelRelease>,
    /// What is wrong, in a line.
    pub summary: String,
    /// What to type next.
    pub remedy: String,
}

impl Reason {
    fn line(&self) -> String {
        match &self.kernel {
            Some(kernel) => format!("{kernel}: {}", self.summary),
            None => self.summary.clone(),
        }
    }
}

/// A judgement's reasons to refuse.
pub fn reasons(judgement: &Judgement) -> Vec<Reason> {
    use crate::finding::Severity;
    judgement
        .refused()
        .map(|report| {
            let unsafe_ones: Vec<_> = report.findings.iter().filter(|f| f.severity == Severity::Unsafe).collect();
            let told = if unsafe_ones.is_empty() { report.findings.iter().take(1).collect() } else { unsafe_ones };
            let mut summary = told.iter().take(SUMMED).map(|f| f.detail.as_str()).collect::<Vec<_>>().join("; ");
            if told.len() > SUMMED {
                summary += &format!("; and {} more", told.len() - SUMMED);
            }
            if summary.is_empty() {
                summary = "not proven".into();
            }
            let remedy = told.iter().map(|f| f.remedy.as_str()).find(|r| !r.is_empty()).unwrap_or("vfguard status");
            Reason { kernel: Some(report.kernel.clone()), summary, remedy: remedy.to_owned() }
        })
        .collect()
}

/// The gate as seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Gate {
    /// Open, closed or overridden.
    #[serde(rename = "gate")]
    pub state: State,
    /// Why it is closed, a line each.
    #[serde(rename = "reasons")]
    pub reason: Vec<String>,
    /// The override that runs.
    #[serde(rename = "override")]
    pub over: Option<Override>,
    /// How it was seen.
    pub seen: String,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct Record {
    reasons: Vec<Reason>,
    since: i64,
    poweroff: bool,
    initctl: Initctl,
    /// Seen closed by asking the system after these files were written.
    confirmed: bool,
}

/// On whose account; `None` where it is no kernel's.
fn kernels_of(reasons: &[Reason]) -> Vec<Option<&KernelRelease>> {
    reasons.iter().map(|r| r.kernel.as_ref()).collect()
}

fn record(host: &Host) -> Option<Record> {
    let text = files::read_bounded(&host.path(RECORD), MAX_RECORD).ok()?;
    serde_json::from_slice(&text).ok()
}

/// The gate from the files below the root; no process is started. An override that has ended is none.
pub fn state(host: &Host) -> Gate {
    let over = active_override(host);
    let (state, seen) = match (look(host, false), &over) {
        (Files::All, _) => (State::Closed, "the files of the gate refuse"),
        (Files::Some, Some(_)) => (State::Overridden, "some files of the gate refuse, others are missing"),
        (Files::Some, None) => (State::Open, "some files of the gate refuse, others are missing"),
        (Files::None, Some(_)) => (State::Overridden, "no file of the gate refuses"),
        (Files::None, None) => (State::Open, "no file of the gate refuses"),
    };
    let reason = match (state, record(host)) {
        (State::Closed, Some(record)) => record.reasons.iter().map(Reason::line).collect(),
        (State::Closed, None) => vec!["the record of why is lost; `vfguard check` says what is wrong now".into()],
        (State::Open | State::Overridden, _) => Vec::new(),
    };
    Gate { state, reason, over, seen: format!("{seen} ({})", place_of_files(host)) }
}

/// The files that refuse, of whichever init this is.
fn look(host: &Host, poweroff: bool) -> Files {
    if upstart::is_upstart(host) {
        upstart::look(host, poweroff)
    } else {
        systemd::look(host, poweroff)
    }
}

fn place_of_files(host: &Host) -> &'static str {
    if upstart::is_upstart(host) {
        "/run/vfguard/reboot-refused and the wrappers in /sbin"
    } else {
        "in /run/systemd/system"
    }
}

/// Whether nothing of the gate is left behind: no file, nothing to put back.
pub fn is_clear(host: &Host) -> bool {
    look(host, true) == Files::None && !host.exists(RECORD)
}

/// The gate as the system itself sees it: a live one is asked, of another root the files tell.
///
/// # Errors
/// When the live system does not answer.
pub fn confirm(host: &Host) -> Result<State> {
    let asked = host.is_live() && !upstart::is_upstart(host);
    let files = if asked { systemd::ask(false)? } else { look(host, false) };
    Ok(match (files, active_override(host)) {
        (Files::All, _) => State::Closed,
        (Files::Some | Files::None, Some(_)) => State::Overridden,
        (Files::Some | Files::None, None) => State::Open,
    })
}

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
    let lock = Lock::take(host)?;
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
    let lock = Lock::take(host)?;
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
    let lock = Lock::take(host)?;
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
    if whole && old.as_ref().is_some_and(same) {
        return Ok(Closed { state: State::Closed, changed: false, scheduled: None });
    }
    let told = old.as_ref().is_some_and(|r| r.reasons == reasons) && whole;
    // Whoever is logged in is told once on a kernel's account; what is better known later is in the other channels.
    let interrupt = !whole || old.as_ref().is_none_or(|r| kernels_of(&r.reasons) != kernels_of(reasons));
    let kept = old.unwrap_or_default();
    let upstart = upstart::is_upstart(host);
    let initctl = if upstart { Initctl::default() } else { systemd::initctl_before(host, &kept.initctl) };
    let since = if whole { kept.since } else { audit::now() };
    let mut new = Record { reasons: reasons.to_vec(), since, poweroff: settings.poweroff, initctl, confirmed: false };
    // One that has ended, or that another kernel ended.
    files::remove(&host.path(override_::FILE))?;
    // The record first: it knows what to put back, whatever comes of the rest.
    store(host, &new)?;
    failpoint::hit("gate-recorded-before-files");
    if upstart {
        upstart::write(host, settings.poweroff, reasons)?;
        if upstart::look(host, settings.poweroff) != Files::All {
            return Err(advise(
                format!("the gate is not seen closed: no wrapper around {}", upstart::unwrapped(host).join(", ")),
                "do not reboot; vfguard-upstart install",
            ));
        }
    } else {
        systemd::write(host, settings.poweroff)?;
        systemd::mask_initctl(host, &new.initctl)?;
    }
    failpoint::hit("gate-written-before-confirmed");
    if host.is_live() && !upstart {
        // Already seen closed and only the reasons are new: nothing for systemd to read.
        let seen =
            whole && kept.confirmed && kept.poweroff == settings.poweroff && systemd::ask(settings.poweroff)? == Files::All;
        if !seen {
            systemd::apply_closed(host, settings.poweroff)?;
            let asked = systemd::ask(settings.poweroff)?;
            if asked != Files::All {
                notices::journal(host, Topic::GateFailed, "the gate was written and systemd does not refuse a reboot", &[]);
                return Err(advise(
                    format!("the gate is not seen closed ({asked:?} of its units refuse)"),
                    format!(
                        "do not reboot; systemctl daemon-reload; systemctl show -p Requires reboot.target must list {}",
                        systemd::UNIT
                    ),
                ));
            }
        }
    }
    new.confirmed = true;
    store(host, &new)?;
    let scheduled = (!told).then(|| scheduled(host, settings.poweroff)).flatten();
    if !told {
        tell_closed(host, reasons, scheduled.as_deref(), interrupt);
    }
    Ok(Closed { state: State::Closed, changed: !told, scheduled })
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
    let mut text = String::from("vfguard refuses to reboot this machine: it might come up without its network.\n");
    for reason in reasons {
        text += &format!("  {}\n    to mend it: {}\n", reason.line(), reason.remedy);
    }
    if let Some(line) = scheduled {
        text += &format!("  {line}\n");
    }
    text += "  More: vfguard status. To reboot all the same: vfguard gate open --reason TEXT\n";
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

/// Opens the gate: removes all that refuses, puts back what was masked, and asks whether it is open. Idempotent. An override
/// is left to end by itself.
///
/// # Errors
/// When something cannot be removed or the live system is not seen open; a later call tries again.
pub fn open(host: &Host) -> Result<()> {
    if is_clear(host) {
        return Ok(());
    }
    let lock = Lock::take(host)?;
    if open_locked(host, &lock)? {
        notices::journal(host, Topic::GateOpened, "gate opened, reboots go through", &[("VFGUARD_GATE", "open")]);
        notices::wall(host, "vfguard: this machine may be rebooted again.\n");
    }
    Ok(())
}

/// Takes away all that refuses, and an override with it, for good: what a package's removal calls. No reason is needed, and
/// nothing but the loss of a file's removal hinders it.
///
/// # Errors
/// Those of [`open`].
pub fn remove(host: &Host) -> Result<()> {
    let lock = Lock::take(host)?;
    files::remove(&host.path(override_::FILE))?;
    if host.is_live() && host.is_dir(crate::host::systemd::BOOTED) {
        // Timers that would call a program that is gone.
        let _ = crate::host::systemd::order("stop", &[OVERRIDE_TIMERS]);
    }
    if open_locked(host, &lock)? {
        notices::journal(host, Topic::GateOpened, "gate removed, reboots go through", &[("VFGUARD_GATE", "open")]);
    }
    Ok(())
}

/// Whether it was closed before.
fn open_locked(host: &Host, _: &Lock) -> Result<bool> {
    let _ = notices::motd(host, None);
    if is_clear(host) {
        return Ok(false);
    }
    let was = look(host, false) == Files::All;
    let initctl = record(host).unwrap_or_default().initctl;
    let upstart = upstart::is_upstart(host);
    if upstart {
        upstart::remove(host)?;
    } else {
        systemd::remove(host, &initctl)?;
    }
    failpoint::hit("gate-removed-before-record");
    if host.is_live() && !upstart {
        systemd::apply_open(host, &initctl)?;
        if systemd::ask(true)? != Files::None {
            return Err(advise("systemd still refuses a reboot", systemd::WAY_OUT));
        }
    }
    files::remove(&host.path(RECORD))?;
    Ok(was)
}

/// Opens the gate against a verdict. What must not fail afterwards comes first: the line in the audit log, then the timer
/// that closes the gate again.
///
/// # Errors
/// Without a reason, with a time out of bounds, when the audit log or the timer cannot be had, and those of [`open`].
pub fn open_override(host: &Host, reason: &str, kernel: Option<KernelRelease>, lasts: Duration) -> Result<Override> {
    let over = Override::new(host, reason, kernel, lasts)?;
    let lock = Lock::take(host)?;
    let mut event = audit::Event::now(host, audit::What::Override, &over.reason, over.kernel.as_ref());
    event.until = Some(audit::stamp(over.until));
    audit::append(host, &event)?;
    // On upstart, cron looks every few minutes whether one has ended (packaging/el6).
    if host.is_live() && !upstart::is_upstart(host) {
        let program = std::env::current_exe().context("finding out where vfguard is")?;
        let unit = format!("{OVERRIDE_TIMER}{}", over.until);
        // A second later, so that it is over when the run looks.
        let later = crate::host::systemd::later(
            &unit,
            lasts + Duration::from_secs(1),
            &program,
            &["reconcile", "--from", "override-end"],
        );
        command::run_ok(&later).remedy(
            "arming the timer that ends the override",
            "systemctl list-timers; nothing was opened, since nothing would close it again",
        )?;
    }
    override_::store(host, &over)?;
    open_locked(host, &lock)?;
    let (kernels, until) = (over.kernels.iter().map(|k| k.as_str()).collect::<Vec<_>>().join(" "), audit::stamp(over.until));
    let login = over.who.login_uid.map(|u| u.to_string()).unwrap_or_default();
    notices::journal(
        host,
        Topic::Override,
        &format!("gate opened against the verdict until {until}: {}", over.reason),
        &[
            ("VFGUARD_GATE", "overridden"),
            ("VFGUARD_KERNEL", kernels.as_str()),
            ("VFGUARD_REASON", over.reason.as_str()),
            ("VFGUARD_UNTIL", until.as_str()),
            ("VFGUARD_LOGIN_UID", login.as_str()),
        ],
    );
    Ok(over)
}

/// Closing or opening is under way.
#[derive(Debug)]
struct Lock {
    _file: Flock<File>,
}

impl Lock {
    fn take(host: &Host) -> Result<Lock> {
        let path = host.path(LOCK);
        let act = || format!("opening the gate's lock {LOCK}");
        files::create_dirs(path.parent().unwrap_or(Path::new("/")), 0o755).remedy(act(), "run this as root")?;
        let file = File::options().create(true).truncate(false).write(true).open(&path);
        let mut file = file.remedy(act(), "run this as root")?;
        let start = Instant::now();
        loop {
            match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(held) => return Ok(Lock { _file: held }),
                Err((back, Errno::EWOULDBLOCK)) if start.elapsed() < PATIENCE => {
                    file = back;
                    std::thread::sleep(RETRY);
                }
                Err((_, e)) => return Err(e).remedy("waiting for the gate to be closed or opened", "run this again"),
            }
        }
    }
}

#[cfg(test)]
mod tests;
