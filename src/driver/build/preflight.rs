//! Checks that everything a build needs is there, before it starts and in `doctor`. Each missing thing comes with the
//! command that installs it. K's own tree is read for this, since it says what make will call.

use super::packages::{names, package, program_package, ELFUTILS, ELFUTILS_HEADERS, LIBELF};
use super::toolchain::Toolchain;
use crate::driver::sandbox::watch::free;
use crate::driver::Recipe;
use crate::finding::{Fact, Finding};
use crate::host::{command, files, Host, MAX_FILE};
use crate::kernel::tree::{install_headers, BuildTree};
use std::path::{Path, PathBuf};

/// Disk space that a build takes, with the module, its copies and the log: 40 MB were measured for ixgbevf.
const DISK: u64 = 128 << 20;
/// Programs of the kernel's tree that make runs for any module.
const OWN_PROGRAMS: [&str; 2] = ["scripts/basic/fixdep", "scripts/mod/modpost"];
/// A program that make runs if `CONFIG_OBJTOOL` is set (since 5.19; older makefiles skip it if it does not exist).
const OBJTOOL: &str = "tools/objtool/objtool";
/// The error with which the makefiles of 4.15 to 4.20 and of EL8 stop if libelf cannot be linked with.
const ORC: &str = "$(error \"Cannot generate ORC metadata";
/// Where the dynamic linker looks by default (ld.so(8)), including the machine's own directory for 64-bit libraries.
const LIBRARIES: [&str; 6] = ["/lib64", "/usr/lib64", "/lib", "/usr/lib", "/usr/local/lib", "/usr/local/lib64"];

/// Checks everything that a build needs, and that there is room to build in.
///
/// # Errors
/// The first missing thing without which no build works.
pub fn preflight(host: &Host, tree: &BuildTree, recipe: &Recipe, work: &Path) -> Result<(), Finding> {
    if let Some(finding) = missing(host, tree, recipe).into_iter().find(|f| f.refuses()) {
        return Err(finding);
    }
    match free(work) {
        Some((bytes, _)) if bytes < DISK => Err(Finding::new(
            Fact::BuildFailed,
            format!("{} has {} MB of free disk, a build needs {}", work.display(), bytes >> 20, DISK >> 20),
            format!("free disk space (df -h {})", work.display()),
        )),
        Some(_) | None => Ok(()),
    }
}

/// What is missing of the programs that make and the later steps call for a kernel. Programs that only the makefiles of some
/// releases call are warnings.
pub fn missing(host: &Host, tree: &BuildTree, recipe: &Recipe) -> Vec<Finding> {
    let mut found = Vec::new();
    for (program, names) in programs(tree, recipe) {
        if command::find(&program).is_none() {
            found.push(lacking(&format!("{program} is not installed"), names));
        }
    }
    for program in OFTEN.into_iter().filter(|program| command::find(program).is_none()) {
        let detail = format!("{program} is not installed, and makefiles of many drivers call it");
        found.push(Finding::new(Fact::ProgramMayBeNeeded, detail, program_package(program)));
    }
    let objtool = tree.is_set("CONFIG_OBJTOOL").then_some(OBJTOOL);
    for program in OWN_PROGRAMS.into_iter().chain(objtool) {
        let Some(file) = tree.script(host, program) else {
            found.push(Finding::new(
                Fact::HeadersMissing,
                format!("{} has no {program}: the headers of {} are incomplete", tree.ksrc.display(), tree.release),
                install_headers(host, &tree.release),
            ));
            continue;
        };
        if wants(&file, LIBELF) && !library(LIBELF) {
            found.push(lacking(&format!("{LIBELF}, which {program} is linked with, is not installed"), ELFUTILS));
        }
    }
    let makefile = || files::read_bounded(&tree.ksrc.join("Makefile"), MAX_FILE).unwrap_or_default();
    if tree.is_set("CONFIG_UNWINDER_ORC") && contains(&makefile(), ORC.as_bytes()) && !linkable("libelf") {
        let what = format!("the kernel's makefile links with libelf, whose headers are not installed (for {OBJTOOL})");
        found.push(lacking(&what, ELFUTILS_HEADERS));
    }
    found
}

/// Programs that every build needs; a kernel's tree may add more. kbuild calls the last three, and so do the makefiles of
/// drivers.
pub const ALWAYS: [&str; 8] = ["make", "gcc", "ld", "strip", "depmod", "awk", "sed", "grep"];
/// Programs that some makefiles of drivers call too (ixgbevf since 5.2.2 finds its shell with `which`, ena its headers with
/// `find`). Other releases build without them.
const OFTEN: [&str; 2] = ["which", "find"];

