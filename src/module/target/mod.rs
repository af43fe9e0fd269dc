//! The known facts about a kernel against which a module is verified. Missing files are not errors here: they become findings.

pub(super) mod depmod;
pub mod index;
pub(super) mod keys;
pub(super) mod modprobe;
pub(super) mod trie;

use self::depmod::Order;
use self::index::{Index, Provider};
use self::keys::Keys;
use super::placement::Files;
use super::{name_of, Module, Offer};
use crate::decompress;
use crate::host::Host;
use crate::kernel::installed::modules_dir;
use crate::kernel::symvers::Export;
use crate::kernel::{Compiler, KernelConfig, KernelRelease, Symvers};
use rustc_hash::FxHashMap;
use std::cell::{OnceCell, RefCell};
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// A kernel as the verifier sees it. No process is started; expensive facts are read when they are first needed, and clones share them.
#[derive(Clone)]
pub struct Target {
    facts: Rc<Facts>,
    /// Its command line: that of the running machine, unless [`Target::with_cmdline`] sets another.
    pub(super) cmdline: String,
    /// The exports and imports of modules that are to be installed together with the verified one, by module name.
    beside: FxHashMap<String, Beside>,
}

/// What is on the disk for a kernel.
pub struct Facts {
    /// Its release.
    pub release: KernelRelease,
    pub(super) host: Host,
    pub(super) symvers: Option<Symvers>,
    pub(super) config: Option<KernelConfig>,
    pub(super) index: Index,
    trees: Vec<PathBuf>,
    own: OnceCell<Own>,
    compiler: OnceCell<Option<Compiler>>,
    keys: OnceCell<Keys>,
    order: OnceCell<Order>,
    files: OnceCell<Files>,
    others: RefCell<FxHashMap<String, Rc<Vec<Offer>>>>,
}

impl Deref for Target {
    type Target = Facts;

    fn deref(&self) -> &Facts {
        &self.facts
    }
}

/// The kernels of one look, each collected once. A new look, or one after a change of the disk, starts with an empty list.
#[derive(Default)]
pub struct Targets(RefCell<Vec<Target>>);

impl Targets {
    /// A kernel, collected when it is first needed.
    pub fn of(&self, host: &Host, release: &KernelRelease) -> Target {
        let mut known = self.0.borrow_mut();
        if let Some(target) = known.iter().find(|target| target.release == *release) {
            return target.clone();
        }
        let target = Target::load(host, release);
        known.push(target.clone());
        target
    }

    /// Drops all kernels but this one. The symbol table of one takes some 2 MB.
    pub fn keep_only(&self, release: Option<&KernelRelease>) {
        self.0.borrow_mut().retain(|target| Some(&target.release) == release);
    }
}

/// A module that is to be installed together with the verified one.
#[derive(Clone)]
struct Beside {
    offers: Rc<Vec<Offer>>,
    imports: Vec<String>,
}

/// Facts about the kernel from one of its in-tree modules.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Own {
    /// The part after the release in its vermagic.
    pub flags: Option<String>,
    /// The size of its `struct module`.
    pub this_module: Option<u64>,
    /// How it is compressed.
    pub packed: Option<decompress::Packing>,
    /// Whether it is marked as in-tree, as modules are since Linux 3.2.
    pub intree: bool,
    /// Whether it is signed.
    pub signed: bool,
}

/// A symbol that the kernel or one of its modules exports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Known {
    /// Unknown if the providing module's file does not have it.
    pub crc: Option<u32>,
    /// The module that provides it; none for the kernel itself.
    pub module: Option<String>,
    pub gpl_only: bool,
    pub namespace: String,
}

