//! The evidence about one kernel: for each device the modules that could serve it, read and verified.

use super::masters::{link, Masters};
use super::origin::{binding, is_ours, origin};
use super::proof::proven_by_use;
use super::{claiming, Survey};
use crate::config::AcceptInTree;
use crate::driver::{self, Numbers, Recipe};
use crate::finding::{Fact, Finding};
use crate::host::devices::pci::Device;
use crate::host::Host;
use crate::kernel::tree::Tree;
use crate::kernel::{installed, KernelRelease};
use crate::module::{self, Module, Provider, Target};
use crate::verdict::judge::{Binding, KernelEvidence, Link, ModuleEvidence, Need, Origin};
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;

impl Survey<'_> {
    /// Collects what is known about one kernel.
    pub fn evidence(&self, kernel: &KernelRelease) -> KernelEvidence {
        let host = self.host;
        if let Some(gone) = self.gone(kernel) {
            let (release, findings) = (kernel.clone(), vec![gone]);
            return KernelEvidence { release, needs: vec![], findings, proven_by_use: false, undecided: None };
        }
        let cmdline = match self.entry(kernel) {
            Some(candidate) if !candidate.cmdline.is_empty() => candidate.cmdline.clone(),
            _ => host.read_text("/proc/cmdline").unwrap_or_default(),
        };
        let dir = installed::modules_dir(kernel);
        let undecided = host.read_dir(&dir).err().map(|e| {
            Finding::new(
                Fact::ModulesUnreadable,
                format!("{} cannot be read: {e}", dir.display()),
                format!("install {kernel}'s packages, or remove its boot entry; read it as root"),
            )
        });
        let target = self.target(kernel).with_cmdline(&cmdline);
        let needs: Vec<Need> = self.needs(&target, &cmdline);
        let undecided = undecided.or_else(|| self.nothing_to_prove(kernel, &needs));
        let initrds = self.initrds(kernel);
        let mut findings = module::initramfs_findings(host, kernel, initrds);
        let drivers = needs.iter().filter_map(|n| n.candidates.first()).filter(|m| m.path.is_some());
        let drivers: BTreeMap<&str, Option<&[u8]>> = drivers.map(|m| (m.name.as_str(), m.build_id.as_deref())).collect();
        let carried = |(name, build_id)| module::initramfs_driver(host, &target, initrds, name, build_id);
        if drivers.is_empty() && self.entry(kernel).is_some() {
            findings.extend(module::initramfs_whole(host, &target, initrds));
        }
        findings.extend(drivers.into_iter().flat_map(carried));
        findings.extend(self.entry_findings(kernel));
        for need in &needs {
            if let (Some(device), Some(module)) = (&need.device, need.candidates.first()) {
                findings.extend(module::interface_findings(host, device, &module.name, &cmdline));
            }
        }
        for need in &needs {
            findings.extend(need.device.as_ref().and_then(|d| self.bound_by_hand(&target, d, &need.candidates)));
        }
        let proven_by_use = self.running.as_ref() == Some(kernel) && proven_by_use(host, kernel, &target, &needs, &cmdline);
        KernelEvidence { release: kernel.clone(), needs, findings, proven_by_use, undecided }
    }

    /// If the boot default is held off this kernel, it was because of a device. If no device is there or remembered, the kernel would be
    /// safe only because nothing is required of it.
    fn nothing_to_prove(&self, kernel: &KernelRelease, needs: &[Need]) -> Option<Finding> {
        let held_off = self.wanted.as_ref() == Some(kernel) && needs.is_empty() && self.memory.is_lost();
        held_off.then(|| {
            Finding::new(
                Fact::DeviceForgotten,
                format!(
                    "the boot default is held off {kernel}, and for which network device is not known: {} is lost",
                    super::known::RECORD
                ),
                format!("vfguard reconcile, with the network device there; to stay off {kernel}: vfguard decline {kernel}"),
            )
        })
    }

    /// A finding about a binding that was made by hand: K's tables do not explain it, and nothing in K will make it again.
    fn bound_by_hand(&self, target: &Target, device: &Device, candidates: &[ModuleEvidence]) -> Option<Finding> {
        let driver = device.driver.as_deref().filter(|_| device.present)?;
        let by = |means: &str| {
            let name = device.interface.as_deref().unwrap_or(&device.address);
            let detail = format!("{name} ({}) is bound to {driver} by {means}, which a reboot forgets", device.address);
            let remedy = "see to it that it is set again early at each boot (a udev rule, driverctl, modprobe.d)";
            Some(Finding::new(Fact::BoundByHand, detail, remedy))
        };
        if device.driver_override.as_deref() == Some(driver) {
            return by("driver_override");
        }
        let module = device.module.as_deref().unwrap_or(driver).replace('-', "_");
        let claims = |target: &Target| {
            let name = |p: Provider| match p {
                Provider::BuiltIn(name) | Provider::Module(name) => name,
            };
            target.resolve_alias(&device.modalias).into_iter().any(|p| name(p) == module)
        };
        // Usually K's own tables name the module, and nothing more is read. Without tables nothing is known.
        let running = self.running.as_ref().filter(|_| candidates.iter().all(|c| c.name != module))?;
        let known = self.target(running);
        let told = known.module_file(&module).is_some() && !known.is_builtin(&module) && !claims(&known) && !claims(target);
        if told {
            by("new_id")
        } else {
            None
        }
    }

    fn needs(&self, target: &Target, cmdline: &str) -> Vec<Need> {
        let mut needs = Vec::new();
        let tree = Tree::of(self.host, &target.release);
        let masters = Masters::new(self.host, &self.devices, &self.memory, target, cmdline);
        for device in &self.devices {
            let is_used = device.in_use() || self.memory.of_device(device).is_some();
            // If nobody uses a device, a recipe without a release for K does not matter.
            let has_release =
                |r: &&Rc<Recipe>| is_used || !r.candidates(&Numbers::of(self.host, &target.release)).is_empty();
            let recipe = claiming(&self.recipes, device).filter(has_release);
            if recipe.is_none() && !is_used {
                continue;
            }
            needs.push(self.need(target, Some(device), recipe, cmdline, &masters, &tree));
        }
        for name in &self.config.drivers.required {
            let met = needs.iter().any(|n| n.recipe.as_ref().is_some_and(|r| &r.name == name));
            if let (false, Some(recipe)) = (met, self.recipes.iter().find(|r| &r.name == name)) {
                needs.push(self.need(target, None, Some(recipe), cmdline, &masters, &tree));
            }
        }
        needs
    }

    fn need(
        &self,
        target: &Target,
        device: Option<&Device>,
        recipe: Option<&Rc<Recipe>>,
        cmdline: &str,
        masters: &Masters<'_>,
        tree: &Tree<'_>,
    ) -> Need {
        let own = recipe;
        let recipe = recipe.map(Rc::as_ref);
        let mut candidates = candidates(self.host, target, device, recipe, cmdline);
        if let Some(recipe) = recipe {
            candidates.iter_mut().for_each(|c| c.findings.extend(other_release(self.host, recipe, &target.release, c)));
        }
        let known = device.and_then(|d| self.memory.of_device(d));
        let now = || {
            device.map_or(Binding::Unbound, |d| binding(self.host, &self.targets.borrow(), d, recipe, self.running.as_ref()))
        };
        Need {
            device: device.cloned(),
            recipe: own.cloned(),
            required: recipe.is_some_and(|r| self.config.drivers.required.contains(&r.name)),
            binding: known.map_or_else(now, |k| k.binding),
            missing: known.is_some() && !device.is_some_and(|d| d.present && d.in_use()),
            unbuildable: recipe.is_some_and(|r| self.is_unbuildable(tree, r)),
            masters: device.map(|d| masters.of(d, known)).unwrap_or_default(),
            link: device.map_or(Link::Unknown, |d| link(self.host, d)),
            candidates,
        }
    }

    /// Whether all releases of a recipe were tried for a kernel and none will build until something changes. The record of this never makes
    /// a kernel safe: it only lets the in-tree driver be judged instead. If it is lost, the build is tried again.
    fn is_unbuildable(&self, tree: &Tree, recipe: &Recipe) -> bool {
        self.config.accept_in_tree == AcceptInTree::Fallback
            && !driver::rest::is_on(self.host, tree.release)
            && driver::would_fail_again(tree, recipe, &self.devices)
    }
}

