//! What is known about a module on a kernel: findings with stable codes, and the verdict they add up to.

use serde::{Deserialize, Serialize};

/// How much a finding weighs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Worth knowing; changes nothing.
    Info,
    /// Worth acting on; does not refuse.
    Warning,
    /// The kernel would not come up with its network.
    Unsafe,
}

/// The stable code of a finding; part of the contract (more may be added, none renamed).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Code {
    /// The kernel or its module directory is not there, or no module of that name is.
    ModuleMissing,
    /// The file cannot be read or decompressed.
    ModuleUnreadable,
    /// Not an ELF relocatable, or a damaged one.
    NotElf,
    /// Built for another machine or class.
    WrongArch,
    /// Symbols or sections that the kernel needs are gone.
    Stripped,
    /// The release word of vermagic names another kernel.
    VermagicRelease,
    /// The flags of vermagic differ (SMP, preempt, mod_unload, modversions…).
    VermagicFlags,
    /// The CRC of an imported symbol differs from the kernel's.
    SymbolCrc,
    /// An imported symbol that nobody provides.
    SymbolMissing,
    /// An imported symbol without a version record.
    SymbolUnversioned,
    /// The kernel uses modversions and the module carries none.
    VersionsMissing,
    /// No `Module.symvers` of the kernel can be found, so nothing can be proven.
    SymversMissing,
    /// A device in use that no driver of the kernel claims.
    DeviceUnclaimed,
    /// A module that this one depends on is missing or would not load.
    DependencyMissing,
    /// depmod's files do not describe the modules on disk.
    DepmodStale,
    /// modprobe would load another file.
    Shadowed,
    /// modprobe is told not to load it.
    Blacklisted,
    /// Not the version that the recipe names.
    WrongVersion,
    /// Not signed although the kernel demands it.
    Unsigned,
    /// Signed by a key that the kernel does not know.
    SignerUntrusted,
    /// The signature does not fit the content.
    SignatureInvalid,
    /// The kernel's initramfs carries another copy of the driver, or is missing.
    InitramfsStale,
    /// The interface may come up under another name.
    InterfaceRename,
    /// The headers of the kernel are not there (yet).
    HeadersMissing,
    /// The driver did not build.
    BuildFailed,
    /// The driver's source could not be downloaded.
    FetchFailed,
    /// A build or a package transaction is still under way.
    BuildPending,
    /// A device is bound by `driver_override` or `new_id`, which a reboot forgets.
    BoundByHand,
    /// Which kernel boots next is not certain.
    BootUnknown,
    /// Said as info: the kernel's own driver is good enough by policy.
    InTree,
    /// Said as info: the kernel does not use modversions.
    ModversionsOff,
    /// Built with another compiler, or another major version of it, than the kernel.
    CompilerMismatch,
    /// A strict rule objects to the kernel that is running well right now.
    ProvenByUse,
    /// A symbol exported only to GPL modules, or in a namespace that is not imported.
    SymbolRestricted,
    /// The next package update would remove the last safe kernel.
    LastSafeKernel,
    /// The boot default could not be moved although what boots next is safe.
    PromoteFailed,
    /// A device that was in use is not now, and is judged as if it were.
    DeviceMissing,
    /// The kernel's image is empty, cut or cannot be read.
    ImageDamaged,
    /// The installed boot loader does not load images of that kind, or may not.
    ImageFormat,
    /// The boot loader stops at the kernel's entry and waits for a person: its image is gone, or it asks for a password.
    EntryStops,
    /// The file system of the boot files has no room for one more kernel.
    BootSpace,
    /// The kernel does not drive a device, and its master carries the network without it.
    DeviceRedundant,
    /// The kernel's own driver is taken, since no release of the recipe's builds for it.
    InTreeFallback,
    /// Said as info: the newest installed kernel will never start, and vfguard does not hold it back.
    NewestNotBooting,
}

impl Code {
    /// Whether, of a module that was just built, only another source, kernel tree or compiler mends it: nothing that a person sets
    /// elsewhere (keys, modprobe.d, further modules) does.
    pub fn is_of_the_build(self) -> bool {
        match self {
            Code::NotElf
            | Code::WrongArch
            | Code::Stripped
            | Code::VermagicRelease
            | Code::VermagicFlags
            | Code::SymbolCrc
            | Code::SymbolUnversioned
            | Code::VersionsMissing
            | Code::DeviceUnclaimed
            | Code::SymbolRestricted => true,
            Code::ModuleMissing
            | Code::ModuleUnreadable
            | Code::SymbolMissing
            | Code::SymversMissing
            | Code::DependencyMissing
            | Code::DepmodStale
            | Code::Shadowed
            | Code::Blacklisted
            | Code::WrongVersion
            | Code::Unsigned
            | Code::SignerUntrusted
            | Code::SignatureInvalid
            | Code::InitramfsStale
            | Code::InterfaceRename
            | Code::HeadersMissing
            | Code::BuildFailed
            | Code::FetchFailed
            | Code::BuildPending
            | Code::BoundByHand
            | Code::BootUnknown
            | Code::InTree
            | Code::ModversionsOff
            | Code::CompilerMismatch
            | Code::ProvenByUse
            | Code::LastSafeKernel
            | Code::PromoteFailed
            | Code::DeviceMissing
            | Code::ImageDamaged
            | Code::ImageFormat
            | Code::EntryStops
            | Code::BootSpace
            | Code::DeviceRedundant
            | Code::InTreeFallback
            | Code::NewestNotBooting => false,
        }
    }
}

