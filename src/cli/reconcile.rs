//! `vfguard reconcile [--from NAME]`: what every hook calls.

use super::{check, Context};
use crate::error::Exit;
use crate::host::systemd;
use crate::reconcile::{self, Effort};
use crate::report::progress;
use anyhow::Result;

/// Arguments.
#[derive(clap::Args)]
pub struct Args {
    /// The hook that calls, for the log
    #[arg(long, value_name = "NAME")]
    from: Option<String>,
    /// Judge, and close or open the gate, but build nothing
    #[arg(long)]
    no_build: bool,
}

/// The unit that builds for hooks that do not wait; its file is packaging/systemd's.
const WORKER: &str = "vfguard.service";
/// How the worker calls itself.
const WORKER_NAME: &str = "service";

/// Reconciles and reports.
///
/// # Errors
/// Those of [`reconcile::reconcile`].
pub fn run(context: &Context, args: &Args) -> Result<Exit> {
    context.must_be_root("reconcile")?;
    let progress = progress::new(context);
    let (host, config) = (&context.host, &context.config);
    let hook = args.from.as_deref().is_some_and(|from| from != WORKER_NAME);
    // Without the worker nobody would build, so then the hook does.
    let deferred = hook && !config.hook.wait && host.is_live() && systemd::has_unit(host, WORKER);
    let effort = if args.no_build || deferred { Effort::Decide } else { Effort::Whole };
    let outcome = reconcile::reconcile(host, config, effort, progress.as_ref())?;
    if deferred && !args.no_build && outcome.judgement.kernels.iter().any(|k| !k.builds.is_empty()) {
        systemd::order("start", &[WORKER])?;
    }
    let from = args.from.as_deref().map(|f| format!(" ({f})")).unwrap_or_default();
    outcome.done.iter().for_each(|line| context.say(&format!("vfguard{from}: {line}")));
    if let Some(line) = &outcome.hands_off {
        context.say(&format!("vfguard{from}: {line}"));
        if context.json() {
            check::report(context, &outcome.judgement, outcome.gate);
        }
        return Ok(Exit::Done);
    }
    check::report(context, &outcome.judgement, outcome.gate);
    Ok(check::exit(outcome.judgement.verdict))
}
