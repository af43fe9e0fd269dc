//! A kernel's configuration: lines `CONFIG_X=value` (`Documentation/kbuild/kconfig.rst`), as in `/boot/config-K`.

use super::installed::modules_dir;
use super::KernelRelease;
use crate::host::Host;
use std::path::PathBuf;

/// The configuration as text; a setting without a line is off.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KernelConfig(String);

impl KernelConfig {
    /// From the file's text.
    pub fn new(text: impl Into<String>) -> Self {
        KernelConfig(text.into())
    }

    /// Reads the first that exists of `/boot/config-K`, `/lib/modules/K/config` and the build trees' `.config`.
    pub fn load(host: &Host, release: &KernelRelease, trees: &[PathBuf]) -> Option<Self> {
        [PathBuf::from(format!("/boot/config-{release}")), modules_dir(release).join("config")]
            .into_iter()
            .chain(trees.iter().flat_map(|t| [t.join(".config"), t.join("include/config/auto.conf")]))
            .filter_map(|p| host.read_text(p).ok())
            .find(|text| !text.trim().is_empty())
            .map(KernelConfig)
    }

    /// Whether a setting is `y`.
    pub fn is_set(&self, name: &str) -> bool {
        self.value(name) == Some("y")
    }

    /// A setting's value, including quotes.
    pub fn value(&self, name: &str) -> Option<&str> {
        let text = self.0.as_bytes();
        let at = memchr::memmem::find_iter(text, name).find(|at| {
            let begins = *at == 0 || text[at - 1] == b'\n';
            begins && text.get(at + name.len()) == Some(&b'=')
        })?;
        self.0[at + name.len() + 1..].lines().next().map(str::trim_end)
    }

    /// The part after the release in `VERMAGIC_STRING` of `include/linux/vermagic.h`, from 2.6.32 to 6.x, on x86-64. Unknown with
    /// RANDSTRUCT (which adds a hash) and on other architectures (which may add a word of their own).
    pub fn vermagic_flags(&self) -> Option<String> {
        let randomised = ["CONFIG_RANDSTRUCT", "CONFIG_GCC_PLUGIN_RANDSTRUCT"].iter().any(|n| self.is_set(n));
        if randomised || cfg!(not(target_arch = "x86_64")) {
            return None;
        }
        let preempt = match () {
            () if self.is_set("CONFIG_PREEMPT_BUILD") || self.is_set("CONFIG_PREEMPT") => "preempt ",
            () if self.is_set("CONFIG_PREEMPT_RT") => "preempt_rt ",
            () => "",
        };
        let word = |name: &str, word: &'static str| if self.is_set(name) { word } else { "" };
        Some(
            [
                word("CONFIG_SMP", "SMP "),
                preempt,
                word("CONFIG_MODULE_UNLOAD", "mod_unload "),
                word("CONFIG_MODVERSIONS", "modversions "),
            ]
            .concat(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_is_found_by_its_whole_name() {
        let config = KernelConfig::new("# CONFIG_SMP is not set\nCONFIG_MODULE_SIG=y\nCONFIG_MODULE_SIG_HASH=\"sha256\"\n");
        assert!(config.is_set("CONFIG_MODULE_SIG") && !config.is_set("CONFIG_SMP") && !config.is_set("CONFIG_MODULE"));
        assert_eq!(config.value("CONFIG_MODULE_SIG_HASH"), Some("\"sha256\""));
    }

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn vermagic_flags_equal_those_of_real_modules() {
        let debian = "CONFIG_SMP=y\nCONFIG_PREEMPT_BUILD=y\nCONFIG_MODULE_UNLOAD=y\nCONFIG_MODVERSIONS=y\n";
        assert_eq!(KernelConfig::new(debian).vermagic_flags().unwrap(), "SMP preempt mod_unload modversions ");
        let el = "CONFIG_SMP=y\nCONFIG_PREEMPT_VOLUNTARY=y\nCONFIG_MODULE_UNLOAD=y\nCONFIG_MODVERSIONS=y\n";
        assert_eq!(KernelConfig::new(el).vermagic_flags().unwrap(), "SMP mod_unload modversions ");
        let rt = "CONFIG_SMP=y\nCONFIG_PREEMPT_RT=y\nCONFIG_MODULE_UNLOAD=y\n";
        assert_eq!(KernelConfig::new(rt).vermagic_flags().unwrap(), "SMP preempt_rt mod_unload ");
        assert_eq!(KernelConfig::new("CONFIG_SMP=y\nCONFIG_GCC_PLUGIN_RANDSTRUCT=y\n").vermagic_flags(), None);
    }
}
