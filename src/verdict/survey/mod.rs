//! Looks at the machine once: devices, recipes, kernels, next boot; and collects the evidence on a kernel that [`crate::verdict::judge`]
//! weighs. It only reads, and starts no process.

mod drivers;
pub mod entry;
mod evidence;
pub mod known;
mod masters;
mod newest;
mod origin;
mod proof;
pub mod room;

use super::judge::{self, Attempts, Judged, Judgement, KernelReport, Role, Work};
use crate::boot::declined;
use crate::boot::{self, NextBoot};
use crate::config::Config;
use crate::driver::{self, recipe, Recipe};
use crate::error::{advise, Remedy};
use crate::finding::{Fact, Finding, Verdict};
use crate::host::devices::pci::{self, Device};
use crate::host::Host;
use crate::kernel::{installed, leaving, Kernel, KernelRelease};
use crate::module::{Target, Targets};
use crate::retention;
use anyhow::{Context, Result};
use known::{Known, Memory};
use std::cell::{OnceCell, RefCell};
use std::path::PathBuf;
use std::rc::Rc;

/// What is known about the machine as a whole.
pub struct Survey<'a> {
    host: &'a Host,
    config: &'a Config,
    /// Every device that counts: first those that are there, then the remembered ones that are missing.
    pub devices: Vec<Device>,
    /// The network devices that are or were in use.
    pub memory: Memory,
    /// Every recipe.
    pub recipes: Vec<Rc<Recipe>>,
    /// Installed kernels, newest first.
    pub kernels: Vec<Kernel>,
    /// The running kernel.
    pub running: Option<KernelRelease>,
    /// What the boot loader may start.
    pub next: NextBoot,
    /// The kernel that would boot without our hold, declined kernels skipped; `None` where that is the kernel that boots anyway.
    pub wanted: Option<KernelRelease>,
    /// The kernel that the loader would boot without the hold, declined or not; `None` without a hold.
    pub held_off: Option<KernelRelease>,
    /// The boot entry of the wanted kernel.
    wanted_entry: Option<boot::Candidate>,
    /// The boot loader's menu, read only when needed.
    menu: OnceCell<Vec<boot::Candidate>>,
    /// The kernels as they were when first read.
    targets: RefCell<Targets>,
}

