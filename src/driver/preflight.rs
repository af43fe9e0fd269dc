//! What a build needs, looked for before it starts: each thing with the command that installs it.

use super::sandbox_run::free;
use crate::finding::{Code, Finding};
use crate::host::packages::Packages;
use crate::host::{command, Host};
use crate::kernel::tree::{install_headers, BuildTree};
use std::path::Path;

/// Room that a build takes on the disk, with the module, its copies and the log: 40 MB were measured for ixgbevf.
const DISK: u64 = 128 << 20;

/// Looks for everything.
///
/// # Errors
/// The first thing that is missing.
pub fn preflight(host: &Host, tree: &BuildTree, work: &Path) -> Result<(), Finding> {
    for (program, what) in [("make", "make"), ("ld", "binutils"), ("strip", "binutils")] {
        need(program, what)?;
    }
    let compiler = compiler(tree);
    need(&compiler, without_target(&compiler))?;
    if tree.script(host, "scripts/mod/modpost").is_none() {
        return Err(Finding::refuse(
            Code::HeadersMissing,
            format!("{} has no scripts/mod/modpost: the headers of {} are incomplete", tree.ksrc.display(), tree.release),
            install_headers(host, &tree.release),
        ));
    }
    if tree.needs_pahole() {
        need("pahole", "dwarves")?;
    }
    match free(work) {
        Some((bytes, _)) if bytes < DISK => Err(Finding::refuse(
            Code::BuildFailed,
            format!("{} has {} MB of free disk, a build needs {}", work.display(), bytes >> 20, DISK >> 20),
            format!("free disk space (df -h {})", work.display()),
        )),
        Some(_) | None => Ok(()),
    }
}

fn need(program: &str, name: &str) -> Result<(), Finding> {
    if command::find(program).is_some() {
        return Ok(());
    }
    Err(Finding::refuse(Code::BuildFailed, format!("{program} is not installed, and the build needs it"), package(name)))
}

/// The compiler that the build will call. Debian's headers name it with its version (`.kernelvariables`); elsewhere it is
/// `gcc`, whatever its version.
fn compiler(tree: &BuildTree) -> String {
    let built_with = tree.compiler().and_then(|c| c.split_whitespace().next()).unwrap_or("gcc");
    if tree.is_set("CONFIG_CC_IS_CLANG") {
        return "clang".into();
    }
    if tree.objects().join(".kernelvariables").is_file() {
        return built_with.to_owned();
    }
    "gcc".into()
}

/// `gcc-12` of `x86_64-linux-gnu-gcc-12`: the package of the same name holds both programs.
fn without_target(program: &str) -> &str {
    program.find("gcc").map_or(program, |at| &program[at..])
}

/// The command that installs a package on the machine that builds.
pub(super) fn package(name: &str) -> String {
    let name_rpm = match name {
        "build-essential" => "gcc make binutils",
        other => other,
    };
    Packages::here().map_or_else(|_| format!("install {name_rpm}"), |p| p.line(name, name_rpm))
}
