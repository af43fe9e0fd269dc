//! The result of a preparation: an installed module, or the reasons why there is none.

use crate::driver::sandbox::Containment;
use crate::driver::{Digest, Recipe};
use crate::finding::Finding;
use crate::kernel::KernelRelease;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// An installed and proven module.
#[derive(Debug)]
pub struct Prepared {
    /// The release.
    pub version: String,
    /// The archive that it was built from: digest and where it came from; none if nothing was built.
    pub archive: Option<(Digest, String)>,
    /// The modules' files, below the root.
    pub modules: Vec<PathBuf>,
    /// Findings to report.
    pub findings: Vec<Finding>,
    /// How long each stage took.
    pub stages: Vec<(&'static str, Duration)>,
    /// The build log, below the root.
    pub log: Option<PathBuf>,
    /// How the build was contained; none if nothing was built.
    pub sandbox: Option<Containment>,
    /// Whether it was installed already.
    pub reused: bool,
}

impl Prepared {
    /// The result for people: one line; with `verbose` also stages, findings and the log.
    pub fn summary(&self, kernel: &KernelRelease, recipe: &Recipe, verbose: bool) -> Vec<String> {
        let what = if self.reused { "was in place and is good" } else { "built, verified and installed" };
        let mut lines = vec![format!("{kernel}: {} {} {what}", recipe.name, self.version)];
        if verbose {
            for module in &self.modules {
                lines.push(format!("  module: {}", module.display()));
            }
            for (stage, time) in &self.stages {
                lines.push(format!("  {stage}: {:.1} s", time.as_secs_f64()));
            }
            for finding in &self.findings {
                lines.push(format!("  {}", finding.detail));
            }
            if let Some(contained) = self.sandbox {
                lines.push(format!("  sandbox: {contained}"));
            }
            if let Some(log) = &self.log {
                lines.push(format!("  log: {}", log.display()));
            }
        }
        lines
    }
}

/// Why a kernel could not be prepared; found in the [`anyhow::Error`] with `downcast_ref`.
#[derive(Debug)]
pub struct PrepareError {
    /// At least one.
    pub findings: Vec<Finding>,
    /// The log of the last build, below the root.
    pub log: Option<PathBuf>,
}

impl fmt::Display for PrepareError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let details: Vec<&str> = self.findings.iter().filter(|x| x.refuses()).map(|x| x.detail.as_str()).collect();
        f.write_str(&details.join("; "))
    }
}

impl std::error::Error for PrepareError {}
