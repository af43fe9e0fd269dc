//! `vfguard reboot`: check and reboot in one command, so that a script cannot forget the check.

use crate::audit;
use crate::boot;
use crate::cli::read::check;
use crate::cli::Context;
use crate::config::{Gate as Settings, Mode};
use crate::error::{advise, advise_exit, Exit};
use crate::finding::Verdict;
use crate::flow::refuse;
use crate::gate::{self, Opened, State};
use crate::host::lock::{BootLock, WriteLock};
use crate::host::notices::{self, Topic};
use crate::host::{command, failpoint, locks, place, systemd, Host};
use crate::kernel::KernelRelease;
use crate::verdict::judge::Judgement;
use crate::verdict::survey::{self, Survey};
use anyhow::Result;
use std::time::{Duration, Instant};

/// logind answers at once; after that it waits up to 5 s for delay inhibitors.
const ASK_LIMIT: Duration = Duration::from_secs(30);

/// Arguments.
#[derive(clap::Args)]
pub struct Args {
    /// Wait for a build or a package manager that is at work before judging
    #[arg(long)]
    wait: bool,
    /// Reboot into the kernel that the boot default is held on, though the wanted one is not safe
    #[arg(long)]
    held: bool,
}

/// Judges, and reboots if that is safe. With another root it only reports.
///
/// # Errors
/// Those of [`Survey::new`]; when another run or a package manager is running (`--wait` waits), or the system refuses.
pub fn run(context: &Context, args: &Args) -> Result<Exit> {
    context.must_be_root("reboot")?;
    let (host, config) = (&context.host, &context.config);
    let obeys = config.mode == Mode::Enforce && place::place(host).may_close();
    let order = || if obeys { not_by_hand(host) } else { Ok(()) };
    order()?;
    let patience = if args.wait { config.hook.patience() } else { Duration::ZERO };
    let locks = alone(host, patience)?;
    // Remember the devices in use now, so that a missing one is noticed after the reboot.
    survey::remember(host, &Survey::new(host, config)?).iter().for_each(|line| context.say(line));
    let generation = gate::generation::current(host);
    let survey = Survey::new(host, config)?;
    let judgement = survey.judge();
    let over = gate::active_override(host).filter(|o| o.covers(judgement.refused().map(|k| &k.kernel)));
    let held = args.held.then(|| held_is_safe(&survey, &judgement)).transpose()?;
    let allowed = judgement.verdict == Verdict::Safe || over.is_some() || held.is_some();
    if !allowed {
        check::report(context, &judgement, gate::state(host).state);
        return Ok(check::exit(judgement.verdict));
    }
    let why = match (&held, &over) {
        _ if judgement.verdict == Verdict::Safe => "all kernels that may boot are safe".to_owned(),
        (Some(kernel), _) => format!("into the held kernel {kernel}"),
        (None, Some(over)) => format!("by the override: {}", over.reason),
        (None, None) => String::new(),
    };
    match audit::append(host, &audit::Event::now(host, audit::What::Reboot, &why, held.as_ref())) {
        // A reboot against a verdict must be in the audit log.
        Err(e) if judgement.verdict != Verdict::Safe => return Err(e),
        // A safe reboot is not prevented by a full disk.
        Err(e) => context.say(&format!("not in the audit log: {e:#}")),
        Ok(()) => {}
    }
    notices::journal(host, Topic::Reboot, &format!("reboot asked for: {why}"), &[]);
    let asked = if judgement.verdict == Verdict::Safe {
        open(host, &config.gate, generation).and_then(|()| ask(context, &judgement, &why, None))
    } else {
        let refused = judgement.refused().map(|k| k.kernel.clone()).collect();
        // A person may have closed the gate while this run waited.
        order()
            .and_then(|()| gate::open_for_reboot(host, refused))
            .and_then(|_| ask(context, &judgement, &why, held.as_ref()))
    };
    drop(locks);
    if asked.is_err() && judgement.verdict != Verdict::Safe {
        // The request failed, so close the gate again while a kernel is unsafe.
        if config.mode == Mode::Enforce && place::place(host).may_close() {
            gate::end_pass(host, &config.gate, &refuse::reasons(&judgement))?;
        }
    }
    asked
}

