//! The gate refuses reboots. Its state is read from the files that refuse, never from a record. The record beside them says
//! why it is closed and what opening must restore.
//!
//! ```text
//!   open ──close(reasons)──► closed ──open, if nobody raised the generation──► open
//!     ▲                        │ open_override(reason), open_for_reboot
//!     └──── a verdict ◄── overridden ── time, boot, a kernel it does not name ──► closed
//! ```
//!
//! Everything is done under one lock (src/gate/lock.rs). Every closing raises the generation under that lock, and opening
//! compares it under that lock. So a run that judged before a closing never opens after it.

mod by_hand;
mod close;
pub mod generation;
mod lock;
pub mod means;
mod open;
mod override_;
mod pass;
mod removing;
mod term;

pub use by_hand::{by_hand, order, ByHand, CLOSED as CLOSED_BY_HAND};
pub use close::{close, close_by_hand, close_undecided, end_pass, keep_closed, keep_closed_by_order, Closed};
pub use open::{open, remove, Opened};
pub use override_::{active as active_override, open_override, Override, LONGEST, USUAL};
pub use pass::{active as active_pass, open_for_reboot, Pass};
pub use removing::removing;
pub use term::Term;

use crate::host::upstart::is_upstart;
use crate::host::{files, Host};
use crate::kernel::KernelRelease;
use means::systemd::{self, Files, Initctl};
use means::upstart;
use serde::{Deserialize, Serialize};

/// Why the gate is closed and what opening must restore, below the root. If the file exists, systemd has not confirmed since
/// then that the gate is open.
const RECORD: &str = "/run/vfguard/gate.json";
/// A record is about a page of text.
const MAX_RECORD: u64 = 1 << 20;

/// The gate's state, as the JSON contract spells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Reboots are allowed.
    Open,
    /// Reboots are refused.
    Closed,
    /// Reboots are allowed because a person overrode the verdict.
    Overridden,
    /// Not confirmed: all or some of its files exist, and systemd, which reads them, does not answer.
    Unknown,
}

/// The spelling of a state in the JSON contract.
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
    /// The kernel that it is about; none if it is not about a kernel.
    pub kernel: Option<KernelRelease>,
    /// What is wrong, in one line.
    pub summary: String,
    /// The command to run next.
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

/// The gate's state, with details.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Gate {
    /// Open, closed or overridden.
    #[serde(rename = "gate")]
    pub state: State,
    /// Why it is closed, one line each.
    #[serde(rename = "reasons")]
    pub reason: Vec<String>,
    /// The override in effect.
    #[serde(rename = "override")]
    pub over: Option<Override>,
    /// The pass of a requested reboot.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pass: Option<Pass>,
    /// How the state was determined.
    pub seen: String,
    /// Why the files' effect could not be confirmed: systemd does not answer, or does not act as the files say.
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
    /// Whether the system confirmed that it is closed after these files were written.
    confirmed: bool,
    /// Why it did not, the last time.
    failed: Option<String>,
}

/// The kernels of the reasons; `None` for a reason that is not about a kernel.
fn kernels_of(reasons: &[Reason]) -> Vec<Option<&KernelRelease>> {
    reasons.iter().map(|r| r.kernel.as_ref()).collect()
}

fn record(host: &Host) -> Option<Record> {
    let text = files::read_bounded(&host.path(RECORD), MAX_RECORD).ok()?;
    serde_json::from_slice(&text).ok()
}

/// The state of the gate. Usually its files and its record agree, and no process is started. If a closing or an opening was
/// not confirmed, a live systemd is asked. An expired override does not count.
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

/// The gate as a live systemd sees it. For another root and on upstart the files decide. If both differ, systemd is right,
/// because it does the reboot.
pub fn seen(host: &Host) -> Gate {
    let mut gate = by_files(host);
    if !host.is_live() || is_upstart(host) || !host.is_dir(crate::host::systemd::BOOTED) {
        return gate;
    }
    let failed = || record(host).and_then(|r| r.failed).map(|why| format!("; closing it: {why}")).unwrap_or_default();
    match systemd::ask(false).map(|files| state_of(files, gate.over.is_some() || gate.pass.is_some())) {
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
        // No file, no record and no answer: systemd never had anything to read.
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

/// The gate according to the files below the root.
fn by_files(host: &Host) -> Gate {
    let (over, pass) = (active_override(host), active_pass(host));
    let files = look(host, false);
    let seen = match files {
        Files::All => "the files of the gate refuse",
        Files::Some => "some files of the gate refuse, others are missing",
        Files::None => "no file of the gate refuses",
    };
    let state = state_of(files, over.is_some() || pass.is_some());
    let reason = match (state, record(host)) {
        (State::Closed, Some(record)) => record.reasons.iter().map(Reason::line).collect(),
        (State::Closed, None) => vec!["the record of why is lost; `vfguard check` says what is wrong now".into()],
        (State::Open | State::Overridden | State::Unknown, _) => Vec::new(),
    };
    let half = || format!("{seen}: some ways to reboot are refused, others are not");
    let not_confirmed = (files == Files::Some).then(half);
    Gate { state, reason, over, pass, seen: format!("{seen} ({})", place_of_files(host)), not_confirmed }
}

/// The state of the files that refuse, for the init system of this machine.
fn look(host: &Host, poweroff: bool) -> Files {
    if is_upstart(host) {
        upstart::look(host, poweroff)
    } else {
        systemd::look(host, poweroff)
    }
}

fn place_of_files(host: &Host) -> &'static str {
    if is_upstart(host) {
        "/run/vfguard/reboot-refused and the wrappers in /sbin"
    } else {
        "in /run/systemd/system"
    }
}

/// Whether nothing of the gate exists: no file, and nothing to restore.
pub fn is_clear(host: &Host) -> bool {
    look(host, true) == Files::None && !host.exists(RECORD)
}

#[cfg(test)]
mod tests;
