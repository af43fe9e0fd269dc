//! Looking at the machine once: devices, recipes, kernels, next boot; and for a kernel, the evidence that [`crate::judge`]
//! weighs. Read-only, and no process is started.

use crate::boot::{self, NextBoot};
use crate::config::Config;
use crate::driver::{self, Recipe};
use crate::error::{advise, Remedy};
use crate::finding::{Code, Finding, Verdict};
use crate::host::pci::{self, Device};
use crate::host::Host;
use crate::judge::{self, Binding, Judgement, KernelEvidence, KernelReport, ModuleEvidence, Need, Origin, Role};
use crate::kernel::{installed, Kernel, KernelRelease};
use crate::module::{self, Module, Provider, Target};
use anyhow::Result;
use std::collections::BTreeSet;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// What is known about the machine as a whole.
pub struct Survey<'a> {
    host: &'a Host,
    config: &'a Config,
    /// Every device that counts.
    pub devices: Vec<Device>,
    /// Every recipe.
    pub recipes: Vec<Recipe>,
    /// Installed kernels, newest first.
    pub kernels: Vec<Kernel>,
    /// The running kernel.
    pub running: Option<KernelRelease>,
    /// What the boot loader may start.
    pub next: NextBoot,
    /// What would boot without our hold.
    pub wanted: Option<KernelRelease>,
}