/// One fact about a module on a kernel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// Stable code.
    pub code: Code,
    /// Weight.
    pub severity: Severity,
    /// What was seen, with names and numbers.
    pub detail: String,
    /// The exact command or act that mends it; empty where nothing needs mending.
    pub remedy: String,
}

impl Finding {
    /// A finding that makes a kernel unsafe.
    pub fn refuse(code: Code, detail: impl Into<String>, remedy: impl Into<String>) -> Self {
        Finding { code, severity: Severity::Unsafe, detail: detail.into(), remedy: remedy.into() }
    }
    /// A finding that is said and does not refuse.
    pub fn warn(code: Code, detail: impl Into<String>, remedy: impl Into<String>) -> Self {
        Finding { code, severity: Severity::Warning, detail: detail.into(), remedy: remedy.into() }
    }
    /// Whether a person is told of it unasked: of infos, only the one that nothing else makes known.
    pub fn is_told(&self) -> bool {
        self.severity > Severity::Info || self.code == Code::NewestNotBooting
    }
    /// A finding worth knowing.
    pub fn info(code: Code, detail: impl Into<String>) -> Self {
        Finding { code, severity: Severity::Info, detail: detail.into(), remedy: String::new() }
    }
}

/// The verdict on a kernel; ordered, so that the worst of several is their maximum.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Proven: it will come up with its network.
    Safe,
    /// Not decided; refuses like unsafe.
    Unknown,
    /// Proven not to, or not proven where it must be.
    Unsafe,
}

impl Verdict {
    /// The verdict that findings add up to when each of them could be decided.
    pub fn of(findings: &[Finding]) -> Verdict {
        if findings.iter().any(|f| f.severity == Severity::Unsafe) {
            Verdict::Unsafe
        } else {
            Verdict::Safe
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    /// The test code of a file: all of it below `tests`, what follows `#[cfg(test)]` elsewhere.
    fn tested(dir: &Path, all: bool, found: &mut String) {
        for entry in fs::read_dir(dir).unwrap().map(Result::unwrap) {
            let path = entry.path();
            let name = entry.file_name().to_string_lossy().into_owned();
            if path.is_dir() && !matches!(name.as_str(), "cases" | "fuzz" | "vm") {
                tested(&path, all, found);
            } else if name.ends_with(".rs") && !path.ends_with("finding/mod.rs") {
                let text = fs::read_to_string(&path).unwrap();
                let own = all || name.ends_with("tests.rs");
                found.push_str(if own { &text } else { text.split_once("#[cfg(test)]").map_or("", |(_, rest)| rest) });
            }
        }
    }

    #[test]
    fn every_code_has_a_line_in_the_manual_and_a_test_that_expects_it() {
        let top = Path::new(env!("CARGO_MANIFEST_DIR"));
        let source = include_str!("mod.rs");
        let body = source.split_once("pub enum Code {").and_then(|(_, rest)| rest.split_once("\n}")).unwrap().0;
        let manual = fs::read_to_string(top.join("packaging/man/chapters.roff")).unwrap();
        let mut tests = String::new();
        tested(&top.join("src"), false, &mut tests);
        tested(&top.join("tests"), true, &mut tests);
        let variants: Vec<&str> = body.lines().map(str::trim).filter_map(|l| l.strip_suffix(',')).collect();
        assert!(variants.len() > 30, "{variants:?}");
        let mut untold = Vec::new();
        for variant in variants {
            let kebab: String = variant
                .char_indices()
                .map(|(at, c)| {
                    let dash = if c.is_uppercase() && at > 0 { "-" } else { "" };
                    format!("{dash}{}", c.to_lowercase())
                })
                .collect();
            assert!(manual.contains(&format!("\n.B {kebab}\n")), "the manual has no line for {kebab}");
            let told = [format!("Code::{variant}"), format!("\"{kebab}\""), format!(" {kebab}\"")];
            if !told.iter().any(|t| tests.contains(t)) {
                untold.push(kebab);
            }
        }
        assert!(untold.is_empty(), "no test expects {untold:?}");
    }
}
