//! Weighs one need against the modules that a kernel has for it.

use super::{Binding, KernelReport, ModuleEvidence, ModuleReport, Need, Origin};
use crate::config::AcceptInTree;
use crate::driver::Recipe;
use crate::finding::{Fact, Finding, Verdict};
use crate::host::devices::pci::Device;
use crate::kernel::KernelRelease;
use std::rc::Rc;

/// Which module a need accepts.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Want {
    /// Only the recipe's module, not the in-tree one.
    OutOfTree,
    /// Any. The recipe's is built where nothing serves; with `build` it is also built where an in-tree driver serves, since it is
    /// preferred.
    Any { build: bool },
    /// The in-tree driver, since no release of the recipe builds.
    Fallback,
}

fn want(need: &Need, accept: AcceptInTree) -> Want {
    if need.recipe.is_none() {
        return Want::Any { build: false };
    }
    if need.required {
        return Want::OutOfTree;
    }
    match (accept, need.binding) {
        (AcceptInTree::Fallback, Binding::OutOfTree) if falls_back(need) => Want::Fallback,
        (AcceptInTree::Never, _) | (AcceptInTree::Auto | AcceptInTree::Fallback, Binding::OutOfTree) => Want::OutOfTree,
        (AcceptInTree::Always, _) | (AcceptInTree::Auto | AcceptInTree::Fallback, Binding::InTree) => {
            Want::Any { build: false }
        }
        (AcceptInTree::Auto | AcceptInTree::Fallback, Binding::Unbound) => Want::Any { build: true },
    }
}

/// Whether the in-tree driver is the fallback: no release builds, no other out-of-tree module is proven, and the in-tree one is.
fn falls_back(need: &Need) -> bool {
    let proven = |in_tree: bool| {
        let mut all = need.candidates.iter().filter(|m| (m.origin == Origin::InTree) == in_tree);
        all.any(|m| Verdict::of(&m.findings) == Verdict::Safe)
    };
    need.unbuildable && proven(true) && !proven(false)
}

/// The result of weighing a need.
pub(super) struct Weighed {
    /// Whether a module serves it.
    pub served: bool,
    /// Its findings.
    pub findings: Vec<Finding>,
    module: Option<ModuleReport>,
    /// The recipe that should be built.
    pub build: Option<Rc<Recipe>>,
}

impl Weighed {
    /// Adds this to the kernel's report.
    pub fn add_to(&self, report: &mut KernelReport) {
        report.modules.extend(self.module.clone().filter(|m| !report.modules.contains(m)));
        report.findings.extend(self.findings.iter().cloned());
    }
}

/// Weighs what a kernel has for a need.
pub(super) fn weigh(need: &Need, release: &KernelRelease, accept: AcceptInTree) -> Weighed {
    let want = want(need, accept);
    let acceptable = |m: &&ModuleEvidence| match want {
        Want::OutOfTree => m.origin != Origin::InTree,
        Want::Any { .. } | Want::Fallback => true,
    };
    // modprobe's own choice counts. So the first safe candidate serves only if those before it do no harm; if one of them shadows it, its
    // findings say so.
    let chosen = need
        .candidates
        .iter()
        .filter(acceptable)
        .find(|m| Verdict::of(&m.findings) == Verdict::Safe)
        .or_else(|| need.candidates.iter().find(acceptable));
    let what = described(need);
    let Some(module) = chosen else {
        let findings = vec![nothing_serves(need, release, &what)];
        return Weighed { served: false, findings, module: None, build: need.recipe.clone() };
    };
    let path = module.path.as_ref().map(|p| p.display().to_string());
    let mut findings = module.findings.clone();
    let served = Verdict::of(&module.findings) == Verdict::Safe;
    let own = module.origin == Origin::InTree;
    if let (true, true, Some(recipe)) = (served, own, need.driver()) {
        let path = path.as_deref().unwrap_or("built in");
        findings.push(match want {
            Want::Fallback => fallback(&what, module, path, recipe, release),
            Want::OutOfTree | Want::Any { .. } => {
                Finding::new(Fact::InTree, format!("{what} is driven by {release}'s own {} ({path})", module.name), "")
            }
        });
    }
    if !served {
        findings.extend(would_serve(need, module, release, want));
    }
    let wished = want == Want::Any { build: true } && own;
    let entry = ModuleReport {
        name: module.name.clone(),
        path: path.unwrap_or_default(),
        version: module.version.clone().unwrap_or_default(),
        origin: module.origin,
    };
    Weighed { served, findings, module: Some(entry), build: need.recipe.clone().filter(|_| !served || wished) }
}

