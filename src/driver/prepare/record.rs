//! The result of a kernel's last preparation: `/var/lib/vfguard/records/K.json`. Old results never make a kernel safe: a
//! verdict is computed from the modules on disk, and the record only says why there is none.

use crate::driver::digest::Hasher;
use crate::driver::Recipe;
use crate::finding::Finding;
use crate::host::devices::pci::Device;
use crate::host::Host;
use crate::kernel::tree::{BuildTree, Tree};
use crate::kernel::KernelRelease;
use anyhow::Result;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// Where records are, below the root.
const DIR: &str = "/var/lib/vfguard/records";

/// The record of one kernel.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Record {
    schema: u32,
    drivers: BTreeMap<String, RecordEntry>,
}

/// The last preparation of one driver.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct RecordEntry {
    /// When, in UTC.
    pub time: String,
    /// The release that was installed; none after a failure.
    pub version: Option<String>,
    /// Why it failed, or other findings to report.
    pub findings: Vec<Finding>,
    /// A digest of what the result depends on; only for a failure that would happen again.
    pub inputs: Option<String>,
    /// A digest of the recipe that was used.
    pub recipe: String,
    /// The build log, below the root.
    pub log: Option<PathBuf>,
    /// How the build was contained.
    pub sandbox: String,
}

fn path(kernel: &KernelRelease) -> PathBuf {
    Path::new(DIR).join(format!("{kernel}.json"))
}

/// A record that cannot be read counts as empty.
fn read(host: &Host, kernel: &KernelRelease) -> Record {
    host.read(path(kernel)).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
}

/// Writes the result of a preparation.
///
/// # Errors
/// Those of writing.
pub(super) fn write(host: &Host, kernel: &KernelRelease, recipe: &Recipe, mut entry: RecordEntry) -> Result<()> {
    let mut record = read(host, kernel);
    record.schema = 1;
    entry.time = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    entry.recipe = digest_of(recipe);
    record.drivers.insert(recipe.name.clone(), entry);
    host.write_atomic(path(kernel), &serde_json::to_vec_pretty(&record)?, 0o644)
}

/// Writes the result of a preparation from an archive that a person named. Its failure says nothing about the recipe's
/// releases, so what is known about those stays.
///
/// # Errors
/// Those of writing.
pub(super) fn write_beside(host: &Host, kernel: &KernelRelease, recipe: &Recipe, entry: RecordEntry) -> Result<()> {
    let known = read(host, kernel).drivers.remove(&recipe.name);
    let known = known.filter(|known| {
        let counts = known.inputs.is_some() && known.recipe == digest_of(recipe);
        counts && entry.version.is_none()
    });
    write(host, kernel, recipe, known.unwrap_or(entry))
}

/// Why the last preparation of a kernel failed; empty if it did not fail. Findings with an older recipe are left out: the
/// recipe may have been changed because of them.
pub fn last_failure(host: &Host, kernel: &KernelRelease, recipes: &[Rc<Recipe>]) -> Vec<Finding> {
    let same = |name: &str, entry: &RecordEntry| recipes.iter().any(|r| r.name == name && digest_of(r) == entry.recipe);
    let failures = read(host, kernel).drivers.into_iter().filter(|(name, e)| e.version.is_none() && same(name, e));
    failures.flat_map(|(_, e)| e.findings).collect()
}

fn digest_of(recipe: &Recipe) -> String {
    let mut hasher = Hasher::default();
    hasher.update(&serde_json::to_vec(recipe).unwrap_or_default());
    hasher.finish().to_string()
}

/// Whether preparing would fail again as it did the last time, because nothing that a build depends on has changed. A
/// failure that can go away by itself (network, disk, memory, headers) is not remembered this way; it only pauses automatic
/// runs where it would trigger them itself.
pub fn would_fail_again(tree: &Tree, recipe: &Recipe, devices: &[Device]) -> bool {
    let (host, kernel) = (tree.host, tree.release);
    if crate::driver::rest::is_on(host, kernel) {
        return true;
    }
    let record = read(host, kernel);
    let Some(entry) = record.drivers.get(&recipe.name).filter(|e| e.version.is_none()) else { return false };
    match entry.inputs.as_ref().map(|inputs| (inputs, tree.get())) {
        Some((inputs, Ok(tree))) => {
            let claimed: Vec<&Device> = devices.iter().filter(|d| recipe.claims(&d.modalias)).collect();
            *inputs == self::inputs(host, recipe, tree, &claimed)
        }
        None | Some((_, Err(_))) => false,
    }
}

/// A digest of everything that decides how a build ends: the recipe with its pins, K's tree, extra symbol tables, the
/// compiler, and the devices that the module must claim.
pub(super) fn inputs(host: &Host, recipe: &Recipe, tree: &BuildTree, devices: &[&Device]) -> String {
    let mut hasher = Hasher::default();
    hasher.update(digest_of(recipe).as_bytes());
    let compiler = crate::driver::build::preflight::compiler(tree, recipe).and_then(|p| fs::canonicalize(p).ok());
    let mut modaliases: Vec<&str> = devices.iter().map(|d| d.modalias.as_str()).collect();
    modaliases.sort_unstable();
    modaliases.dedup();
    hasher.update(modaliases.join("\n").as_bytes());
    let elsewhere = recipe.symvers_of(&tree.release).into_iter().map(|path| host.path(path));
    for file in [Some(tree.symvers.clone()), compiler].into_iter().flatten().chain(elsewhere) {
        let stamp = fs::metadata(&file).map(|m| (m.len(), m.mtime(), m.mtime_nsec(), m.ino()));
        hasher.update(format!("{} {stamp:?}\n", file.display()).as_bytes());
    }
    hasher.finish().to_string()
}
