//! `vfguard man`

use crate::driver::recipe;
use crate::error::Exit;
use crate::print;
use crate::text::Text;
use anyhow::Result;

/// Arguments: none.
#[derive(clap::Args)]
pub struct Args {}

/// Prints the manual page, made from the command definition, packaging/man's chapters and the built-in recipes.
///
/// # Errors
/// When stdout cannot be written.
pub fn run(_: &Args) -> Result<Exit> {
    let mut recipes = Vec::new();
    for recipe in recipe::built_in()? {
        let versions: Vec<&str> = recipe.releases.iter().map(|release| release.version.as_str()).collect();
        recipes.push((recipe.name, format!("Releases {}.", versions.join(", "))));
    }
    print::out(&Text::document(&super::page::page(&super::command(), &recipes)?));
    Ok(Exit::Done)
}