impl<'a> Survey<'a> {
    /// Looks.
    ///
    /// # Errors
    /// A recipe that cannot be read, a required driver without a recipe, devices that cannot be seen.
    pub fn new(host: &'a Host, config: &'a Config) -> Result<Survey<'a>> {
        let recipes = driver::recipes(host)?;
        if let Some(name) = config.drivers.required.iter().find(|n| recipes.iter().all(|r| &r.name != *n)) {
            return Err(advise(
                format!("drivers.required names {name}, which has no recipe"),
                format!("add /etc/vfguard/drivers.d/{name}.toml, or take {name} out of drivers.required"),
            ));
        }
        let devices = pci::devices(host)
            .remedy("reading the devices of /sys/bus/pci", "mount sysfs at /sys (below --root: copy or bind it there)")?;
        let next = boot::next_boot(host, &config.boot);
        let wanted = boot::wanted(host, &next);
        let (kernels, running) = (installed::installed(host), installed::running(host));
        Ok(Survey { host, config, devices, recipes, kernels, running, next, wanted })
    }

    /// The kernels that may start, each once with its foremost role; where that is uncertain, every installed kernel too.
    pub fn roles(&self) -> Vec<(KernelRelease, Role)> {
        let mut roles: Vec<(KernelRelease, Role)> = Vec::new();
        let mut add = |kernel: &KernelRelease, role| {
            if roles.iter().all(|(k, _)| k != kernel) {
                roles.push((kernel.clone(), role));
            }
        };
        for candidate in &self.next.kernels {
            let role = match candidate.role {
                boot::Role::Next => Role::Next,
                boot::Role::Once => Role::Once,
                boot::Role::Fallback => Role::Fallback,
            };
            add(&candidate.kernel, role);
        }
        if let Some(wanted) = &self.wanted {
            add(wanted, Role::Wanted);
        }
        if !self.next.certain {
            self.kernels.iter().for_each(|k| add(&k.release, Role::Installed));
        }
        roles
    }

    /// Judges every kernel that counts; the worst of them is the machine's verdict.
    pub fn judge(&self) -> Judgement {
        let reports = self.roles().iter().map(|(kernel, role)| self.report(kernel, *role)).collect();
        judge::judge(reports, self.uncertainty().as_ref())
    }

    /// Judges one kernel, whatever the boot loader says.
    ///
    /// # Errors
    /// When it is not installed.
    pub fn judge_one(&self, kernel: &KernelRelease) -> Result<Judgement> {
        self.must_be_installed(kernel)?;
        let role = self.roles().into_iter().find(|(k, _)| k == kernel).map_or(Role::Installed, |(_, role)| role);
        Ok(judge::judge(vec![self.report(kernel, role)], None))
    }

    /// Every installed kernel with its verdict, those that may start first.
    pub fn judge_installed(&self) -> Vec<KernelReport> {
        let mut roles = self.roles();
        for kernel in &self.kernels {
            if roles.iter().all(|(k, _)| k != &kernel.release) {
                roles.push((kernel.release.clone(), Role::Installed));
            }
        }
        let mut reports: Vec<KernelReport> = roles.iter().map(|(kernel, role)| self.report(kernel, *role)).collect();
        let safe: Vec<KernelRelease> =
            reports.iter().filter(|r| r.verdict == Verdict::Safe).map(|r| r.kernel.clone()).collect();
        let installed: Vec<KernelRelease> = self.kernels.iter().map(|k| k.release.clone()).collect();
        let limit = boot::limit::installonly_limit(self.host);
        if let Some(warning) = boot::limit::last_safe_kernel(&installed, self.running.as_ref(), limit, &safe) {
            reports.iter_mut().filter(|r| safe.contains(&r.kernel)).for_each(|r| r.findings.push(warning.clone()));
        }
        reports
    }

    /// # Errors
    /// When the kernel has no module directory; the message lists those that have.
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

    /// Whether the boot loader is certain to start, in a role, a kernel that is not safe. An uncertain next boot is not moved:
    /// nobody could say what the move does.
    pub fn starts_unsafe(&self, role: boot::Role, safe: impl Fn(&KernelRelease) -> bool) -> bool {
        self.next.certain && self.next.kernels.iter().any(|c| c.role == role && !safe(&c.kernel))
    }

    /// Where the boot default is held: the running kernel if its files are there, else the newest safe one that has booted.
    pub fn refuge(&self, host: &Host) -> Option<KernelRelease> {
        let installed = |kernel: &KernelRelease| self.kernels.iter().any(|k| &k.release == kernel);
        if let Some(running) = self.running.as_ref().filter(|r| installed(r)) {
            return Some(running.clone());
        }
        let booted = booted(host);
        let proven =
            |k: &&Kernel| booted.contains(&k.release) && self.report(&k.release, Role::Installed).verdict == Verdict::Safe;
        self.kernels.iter().find(proven).map(|k| k.release.clone())
    }

    /// The recipe of a name.
    ///
    /// # Errors
    /// When there is none; the message lists those there are.
    pub fn recipe(&self, name: &str) -> Result<&Recipe> {
        self.recipes.iter().find(|r| r.name == name).ok_or_else(|| {
            let known: Vec<&str> = self.recipes.iter().map(|r| r.name.as_str()).collect();
            advise(
                format!("there is no recipe {name}"),
                format!("name one of {}, or add /etc/vfguard/drivers.d/{name}.toml", known.join(", ")),
            )
        })
    }

    /// The recipes that claim a device present or are required.
    pub fn needed(&self) -> Vec<&Recipe> {
        let required = |r: &&Recipe| self.config.drivers.required.contains(&r.name);
        let present = |r: &&Recipe| self.devices.iter().any(|d| r.claims(&d.modalias));
        self.recipes.iter().filter(|r| required(r) || present(r)).collect()
    }

    /// The recipes of these names.
    pub fn named(&self, names: &[String]) -> Vec<&Recipe> {
        self.recipes.iter().filter(|r| names.contains(&r.name)).collect()
    }

    /// Why the next boot is not certain, as the finding that each kernel gets.
    fn uncertainty(&self) -> Option<Finding> {
        if self.next.certain {
            return None;
        }
        let why: Vec<String> = self.next.problems.iter().map(|p| p.message.clone()).collect();
        let why = if why.is_empty() { "no known boot loader configuration was found".into() } else { why.join("; ") };
        let remedy = self.next.problems.iter().map(|p| p.remedy.clone()).find(|r| !r.is_empty()).unwrap_or_else(|| {
            "make every installed kernel safe (`vfguard prepare --all`), or remove those that are not".into()
        });
        Some(Finding::refuse(Code::BootUnknown, format!("which kernel boots next is not certain: {why}"), remedy))
    }

    fn report(&self, kernel: &KernelRelease, role: Role) -> KernelReport {
        let evidence = self.evidence(kernel);
        let mut report = judge::judge_kernel(&evidence, role, self.config.accept_in_tree);
        if !report.builds.is_empty() && report.verdict != Verdict::Safe {
            report.findings.extend(driver::last_failure(self.host, kernel));
        }
        report
    }

    /// What is known about one kernel.
    pub fn evidence(&self, kernel: &KernelRelease) -> KernelEvidence {
        let host = self.host;
        let boot = self.next.kernels.iter().find(|c| &c.kernel == kernel);
        let cmdline = match boot {
            Some(candidate) if !candidate.cmdline.is_empty() => candidate.cmdline.clone(),
            _ => host.read_text("/proc/cmdline").unwrap_or_default(),
        };
        let dir = installed::modules_dir(kernel);
        let undecided = host.read_dir(&dir).err().map(|e| {
            Finding::refuse(
                Code::ModuleMissing,
                format!("{} cannot be read: {e}", dir.display()),
                format!("install {kernel}'s packages, or remove its boot entry; read it as root"),
            )
        });
        let target = Target::load(host, kernel).with_cmdline(&cmdline);
        let needs: Vec<Need> = self.needs(&target, &cmdline);
        let initrds = boot.map(|c| c.initrds.as_slice()).unwrap_or_default();
        let mut findings = module::initramfs_findings(host, kernel, initrds);
        let drivers = needs.iter().filter_map(|n| n.candidates.first()).filter(|m| m.path.is_some());
        let names: BTreeSet<&str> = drivers.map(|m| m.name.as_str()).collect();
        findings.extend(names.into_iter().flat_map(|name| module::initramfs_driver(host, &target, initrds, name)));
        for need in needs.iter().filter(|_| self.running.as_ref() != Some(kernel)) {
            if let (Some(device), Some(module)) = (&need.device, need.candidates.first()) {
                findings.extend(module::interface_findings(host, device, &module.name, &cmdline));
            }
        }
        let proven_by_use = self.running.as_ref() == Some(kernel) && proven_by_use(host, &needs);
        KernelEvidence { release: kernel.clone(), needs, findings, proven_by_use, undecided }
    }

    fn needs(&self, target: &Target, cmdline: &str) -> Vec<Need> {
        let mut needs = Vec::new();
        for device in &self.devices {
            let recipe = self.recipes.iter().find(|r| r.claims(&device.modalias));
            if recipe.is_none() && !device.in_use() {
                continue;
            }
            needs.push(self.need(target, Some(device), recipe, cmdline));
        }
        for name in &self.config.drivers.required {
            let met = needs.iter().any(|n| n.recipe.as_ref() == Some(name));
            if let (false, Some(recipe)) = (met, self.recipes.iter().find(|r| &r.name == name)) {
                needs.push(self.need(target, None, Some(recipe), cmdline));
            }
        }
        needs
    }

    fn need(&self, target: &Target, device: Option<&Device>, recipe: Option<&Recipe>, cmdline: &str) -> Need {
        let candidates = candidates(self.host, target, device, recipe, cmdline);
        Need {
            device: device.cloned(),
            recipe: recipe.map(|r| r.name.clone()),
            required: recipe.is_some_and(|r| self.config.drivers.required.contains(&r.name)),
            binding: device.map_or(Binding::Unbound, |d| binding(self.host, d, self.running.as_ref())),
            candidates,
        }
    }
}

