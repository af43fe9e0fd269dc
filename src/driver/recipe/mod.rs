//! What is known about a driver: releases with their pins, kernel ranges, devices, how make is called.
//!
//! The binary carries recipes; a file of the same recipe name in `/usr/lib/vfguard/drivers.d/` replaces one as a whole, and one
//! in `/etc/vfguard/drivers.d/` replaces both. The manual page `packaging/man/vfguard-recipes.5`
//! describes the format.

mod check;
mod load;
mod range;
pub(super) mod url;

pub use load::{built_in, file_of, is_local, recipes, DEFAULT};
pub use range::{Fallback, Kernels, Numbers};

use crate::driver::packing::ENDINGS;
use crate::driver::Digest;
use crate::error::advise;
use crate::glob;
use crate::kernel::KernelRelease;
use crate::release::rpmvercmp;
use crate::text::redact::scrub;
use anyhow::Result;
use serde::{Deserialize, Serialize};
use std::borrow::Borrow;
use std::path::{Path, PathBuf};

/// What is known about a driver.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// The driver's name, e.g. `ixgbevf`.
    pub name: String,
    /// Names of the modules that it builds for every kernel; the first is the driver. The default is the recipe's name.
    #[serde(default)]
    pub modules: Vec<String>,
    /// Names of modules that it builds for some kernels only.
    #[serde(default)]
    pub optional: Vec<String>,
    /// Patterns of modaliases that it claims (`*` and `?`), for all its releases together. The verifier checks whether a
    /// built module really claims a device.
    pub devices: Vec<String>,
    /// Where make runs, relative to the archive's top directory.
    #[serde(default = "default_directory")]
    pub directory: String,
    /// A program with its arguments that is run in the sandbox before make, in the archive's top directory; placeholders as
    /// in `make`.
    #[serde(default)]
    pub prepare: Vec<String>,
    /// Variables for make, with the placeholders `{kernel}`, `{source}`, `{build}` and `{compiler}`.
    #[serde(default = "default_make")]
    pub make: Vec<String>,
    /// Files like `Module.symvers` of modules that are built elsewhere, for make's `KBUILD_EXTRA_SYMBOLS`; with the
    /// placeholder `{kernel}`.
    #[serde(default)]
    pub symvers: Vec<String>,
    /// The version in the driver's module, if it differs from the release's: `{version}g`.
    #[serde(default = "default_version")]
    pub version_of_module: String,
    /// Releases; their kernel ranges do not overlap.
    pub releases: Vec<Release>,
}

/// A release of a driver.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Release {
    /// Its version, e.g. `5.3.36`.
    pub version: String,
    /// Where the archive is, tried in this order after the mirrors.
    pub urls: Vec<String>,
    /// The pin: without it nothing is fetched.
    pub sha256: Digest,
    /// The kernels for which it is the first choice.
    #[serde(default)]
    pub kernels: Kernels,
    /// The kernels for which it is tried if their first choice, an older release, does not work.
    #[serde(default)]
    pub fallback: Fallback,
    /// Further variables for make, appended to the recipe's.
    #[serde(default)]
    pub make: Vec<String>,
    /// Replaces the recipe's value.
    #[serde(default)]
    pub version_of_module: Option<String>,
}

fn default_version() -> String {
    "{version}".into()
}

fn default_directory() -> String {
    "src".into()
}

fn default_make() -> Vec<String> {
    ["BUILD_KERNEL={kernel}", "KSRC={source}", "KOBJ={build}"].map(str::to_owned).into()
}

/// Values of the placeholders.
#[derive(Clone, Copy, Debug)]
pub struct Filling<'a> {
    /// `{kernel}`: the kernel.
    pub kernel: &'a KernelRelease,
    /// `{source}`: the kernel's tree.
    pub source: &'a Path,
    /// `{build}`: where its generated files are; on most distributions the same directory.
    pub build: &'a Path,
    /// `{compiler}`: the compiler that make calls for the kernel.
    pub compiler: &'a str,
}

impl Filling<'_> {
    /// A text with its placeholders replaced.
    pub fn fill(&self, text: &str) -> String {
        text.replace("{kernel}", self.kernel.as_str())
            .replace("{source}", &self.source.to_string_lossy())
            .replace("{build}", &self.build.to_string_lossy())
            .replace("{compiler}", self.compiler)
    }
}

