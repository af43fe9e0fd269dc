//! The configuration in three stages: files on disk, merged into one table, validated into [`Config`]. Defaults are next to
//! the fields.
//!
//! First `/etc/vfguard/config.toml`, then `/etc/vfguard/config.d/*.toml` in order of name. Later values override earlier
//! ones, key by key.

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
/// The largest number of fragments or recipes in one directory; machines have a handful.
const MAX_FILES: usize = 64;

/// Whether vfguard acts or only reports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// The gate and the boot default are used.
    #[default]
    Enforce,
    /// Full reports and exit codes; no gate, no hold.
    Observe,
}

/// When the in-tree driver is good enough.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AcceptInTree {
    /// If the driver bound now is the in-tree one, or none is bound.
    #[default]
    Auto,
    /// Whenever the verifier accepts it.
    Always,
    /// Never: the recipe's driver is required.
    Never,
    /// As [`AcceptInTree::Auto`], and also if no release of the recipe's driver builds.
    Fallback,
}

/// How the next kernel is determined.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Loader {
    /// From the boot loader's files in `/boot`.
    #[default]
    Auto,
    /// It is set outside of the guest, so every installed kernel is judged.
    None,
}

/// All settings.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Enforce or observe.
    pub mode: Mode,
    /// When the in-tree driver is good enough.
    pub accept_in_tree: AcceptInTree,
    /// Drivers to build in any case.
    pub drivers: Drivers,
    /// How archives are downloaded.
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
    /// Recipes that are needed even if their device is not present.
    pub required: Vec<String>,
}

/// `[fetch]`
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Fetch {
    /// Base URLs tried first; the archive's file name is appended. `file://` is supported.
    pub mirrors: Vec<String>,
    /// A PEM file with further certificate authorities.
    pub ca_file: Option<PathBuf>,
    /// The largest archive, in bytes. Intel's have 0.6 MB.
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
    /// The account that compiles; if it does not exist, the fixed uid of [`crate::driver`].
    pub user: String,
    /// Parallel jobs of make; the default depends on cores and free memory.
    #[serde(deserialize_with = "numbers::jobs")]
    pub jobs: Option<u32>,
    /// Seconds for one build.
    #[serde(deserialize_with = "numbers::build_timeout")]
    pub timeout: u64,
    /// Whether the machine's own package manager may install missing headers of a kernel.
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
    /// The private key (PEM). If it and the certificate are set, built modules are signed.
    pub key: Option<PathBuf>,
    /// Its certificate (DER or PEM).
    pub certificate: Option<PathBuf>,
}

/// `[boot]`
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Boot {
    /// How the next kernel is determined.
    pub loader: Loader,
    /// Whether `GRUB_DEFAULT=saved` may be written to GRUB's settings, and grub.cfg be regenerated, if the default cannot be
    /// held otherwise.
    pub edit_grub_defaults: bool,
}

/// `[gate]`
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Gate {
    /// Also refuse poweroff and halt, because a stop and start boots the new kernel too.
    pub poweroff: bool,
}

/// `[hook]`
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Hook {
    /// Whether a hook waits for the build; else it returns at once with the gate closed.
    pub wait: bool,
    /// Seconds that a run waits for another run that has the lock.
    #[serde(deserialize_with = "numbers::lock_timeout")]
    pub lock_timeout: u64,
    /// Seconds that a hook may take in total while the package manager waits. After that the work goes on in the background.
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
    /// Whether headers from a repository with `gpgcheck` off are accepted without a signature.
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
    /// When a file cannot be read, is not TOML, has an unknown key, a wrong type or a number out of its range, or when other
    /// users may write it.
    pub fn load(host: &Host, file: Option<&Path>) -> Result<Config> {
        let mut merged = toml::Table::new();
        for path in fragments(host, file)? {
            let shown = host.name(&path);
            let text = trust::read_text(&path, &shown)?;
            // Each fragment is checked separately, so that the error names its file and line.
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
    // A dangling symbolic link is kept, so that reading it gives an error.
    if host.path_of_link(CONFIG).symlink_metadata().is_ok() {
        paths.push(host.path(CONFIG));
    }
    paths.extend(toml_files(host, FRAGMENTS)?.into_iter().map(|file| host.path(file)));
    Ok(paths)
}

/// The files of a directory that end in `.toml`, sorted by name; none if there is no directory.
///
/// # Errors
/// When a directory cannot be read, or has more of them than any machine would.
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
