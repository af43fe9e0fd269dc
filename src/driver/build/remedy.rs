//! What to do about a build that failed.

use super::cause::Cause;
use super::packages::{library_package, package, program_package};
use super::preflight;
use super::signs::missing_program;
use super::toolchain::{stated, Toolchain};
use crate::driver::{recipe, Recipe};
use crate::host::Host;
use crate::kernel::tree::{reinstall_headers, BuildTree};

/// What was being built, for the remedy.
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
    /// Tells the person to add settings for make to the recipe, and names its file.
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

    /// Suggests a release, or an archive, that fits.
    fn another(self) -> String {
        let (kernel, name) = (&self.tree.release, &self.recipe.name);
        format!(
            "name a release of the driver that fits: vfguard prepare {kernel} --driver {name} --source FILE --sha256 HEX; \
             or stay on this kernel: vfguard decline {kernel}"
        )
    }
}

impl Cause {
    /// The remedy for the cause; `line` is the line that shows it.
    pub fn remedy(self, on: Subject<'_>, line: &str) -> String {
        let kernel = &on.tree.release;
        match self {
            Cause::Header
            | Cause::Api
            | Cause::OwnFlag
            | Cause::Pie
            | Cause::Outside
            | Cause::TooLarge
            | Cause::Nothing
            | Cause::Other => on.another(),
            Cause::Split => {
                let make = &on.recipe.make;
                let one_tree: Vec<String> =
                    make.iter().filter(|m| !m.contains("{build}")).map(|m| m.replace("{source}", "{build}")).collect();
                // If the recipe already passes the right directory, its makefile looks for another one.
                if one_tree.iter().any(|m| m.contains("{build}")) {
                    on.set_make(&one_tree)
                } else {
                    on.another()
                }
            }
            Cause::Tree => reinstall_headers(on.host, kernel),
            // The plugins are part of the headers' package, as their other programs are.
            Cause::Plugin if line.contains("No such file") || is_the_kernels(on) => reinstall_headers(on.host, kernel),
            Cause::Flag | Cause::Plugin => compiler(on),
            Cause::Quotes => on.set_make(&[&on.recipe.make[..], &["CONFIG_CC_VERSION_TEXT=".to_owned()]].concat()),
            Cause::Pahole => package("dwarves", "dwarves"),
            Cause::Tool => tool(on, line),
            Cause::Library => library_package(line),
            Cause::Foreign => {
                let needed = line.split_once("version `").and_then(|(_, rest)| rest.split('\'').next());
                let needed = needed.map_or(String::new(), |version| format!(" (they need {version}, which is not here)"));
                format!(
                    "{}, from this system's own repository{needed}; or stay on this kernel: vfguard decline {kernel}",
                    reinstall_headers(on.host, kernel)
                )
            }
            Cause::Disk => format!("free disk space (df -h /var/cache/vfguard), then: vfguard prepare {kernel}"),
            Cause::Inodes => {
                format!("remove files that are not needed (df -i /var/cache/vfguard), then: vfguard prepare {kernel}")
            }
            Cause::Temporary => format!("use fewer jobs: vfguard prepare {kernel} --jobs 1"),
            Cause::Killed => format!("free memory or use fewer jobs: vfguard prepare {kernel} --jobs 1"),
        }
    }
}

/// The command that installs the missing program.
fn tool(on: Subject<'_>, line: &str) -> String {
    if let Some((program, _)) = missing_program(line) {
        return program_package(program);
    }
    if line.contains("GNU Make >=") {
        return format!("{} (a newer one: {})", package("make", "make"), line.rsplit("*** ").next().unwrap_or(line));
    }
    if line.contains("Compiler not found") {
        return program_package(&preflight::compiler_name(on.tree, on.recipe));
    }
    "install the program that could not be run".to_owned()
}

