//! Evidence and policy → verdict. Pure: nothing here reads a file or starts a process.
//!
//! One [`KernelEvidence`] a kernel says, for each [`Need`] of the machine, what that kernel would drive it with;
//! [`judge_kernel`] weighs it, [`judge`] takes the worst of the kernels that may start.

mod proven;

use crate::config::AcceptInTree;
use crate::finding::{Code, Finding, Severity, Verdict};
use crate::host::pci::Device;
use crate::kernel::KernelRelease;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Where a module comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Origin {
    /// Built by vfguard for this kernel.
    Built,
    /// Built for another kernel and linked here (weak-updates).
    Reused,
    /// Out of tree, from a package or by hand.
    Prebuilt,
    /// The kernel's own, loadable or built in.
    InTree,
    /// Cannot be told.
    Unknown,
}

/// A module as modprobe would load it on a kernel, with all that was found about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModuleEvidence {
    /// Its name, with `_`.
    pub name: String,
    /// Where it lies, below the root; none for a built-in driver.
    pub path: Option<PathBuf>,
    /// `version` of its `.modinfo`.
    pub version: Option<String>,
    /// The linker's digest of what it was made of.
    pub build_id: Option<Vec<u8>>,
    /// Where it comes from.
    pub origin: Origin,
    /// What the verifier and the look at its place found.
    pub findings: Vec<Finding>,
}

/// How a device is driven now, or was when it was last in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Binding {
    /// No driver is bound.
    Unbound,
    /// The running kernel's own driver.
    InTree,
    /// An out-of-tree driver.
    OutOfTree,
}

/// One thing that a kernel must be able to drive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Need {
    /// The device; none for a driver that only the settings require.
    pub device: Option<Device>,
    /// The recipe that claims the device or is required; none for any other network device in use.
    pub recipe: Option<String>,
    /// Whether `drivers.required` lists the recipe.
    pub required: bool,
    /// How the device is driven now, or was when it was last in use.
    pub binding: Binding,
    /// Whether the device was in use and is not now: it is gone, or has lost its driver, and may come back.
    pub missing: bool,
    /// The modules that could serve the need, the one that modprobe prefers first.
    pub candidates: Vec<ModuleEvidence>,
}

/// All that is known about one kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KernelEvidence {
    /// Its release.
    pub release: KernelRelease,
    /// What it must drive.
    pub needs: Vec<Need>,
    /// What was found about the kernel itself (initramfs, names of interfaces…).
    pub findings: Vec<Finding>,
    /// It runs now, its devices are bound and up, and what the next boot would load is what is loaded, unchanged since boot.
    pub proven_by_use: bool,
    /// Why nothing can be decided, if so: an unreadable directory and the like.
    pub undecided: Option<Finding>,
}

/// Why a kernel is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// The boot loader's default.
    Next,
    /// Set for one boot.
    Once,
    /// What the boot loader falls back to.
    Fallback,
    /// What would boot without our hold.
    Wanted,
    /// Installed; a candidate where the next boot is uncertain, or asked for by name.
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
    /// Recipes whose module should be built for this kernel.
    #[serde(skip)]
    pub builds: Vec<String>,
    /// Whether its initramfs should be made anew.
    #[serde(skip)]
    pub initramfs: bool,
}

/// The verdict on a machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Judgement {
    /// The worst of the kernels.
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

/// Says on each kernel that is not safe that another run is at work, which may mend it.
pub fn note_other_run(kernels: &mut [KernelReport]) {
    for kernel in kernels.iter_mut().filter(|k| k.verdict != Verdict::Safe) {
        kernel.findings.push(Finding::warn(
            Code::BuildPending,
            "another vfguard run is at work; what it comes to decides",
            "vfguard reboot --wait, or look again later",
        ));
    }
}