/// A finding about a version of the recipe's driver that the recipe does not name for K: it was installed by hand or by another package.
fn other_release(host: &Host, recipe: &Recipe, kernel: &KernelRelease, module: &ModuleEvidence) -> Option<Finding> {
    let version = module.version.as_deref().filter(|_| module.origin != Origin::InTree && module.name == recipe.module())?;
    let named = recipe.candidates(&Numbers::of(host, kernel));
    let is_named = named.iter().any(|release| recipe.module_version(release) == version);
    let first = &named.first().filter(|_| !is_named)?.version;
    let detail = format!("{} {version} is not what the recipe names for {kernel} ({first})", module.name);
    let remedy = match module.origin {
        Origin::Built => {
            format!(
                "vfguard prepare {kernel}; or, if that is what {first} calls itself, set version_of_module in the recipe"
            )
        }
        Origin::Reused | Origin::Prebuilt | Origin::InTree | Origin::Unknown => {
            format!("vfguard prepare {kernel}, if {first} is wanted")
        }
    };
    Some(Finding::new(Fact::WrongVersion, detail, remedy))
}

/// The modules that could serve a need, in the order in which modprobe would try them; after those, copies of the recipe's modules that it
/// would not load.
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
                let (origin, findings) = (Origin::InTree, Vec::new());
                found.push(ModuleEvidence { name, path: None, version: None, build_id: None, origin, findings })
            }
            Provider::Module(name) => names.push(name),
        }
    }
    let own = recipe.map(|r| r.all_modules().map(|m| m.replace('-', "_")).collect::<Vec<_>>()).unwrap_or_default();
    if let (Some(first), false) = (own.first(), own.iter().any(|m| names.contains(m))) {
        // No alias of it is in the table; the file on disk shows why.
        names.push(first.clone());
    }
    for name in &names {
        let mut paths: Vec<PathBuf> = target.module_file(name).into_iter().collect();
        if own.contains(name) {
            paths.extend(target.copies(name));
        }
        let mut seen = Vec::new();
        for path in paths {
            if !seen.contains(&path) {
                found.push(examine(host, target, name, &path, device, recipe, cmdline));
                seen.push(path);
            }
        }
    }
    found
}

