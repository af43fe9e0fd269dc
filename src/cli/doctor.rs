//! `vfguard doctor`: is the guard itself installed, wired and able to build.

use super::Context;
use crate::doctor::{self, Check, Status};
use crate::error::{self, Exit};
use crate::report::{human, json};
use anyhow::Result;
use serde::Serialize;

#[derive(Serialize)]
struct Report {
    checks: Vec<Check>,
}

/// Looks and reports; 1 if something failed, 0 else. `broken` is why the settings could not be read.
///
/// # Errors
/// Never: what cannot be looked at is a check that failed.
pub fn run(context: &Context, broken: Option<anyhow::Error>) -> Result<Exit> {
    let settings = match broken {
        Some(e) => Check::failed("settings", format!("{e:#}"), error::remedy(&e).unwrap_or("mend /etc/vfguard/config.toml")),
        None => Check::ok("settings", "read and valid"),
    };
    let mut checks = vec![settings];
    checks.extend(doctor::examine(&context.host, &context.config));
    let failed = checks.iter().any(|c| c.status == Status::Failed);
    if context.json() {
        super::print(&json::object(&Report { checks }));
    } else {
        let shown = checks.iter().filter(|c| !context.global.quiet || c.status == Status::Failed);
        let text: String = shown.map(|c| line(context, c)).collect();
        if !text.is_empty() {
            super::print(&text);
        }
    }
    Ok(if failed { Exit::Undecided } else { Exit::Done })
}

fn line(context: &Context, check: &Check) -> String {
    let (mark, colour) = match check.status {
        Status::Ok => ("ok", "32"),
        Status::Warning => ("warning", "33"),
        Status::Failed => ("failed", "31;1"),
    };
    let mark = if context.colour() { format!("\u{1b}[{colour}m{mark}\u{1b}[0m") } else { mark.to_owned() };
    let mut text = format!("{mark}: {}: {}\n", check.name, human::printable(&check.detail).replace('\n', " "));
    if !check.remedy.is_empty() {
        text += &format!("  to mend it: {}\n", human::printable(&check.remedy));
    }
    text
}
