//! What a hook does inside a package manager's transaction: it decides at once, leaves the work to the service where systemd runs, and
//! reports to the person who watches.
//!
//! ```text
//!   hook ── judge, close, hold ──► nothing to build ──► verdict
//!             │ headers there: start vfguard.service, show its progress, wait ──► judge again ──► verdict
//!             └ headers missing: the service goes on after the transaction; verdict: refused meanwhile
//! ```
//!
//! The service sees the network and the whole file system, both of which rpm's `unshare` plugin hides from a hook. It survives a hook that
//! is killed, and many hooks of one transaction share one run of it.
//!
//! A hook holds the package manager's lock while it waits, so one limit, `hook.budget`, covers all its waiting. After that the service goes
//! on alone, and the gate stays closed meanwhile. A service that cannot start is not waited for (`follow`).

mod caller;
mod follow;
pub mod order;

pub use caller::Caller;

use super::reconcile::{self, Effort, Outcome, Pending, Standing};
use super::refuse;
use crate::boot;
use crate::config::{Config, Mode};
use crate::driver::headers;
use crate::finding::Verdict;
use crate::gate::{self, State};
use crate::host::place::{self, Place};
use crate::host::{locks, systemd, Host};
use crate::kernel::{installed, leaving, KernelRelease};
use crate::packages::yum;
use crate::progress::Progress;
use crate::verdict::judge::{KernelReport, Role, Work};
use crate::verdict::survey::Survey;
use anyhow::Result;
use follow::{follow, Ran};
use order::Stage;
use std::ffi::OsString;
use std::path::Path;
use std::time::{Duration, Instant};