impl Recipe {
    /// The releases to try for a kernel, best first. First the one whose range contains the kernel. Then later ones that are
    /// named as fallbacks, oldest first, because the oldest differs least from what the kernel was released with. Then
    /// earlier ones whose fallback range contains the kernel, newest first. Empty if no release is known for it. For a
    /// kernel of Enterprise Linux, ranges of its minor release count before ranges of its base version.
    pub fn candidates(&self, kernel: &Numbers) -> Vec<&Release> {
        let el = self.releases.iter().find(|r| r.kernels.hold_el(kernel));
        let first = el.or_else(|| self.releases.iter().find(|r| r.kernels.hold(kernel)));
        let falls_back = |r: &&Release| match (&r.fallback, first) {
            (Fallback::Never, _) => false,
            (Fallback::For(kernels), _) => kernels.hold(kernel),
            (Fallback::Always, Some(_)) => true,
            (Fallback::Always, None) => r.kernels.start_after(kernel),
        };
        let mut others: Vec<&Release> = self.releases.iter().filter(falls_back).collect();
        others.sort_by(|a, b| rpmvercmp(&a.version, &b.version));
        let Some(first) = first else { return others };
        let against = |r: &Release| rpmvercmp(&r.version, &first.version);
        let later = others.iter().filter(|r| against(r).is_gt());
        let earlier = others.iter().rev().filter(|r| against(r).is_lt() && r.fallback != Fallback::Always);
        std::iter::once(&first).chain(later).chain(earlier).copied().collect()
    }

    /// Whether one of its patterns matches a modalias.
    pub fn claims(&self, modalias: &str) -> bool {
        self.devices.iter().any(|pattern| glob::fits(pattern, modalias))
    }

    /// The driver's module: the first in the list.
    pub fn module(&self) -> &str {
        self.modules.first().unwrap_or(&self.name)
    }

    /// All its modules, those built for every kernel first.
    pub fn all_modules(&self) -> impl Iterator<Item = &String> {
        self.modules.iter().chain(&self.optional)
    }

    /// The variables for make, with placeholders replaced: the recipe's, then the release's.
    pub fn make_args(&self, release: Option<&Release>, tree: &Filling<'_>) -> Vec<String> {
        let own = release.map(|r| r.make.as_slice()).unwrap_or_default();
        self.make.iter().chain(own).map(|arg| tree.fill(arg)).collect()
    }

    /// The extra symbol tables of a kernel, below the root.
    pub fn symvers_of(&self, kernel: &KernelRelease) -> Vec<PathBuf> {
        self.symvers.iter().map(|path| PathBuf::from(path.replace("{kernel}", kernel.as_str()))).collect()
    }

    /// The release with a version.
    pub fn release(&self, version: &str) -> Option<&Release> {
        self.releases.iter().find(|r| r.version == version)
    }

    /// The version that the module of a release reports.
    pub fn module_version(&self, release: &Release) -> String {
        release.version_of_module.as_ref().unwrap_or(&self.version_of_module).replace("{version}", &release.version)
    }

    /// The release whose module reports this version.
    pub fn release_of_module(&self, version: &str) -> Option<&Release> {
        self.releases.iter().find(|r| self.module_version(r) == version)
    }

    /// The release that an archive's top directory names: `ixgbevf-5.3.36`, `ethernet-linux-ixgbevf-5.3.36`,
    /// `amzn-drivers-ena_linux_2.17.0`.
    pub fn release_named(&self, top: &str) -> Option<&Release> {
        let names =
            |r: &&Release| top.strip_suffix(r.version.as_str()).is_some_and(|before| before.ends_with(['-', '_', 'v']));
        self.releases.iter().filter(names).max_by_key(|r| r.version.len())
    }

    /// The name of a release's archive in the cache and on mirrors: `NAME-VERSION.tar.gz`, or as its first URL is packed.
    pub fn archive_name(&self, release: &Release) -> String {
        let url = release.urls.first().map_or("", String::as_str);
        let ending = ENDINGS.iter().find(|ending| url.ends_with(**ending)).unwrap_or(&ENDINGS[0]);
        format!("{}-{}{ending}", self.name, release.version)
    }

    /// Reads a recipe; `shown` names its file in errors.
    ///
    /// # Errors
    /// Invalid TOML, an unknown key, a missing digest, overlapping ranges… with the file and the key.
    pub fn parse(text: &str, shown: &Path) -> Result<Recipe> {
        let cure = || format!("mend {} (man vfguard-recipes describes the format)", shown.display());
        let mut recipe: Recipe = toml::from_str(text).map_err(|e| {
            let place = |key| format!("; {key} is a key of the recipe: move it above the first [[releases]]");
            let place = misplaced(e.message()).map(place).unwrap_or_default();
            advise(format!("{}: {}{place}", shown.display(), scrub(e.to_string().trim_end())), cure())
        })?;
        if recipe.modules.is_empty() {
            recipe.modules.push(recipe.name.clone());
        }
        check::validate(&recipe).map_err(|why| advise(format!("{}: {why}", shown.display()), cure()))?;
        Ok(recipe)
    }
}

/// A key of the recipe that was written below the first release, where TOML takes it for a key of that release.
fn misplaced(message: &str) -> Option<&'static str> {
    let keys = ["name", "modules", "optional", "devices", "directory", "prepare", "symvers"];
    keys.into_iter().find(|key| message.contains(&format!("unknown field `{key}`")) && message.contains("`sha256`"))
}

/// The recipe that counts for a device: the first that claims it.
pub fn claiming<'r, R: Borrow<Recipe>>(recipes: &'r [R], modalias: &str) -> Option<&'r R> {
    recipes.iter().find(|r| (*r).borrow().claims(modalias))
}

#[cfg(test)]
mod tests;
