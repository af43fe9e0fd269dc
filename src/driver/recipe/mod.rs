//! What is known about a driver: releases with their pins, kernel ranges, devices, how make is called.
//!
//! The binary carries recipes; a file of the same recipe name in `/usr/lib/vfguard/drivers.d/` replaces one as a whole, and one
//! in `/etc/vfguard/drivers.d/` replaces both. The format is described in `packaging/drivers.d/ixgbevf.toml`.

use crate::config::read_trusted;
use crate::driver::fetch::scrub;
use crate::driver::Digest;
use crate::error::{advise, Remedy};
use crate::host::Host;
use crate::kernel::release::rpmvercmp;
use crate::kernel::KernelRelease;
use anyhow::Result;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Recipes that the binary carries.
const BUILT_IN: [(&str, &str); 1] = [("ixgbevf.toml", include_str!("../../../packaging/drivers.d/ixgbevf.toml"))];
/// Where recipes on disk are, below the root; later directories win.
const DIRECTORIES: [&str; 2] = ["/usr/lib/vfguard/drivers.d", "/etc/vfguard/drivers.d"];
/// Names become parts of file names; 64 is more than any module's (`MODULE_NAME_LEN` is 56).
const MAX_NAME: usize = 64;
/// Numbers of a base version: 2.6.32.71 had the most.
const MAX_BASE: usize = 4;

/// What is known about a driver.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// The driver's name, e.g. `ixgbevf`.
    pub name: String,
    /// Names of the modules that it makes; the first is the driver. The recipe's name unless told.
    #[serde(default)]
    pub modules: Vec<String>,
    /// Patterns of modaliases that it claims (`*` and `?`), the union over its releases; whether a module that was built
    /// really claims a device is the verifier's business.
    pub devices: Vec<String>,
    /// Where make runs, relative to the archive's top directory.
    #[serde(default = "default_directory")]
    pub directory: String,
    /// Variables for make; `{kernel}`, `{source}` and `{build}` are filled in.
    #[serde(default = "default_make")]
    pub make: Vec<String>,
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
    /// The kernels that it is the first choice for.
    #[serde(default)]
    pub kernels: KernelRange,
    /// Whether it is tried for older kernels too, when their first choice does not compile.
    #[serde(default)]
    pub fallback: bool,
    /// Further variables for make, after the recipe's.
    #[serde(default)]
    pub make: Vec<String>,
}

/// A range over the base version of kernels, e.g. `2.6.32` of `2.6.32-431.20.3.el6.x86_64`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KernelRange {
    /// The first kernel in it; from the beginning unless told.
    #[serde(default)]
    pub from: Option<Base>,
    /// The first kernel after it; open unless told.
    #[serde(default)]
    pub below: Option<Base>,
}

/// A base version such as `3.10`: numbers between dots, equal with or without final zeros.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Base(Vec<u32>);

impl Base {
    fn new(mut numbers: Vec<u32>) -> Base {
        while numbers.last() == Some(&0) {
            numbers.pop();
        }
        Base(numbers)
    }
}

impl TryFrom<String> for Base {
    type Error = String;
    fn try_from(s: String) -> Result<Self, Self::Error> {
        let number = |p: &str| p.parse::<u16>().ok().filter(|_| !p.starts_with('+')).map(u32::from);
        let numbers: Option<Vec<u32>> = s.split('.').map(number).collect();
        numbers.filter(|n| n.len() <= MAX_BASE).map(Base::new).ok_or_else(|| {
            format!(
                "`{s}` is not a valid base version of a kernel, such as 2.6.32 or 5.10: 1 to {MAX_BASE} numbers from 0 to {}",
                u16::MAX
            )
        })
    }
}

impl From<Base> for String {
    fn from(b: Base) -> String {
        let numbers: Vec<String> = b.0.iter().map(u32::to_string).collect();
        if numbers.is_empty() {
            "0".into()
        } else {
            numbers.join(".")
        }
    }
}

impl KernelRange {
    /// Whether a kernel is in it.
    pub fn holds(&self, kernel: &KernelRelease) -> bool {
        let base = Base::new(kernel.base());
        self.from.as_ref().is_none_or(|from| *from <= base) && self.below.as_ref().is_none_or(|below| base < *below)
    }

    fn is_empty(&self) -> bool {
        matches!((&self.from, &self.below), (Some(from), Some(below)) if from >= below)
    }

    fn overlaps(&self, other: &KernelRange) -> bool {
        let starts_before_end = |a: &KernelRange, b: &KernelRange| match (&a.from, &b.below) {
            (Some(from), Some(below)) => from < below,
            _ => true,
        };
        starts_before_end(self, other) && starts_before_end(other, self)
    }

