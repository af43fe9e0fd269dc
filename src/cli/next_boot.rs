//! `vfguard next-boot`: which kernel boots next and how that is known.

use super::Context;
use crate::boot::{self, NextBoot};
use crate::error::Exit;
use crate::report::json;
use anyhow::Result;
use std::fmt::Write;

/// Arguments: none.
#[derive(clap::Args)]
pub struct Args {}

/// Resolves and reports; an uncertain answer is "could not decide".
///
/// # Errors
/// None today; the signature is that of every verb.
pub fn run(context: &Context, _: &Args) -> Result<Exit> {
    let mut next = boot::next_boot(&context.host, &context.config.boot);
    next.problems.extend(boot::second_opinion(&context.host, &next));
    if context.json() {
        super::print(&json::object(&next));
    } else if !(context.global.quiet && next.certain) {
        super::print(&text(&next));
    }
    Ok(if next.certain { Exit::Done } else { Exit::Undecided })
}

fn text(next: &NextBoot) -> String {
    let mut text = String::new();
    for candidate in &next.kernels {
        let role = format!("{:?}", candidate.role).to_lowercase();
        let _ = writeln!(text, "{role}: {} (entry {}): {}", candidate.kernel, candidate.entry, candidate.why);
    }
    for problem in &next.problems {
        let _ = writeln!(text, "problem: {}", crate::report::human::printable(&problem.message));
        if !problem.remedy.is_empty() {
            let _ = writeln!(text, "  to mend it: {}", problem.remedy);
        }
    }
    text += if next.certain { "certain: yes\n" } else { "certain: no; every installed kernel may boot\n" };
    text
}
