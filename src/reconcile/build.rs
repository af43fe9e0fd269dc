//! Building what a judgement asks for, and making an initramfs anew that carries another driver than the disk.

use super::{Effort, Run};
use crate::config::Config;
use crate::driver::{self, Progress, Recipe};
use crate::host::lock::WriteLock;
use crate::host::pci::Device;
use crate::host::Host;
use crate::judge::KernelReport;
use crate::kernel::KernelRelease;
use crate::look::Look;
use crate::survey::Survey;
use std::time::Instant;

impl Run<'_> {
    /// Builds what the judgement asks for. Says whether anything may have changed.
    pub(super) fn prepare(&mut self, look: &Look) -> bool {
        let mut changed = false;
        let until = match self.effort {
            Effort::Decide | Effort::Early => return false,
            Effort::Whole => None,
            Effort::Within(until) => Some(until),
        };
        let survey = &look.survey;
        for kernel in &look.judgement.kernels {
            for name in &kernel.builds {
                let Some(recipe) = survey.recipes.iter().find(|r| &r.name == name) else { continue };
                if driver::would_fail_again(self.host, &kernel.kernel, recipe, &survey.devices) {
                    continue;
                }
                let mut config = self.config.clone();
                if let Some(until) = until {
                    let left = until.saturating_duration_since(Instant::now()).as_secs();
                    if left == 0 {
                        self.done
                            .push(format!("{}: {name} is not built here: no time is left (hook.budget)", kernel.kernel));
                        continue;
                    }
                    config.build.timeout = config.build.timeout.min(left);
                }
                let line = build(self.host, &config, &self.lock, survey, &kernel.kernel, recipe, self.progress);
                self.done.push(line);
                changed = true;
            }
            changed |= kernel.initramfs && self.refresh_initramfs(survey, kernel);
        }
        changed
    }

    /// Makes the initramfs of a kernel anew where it carries another module than the disk. Says whether anything was made.
    fn refresh_initramfs(&mut self, survey: &Survey, report: &KernelReport) -> bool {
        let kernel = &report.kernel;
        if driver::rest::is_on(self.host, kernel) {
            return false;
        }
        let modules: Vec<&str> = report.modules.iter().map(|m| m.name.as_str()).collect();
        self.progress.note(&format!("{kernel}: looking at its initramfs"));
        match driver::install::initramfs::refresh(self.host, &self.lock, kernel, survey.initrds(kernel), &modules) {
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

/// One build; its failure is a line here and a record that the next judgement shows.
pub(super) fn build(
    host: &Host,
    config: &Config,
    lock: &WriteLock,
    survey: &Survey,
    kernel: &KernelRelease,
    recipe: &Recipe,
    progress: &dyn Progress,
) -> String {
    let devices: Vec<&Device> = survey.devices.iter().filter(|d| recipe.claims(&d.modalias)).collect();
    let initrds = survey.initrds(kernel);
    let request = driver::Request { kernel, recipe, devices: &devices, rebuild: false, source: None, jobs: None, initrds };
    progress.note(&format!("{kernel}: preparing {}", recipe.name));
    match driver::prepare(host, config, lock, &request, progress) {
        Ok(prepared) if prepared.reused => format!("{kernel}: {} {} was in place", recipe.name, prepared.version),
        Ok(prepared) => format!("{kernel}: {} {} built, verified and installed", recipe.name, prepared.version),
        Err(e) => format!("{kernel}: {} was not prepared: {e:#}", recipe.name),
    }
}
