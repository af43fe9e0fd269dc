//! Which lines of a build's output indicate which cause. kbuild's messages are from its makefiles and scripts, 2.6.32 to
//! 6.12.

use super::cause::Cause;

/// How strongly a line indicates a cause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Weight {
    /// A program that prints this always fails.
    Certain,
    /// Scripts that probe print this as well, and go on.
    Likely,
    /// Like `Likely`, but it is a cause only if an exit code says that a program could not be run.
    NotRun,
    /// Explains an error after it, but is not an error by itself.
    Hint,
}

/// A line that is also printed by builds that succeed: warnings and notes, source lines that the compiler quotes, commands
/// as kbuild shows them.
pub(super) fn is_harmless(line: &str) -> bool {
    let quoted = line.trim_start().trim_start_matches(|c: char| c.is_ascii_digit()).trim_start().starts_with('|');
    // `  CC [M]  /build/src/error.o`
    let step = line.strip_prefix("  ").is_some_and(|rest| {
        let word = rest.split(' ').next().unwrap_or_default();
        rest.contains("  ") && !word.is_empty() && word.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit())
    });
    let spoken = ["warning: ", "note: ", "Warning: "].iter().any(|word| line.contains(word));
    let modpost = line.starts_with("WARNING: modpost:") && !line.contains(SYMVERS[0]) || line.starts_with("WARNING: \"");
    let shown = line.trim_start().starts_with("echo ") || line.contains("echo >&2");
    quoted || step || spoken || modpost || shown
}

/// The cause that a line indicates.
pub(super) fn sign(line: &str) -> Option<(Cause, Weight)> {
    let found = SIGNS.iter().find(|(_, signs)| signs.iter().any(|sign| line.contains(sign)));
    if let Some((cause, _)) = found {
        return Some((*cause, Weight::Certain));
    }
    if SYMVERS.iter().any(|sign| line.contains(sign)) {
        return Some((Cause::Split, Weight::Hint));
    }
    if let Some((program, weight)) = missing_program(line) {
        return match program {
            "pahole" => Some((Cause::Pahole, Weight::Certain)),
            // A script of the source that does not exist.
            _ if program.contains('/') && !program.starts_with('/') => Some((Cause::Other, weight)),
            _ => Some((Cause::Tool, weight)),
        };
    }
    if let Some((cause, _)) = LIKELY.iter().find(|(_, sign)| line.contains(sign)) {
        // If the compiler itself stops with it, the cause is certain.
        return Some((*cause, if compilers_error(line).is_some() { Weight::Certain } else { Weight::Likely }));
    }
    if let Some((_, what)) = compilers_error(line) {
        let header = what.starts_with("fatal error: ") && what.ends_with(": No such file or directory");
        return Some((if header { Cause::Header } else { Cause::Api }, Weight::Certain));
    }
    if ["ERROR: modpost:", "undefined!", "' was removed"].iter().any(|sign| line.contains(sign)) {
        return Some((Cause::Api, Weight::Certain));
    }
    // For programs whose errors name no line of the source.
    let other = ["error: ", "Error: ", "ERROR: "].iter().any(|word| line.contains(word));
    other.then_some((Cause::Other, Weight::Likely))
}

/// Parses `FILE:LINE: error: WHAT` and `FILE:LINE:COLUMN: error: WHAT`. Returns the file and the text that begins with
/// `error` or `fatal error`.
pub(super) fn compilers_error(line: &str) -> Option<(&str, &str)> {
    let (place, what) = [": error: ", ": fatal error: "].iter().find_map(|word| {
        let at = line.find(word)?;
        Some((&line[..at], &line[at + 2..]))
    })?;
    let file = place.trim_end_matches(|c: char| c.is_ascii_digit() || c == ':');
    (place[file.len()..].starts_with(':') && !file.is_empty()).then_some((file, what))
}

/// The program that a shell, make or env reports as missing. The weight is lower if the same message is printed for a
/// missing file.
pub(super) fn missing_program(line: &str) -> Option<(&str, Weight)> {
    let found = [": not found", ": command not found", ": Command not found"].iter().find_map(|e| line.strip_suffix(e));
    let (said, mut weight) = match found {
        Some(said) => (said, Weight::Likely),
        None => (line.strip_suffix(": No such file or directory")?, Weight::NotRun),
    };
    let (who, _) = said.split_once(": ")?;
    let name = said.rsplit(": ").next()?.trim_matches(['\'', '`', '"']);
    let program = who.rsplit('/').next().unwrap_or(who);
    let make = program == "make" || program.starts_with("make[");
    // Make 4.3 prints the same message for a missing program and for a missing makefile.
    if weight == Weight::NotRun && make && !name.contains(['/', '.']) && name.starts_with(|c: char| c.is_ascii_lowercase()) {
        weight = Weight::Likely;
    }
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"._+-/[".contains(&b);
    let speaks = make || program == "env" || program.ends_with("sh");
    (speaks && !name.is_empty() && name.bytes().all(plain)).then_some((name, weight))
}

