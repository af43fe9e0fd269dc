//! `vfguard decline KERNEL`: the kernel that the boot default is held on becomes the wanted one.

use super::Context;
use crate::boot;
use crate::error::{advise, Exit};
use crate::finding::Verdict;
use crate::gate::audit;
use crate::host::failpoint;
use crate::host::lock::BootLock;
use crate::judge::Role;
use crate::kernel::KernelRelease;
use crate::reconcile::{self, Effort};
use crate::report::notices::{self, Topic};
use crate::report::progress;
use crate::survey::Survey;
use anyhow::Result;

/// Arguments.
#[derive(clap::Args)]
pub struct Args {
    /// The kernel that is not to be booted
    kernel: KernelRelease,
    /// Why; kept in the audit log and the journal
    #[arg(long, value_name = "TEXT", default_value = "")]
    reason: String,
}

/// Declines, says so in the audit log, and decides anew: opens the gate if nothing else refuses, and closes it if what boots
/// instead is not safe either.
///
/// # Errors
/// When the kernel runs, is what boots next and cannot be held off, or another run holds the lock.
pub fn run(context: &Context, args: &Args) -> Result<Exit> {
    context.must_be_root("decline")?;
    let (host, config, kernel) = (&context.host, &context.config, &args.kernel);
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
        // It may be the default as well.
        survey = Survey::new(host, config)?;
        found = role(&survey);
    }
    match found {
        None if done.is_empty() => {
            context.say(&format!("{kernel} is not about to boot: nothing is refused on its account"));
        }
        Some(Role::Next) => {
            let refuge = survey.refuge(host).filter(|r| r != kernel);
            let Some(refuge) = refuge else {
                return Err(advise(
                    format!("{kernel} is what boots next, and no other kernel is known to be good"),
                    "install a kernel that worked before, or remove this one with the package manager",
                ));
            };
            done.push(boot::hold(host, &lock, &refuge)?.what);
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
    audit::append(host, &audit::Event::now(host, audit::What::Decline, &args.reason, Some(kernel)))?;
    failpoint::hit("held-before-released");
    if boot::wanted(host, &boot::next_boot(host, &config.boot)).as_ref() == Some(kernel) {
        boot::release(host, &lock)?;
        done.push(format!("{kernel} is not wanted any more; the boot default stays where it is"));
    }
    notices::journal(
        host,
        Topic::Declined,
        &format!("{kernel} declined: {}", if args.reason.is_empty() { "no reason given" } else { &args.reason }),
        &[("VFGUARD_KERNEL", kernel.as_str()), ("VFGUARD_REASON", args.reason.as_str())],
    );
    drop(lock);
    let outcome = reconcile::reconcile(host, config, Effort::Decide, progress::new(context).as_ref())?;
    done.iter().chain(&outcome.done).chain(&outcome.hands_off).for_each(|line| context.say(line));
    if outcome.judgement.verdict != Verdict::Safe {
        context.say("what may boot now is not safe: vfguard check");
    }
    if context.json() {
        super::check::report(context, &outcome.judgement, outcome.gate);
    }
    Ok(Exit::Done)
}
