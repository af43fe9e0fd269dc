//! `vfguard next-boot`: which kernel boots next and how that is known.

use crate::boot::{self, NextBoot};
use crate::cli::Context;
use crate::error::Exit;
use crate::print;
use crate::report::json;
use crate::text::Text;
use anyhow::Result;

/// Arguments: none.
#[derive(clap::Args)]
pub struct Args {}

/// Resolves and reports; an uncertain answer is "could not decide".
///
/// # Errors
/// None today; every verb has this signature.
pub fn run(context: &Context, _: &Args) -> Result<Exit> {
    let mut next = boot::next_boot(&context.host, &context.config.boot);
    next.problems.extend(boot::second_opinion(&context.host, &next));
    if context.json() {
        json::object(&next).print();
    } else if !(context.global.quiet && next.certain) {
        print::out(&text(&next));
    }
    Ok(if next.certain { Exit::Done } else { Exit::Undecided })
}

fn text(next: &NextBoot) -> Text {
    let mut text = Text::default();
    for candidate in &next.kernels {
        let role = format!("{:?}", candidate.role).to_lowercase();
        text.line(&format!("{role}: {} (entry {}): {}", candidate.kernel, candidate.entry, candidate.why));
    }
    for problem in &next.problems {
        text.line(&format!("problem: {}", problem.message));
        if !problem.remedy.is_empty() {
            text.line(&format!("  to mend it: {}", problem.remedy));
        }
    }
    text.line(if next.certain { "certain: yes" } else { "certain: no; every installed kernel may boot" });
    text
}
