//! `vfguard reconcile [--from NAME]`: what every hook calls.

use crate::boot;
use crate::cli::read::check;
use crate::cli::Context;
use crate::driver;
use crate::error::{self, Exit};
use crate::finding::Verdict;
use crate::flow::hook::{self, Caller};
use crate::flow::reconcile::{self, Effort, Outcome};
use crate::host::devices::pci;
use crate::host::upstart;
use crate::host::{place, systemd};
use crate::kernel::KernelRelease;
use crate::print;
use crate::report::progress;
use crate::verdict::survey;
use anyhow::Result;
use std::time::Duration;

/// vfguard-boot.service's name for itself.
const BOOT: &str = "boot";
/// How long it waits for drivers that udev is about to load; logins wait with it.
const DRIVERS: Duration = Duration::from_secs(10);
/// A wait that is told.
const NOTICED: Duration = Duration::from_millis(500);

/// Arguments.
#[derive(clap::Args)]
pub struct Args {
    /// Who calls: yum, dnf, dnf5, rpm-trigger, dpkg-trigger, package-trigger, kernel-install-early, kernel-install, postinst,
    /// header-postinst, prerm, install, service, headers, boot, watch, timer, override-end
    #[arg(long, value_name = "NAME")]
    from: Option<String>,
    /// Judge, and close or open the gate, but build nothing
    #[arg(long)]
    no_build: bool,
    /// A kernel that is about to be removed: it is no candidate any more
    #[arg(long, value_name = "KERNEL", requires = "from", conflicts_with = "no_build")]
    leaving: Option<KernelRelease>,
}

/// Reconciles and reports.
///
/// # Errors
/// Those of [`reconcile::reconcile`].
pub fn run(context: &Context, args: &Args) -> Result<Exit> {
    context.must_be_root("reconcile")?;
    let (host, config) = (&context.host, &context.config);
    let caller = Caller::of(args.from.as_deref());
    let standing = caller.standing();
    if args.from.as_deref() == Some(BOOT) {
        // A device that comes late at each boot (virtual functions that a service makes) delays logins only where something depends on it.
        let held = boot::held(host).filter(|hold| hold.declined.is_none());
        let expected = held.map(|_| survey::known::expected(host)).unwrap_or_default();
        let waited = pci::await_drivers(host, DRIVERS, &expected);
        tell_waited(context, &waited);
        if waited.cut_short {
            // Which of them will be in use is not known, and what is not known refuses: the unit fails, and the gate closes.
            let left = waited.left.join(", ");
            return Err(error::advise(
                format!("udev is still at work, and {left} may yet get a driver"),
                "vfguard reconcile, once the machine is up (vfguard.timer does so by itself)",
            ));
        }
    }
    let outcome = match caller {
        _ if args.no_build => {
            let effort = if args.from.as_deref() == Some(BOOT) { Effort::Early } else { Effort::Decide };
            reconcile::reconcile(host, config, effort, standing, progress::new(context.lines()).as_ref())
                .inspect_err(|e| protocol(caller, e))?
        }
        Caller::Hook(_) | Caller::Yum | Caller::Dnf5 => {
            let progress =
                if caller == Caller::Yum { progress::new(context.progress()) } else { progress::new(context.lines()) };
            hook::run(host, config, caller, args.leaving.as_ref(), progress.as_ref()).inspect_err(|e| protocol(caller, e))?
        }
        Caller::Worker => {
            let progress = progress::AlsoToFile::new(host, context.lines(), hook::PROGRESS);
            let outcome = reconcile::reconcile(host, config, Effort::Whole, standing, &progress)?;
            outcome.done.iter().for_each(|line| crate::progress::Progress::note(&progress, line));
            hook::hand_over(host, config, &outcome)?;
            outcome
        }
        Caller::Headers => {
            let brought = hook::bring_headers(host, config, progress::new(context.lines()).as_ref())?;
            if hook::await_transaction(host) || brought {
                // What came of it is the worker's to judge and to tell.
                systemd::order("start", &[hook::WORKER])?;
            }
            return Ok(Exit::Done);
        }
        Caller::Person | Caller::Boot | Caller::Machine => {
            let progress = progress::new(context.progress());
            if caller == Caller::Person {
                driver::rest::end(host);
                hook::bring_headers(host, config, progress.as_ref())?;
            }
            reconcile::reconcile(host, config, Effort::Whole, standing, progress.as_ref())?
        }
    };
    if context.json() {
        check::report(context, &outcome.judgement, outcome.gate);
    } else if caller.in_transaction() {
        tell(context, caller, &outcome);
    } else {
        report(context, caller, args, &outcome);
    }
    Ok(match (&outcome.failed, &outcome.hands_off) {
        // Not seen closed: worse than unsafe, and the unit fails, so that vfguard-fail-closed.service tries in its turn.
        (Some(_), _) => Exit::Undecided,
        (None, Some(_)) => Exit::Done,
        (None, None) => check::exit(outcome.judgement.verdict),
    })
}

