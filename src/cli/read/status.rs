//! `vfguard status [KERNEL]`: kernels × devices × modules, the gate, the boot default, the last log.

use crate::boot;
use crate::boot::declined::{self, Declined};
use crate::cli::Context;
use crate::driver::{self, sandbox::Containment};
use crate::error::Exit;
use crate::finding::Verdict;
use crate::flow::reconcile;
use crate::gate;
use crate::host::{lock, place};
use crate::kernel::KernelRelease;
use crate::print;
use crate::report::json;
use crate::text::Text;
use crate::verdict::judge::{self, KernelReport};
use crate::verdict::survey::Survey;
use anyhow::Result;
use serde::Serialize;
use std::path::PathBuf;

/// Arguments.
#[derive(clap::Args)]
pub struct Args {
    /// Only this kernel; else every installed one
    kernel: Option<KernelRelease>,
}

#[derive(Serialize)]
struct StatusReport {
    /// The verdict on the kernels that may boot, as in `check`.
    verdict: Verdict,
    gate: gate::State,
    gate_reasons: Vec<String>,
    running: Option<KernelRelease>,
    next_boot_certain: bool,
    held: Option<boot::Hold>,
    /// Declined kernels.
    declined: Vec<Declined>,
    sandbox: driver::sandbox::Level,
    /// The version of Landlock that the sandbox uses.
    landlock: Option<u32>,
    /// Whether system calls are filtered.
    seccomp: bool,
    last_log: Option<PathBuf>,
    kernels: Vec<KernelReport>,
}

/// Collects and reports. The exit code is 0 whatever the verdict is; use `check` to decide.
///
/// # Errors
/// Those of [`Survey::new`], and when the kernel is not installed.
pub fn run(context: &Context, args: &Args) -> Result<Exit> {
    let host = &context.host;
    let survey = Survey::new(host, &context.config)?;
    let mut kernels = match &args.kernel {
        Some(kernel) => survey.judge_one(kernel)?.kernels,
        None => survey.judge_installed(),
    };
    if lock::is_held(host) {
        judge::note_other_run(&mut kernels);
    }
    let gate = gate::state(host);
    let contained = driver::sandbox::containment(host);
    let report = StatusReport {
        verdict: survey.judge().verdict,
        gate: gate.state,
        gate_reasons: gate.reason,
        running: survey.running.clone(),
        next_boot_certain: survey.next.certain,
        held: boot::held(host),
        declined: declined::read(host),
        sandbox: contained.level,
        landlock: contained.landlock,
        seccomp: contained.seccomp,
        last_log: driver::last_log(host),
        kernels,
    };
    if context.json() {
        json::object(&report).print();
    } else {
        print::out(&text(context, &report));
    }
    Ok(Exit::Done)
}

fn text(context: &Context, report: &StatusReport) -> Text {
    let style = context.style();
    let mut text = Text::default();
    report.kernels.iter().for_each(|k| text.append(&style.kernel(k)));
    let running = report.running.as_ref().map_or("unknown".into(), ToString::to_string);
    text.line(&format!("running: {running}"));
    text.line(if report.next_boot_certain {
        "next boot: certain"
    } else {
        "next boot: not certain (`vfguard next-boot` says why)"
    });
    if let Some(hold) = &report.held {
        text.line(&hold.line());
        let left = reconcile::left_over(&context.config, place::place(&context.host), hold);
        left.iter().for_each(|line| text.line(&format!("  {line}")));
    }
    report.declined.iter().for_each(|declined| text.line(&declined.line()));
    text.line(&format!("gate: {}", gate::word(report.gate)));
    report.gate_reasons.iter().for_each(|r| text.line(&format!("  {r}")));
    let contained = Containment { level: report.sandbox, landlock: report.landlock, seccomp: report.seccomp };
    text.line(&format!("builds run: {contained}"));
    if let Some(log) = &report.last_log {
        text.line(&format!("last build log: {}", log.display()));
    }
    text.line_with("verdict: ", style.verdict(report.verdict), "");
    text
}
