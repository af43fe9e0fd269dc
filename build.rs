//! Records what builds the program, for `vfguard --version`, and links what a release brings along (packaging/build-release.sh).

// It is how cargo is spoken to.
#![allow(clippy::print_stdout)]

use std::env;
use std::process::Command;

fn main() {
    // Named, so that nothing else has this script run again.
    for name in ["RUSTC", "VFGUARD_C_COMPILER", "VFGUARD_LINK"] {
        println!("cargo:rerun-if-env-changed={name}");
    }
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