    fn starts_after(&self, kernel: &KernelRelease) -> bool {
        self.from.as_ref().is_some_and(|from| *from > Base::new(kernel.base()))
    }
}

fn default_directory() -> String {
    "src".into()
}

fn default_make() -> Vec<String> {
    ["BUILD_KERNEL={kernel}", "KSRC={source}", "KOBJ={build}"].map(str::to_owned).into()
}

impl Recipe {
    /// The releases to try for a kernel, best first: the one whose range holds it, then later ones that are named as fallbacks,
    /// oldest first (the least far from what the kernel's time knew). Empty when no release is known for it.
    pub fn candidates(&self, kernel: &KernelRelease) -> Vec<&Release> {
        let first = self.releases.iter().find(|r| r.kernels.holds(kernel));
        let mut later: Vec<&Release> = self
            .releases
            .iter()
            .filter(|r| r.fallback)
            .filter(|r| match first {
                Some(first) => rpmvercmp(&r.version, &first.version).is_gt(),
                None => r.kernels.starts_after(kernel),
            })
            .collect();
        later.sort_by(|a, b| rpmvercmp(&a.version, &b.version));
        first.into_iter().chain(later).collect()
    }

    /// Whether one of its patterns matches a modalias.
    pub fn claims(&self, modalias: &str) -> bool {
        self.devices.iter().any(|pattern| matches(pattern.as_bytes(), modalias.as_bytes()))
    }

    /// The driver's module: the first that it makes.
    pub fn module(&self) -> &str {
        self.modules.first().unwrap_or(&self.name)
    }

    /// The variables for make, filled in: the recipe's, then the release's. `source` is K's tree, `build` where its generated
    /// files are (the same on most distributions).
    pub fn make_args(&self, release: Option<&Release>, kernel: &KernelRelease, source: &Path, build: &Path) -> Vec<String> {
        let own = release.map(|r| r.make.as_slice()).unwrap_or_default();
        let fill = |arg: &String| {
            arg.replace("{kernel}", kernel.as_str())
                .replace("{source}", &source.to_string_lossy())
                .replace("{build}", &build.to_string_lossy())
        };
        self.make.iter().chain(own).map(fill).collect()
    }

    /// The release of a version.
    pub fn release(&self, version: &str) -> Option<&Release> {
        self.releases.iter().find(|r| r.version == version)
    }

    /// The name of a release's archive in the cache and on mirrors: `NAME-VERSION.tar.gz`.
    pub fn archive_name(&self, release: &Release) -> String {
        format!("{}-{}.tar.gz", self.name, release.version)
    }

    /// Reads a recipe; `shown` names its file in errors.
    ///
    /// # Errors
    /// What is no TOML, an unknown key, a missing digest, overlapping ranges… with the file and the key.
    pub fn parse(text: &str, shown: &Path) -> Result<Recipe> {
        let cure = || format!("mend {} (the built-in ixgbevf.toml describes the format)", shown.display());
        let mut recipe: Recipe = toml::from_str(text)
            .map_err(|e| advise(format!("{}: {}", shown.display(), scrub(e.to_string().trim_end())), cure()))?;
        if recipe.modules.is_empty() {
            recipe.modules.push(recipe.name.clone());
        }
        recipe.validate().map_err(|why| advise(format!("{}: {why}", shown.display()), cure()))?;
        Ok(recipe)
    }

    fn validate(&self) -> Result<(), String> {
        check_name("name", &self.name)?;
        self.modules.iter().try_for_each(|m| check_name("modules", m))?;
        self.devices.iter().try_for_each(|d| check_device(d))?;
        check_directory(&self.directory)?;
        self.make.iter().try_for_each(|m| check_make("make", m))?;
        if self.releases.is_empty() {
            return Err("releases: at least one release is needed".into());
        }
        for (i, release) in self.releases.iter().enumerate() {
            let version = &release.version;
            check_name("version", version)?;
            let within = |why: String| format!("release {version}: {why}");
            release.make.iter().try_for_each(|m| check_make("make", m)).map_err(within)?;
            if release.urls.is_empty() {
                return Err(within("urls: at least one URL is needed".into()));
            }
            release
                .urls
                .iter()
                .try_for_each(|u| crate::driver::fetch::check_url(u))
                .map_err(|e| within(format!("urls: {e}")))?;
            if release.kernels.is_empty() {
                return Err(within("kernels: `below` is not above `from`, no kernel is in the range".into()));
            }
            for other in &self.releases[..i] {
                if other.version == *version {
                    return Err(within("version: it is there twice".into()));
                }
                if other.kernels.overlaps(&release.kernels) {
                    return Err(within(format!("kernels: the range overlaps that of release {}", other.version)));
                }
            }
        }
        Ok(())
    }
}

