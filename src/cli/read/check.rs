//! `vfguard check [KERNEL]`: the check before a reboot; changes nothing.

use crate::boot::declined::{self, Declined};
use crate::cli::Context;
use crate::error::Exit;
use crate::finding::Verdict;
use crate::flow::refuse;
use crate::gate;
use crate::host::lock;
use crate::kernel::KernelRelease;
use crate::print;
use crate::report::json;
use crate::text::Text;
use crate::verdict::judge::{self, Judgement};
use crate::verdict::survey::Survey;
use anyhow::Result;
use serde::Serialize;

/// Arguments.
#[derive(clap::Args)]
pub struct Args {
    /// Judge this kernel, whatever the boot loader says; else those that may start next
    kernel: Option<KernelRelease>,
}

/// The JSON object of `check`, `status` and `reconcile`.
#[derive(Serialize)]
pub struct CheckReport<'a> {
    #[serde(flatten)]
    judgement: &'a Judgement,
    gate: gate::State,
    /// Declined kernels.
    declined: Vec<Declined>,
}

/// Judges and reports, without regard to overrides.
///
/// # Errors
/// When no decision is possible: see [`Survey::new`] and [`Survey::judge_one`].
pub fn run(context: &Context, args: &Args) -> Result<Exit> {
    let survey = Survey::new(&context.host, &context.config)?;
    let mut judgement = match &args.kernel {
        Some(kernel) => survey.judge_one(kernel)?,
        None => survey.judge_and_tell(),
    };
    if judgement.verdict != Verdict::Safe && lock::is_held(&context.host) {
        judge::note_other_run(&mut judgement.kernels);
    }
    report(context, &judgement, gate::state(&context.host).state);
    Ok(exit(judgement.verdict))
}

/// Prints a judgement in the requested format.
pub fn report(context: &Context, judgement: &Judgement, gate: gate::State) {
    let declined = declined::read(&context.host);
    if context.json() {
        json::object(&CheckReport { judgement, gate, declined }).print();
        return;
    }
    let style = context.style();
    let mut text = Text::default();
    for kernel in &judgement.kernels {
        if kernel.verdict != Verdict::Safe || !context.global.quiet {
            text.append(&style.kernel(kernel));
        }
    }
    if judgement.kernels.is_empty() {
        text.line("no kernel was found that could boot next");
    }
    if !context.global.quiet {
        declined.iter().for_each(|declined| text.line(&declined.line()));
    }
    if judgement.verdict != Verdict::Safe || !context.global.quiet {
        let advice = match judgement.verdict {
            Verdict::Safe => "a reboot keeps the network",
            Verdict::Unknown | Verdict::Unsafe => "do not reboot",
        };
        let order = if gate == gate::State::Closed { refuse::order(&context.host) } else { None };
        order.into_iter().for_each(|line| text.line(&line));
        text.line_with("verdict: ", style.verdict(judgement.verdict), &format!("; {advice} (gate {})", gate::word(gate)));
    }
    print::out(&text);
}

/// The exit code for a verdict.
pub fn exit(verdict: Verdict) -> Exit {
    match verdict {
        Verdict::Safe => Exit::Done,
        Verdict::Unknown => Exit::Undecided,
        Verdict::Unsafe => Exit::Unsafe,
    }
}
