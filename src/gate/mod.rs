//! The gate: what refuses the reboot. Its state is read from the files that refuse, never from a record; the record beside
//! them says why, and what has to be put back.
//!
//! ```text
//!   open ──close(reasons)──► closed ──open──► open
//!     ▲                        │ open_override(reason)
//!     └──── a verdict ◄── overridden ── time, boot, a kernel it does not name ──► closed
//! ```

pub mod audit;
mod close;
pub mod generation;
mod override_;
pub mod systemd;
pub mod upstart;

pub use close::{close, close_by_hand, close_undecided, Closed};
pub use override_::{active as active_override, Override, LONGEST, USUAL};

use crate::error::{advise, Remedy};
use crate::host::{command, failpoint, files, lock, Host};
use crate::judge::Judgement;
use crate::kernel::KernelRelease;
use crate::report::notices::{self, Topic};
use crate::report::text::Text;
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
/// Longer than whoever holds the lock may take: systemd reads its units (90 s), and is asked and told three times (25 s each).
const PATIENCE: Duration = Duration::from_secs(180);
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
    /// Not confirmed: its files are there or half there, and systemd, which reads them, gives no answer.
    Unknown,
}

/// A state as the contract spells it.
pub fn word(state: State) -> &'static str {
    match state {
        State::Open => "open",
        State::Closed => "closed",
        State::Overridden => "overridden",
        State::Unknown => "unknown",
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
    /// Why what was written could not be confirmed: systemd does not answer, or does not do what the files say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_confirmed: Option<String>,
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
    /// Why it was not, when it was asked last.
    failed: Option<String>,
}

/// On whose account; `None` where it is no kernel's.
fn kernels_of(reasons: &[Reason]) -> Vec<Option<&KernelRelease>> {
    reasons.iter().map(|r| r.kernel.as_ref()).collect()
}

fn record(host: &Host) -> Option<Record> {
    let text = files::read_bounded(&host.path(RECORD), MAX_RECORD).ok()?;
    serde_json::from_slice(&text).ok()
}

/// The gate. While its files and its record agree, which is the rule, no process is started; where a closing or an opening was not seen to
/// take effect, a live systemd is asked. An override that has ended is none.
pub fn state(host: &Host) -> Gate {
    let agree = match look(host, false) {
        Files::All => record(host).is_some_and(|r| r.confirmed),
        Files::None => !host.exists(RECORD),
        Files::Some => false,
    };
    if agree {
        by_files(host)
    } else {
        seen(host)
    }
}

/// The gate as a live systemd sees it; of another root and on upstart the files tell. Where the two differ, systemd is right: it is the
/// one that reboots.
pub fn seen(host: &Host) -> Gate {
    let mut gate = by_files(host);
    if !host.is_live() || upstart::is_upstart(host) || !host.is_dir(crate::host::systemd::BOOTED) {
        return gate;
    }
    let failed = || record(host).and_then(|r| r.failed).map(|why| format!("; closing it: {why}")).unwrap_or_default();
    match systemd::ask(false).map(|files| state_of(files, gate.over.is_some())) {
        Ok(state) if state == gate.state => gate.seen += "; systemd, asked, says the same",
        Ok(state) => {
            gate.not_confirmed = Some(format!(
                "systemd, asked, says {}, but {}: systemctl daemon-reload{}",
                word(state),
                gate.seen,
                failed()
            ));
            gate.seen = "by systemd, asked".into();
            gate.state = state;
        }
        // No file and no answer: nothing was ever written that systemd could have read.
        Err(e) if look(host, true) == Files::None && !host.exists(RECORD) => {
            gate.seen += &format!("; systemd could not be asked ({e:#})");
        }
        Err(e) => {
            gate.not_confirmed = Some(format!("systemd could not be asked ({e:#}){}", failed()));
            gate.state = State::Unknown;
        }
    }
    gate
}

fn state_of(files: Files, overridden: bool) -> State {
    match (files, overridden) {
        (Files::All, _) => State::Closed,
        (Files::Some | Files::None, true) => State::Overridden,
        (Files::Some | Files::None, false) => State::Open,
    }
}

/// The gate from the files below the root.
fn by_files(host: &Host) -> Gate {
    let over = active_override(host);
    let files = look(host, false);
    let seen = match files {
        Files::All => "the files of the gate refuse",
        Files::Some => "some files of the gate refuse, others are missing",
        Files::None => "no file of the gate refuses",
    };
    let state = state_of(files, over.is_some());
    let reason = match (state, record(host)) {
        (State::Closed, Some(record)) => record.reasons.iter().map(Reason::line).collect(),
        (State::Closed, None) => vec!["the record of why is lost; `vfguard check` says what is wrong now".into()],
        (State::Open | State::Overridden | State::Unknown, _) => Vec::new(),
    };
    let half = || format!("{seen}: some ways to reboot are refused, others are not");
    let not_confirmed = (files == Files::Some).then(half);
    Gate { state, reason, over, seen: format!("{seen} ({})", place_of_files(host)), not_confirmed }
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
        notices::wall(host, &Text::of("vfguard: this machine may be rebooted again."));
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
    _file: Option<Flock<File>>,
}

impl Lock {
    fn take(host: &Host) -> Result<Lock> {
        let act = || format!("opening the gate's lock {LOCK}");
        let file = Lock::open(host).remedy(act(), "run this as root")?;
        Lock::wait(file)
    }

    /// The same to close, which is the safe side: where the file cannot be made or opened (a /run that is full), it is closed without.
    fn take_to_close(host: &Host) -> Result<Lock> {
        Lock::open(host).map_or(Ok(Lock { _file: None }), Lock::wait)
    }

    fn open(host: &Host) -> Result<File> {
        let path = host.path(LOCK);
        files::create_dirs(path.parent().unwrap_or(Path::new("/")), 0o755)?;
        Ok(lock::open(&path)?)
    }

    fn wait(mut file: File) -> Result<Lock> {
        let start = Instant::now();
        loop {
            match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(held) => return Ok(Lock { _file: Some(held) }),
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
