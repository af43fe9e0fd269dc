//! What is known about a module on a kernel: findings with stable codes, and the verdict that follows from them.
//!
//! [`Code`] is the public name of a finding, [`Fact`] is what was seen. Its severity is in one table, `policy.rs`.

mod code;
mod policy;

pub use code::Code;
pub use policy::Fact;

use policy::Mark;
use serde::{Deserialize, Serialize};

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Worth knowing; changes nothing.
    Info,
    /// Worth acting on; does not refuse.
    Warning,
    /// The kernel would not come up with its network.
    Unsafe,
}

/// One fact about a module on a kernel. Its severity comes from the table, and `policy.rs` may lower it later; no other code sets it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// Stable code.
    pub code: Code,
    severity: Severity,
    /// What was seen, with names and numbers.
    pub detail: String,
    /// The exact command or act that fixes it; empty where nothing needs to be fixed.
    pub remedy: String,
    /// `None` if it was read from a record, which explains a result but never excuses one.
    #[serde(skip)]
    fact: Option<Fact>,
}

impl Finding {
    /// Makes a finding from what was seen, with names and numbers, and what fixes it.
    pub fn new(fact: Fact, detail: impl Into<String>, remedy: impl Into<String>) -> Self {
        let rule = fact.rule();
        Finding { code: rule.code, severity: rule.severity, detail: detail.into(), remedy: remedy.into(), fact: Some(fact) }
    }

    /// How bad it is.
    pub fn severity(&self) -> Severity {
        self.severity
    }

    /// Whether it was made from this fact.
    pub fn is(&self, fact: Fact) -> bool {
        self.fact == Some(fact)
    }

    /// Whether it makes a kernel unsafe.
    pub fn refuses(&self) -> bool {
        self.severity == Severity::Unsafe
    }

    /// Whether it is shown to a person without `-v`.
    pub fn is_told(&self) -> bool {
        self.severity > Severity::Info || self.fact.is_some_and(|fact| fact.rule().told)
    }

    /// Whether it refuses, but is excused if its module works right now.
    pub fn is_excused_by_use(&self) -> bool {
        self.refuses_with(Mark::ByUse)
    }

    /// Whether it refuses, but is excused if a master carries the network without the device.
    pub fn is_excused_by_master(&self) -> bool {
        self.refuses_with(Mark::ByMaster)
    }

    /// Whether it refuses, and only another source, kernel tree or compiler fixes it.
    pub fn is_of_the_build(&self) -> bool {
        self.refuses_with(Mark::OfTheBuild)
    }

    fn refuses_with(&self, mark: Mark) -> bool {
        self.refuses() && self.fact.is_some_and(|fact| fact.rule().marks.contains(&mark))
    }
}

/// The verdict on a kernel. Verdicts are ordered, so the worst of several is their maximum.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Proven: it will come up with its network.
    Safe,
    /// Not decided; refuses like unsafe.
    Unknown,
    /// Proven not to come up with its network, or not proven although it must be.
    Unsafe,
}

impl Verdict {
    /// The verdict from these findings, if all of them could be determined.
    pub fn of(findings: &[Finding]) -> Verdict {
        if findings.iter().any(Finding::refuses) {
            Verdict::Unsafe
        } else {
            Verdict::Safe
        }
    }
}

#[cfg(test)]
mod tests;