/// The programs of this machine that make calls for a kernel, and strip and depmod; each with its package in deb and rpm.
pub fn programs(tree: &BuildTree, recipe: &Recipe) -> Vec<(String, (String, String))> {
    let tools = Toolchain::of(tree, recipe);
    let named =
        |program: &str| (program.to_owned(), names(program).unwrap_or_else(|| (program.to_owned(), program.to_owned())));
    let mut all = vec![named("make")];
    all.extend(tools.compiler.split_whitespace().filter(|word| !word.starts_with('-')).map(named));
    all.push((format!("{}ld", tools.prefix), named("ld").1));
    all.push(named("strip"));
    if tree.needs_pahole() {
        all.push(named("pahole"));
    }
    all.extend(["depmod", "awk", "sed", "grep"].map(named));
    all
}

/// The compiler that make will call for a kernel, if it is installed.
pub(in crate::driver) fn compiler(tree: &BuildTree, recipe: &Recipe) -> Option<PathBuf> {
    let tools = Toolchain::of(tree, recipe);
    command::find(tools.compiler.split_whitespace().last()?)
}

/// The name of that compiler.
pub(in crate::driver) fn compiler_name(tree: &BuildTree, recipe: &Recipe) -> String {
    Toolchain::of(tree, recipe).compiler
}

fn lacking(what: &str, names: (impl AsRef<str>, impl AsRef<str>)) -> Finding {
    let remedy = package(names.0.as_ref(), names.1.as_ref());
    Finding::new(Fact::BuildFailed, format!("{what}, and the build needs it"), remedy)
}

/// Whether a program is linked with a library. The program's string table then contains its name.
fn wants(program: &Path, library: &str) -> bool {
    files::read_bounded(program, MAX_FILE).is_ok_and(|bytes| contains(&bytes, format!("{library}\0").as_bytes()))
}

/// Whether the dynamic linker of this machine finds a library, through its cache or in its default directories.
fn library(name: &str) -> bool {
    let cached = || std::fs::read("/etc/ld.so.cache").is_ok_and(|cache| contains(&cache, format!("{name}\0").as_bytes()));
    library_dirs().any(|dir| dir.join(name).is_file()) || cached()
}

/// Whether the linker resolves `-lNAME`.
fn linkable(name: &str) -> bool {
    library_dirs().any(|dir| [".so", ".a"].iter().any(|suffix| dir.join(format!("{name}{suffix}")).is_file()))
}

fn library_dirs() -> impl Iterator<Item = PathBuf> {
    let multiarch = ["/lib", "/usr/lib"].map(|d| PathBuf::from(format!("{d}/{}-linux-gnu", std::env::consts::ARCH)));
    LIBRARIES.iter().map(PathBuf::from).chain(multiarch)
}

fn contains(bytes: &[u8], text: &[u8]) -> bool {
    memchr::memmem::find(bytes, text).is_some()
}

#[cfg(test)]
mod tests {
    use super::super::toolchain::KERNEL_VARIABLES;
    use super::*;
    use crate::finding::Code;

    /// From Debian 12's headers for 6.1 and for 6.12.
    const DEBIAN_61: &str =
        "override ARCH = x86\noverride KERNELRELEASE = 6.1.0-56-amd64\nCCACHE = ccache\nCC = $(if $(DEBIAN_KERNEL_USE_CCACHE),$(CCACHE)) \
         $(CROSS_COMPILE)gcc-12\nifneq ($(DEB_BUILD_ARCH),$(DEB_HOST_ARCH))\noverride CROSS_COMPILE = $(DEB_HOST_GNU_TYPE)-\nendif\n";
    const DEBIAN_612: &str =
        "CC = $(if $(DEBIAN_KERNEL_USE_CCACHE),$(CCACHE)) $(CROSS_COMPILE)gcc-12\nDEB_BUILD_ARCH ?= $(shell dpkg \
         --print-architecture)\noverride CROSS_COMPILE = x86_64-linux-gnu-\n";

    /// The programs found for a tree with these variables, configuration and makefile, and a recipe with these settings.
    fn asked(variables: Option<&str>, config: &str, makefile: &str, make: &str) -> (Vec<String>, Vec<Finding>) {
        let (_dir, host, tree, recipe) = given(variables, config, makefile, make);
        (programs(&tree, &recipe).into_iter().map(|(p, _)| p).collect(), missing(&host, &tree, &recipe))
    }

