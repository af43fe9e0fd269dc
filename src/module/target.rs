//! What is known about a kernel before a module is verified against it; read once, nothing missing is an error here.

use super::index::{Index, Provider};
use super::{decompress, elf::Module};
use crate::host::Host;
use crate::kernel::installed::modules_dir;
use crate::kernel::KernelRelease;
use std::path::{Path, PathBuf};

/// A kernel as the verifier sees it.
pub struct Target {
    /// Its release.
    pub release: KernelRelease,
    /// The lines of `Module.symvers`, if it was found.
    pub(super) symvers: Option<Vec<u8>>,
    /// Where it was found.
    pub symvers_path: Option<PathBuf>,
    /// The kernel's configuration, if it was found.
    config: Option<String>,
    /// The flags of the kernel's own vermagic, if they can be known.
    pub(super) flags: Option<String>,
    /// depmod's tables.
    pub(super) index: Index,
}

impl Target {
    /// Gathers what there is about a kernel.
    pub fn load(host: &Host, release: &KernelRelease) -> Target {
        let modules = modules_dir(release);
        let trees = [
            modules.join("build"),
            PathBuf::from("/usr/src/kernels").join(release),
            PathBuf::from(format!("/usr/src/linux-headers-{release}")),
        ];
        let trees: Vec<&PathBuf> = trees.iter().filter(|t| belongs(host, t, release)).collect();
        let (symvers_path, symvers) = symvers(host, release, &trees).unzip();
        let config = [PathBuf::from(format!("/boot/config-{release}")), modules.join("config")]
            .into_iter()
            .chain(trees.iter().flat_map(|t| [t.join(".config"), t.join("include/config/auto.conf")]))
            .find_map(|p| host.read_text(p).ok());
        let index = Index::load(host, release);
        let flags = own_flags(host, &index, release).or_else(|| config.as_deref().map(flags_of_config));
        Target { release: release.clone(), symvers, symvers_path, config, flags, index }
    }

    /// Whether anything at all was found: headers, configuration or symbol versions.
    pub fn is_known(&self) -> bool {
        self.symvers.is_some() || self.config.is_some()
    }

    /// Whether a setting of the kernel's configuration is `y`; not known without one.
    pub fn config_set(&self, name: &str) -> Option<bool> {
        let config = self.config.as_ref()?;
        Some(config.lines().any(|l| l.strip_prefix(name).is_some_and(|rest| rest == "=y")))
    }

    /// Whether the kernel checks symbol versions, judged by its configuration, else by its own vermagic.
    pub fn modversions(&self) -> Option<bool> {
        self.config_set("CONFIG_MODVERSIONS").or_else(|| self.flags.as_ref().map(|f| f.contains("modversions")))
    }

    /// The file that modprobe would load for a module's name.
    pub fn module_file(&self, name: &str) -> Option<PathBuf> {
        self.index.path(name)
    }

    /// What would drive a device, in the order in which modprobe tries.
    pub fn resolve_alias(&self, modalias: &str) -> Vec<Provider> {
        self.index.resolve(modalias)
    }
}

/// Whether a build tree says that it is K's; one of another kernel proves nothing.
fn belongs(host: &Host, tree: &Path, release: &KernelRelease) -> bool {
    for header in ["include/generated/utsrelease.h", "include/linux/utsrelease.h"] {
        if let Ok(text) = host.read_text(tree.join(header)) {
            return text.contains(&format!("\"{release}\""));
        }
    }
    match host.read_text(tree.join("include/config/kernel.release")) {
        Ok(text) => text.trim() == release.as_str(),
        Err(_) => false,
    }
}

fn symvers(host: &Host, release: &KernelRelease, trees: &[&PathBuf]) -> Option<(PathBuf, Vec<u8>)> {
    let modules = modules_dir(release);
    let packed = ["gz", "xz", "zst"]
        .into_iter()
        .flat_map(|ext| [modules.join(format!("symvers.{ext}")), PathBuf::from(format!("/boot/symvers-{release}.{ext}"))]);
    let plain = trees.iter().map(|t| t.join("Module.symvers"));
    plain.chain(packed).find_map(|path| {
        let content = decompress::whole(host.read(&path).ok()?).ok()?;
        (!content.is_empty()).then_some((path, content))
    })
}

/// The flags of a module that came with the kernel: the best evidence of what the kernel itself says.
fn own_flags(host: &Host, index: &Index, release: &KernelRelease) -> Option<String> {
    let path = index.own_module()?;
    let module = Module::read(&host.read(path).ok()?).ok()?;
    let vermagic = module.vermagic?;
    let (word, flags) = vermagic.split_once(' ')?;
    (word == release.as_str()).then(|| flags.trim().to_owned())
}

/// `VERMAGIC_STRING` of `include/linux/vermagic.h`, from 2.6.32 to 6.x, as far as the configuration tells. The hash of
/// RANDSTRUCT is not in the configuration, so such a kernel's flags are never matched by this.
fn flags_of_config(config: &str) -> String {
    let set = |name: &str| config.lines().any(|l| l.strip_prefix(name).is_some_and(|r| r == "=y"));
    let preempt = if set("CONFIG_PREEMPT_BUILD") || set("CONFIG_PREEMPT") {
        "preempt"
    } else if set("CONFIG_PREEMPT_RT") {
        "preempt_rt"
    } else {
        ""
    };
    let flags = [
        if set("CONFIG_SMP") { "SMP" } else { "" },
        preempt,
        if set("CONFIG_MODULE_UNLOAD") { "mod_unload" } else { "" },
        if set("CONFIG_MODVERSIONS") { "modversions" } else { "" },
        if set("CONFIG_RANDSTRUCT") || set("CONFIG_GCC_PLUGIN_RANDSTRUCT") { "RANDSTRUCT" } else { "" },
    ];
    flags.iter().filter(|f| !f.is_empty()).copied().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_those_that_debians_modules_carry() {
        let config = "CONFIG_SMP=y\nCONFIG_PREEMPT_BUILD=y\nCONFIG_MODULE_UNLOAD=y\nCONFIG_MODVERSIONS=y\n";
        assert_eq!(flags_of_config(config), "SMP preempt mod_unload modversions");
        let el = "CONFIG_SMP=y\nCONFIG_PREEMPT_VOLUNTARY=y\nCONFIG_MODULE_UNLOAD=y\nCONFIG_MODVERSIONS=y\n";
        assert_eq!(flags_of_config(el), "SMP mod_unload modversions");
    }
}