/// Weighs what is known about one kernel.
pub fn judge_kernel(evidence: &KernelEvidence, role: Role, accept: AcceptInTree) -> KernelReport {
    let mut report = KernelReport {
        kernel: evidence.release.clone(),
        role,
        verdict: Verdict::Safe,
        devices: evidence.needs.iter().filter_map(|n| n.device.clone()).collect(),
        modules: Vec::new(),
        findings: evidence.findings.clone(),
        builds: Vec::new(),
        initramfs: evidence.findings.iter().any(|f| f.code == Code::InitramfsStale),
    };
    for need in &evidence.needs {
        weigh_need(need, &evidence.release, accept, &mut report);
    }
    // Several devices of one driver are one build.
    report.builds.sort();
    report.builds.dedup();
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
    let severity = if Verdict::of(&report.findings) == Verdict::Safe { Severity::Info } else { Severity::Warning };
    report.findings.extend(evidence.needs.iter().filter_map(|need| missing(need, &evidence.release, severity)));
    report.findings.sort_by_key(|f| std::cmp::Reverse(f.severity));
    report.verdict = Verdict::of(&report.findings);
    if let Some(why) = &evidence.undecided {
        report.findings.insert(0, why.clone());
        report.verdict = report.verdict.max(Verdict::Unknown);
    }
    report
}

/// What a need asks of the module that serves it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Want {
    /// The recipe's module; the kernel's own will not do.
    OutOfTree,
    /// Ours is built where nothing serves; the kernel's own is accepted, and preferred is the recipe's (`build`).
    Any { build: bool },
}

fn want(need: &Need, accept: AcceptInTree) -> Want {
    if need.recipe.is_none() {
        return Want::Any { build: false };
    }
    if need.required {
        return Want::OutOfTree;
    }
    match (accept, need.binding) {
        (AcceptInTree::Never, _) | (AcceptInTree::Auto, Binding::OutOfTree) => Want::OutOfTree,
        (AcceptInTree::Always, _) | (AcceptInTree::Auto, Binding::InTree) => Want::Any { build: false },
        (AcceptInTree::Auto, Binding::Unbound) => Want::Any { build: true },
    }
}

fn weigh_need(need: &Need, release: &KernelRelease, accept: AcceptInTree, report: &mut KernelReport) {
    let want = want(need, accept);
    let acceptable = |m: &&ModuleEvidence| match want {
        Want::OutOfTree => m.origin != Origin::InTree,
        Want::Any { .. } => true,
    };
    // modprobe's own choice counts, so the first safe candidate serves only if those before it do no harm: a candidate
    // that shadows it says so in its findings.
    let chosen = need
        .candidates
        .iter()
        .filter(acceptable)
        .find(|m| Verdict::of(&m.findings) == Verdict::Safe)
        .or_else(|| need.candidates.iter().find(acceptable));
    let what = described(need);
    let Some(module) = chosen else {
        report.findings.push(nothing_serves(need, release, &what));
        report.builds.extend(need.recipe.clone());
        return;
    };
    let entry = ModuleReport {
        name: module.name.clone(),
        path: module.path.as_ref().map(|p| p.display().to_string()).unwrap_or_default(),
        version: module.version.clone().unwrap_or_default(),
        origin: module.origin,
    };
    if !report.modules.contains(&entry) {
        report.modules.push(entry);
    }
    report.findings.extend(module.findings.iter().cloned());
    let safe = Verdict::of(&module.findings) == Verdict::Safe;
    if safe && module.origin == Origin::InTree && need.recipe.is_some() {
        let path = module.path.as_ref().map_or("built in".into(), |p| p.display().to_string());
        report
            .findings
            .push(Finding::info(Code::InTree, format!("{what} is driven by {release}'s own {} ({path})", module.name)));
    }
    if !safe {
        report.findings.extend(would_serve(need, module, release, want));
    }
    let wished = want == Want::Any { build: true } && module.origin == Origin::InTree;
    if !safe || wished {
        report.builds.extend(need.recipe.clone());
    }
}

/// The kernel's own driver where it stands back only behind the one that does not load: an unsigned build under Secure Boot.
fn would_serve(need: &Need, chosen: &ModuleEvidence, release: &KernelRelease, want: Want) -> Option<Finding> {
    let ready = |m: &&ModuleEvidence| {
        let mut objections = m.findings.iter().filter(|f| f.severity == Severity::Unsafe).map(|f| f.code).peekable();
        m.origin == Origin::InTree && objections.peek().is_some() && objections.all(|code| code == Code::Shadowed)
    };
    let own = need.candidates.iter().filter(|m| m.path.is_some() && m.path != chosen.path).find(ready)?;
    let path = |m: &ModuleEvidence| m.path.as_ref().map_or(String::new(), |p| p.display().to_string());
    let policy = match want {
        Want::OutOfTree => ", with accept_in_tree = \"always\" in /etc/vfguard/config.toml",
        Want::Any { .. } => "",
    };
    Some(Finding::warn(
        Code::InTree,
        format!("{release}'s own {} would load ({}); {} hides it", own.name, path(own), path(chosen)),
        format!("rm {}; depmod {release}{policy}", path(chosen)),
    ))
}

