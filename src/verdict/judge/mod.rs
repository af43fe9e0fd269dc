//! Evidence and policy → verdict. Pure: nothing here reads a file or starts a process.
//!
//! [`KernelEvidence`] says for each [`Need`] of the machine what one kernel would drive it with. [`judge_kernel`] weighs it, and [`judge`]
//! takes the worst verdict of the kernels that may start.

mod need;
mod proven;
mod redundant;

use crate::config::AcceptInTree;
use crate::driver::Recipe;
use crate::finding::{Code, Fact, Finding, Verdict};
use crate::host::devices::master::Kind;
use crate::host::devices::pci::Device;
use crate::kernel::KernelRelease;
use need::Weighed;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::rc::Rc;

/// Where a module comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Origin {
    /// Built by vfguard for this kernel.
    Built,
    /// Built for another kernel and linked here (weak-updates).
    Reused,
    /// Out-of-tree, from a package or installed by hand.
    Prebuilt,
    /// Part of the kernel, loadable or built in.
    InTree,
    /// Not known.
    Unknown,
}

/// A module as modprobe would load it on a kernel, with its findings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModuleEvidence {
    /// Its name, with `_` for `-`.
    pub name: String,
    /// Its path below the root; `None` for a built-in driver.
    pub path: Option<PathBuf>,
    /// `version` of its `.modinfo`.
    pub version: Option<String>,
    /// The linker's build id.
    pub build_id: Option<Vec<u8>>,
    /// Where it comes from.
    pub origin: Origin,
    /// The findings of the verifier and about the file's path.
    pub findings: Vec<Finding>,
}

/// How a device is driven now, or was when it was last in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Binding {
    /// No driver is bound.
    Unbound,
    /// The running kernel's in-tree driver.
    InTree,
    /// An out-of-tree driver.
    OutOfTree,
}

/// One thing that a kernel must be able to drive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Need {
    /// The device; `None` for a driver that only the settings require.
    pub device: Option<Device>,
    /// The recipe that claims the device or is required; `None` for any other network device in use.
    pub recipe: Option<Rc<Recipe>>,
    /// Whether `drivers.required` lists the recipe.
    pub required: bool,
    /// How the device is driven now, or was when it was last in use.
    pub binding: Binding,
    /// Whether the device was in use and now is absent or has lost its driver; it may come back.
    pub missing: bool,
    /// Whether all releases of the recipe were tried for the kernel, and another attempt would fail in the same way.
    pub unbuildable: bool,
    /// The masters of the device's interfaces, one for each; empty if one of them has none.
    pub masters: Vec<Master>,
    /// The link of the device's interface.
    pub link: Link,
    /// The modules that could serve the need, in modprobe's order of preference.
    pub candidates: Vec<ModuleEvidence>,
}

/// What a device's interface is a port of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Master {
    /// Its interface.
    pub name: String,
    /// What kind of master it is.
    pub kind: Kind,
    /// How many links it needs.
    pub min_links: usize,
    /// Early at boot: a bond or a team of the previous boot, whose ports nobody has brought up yet.
    pub early: bool,
    /// The module that the kernel lacks for it or for a master on top of it.
    pub lacks: Option<String>,
}

/// The link of an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    /// Seen up.
    Up,
    /// Seen down.
    Down,
    /// Not known: nobody has brought the interface up yet.
    Unknown,
}

/// All that is known about one kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KernelEvidence {
    /// Its release.
    pub release: KernelRelease,
    /// The devices and drivers that it must serve.
    pub needs: Vec<Need>,
    /// The findings about the kernel itself (initramfs, names of interfaces…).
    pub findings: Vec<Finding>,
    /// It runs now, its devices are bound and up, and the next boot would load what is loaded now, unchanged since boot.
    pub proven_by_use: bool,
    /// Why nothing can be decided, such as an unreadable directory.
    pub undecided: Option<Finding>,
}

/// Why a kernel is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// The boot loader's default.
    Next,
    /// The one-shot default.
    Once,
    /// The boot loader's fallback.
    Fallback,
    /// What would boot without our hold.
    Wanted,
    /// Installed: it counts where the next boot is uncertain, or because it was asked for by name.
    Installed,
}

/// A module in a report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ModuleReport {
    /// Its name.
    pub name: String,
    /// Its path below the root; empty for a built-in driver.
    pub path: String,
    /// Its version; empty where it has none.
    pub version: String,
    /// Where it comes from.
    pub origin: Origin,
}

/// The verdict on one kernel, with its reasons.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct KernelReport {
    /// Its release.
    pub kernel: KernelRelease,
    /// Why it was looked at.
    pub role: Role,
    /// The verdict.
    pub verdict: Verdict,
    /// The devices that it must drive.
    pub devices: Vec<Device>,
    /// The modules that it would drive them with.
    pub modules: Vec<ModuleReport>,
    /// All findings.
    pub findings: Vec<Finding>,
    /// Why drivers that the kernel can do without were not built, if any were tried.
    #[serde(skip)]
    pub attempts: Option<Attempts>,
}

/// Drivers that could not be built, but that the kernel can do without.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempts {
    /// Their names.
    pub drivers: Vec<String>,
    /// The findings that say why.
    pub findings: Vec<Finding>,
}

