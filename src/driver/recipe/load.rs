//! Which recipes a machine has.

use super::Recipe;
use crate::config::toml_files;
use crate::error::advise;
use crate::host::files::trust;
use crate::host::Host;
use anyhow::Result;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Recipes that the binary carries, by file name: all of packaging/drivers.d, collected by build.rs.
pub(super) const BUILT_IN: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/recipes.rs"));
/// The driver to use if none is given.
pub const DEFAULT: &str = "ixgbevf";
/// Where recipes on disk are, below the root; later directories win.
const DIRECTORIES: [&str; 2] = ["/usr/lib/vfguard/drivers.d", "/etc/vfguard/drivers.d"];

/// The recipes that the binary carries, in order of name.
///
/// # Errors
/// A built-in recipe is wrong. Tests exclude this for a released binary.
pub fn built_in() -> Result<Vec<Recipe>> {
    BUILT_IN.iter().map(|(name, text)| Recipe::parse(text, &Path::new("built-in").join(name))).collect()
}

/// All recipes of a machine. For each name, the file in `/etc/vfguard/drivers.d` counts, else the one in
/// `/usr/lib/vfguard/drivers.d`, else the built-in one. Those of `/etc` come first, each part sorted by name: if two recipes
/// claim a device, the first counts.
///
/// # Errors
/// A recipe file that cannot be read, that others may write, or that is wrong; two files of one directory with one name.
pub fn recipes(host: &Host) -> Result<Vec<Recipe>> {
    let mut found: BTreeMap<String, (bool, Recipe)> = BTreeMap::new();
    found.extend(built_in()?.into_iter().map(|recipe| (recipe.name.clone(), (false, recipe))));
    for dir in DIRECTORIES {
        let is_local = dir.starts_with("/etc");
        let mut here: BTreeMap<String, Recipe> = BTreeMap::new();
        for shown in toml_files(host, dir)? {
            let recipe = Recipe::parse(&trust::read_text(&host.path(&shown), &shown)?, &shown)?;
            if here.contains_key(&recipe.name) {
                return Err(advise(
                    format!("{}: another file in {dir} is the recipe {} already", shown.display(), recipe.name),
                    format!("remove one of them from {dir}"),
                ));
            }
            here.insert(recipe.name.clone(), recipe);
        }
        found.extend(here.into_iter().map(|(name, recipe)| (name, (is_local, recipe))));
    }
    let (local, shipped): (Vec<_>, Vec<_>) = found.into_values().partition(|(is_local, _)| *is_local);
    Ok(local.into_iter().chain(shipped).map(|(_, recipe)| recipe).collect())
}

/// Whether a recipe is the machine's own: in `/etc/vfguard/drivers.d`.
pub fn is_local(host: &Host, name: &str) -> bool {
    file_of(host, name).is_some_and(|file| file.starts_with("/etc"))
}

/// The file of the recipe that counts for a name, below the root; none if only the binary contains it.
pub fn file_of(host: &Host, name: &str) -> Option<PathBuf> {
    let is = |file: &PathBuf| {
        let recipe = trust::read_text(&host.path(file), file).and_then(|text| Recipe::parse(&text, file));
        recipe.is_ok_and(|r| r.name == name)
    };
    DIRECTORIES.iter().rev().find_map(|dir| toml_files(host, dir).unwrap_or_default().into_iter().find(is))
}