/// The unit that builds; its file is in packaging/systemd.
pub const WORKER: &str = "vfguard.service";
/// Written by the worker when all is safe but packages are still changing.
const WITHHELD: &str = "/run/vfguard/withheld";
/// How long a transaction of many packages may take on a slow machine.
const TRANSACTION: Duration = Duration::from_secs(2 * 60 * 60);
/// The unit that waits for the end of a transaction and installs headers; its file is in packaging/systemd.
pub const HEADERS: &str = "vfguard-headers.service";
/// Where the worker writes its progress for hooks, below the root.
pub const PROGRESS: &str = "/run/vfguard/progress";
/// The last verdict that a hook printed, below the root: the next hook of the transaction does not repeat it.
const TOLD: &str = "/run/vfguard/told";
/// The last verdict that yum's action printed, and for which kernels. It is kept apart, since EL6 does not show what scriptlets print.
const TOLD_BY_ACTION: &str = "/run/vfguard/told-by-action";
/// Reconciles as a hook; `leaving` is a kernel that is about to be removed.
///
/// # Errors
/// Those of [`reconcile::reconcile`].
pub fn run(
    host: &Host,
    config: &Config,
    caller: Caller,
    leaving: Option<&KernelRelease>,
    progress: &dyn Progress,
) -> Result<Outcome> {
    let (stage, standing) = (caller.stage().unwrap_or(Stage::Written), caller.standing());
    // On Ubuntu, kernel packages run their own hooks from a trigger, which has not run yet.
    let unfinished = stage == Stage::Done && is_triggered(host);
    let standing = if unfinished { Standing::Changing } else { standing };
    match leaving {
        // If the note cannot be written, the kernel is judged like any other.
        Some(kernel) => leaving::note(host, kernel).unwrap_or_else(|e| progress.note(&format!("{e:#}"))),
        None if stage.forgets() && !unfinished => leaving::forget(host),
        None => {}
    }
    let until = Instant::now() + Duration::from_secs(config.hook.budget);
    let place = place::place(host);
    if !place.may_hold() {
        // An image build or another place where nothing is refused, so there is no need to decide first.
        let effort = if stage.builds() { Effort::Whole } else { Effort::Decide };
        return reconcile::reconcile(host, config, effort, standing, progress);
    }
    let mut first = reconcile::reconcile(host, config, Effort::Decide, standing, progress)?;
    if !stage.builds() {
        return Ok(first);
    }
    let pending = reconcile::pending(host, &first.work);
    let served = host.is_live() && place == Place::Normal && systemd::serves(host, WORKER);
    if pending.is_empty() && served {
        return Ok(first);
    }
    let said = std::mem::take(&mut first.done);
    if pending.is_empty() {
        let mut last = here(host, config, until, standing, progress, &said)?;
        last.done.splice(0..0, said);
        return Ok(last);
    }
    // Printed before the slow part starts.
    said.iter().for_each(|line| progress.note(line));
    let (ready, lacking): (Vec<Pending>, Vec<Pending>) = pending.into_iter().partition(|p| p.headers || !served);
    for p in &ready {
        progress.note(&format!("{}: {} is not proven yet{}", p.kernel, p.driver, meanwhile(&first)));
    }
    if stage == Stage::Written && yum::action_follows(host) {
        // yum shows a scriptlet's output only when it has ended, and people would think that the machine hangs.
        if served {
            systemd::order("start", &[WORKER])?;
        }
        progress.note("the work is done after this transaction, where its progress is seen");
        return Ok(first);
    }
    if !served {
        return here(host, config, until, standing, progress, &said);
    }
    for p in &lacking {
        progress.note(&format!(
            "{}: its headers are not there (yet); {} is built once they are, after this transaction{}",
            p.kernel,
            p.driver,
            meanwhile(&first)
        ));
    }
    if ready.is_empty() || !config.hook.wait {
        in_the_background(progress)?;
        return Ok(first);
    }
    for _ in 0..2 {
        if caller == Caller::Yum {
            // yum's action has the terminal, so a progress line can be updated there.
            progress.begin(None, &format!("waiting for {WORKER}, which builds"));
        }
        let ran = follow(host, until, progress);
        progress.end();
        match ran? {
            Ran::Not => return here(host, config, until, standing, progress, &said),
            Ran::Waits => {
                progress
                    .note(&format!("{WORKER} waits for something that may wait for this hook, so the work is done here"));
                return here(host, config, until, standing, progress, &said);
            }
            Ran::On => {
                progress.note(&format!("not done after {} s (hook.budget)", config.hook.budget));
                in_the_background(progress)?;
                return Ok(first);
            }
            Ran::Whole => break,
            // The worker may have been near its end already, and not have seen what this hook saw.
            Ran::Joined if left(host, config)? => {}
            Ran::Joined => break,
        }
    }
    again(host, config, Effort::Decide, standing, progress, &said)
}

/// Whether a kernel's package has registered work for its trigger, as Ubuntu's do, and that trigger has not run yet.
fn is_triggered(host: &Host) -> bool {
    const DIR: &str = "/usr/lib/linux/triggers";
    let pending = |name: &OsString| {
        let kernel = name.to_str().and_then(|name| name.parse::<KernelRelease>().ok());
        let written = host.metadata(Path::new(DIR).join(name)).and_then(|meta| meta.modified());
        // A trigger that failed leaves its file, so an old file does not count.
        let young = written.is_ok_and(|written| written.elapsed().is_ok_and(|age| age < TRANSACTION));
        young && kernel.is_some_and(|kernel| installed::image(host, &kernel).is_some())
    };
    host.read_dir(DIR).unwrap_or_default().iter().any(pending)
}

/// Leaves the work to the worker and does not wait for it.
fn in_the_background(progress: &dyn Progress) -> Result<()> {
    systemd::order("start", &[WORKER])?;
    progress.note(&format!(
        "the work goes on in the background (journalctl -f -u {WORKER}); to reboot once it is done: vfguard reboot --wait"
    ));
    Ok(())
}

/// Does the work here, where no service does it. The wait for another run and each build end with the budget, and no build begins after it.
/// Short steps (fetching, depmod, an initramfs) keep their own limits.
fn here(
    host: &Host,
    config: &Config,
    until: Instant,
    standing: Standing,
    progress: &dyn Progress,
    said: &[String],
) -> Result<Outcome> {
    let left = until.saturating_duration_since(Instant::now()).as_secs().max(1);
    let mut config = config.clone();
    config.hook.lock_timeout = config.hook.lock_timeout.min(left);
    let last = again(host, &config, Effort::Within(until), standing, progress, said)?;
    if Instant::now() >= until && host.is_live() && systemd::serves(host, WORKER) {
        in_the_background(progress)?;
    }
    Ok(last)
}