/// What has to be built for one kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Work {
    /// Its release.
    pub kernel: KernelRelease,
    /// The devices that it must drive.
    pub devices: Vec<Device>,
    /// The drivers to build, by name and each once.
    pub builds: Vec<Rc<Recipe>>,
    /// If its initramfs should be rebuilt: the modules that it must carry, as they are on the disk.
    pub initramfs: Option<Vec<String>>,
    /// Whether the kernel is good enough without a driver that a build would add.
    pub does_without: bool,
}

impl Work {
    /// Whether there is anything to do.
    pub fn is_any(&self) -> bool {
        !self.builds.is_empty() || self.initramfs.is_some()
    }
}

/// The verdict on a machine, and what has to be built.
#[derive(Clone, Debug)]
pub struct Judged {
    /// The verdict.
    pub judgement: Judgement,
    /// The kernels for which anything has to be built, in the order of the verdict.
    pub work: Vec<Work>,
}

/// The verdict on a machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Judgement {
    /// The worst verdict of the kernels.
    pub verdict: Verdict,
    /// Each kernel that counts.
    pub kernels: Vec<KernelReport>,
}

impl Judgement {
    /// The kernels that are not safe.
    pub fn refused(&self) -> impl Iterator<Item = &KernelReport> {
        self.kernels.iter().filter(|k| k.verdict != Verdict::Safe)
    }
}

impl Need {
    /// The name of its recipe.
    fn driver(&self) -> Option<&str> {
        self.recipe.as_ref().map(|recipe| recipe.name.as_str())
    }
}

/// Whether a kernel is good enough without a driver that a build would add.
fn does_without(report: &KernelReport, builds: &[Rc<Recipe>]) -> bool {
    let told = |fact| report.findings.iter().any(|f| f.is(fact));
    let excused = told(Fact::InTreeFallback) || (told(Fact::DeviceRedundant) && !builds.is_empty());
    report.verdict == Verdict::Safe && excused
}

/// Notes on each kernel that is not safe that another run is at work, which may fix it.
pub fn note_other_run(kernels: &mut [KernelReport]) {
    for kernel in kernels.iter_mut().filter(|k| k.verdict != Verdict::Safe) {
        kernel.findings.push(Finding::new(
            Fact::OtherRunAtWork,
            "another vfguard run is at work; what it comes to decides",
            "vfguard reboot --wait, or look again later",
        ));
    }
}

/// Weighs the evidence on one kernel. Returns the verdict and what has to be built.
pub fn judge_kernel(evidence: &KernelEvidence, role: Role, accept: AcceptInTree) -> (KernelReport, Work) {
    let mut report = KernelReport {
        kernel: evidence.release.clone(),
        role,
        verdict: Verdict::Safe,
        devices: evidence.needs.iter().filter_map(|n| n.device.clone()).collect(),
        modules: Vec::new(),
        findings: evidence.findings.clone(),
        attempts: None,
    };
    let weighed: Vec<Weighed> = evidence.needs.iter().map(|n| need::weigh(n, &evidence.release, accept)).collect();
    for weighed in &weighed {
        weighed.add_to(&mut report);
    }
    // Several devices with the same driver need one build.
    let mut builds: Vec<Rc<Recipe>> = weighed.iter().filter_map(|weighed| weighed.build.clone()).collect();
    builds.sort_by(|a, b| a.name.cmp(&b.name));
    builds.dedup_by(|a, b| a.name == b.name);
    let mut seen = Vec::new();
    report.findings.retain(|f| {
        !seen.contains(f) && {
            seen.push(f.clone());
            true
        }
    });
    if evidence.proven_by_use {
        proven::excuse(&mut report, &evidence.needs);
    }
    redundant::excuse(&mut report, &evidence.needs, &weighed);
    let fact = if report.findings.iter().any(Finding::refuses) { Fact::DeviceMissingOfUnsafe } else { Fact::DeviceMissing };
    report.findings.extend(evidence.needs.iter().filter_map(|n| need::missing(n, &evidence.release, fact)));
    report.findings.sort_by_key(|f| std::cmp::Reverse(f.severity()));
    report.verdict = Verdict::of(&report.findings);
    if let Some(why) = &evidence.undecided {
        report.findings.insert(0, why.clone());
        report.verdict = report.verdict.max(Verdict::Unknown);
    }
    let stale = evidence.findings.iter().any(|f| f.code == Code::InitramfsStale);
    let work = Work {
        kernel: report.kernel.clone(),
        devices: report.devices.clone(),
        initramfs: stale.then(|| report.modules.iter().map(|m| m.name.clone()).collect()),
        does_without: does_without(&report, &builds),
        builds,
    };
    (report, work)
}

/// The machine's verdict from its kernels' verdicts. `uncertain` says why the next boot is not certain.
pub fn judge(mut kernels: Vec<KernelReport>, uncertain: Option<&Finding>) -> Judgement {
    if let Some(why) = uncertain {
        for kernel in &mut kernels {
            let mut why = why.clone();
            if kernel.verdict == Verdict::Safe {
                why.excuse();
            }
            kernel.verdict = kernel.verdict.max(Verdict::of(std::slice::from_ref(&why)));
            kernel.findings.push(why);
        }
    }
    let verdict = kernels.iter().map(|k| k.verdict).max().unwrap_or(Verdict::Unknown);
    Judgement { verdict, kernels }
}

#[cfg(test)]
mod tests;
