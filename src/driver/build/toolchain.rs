//! Which compiler make calls for a kernel: the one that the recipe names, else the one that the kernel's tree names, else
//! the one that the kernel was built with if it is installed beside another `gcc`.

use crate::driver::Recipe;
use crate::host::command::{self, Spec};
use crate::kernel::tree::BuildTree;
use crate::kernel::Compiler;
use std::path::Path;
use std::time::Duration;

/// The file in which Debian's headers name the compiler to use with them, and the prefix of the binutils.
pub(super) const KERNEL_VARIABLES: &str = ".kernelvariables";
/// Time limit for a compiler to print its version.
const VERSION_LIMIT: Duration = Duration::from_secs(10);

/// The values that the makefiles of a tree give to `CC` and `CROSS_COMPILE`.
pub(super) struct Toolchain {
    /// The compiler, with the words that a recipe puts before and after it.
    pub compiler: String,
    /// The prefix of the names of the binutils.
    pub prefix: String,
    /// Whether the recipe or the tree names the compiler.
    pub named: bool,
    /// Further variables for make, so that it calls this compiler.
    pub settings: Vec<String>,
}

impl Toolchain {
    /// The recipe's setting counts first, as it does for make. Then Debian's headers count, which name the compiler with its
    /// version. Elsewhere make would call `gcc` of any version, so the compiler that the kernel was built with is called
    /// instead, if it is installed under its own name.
    pub fn of(tree: &BuildTree, recipe: &Recipe) -> Toolchain {
        let settings = || recipe.make.iter().chain(recipe.releases.iter().flat_map(|r| &r.make));
        let set = |name: &str| settings().find_map(|s| s.strip_prefix(name)?.strip_prefix('=')).map(str::to_owned);
        let variables = std::fs::read_to_string(tree.objects().join(KERNEL_VARIABLES)).unwrap_or_default();
        let prefix = set("CROSS_COMPILE").or_else(|| assigned(&variables, "CROSS_COMPILE")).unwrap_or_default();
        let told = assigned(&variables, "CC").and_then(|cc| {
            let word = cc.split_whitespace().last()?.replace("$(CROSS_COMPILE)", &prefix);
            let plain = |b: u8| b.is_ascii_alphanumeric() || b"._+-/".contains(&b);
            Some(word).filter(|w| w.bytes().all(plain))
        });
        if let Some(compiler) = set("CC").or(told) {
            return Toolchain { compiler, prefix, named: true, settings: Vec::new() };
        }
        // The kernel's makefile calls gcc even if its configuration is for clang.
        let clang = || tree.is_set("CONFIG_CC_IS_CLANG").then(|| "clang".to_owned());
        let own = || prefix.is_empty().then(|| tree.compiler().and_then(|told| kernels_own(&told))).flatten();
        match clang().or_else(own) {
            Some(compiler) => {
                let settings = vec![format!("CC={compiler}")];
                Toolchain { compiler, prefix, named: false, settings }
            }
            None => Toolchain { compiler: format!("{prefix}gcc"), prefix, named: false, settings: Vec::new() },
        }
    }
}

/// The compiler that a kernel was built with, if it is installed under a versioned name and `gcc` is another one. Two
/// compilers count as the same if their major version is, as for the verifier.
fn kernels_own(told: &str) -> Option<String> {
    let wanted = Compiler::parse(told)?;
    let name = wanted.programs(told).into_iter().find(|name| command::find(name).is_some())?;
    let default = command::find("gcc").and_then(|gcc| stated(&gcc)).and_then(|text| Compiler::parse(&text));
    (default != Some(wanted)).then_some(name)
}

/// The version that a compiler prints: the first line of `--version`.
pub(super) fn stated(program: &Path) -> Option<String> {
    let spec = Spec::new(program.to_str()?, ["--version"], VERSION_LIMIT);
    let outcome = command::run(&spec).ok().filter(command::Ended::success)?;
    outcome.output.lines().next().map(str::to_owned)
}

/// The value that a makefile assigns to a variable outside of conditions.
fn assigned(makefile: &str, name: &str) -> Option<String> {
    let mut depth = 0;
    let mut found = None;
    for line in makefile.lines().map(str::trim) {
        match line.split_whitespace().next() {
            Some("ifeq" | "ifneq" | "ifdef" | "ifndef") => depth += 1,
            Some("endif") => depth -= 1,
            Some(_) | None => {}
        }
        let line = line.strip_prefix("override ").unwrap_or(line);
        let value = line.split_once('=').filter(|(left, _)| depth == 0 && left.trim_end_matches([' ', ':', '?']) == name);
        found = value.map(|(_, value)| value.trim().to_owned()).or(found);
    }
    found
}
