//! What is known about a module on a kernel: findings with stable codes, and the verdict they add up to.
//!
//! [`Code`] is what a finding is called outside, [`Fact`] what was seen. How bad that is stands in one table, `policy.rs`.

mod code;
mod policy;

pub use code::Code;
pub use policy::Fact;

use policy::Mark;
use serde::{Deserialize, Serialize};

/// How much a finding weighs.
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

/// One fact about a module on a kernel. Its severity is the table's, or what `policy.rs` makes of it later; nobody else sets one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// Stable code.
    pub code: Code,
    severity: Severity,
    /// What was seen, with names and numbers.
    pub detail: String,
    /// The exact command or act that mends it; empty where nothing needs mending.
    pub remedy: String,
    /// None where it was read from a record, which explains and never excuses.
    #[serde(skip)]
    fact: Option<Fact>,
}

impl Finding {
    /// What was seen, in names and numbers, and what mends it.
    pub fn new(fact: Fact, detail: impl Into<String>, remedy: impl Into<String>) -> Self {
        let rule = fact.rule();
        Finding { code: rule.code, severity: rule.severity, detail: detail.into(), remedy: remedy.into(), fact: Some(fact) }
    }

    /// Weight.
    pub fn severity(&self) -> Severity {
        self.severity
    }

    /// Whether it was made of that fact.
    pub fn is(&self, fact: Fact) -> bool {
        self.fact == Some(fact)
    }

    /// Whether it makes a kernel unsafe.
    pub fn refuses(&self) -> bool {
        self.severity == Severity::Unsafe
    }

    /// Whether a person is told of it unasked.
    pub fn is_told(&self) -> bool {
        self.severity > Severity::Info || self.fact.is_some_and(|fact| fact.rule().told)
    }

    /// Whether it refuses, and that its module works right now answers it.
    pub fn is_excused_by_use(&self) -> bool {
        self.refuses_with(Mark::ByUse)
    }

    /// Whether it refuses, and a master that carries the network without the device answers it.
    pub fn is_excused_by_master(&self) -> bool {
        self.refuses_with(Mark::ByMaster)
    }

    /// Whether it refuses, and only another source, kernel tree or compiler mends it.
    pub fn is_of_the_build(&self) -> bool {
        self.refuses_with(Mark::OfTheBuild)
    }

    fn refuses_with(&self, mark: Mark) -> bool {
        self.refuses() && self.fact.is_some_and(|fact| fact.rule().marks.contains(&mark))
    }
}

/// The verdict on a kernel; ordered, so that the worst of several is their maximum.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Proven: it will come up with its network.
    Safe,
    /// Not decided; refuses like unsafe.
    Unknown,
    /// Proven not to, or not proven where it must be.
    Unsafe,
}

impl Verdict {
    /// The verdict that findings add up to when each of them could be decided.
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
