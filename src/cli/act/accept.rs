//! `vfguard accept KERNEL`: undoes a decline. If the boot default is held because of it, the kernel is wanted again, and
//! judged.

use super::decline;
use crate::audit;
use crate::boot::declined::{self, Declined};
use crate::cli::Context;
use crate::error::{advise, Exit};
use crate::host::lock::BootLock;
use crate::host::notices::{self, Topic};
use crate::kernel::KernelRelease;
use anyhow::Result;

/// Arguments.
#[derive(clap::Args)]
pub struct Args {
    /// The kernel that may be wanted again
    kernel: KernelRelease,
    /// Why; kept in the audit log and the journal
    #[arg(long, value_name = "TEXT", default_value = "")]
    reason: String,
}

/// Accepts the kernel, writes the audit log, and decides again: the gate refuses if something is not safe.
///
/// # Errors
/// When the kernel is not declined, the change cannot be written, or another run has the lock.
pub fn run(context: &Context, args: &Args) -> Result<Exit> {
    context.must_be_root("accept")?;
    let (host, kernel) = (&context.host, &args.kernel);
    let lock = BootLock::take(host)?;
    let declined = declined::read(host);
    if declined.iter().all(|d| d.kernel != *kernel) {
        return Err(advise(format!("{kernel} is not declined (declined: {})", listed(&declined)), "vfguard status"));
    }
    audit::append(host, &audit::Event::now(host, audit::What::Accept, &args.reason, Some(kernel)))?;
    declined::remove(host, &lock, kernel)?;
    drop(lock);
    let why = if args.reason.is_empty() { "no reason given" } else { &args.reason };
    let fields = [("VFGUARD_KERNEL", kernel.as_str()), ("VFGUARD_REASON", &args.reason)];
    notices::journal(host, Topic::Accepted, &format!("{kernel} accepted: {why}"), &fields);
    decline::decide(context, &[format!("{kernel} is not declined any more; if it is wanted it is judged")])
}

fn listed(declined: &[Declined]) -> String {
    let names: Vec<&str> = declined.iter().map(|d| d.kernel.as_str()).collect();
    if names.is_empty() {
        "none".into()
    } else {
        names.join(", ")
    }
}