impl<'a> Survey<'a> {
    /// Looks at the machine.
    ///
    /// # Errors
    /// A recipe that cannot be read, a required driver without a recipe, devices that cannot be read.
    pub fn new(host: &'a Host, config: &'a Config) -> Result<Survey<'a>> {
        Survey::look(host, config, true)
    }

    /// Looks early at boot: a missing device may still come, so no new one replaces it.
    ///
    /// # Errors
    /// Those of [`Survey::new`].
    pub fn at_boot(host: &'a Host, config: &'a Config) -> Result<Survey<'a>> {
        Survey::look(host, config, false)
    }

    fn look(host: &'a Host, config: &'a Config, replace: bool) -> Result<Survey<'a>> {
        let recipes: Vec<Rc<Recipe>> = driver::recipes(host)?.into_iter().map(Rc::new).collect();
        if let Some(name) = config.drivers.required.iter().find(|n| recipes.iter().all(|r| &r.name != *n)) {
            return Err(advise(
                format!("drivers.required names {name}, which has no recipe"),
                format!("add /etc/vfguard/drivers.d/{name}.toml, or take {name} out of drivers.required"),
            ));
        }
        let mut devices = pci::devices(host)
            .remedy("reading the devices of /sys/bus/pci", "mount sysfs at /sys (below --root: copy or bind it there)")?;
        let next = boot::next_boot(host, &config.boot);
        let (held_off, wanted) = boot::held_off(host, &next).map(|off| (off.kernel, off.wanted)).unzip();
        let wanted = wanted.flatten();
        let wanted_entry = wanted.as_ref().and_then(|kernel| boot::wanted_entry(host, kernel));
        let (kernels, running) = (installed::installed(host), installed::running(host));
        let targets = Targets::default();
        let binding =
            |d: &Device| origin::binding(host, &targets, d, claiming(&recipes, d).map(Rc::as_ref), running.as_ref());
        let memory = Memory::look(host, &devices, binding, replace);
        let absent = memory.gone().iter().filter(|known| !devices.iter().any(|d| known.is(d))).map(Known::device);
        let absent: Vec<Device> = absent.collect();
        // Virtual functions of this machine's own cards that it does not use are meant for its guests.
        devices.retain(|d| d.in_use() || memory.of_device(d).is_some() || !pci::is_of_own_card(host, d));
        devices.extend(absent);
        Ok(Survey {
            host,
            config,
            devices,
            memory,
            recipes,
            kernels,
            running,
            next,
            wanted,
            held_off,
            wanted_entry,
            menu: OnceCell::new(),
            targets: RefCell::new(targets),
        })
    }

    /// The kernels that may start, each once, with its most important role; where the next boot is uncertain, every installed kernel too.
    pub fn roles(&self) -> Vec<(KernelRelease, Role)> {
        let mut roles: Vec<(KernelRelease, Role)> = Vec::new();
        let mut add = |kernel: &KernelRelease, role| {
            if roles.iter().all(|(k, _)| k != kernel) {
                roles.push((kernel.clone(), role));
            }
        };
        for candidate in &self.next.kernels {
            let role = match candidate.role {
                boot::BootRole::Next => Role::Next,
                boot::BootRole::Once => Role::Once,
                boot::BootRole::Fallback => Role::Fallback,
            };
            add(&candidate.kernel, role);
        }
        if let Some(wanted) = &self.wanted {
            add(wanted, Role::Wanted);
        }
        if !self.next.certain {
            self.kernels.iter().for_each(|k| add(&k.release, Role::Installed));
            // A kernel that is being removed may boot until its files are gone.
            let left = |kernel: &KernelRelease| self.host.is_dir(installed::modules_dir(kernel));
            leaving::all(self.host).iter().filter(|kernel| left(kernel)).for_each(|kernel| add(kernel, Role::Installed));
        }
        roles
    }

    /// Judges every kernel that counts; the worst verdict is the machine's.
    pub fn judge(&self) -> Judgement {
        self.judged().judgement
    }

    /// The same, with what has to be built.
    pub fn judged(&self) -> Judged {
        let (reports, mut work): (Vec<KernelReport>, Vec<Work>) =
            self.roles().iter().map(|(kernel, role)| self.weigh(kernel, *role)).unzip();
        work.retain(Work::is_any);
        self.targets.borrow().keep_only(None);
        Judged { judgement: judge::judge(reports, self.uncertainty().as_ref()), work }
    }

    /// The same for a person, with a finding that decides nothing and takes more reading.
    pub fn judge_and_tell(&self) -> Judgement {
        let mut judgement = self.judge();
        self.note_newest(&mut judgement.kernels);
        judgement
    }

    /// Judges one kernel, whether or not the boot loader may start it.
    ///
    /// # Errors
    /// When it is not installed.
    pub fn judge_one(&self, kernel: &KernelRelease) -> Result<Judgement> {
        self.must_be_installed(kernel)?;
        let role = self.roles().into_iter().find(|(k, _)| k == kernel).map_or(Role::Installed, |(_, role)| role);
        let mut reports = vec![self.report(kernel, role)];
        if self.newest_not_booting().is_some_and(|(newest, _)| newest == *kernel) {
            self.note_newest(&mut reports);
        }
        Ok(judge::judge(reports, None))
    }

    /// Reports once that the newest kernel will never start: on that kernel itself, or else on the one that boots instead.
    fn note_newest(&self, reports: &mut [KernelReport]) {
        let Some((newest, finding)) = self.newest_not_booting() else { return };
        let next = |k: &&mut KernelReport| k.role == Role::Next;
        let at = reports.iter().position(|k| k.kernel == newest);
        let report = match at {
            Some(at) => reports.get_mut(at),
            None => reports.iter_mut().find(next),
        };
        if let Some(report) = report {
            report.findings.push(finding);
        }
    }

    /// Judges every installed kernel; those that may start come first.
    pub fn judge_installed(&self) -> Vec<KernelReport> {
        let mut roles = self.roles();
        for kernel in &self.kernels {
            if roles.iter().all(|(k, _)| k != &kernel.release) {
                roles.push((kernel.release.clone(), Role::Installed));
            }
        }
        let mut reports: Vec<KernelReport> = roles.iter().map(|(kernel, role)| self.report(kernel, *role)).collect();
        self.note_newest(&mut reports);
        let safe: Vec<KernelRelease> =
            reports.iter().filter(|r| r.verdict == Verdict::Safe).map(|r| r.kernel.clone()).collect();
        let installed: Vec<KernelRelease> = self.kernels.iter().map(|k| k.release.clone()).collect();
        if let Some(warning) = retention::last_safe_kernel(self.host, &installed, self.running.as_ref(), &safe) {
            reports.iter_mut().filter(|r| safe.contains(&r.kernel)).for_each(|r| r.findings.push(warning.clone()));
        }
        reports
    }

    /// # Errors
    /// When the kernel has no module directory; the message lists the kernels that have one.
    pub fn must_be_installed(&self, kernel: &KernelRelease) -> Result<()> {
        if self.host.is_dir(installed::modules_dir(kernel)) {
            return Ok(());
        }
        let known: Vec<&str> = self.kernels.iter().map(|k| k.release.as_str()).collect();
        let known = if known.is_empty() { "none".into() } else { known.join(", ") };
        Err(advise(
            format!("kernel {kernel} is not installed (installed: {known})"),
            format!("install it, or name an installed one; `vfguard rehearse {kernel}` needs only its headers"),
        ))
    }

    /// The kernel to hold the boot default on: the running one if its files are there and it is safe; else the newest safe one that has
    /// booted; else the running one, since it came up. But not if a device has no driver under it, because it may then have been started by
    /// mistake.
    pub fn hold_target(&self, host: &Host) -> Option<KernelRelease> {
        // This may be called long after the look, so read the kernels again.
        *self.targets.borrow_mut() = Targets::default();
        let verdict = |kernel: &KernelRelease| self.report(kernel, Role::Installed).verdict;
        let whole =
            |kernel: &KernelRelease| self.kernels.iter().any(|k| &k.release == kernel) && entry::is_whole(host, kernel);
        let running = self.running.as_ref().filter(|running| whole(running));
        if let Some(running) = running.filter(|running| verdict(running) == Verdict::Safe) {
            return Some(running.clone());
        }
        let booted = booted(host);
        let declined = declined::read(host);
        let proven = |k: &&Kernel| {
            let is_declined = declined.iter().any(|d| d.kernel == k.release);
            booted.contains(&k.release) && !is_declined && verdict(&k.release) == Verdict::Safe
        };
        let proven = self.kernels.iter().find(proven).map(|k| k.release.clone());
        proven.or_else(|| running.filter(|_| !known::is_undriven(host)).cloned())
    }

    /// A kernel as this survey has read it.
    fn target(&self, kernel: &KernelRelease) -> Target {
        self.targets.borrow().of(self.host, kernel)
    }

    /// Whether a person declined the kernel that boots next.
    pub fn declined_next(&self) -> bool {
        let next = self.next.lasting().map(|c| &c.kernel);
        next.is_some_and(|next| declined::read(self.host).iter().any(|d| d.kernel == *next))
    }

    /// The initial ramdisks that a kernel's boot entry names; none without an entry that may boot.
    pub fn initrds(&self, kernel: &KernelRelease) -> &[PathBuf] {
        self.entry(kernel).map_or(&[], |c| &c.initrds)
    }

    /// The boot entry that starts a kernel, or would without the hold.
    fn entry(&self, kernel: &KernelRelease) -> Option<&boot::Candidate> {
        self.next.kernels.iter().chain(&self.wanted_entry).find(|c| &c.kernel == kernel)
    }

    /// The recipe with this name.
    ///
    /// # Errors
    /// When there is none; the message lists the existing ones.
    pub fn recipe(&self, name: &str) -> Result<&Rc<Recipe>> {
        self.recipes.iter().find(|r| r.name == name).ok_or_else(|| {
            let known: Vec<&str> = self.recipes.iter().map(|r| r.name.as_str()).collect();
            advise(
                format!("there is no recipe {name}"),
                format!("name one of {}, or add /etc/vfguard/drivers.d/{name}.toml", known.join(", ")),
            )
        })
    }

    /// Why the next boot is not certain, as the finding that each kernel then gets.
    fn uncertainty(&self) -> Option<Finding> {
        if self.next.certain {
            return None;
        }
        let why: Vec<String> = self.next.problems.iter().map(|p| p.message.clone()).collect();
        let why = if why.is_empty() { "no known boot loader configuration was found".into() } else { why.join("; ") };
        let remedy = self.next.problems.iter().map(|p| p.remedy.clone()).find(|r| !r.is_empty()).unwrap_or_else(|| {
            "make every installed kernel safe (`vfguard prepare --all`), or remove those that are not".into()
        });
        Some(Finding::new(Fact::BootUnknown, format!("which kernel boots next is not certain: {why}"), remedy))
    }

    fn report(&self, kernel: &KernelRelease, role: Role) -> KernelReport {
        self.weigh(kernel, role).0
    }

    fn weigh(&self, kernel: &KernelRelease, role: Role) -> (KernelReport, Work) {
        let evidence = self.evidence(kernel);
        // The running kernel is asked for each device of each other kernel; the others are done with.
        self.targets.borrow().keep_only(self.running.as_ref());
        let (mut report, work) = judge::judge_kernel(&evidence, role, self.config.accept_in_tree);
        let refuses = !work.builds.is_empty() && report.verdict != Verdict::Safe;
        if refuses || work.does_without {
            let mut why = driver::last_failure(self.host, kernel, &self.recipes);
            why.extend(driver::headers::last_failure(self.host, kernel));
            if !refuses {
                why.iter_mut().for_each(Finding::excuse);
                // Where the in-tree driver is the fallback, nothing is built, and the reason is an ordinary finding.
                if !work.builds.is_empty() && !why.is_empty() {
                    let drivers = work.builds.iter().map(|recipe| recipe.name.clone()).collect();
                    report.attempts = Some(Attempts { drivers, findings: why.clone() });
                }
            }
            report.findings.extend(why);
        }
        (report, work)
    }
}