/// How a device is driven now: `/sys/module/X/taint` carries O for an out-of-tree module; where there is no such file, the
/// place of the running kernel's module and its `intree` tag tell.
fn binding(host: &Host, device: &Device, running: Option<&KernelRelease>) -> Binding {
    let Some(driver) = &device.driver else { return Binding::Unbound };
    let name = device.module.as_ref().unwrap_or(driver).replace('-', "_");
    if let Ok(taint) = host.read_text(format!("/sys/module/{name}/taint")) {
        return if taint.contains('O') { Binding::OutOfTree } else { Binding::InTree };
    }
    let Some(running) = running else { return Binding::InTree };
    let copies = module::on_disk(host, running, &name);
    let Some(path) = Target::load(host, running).module_file(&name).or(copies.first().cloned()) else {
        return Binding::InTree;
    };
    match host.read(&path).ok().and_then(|bytes| Module::read(&bytes).ok()) {
        Some(module) if module.intree => Binding::InTree,
        _ if path.components().any(|c| c.as_os_str() == "kernel") => Binding::InTree,
        _ => Binding::OutOfTree,
    }
}

/// Kernels that this machine has run, a line each; a record that helps to choose between safe kernels and absolves none.
const BOOTED: &str = "/var/lib/vfguard/records/booted";

/// The kernels that are known to have booted here.
fn booted(host: &Host) -> Vec<KernelRelease> {
    let text = host.read_text(BOOTED).unwrap_or_default();
    text.lines().filter_map(|l| l.parse().ok()).collect()
}

/// Notes that the running kernel has booted.
///
/// # Errors
/// Those of writing the record.
pub fn remember_running(host: &Host) -> Result<()> {
    let Some(running) = installed::running(host) else { return Ok(()) };
    let mut known = booted(host);
    if known.contains(&running) {
        return Ok(());
    }
    known.push(running);
    let lines: String = known.iter().map(|k| format!("{k}\n")).collect();
    host.write_atomic(BOOTED, lines.as_bytes(), 0o644)
}

