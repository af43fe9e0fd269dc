//! Collects the recipes that the binary carries, records what builds the program for `vfguard --version`, and links what a release
//! brings along (packaging/build-release.sh).

// It is how cargo is spoken to.
#![allow(clippy::print_stdout)]

use std::path::Path;
use std::process::Command;
use std::{env, fs, io};

/// Each `.toml` file of this directory is a recipe that the binary carries; the packages install the same files.
const RECIPES: &str = "packaging/drivers.d";

fn main() {
    // Named, so that nothing else has this script run again.
    for name in ["RUSTC", "VFGUARD_C_COMPILER", "VFGUARD_LINK"] {
        println!("cargo:rerun-if-env-changed={name}");
    }
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed={RECIPES}");
    let list = recipes(Path::new(RECIPES)).expect("packaging/drivers.d can be read");
    let out = env::var_os("OUT_DIR").expect("cargo names the output directory");
    fs::write(Path::new(&out).join("recipes.rs"), list).expect("the output directory can be written");
    let rustc = env::var_os("RUSTC").expect("cargo names the compiler");
    let told = Command::new(rustc).arg("--version").output().expect("the compiler runs");
    let mut toolchain = String::from_utf8_lossy(&told.stdout).trim().to_owned();
    if let Ok(compiler) = env::var("VFGUARD_C_COMPILER") {
        toolchain = format!("{toolchain}, {compiler}");
    }
    println!("cargo:rustc-env=VFGUARD_TOOLCHAIN={toolchain}");
    // Not by RUSTFLAGS, of which cargo makes the names of symbols: they would differ from clone to clone.
    if let Ok(object) = env::var("VFGUARD_LINK") {
        println!("cargo:rerun-if-changed={object}");
        println!("cargo:rustc-link-arg-bins={object}");
    }
}

/// A Rust expression: a slice of (file name, text) in order of name. The order of the directory differs from machine to machine, and
/// so does the clone's path, which is not in the list: two clones make the same binary.
pub fn recipes(dir: &Path) -> io::Result<String> {
    let mut names = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        // As the packages' `*.toml` has it: no hidden file, and nothing that an editor leaves behind.
        let is_recipe = |name: &str| name.ends_with(".toml") && !name.starts_with('.');
        if is_recipe(&entry.file_name().to_string_lossy()) && entry.path().is_file() {
            names.push(entry.file_name().into_string().map_err(|name| io::Error::other(format!("{name:?} is not UTF-8")))?);
        }
    }
    names.sort();
    let mut list = String::from("&[\n");
    for name in names {
        let path = format!("/{RECIPES}/{name}");
        list += &format!("    ({name:?}, include_str!(concat!(env!(\"CARGO_MANIFEST_DIR\"), {path:?}))),\n");
    }
    Ok(list + "]\n")
}