/// What a boot waited for, where it can be noticed or is asked for.
fn tell_waited(context: &Context, waited: &pci::Waited) {
    if waited.devices.is_empty() || (waited.time < NOTICED && !context.global.verbose) {
        return;
    }
    let end = if waited.left.is_empty() { String::new() } else { format!(" ({} has none)", waited.left.join(", ")) };
    let time = waited.time.as_secs_f32();
    context.say(&format!("vfguard ({BOOT}): waited {time:.1} s for a driver of {}{end}", waited.devices.join(", ")));
}

/// The whole report, for whoever has time to read it.
fn report(context: &Context, caller: Caller, args: &Args, outcome: &Outcome) {
    let from = args.from.as_deref().map(|f| format!(" ({f})")).unwrap_or_default();
    // The worker told each already.
    for line in outcome.done.iter().filter(|_| caller != Caller::Worker).chain(&outcome.hands_off) {
        context.say(&format!("vfguard{from}: {line}"));
    }
    if outcome.hands_off.is_none() {
        check::report(context, &outcome.judgement, outcome.gate);
        // Whoever reads "do not reboot" in rescue mode and the like is told that nothing refuses it.
        let open = (outcome.judgement.verdict != Verdict::Safe).then(|| place::place(&context.host).hands_off()).flatten();
        open.iter().for_each(|line| context.say(&format!("vfguard{from}: {line}")));
    }
}

/// For the person who watches a transaction: what was done, and the verdict. For dnf5, stdout is a protocol and stderr goes to the
/// terminal.
fn tell(context: &Context, caller: Caller, outcome: &Outcome) {
    let say = |line: &str, refuses: bool| {
        if context.global.quiet && !refuses {
            return;
        }
        if caller == Caller::Dnf5 {
            print::note(line);
        } else {
            print::line(&format!("vfguard: {line}"));
        }
    };
    let told = outcome.hands_off.is_none().then(|| hook::verdict(&context.host, &context.config, caller, outcome));
    if caller == Caller::Yum && told.as_ref().is_some_and(|told| told.lines.is_empty()) {
        return;
    }
    outcome.done.iter().chain(&outcome.hands_off).for_each(|line| say(line, false));
    let Some(told) = told else { return };
    told.lines.iter().for_each(|line| say(line, told.refusal.is_some()));
    if told.refusal.is_some() && matches!(caller, Caller::Hook(_)) && upstart::is_upstart(&context.host) {
        // yum of EL6 shows nothing of what its scriptlets print.
        print::to_terminal(told.lines.iter().map(|line| format!("vfguard: {line}")));
    }
    if let (Caller::Dnf5, Some(refusal)) = (caller, told.refusal) {
        print::line(&format!("error=vfguard: {refusal}"));
    }
}

/// An error as dnf5's protocol has it; for people it is told by `main`.
fn protocol(caller: Caller, error: &anyhow::Error) {
    if caller == Caller::Dnf5 {
        let remedy = error::remedy(error).unwrap_or("vfguard check");
        print::line(&format!("error=vfguard: {error:#}; {remedy}"));
    }
}