/// The recipe that claims a device.
fn claiming<'r>(recipes: &'r [Rc<Recipe>], device: &Device) -> Option<&'r Rc<Recipe>> {
    recipe::claiming(recipes, &device.modalias)
}

/// Writes down what a survey found, if anything is new: that the running kernel has booted, the network devices in use, and declined
/// kernels that were removed. Returns a line for each device that no longer counts and for each failed write; neither affects the present
/// run.
pub fn remember(host: &Host, survey: &Survey) -> Vec<String> {
    let booted = survey.running.as_ref().map_or(Ok(()), |running| remember_running(host, running));
    let devices = survey.memory.store(host, survey.wanted.is_some());
    let failed = booted.err().into_iter().map(|e| format!("{e:#}"));
    let removed = declined::forget_removed(host).err().map(|e| format!("{e:#}"));
    failed.chain(devices.unwrap_or_else(|e| vec![format!("{e:#}")])).chain(removed).collect()
}

/// Kernels that this machine has run, a line each. The record helps to choose between safe kernels; it never makes a kernel safe.
const BOOTED: &str = "/var/lib/vfguard/records/booted";

/// The kernels that are known to have booted here.
fn booted(host: &Host) -> Vec<KernelRelease> {
    let text = host.read_text(BOOTED).unwrap_or_default();
    text.lines().filter_map(|l| l.parse().ok()).collect()
}