/// Installs the compiler that the kernel was built with, and says how make will find it.
fn compiler(on: Subject<'_>) -> String {
    let Some(told) = on.tree.compiler() else {
        return format!("install the compiler that the kernel was built with, then: vfguard prepare {}", on.tree.release);
    };
    let install = format!("install the compiler that the kernel was built with ({told})");
    let (wanted, tools) = (told.split(' ').next().unwrap_or(&told), Toolchain::of(on.tree, on.recipe));
    let called = &tools.compiler;
    let versioned = wanted.ends_with(|c: char| c.is_ascii_digit());
    // If neither recipe nor tree names a compiler, vfguard calls the kernel's own as soon as it is installed.
    if !tools.named || !versioned || wanted.ends_with(called) || called.ends_with(wanted) {
        return format!("{install}, then: vfguard prepare {}", on.tree.release);
    }
    let mut make = on.recipe.make.clone();
    make.retain(|m| !m.starts_with("CC="));
    make.push(format!("CC={wanted}"));
    format!("{install}, and have make call it instead of {called}: {}", on.set_make(&make))
}

/// The version that the compiler prints.
fn called(on: Subject<'_>) -> Option<String> {
    preflight::compiler(on.tree, on.recipe).and_then(|path| stated(&path))
}

/// Whether the compiler that was called prints exactly the version that the kernel was built with.
pub(super) fn is_the_kernels(on: Subject<'_>) -> bool {
    called(on).is_some_and(|called| on.tree.compiler() == Some(called))
}

/// Names both compilers: the one that was called and the one that the kernel was built with.
pub(super) fn compilers(on: Subject<'_>) -> String {
    let name = preflight::compiler_name(on.tree, on.recipe);
    let called = called(on)
        .map_or_else(|| name.clone(), |text| if text.starts_with(&name) { text } else { format!("{name}: {text}") });
    let wanted = on.tree.compiler().unwrap_or_else(|| "one that its headers do not name".to_owned());
    format!("called was {called}; the kernel was built with {wanted}")
}

/// The setting that the recipe must pass to make so that the makefile builds the module. The makefile expects it from the
/// kernel's configuration, and this kernel does not have it.
pub(super) fn switch(on: Subject<'_>, makefile: &str, module: &str) -> Option<String> {
    let object = format!("{module}.o");
    makefile.lines().find_map(|line| {
        let (name, rest) = line.trim().strip_prefix("obj-$(")?.split_once(')')?;
        let (_, objects) = rest.split_once('=')?;
        let plain = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        let sets = plain && name.starts_with("CONFIG_") && objects.split_whitespace().any(|o| o == object);
        (sets && on.tree.config(name) != Some("m")).then(|| name.to_owned())
    })
}