/// A missing symbol table is only a warning, but every symbol is undefined after it.
const SYMVERS: [&str; 2] = ["Module.symvers\" is missing", "is missing; modules will have no dependencies"];

/// Messages after which a makefile may go on. sh and bash print the first two for `""gcc (…) 12"" ]` in K's makefile, and
/// for any script that was not written for them.
const LIKELY: [(Cause, &str); 4] = [
    (Cause::Quotes, "Syntax error: \"(\" unexpected"),
    (Cause::Quotes, "syntax error near unexpected token `('"),
    (Cause::Outside, "Read-only file system"),
    // Intel's makefiles before 3.2, which do not know KOBJ.
    (Cause::Split, "not configured - missing autoconf.h"),
];

/// Causes by the text that indicates them, the most specific first.
const SIGNS: [(Cause, &[&str]); 12] = [
    (Cause::Disk, &["No space left on device", "Disk quota exceeded"]),
    (
        Cause::Pahole,
        &[
            "pahole: No such file",
            "pahole: Permission denied",
            // pahole is too old for the flags of this kernel's makefiles, or for the contents of its vmlinux.
            "pahole: unrecognized option",
            "Failed to parse base BTF",
        ],
    ),
    (
        Cause::Killed,
        &[
            // The compiler was killed or ran out of address space. No source makes a working compiler end like this.
            "signal terminated program",
            "internal compiler error",
            "memory exhausted",
            "out of memory",
            "Cannot allocate memory",
            // A shared library that exists but cannot be loaded.
            "failed to map segment from shared object",
        ],
    ),
    (Cause::Pie, &["code model kernel does not support PIC mode", "code model 'kernel' is not supported in PIC"]),
    // Plugins of the kernel's own build that are made for another gcc release, or that are missing.
    (
        Cause::Plugin,
        &[
            "incompatible gcc/plugin versions",
            "cannot load plugin",
            "failed to initialize plugin",
            "fatal error: gcc-plugin.h",
        ],
    ),
    (
        Cause::Flag,
        &[
            "unrecognized command-line option",
            "unrecognized command line option",
            "unknown argument:",
            "bad value (",
            "is not compatible with this target",
            // From arch/x86/Makefile and compiler-gcc.h.
            "Compiler lacks asm-goto support",
            "non-retpoline compiler",
            "not supported by compiler",
            "your compiler is too old",
            "your version of GCC is too old",
        ],
    ),
    (Cause::Quotes, &["\"\"gcc", "\"\"clang"]),
    (Cause::Foreign, &["version `GLIBC", "Exec format error", "cannot execute binary file", "wrong ELF class"]),
    (
        Cause::Library,
        &[
            "error while loading shared libraries:",
            // From the Makefile of 4.15 to 4.20 and of EL8.
            "Cannot generate ORC metadata",
            "fatal error: gelf.h",
            "fatal error: libelf.h",
            // From scripts/sign-file and certs/extract-cert.
            "fatal error: openssl/",
        ],
    ),
    (
        // The makefile took a tree for the kernel's that does not contain its configuration.
        Cause::Split,
        &[
            "Kernel configuration is invalid",
            "auto.conf are missing",
            "include/config/auto.conf: No such file",
            "fatal error: generated/autoconf.h",
            "fatal error: linux/autoconf.h",
            "autoconf.h: No such file",
        ],
    ),
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
            "Can't open perl script \"scripts/",
            "Can't open perl script \"./scripts/",
            "Can't open perl script \"/usr/src/",
            "No rule to make target 'scripts/",
            "No rule to make target `scripts/",
            "No rule to make target 'tools/objtool/",
            "No rule to make target `tools/objtool/",
            "No rule to make target 'arch/x86/",
            "No rule to make target `arch/x86/",
            "No rule to make target '/usr/src/",
            "No rule to make target `/usr/src/",
            "No rule to make target 'certs/",
        ],
    ),
    // From GNU Make itself, and from old makefiles of drivers about gcc.
    (Cause::Tool, &["GNU Make >=", "*** Compiler not found"]),
];
