//! `vfguard doctor`: whether vfguard itself is installed, called by its hooks, and able to build.

use crate::cli::Context;
use crate::doctor::{self, Check, Status};
use crate::error::{self, Exit};
use crate::print;
use crate::report::json;
use crate::text::{Colour, Text};
use anyhow::Result;
use serde::Serialize;

#[derive(Serialize)]
struct DoctorReport {
    checks: Vec<Check>,
}

/// Runs the checks and reports; exit code 1 if one failed, else 0. `broken` is the error of reading the configuration.
///
/// # Errors
/// None: if something cannot be checked, that check failed.
pub fn run(context: &Context, broken: Option<anyhow::Error>) -> Result<Exit> {
    let settings = match broken {
        Some(e) => Check::failed("settings", format!("{e:#}"), error::remedy(&e).unwrap_or("mend /etc/vfguard/config.toml")),
        None => Check::ok("settings", "read and valid"),
    };
    let mut checks = vec![settings];
    checks.extend(doctor::examine(&context.host, &context.config));
    let failed = checks.iter().any(|c| c.status == Status::Failed);
    if context.json() {
        json::object(&DoctorReport { checks }).print();
    } else {
        let shown = checks.iter().filter(|c| !context.global.quiet || c.status == Status::Failed);
        let mut text = Text::default();
        shown.for_each(|check| tell(context, check, &mut text));
        print::out(&text);
    }
    Ok(if failed { Exit::Undecided } else { Exit::Done })
}

fn tell(context: &Context, check: &Check, text: &mut Text) {
    let (colour, mark) = match check.status {
        Status::Ok => (Colour::Green, "ok"),
        Status::Warning => (Colour::Yellow, "warning"),
        Status::Failed => (Colour::Red, "failed"),
    };
    text.line_with("", context.style().word(colour, mark), &format!(": {}: {}", check.name, check.detail));
    if !check.remedy.is_empty() {
        text.line(&format!("  to mend it: {}", check.remedy));
    }
}