/// Reads and verifies one module file, and determines its origin.
pub(super) fn examine(
    host: &Host,
    target: &Target,
    name: &str,
    path: &Path,
    device: Option<&Device>,
    recipe: Option<&Recipe>,
    cmdline: &str,
) -> ModuleEvidence {
    let devices: Vec<&Device> = device.into_iter().collect();
    let read = host.read(path).map_err(|e| {
        let fact = if e.kind() == io::ErrorKind::NotFound { Fact::ModuleMissing } else { Fact::ModuleUnreadable };
        Finding::new(
            fact,
            format!("{}: {e}", path.display()),
            if is_ours(path) {
                format!("vfguard prepare {}", target.release)
            } else {
                format!("install it again, then depmod {}", target.release)
            },
        )
    });
    let module = read.and_then(Module::read);
    let mut findings = match &module {
        Ok(module) => module::verify(module, target, &devices),
        Err(finding) => vec![finding.clone()],
    };
    let module = module.ok();
    findings.extend(module::check_placement(host, target, name, path, module.as_ref(), cmdline));
    ModuleEvidence {
        name: name.to_owned(),
        path: Some(path.to_owned()),
        version: module.as_ref().and_then(|m| m.version.clone()),
        build_id: module.as_ref().and_then(|m| m.build_id.clone()),
        origin: origin(host, target, recipe, path, module.as_ref()),
        findings,
    }
}
