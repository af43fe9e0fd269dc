//! What a failed build's output means: a cause, the line that shows it, and what to do.

use super::preflight;
use crate::driver::{recipe, Recipe};
use crate::host::Host;
use crate::kernel::tree::{reinstall_headers, BuildTree};

/// Why a build failed, as far as its output tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// A header that the source includes is not in K's tree.
    Header,
    /// The kernel's interfaces are others than the source was written for.
    Api,
    /// The compiler is another one than K's makefiles are for: it does not know a flag, or a plugin does not fit.
    Flag,
    /// pahole is missing or failed.
    Pahole,
    /// An old makefile and a compiler that makes position-independent programs by default.
    Pie,
    /// A program that the build calls is missing.
    Tool,
    /// A library that a program of K's tree is linked with is missing.
    Library,
    /// The makefile takes K's sources for the whole tree, and what was generated lies apart.
    Split,
    /// Something is missing in K's tree itself.
    Tree,
    /// The makefile writes where a build has no business.
    Outside,
    /// The disk is full.
    Disk,
    /// A process was killed, most often for want of memory.
    Killed,
    /// Something else.
    Other,
}

/// What was to be built: a remedy names it.
#[derive(Clone, Copy)]
pub struct Subject<'a> {
    /// The machine.
    pub host: &'a Host,
    /// The driver.
    pub recipe: &'a Recipe,
    /// The kernel's tree.
    pub tree: &'a BuildTree,
}

impl Subject<'_> {
    /// Settings for make that a person is to write into the recipe, and where.
    fn set_make(self, make: &[String]) -> String {
        let name = &self.recipe.name;
        let own = format!("/etc/vfguard/drivers.d/{name}.toml");
        let place = match recipe::file_of(self.host, name) {
            Some(file) if file.starts_with("/etc") => format!("write into {}", file.display()),
            Some(file) => format!("cp {} {own}; write into the copy", file.display()),
            None => format!("write the recipe of {name} to {own}, with"),
        };
        let make: Vec<String> = make.iter().map(|m| toml::Value::from(m.as_str()).to_string()).collect();
        format!("{place}, above its first [[releases]]: make = [{}]; then the same command again", make.join(", "))
    }

    /// A release, or an archive, that fits.
    fn another(self) -> String {
        let (kernel, name) = (&self.tree.release, &self.recipe.name);
        format!(
            "name a release of the driver that fits: vfguard prepare {kernel} --driver {name} --source FILE --sha256 HEX; \
             or stay on this kernel: vfguard decline {kernel}"
        )
    }
}

impl Cause {
    /// Whether another release of the driver may do better; else it would only fail again.
    pub fn is_the_sources(self) -> bool {
        match self {
            Cause::Header | Cause::Api | Cause::Pie | Cause::Split | Cause::Outside | Cause::Other => true,
            Cause::Flag | Cause::Pahole | Cause::Tool | Cause::Library | Cause::Tree | Cause::Disk | Cause::Killed => false,
        }
    }

    /// Whether it would only happen again with the same source, recipe, tree and compiler. What is not understood may be
    /// anything, also what a person mends elsewhere.
    pub fn lasts(self) -> bool {
        match self {
            Cause::Header | Cause::Api | Cause::Pie | Cause::Split | Cause::Outside => true,
            Cause::Flag
            | Cause::Pahole
            | Cause::Tool
            | Cause::Library
            | Cause::Tree
            | Cause::Disk
            | Cause::Killed
            | Cause::Other => false,
        }
    }

