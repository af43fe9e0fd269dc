//! What a failed build's output means: a cause, the line that shows it, and what to do.

/// Why a build failed, as far as its output tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// A header that the source includes is not in K's tree.
    Header,
    /// The kernel's interfaces are others than the source was written for.
    Api,
    /// The compiler does not know a flag that K's makefiles give it.
    Flag,
    /// pahole is missing or failed.
    Pahole,
    /// An old makefile and a compiler that makes position-independent programs by default.
    Pie,
    /// A program that the build calls is missing.
    Tool,
    /// The disk is full.
    Disk,
    /// A process was killed, most often for want of memory.
    Killed,
    /// Something else.
    Other,
}

impl Cause {
    /// Whether another release of the driver may do better; else it would only fail again.
    pub fn is_the_sources(self) -> bool {
        match self {
            Cause::Header | Cause::Api | Cause::Pie | Cause::Other => true,
            Cause::Flag | Cause::Pahole | Cause::Tool | Cause::Disk | Cause::Killed => false,
        }
    }

    /// Whether it would only happen again with the same source, tree and compiler. What is not understood may be anything, also
    /// what a person mends elsewhere.
    pub fn lasts(self) -> bool {
        match self {
            Cause::Header | Cause::Api | Cause::Pie => true,
            Cause::Flag | Cause::Pahole | Cause::Tool | Cause::Disk | Cause::Killed | Cause::Other => false,
        }
    }

    /// In words.
    pub fn words(self) -> &'static str {
        match self {
            Cause::Header => "a header that this release of the driver includes is not in the kernel's tree",
            Cause::Api => "this release of the driver was written for other kernels",
            Cause::Flag => "the compiler does not know a flag that the kernel's makefiles give it",
            Cause::Pahole => "pahole, which this kernel's headers demand, is missing or failed",
            Cause::Pie => {
                "this old makefile does not go with a compiler that makes position-independent programs by default"
            }
            Cause::Tool => "a program that the build calls is missing",
            Cause::Disk => "the disk is full",
            Cause::Killed => "a process of the build was killed, most often for want of memory",
            Cause::Other => "the build failed",
        }
    }

    /// What to do about it; `kernel` is K.
    pub fn remedy(self, kernel: &crate::kernel::KernelRelease) -> String {
        match self {
            Cause::Header | Cause::Api | Cause::Pie | Cause::Other => format!(
                "name a release of the driver that fits: vfguard prepare {kernel} --source FILE --sha256 HEX; or stay on this kernel: vfguard decline {kernel}"
            ),
            Cause::Flag => "install the compiler that the kernel was built with, then: vfguard prepare".into(),
            Cause::Pahole => super::preflight::package("dwarves", "dwarves"),
            Cause::Tool => super::preflight::package("build-essential", "gcc make binutils"),
            Cause::Disk => format!("free disk space (df -h /var/cache/vfguard), then: vfguard prepare {kernel}"),
            Cause::Killed => format!("free memory or use fewer jobs: vfguard prepare {kernel} --jobs 1"),
        }
    }
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
    TELLING.iter().any(|word| line.contains(word))
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

/// Causes by what gives them away, the most certain first.
const SIGNS: [(Cause, &[&str]); 8] = [
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
            "] Killed",
            "Error 137",
        ],
    ),
    (Cause::Pie, &["code model kernel does not support PIC mode", "code model 'kernel' is not supported in PIC"]),
    (
        Cause::Flag,
        &["unrecognized command-line option", "unrecognized command line option", "unknown argument:", "bad value ("],
    ),
    (Cause::Header, &["fatal error: "]),
    (Cause::Tool, &[": not found", ": command not found", "Error 127"]),
    (Cause::Api, &["error:", "undefined!", "was removed", "#error"]),
];

/// `otherwise` is shown where no cause is known: make's own line, else the last one.
pub(super) fn diagnose(telling: &[String], otherwise: &str) -> Diagnosis {
    // A compiler's error with file and line is what a person wants to see first.
    let compiler = telling.iter().find(|l| l.contains(": error: ") || l.contains(": fatal error: "));
    for (cause, signs) in SIGNS {
        let shows = |l: &&String| signs.iter().any(|sign| l.contains(sign));
        if let Some(line) = telling.iter().find(shows) {
            let line = match cause {
                Cause::Header | Cause::Api | Cause::Other => compiler.unwrap_or(line),
                Cause::Flag | Cause::Pahole | Cause::Pie | Cause::Tool | Cause::Disk | Cause::Killed => line,
            };
            return Diagnosis { cause, line: line.clone() };
        }
    }
    let line = if otherwise.is_empty() { "it printed nothing" } else { otherwise };
    Diagnosis { cause: Cause::Other, line: line.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_failure_is_told_apart_by_its_own_words() {
        for (text, cause) in [
            ("/build/src/kcompat.h:12:10: fatal error: linux/foo.h: No such file or directory", Cause::Header),
            ("/build/src/main.c:77:9: error: implicit declaration of function 'strlcpy'", Cause::Api),
            ("ERROR: modpost: \"pci_enable\" [/build/src/x.ko] undefined!", Cause::Api),
            ("gcc: error: unrecognized command-line option '-mharden-sls=all'", Cause::Flag),
            ("sh: 1: pahole: not found", Cause::Pahole),
            ("cc1: error: code model kernel does not support PIC mode", Cause::Pie),
            ("/bin/sh: 1: gcc-12: not found", Cause::Tool),
            ("/tmp/x.s: fatal error: error writing to /tmp/x: No space left on device", Cause::Disk),
            ("gcc: fatal error: Killed signal terminated program cc1", Cause::Killed),
            ("gcc-12: internal compiler error: Segmentation fault signal terminated program cc1", Cause::Killed),
            ("make: *** No rule to make target 'default'.  Stop.", Cause::Other),
        ] {
            assert!(is_telling(text), "{text}");
            assert_eq!(diagnose(&[text.into()], "").cause, cause, "{text}");
        }
    }

    #[test]
    fn the_first_error_with_file_and_line_is_what_is_shown() {
        let lines = ["make: *** [x] Error 2", "a.c:3:4: error: 'x' undeclared", "b.c:1:1: error: other"].map(str::to_owned);
        assert_eq!(diagnose(&lines, "").line, lines[1]);
        assert_eq!(diagnose(&[], "bye").line, "bye");
    }
}