/// Takes the locks so that no other run builds, moves the boot default or changes packages between the verdict and the
/// reboot.
fn alone(host: &Host, patience: Duration) -> Result<(WriteLock, BootLock)> {
    let start = Instant::now();
    let left = || patience.saturating_sub(start.elapsed());
    loop {
        if !patience.is_zero() {
            // Before taking vfguard's locks, because the package manager's hooks wait for them.
            locks::wait(host, left(), locks::transaction);
        }
        let taken = (WriteLock::take(host, left())?, BootLock::take(host)?);
        match locks::transaction(host) {
            None => return Ok(taken),
            Some(_) if !left().is_zero() => {}
            Some(lock) => {
                return Err(advise_exit(
                    Exit::Locked,
                    format!("a package manager is at work: it holds {lock} (waited {} s)", patience.as_secs()),
                    format!("vfguard reboot --wait; if it hangs, end it (fuser {lock}, or the process id in that file) and run this again"),
                ));
            }
        }
    }
}

/// Fails if a person closed the gate.
fn not_by_hand(host: &Host) -> Result<()> {
    match gate::by_hand(host).map(|order| order.reason()) {
        Some(order) => Err(advise_exit(Exit::Unsafe, format!("the gate is {}", order.summary), order.remedy)),
        None => Ok(()),
    }
}

/// Opens the gate if it is closed and has not been closed again since the machine was judged.
fn open(host: &Host, settings: &Settings, judged: u64) -> Result<()> {
    let opened = match gate::state(host).state {
        State::Closed | State::Unknown => gate::open(host, Some(judged))?,
        State::Open | State::Overridden => return Ok(()),
    };
    match opened {
        Opened::Open { .. } => Ok(()),
        Opened::ByHand => {
            gate::keep_closed(host, settings)?;
            not_by_hand(host)
        }
        Opened::Overtaken => Err(advise_exit(
            Exit::Locked,
            "something changed while the kernels were judged, so the gate was not opened",
            "run this again",
        )),
    }
}

/// Asks the system for the reboot, if the promised kernel still boots next. With another root it only reports.
fn ask(context: &Context, judgement: &Judgement, why: &str, into: Option<&KernelRelease>) -> Result<Exit> {
    let host = &context.host;
    if context.json() {
        check::report(context, judgement, gate::state(host).state);
    }
    failpoint::hit("reboot-before-request");
    // A package manager may have changed the default since; it does not take vfguard's locks.
    let next = into.map(|_| boot::next_boot(host, &context.config.boot));
    if next.is_some_and(|next| !next.certain || next.first().map(|c| &c.kernel) != into) {
        return Err(advise_exit(
            Exit::Locked,
            "the boot default was set to another kernel meanwhile, so the reboot is not asked for",
            "vfguard reconcile; then run this again",
        ));
    }
    if !host.is_live() {
        context.say(&format!("would reboot: {why}"));
        return Ok(Exit::Done);
    }
    context.say(&format!("rebooting: {why}"));
    command::run_ok(&if crate::host::upstart::is_upstart(host) {
        command::Spec::new("shutdown", ["-r", "now"], ASK_LIMIT)
    } else {
        systemd::spec(["reboot"], ASK_LIMIT)
    })?;
    Ok(Exit::Done)
}

/// The kernel that boots next, if that is certain and every kernel that may start is safe except the wanted one.
fn held_is_safe(survey: &Survey, judgement: &Judgement) -> Result<KernelRelease> {
    use crate::verdict::judge::Role;
    let cure = "vfguard next-boot; vfguard check";
    if !survey.next.certain {
        return Err(advise("which kernel boots next is not certain, so no held kernel can be promised", cure));
    }
    if let Some(bad) = judgement.refused().find(|k| k.role != Role::Wanted) {
        return Err(advise(format!("{} may start, and is not safe", bad.kernel), cure));
    }
    let first = survey.next.kernels.iter().find(|c| c.role == boot::BootRole::Once).or(survey.next.lasting());
    first.map(|c| c.kernel.clone()).ok_or_else(|| advise("the boot loader names no kernel", cure))
}
