//! Settings in three stages: fragments on disk, merged into one table, validated into [`Config`]; defaults stand beside the fields.
//!
//! `/etc/vfguard/config.toml`, then `/etc/vfguard/config.d/*.toml` in order of name; later ones win key by key.

mod numbers;

use crate::error::{advise, Remedy};
use crate::host::files::trust;
use crate::host::Host;
use anyhow::Result;
use serde::Deserialize;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The main file, below the root.
pub const CONFIG: &str = "/etc/vfguard/config.toml";
/// Its fragments, below the root.
const FRAGMENTS: &str = "/etc/vfguard/config.d";
/// Fragments of one directory, or recipes; machines have a handful.
const MAX_FILES: usize = 64;

/// Whether vfguard acts or only tells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Gate and boot default are used.
    #[default]
    Enforce,
    /// Full reports and exit codes; no gate, no hold.
    Observe,
}

/// When the kernel's own driver is good enough.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AcceptInTree {
    /// If the driver bound now is the kernel's own, or none is bound.
    #[default]
    Auto,
    /// Whenever it verifies.
    Always,
    /// Never: the recipe's driver is wanted.
    Never,
    /// As [`AcceptInTree::Auto`], and where no release of the recipe's driver builds.
    Fallback,
}

/// Where the kernel that boots next comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Loader {
    /// Found out from the files in `/boot`.
    #[default]
    Auto,
    /// From outside the guest: every installed kernel is judged.
    None,
}

/// All settings.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Enforce, or only observe.
    pub mode: Mode,
    /// When the kernel's own driver is good enough.
    pub accept_in_tree: AcceptInTree,
    /// Which drivers.
    pub drivers: Drivers,
    /// How archives are fetched.
    pub fetch: Fetch,
    /// How drivers are built.
    pub build: Build,
    /// How modules are signed.
    pub sign: Sign,
    /// The boot loader.
    pub boot: Boot,
    /// The gate.
    pub gate: Gate,
    /// The hooks.
    pub hook: Hook,
    /// Rehearsals.
    pub rehearse: Rehearse,
}

/// `[drivers]`
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Drivers {
    /// Recipes that are needed whether their device is present or not.
    pub required: Vec<String>,
}

/// `[fetch]`
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Fetch {
    /// Base URLs tried first; the archive's file name is appended. `file://` works.
    pub mirrors: Vec<String>,
    /// A PEM file with further certificate authorities.
    pub ca_file: Option<PathBuf>,
    /// The largest archive, in bytes. Intel's are 0.6 MB.
    #[serde(deserialize_with = "numbers::max_bytes")]
    pub max_bytes: u64,
    /// Seconds for one attempt at one URL.
    #[serde(deserialize_with = "numbers::fetch_timeout")]
    pub timeout: u64,
    /// Attempts at one URL before the next is tried.
    #[serde(deserialize_with = "numbers::attempts")]
    pub attempts: u32,
}

impl Default for Fetch {
    fn default() -> Self {
        Fetch { mirrors: Vec::new(), ca_file: None, max_bytes: 64 << 20, timeout: 60, attempts: 3 }
    }
}

/// `[build]`
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Build {
    /// The account that compiles; where it does not exist, the fixed uid of [`crate::driver`] does.
    pub user: String,
    /// Parallel jobs of make; from cores and free memory unless told.
    #[serde(deserialize_with = "numbers::jobs")]
    pub jobs: Option<u32>,
    /// Seconds for one build.
    #[serde(deserialize_with = "numbers::build_timeout")]
    pub timeout: u64,
    /// Whether headers that a kernel came without are installed by the machine's own package manager.
    pub install_headers: bool,
}

impl Default for Build {
    fn default() -> Self {
        Build { user: "vfguard".into(), jobs: None, timeout: 1800, install_headers: true }
    }
}

/// `[sign]`
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Sign {
    /// The private key (PEM); with it and the certificate, built modules are signed.
    pub key: Option<PathBuf>,
    /// Its certificate (DER or PEM).
    pub certificate: Option<PathBuf>,
}

/// `[boot]`
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Boot {
    /// Where the next kernel comes from.
    pub loader: Loader,
    /// Whether `GRUB_DEFAULT=saved` may be written to GRUB's settings, and grub.cfg be made anew, where the default cannot be held otherwise.
    pub edit_grub_defaults: bool,
}

