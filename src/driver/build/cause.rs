//! Why a build failed: the causes that are told apart, and what each means for what comes next.

/// Why a build failed, as far as its output tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// A header that the source includes is not in K's tree.
    Header,
    /// The kernel's interfaces are others than the source was written for.
    Api,
    /// The compiler does not know a flag that K's makefiles give it.
    Flag,
    /// The compiler is K's own, and does not know a flag: the source's makefile gives it.
    OwnFlag,
    /// A plugin of K's own build does not go with the compiler.
    Plugin,
    /// K's makefile and its configuration quote the compiler's name twice, which no shell reads.
    Quotes,
    /// pahole is missing or failed.
    Pahole,
    /// An old makefile and a compiler that makes position-independent programs by default.
    Pie,
    /// A program that the build calls is missing.
    Tool,
    /// A library that a program of K's tree is linked with is missing.
    Library,
    /// The programs of K's tree are made for another system: a newer libc, another architecture.
    Foreign,
    /// The makefile takes K's sources for the whole tree, and what was generated lies apart.
    Split,
    /// Something is missing in K's tree itself.
    Tree,
    /// The makefile writes where a build has no business.
    Outside,
    /// The disk is full.
    Disk,
    /// The disk has room, but no more files.
    Inodes,
    /// The build took more of the disk than a build may.
    TooLarge,
    /// The private `/tmp` of the build is full, and the disk is not.
    Temporary,
    /// A process was killed, most often for want of memory.
    Killed,
    /// Make ended well and made no module.
    Nothing,
    /// Something else.
    Other,
}

impl Cause {
    /// Whether another release of the driver may do better; else it would only fail again.
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

    /// Whether it would only happen again with the same source, recipe, tree and compiler. What is not understood may be
    /// anything, also what a person mends elsewhere.
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
            // How much it may take depends on the machine's memory.
            | Cause::TooLarge
            | Cause::Temporary
            | Cause::Killed
            | Cause::Other => false,
        }
    }

    /// Whether it is between K's makefiles and the compiler: then both are named.
    pub fn is_the_compilers(self) -> bool {
        matches!(self, Cause::Flag | Cause::Plugin)
    }

    /// In words.
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
    /// The line that decided, which is what a person is shown.
    pub line: String,
    /// Whether make failed at that line for certain. A guess must not keep the next release from being tried.
    pub certain: bool,
}
