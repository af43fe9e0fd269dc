//! Whether vfguard itself is in order: hooks installed and enabled, able to build, gate and boot default usable. It only
//! reads; a root other than `/` is judged by its files alone.

mod ability;
mod hooks;
mod secrets;

use crate::config::Config;
use crate::host::Host;
use serde::Serialize;

/// The result of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// In order.
    Ok,
    /// Worth fixing, but vfguard works.
    Warning,
    /// vfguard cannot work, or would not be called.
    Failed,
}

/// One check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// Its name, which never changes.
    pub name: &'static str,
    /// Its result.
    pub status: Status,
    /// What was found.
    pub detail: String,
    /// The command to run; empty if nothing needs fixing.
    pub remedy: String,
}

impl Check {
    /// A check without problems.
    pub fn ok(name: &'static str, detail: impl Into<String>) -> Check {
        Check { name, status: Status::Ok, detail: detail.into(), remedy: String::new() }
    }

    /// A check with a warning.
    pub fn warning(name: &'static str, detail: impl Into<String>, remedy: impl Into<String>) -> Check {
        Check { name, status: Status::Warning, detail: detail.into(), remedy: remedy.into() }
    }

    /// A failed check.
    pub fn failed(name: &'static str, detail: impl Into<String>, remedy: impl Into<String>) -> Check {
        Check { name, status: Status::Failed, detail: detail.into(), remedy: remedy.into() }
    }
}

/// Runs all checks.
pub fn examine(host: &Host, config: &Config) -> Vec<Check> {
    let mut checks = hooks::examine(host);
    checks.extend(ability::examine(host, config));
    checks.extend(secrets::examine(host));
    checks
}
