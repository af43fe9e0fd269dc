//! `vfguard decline KERNEL`: while the kernel is declined, the boot default is held off it, and nothing is refused because
//! of it. Later kernels are treated as usual. `vfguard decline --device ADDRESS`: a missing network device is gone for good,
//! and no kernel needs a driver for it.

use crate::audit;
use crate::boot;
use crate::boot::declined;
use crate::cli::Context;
use crate::error::{advise, Exit};
use crate::finding::Verdict;
use crate::flow::reconcile::{self, Effort, Standing};
use crate::host::failpoint;
use crate::host::lock::BootLock;
use crate::host::notices::{self, Topic};
use crate::kernel::KernelRelease;
use crate::report::progress;
use crate::verdict::judge::Role;
use crate::verdict::survey::known::{self, Known};
use crate::verdict::survey::Survey;
use anyhow::Result;

/// Arguments.
#[derive(clap::Args)]
pub struct Args {
    /// The kernel that is not to be booted
    #[arg(required_unless_present = "device")]
    kernel: Option<KernelRelease>,
    /// Instead of a kernel: the address of a network device that was in use and is gone for good
    #[arg(long, value_name = "ADDRESS", conflicts_with = "kernel")]
    device: Option<String>,
    /// Why; kept in the audit log and the journal
    #[arg(long, value_name = "TEXT", default_value = "")]
    reason: String,
}

/// Declines the kernel or device, writes the audit log, and decides again: opens the gate if nothing else refuses, and
/// closes it if the kernel that boots instead is not safe either.
///
/// # Errors
/// When the kernel is running, or boots next and cannot be held off; when the device is not a missing one; or when another
/// run has the lock.
pub fn run(context: &Context, args: &Args) -> Result<Exit> {
    context.must_be_root("decline")?;
    let done = match (&args.kernel, &args.device) {
        (Some(kernel), _) => decline_kernel(context, kernel, &args.reason)?,
        (None, Some(address)) => decline_device(context, address, &args.reason)?,
        // The declaration of the arguments excludes this.
        (None, None) => Vec::new(),
    };
    decide(context, &done)
}

/// Decides again after `done`, and reports both.
///
/// # Errors
/// Those of [`reconcile::reconcile`].
pub fn decide(context: &Context, done: &[String]) -> Result<Exit> {
    let outcome = reconcile::reconcile(
        &context.host,
        &context.config,
        Effort::Decide,
        Standing::Final,
        progress::new(context.progress()).as_ref(),
    )?;
    done.iter().chain(&outcome.done).chain(&outcome.hands_off).for_each(|line| context.say(line));
    if outcome.judgement.verdict != Verdict::Safe {
        context.say("what may boot now is not safe: vfguard check");
    }
    if context.json() {
        crate::cli::read::check::report(context, &outcome.judgement, outcome.gate);
    }
    Ok(Exit::Done)
}

/// Forgets a missing device. Returns one line for each thing done.
fn decline_device(context: &Context, address: &str, reason: &str) -> Result<Vec<String>> {
    let host = &context.host;
    let survey = Survey::new(host, &context.config)?;
    let missing = survey.memory.gone();
    let Some(device) = missing.iter().find(|known| known.address == address) else {
        let names = missing.iter().map(Known::name).collect::<Vec<_>>();
        let names = if names.is_empty() { "none".into() } else { names.join(", ") };
        return Err(advise(
            format!("no network device that was in use is missing at {address} (missing: {names})"),
            "name one that is missing; what is there counts, and no kernel may lose it",
        ));
    };
    let name = device.name();
    if survey.devices.iter().any(|d| d.present && device.is(d) && survey.recipes.iter().any(|r| r.claims(&d.modalias))) {
        return Err(advise(
            format!("{name} is there without a driver, and a recipe claims it: it counts"),
            "vfguard check says what the kernels lack; vfguard prepare builds it",
        ));
    }
    let why = if reason.is_empty() { "no reason given" } else { reason };
    audit::append(host, &audit::Event::now(host, audit::What::Decline, &format!("{name}: {why}"), None))?;
    known::forget(host, device)?;
    let fields = [("VFGUARD_DEVICE", address), ("VFGUARD_REASON", reason)];
    notices::journal(host, Topic::Declined, &format!("{name} declined: {why}"), &fields);
    Ok(vec![format!("{name} is not counted any more; if it comes back it counts again")])
}

/// Declines a kernel. Returns one line for each thing done.
fn decline_kernel(context: &Context, kernel: &KernelRelease, reason: &str) -> Result<Vec<String>> {
    let (host, config) = (&context.host, &context.config);
    let lock = BootLock::take(host)?;
    let mut survey = Survey::new(host, config)?;
    survey.must_be_installed(kernel)?;
    if survey.running.as_ref() == Some(kernel) {
        return Err(advise(
            format!("{kernel} is running; what runs cannot be declined"),
            "decline the kernel that is not to be booted (`vfguard next-boot`)",
        ));
    }
    let mut done = Vec::new();
    let role = |survey: &Survey| survey.roles().into_iter().find(|(k, _)| k == kernel).map(|(_, role)| role);
    let mut found = role(&survey);
    if found == Some(Role::Once) {
        done.push(boot::clear_once(host, &lock)?.what);
        // The kernel may be the boot default as well.
        survey = Survey::new(host, config)?;
        found = role(&survey);
    }
    match found {
        Some(Role::Next) => {
            let hold_target = survey.hold_target(host).filter(|r| r != kernel);
            let Some(hold_target) = hold_target else {
                return Err(advise(
                    format!("{kernel} is what boots next, and no other kernel is known to be good"),
                    "install a kernel that worked before, or remove this one with the package manager",
                ));
            };
            boot::hold_with(host, &lock, &config.boot, &hold_target)?;
            done.push(format!("the boot default is held on {hold_target}"));
        }
        Some(role @ (Role::Fallback | Role::Installed)) if done.is_empty() => {
            return Err(advise(
                format!(
                    "{kernel} may boot because of the boot loader's own settings ({role:?}), which decline does not change"
                ),
                format!("remove {kernel} with the package manager, or `vfguard prepare {kernel}`"),
            ));
        }
        None | Some(Role::Wanted | Role::Once | Role::Fallback | Role::Installed) => {}
    }
    audit::append(host, &audit::Event::now(host, audit::What::Decline, reason, Some(kernel)))?;
    failpoint::hit("held-before-declined");
    declined::add(host, &lock, kernel, reason)?;
    done.push(format!(
        "{kernel} is declined: nothing is refused on its account, and a later kernel is treated as ever; to take that back: vfguard accept \
         {kernel}"
    ));
    notices::journal(
        host,
        Topic::Declined,
        &format!("{kernel} declined: {}", if reason.is_empty() { "no reason given" } else { reason }),
        &[("VFGUARD_KERNEL", kernel.as_str()), ("VFGUARD_REASON", reason)],
    );
    Ok(done)
}