    fn given(
        variables: Option<&str>,
        config: &str,
        makefile: &str,
        make: &str,
    ) -> (tempfile::TempDir, Host, BuildTree, Recipe) {
        let dir = tempfile::tempdir().unwrap();
        let host = Host::new(dir.path()).unwrap();
        let tree = "/usr/src/kernels/6.1";
        let write = |name: &str, text: &str| host.write_atomic(format!("{tree}/{name}"), text.as_bytes(), 0o755).unwrap();
        write("include/generated/utsrelease.h", "#define UTS_RELEASE \"6.1\"\n");
        write("include/linux/module.h", "");
        write("include/config/auto.conf", config);
        write("Module.symvers", "x");
        write("Makefile", makefile);
        OWN_PROGRAMS.iter().for_each(|program| write(program, ""));
        variables.iter().for_each(|text| write(KERNEL_VARIABLES, text));
        let recipe = format!(
            "name = 'x'\ndevices = ['pci:v1*']\nmake = [{make}]\n[[releases]]\nversion = '1'\nurls = ['file:///x']\nsha256 = '{}'\n",
            "a".repeat(64)
        );
        let recipe = Recipe::parse(&recipe, Path::new("x.toml")).unwrap();
        let tree = crate::kernel::tree::build_tree(&host, &"6.1".parse().unwrap()).unwrap();
        (dir, host, tree, recipe)
    }

    #[test]
    fn a_compiler_that_only_the_configuration_names_is_passed_to_make_and_no_other() {
        for (variables, config, make, said) in [
            (None, "", "", None),
            (None, "CONFIG_CC_IS_CLANG=y\n", "", Some("CC=clang")),
            (Some(DEBIAN_61), "CONFIG_CC_VERSION_TEXT=gcc-12 (Debian 12.2.0) 12.2.0\n", "", None),
            (None, "CONFIG_CC_IS_CLANG=y\n", "'CC=clang-15'", Some("CC=clang-15")),
        ] {
            let (_dir, _host, tree, recipe) = given(variables, config, "", make);
            let spec = super::super::make(&tree, &recipe, None, &[], 1, std::time::Duration::ZERO);
            let compilers: Vec<_> = spec.args.iter().filter_map(|a| a.to_str().filter(|a| a.starts_with("CC="))).collect();
            assert_eq!(compilers, Vec::from_iter(said), "{variables:?} {config} {make}");
        }
    }

    #[test]
    fn the_programs_checked_are_those_that_make_will_call() {
        for (variables, config, make, expected) in [
            (None, "", "", "gcc ld"),
            // EL's configuration names its compiler too, but its makefile calls gcc.
            (None, "CONFIG_CC_VERSION_TEXT=\"gcc (GCC) 11.4.1 20231218 (Red Hat 11.4.1-3)\"\n", "", "gcc ld"),
            (Some(DEBIAN_61), "", "", "gcc-12 ld"),
            (Some(DEBIAN_612), "", "", "x86_64-linux-gnu-gcc-12 x86_64-linux-gnu-ld"),
            (Some("CC = $(if x,ccache) $(CROSS_COMPILE)gcc-4.9\n"), "", "", "gcc-4.9 ld"),
            (Some("CC = $(shell which gcc)\n"), "", "", "gcc ld"),
            (Some(DEBIAN_61), "", "'CC=ccache gcc-11 -m64'", "ccache gcc-11 ld"),
            (None, "CONFIG_CC_IS_CLANG=y\n", "", "clang ld"),
        ] {
            let (programs, _) = asked(variables, config, "", make);
            assert_eq!(
                programs.join(" "),
                format!("make {expected} strip depmod awk sed grep"),
                "{variables:?} {config} {make}"
            );
        }
    }

    #[test]
    fn programs_missing_in_the_kernels_tree_are_reported() {
        let (_, found) = asked(None, "CONFIG_OBJTOOL=y\n", "", "");
        let found: Vec<_> = found.iter().filter(|f| f.code == Code::HeadersMissing).collect();
        assert!(found.len() == 1 && found[0].detail.contains("has no tools/objtool/objtool"), "{found:?}");
        // From EL8's makefile. Other makefiles do not link with that library.
        let makefile =
            format!("ifdef CONFIG_UNWINDER_ORC\n{ORC} for CONFIG_UNWINDER_ORC=y, please install libelf-dev\")\nendif\n");
        for (config, wanted) in [("CONFIG_UNWINDER_ORC=y\n", !linkable("libelf")), ("", false)] {
            let (_, found) = asked(None, config, &makefile, "");
            assert_eq!(found.iter().any(|f| f.detail.contains("links with libelf")), wanted, "{found:?}");
        }
    }
}