/// The kernels that may stay the default although nothing could be judged: see [`crate::flow::plan::hold_running`].
pub fn trusted(host: &Host, running: Option<&KernelRelease>) -> Vec<KernelRelease> {
    let mut trusted: Vec<KernelRelease> = boot::held(host).map(|hold| hold.held).into_iter().collect();
    if known::is_undriven(host) {
        trusted.extend(booted(host).into_iter().filter(|kernel| Some(kernel) != running));
    }
    trusted
}

/// How many are remembered; only installed ones matter.
const MAX_BOOTED: usize = 64;

/// Records that the running kernel has booted, which only helps to choose a hold target.
fn remember_running(host: &Host, running: &KernelRelease) -> Result<()> {
    let mut known = booted(host);
    if known.contains(running) {
        return Ok(());
    }
    known.push(running.clone());
    let lines: String = known.iter().rev().take(MAX_BOOTED).rev().map(|k| format!("{k}\n")).collect();
    host.write_atomic(BOOTED, lines.as_bytes(), 0o644).context("remembering that the running kernel has booted")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bounded_number_of_booted_kernels_is_remembered() {
        let dir = tempfile::tempdir().unwrap();
        let host = Host::new(dir.path()).unwrap();
        let boot = |n: usize| remember_running(&host, &format!("6.1.0-{n}").parse().unwrap());
        assert!((0..MAX_BOOTED * 3).chain([7]).all(|n| boot(n).is_ok()));
        let known = booted(&host);
        assert_eq!(known.len(), MAX_BOOTED);
        assert_eq!(known.last().unwrap().as_str(), "6.1.0-7");
        let records = host.path("/var/lib/vfguard/records");
        std::fs::remove_dir_all(&records).unwrap();
        std::fs::write(&records, "a file in the directory's place").unwrap();
        assert!(format!("{:#}", boot(8).unwrap_err()).starts_with("remembering"));
    }
}
