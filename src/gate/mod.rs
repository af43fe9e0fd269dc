//! The gate: what refuses the reboot. Its state is read from the files that refuse, never from a record; the record beside
//! them says why, and what has to be put back.
//!
//! ```text
//!   open ──close(reasons)──► closed ──open, if nobody raised the generation──► open
//!     ▲                        │ open_override(reason), open_for_reboot
//!     └──── a verdict ◄── overridden ── time, boot, a kernel it does not name ──► closed
//! ```
//!
//! All of it is done under one lock (src/gate/lock.rs). Every closing raises the generation under it, and an opening compares
//! there: who judged before a closing never opens after it.

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

pub use by_hand::{by_hand, end as end_order, order, ByHand};
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

/// Why the gate is closed and what has to be put back, below the root. Its presence also says that systemd has not been
/// seen open since.
const RECORD: &str = "/run/vfguard/gate.json";
/// A record is a page of text.
const MAX_RECORD: u64 = 1 << 20;

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
    /// The pass of a reboot that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pass: Option<Pass>,
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

/// The files that refuse, of whichever init this is.
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

/// Whether nothing of the gate is left behind: no file, nothing to put back.
pub fn is_clear(host: &Host) -> bool {
    look(host, true) == Files::None && !host.exists(RECORD)
}

#[cfg(test)]
mod tests;
