//! Why a build failed: the causes that vfguard distinguishes, and what each one means for the next attempt. K is the kernel
//! that the module is built for.

/// Why a build failed, as far as its output shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// A header that the source includes is not in K's tree.
    Header,
    /// The kernel's interfaces differ from those that the source was written for.
    Api,
    /// The compiler does not know a flag that K's makefiles give it.
    Flag,
    /// The compiler is the one that K was built with, and it still rejects a flag: so the flag comes from the source's
    /// makefile.
    OwnFlag,
    /// A plugin of K's own build does not work with the compiler.
    Plugin,
    /// K's makefile and K's configuration both quote the compiler's name; no shell can read the result.
    Quotes,
    /// pahole is missing or failed.
    Pahole,
    /// An old makefile with a compiler that makes position-independent programs by default.
    Pie,
    /// A program that the build calls is missing.
    Tool,
    /// A library that a program of K's tree is linked with is missing.
    Library,
    /// The programs of K's tree are built for another system: a newer libc, another architecture.
    Foreign,
    /// The makefile expects sources and generated files in one tree, and K has two.
    Split,
    /// Something is missing in K's tree itself.
    Tree,
    /// The makefile writes outside of the build directory.
    Outside,
    /// The disk is full.
    Disk,
    /// The disk has free space, but no free inodes.
    Inodes,
    /// The build used more disk space than a build is allowed to.
    TooLarge,
    /// The private `/tmp` of the build is full; the disk is not.
    Temporary,
    /// A process was killed, usually because memory ran out.
    Killed,
    /// Make succeeded but built no module.
    Nothing,
    /// Something else.
    Other,
}

impl Cause {
    /// Whether another release of the driver may build. If not, it would fail for the same reason.
    pub fn is_the_sources(self) -> bool {
        match self {
            Cause::Header
            | Cause::Api
            | Cause::OwnFlag
            | Cause::Pie
            | Cause::Split
            | Cause::Outside
            | Cause::TooLarge
            | Cause::Nothing
            | Cause::Other => true,
            Cause::Flag
            | Cause::Plugin
            | Cause::Quotes
            | Cause::Pahole
            | Cause::Tool
            | Cause::Library
            | Cause::Foreign
            | Cause::Tree
            | Cause::Disk
            | Cause::Inodes
            | Cause::Temporary
            | Cause::Killed => false,
        }
    }

    /// Whether the same source, recipe, tree and compiler would fail again for certain. An unknown cause may be anything,
    /// also something that is fixed elsewhere, so it does not count.
    pub fn lasts(self) -> bool {
        match self {
            Cause::Header | Cause::Api | Cause::OwnFlag | Cause::Pie | Cause::Split | Cause::Outside | Cause::Nothing => {
                true
            }
            Cause::Flag
            | Cause::Plugin
            | Cause::Quotes
            | Cause::Pahole
            | Cause::Tool
            | Cause::Library
            | Cause::Foreign
            | Cause::Tree
            | Cause::Disk
            | Cause::Inodes
            // The bound depends on the machine's memory.
            | Cause::TooLarge
            | Cause::Temporary
            | Cause::Killed
            | Cause::Other => false,
        }
    }

    /// Whether the cause lies between K's makefiles and the compiler. Messages then name both compilers.
    pub fn is_the_compilers(self) -> bool {
        matches!(self, Cause::Flag | Cause::Plugin)
    }

    /// The cause as a message states it.
    pub fn words(self) -> &'static str {
        match self {
            Cause::Header => "a header that this release of the driver includes is not in the kernel's tree",
            Cause::Api => "this release of the driver was written for other kernels",
            Cause::Flag => "the compiler does not know a flag that the kernel's makefiles give it",
            Cause::OwnFlag => "this release of the driver gives the kernel's own compiler a flag that it does not know",
            Cause::Plugin => "a compiler plugin of the kernel's own build does not go with this compiler",
            Cause::Quotes => {
                "the kernel's makefile and its configuration both quote the compiler's name, which no shell reads"
            }
            Cause::Pahole => "pahole, which this kernel's headers demand, is missing or failed",
            Cause::Pie => {
                "this old makefile does not go with a compiler that makes position-independent programs by default"
            }
            Cause::Tool => "a program that the build calls is missing",
            Cause::Library => "a library that the kernel's headers need is missing",
            Cause::Foreign => "the programs of the kernel's headers are made for another system and do not run here",
            Cause::Split => "this makefile ignores KOBJ, where the configuration of this kernel's headers is; KSRC has none",
            Cause::Tree => "the kernel's headers are incomplete",
            Cause::Outside => "this makefile writes outside of its own directory, which a build may not",
            Cause::Disk => "the disk is full",
            Cause::Inodes => "the disk can hold no more files",
            Cause::TooLarge => "the build took too much of the disk",
            Cause::Temporary => "the build filled its private /tmp; the disk is not full",
            Cause::Killed => "a process of the build was killed, most often for want of memory",
            Cause::Nothing => "make ended well and built no module",
            Cause::Other => "the build failed",
        }
    }
}

/// A cause with the line that shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnosis {
    /// Why.
    pub cause: Cause,
    /// The line that decided; messages show it.
    pub line: String,
    /// Whether make failed at that line for certain. If it is only a guess, the next release is still tried.
    pub certain: bool,
}