/// The modules that could serve a need, as modprobe would try them; then copies of the recipe's modules that it would not load.
fn candidates(
    host: &Host,
    target: &Target,
    device: Option<&Device>,
    recipe: Option<&Recipe>,
    cmdline: &str,
) -> Vec<ModuleEvidence> {
    let mut names: Vec<String> = Vec::new();
    let mut found = Vec::new();
    for provider in device.map(|d| target.resolve_alias(&d.modalias)).unwrap_or_default() {
        match provider {
            Provider::BuiltIn(name) => {
                found.push(ModuleEvidence { name, path: None, version: None, origin: Origin::InTree, findings: Vec::new() })
            }
            Provider::Module(name) => names.push(name),
        }
    }
    let own = recipe.map(|r| r.modules.iter().map(|m| m.replace('-', "_")).collect::<Vec<_>>()).unwrap_or_default();
    if let (Some(first), false) = (own.first(), own.iter().any(|m| names.contains(m))) {
        // The table knows no alias of it; what lies on disk says why.
        names.push(first.clone());
    }
    for name in &names {
        let mut paths: Vec<PathBuf> = target.module_file(name).into_iter().collect();
        if own.contains(name) {
            paths.extend(module::on_disk(host, &target.release, name));
        }
        let mut seen = Vec::new();
        for path in paths {
            if !seen.contains(&path) {
                found.push(examine(host, target, name, &path, device, cmdline));
                seen.push(path);
            }
        }
    }
    found
}

/// Reads, verifies and places one module file.
fn examine(host: &Host, target: &Target, name: &str, path: &Path, device: Option<&Device>, cmdline: &str) -> ModuleEvidence {
    let devices: Vec<&Device> = device.into_iter().collect();
    let read = host.read(path).map_err(|e| {
        let code = if e.kind() == io::ErrorKind::NotFound { Code::ModuleMissing } else { Code::ModuleUnreadable };
        Finding::refuse(
            code,
            format!("{}: {e}", path.display()),
            format!("install it again, then depmod {}", target.release),
        )
    });
    let module = read.and_then(|bytes| Module::read(&bytes));
    let mut findings = match &module {
        Ok(module) => module::verify(module, target, &devices),
        Err(finding) => vec![finding.clone()],
    };
    findings.extend(module::check_placement(host, target, name, path, cmdline));
    let module = module.ok();
    ModuleEvidence {
        name: name.to_owned(),
        path: Some(path.to_owned()),
        version: module.as_ref().and_then(|m| m.version.clone()),
        origin: origin(host, path, module.as_ref()),
        findings,
    }
}

fn origin(host: &Host, path: &Path, module: Option<&Module>) -> Origin {
    let has = |part: &str| path.components().any(|c| c.as_os_str() == part);
    if has("weak-updates") && host.path_of_link(path).is_symlink() {
        Origin::Reused
    } else if path.parent().is_some_and(|d| d.ends_with("updates/vfguard")) {
        Origin::Built
    } else if has("kernel") || module.is_some_and(|m| m.intree) {
        Origin::InTree
    } else if module.is_some() {
        Origin::Prebuilt
    } else {
        Origin::Unknown
    }
}

/// A kernel that runs now is proven for what it drives: each device is bound and its link is up, and the module files are older
/// than the boot.
fn proven_by_use(host: &Host, needs: &[Need]) -> bool {
    let Some(booted) = boot_time(host) else { return false };
    let up = |device: &Device| {
        let Some(interface) = &device.interface else { return false };
        let state = [
            format!("/sys/bus/pci/devices/{}/net/{interface}/operstate", device.address),
            format!("/sys/class/net/{interface}/operstate"),
        ];
        device.driver.is_some() && state.iter().any(|p| host.read_text(p).is_ok_and(|s| s.trim() == "up"))
    };
    let unchanged = |module: &ModuleEvidence| match &module.path {
        Some(path) => host.metadata(path).is_ok_and(|m| m.ctime() <= booted && m.mtime() <= booted),
        None => true,
    };
    let used = |need: &Need| {
        let driver = need.device.as_ref().and_then(|d| d.module.as_ref().or(d.driver.as_ref())).map(|n| n.replace('-', "_"));
        need.device.as_ref().is_some_and(up)
            && need.candidates.first().is_some_and(|m| Some(&m.name) == driver.as_ref() && unchanged(m))
    };
    !needs.is_empty() && needs.iter().all(used)
}

/// Seconds since the epoch when the machine booted: `btime` of proc_stat(5).
fn boot_time(host: &Host) -> Option<i64> {
    let stat = host.read_text("/proc/stat").ok()?;
    stat.lines().find_map(|l| l.strip_prefix("btime "))?.trim().parse().ok()
}
