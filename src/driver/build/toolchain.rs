//! Which compiler make calls for a kernel: what the recipe says, else what the tree itself says, else the one that the kernel was
//! built with where it is installed beside another `gcc`.

use crate::driver::Recipe;
use crate::host::command::{self, Spec};
use crate::kernel::tree::BuildTree;
use crate::kernel::Compiler;
use std::path::Path;
use std::time::Duration;

/// How Debian's headers name the compiler that they are to be used with, and what precedes the names of binutils.
pub(super) const KERNEL_VARIABLES: &str = ".kernelvariables";
/// Time for a compiler to say its version.
const VERSION_LIMIT: Duration = Duration::from_secs(10);

/// What the makefiles of a tree make of `CC` and `CROSS_COMPILE`.
pub(super) struct Toolchain {
    /// What is called, with words that a recipe puts before it and after it.
    pub compiler: String,
    /// What precedes the names of binutils.
    pub prefix: String,
    /// Whether recipe or tree name the compiler.
    pub named: bool,
    /// Further variables for make, so that it calls this one.
    pub settings: Vec<String>,
}

impl Toolchain {
    /// A recipe's own word counts first, as it does for make; then Debian's headers, which name it with its version. Elsewhere it
    /// would be `gcc`, whatever its version: the kernel's own compiler is called instead, where it is there by its own name.
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
        // A kernel's makefile calls gcc though its configuration is clang's.
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

/// The compiler that a kernel was built with, where it is installed under a name that says so and `gcc` is another one. Alike are
/// two as the verifier has it: by their major version.
fn kernels_own(told: &str) -> Option<String> {
    let wanted = Compiler::parse(told)?;
    let name = wanted.programs(told).into_iter().find(|name| command::find(name).is_some())?;
    let default = command::find("gcc").and_then(|gcc| stated(&gcc)).and_then(|text| Compiler::parse(&text));
    (default != Some(wanted)).then_some(name)
}

/// What a compiler calls itself: the first line of `--version`.
pub(super) fn stated(program: &Path) -> Option<String> {
    let spec = Spec::new(program.to_str()?, ["--version"], VERSION_LIMIT);
    let outcome = command::run(&spec).ok().filter(command::Ended::success)?;
    outcome.output.lines().next().map(str::to_owned)
}

/// What a makefile gives a variable outside of any condition.
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
