//! Which compiler made a kernel or a module, from the names that compilers give themselves: `CONFIG_CC_VERSION_TEXT` (`init/Kconfig`, since
//! 4.18), `LINUX_COMPILER` of `compile.h` (`scripts/mkcompile_h`), the section `.comment` of their output.

use super::KernelConfig;
use crate::host::Host;
use std::fmt;
use std::path::PathBuf;

/// The header that defines `LINUX_COMPILER`; before 2.6.33 it was in `include/linux`.
const HEADERS: [&str; 2] = ["include/generated/compile.h", "include/linux/compile.h"];

/// A compiler, with the parts that decide whether two are the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compiler {
    name: &'static str,
    major: u32,
}

impl fmt::Display for Compiler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.name, self.major)
    }
}

impl Compiler {
    /// Parses a compiler's own description. The first word of digits and dots is its version: `gcc-12 (Debian 12.2.0-14) 12.2.0`, `gcc
    /// version 4.4.7 20120313 (Red Hat 4.4.7-23) (GCC)`, `GCC: (GNU) 4.8.5`, `clang version 15.0.7 (Fedora 15.0.7-2)`.
    pub fn parse(text: &str) -> Option<Compiler> {
        let lower = text.to_ascii_lowercase();
        let name = ["clang", "gcc"].into_iter().find(|name| lower.contains(name))?;
        let version = |word: &&str| word.contains('.') && word.bytes().all(|b| b.is_ascii_digit() || b == b'.');
        let word = text.split(|c: char| c.is_whitespace() || c == ',').find(version)?;
        Some(Compiler { name, major: word.split('.').next()?.parse().ok()? })
    }

    /// The compiler that made a kernel, from its configuration, else from its build trees.
    pub fn of_kernel(host: &Host, config: Option<&KernelConfig>, trees: &[PathBuf]) -> Option<Compiler> {
        let stated = config.and_then(|c| Compiler::parse(c.value("CONFIG_CC_VERSION_TEXT")?.trim_matches('"')));
        stated.or_else(|| {
            Compiler::parse(&named_in(|header| trees.iter().find_map(|tree| host.read_text(tree.join(header)).ok()))?)
        })
    }

    /// The names under which a compiler is installed beside another one, the most specific first; `told` is its own description. Debian has
    /// `gcc-12` and before 5 `gcc-4.9`, Amazon Linux `gcc10-gcc`.
    pub fn programs(self, told: &str) -> Vec<String> {
        let first = told.split(' ').next().unwrap_or_default();
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"._+-".contains(&b);
        let own = first.contains(self.name) && first.bytes().any(|b| b.is_ascii_digit()) && first.bytes().all(plain);
        let Compiler { name, major } = self;
        let version =
            |word: &&str| word.starts_with(&format!("{major}.")) && word.bytes().all(|b| b.is_ascii_digit() || b == b'.');
        let minor =
            told.split(|c: char| c.is_whitespace() || c == ',').find(version).and_then(|word| word.split('.').nth(1));
        let numbered = match minor {
            Some(minor) if major < 5 => format!("{name}-{major}.{minor}"),
            Some(_) | None => format!("{name}-{major}"),
        };
        own.then(|| first.to_owned()).into_iter().chain([numbered, format!("{name}{major}-{name}")]).collect()
    }
}

/// The value of `LINUX_COMPILER` in the first header that defines it; `read` returns a header of a build tree.
pub(super) fn named_in(read: impl Fn(&str) -> Option<String>) -> Option<String> {
    let text = HEADERS.into_iter().filter_map(read).find(|text| text.contains("LINUX_COMPILER"))?;
    text.split("LINUX_COMPILER").nth(1)?.split('"').nth(1).map(|told| told.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Option<String> {
        Compiler::parse(text).map(|c| c.to_string())
    }

    #[test]
    fn a_compiler_that_is_not_the_default_is_looked_for_under_the_names_that_distributions_give_it() {
        for (text, programs) in [
            ("gcc-12 (Debian 12.2.0-14+deb12u1) 12.2.0", "gcc-12 gcc-12 gcc12-gcc"),
            ("gcc10-gcc (GCC) 10.5.0 20230707 (Red Hat 10.5.0-1)", "gcc10-gcc gcc-10 gcc10-gcc"),
            ("gcc (GCC) 8.5.0 20210514 (Red Hat 8.5.0-20)", "gcc-8 gcc8-gcc"),
            ("gcc version 4.8.5 20150623 (Red Hat 4.8.5-44) (GCC)", "gcc-4.8 gcc4-gcc"),
            ("/opt/own/gcc-9 (GCC) 9.1.0", "gcc-9 gcc9-gcc"),
        ] {
            assert_eq!(Compiler::parse(text).unwrap().programs(text).join(" "), programs, "{text}");
        }
    }

    #[test]
    fn compilers_are_recognised_by_their_own_descriptions() {
        for (text, compiler) in [
            ("gcc-12 (Debian 12.2.0-14+deb12u1) 12.2.0", "gcc 12"),
            ("x86_64-linux-gnu-gcc-14 (Debian 14.2.0-19) 14.2.0, GNU ld (GNU Binutils for Debian) 2.44", "gcc 14"),
            ("gcc (GCC) 11.4.1 20231218 (Red Hat 11.4.1-3)", "gcc 11"),
            ("gcc version 4.4.7 20120313 (Red Hat 4.4.7-23) (GCC) ", "gcc 4"),
            ("GCC: (GNU) 4.8.5 20150623 (Red Hat 4.8.5-44)", "gcc 4"),
            ("clang version 15.0.7 (Fedora 15.0.7-2.fc37)", "clang 15"),
            ("Debian clang version 14.0.6", "clang 14"),
        ] {
            assert_eq!(parsed(text).as_deref(), Some(compiler), "{text}");
        }
        assert_eq!(
            [parsed(""), parsed("gcc"), parsed("Linker: LLD 15.0.7"), parsed("gcc 99999999999.1")],
            [None, None, None, None]
        );
    }

    #[test]
    fn the_headers_name_the_compiler_if_the_configuration_does_not() {
        let dir = tempfile::tempdir().unwrap();
        let tree = dir.path().join("tree/include/generated");
        std::fs::create_dir_all(&tree).unwrap();
        let text = "#define UTS_VERSION \"#1 SMP\"\n#define LINUX_COMPILER \"gcc version 4.8.5 20150623 (Red Hat 4.8.5-44) (GCC) \"\n";
        std::fs::write(tree.join("compile.h"), text).unwrap();
        let host = Host::new(dir.path()).unwrap();
        let of = |config: &str, tree: &str| {
            Compiler::of_kernel(&host, Some(&KernelConfig::new(config)), &[tree.into()]).map(|c| c.to_string())
        };
        assert_eq!(of("CONFIG_SMP=y\n", "/tree").as_deref(), Some("gcc 4"));
        assert_eq!(of("CONFIG_CC_VERSION_TEXT=\"gcc (GCC) 11.4.1 20231218\"\n", "/tree").as_deref(), Some("gcc 11"));
        assert_eq!(of("CONFIG_SMP=y\n", "/elsewhere"), None);
    }
}