/// Runs once more, and drops the lines that were printed the first time.
fn again(
    host: &Host,
    config: &Config,
    effort: Effort,
    standing: Standing,
    progress: &dyn Progress,
    said: &[String],
) -> Result<Outcome> {
    let mut last = reconcile::reconcile(host, config, effort, standing, progress)?;
    last.done.retain(|line| !said.contains(line));
    Ok(last)
}

fn meanwhile(outcome: &Outcome) -> &'static str {
    match outcome.gate {
        State::Closed => " (a reboot is refused meanwhile)",
        State::Open | State::Overridden | State::Unknown => "",
    }
}

/// Whether there is still something that the worker could build now.
fn left(host: &Host, config: &Config) -> Result<bool> {
    let work = Survey::new(host, config)?.judged().work;
    Ok(reconcile::pending(host, &work).iter().any(|p| p.headers))
}

/// After the worker's run, hands the rest to the unit that may wait for the end of a transaction: kernels without headers, and an opening
/// that was withheld because packages were changing.
///
/// # Errors
/// Those of calling systemd.
pub fn hand_over(host: &Host, config: &Config, outcome: &Outcome) -> Result<()> {
    let headers = headers_wanted(host, config) && !lacking(host, &outcome.work).is_empty();
    if outcome.withheld {
        // If this cannot be written, the unit still notices a transaction that goes on.
        let _ = host.write_atomic(WITHHELD, b"", 0o644);
    }
    if (headers || outcome.withheld) && host.is_live() && systemd::serves(host, HEADERS) {
        systemd::order("start", &[HEADERS])?;
    }
    Ok(())
}

/// Whether a package manager may be told to install headers on this machine as it is now.
fn headers_wanted(host: &Host, config: &Config) -> bool {
    config.build.install_headers && host.is_live() && place::place(host) == Place::Normal
}

/// Kernels that cannot be built for without headers, if installing these is worth a try.
fn lacking(host: &Host, work: &[Work]) -> Vec<KernelRelease> {
    let mut kernels: Vec<_> = reconcile::pending(host, work).into_iter().filter(|p| !p.headers).map(|p| p.kernel).collect();
    kernels.dedup();
    kernels.retain(|kernel| headers::worth_a_try(host, kernel));
    kernels
}

/// Waits for the end of a transaction, for as long as one may take. Returns whether the worker has to look again, because a transaction was
/// running now or at its last look.
pub fn await_transaction(host: &Host) -> bool {
    let withheld = host.remove(WITHHELD).unwrap_or(true);
    let changing = locks::transaction(host).is_some();
    if changing {
        locks::wait(host, TRANSACTION, locks::transaction);
    }
    changing || withheld
}

/// Outside any transaction: installs the headers of kernels that cannot be built for without. Returns whether anything was tried.
///
/// # Errors
/// Those of [`reconcile::reconcile`].
pub fn bring_headers(host: &Host, config: &Config, progress: &dyn Progress) -> Result<bool> {
    if !headers_wanted(host, config) {
        return Ok(false);
    }
    let kernels = lacking(host, &Survey::new(host, config)?.judged().work);
    if !kernels.is_empty() {
        // Installing may take long, so unsafe kernels are refused first.
        let told = reconcile::reconcile(host, config, Effort::Decide, Standing::Unasked, progress)?.done;
        told.iter().for_each(|line| progress.note(line));
    }
    for kernel in &kernels {
        if let Err(e) = headers::install(host, kernel, progress) {
            progress.note(&format!("{e:#}"));
        }
    }
    Ok(!kernels.is_empty())
}

/// What a hook prints at its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HookMessage {
    /// Lines for people; none where the previous hook printed the same and all is well.
    pub lines: Vec<String>,
    /// The same in one line, if something is refused.
    pub refusal: Option<String>,
}