    /// In words.
    pub fn words(self) -> &'static str {
        match self {
            Cause::Header => "a header that this release of the driver includes is not in the kernel's tree",
            Cause::Api => "this release of the driver was written for other kernels",
            Cause::Flag => "the compiler does not know a flag that the kernel's makefiles give it, or is not the kernel's",
            Cause::Pahole => "pahole, which this kernel's headers demand, is missing or failed",
            Cause::Pie => {
                "this old makefile does not go with a compiler that makes position-independent programs by default"
            }
            Cause::Tool => "a program that the build calls is missing",
            Cause::Library => "a library that the kernel's headers need is missing",
            Cause::Split => "this makefile ignores KOBJ, where the configuration of this kernel's headers is; KSRC has none",
            Cause::Tree => "the kernel's headers are incomplete",
            Cause::Outside => "this makefile writes outside of its own directory, which a build may not",
            Cause::Disk => "the disk is full",
            Cause::Killed => "a process of the build was killed, most often for want of memory",
            Cause::Other => "the build failed",
        }
    }

    /// What to do about it; `line` is the one that shows it.
    pub fn remedy(self, on: Subject<'_>, line: &str) -> String {
        let kernel = &on.tree.release;
        match self {
            Cause::Header | Cause::Api | Cause::Pie | Cause::Outside | Cause::Other => on.another(),
            Cause::Split => {
                let make = &on.recipe.make;
                let one_tree: Vec<String> =
                    make.iter().filter(|m| !m.contains("{build}")).map(|m| m.replace("{source}", "{build}")).collect();
                // Where the recipe gave it the right directory already, its makefile looks elsewhere.
                if one_tree.iter().any(|m| m.contains("{build}")) {
                    on.set_make(&one_tree)
                } else {
                    on.another()
                }
            }
            Cause::Tree => reinstall_headers(on.host, kernel),
            Cause::Flag => compiler(on),
            Cause::Pahole => preflight::package("dwarves", "dwarves"),
            Cause::Tool => preflight::package("build-essential", "gcc make binutils"),
            Cause::Library => preflight::library_package(line),
            Cause::Disk => format!("free disk space (df -h /var/cache/vfguard), then: vfguard prepare {kernel}"),
            Cause::Killed => format!("free memory or use fewer jobs: vfguard prepare {kernel} --jobs 1"),
        }
    }
}

/// The compiler that the kernel was built with, and how make comes to call it.
fn compiler(on: Subject<'_>) -> String {
    let Some(told) = on.tree.compiler() else {
        return "install the compiler that the kernel was built with, then: vfguard prepare".into();
    };
    let install = format!("install the compiler that the kernel was built with ({told})");
    let (wanted, called) = (told.split(' ').next().unwrap_or(told), preflight::compiler_name(on.tree, on.recipe));
    let versioned = wanted.ends_with(|c: char| c.is_ascii_digit());
    if !versioned || wanted.ends_with(&called) || called.ends_with(wanted) {
        return format!("{install}, then: vfguard prepare {}", on.tree.release);
    }
    let mut make = on.recipe.make.clone();
    make.retain(|m| !m.starts_with("CC="));
    make.push(format!("CC={wanted}"));
    format!("{install}, and have make call it instead of {called}: {}", on.set_make(&make))
}

/// A cause with the line that shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnosis {
    /// Why.
    pub cause: Cause,
    /// The compiler's first error with file and line, else the line that tells most.
    pub line: String,
}

/// Words that make a line worth keeping.
const TELLING: [&str; 16] = [
    "error:",
    "ERROR:",
    "Error ",
    "No space left",
    "not found",
    "No such file",
    "undefined!",
    "unrecognized option",
    "base BTF",
    "was removed",
    "Killed",
    "killed",
    "out of memory",
    "memory exhausted",
    "Cannot allocate",
    "***",
];

pub(super) fn is_telling(line: &str) -> bool {
    TELLING.iter().any(|word| line.contains(word)) || SIGNS.iter().any(|(_, signs)| signs.iter().any(|s| line.contains(s)))
}

/// `make: *** …`, `make[2]: *** …` or `Makefile:60: *** …`: where make itself says that it ends.
pub(super) fn is_makes_own(line: &str) -> bool {
    line.split_once(": *** ").is_some_and(|(who, _)| !who.is_empty() && !who.contains(' '))
}

/// Make's own line; where that names a failed command and nothing else, what was printed before it as well.
pub(super) fn makes_own(line: &str, before: &str) -> String {
    match line.rsplit_once("] ") {
        Some((_, end)) if end.starts_with("Error ") && !before.is_empty() => format!("{before} ({line})"),
        Some(_) | None => line.to_owned(),
    }
}

