//! `vfguard reconcile [--from NAME]`: what every hook calls.

use super::{check, Context};
use crate::error::Exit;
use crate::reconcile;
use crate::report::progress;
use anyhow::Result;

/// Arguments.
#[derive(clap::Args)]
pub struct Args {
    /// The hook that calls, for the log
    #[arg(long, value_name = "NAME")]
    from: Option<String>,
}

/// Reconciles and reports.
///
/// # Errors
/// Those of [`reconcile::reconcile`].
pub fn run(context: &Context, args: &Args) -> Result<Exit> {
    context.must_be_root("reconcile")?;
    let progress = progress::new(context);
    let outcome = reconcile::reconcile(&context.host, &context.config, progress.as_ref())?;
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