/// `[gate]`
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Gate {
    /// Also refuse poweroff and halt: a stop and start boots the new kernel too.
    pub poweroff: bool,
}

/// `[hook]`
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Hook {
    /// Whether a hook waits for the build; else it returns at once with the gate closed.
    pub wait: bool,
    /// Seconds that a run waits for another that holds the lock.
    #[serde(deserialize_with = "numbers::lock_timeout")]
    pub lock_timeout: u64,
    /// Seconds that a hook may take in all, while the package manager waits; past them the work goes on in the background.
    #[serde(deserialize_with = "numbers::budget")]
    pub budget: u64,
}

impl Default for Hook {
    fn default() -> Self {
        Hook { wait: true, lock_timeout: 1800, budget: 1200 }
    }
}

/// `[rehearse]`
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Rehearse {
    /// Whether headers from a repository whose `gpgcheck` is off need no signature.
    pub allow_unsigned: bool,
}

impl Hook {
    /// [`Hook::lock_timeout`] as a duration.
    pub fn patience(&self) -> Duration {
        Duration::from_secs(self.lock_timeout)
    }
}

impl Config {
    /// Reads the configuration: `file` alone if given, else [`CONFIG`] and its fragments below the root.
    ///
    /// # Errors
    /// A file that cannot be read, is no TOML, holds an unknown key, a wrong type or a number out of its range, or that others may
    /// write.
    pub fn load(host: &Host, file: Option<&Path>) -> Result<Config> {
        let mut merged = toml::Table::new();
        for path in fragments(host, file)? {
            let shown = host.name(&path);
            let text = trust::read_text(&path, &shown)?;
            // Each fragment is checked by itself, so that the error names its file and line.
            toml::from_str::<Config>(&text).map_err(|e| {
                advise(
                    format!("{}: {}", shown.display(), crate::text::redact::scrub(e.to_string().trim_end())),
                    format!("mend {} (`man vfguard` lists the settings)", shown.display()),
                )
            })?;
            merge(&mut merged, toml::from_str(&text)?);
        }
        let config: Config = merged.try_into()?;
        config.validate()?;
        Ok(config)
    }

    fn validate(&self) -> Result<()> {
        let wrong = |key: &str, why: &str| Err(advise(format!("setting {key}: {why}"), format!("mend {key} in {CONFIG}")));
        if self.sign.key.is_some() != self.sign.certificate.is_some() {
            return wrong("sign", "key and certificate are only useful together");
        }
        Ok(())
    }
}

fn fragments(host: &Host, file: Option<&Path>) -> Result<Vec<PathBuf>> {
    if let Some(file) = file {
        return Ok(vec![file.to_owned()]);
    }
    let mut paths = Vec::new();
    // A dangling link is kept, so that reading it says so.
    if host.path_of_link(CONFIG).symlink_metadata().is_ok() {
        paths.push(host.path(CONFIG));
    }
    paths.extend(toml_files(host, FRAGMENTS)?.into_iter().map(|file| host.path(file)));
    Ok(paths)
}

/// The files of a directory that end in `.toml`, by name; none where there is no directory.
///
/// # Errors
/// A directory that cannot be read, or that holds more of them than any machine has.
pub fn toml_files(host: &Host, dir: &str) -> Result<Vec<PathBuf>> {
    let names = match host.read_dir(dir) {
        Ok(names) => names,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(e).remedy(format!("reading {dir}"), format!("make {dir} a readable directory")),
    };
    let toml = names.into_iter().filter(|name| name.to_string_lossy().ends_with(".toml"));
    let files: Vec<PathBuf> = toml.map(|name| Path::new(dir).join(name)).collect();
    if files.len() > MAX_FILES {
        return Err(advise(
            format!("{dir} holds {} files, and at most {MAX_FILES} are read", files.len()),
            format!("put what belongs together into one file, or remove files from {dir}"),
        ));
    }
    Ok(files)
}

fn merge(into: &mut toml::Table, from: toml::Table) {
    for (key, value) in from {
        match (into.get_mut(&key), value) {
            (Some(toml::Value::Table(old)), toml::Value::Table(new)) => merge(old, new),
            (_, value) => {
                into.insert(key, value);
            }
        }
    }
}

#[cfg(test)]
mod tests;