impl Target {
    /// Collects the facts about a kernel.
    pub fn load(host: &Host, release: &KernelRelease) -> Target {
        let modules = modules_dir(release);
        let trees: Vec<PathBuf> = [
            modules.join("build"),
            PathBuf::from("/usr/src/kernels").join(release),
            PathBuf::from(format!("/usr/src/linux-headers-{release}")),
        ]
        .into_iter()
        .filter(|t| belongs(host, t, release))
        .collect();
        let facts = Facts {
            release: release.clone(),
            host: host.clone(),
            symvers: Symvers::load(host, release, &trees),
            config: KernelConfig::load(host, release, &trees),
            index: Index::load(host, release),
            trees,
            own: OnceCell::new(),
            compiler: OnceCell::new(),
            keys: OnceCell::new(),
            order: OnceCell::new(),
            files: OnceCell::new(),
            others: RefCell::default(),
        };
        let cmdline = host.read_text("/proc/cmdline").unwrap_or_default();
        Target { facts: Rc::new(facts), cmdline, beside: FxHashMap::default() }
    }

    /// The same kernel with these modules installed, which are to be installed together.
    #[must_use]
    pub fn with_beside<'m>(mut self, modules: impl IntoIterator<Item = &'m Module>) -> Target {
        let beside = |m: &Module| Beside {
            offers: Rc::new(m.offers.clone()),
            imports: m.imports.iter().map(|import| import.name.clone()).collect(),
        };
        self.beside = modules.into_iter().map(|m| (m.name.clone(), beside(m))).collect();
        self
    }

    /// The same kernel started with another command line, that of its boot entry.
    #[must_use]
    pub fn with_cmdline(mut self, cmdline: &str) -> Target {
        cmdline.clone_into(&mut self.cmdline);
        self
    }

    /// Whether anything at all was found: headers, configuration or symbol versions.
    pub fn is_known(&self) -> bool {
        self.symvers.is_some() || self.config.is_some()
    }

    /// The path of `Module.symvers`.
    pub fn symvers_path(&self) -> Option<&Path> {
        self.symvers.as_ref().map(|s| s.path.as_path())
    }

    /// Whether a setting of the kernel's configuration is `y`; unknown without a configuration.
    pub fn config_set(&self, name: &str) -> Option<bool> {
        self.config.as_ref().map(|c| c.is_set(name))
    }

    /// The flags of the kernel's vermagic, from one of its in-tree modules, else from its configuration.
    pub(super) fn flags(&self) -> Option<String> {
        self.own().flags.clone().or_else(|| self.config.as_ref()?.vermagic_flags())
    }

    /// Whether the kernel checks symbol versions, from its configuration, else from its own vermagic.
    pub fn modversions(&self) -> Option<bool> {
        self.config_set("CONFIG_MODVERSIONS").or_else(|| self.flags().map(|f| f.contains("modversions")))
    }

    pub(super) fn own(&self) -> &Own {
        self.own.get_or_init(|| {
            let read = |path: PathBuf| {
                let module = Module::read(self.host.read(path).ok()?).ok()?;
                let flags = module.vermagic.as_ref()?.strip_prefix(self.release.as_str())?.strip_prefix(' ')?.to_owned();
                let (intree, signed) = (module.intree, module.signed());
                Some(Own { flags: Some(flags), this_module: module.this_module, packed: module.packed, intree, signed })
            };
            // A module that was put there by hand is not marked as in-tree, and is used only if no other is.
            let mut first = None;
            for own in self.index.own_modules().into_iter().filter_map(read) {
                if own.intree {
                    return own;
                }
                first.get_or_insert(own);
            }
            first.unwrap_or_default()
        })
    }

    /// Whether the kernel's modules are marked as in-tree.
    pub fn tags_its_own(&self) -> bool {
        self.own().intree
    }

    /// Whether a module file came with the kernel. The path proves little, since the makefile of a driver may install over the in-tree one.
    /// But the kernel's build marks its modules (`intree`), signs all of them or none, lists them in `modules.order`, and makes no links.
    pub fn is_own(&self, path: &Path, module: &Module) -> bool {
        let inside = path.strip_prefix(modules_dir(&self.release)).ok();
        let (Some(inside), false) = (inside.filter(|p| p.starts_with("kernel")), module.intree) else {
            return module.intree;
        };
        let own = self.own();
        !own.intree
            && (module.signed() || !own.signed)
            && self.files().lists(inside) != Some(false)
            && !self.host.path_of_link(path).is_symlink()
    }

    /// The compiler that made the kernel, if known.
    pub(super) fn compiler(&self) -> Option<Compiler> {
        *self.compiler.get_or_init(|| Compiler::of_kernel(&self.host, self.config.as_ref(), &self.trees))
    }

    pub(super) fn keys(&self) -> &Keys {
        self.keys.get_or_init(|| Keys::load(&self.host, &self.release))
    }

    pub(super) fn order(&self) -> &Order {
        self.order.get_or_init(|| Order::load(&self.host, &self.release))
    }

    pub(super) fn files(&self) -> &Files {
        self.files.get_or_init(|| Files::find(&self.host, &self.release))
    }

    /// Every copy of a module in the kernel's module directory.
    pub fn copies(&self, name: &str) -> Vec<PathBuf> {
        self.files().of(&self.host, name)
    }

    /// The file that modprobe would load for a module's name.
    pub fn module_file(&self, name: &str) -> Option<PathBuf> {
        self.index.path(name)
    }

    /// The files that modprobe would load before a module.
    pub fn dependencies(&self, name: &str) -> Vec<PathBuf> {
        self.index.dependencies(name)
    }

    /// The drivers for a device, in the order in which modprobe tries them.
    pub fn resolve_alias(&self, modalias: &str) -> Vec<Provider> {
        self.index.resolve(modalias)
    }

    /// Whether a driver is built into the kernel (kernels before 5.2 do not say for which devices).
    pub fn is_builtin(&self, name: &str) -> bool {
        self.index.is_builtin(name)
    }

    /// The exports of these names. The kernel's and its in-tree modules' are in `Module.symvers`; for the rest, modules that are installed
    /// together with the verified one are used, then other out-of-tree modules by depmod's table and their files. If an in-tree module is
    /// replaced by another of its name, the replacement's file counts.
    pub(super) fn exports(&self, names: &[&str]) -> FxHashMap<String, Known> {
        let own = self.symvers.as_ref().map(|s| s.find(names)).unwrap_or_default();
        let known = |e: &Export<'_>| Known {
            crc: Some(e.crc),
            module: (e.provider != "vmlinux").then(|| name_of(e.provider)).filter(|m| !self.is_builtin(m)),
            gpl_only: e.gpl_only,
            namespace: e.namespace.to_owned(),
        };
        let mut all: FxHashMap<String, Known> = FxHashMap::default();
        for name in names {
            let found = match own.get(name).map(known) {
                Some(Known { module: Some(module), .. }) if self.is_replaced(&module) => self.exported_by(&module, name),
                Some(own) => Some(own),
                None => self.exported_together(name).or_else(|| self.exported_beside(name)),
            };
            all.extend(found.map(|found| ((*name).to_owned(), found)));
        }
        all
    }

    /// The in-tree modules that export these names, by `Module.symvers`, if they are not replaced.
    pub(super) fn exports_of_its_own(&self, names: &[&str]) -> FxHashMap<String, String> {
        let own = self.symvers.as_ref().map(|s| s.find(names)).unwrap_or_default();
        let modules =
            own.iter().filter(|(_, e)| e.provider != "vmlinux").map(|(name, e)| ((*name).to_owned(), name_of(e.provider)));
        modules.filter(|(_, module)| !self.is_replaced(module)).collect()
    }

    /// Whether modprobe would load another file than the in-tree one for this name.
    pub(super) fn is_replaced(&self, module: &str) -> bool {
        let own = modules_dir(&self.release).join("kernel");
        self.beside.contains_key(module) || self.module_file(module).is_some_and(|path| !path.starts_with(&own))
    }

    fn exported_together(&self, symbol: &str) -> Option<Known> {
        self.beside.keys().find_map(|module| self.exported_by(module, symbol))
    }

    fn exported_beside(&self, symbol: &str) -> Option<Known> {
        let module = name_of(&self.index.exporter(symbol)?);
        self.exported_by(&module, symbol)
    }

    fn exported_by(&self, module: &str, symbol: &str) -> Option<Known> {
        let offers = self.offers(module);
        let offer = offers.iter().find(|o| o.name == symbol)?;
        let (crc, gpl_only, namespace) = (offer.crc, offer.gpl_only, offer.namespace.clone());
        Some(Known { crc, module: Some(module.to_owned()), gpl_only, namespace })
    }

    /// Whether a module that is installed together with another depends on it, directly or not.
    pub(super) fn needs_back(&self, module: &str, other: &str) -> bool {
        let mut seen: Vec<&str> = Vec::new();
        let mut todo = vec![module];
        while let Some(name) = todo.pop() {
            let Some(beside) = self.beside.get(name).filter(|_| !seen.contains(&name)) else { continue };
            seen.push(name);
            let offers = |by: &Beside| by.offers.iter().any(|offer| beside.imports.contains(&offer.name));
            todo.extend(self.beside.iter().filter(|(_, by)| offers(by)).map(|(name, _)| name.as_str()));
        }
        seen.contains(&other)
    }

    /// Whether modprobe would find a file for a module's name, now or after the installation.
    pub(super) fn has_module(&self, module: &str) -> bool {
        self.beside.contains_key(module) || self.module_file(module).is_some_and(|path| self.host.is_file(path))
    }

    /// The exports of a module's file; empty if there is none.
    pub(super) fn offers(&self, module: &str) -> Rc<Vec<Offer>> {
        if let Some(together) = self.beside.get(module) {
            return together.offers.clone();
        }
        if let Some(known) = self.others.borrow().get(module) {
            return known.clone();
        }
        let read = || Some(Module::read(self.host.read(self.module_file(module)?).ok()?).ok()?.offers);
        let offers = Rc::new(read().unwrap_or_default());
        self.others.borrow_mut().insert(module.to_owned(), offers.clone());
        offers
    }
}

