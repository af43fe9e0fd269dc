//! Where a module comes from, and how a device is driven now.

use super::proof::loaded_build;
use crate::driver::Recipe;
use crate::host::devices::pci::Device;
use crate::host::Host;
use crate::kernel::KernelRelease;
use crate::module::{self, Module, Provider, Target, Targets};
use crate::verdict::judge::{Binding, Origin};
use std::io::ErrorKind;
use std::path::Path;

/// The origin of a module file of K.
pub(super) fn origin(host: &Host, target: &Target, recipe: Option<&Recipe>, path: &Path, module: Option<&Module>) -> Origin {
    let has = |part: &str| path.components().any(|c| c.as_os_str() == part);
    if has("weak-updates") && host.path_of_link(path).is_symlink() {
        return Origin::Reused;
    }
    if is_ours(path) {
        return Origin::Built;
    }
    match module {
        Some(module) if is_own(target, recipe, path, module) => Origin::InTree,
        Some(_) => Origin::Prebuilt,
        // An unreadable module serves nothing, so its origin does not matter.
        None if has("kernel") => Origin::InTree,
        None => Origin::Unknown,
    }
}

/// Whether a path is where vfguard installs modules.
pub(super) fn is_ours(path: &Path) -> bool {
    path.parent().is_some_and(|d| d.ends_with("updates/vfguard"))
}

/// Whether the kernel's own build made the module. A kernel without in-tree tags is judged by version: a version that the recipe names is
/// the vendor's release, since in-tree copies have other ones (2.12.1-k).
fn is_own(target: &Target, recipe: Option<&Recipe>, path: &Path, module: &Module) -> bool {
    target.is_own(path, module) && (module.intree || !is_released(recipe, module.version.as_deref()))
}

fn is_released(recipe: Option<&Recipe>, version: Option<&str>) -> bool {
    version.is_some_and(|version| recipe.is_some_and(|r| r.release_of_module(version.trim()).is_some()))
}

/// Whether a device was bound to a driver for another purpose than the network (igb_uio, vfio-pci): the driver is no module of the recipe,
/// and does not claim the device.
fn is_foreign(
    host: &Host,
    targets: &Targets,
    device: &Device,
    recipe: &Recipe,
    name: &str,
    running: Option<&KernelRelease>,
) -> bool {
    if device.interface.is_some() || recipe.all_modules().any(|own| own.replace('-', "_") == name) {
        return false;
    }
    let claims = |release: &KernelRelease| {
        let claiming = targets.of(host, release).resolve_alias(&device.modalias);
        claiming.iter().any(|provider| matches!(provider, Provider::Module(own) | Provider::BuiltIn(own) if own == name))
    };
    running.is_some_and(|release| !claims(release))
}

/// How a device is driven now: `/sys/module/X/taint` contains O for an out-of-tree module. Where there is no such file (before Linux 3.3),
/// sysfs and the module file on disk decide; in doubt it counts as out-of-tree, which is judged more strictly.
pub(super) fn binding(
    host: &Host,
    targets: &Targets,
    device: &Device,
    recipe: Option<&Recipe>,
    running: Option<&KernelRelease>,
) -> Binding {
    let Some(driver) = &device.driver else { return Binding::Unbound };
    let name = device.module.as_ref().unwrap_or(driver).replace('-', "_");
    if recipe.is_some_and(|recipe| is_foreign(host, targets, device, recipe, &name, running)) {
        return Binding::InTree;
    }
    let dir = Path::new("/sys/module").join(&name);
    match host.read_text(dir.join("taint")) {
        Ok(taint) => return if taint.contains('O') { Binding::OutOfTree } else { Binding::InTree },
        Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {}
        Err(_) => return Binding::OutOfTree,
    }
    let Some(running) = running else { return Binding::InTree };
    let target = targets.of(host, running);
    let loaded = host.read_text(dir.join("version")).ok();
    if !target.tags_its_own() && is_released(recipe, loaded.as_deref()) {
        return Binding::OutOfTree;
    }
    let copy = || module::on_disk(host, running, &name).into_iter().next();
    let Some(path) = target.module_file(&name).or_else(copy) else {
        // The module is not on disk: it is built in, or its file was removed.
        return if host.exists(dir.join("initstate")) { Binding::OutOfTree } else { Binding::InTree };
    };
    match host.read(&path).ok().and_then(|bytes| Module::read(bytes).ok()) {
        // The file on disk is not the loaded module, so it does not tell.
        Some(file) if loaded_build(host, &name).is_some_and(|id| file.build_id.as_ref().is_some_and(|own| *own != id)) => {
            Binding::OutOfTree
        }
        Some(file) if is_own(&target, recipe, &path, &file) => Binding::InTree,
        _ => Binding::OutOfTree,
    }
}