/// Causes by what gives them away, the most certain first. What kbuild says is of its makefiles and scripts, 2.6.32 to 6.12.
const SIGNS: [(Cause, &[&str]); 14] = [
    (Cause::Disk, &["No space left on device", "Disk quota exceeded"]),
    (
        Cause::Pahole,
        &[
            "pahole: not found",
            "pahole: command not found",
            "pahole: No such file",
            "pahole: Permission denied",
            // Too old for the flags of this kernel's makefiles, or for what is in its vmlinux.
            "pahole: unrecognized option",
            "Failed to parse base BTF",
        ],
    ),
    (
        Cause::Killed,
        &[
            // Killed or out of its address space: no source makes a good compiler end so.
            "signal terminated program",
            "internal compiler error",
            "memory exhausted",
            "out of memory",
            "Cannot allocate memory",
            // A shared library that is there.
            "failed to map segment from shared object",
            "] Killed",
            "Error 137",
        ],
    ),
    (Cause::Pie, &["code model kernel does not support PIC mode", "code model 'kernel' is not supported in PIC"]),
    (
        Cause::Flag,
        &[
            "unrecognized command-line option",
            "unrecognized command line option",
            "unknown argument:",
            "bad value (",
            // Plugins of the kernel's own build, of another release of gcc.
            "incompatible gcc/plugin versions",
            "cannot load plugin",
            // arch/x86/Makefile and compiler-gcc.h.
            "Compiler lacks asm-goto support",
            "non-retpoline compiler",
            "not supported by compiler",
            "your compiler is too old",
            "your version of GCC is too old",
        ],
    ),
    (
        Cause::Library,
        &[
            "error while loading shared libraries:",
            // Makefile of 4.15 to 4.20, and EL8's.
            "Cannot generate ORC metadata",
            "fatal error: gelf.h",
            "fatal error: libelf.h",
        ],
    ),
    (Cause::Split, &CONFIGURATION),
    (
        Cause::Tree,
        &[
            "scripts/basic/fixdep: No such file",
            "scripts/basic/fixdep: not found",
            "scripts/mod/modpost: No such file",
            "scripts/mod/modpost: not found",
            "tools/objtool/objtool: No such file",
            "tools/objtool/objtool: not found",
            "scripts/genksyms/genksyms: not found",
            "resolve_btfids: not found",
            "resolve_btfids: No such file",
            // Of another architecture.
            "fixdep: Exec format error",
            "cannot execute binary file",
            "No rule to make target 'scripts/",
            "No rule to make target `scripts/",
            "No rule to make target 'tools/objtool/",
            "No rule to make target `tools/objtool/",
            "No rule to make target 'arch/x86/",
            "No rule to make target `arch/x86/",
            "No rule to make target '/usr/src/",
            "No rule to make target `/usr/src/",
        ],
    ),
    (Cause::Outside, &["Read-only file system"]),
    (Cause::Header, &["fatal error: "]),
    // GNU Make itself, and what old makefiles of drivers say of gcc.
    (Cause::Tool, &["GNU Make >=", "*** Compiler not found", ": not found", ": command not found", "Error 127"]),
    (Cause::Api, &["error:", "#error"]),
    // After the compiler: a symbol table that is not there is a warning, and every symbol is undefined then.
    (Cause::Split, &["Module.symvers\" is missing", "is missing; modules will have no dependencies"]),
    (Cause::Api, &["undefined!", "was removed", "ERROR: modpost:"]),
];

/// The configuration of a kernel is not in the tree that the makefile took for it.
const CONFIGURATION: [&str; 6] = [
    "Kernel configuration is invalid",
    "auto.conf are missing",
    "include/config/auto.conf: No such file",
    "fatal error: generated/autoconf.h",
    "fatal error: linux/autoconf.h",
    "autoconf.h: No such file",
];

/// What was printed, for a tree that is in one piece or `split`. `otherwise` is shown where no cause is known: make's own line,
/// else the last one.
pub(super) fn diagnose(telling: &[String], otherwise: &str, split: bool) -> Diagnosis {
    // A compiler's error with file and line is what a person wants to see first.
    let compiler = telling.iter().find(|l| l.contains(": error: ") || l.contains(": fatal error: "));
    for (cause, signs) in SIGNS {
        let shows = |l: &&String| signs.iter().any(|sign| l.contains(sign));
        if let Some(line) = telling.iter().find(shows) {
            let cause = if cause == Cause::Split && !split { Cause::Tree } else { cause };
            let line = match cause {
                Cause::Header | Cause::Api | Cause::Other => compiler.unwrap_or(line),
                Cause::Flag
                | Cause::Pahole
                | Cause::Pie
                | Cause::Tool
                | Cause::Library
                | Cause::Split
                | Cause::Tree
                | Cause::Outside
                | Cause::Disk
                | Cause::Killed => line,
            };
            return Diagnosis { cause, line: line.trim().to_owned() };
        }
    }
    let line = if otherwise.is_empty() { "it printed nothing" } else { otherwise };
    Diagnosis { cause: Cause::Other, line: line.to_owned() }
}

#[cfg(test)]
#[path = "cause_tests.rs"]
mod tests;
