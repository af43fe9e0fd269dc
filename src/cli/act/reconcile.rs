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

/// The `--from` name of vfguard-boot.service.
const BOOT: &str = "boot";
/// How long it waits for drivers that udev is about to load. Logins are delayed by it.
const DRIVERS: Duration = Duration::from_secs(10);
/// Longer waits are reported.
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
        // A device that appears late at each boot (virtual functions that a service creates) may delay logins only while a
        // hold depends on the verdict.
        let held = boot::held(host).filter(|hold| hold.declined.is_none());
        let expected = held.map(|_| survey::known::expected(host)).unwrap_or_default();
        let waited = pci::await_drivers(host, DRIVERS, &expected);
        tell_waited(context, &waited);
        if waited.cut_short {
            // It is unknown which of the devices will be in use, so refuse: the unit fails, and the gate is closed.
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
                // The worker judges the result and reports it.
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
        // The gate is not confirmed as closed. That is worse than unsafe: the unit fails, so that
        // vfguard-fail-closed.service tries next.
        (Some(_), _) => Exit::Undecided,
        (None, Some(_)) => Exit::Done,
        (None, None) => check::exit(outcome.judgement.verdict),
    })
}

/// Reports what a boot waited for, if the wait was noticeable or `-v` is given.
fn tell_waited(context: &Context, waited: &pci::Waited) {
    if waited.devices.is_empty() || (waited.time < NOTICED && !context.global.verbose) {
        return;
    }
    let end = if waited.left.is_empty() { String::new() } else { format!(" ({} has none)", waited.left.join(", ")) };
    let time = waited.time.as_secs_f32();
    context.say(&format!("vfguard ({BOOT}): waited {time:.1} s for a driver of {}{end}", waited.devices.join(", ")));
}

/// The whole report, for callers that have time to read it.
fn report(context: &Context, caller: Caller, args: &Args, outcome: &Outcome) {
    let from = args.from.as_deref().map(|f| format!(" ({f})")).unwrap_or_default();
    // The worker printed each line already.
    for line in outcome.done.iter().filter(|_| caller != Caller::Worker).chain(&outcome.hands_off) {
        context.say(&format!("vfguard{from}: {line}"));
    }
    if outcome.hands_off.is_none() {
        check::report(context, &outcome.judgement, outcome.gate);
        // If nothing is refused here (rescue mode and others), say so below "do not reboot".
        let open = (outcome.judgement.verdict != Verdict::Safe).then(|| place::place(&context.host).hands_off()).flatten();
        open.iter().for_each(|line| context.say(&format!("vfguard{from}: {line}")));
    }
}

/// For the person who watches a transaction: what was done, and the verdict. For dnf5, stdout is a protocol, so lines for
/// people go to stderr, which is the terminal.
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
        // EL6's yum does not show the output of scriptlets.
        print::to_terminal(told.lines.iter().map(|line| format!("vfguard: {line}")));
    }
    if let (Caller::Dnf5, Some(refusal)) = (caller, told.refusal) {
        print::line(&format!("error=vfguard: {refusal}"));
    }
}

/// An error in dnf5's protocol; `main` prints it for people.
fn protocol(caller: Caller, error: &anyhow::Error) {
    if caller == Caller::Dnf5 {
        let remedy = error::remedy(error).unwrap_or("vfguard check");
        print::line(&format!("error=vfguard: {error:#}; {remedy}"));
    }
}
