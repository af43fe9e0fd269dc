//! Whether the guard itself is in order: hooks in place and enabled, able to build, gate and boot default able to hold. Looks and
//! changes nothing; another root than `/` is judged by its files alone.

mod ability;
mod hooks;
mod secrets;

use crate::config::Config;
use crate::host::Host;
use serde::Serialize;

/// How a check came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// In order.
    Ok,
    /// Worth acting on; the guard does its work.
    Warning,
    /// The guard cannot do its work, or would not be called.
    Failed,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What; stable.
    pub name: &'static str,
    /// How it came out.
    pub status: Status,
    /// What was seen.
    pub detail: String,
    /// What to type; empty where nothing needs mending.
    pub remedy: String,
}

impl Check {
    /// In order.
    pub fn ok(name: &'static str, detail: impl Into<String>) -> Check {
        Check { name, status: Status::Ok, detail: detail.into(), remedy: String::new() }
    }

    /// Worth acting on.
    pub fn warning(name: &'static str, detail: impl Into<String>, remedy: impl Into<String>) -> Check {
        Check { name, status: Status::Warning, detail: detail.into(), remedy: remedy.into() }
    }

    /// Not in order.
    pub fn failed(name: &'static str, detail: impl Into<String>, remedy: impl Into<String>) -> Check {
        Check { name, status: Status::Failed, detail: detail.into(), remedy: remedy.into() }
    }
}

/// Looks at everything.
pub fn examine(host: &Host, config: &Config) -> Vec<Check> {
    let mut checks = hooks::examine(host);
    checks.extend(ability::examine(host, config));
    checks.extend(secrets::examine(host));
    checks
}