fn described(need: &Need) -> String {
    let missing = need.device.as_ref().filter(|_| need.missing).map(|d| format!(", {}", lack(d))).unwrap_or_default();
    match (&need.device, &need.recipe) {
        (Some(d), _) => match &d.interface {
            Some(interface) => format!("{interface} ({}{missing})", d.address),
            None => format!("the network device {}{missing}", d.address),
        },
        (None, Some(recipe)) => format!("the required driver {recipe}"),
        (None, None) => "nothing".into(),
    }
}

/// What a device that was in use lacks now.
fn lack(device: &Device) -> &'static str {
    if device.present {
        "without a driver now"
    } else {
        "not there now"
    }
}

/// That a device is judged which is not in use now. It refuses nothing by itself: what it needs is judged like any other need.
fn missing(need: &Need, release: &KernelRelease, severity: Severity) -> Option<Finding> {
    if !need.missing || need.device.is_none() {
        return None;
    }
    let detail = format!("{} was in use, and {release} is judged as if it still were", described(need));
    let remedy = gone_for_good(need).unwrap_or_else(|| format!("vfguard prepare {release}"));
    Some(Finding { code: Code::DeviceMissing, severity, detail, remedy })
}

/// How to say that a missing device does not count any more. One that is there and that a recipe claims counts whoever says otherwise.
fn gone_for_good(need: &Need) -> Option<String> {
    let device = need.device.as_ref().filter(|d| need.missing && (!d.present || need.recipe.is_none()))?;
    Some(format!("vfguard decline --device {}, if it is gone for good", device.address))
}

fn nothing_serves(need: &Need, release: &KernelRelease, what: &str) -> Finding {
    let mut finding = unserved(need, release, what);
    if let Some(declined) = gone_for_good(need) {
        finding.remedy += &format!("; or {declined}");
    }
    finding
}

fn unserved(need: &Need, release: &KernelRelease, what: &str) -> Finding {
    match (&need.recipe, need.candidates.first()) {
        (Some(recipe), Some(own)) => {
            let why = if need.required { "drivers.required wants the recipe's" } else { "an out-of-tree driver is wanted" };
            let other = match Verdict::of(&own.findings) {
                Verdict::Safe => ", or accept_in_tree = \"always\" in /etc/vfguard/config.toml: its own would load",
                Verdict::Unknown | Verdict::Unsafe => "",
            };
            Finding::refuse(
                Code::ModuleMissing,
                format!("{what}: {release} has only its own {} and {why} ({recipe})", own.name),
                format!("vfguard prepare {release}{other}"),
            )
        }
        (Some(recipe), None) => Finding::refuse(
            Code::ModuleMissing,
            format!("{what}: {release} has no module {recipe} that claims it"),
            format!("vfguard prepare {release}"),
        ),
        (None, _) => Finding::refuse(
            Code::DeviceUnclaimed,
            format!(
                "{what} {} in use ({}) and no driver of {release} claims it",
                if need.missing { "was" } else { "is" },
                need.device.as_ref().map_or("", |d| d.modalias.as_str())
            ),
            format!("install {release}'s package of extra modules (kernel-modules-extra, linux-modules-extra) or the driver's own package for {release}"),
        ),
    }
}

/// The machine's verdict from its kernels'. `uncertain` says why the next boot is not certain, if so.
pub fn judge(mut kernels: Vec<KernelReport>, uncertain: Option<&Finding>) -> Judgement {
    if let Some(why) = uncertain {
        let all_safe = !kernels.is_empty() && kernels.iter().all(|k| k.verdict == Verdict::Safe);
        for kernel in &mut kernels {
            let safe = kernel.verdict == Verdict::Safe;
            let severity = if all_safe || safe { Severity::Warning } else { Severity::Unsafe };
            kernel.findings.push(Finding { severity, ..why.clone() });
            kernel.verdict = kernel.verdict.max(if severity == Severity::Unsafe { Verdict::Unsafe } else { Verdict::Safe });
        }
    }
    let verdict = kernels.iter().map(|k| k.verdict).max().unwrap_or(Verdict::Unknown);
    Judgement { verdict, kernels }
}

#[cfg(test)]
mod tests;
