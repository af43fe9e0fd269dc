//! Reports for people: what, why, and what to type next, readable at a glance.

use crate::finding::{Finding, Severity, Verdict};
use crate::judge::{KernelReport, Origin};
use std::fmt::Write;

/// Text with or without colours (ECMA-48 SGR).
#[derive(Clone, Copy, Debug)]
pub struct Style {
    /// Whether to colour.
    pub colour: bool,
    /// Whether infos and paths are shown.
    pub verbose: bool,
}

impl Style {
    fn paint(self, code: &str, text: &str) -> String {
        if self.colour {
            format!("\u{1b}[{code}m{text}\u{1b}[0m")
        } else {
            text.to_owned()
        }
    }

    /// A verdict in its colour.
    pub fn verdict(self, verdict: Verdict) -> String {
        match verdict {
            Verdict::Safe => self.paint("32", "safe"),
            Verdict::Unknown => self.paint("33", "unknown (refuses like unsafe)"),
            Verdict::Unsafe => self.paint("31;1", "unsafe"),
        }
    }

    /// One finding: its code and detail, then what to type next.
    pub fn finding(self, finding: &Finding, indent: &str) -> String {
        let mark = match finding.severity {
            Severity::Info => "info",
            Severity::Warning => "warning",
            Severity::Unsafe => "unsafe",
        };
        let mark = match finding.severity {
            Severity::Info => mark.to_owned(),
            Severity::Warning => self.paint("33", mark),
            Severity::Unsafe => self.paint("31;1", mark),
        };
        let mut text = format!("{indent}{mark}: {} [{}]\n", printable(&finding.detail), code(finding));
        if !finding.remedy.is_empty() {
            let _ = writeln!(text, "{indent}  to mend it: {}", printable(&finding.remedy));
        }
        text
    }

    /// One kernel with its devices, modules and findings.
    pub fn kernel(self, report: &KernelReport) -> String {
        let role = format!("{:?}", report.role).to_lowercase();
        let mut text = format!("{role}: {} is {}\n", report.kernel, self.verdict(report.verdict));
        for device in &report.devices {
            let interface = device.interface.as_deref().unwrap_or("no interface");
            let driver = device.driver.as_deref().unwrap_or("no driver bound");
            let _ = writeln!(text, "  device {} {interface}, {driver}", device.address);
        }
        for module in &report.modules {
            let version = if module.version.is_empty() { String::new() } else { format!(" {}", module.version) };
            let place = if module.path.is_empty() { "built in" } else { module.path.as_str() };
            let _ = writeln!(text, "  module {}{version}, {}, {place}", module.name, origin(module.origin));
        }
        for finding in report.findings.iter().filter(|f| self.verbose || f.severity > Severity::Info) {
            text += &self.finding(finding, "  ");
        }
        text
    }
}

/// A finding's code as the contract spells it.
pub fn code(finding: &Finding) -> String {
    serde_json::to_value(finding.code).ok().and_then(|v| v.as_str().map(str::to_owned)).unwrap_or_default()
}

fn origin(origin: Origin) -> &'static str {
    match origin {
        Origin::Built => "built by vfguard",
        Origin::Reused => "reused from another kernel",
        Origin::Prebuilt => "prebuilt",
        Origin::InTree => "the kernel's own",
        Origin::Unknown => "origin unknown",
    }
}

/// Control characters that came from a file or a compiler never reach the terminal.
pub fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\n' { '\u{fffd}' } else { c }).collect()
}
