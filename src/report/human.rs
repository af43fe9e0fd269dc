//! Reports for people: what is wrong, why, and the next command.

use crate::finding::{Finding, Severity, Verdict};
use crate::text::{Colour, Text, Word};
use crate::verdict::judge::{KernelReport, Origin};

/// Text with or without colours.
#[derive(Clone, Copy, Debug)]
pub struct Style {
    /// Whether to colour.
    pub colour: bool,
    /// Whether to show infos and paths.
    pub verbose: bool,
}

impl Style {
    /// A word in a colour, if colours are on.
    pub fn word(self, colour: Colour, word: &'static str) -> Word {
        Word { word, colour: self.colour.then_some(colour) }
    }

    /// A verdict in its colour.
    pub fn verdict(self, verdict: Verdict) -> Word {
        match verdict {
            Verdict::Safe => self.word(Colour::Green, "safe"),
            Verdict::Unknown => self.word(Colour::Yellow, "unknown (refuses like unsafe)"),
            Verdict::Unsafe => self.word(Colour::Red, "unsafe"),
        }
    }

    /// One finding: its code and detail, then the remedy.
    pub fn finding(self, finding: &Finding, indent: &str) -> Text {
        let mark = match finding.severity() {
            Severity::Info => Word { word: "info", colour: None },
            Severity::Warning => self.word(Colour::Yellow, "warning"),
            Severity::Unsafe => self.word(Colour::Red, "unsafe"),
        };
        let mut text = Text::default();
        text.line_with(indent, mark, &format!(": {} [{}]", finding.detail, code(finding)));
        if !finding.remedy.is_empty() {
            text.line(&format!("{indent}  to mend it: {}", finding.remedy));
        }
        text
    }

    /// One kernel with its devices, modules and findings.
    pub fn kernel(self, report: &KernelReport) -> Text {
        let role = format!("{:?}", report.role).to_lowercase();
        let mut text = Text::default();
        text.line_with(&format!("{role}: {} is ", report.kernel), self.verdict(report.verdict), "");
        for device in &report.devices {
            let interface = device.interface.as_deref().unwrap_or("no interface");
            let driver = device.driver.as_deref().unwrap_or("no driver bound");
            let absent = if device.present { "" } else { ", not there now" };
            text.line(&format!("  device {} {interface}, {driver}{absent}", device.address));
        }
        for module in &report.modules {
            let version = if module.version.is_empty() { String::new() } else { format!(" {}", module.version) };
            let place = if module.path.is_empty() { "built in" } else { module.path.as_str() };
            text.line(&format!("  module {}{version}, {}, {place}", module.name, origin(module.origin)));
        }
        let mut remedies: Vec<&str> = Vec::new();
        let brief =
            |f: &&Finding| f.is_told() && !report.attempts.as_ref().is_some_and(|attempts| attempts.findings.contains(f));
        for finding in report.findings.iter().filter(|f| self.verbose || brief(f)) {
            // A remedy for several findings is printed once.
            let told = remedies.contains(&finding.remedy.as_str());
            let mut shown = finding.clone();
            if told {
                shown.remedy.clear();
            }
            text.append(&self.finding(&shown, "  "));
            remedies.push(&finding.remedy);
        }
        if let Some(attempts) = report.attempts.as_ref().filter(|_| !self.verbose) {
            let drivers = attempts.drivers.join(", ");
            let told = format!(": {drivers} was not built; why: vfguard -v check {}", report.kernel);
            text.line_with("  ", self.word(Colour::Yellow, "warning"), &told);
        }
        text
    }
}

/// A finding's code as in the JSON contract.
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
