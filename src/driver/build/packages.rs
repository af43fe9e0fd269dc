//! Which package contains a program or library that a build lacks, and the command that installs it.

use crate::packages::Packages;

/// The library that objtool is linked with.
pub(super) const LIBELF: &str = "libelf.so.1";
/// A package's name in deb and in rpm.
pub(super) type Names = (&'static str, &'static str);
const BINUTILS: Names = ("binutils", "binutils");
pub(super) const ELFUTILS: Names = ("libelf1", "elfutils-libelf");
pub(super) const ELFUTILS_HEADERS: Names = ("libelf-dev", "elfutils-libelf-devel");

/// Packages of programs, deb and rpm, where the package is not called like the program.
const PACKAGES: [(&[&str], Names); 14] = [
    (&["ld", "strip", "as", "ar", "nm", "objcopy", "objdump", "readelf"], BINUTILS),
    (&["depmod", "modprobe", "modinfo"], ("kmod", "kmod")),
    (&["pahole"], ("dwarves", "dwarves")),
    (&["which"], ("debianutils", "which")),
    (&["awk", "gawk"], ("gawk", "gawk")),
    (&["find", "xargs"], ("findutils", "findutils")),
    (&["diff", "cmp"], ("diffutils", "diffutils")),
    (&["xz"], ("xz-utils", "xz")),
    (&["hostname"], ("hostname", "hostname")),
    (&["ld.lld"], ("lld", "lld")),
    (&["python", "python3"], ("python3", "python3")),
    (&["c++", "g++"], ("g++", "gcc-c++")),
    (&["cc", "gcc"], ("gcc", "gcc")),
    (
        &[
            "[", "basename", "cat", "chmod", "cp", "cut", "date", "dirname", "echo", "env", "expr", "head", "install", "ln",
            "ls", "mkdir", "mktemp", "mv", "nproc", "paste", "printf", "pwd", "readlink", "realpath", "rm", "seq", "sort",
            "stat", "tail", "tee", "test", "touch", "tr", "true", "uname", "uniq", "wc",
        ],
        ("coreutils", "coreutils"),
    ),
];

/// Programs whose package has the program's name on every distribution.
const SAME: [&str; 15] =
    ["make", "sed", "grep", "bash", "perl", "bc", "flex", "bison", "openssl", "clang", "m4", "patch", "tar", "gzip", "git"];

/// The package of a program in deb and in rpm, if it is known.
pub(super) fn names(program: &str) -> Option<(String, String)> {
    let name = program.rsplit('/').next().unwrap_or(program);
    if let Some((_, (deb, rpm))) = PACKAGES.iter().find(|(programs, _)| programs.contains(&name)) {
        return Some(((*deb).to_owned(), (*rpm).to_owned()));
    }
    // Debian names the package of a versioned compiler like the program. Amazon Linux has `gcc10-gcc` in `gcc10`.
    let compiler = without_target(name);
    let amazons = name.strip_suffix("-gcc").filter(|stem| stem.starts_with("gcc"));
    let package = amazons.or_else(|| (SAME.contains(&name) || compiler.starts_with("gcc-")).then_some(compiler))?;
    Some((package.to_owned(), package.to_owned()))
}

/// The command that installs a program.
pub(super) fn program_package(program: &str) -> String {
    names(program).map_or_else(|| format!("install the package that holds {program}"), |(deb, rpm)| package(&deb, &rpm))
}

/// Removes the target: `x86_64-linux-gnu-gcc-12` becomes `gcc-12`, whose package contains both programs.
fn without_target(program: &str) -> &str {
    program.find("gcc").map_or(program, |at| &program[at..])
}

/// The command that installs the library named in a line of the build's output.
pub(super) fn library_package(line: &str) -> String {
    let package = |(deb, rpm): Names| package(deb, rpm);
    if line.contains("fatal error: openssl/") {
        return package(("libssl-dev", "openssl-devel"));
    }
    match line.split_once("shared libraries: ").and_then(|(_, rest)| rest.split(':').next()) {
        Some(LIBELF) => package(ELFUTILS),
        Some(other) => format!("install the library {other}"),
        None => package(ELFUTILS_HEADERS),
    }
}

/// The command that installs a package on the machine that runs the build.
pub(super) fn package(deb: &str, rpm: &str) -> String {
    Packages::here().map_or_else(|_| format!("install {rpm}"), |p| p.line(deb, rpm))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_installed_by_the_package_that_contains_it() {
        for (program, deb, rpm) in [
            ("which", "debianutils", "which"),
            ("awk", "gawk", "gawk"),
            ("/usr/bin/perl", "perl", "perl"),
            ("x86_64-linux-gnu-gcc-12", "gcc-12", "gcc-12"),
            ("gcc10-gcc", "gcc10", "gcc10"),
            ("gcc", "gcc", "gcc"),
            ("uname", "coreutils", "coreutils"),
            ("bc", "bc", "bc"),
        ] {
            assert_eq!(names(program), Some((deb.to_owned(), rpm.to_owned())), "{program}");
        }
        assert_eq!(program_package("own-tool"), "install the package that holds own-tool");
    }

    #[test]
    fn a_library_is_named_as_the_linker_names_it() {
        let said = |name: &str| format!("./x: error while loading shared libraries: {name}: cannot open shared object file");
        assert!(
            library_package(&said(LIBELF)).ends_with(" libelf1")
                || library_package(&said(LIBELF)).ends_with("elfutils-libelf")
        );
        assert_eq!(library_package(&said("libother.so.3")), "install the library libother.so.3");
    }
}