/// All recipes of a machine, by name: built-in < `/usr/lib/vfguard/drivers.d` < `/etc/vfguard/drivers.d`.
///
/// # Errors
/// A recipe file that cannot be read, that others may write, or that is wrong; two files of one directory with one name.
pub fn recipes(host: &Host) -> Result<Vec<Recipe>> {
    let mut found: BTreeMap<String, Recipe> = BTreeMap::new();
    for (name, text) in BUILT_IN {
        let recipe = Recipe::parse(text, &Path::new("built-in").join(name))?;
        found.insert(recipe.name.clone(), recipe);
    }
    for dir in DIRECTORIES {
        let mut here: BTreeMap<String, Recipe> = BTreeMap::new();
        let names = match host.read_dir(dir) {
            Ok(names) => names,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => continue,
            Err(e) => return Err(e).remedy(format!("reading {dir}"), format!("make {dir} a readable directory")),
        };
        for name in names.iter().filter(|n| n.to_string_lossy().ends_with(".toml")) {
            let shown = Path::new(dir).join(name);
            let recipe = Recipe::parse(&read_trusted(&host.path(&shown), &shown)?, &shown)?;
            if here.contains_key(&recipe.name) {
                return Err(advise(
                    format!("{}: another file in {dir} is the recipe {} already", shown.display(), recipe.name),
                    format!("remove one of them from {dir}"),
                ));
            }
            here.insert(recipe.name.clone(), recipe);
        }
        found.extend(here);
    }
    Ok(found.into_values().collect())
}

/// The file of the recipe that counts for a name, below the root; none where only the binary carries it.
pub fn file_of(host: &Host, name: &str) -> Option<PathBuf> {
    let is = |file: &PathBuf| {
        let recipe = read_trusted(&host.path(file), file).and_then(|text| Recipe::parse(&text, file));
        recipe.is_ok_and(|r| r.name == name)
    };
    DIRECTORIES.iter().rev().find_map(|dir| {
        let files = host.read_dir(dir).unwrap_or_default().into_iter().map(|n| Path::new(dir).join(n));
        files.filter(|f| f.extension().is_some_and(|e| e == "toml")).find(is)
    })
}

/// Names and versions become file names and module names: no separator, no option in disguise.
fn check_name(key: &str, name: &str) -> Result<(), String> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"._+~-".contains(&b);
    let fits = (1..=MAX_NAME).contains(&name.len())
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.bytes().all(plain)
        && !name.contains("..");
    if fits {
        return Ok(());
    }
    Err(format!("{key}: {name:?} is not 1 to {MAX_NAME} letters, digits and . _ + ~ - with a letter or digit first"))
}

fn check_device(pattern: &str) -> Result<(), String> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"*?:_.,-".contains(&b);
    // A pattern that matches everything would make each machine need the driver.
    if pattern.split_once(':').is_some_and(|(bus, rest)| !bus.contains(['*', '?']) && rest.bytes().any(|b| b != b'*'))
        && pattern.bytes().all(plain)
    {
        return Ok(());
    }
    Err(format!("devices: {pattern:?} is no modalias pattern such as pci:v00008086d000010EDsv*sd*bc*sc*i*"))
}

fn check_directory(directory: &str) -> Result<(), String> {
    let plain = |part: &str| {
        !part.is_empty() && part != ".." && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"._+-".contains(&b))
    };
    if directory.split('/').all(plain) {
        return Ok(());
    }
    Err(format!("directory: {directory:?} is no path below the archive's top directory"))
}

/// `NAME=value`; make expands `$`, and what looks like an option would be one.
fn check_make(key: &str, arg: &str) -> Result<(), String> {
    let variable = arg.split_once('=').is_some_and(|(name, _)| {
        name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
    });
    if variable && !arg.contains(|c: char| c == '$' || c == '`' || c.is_control()) {
        return Ok(());
    }
    Err(format!("{key}: {arg:?} is not NAME=value (without $ and `)"))
}

/// Shell-style matching of `*` and `?`, in time proportional to both lengths' product at worst.
fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(&c) if c == b'?' || c == text[t] => {
                p += 1;
                t += 1;
            }
            _ => {
                let Some((at, from)) = star else { return false };
                star = Some((at, from + 1));
                p = at + 1;
                t = from + 1;
            }
        }
    }
    pattern[p..].iter().all(|&c| c == b'*')
}

#[cfg(test)]
mod tests;
