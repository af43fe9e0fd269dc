//! Builds what a judgement asks for, and rebuilds an initramfs that carries another driver than the disk.

use super::run::Run;
use super::Effort;
use crate::config::Config;
use crate::driver::{self, Recipe};
use crate::flow::look::Look;
use crate::host::devices::pci::Device;
use crate::host::lock::WriteLock;
use crate::host::Host;
use crate::kernel::tree::Tree;
use crate::kernel::KernelRelease;
use crate::module::Target;
use crate::progress::Progress;
use crate::verdict::survey::Survey;
use std::time::Instant;

impl Run<'_> {
    /// Builds what the plan asks for. Returns whether anything may have changed.
    pub(super) fn prepare(&mut self, look: &Look) -> bool {
        let mut changed = false;
        let until = match self.effort {
            Effort::Decide | Effort::Early => return false,
            Effort::Whole => None,
            Effort::Within(until) => Some(until),
        };
        let survey = &look.survey;
        for work in &look.work {
            let release = &work.kernel;
            for recipe in &work.builds {
                let tree = Tree::of(self.host, release);
                if driver::would_fail_again(&tree, recipe, &survey.devices) {
                    continue;
                }
                let mut config = self.config.clone();
                if let Some(until) = until {
                    let left = until.saturating_duration_since(Instant::now()).as_secs();
                    if left == 0 {
                        let line = format!("{release}: {} is not built here: no time is left (hook.budget)", recipe.name);
                        self.done.push(line);
                        continue;
                    }
                    config.build.timeout = config.build.timeout.min(left);
                }
                let line = if work.does_without {
                    // Without a network it fails at each run of the timer, so only one line is printed about it.
                    let progress = Unnoted(self.progress);
                    build(self.host, &config, &self.lock, survey, &tree, recipe, &progress).unwrap_or_else(|_| {
                        let name = &recipe.name;
                        format!("{release}: {name} was not prepared, and is done without; why: vfguard -v check {release}")
                    })
                } else {
                    build(self.host, &config, &self.lock, survey, &tree, recipe, self.progress)
                        .unwrap_or_else(|e| not_prepared(release, recipe, &e))
                };
                self.done.push(line);
                changed = true;
            }
            if let Some(modules) = &work.initramfs {
                changed |= self.refresh_initramfs(survey, release, modules);
            }
        }
        changed
    }

    /// Rebuilds the initramfs of a kernel where it carries another module than the disk. Returns whether one was rebuilt.
    fn refresh_initramfs(&mut self, survey: &Survey, kernel: &KernelRelease, modules: &[String]) -> bool {
        if driver::rest::is_on(self.host, kernel) {
            return false;
        }
        let modules: Vec<&str> = modules.iter().map(String::as_str).collect();
        self.progress.note(&format!("{kernel}: looking at its initramfs"));
        // A build may have ended between the look and this.
        let target = Target::load(self.host, kernel);
        match driver::install::initramfs::refresh(self.host, &self.lock, &target, survey.initrds(kernel), &modules) {
            Ok(made) => {
                self.done.extend(made.iter().map(|file| format!("{kernel}: {} was made anew", file.display())));
                !made.is_empty()
            }
            Err(e) => {
                self.done.push(format!("{kernel}: its initramfs was not made anew: {e:#}"));
                false
            }
        }
    }
}

/// Shows the progress without its notes.
struct Unnoted<'a>(&'a dyn Progress);

impl Progress for Unnoted<'_> {
    fn begin(&self, total: Option<u64>, what: &str) {
        self.0.begin(total, what);
    }

    fn advance(&self, n: u64) {
        self.0.advance(n);
    }

    fn end(&self) {
        self.0.end();
    }
}

/// The line about a failed build.
pub(super) fn not_prepared(kernel: &KernelRelease, recipe: &Recipe, why: &anyhow::Error) -> String {
    format!("{kernel}: {} was not prepared: {why:#}", recipe.name)
}

/// Builds one driver, and returns the line about it. A failure is also recorded, for the next judgement.
pub(super) fn build(
    host: &Host,
    config: &Config,
    lock: &WriteLock,
    survey: &Survey,
    tree: &Tree<'_>,
    recipe: &Recipe,
    progress: &dyn Progress,
) -> anyhow::Result<String> {
    let kernel = tree.release;
    let devices: Vec<&Device> = survey.devices.iter().filter(|d| recipe.claims(&d.modalias)).collect();
    let initrds = survey.initrds(kernel);
    let request = driver::Request { tree, recipe, devices: &devices, rebuild: false, source: None, jobs: None, initrds };
    progress.note(&format!("{kernel}: preparing {}", recipe.name));
    let prepared = driver::prepare(host, config, lock, &request, progress)?;
    let what = if prepared.reused { "was in place" } else { "built, verified and installed" };
    Ok(format!("{kernel}: {} {} {what}", recipe.name, prepared.version))
}