/// Whether a build tree names K as its release; a tree of another kernel proves nothing. A tree that names none must have K's name.
fn belongs(host: &Host, tree: &Path, release: &KernelRelease) -> bool {
    for header in ["include/generated/utsrelease.h", "include/linux/utsrelease.h"] {
        if let Ok(text) = host.read_text(tree.join(header)) {
            return text.contains(&format!("\"{release}\""));
        }
    }
    if let Ok(text) = host.read_text(tree.join("include/config/kernel.release")) {
        return text.trim() == release.as_str();
    }
    let real = host.path(tree);
    let name = real.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    name == release.as_str() || name == format!("linux-headers-{release}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_is_collected_once_in_a_look_and_again_in_the_next() {
        let dir = tempfile::tempdir().unwrap();
        let host = Host::new(dir.path()).unwrap();
        let kernel: KernelRelease = "6.1.0-56-amd64".parse().unwrap();
        let targets = Targets::default();
        assert!(!targets.of(&host, &kernel).is_known());
        host.write_atomic(format!("/boot/config-{kernel}"), b"CONFIG_MODVERSIONS=y\n", 0o644).unwrap();
        let shared = targets.of(&host, &kernel).with_cmdline("quiet");
        assert!(!shared.is_known() && Rc::ptr_eq(&shared.facts, &targets.of(&host, &kernel).facts));
        assert_ne!(targets.of(&host, &kernel).cmdline, "quiet", "each has a command line of its own");
        assert!(!targets.of(&host, &"6.1.0-57-amd64".parse().unwrap()).is_known());
        assert!(Targets::default().of(&host, &kernel).is_known());
    }
}