/// The finding that the in-tree driver replaces one that does not build; another finding says why that did not build.
fn fallback(what: &str, own: &ModuleEvidence, path: &str, recipe: &str, release: &KernelRelease) -> Finding {
    let version = own.version.as_ref().map(|v| format!(" {v}")).unwrap_or_default();
    Finding::new(
        Fact::InTreeFallback,
        format!("{what}: no release of {recipe} builds for {release}, whose own {}{version} is taken ({path})", own.name),
        format!("vfguard prepare {release} --driver {recipe} --source FILE --sha256 HEX, with a release that fits"),
    )
}

/// The finding that the in-tree driver would load, but is hidden by one that does not: an unsigned build under Secure Boot, for example.
fn would_serve(need: &Need, chosen: &ModuleEvidence, release: &KernelRelease, want: Want) -> Option<Finding> {
    let ready = |m: &&ModuleEvidence| {
        let mut objections = m.findings.iter().filter(|f| f.refuses()).peekable();
        m.origin == Origin::InTree && objections.peek().is_some() && objections.all(|f| f.is(Fact::Shadowed))
    };
    let own = need.candidates.iter().filter(|m| m.path.is_some() && m.path != chosen.path).find(ready)?;
    let path = |m: &ModuleEvidence| m.path.as_ref().map_or(String::new(), |p| p.display().to_string());
    let policy = match want {
        Want::OutOfTree => ", with accept_in_tree = \"always\" in /etc/vfguard/config.toml",
        Want::Any { .. } | Want::Fallback => "",
    };
    Some(Finding::new(
        Fact::InTreeHidden,
        format!("{release}'s own {} would load ({}); {} hides it", own.name, path(own), path(chosen)),
        format!("rm {}; depmod {release}{policy}", path(chosen)),
    ))
}

pub(super) fn described(need: &Need) -> String {
    let missing = need.device.as_ref().filter(|_| need.missing).map(|d| format!(", {}", lack(d))).unwrap_or_default();
    match (&need.device, need.driver()) {
        (Some(d), _) => match &d.interface {
            Some(interface) => format!("{interface} ({}{missing})", d.address),
            None => format!("the network device {}{missing}", d.address),
        },
        (None, Some(recipe)) => format!("the required driver {recipe}"),
        (None, None) => "nothing".into(),
    }
}

/// How a device that was in use is missing now.
fn lack(device: &Device) -> &'static str {
    if device.present {
        "without a driver now"
    } else {
        "not there now"
    }
}

/// The finding that a device is judged although it is not in use now. It refuses nothing by itself; the need of the device is judged like
/// any other.
pub(super) fn missing(need: &Need, release: &KernelRelease, fact: Fact) -> Option<Finding> {
    if !need.missing || need.device.is_none() {
        return None;
    }
    let detail = format!("{} was in use, and {release} is judged as if it still were", described(need));
    let remedy = gone_for_good(need).unwrap_or_else(|| format!("vfguard prepare {release}"));
    Some(Finding::new(fact, detail, remedy))
}

/// The command that makes a missing device count no longer. A device that is there and claimed by a recipe always counts.
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
    match (need.driver(), need.candidates.first()) {
        (Some(recipe), Some(own)) => {
            let why = if need.required { "drivers.required wants the recipe's" } else { "an out-of-tree driver is wanted" };
            let other = match Verdict::of(&own.findings) {
                Verdict::Safe => ", or accept_in_tree = \"always\" in /etc/vfguard/config.toml: its own would load",
                Verdict::Unknown | Verdict::Unsafe => "",
            };
            Finding::new(
                Fact::OnlyInTree,
                format!("{what}: {release} has only its own {} and {why} ({recipe})", own.name),
                format!("vfguard prepare {release}{other}"),
            )
        }
        (Some(recipe), None) => {
            let extra = match need.binding {
                Binding::InTree => {
                    "; the running kernel has its own, which may be in a package of extra modules here (kernel-modules-extra, linux-modules-extra)"
                }
                Binding::OutOfTree | Binding::Unbound => "",
            };
            Finding::new(
                Fact::ModuleMissing,
                format!("{what}: {release} has no module {recipe} that claims it{extra}"),
                format!("vfguard prepare {release}"),
            )
        }
        (None, _) => Finding::new(
            Fact::DeviceUnclaimed,
            format!(
                "{what} {} in use ({}) and no driver of {release} claims it",
                if need.missing { "was" } else { "is" },
                need.device.as_ref().map_or("", |d| d.modalias.as_str())
            ),
            format!("install {release}'s package of extra modules (kernel-modules-extra, linux-modules-extra) or the driver's own package for {release}"),
        ),
    }
}