/// The verdict for the person who watches a transaction. A verdict that was printed before is only summarised.
pub fn verdict(host: &Host, config: &Config, caller: Caller, outcome: &Outcome) -> HookMessage {
    let silent = matches!(caller, Caller::Hook(stage) if !stage.tells());
    if silent || (caller == Caller::Hook(Stage::Written) && yum::action_follows(host)) {
        // A later hook reports the verdict. A move of the boot default was reported already.
        return HookMessage { lines: vec![], refusal: None };
    }
    let next = |k: &&KernelReport| matches!(k.role, Role::Next | Role::Once);
    let named = outcome.judgement.kernels.iter().find(next).map(|k| format!(" ({} boots next)", k.kernel));
    let named = named.unwrap_or_default();
    let (lines, short, refusal) = match outcome.judgement.verdict {
        // The hook that opens the gate later reports that.
        Verdict::Safe if outcome.withheld => return HookMessage { lines: vec![], refusal: None },
        Verdict::Safe => {
            let order = refuse::order(host).filter(|_| outcome.gate == gate::State::Closed);
            let safe = format!("safe: a reboot keeps the network{named}");
            (std::iter::once(safe).chain(order).collect(), None, None)
        }
        Verdict::Unknown | Verdict::Unsafe => {
            let reasons = refuse::reasons(&outcome.judgement);
            let mut lines = Vec::new();
            for reason in &reasons {
                let kernel = reason.kernel.as_ref().map_or("this machine".to_owned(), ToString::to_string);
                lines.push(format!("{kernel} is not safe to boot: {}", reason.summary));
                lines.push(format!("  to mend it: {}", reason.remedy));
            }
            let consequence = consequence(host, config, outcome);
            let short = format!("still unsafe; {consequence} (vfguard check says why)");
            let all = lines.iter().map(|l| l.trim()).collect::<Vec<_>>().join("; ");
            lines.push(format!("unsafe: {consequence}"));
            (lines, Some(short), Some(format!("{consequence}: {all}")))
        }
    };
    let text = lines.join("\n");
    let is_new = |file: &str, text: &str| {
        let told = host.read_text(file).is_ok_and(|before| before == text);
        if !told {
            // If this cannot be written, the verdict is printed once more.
            let _ = host.write_atomic(file, text.as_bytes(), 0o644);
        }
        !told
    };
    if caller == Caller::Yum {
        // A refusal is printed in full once. Where nothing is new, the transaction may be another root's, or only a test.
        let kernels: String = installed::installed(host).iter().map(|k| format!("{}\n", k.release)).collect();
        let new = is_new(TOLD_BY_ACTION, &format!("{kernels}{text}"));
        is_new(TOLD, &text);
        let short = short.filter(|_| yum::changes_this_system(host));
        return HookMessage { lines: if new { lines } else { short.into_iter().collect() }, refusal };
    }
    HookMessage { lines: if is_new(TOLD, &text) { lines } else { short.into_iter().collect() }, refusal }
}

/// What the unsafe verdict means for a reboot.
fn consequence(host: &Host, config: &Config, outcome: &Outcome) -> String {
    let held = boot::held(host).map(|h| format!(", and the boot default is held on {}", h.held));
    let into = held.as_ref().map_or("", |_| "to reboot into it: vfguard reboot --held; ");
    let held = held.unwrap_or_default();
    match (outcome.gate, config.mode) {
        (State::Closed, _) => {
            format!("a reboot is refused{held}; {into}to reboot all the same: vfguard gate open --reason TEXT")
        }
        (State::Overridden, _) => format!("an override lets reboots through{held}"),
        (State::Unknown, _) => format!("do not reboot: that it is refused is not confirmed (vfguard gate show){held}"),
        (State::Open, Mode::Observe) => "do not reboot (mode = \"observe\": nothing is refused)".into(),
        (State::Open, Mode::Enforce) => {
            let why = place::place(host).hands_off().unwrap_or("the gate is open");
            format!("do not reboot ({why}){held}")
        }
    }
}