/// The message and the remedy for a makefile that does not build the module.
pub(super) fn nothing(on: Subject<'_>, makefile: &str, module: &str) -> (String, String) {
    let words = format!("{}: {module}.ko is not there", Cause::Nothing.words());
    match switch(on, makefile, module) {
        Some(name) => {
            let make = [&on.recipe.make[..], &[format!("{name}=m")]].concat();
            (format!("{words}, and its makefile asks for {name}=m, which this kernel does not have"), on.set_make(&make))
        }
        None => (format!("{words}, so its makefile decided that there is nothing to build for this kernel"), on.another()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::tree::build_tree;

    /// A tree with a configuration, a makefile and further files.
    fn tree(config: &str, makefile: &str, files: &[(&str, &str)]) -> (tempfile::TempDir, Host, BuildTree, Recipe) {
        let dir = tempfile::tempdir().unwrap();
        let host = Host::new(dir.path()).unwrap();
        let own = [
            ("include/generated/utsrelease.h", "#define UTS_RELEASE \"6.1\"\n"),
            ("include/linux/module.h", ""),
            ("include/config/auto.conf", config),
            ("Module.symvers", "x"),
            ("Makefile", makefile),
        ];
        for (name, text) in own.iter().chain(files) {
            host.write_atomic(format!("/usr/src/kernels/6.1/{name}"), text.as_bytes(), 0o644).unwrap();
        }
        let tree = build_tree(&host, &"6.1".parse().unwrap()).unwrap();
        let recipe = recipe::recipes(&host).unwrap().into_iter().find(|r| r.name == "ixgbevf").unwrap();
        (dir, host, tree, recipe)
    }

    #[test]
    fn the_setting_that_a_makefile_needs_to_build_the_module_is_found() {
        let (_dir, host, tree, recipe) = tree("CONFIG_THERE=m\n", "", &[]);
        let on = Subject { host: &host, recipe: &recipe, tree: &tree };
        for (makefile, name) in [
            ("obj-$(CONFIG_IXGBE) += ixgbevf.o\n", Some("CONFIG_IXGBE")),
            ("ifeq (x,x)\n  obj-$(CONFIG_OWN) := a.o ixgbevf.o\nendif\n", Some("CONFIG_OWN")),
            ("obj-$(CONFIG_THERE) += ixgbevf.o\n", None),
            ("obj-$(CONFIG_IXGBE) += ixgbe.o\nobj-m += ixgbevf.o\n", None),
            ("obj-$(CONFIG_$(X)) += ixgbevf.o\n", None),
        ] {
            assert_eq!(switch(on, makefile, "ixgbevf").as_deref(), name, "{makefile}");
        }
        let (words, remedy) = nothing(on, "obj-$(CONFIG_IXGBE) += ixgbevf.o\n", "ixgbevf");
        assert!(words.contains("ixgbevf.ko is not there") && remedy.contains("\"CONFIG_IXGBE=m\"]"), "{words} {remedy}");
    }

    #[test]
    fn causes_outside_of_the_source_never_ask_for_another_release() {
        let (_dir, host, tree, recipe) = tree("", "", &[]);
        let on = Subject { host: &host, recipe: &recipe, tree: &tree };
        let others = [
            Cause::Flag,
            Cause::Plugin,
            Cause::Quotes,
            Cause::Pahole,
            Cause::Tool,
            Cause::Library,
            Cause::Foreign,
            Cause::Tree,
            Cause::Disk,
            Cause::Inodes,
            Cause::Temporary,
            Cause::Killed,
        ];
        for cause in others {
            let remedy = cause.remedy(on, "/bin/sh: 1: bc: not found");
            assert!(!cause.is_the_sources() && !remedy.contains("name a release"), "{cause:?}: {remedy}");
        }
        assert!(Cause::Quotes.remedy(on, "").contains("\"CONFIG_CC_VERSION_TEXT=\"]"));
        assert!(Cause::Tool.remedy(on, "/bin/sh: 1: bc: not found").ends_with(" bc"));
    }

    #[test]
    fn the_compiler_of_a_kernel_is_named_by_its_configuration_or_by_its_headers() {
        let compile = (
            "include/generated/compile.h",
            "#define LINUX_COMPILER \"gcc version 4.8.5 20150623 (Red Hat 4.8.5-44) (GCC) \"\n",
        );
        for (config, told) in [
            ("CONFIG_CC_VERSION_TEXT=\"gcc (GCC) 8.5.0\"\n", "gcc (GCC) 8.5.0"),
            ("", "gcc version 4.8.5 20150623 (Red Hat 4.8.5-44) (GCC)"),
        ] {
            let (_dir, host, tree, recipe) = tree(config, "", &[compile]);
            let on = Subject { host: &host, recipe: &recipe, tree: &tree };
            assert_eq!(tree.compiler().as_deref(), Some(told));
            assert!(compilers(on).ends_with(&format!("the kernel was built with {told}")), "{}", compilers(on));
            assert!(Cause::Flag.remedy(on, "").contains(told));
        }
    }

    #[test]
    fn a_name_is_quoted_twice_where_makefile_and_configuration_both_do() {
        let asked = "check:\n\t@[ \"$(CONFIG_CC_VERSION_TEXT)\" ]\n";
        for (config, makefile, twice) in [
            ("CONFIG_CC_VERSION_TEXT=\"gcc (GCC) 11.3.0\"\n", asked, true),
            ("CONFIG_CC_VERSION_TEXT=gcc (GCC) 11.3.0\n", asked, false),
            ("CONFIG_CC_VERSION_TEXT=\"gcc (GCC) 11.3.0\"\n", "all:\n", false),
            ("", "x = \"\"gcc (GCC) 11.3.0\"\"\n", true),
        ] {
            assert_eq!(tree(config, makefile, &[]).2.quotes_twice(), twice, "{config}{makefile}");
        }
    }
}
