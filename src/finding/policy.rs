//! How bad each finding is: the one table of policy.
//!
//! The code that looks names what it saw, a [`Fact`]; how bad that is stands in [`Fact::rule`] and nowhere else. To change what is safe, change
//! a line there. What vfguard does about a finding (build, rebuild an initramfs, fetch headers) is decided by its code where it is done.

use super::{Code, Finding, Severity};
use Mark::{ByMaster, ByUse, OfTheBuild};

/// What was seen. A code that always has the same severity has one fact with the same name. Where the severity depends on the
/// circumstances, or may do so one day, each circumstance is a fact.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fact {
    /// The kernel has no module that claims the device, or the file does not exist.
    ModuleMissing,
    /// The kernel's module directory cannot be read.
    ModulesUnreadable,
    /// The kernel has only its in-tree driver, and an out-of-tree one is wanted.
    OnlyInTree,
    /// The file cannot be read or decompressed.
    ModuleUnreadable,
    /// Nothing shows that this machine's kmod can read files that are compressed like this one.
    PackingUnproven,
    /// Not an ELF relocatable file, or a damaged one.
    NotElf,
    /// Its `struct module` has another size than in the kernel's own modules.
    StructModuleDiffers,
    /// Built for another architecture or ELF class.
    WrongArch,
    /// Symbols or sections that the kernel needs were stripped.
    Stripped,
    /// The release word of vermagic names another kernel, and it is not proven that the module loads anyway.
    VermagicRelease,
    /// The same for a module with type information (BTF), which the kernel compares.
    VermagicReleaseAndTypes,
    /// The release word names another kernel, and every symbol CRC is this kernel's.
    VermagicReleaseSameSymbols,
    /// A module that was just built names another kernel than it was built for.
    BuiltForAnother,
    /// The flags of vermagic differ.
    VermagicFlags,
    /// The kernel's own flags are not known.
    VermagicFlagsUnknown,
    /// The CRC of an imported symbol differs from the kernel's.
    SymbolCrc,
    /// An imported symbol that nothing exports.
    SymbolMissing,
    /// A symbol that has no version, or whose version cannot be compared.
    SymbolUnversioned,
    /// A symbol that the kernel does not let this module import, or export.
    SymbolRestricted,
    /// The kernel uses modversions and the module carries none.
    VersionsMissing,
    /// The kernel does not use modversions.
    ModversionsOff,
    /// The kernel has no `Module.symvers` here.
    SymversMissing,
    /// The `Module.symvers` that is here is incomplete.
    SymversCut,
    /// No `Module.symvers` is here, but the module is in-tree and signed by the kernel's build.
    SymversMissingOwnModule,
    /// Built with another compiler than the kernel.
    CompilerMismatch,
    /// Not the version that the recipe names.
    WrongVersion,
    /// The module, or every driver of the kernel, does not claim a device in use.
    DeviceUnclaimed,
    /// A module that this one depends on is missing or would not load.
    DependencyMissing,
    /// The same, but no module of the kernel is installed at all: only its headers are here.
    DependencyNotInstalled,
    /// A module that a softdep line names exists, but would not load.
    SoftDependencyBroken,
    /// A module that a softdep line names does not exist.
    SoftDependencyMissing,
    /// depmod's files do not describe the modules on disk.
    DepmodStale,
    /// modprobe would load another file instead.
    Shadowed,
    /// modprobe would load this file only until depmod runs again, and another one after that.
    ShadowedAfterDepmod,
    /// modprobe's configuration tells it not to load the module.
    Blacklisted,
    /// A file of modprobe.d that may blacklist the module cannot be read.
    BlacklistUnreadable,
    /// dracut's configuration keeps the module from loading before the root is mounted.
    BlacklistedEarly,
    /// The modprobe.d in the initramfs blacklists the module.
    BlacklistedInInitramfs,
    /// Not signed, although the kernel demands signatures.
    Unsigned,
    /// Signed by a key that the kernel does not accept, and it demands one that it accepts.
    SignerUntrusted,
    /// Signed by a key that the kernel does not know, but it loads the module anyway.
    SignerUntrustedNotEnforced,
    /// Signed twice; only the last signature counts.
    SignedTwice,
    /// The signature does not match the content, or is damaged.
    SignatureInvalid,
    /// It cannot be proven whether the signature matches.
    SignatureUnproven,
    /// The same for an out-of-tree module, where the kernel's image is not here and the kernel does not demand signatures.
    SignatureUnprovenNotEnforced,
    /// The initramfs carries another copy of the driver.
    InitramfsStale,
    /// The initramfs cannot be read to the end.
    InitramfsUnreadable,
    /// The initramfs has no end marker.
    InitramfsMayBeCut,
    /// The initramfs that the boot entry names does not exist.
    InitramfsMissing,
    /// The boot entry names no initramfs, but the entries of other kernels do.
    EntryWithoutInitramfs,
    /// The same for the running kernel, which may have booted without one.
    RunningWithoutInitramfs,
    /// The interface may get another name, and the network configuration knows it only by its name.
    InterfaceRename,
    /// The interface may get another name, but no configuration names it.
    InterfaceRenameUnconfigured,
    /// A device is bound by `driver_override` or `new_id`, which a reboot forgets.
    BoundByHand,
    /// The headers of the kernel are not installed, or incomplete.
    HeadersMissing,
    /// The driver did not build, or cannot be built here.
    BuildFailed,
    /// A program is missing that the makefiles of some drivers call.
    ProgramMayBeNeeded,
    /// The driver's source could not be downloaded.
    FetchFailed,
    /// Something is missing or incomplete, but may still come: a package manager is at work.
    PackageManagerAtWork,
    /// The boot entry stops at a kernel whose package is being removed.
    KernelLeaving,
    /// Another run of vfguard is at work.
    OtherRunAtWork,
    /// Which kernel boots next is not certain.
    BootUnknown,
    /// The boot loader stops at the kernel's entry.
    EntryStops,
    /// The kernel's image is not whole.
    ImageDamaged,
    /// Root cannot read the kernel's image.
    ImageUnreadable,
    /// The kernel's image was not checked, since only root may read it.
    ImageNotSeen,
    /// The installed boot loader does not load images of that format.
    ImageFormat,
    /// It is not known whether it does.
    ImageFormatUnproven,
    /// The file system of the boot files has no room for one more kernel.
    BootSpace,
    /// The in-tree driver serves, and the settings accept it.
    InTree,
    /// The in-tree driver would load, but is hidden by one that does not.
    InTreeHidden,
    /// The in-tree driver is used, since no release of the recipe's builds for the kernel.
    InTreeFallback,
    /// A check fails for the kernel that is running well right now.
    ProvenByUse,
    /// A device is lost, but its master carries the network without it.
    DeviceRedundant,
    /// A device is lost, and its master does not carry the network without it.
    MasterDoesNotCarry,
    /// A device that was in use is missing, but the kernel would drive it.
    DeviceMissing,
    /// The same, where another finding refuses the kernel.
    DeviceMissingOfUnsafe,
    /// The boot default is held because of a device, and it is not known any more which one.
    DeviceForgotten,
    /// The next package update would remove the last safe kernel.
    LastSafeKernel,
    /// The boot default could not be moved although what boots next is safe.
    PromoteFailed,
    /// The newest installed kernel will never start, although vfguard does not hold it back.
    NewestNotBooting,
}

/// When a refusing finding is excused, and what fixes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mark {
    /// Excused by use: it is about a file that loaded and works. A fact about what the next boot would find elsewhere (a missing or
    /// shadowed file, another initramfs, a blacklist added since) does not have this mark.
    ByUse,
    /// Excused by a master that carries the network without the device. Only for facts that mean that the module is certainly missing, or
    /// that the kernel certainly refuses it. A module that may be loaded and then do harm is not excused: it may load by force
    /// (`CONFIG_MODULE_FORCE_LOAD`), where the kernel only logs a warning, after the next depmod, or as another module's dependency.
    ByMaster,
    /// If a module that was just built has it, only another source, kernel tree or compiler fixes it, and not a change elsewhere (keys,
    /// modprobe.d, more modules).
    OfTheBuild,
}

/// What follows from a fact.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rule {
    /// The code of the finding.
    pub code: Code,
    /// Its severity, before anything excuses it.
    pub severity: Severity,
    /// Its marks; only facts that refuse have any.
    pub marks: &'static [Mark],
    /// Whether people see it without `-v` although it is an info, since nothing else reports it.
    pub told: bool,
}

const fn refuse(code: Code, marks: &'static [Mark]) -> Rule {
    Rule { code, severity: Severity::Unsafe, marks, told: false }
}

const fn warn(code: Code) -> Rule {
    Rule { code, severity: Severity::Warning, marks: &[], told: false }
}

const fn info(code: Code) -> Rule {
    Rule { code, severity: Severity::Info, marks: &[], told: false }
}

const fn told(code: Code) -> Rule {
    Rule { told: true, ..info(code) }
}

impl Fact {
    /// The table.
    pub(super) const fn rule(self) -> Rule {
        match self {
            // The module's file.
            Fact::ModuleMissing | Fact::ModulesUnreadable | Fact::OnlyInTree => refuse(Code::ModuleMissing, &[ByMaster]),
            Fact::ModuleUnreadable | Fact::PackingUnproven => refuse(Code::ModuleUnreadable, &[ByUse]),
            Fact::NotElf | Fact::StructModuleDiffers => refuse(Code::NotElf, &[ByUse, OfTheBuild]),
            Fact::WrongArch => refuse(Code::WrongArch, &[ByUse, ByMaster, OfTheBuild]),
            Fact::Stripped => refuse(Code::Stripped, &[ByUse, OfTheBuild]),
            Fact::WrongVersion => warn(Code::WrongVersion),
            Fact::CompilerMismatch => warn(Code::CompilerMismatch),

            // The module and the kernel that has to load it.
            Fact::VermagicRelease | Fact::VermagicReleaseAndTypes | Fact::BuiltForAnother => {
                refuse(Code::VermagicRelease, &[ByUse, OfTheBuild])
            }
            Fact::VermagicReleaseSameSymbols => info(Code::VermagicRelease),
            Fact::VermagicFlags | Fact::VermagicFlagsUnknown => refuse(Code::VermagicFlags, &[ByUse, OfTheBuild]),
            Fact::SymbolCrc => refuse(Code::SymbolCrc, &[ByUse, ByMaster, OfTheBuild]),
            Fact::SymbolMissing => refuse(Code::SymbolMissing, &[ByUse, ByMaster]),
            Fact::SymbolUnversioned => refuse(Code::SymbolUnversioned, &[ByUse, OfTheBuild]),
            Fact::SymbolRestricted => refuse(Code::SymbolRestricted, &[ByUse, OfTheBuild]),
            Fact::VersionsMissing => refuse(Code::VersionsMissing, &[ByUse, OfTheBuild]),
            Fact::ModversionsOff => info(Code::ModversionsOff),
            Fact::SymversMissing | Fact::SymversCut => refuse(Code::SymversMissing, &[ByUse]),
            Fact::SymversMissingOwnModule => info(Code::SymversMissing),
            Fact::DeviceUnclaimed => refuse(Code::DeviceUnclaimed, &[ByMaster, OfTheBuild]),

            // The module's signature.
            Fact::Unsigned => refuse(Code::Unsigned, &[ByUse, ByMaster]),
            Fact::SignerUntrusted => refuse(Code::SignerUntrusted, &[ByUse, ByMaster]),
            Fact::SignerUntrustedNotEnforced | Fact::SignedTwice => info(Code::SignerUntrusted),
            Fact::SignatureInvalid | Fact::SignatureUnproven => refuse(Code::SignatureInvalid, &[ByUse, ByMaster]),
            Fact::SignatureUnprovenNotEnforced => warn(Code::SignatureInvalid),

            // What modprobe would do.
            Fact::DependencyMissing => refuse(Code::DependencyMissing, &[]),
            Fact::DependencyNotInstalled | Fact::SoftDependencyBroken => warn(Code::DependencyMissing),
            Fact::SoftDependencyMissing => info(Code::DependencyMissing),
            Fact::DepmodStale => refuse(Code::DepmodStale, &[]),
            Fact::Shadowed => refuse(Code::Shadowed, &[ByMaster]),
            Fact::ShadowedAfterDepmod => warn(Code::Shadowed),
            Fact::Blacklisted | Fact::BlacklistUnreadable => refuse(Code::Blacklisted, &[]),
            Fact::BlacklistedEarly | Fact::BlacklistedInInitramfs => warn(Code::Blacklisted),

            // The boot: entry, image, initramfs, interface names.
            Fact::BootUnknown => refuse(Code::BootUnknown, &[]),
            Fact::EntryStops => refuse(Code::EntryStops, &[]),
            Fact::ImageDamaged | Fact::ImageUnreadable => refuse(Code::ImageDamaged, &[]),
            Fact::ImageNotSeen => warn(Code::ImageDamaged),
            Fact::ImageFormat => refuse(Code::ImageFormat, &[]),
            Fact::ImageFormatUnproven => warn(Code::ImageFormat),
            Fact::InitramfsStale | Fact::InitramfsUnreadable | Fact::InitramfsMissing | Fact::EntryWithoutInitramfs => {
                refuse(Code::InitramfsStale, &[])
            }
            Fact::InitramfsMayBeCut | Fact::RunningWithoutInitramfs => warn(Code::InitramfsStale),
            Fact::InterfaceRename => refuse(Code::InterfaceRename, &[]),
            Fact::InterfaceRenameUnconfigured => warn(Code::InterfaceRename),
            Fact::BoundByHand => warn(Code::BoundByHand),
            Fact::BootSpace => warn(Code::BootSpace),
            Fact::LastSafeKernel => warn(Code::LastSafeKernel),
            Fact::PromoteFailed => warn(Code::PromoteFailed),
            Fact::NewestNotBooting => told(Code::NewestNotBooting),

            // The build, and work that is still going on.
            Fact::HeadersMissing => refuse(Code::HeadersMissing, &[ByUse]),
            Fact::BuildFailed => refuse(Code::BuildFailed, &[ByUse]),
            Fact::ProgramMayBeNeeded => warn(Code::BuildFailed),
            Fact::FetchFailed => refuse(Code::FetchFailed, &[ByUse]),
            Fact::PackageManagerAtWork | Fact::KernelLeaving => refuse(Code::BuildPending, &[]),
            Fact::OtherRunAtWork => warn(Code::BuildPending),

            // The judgement of a need.
            Fact::InTree => info(Code::InTree),
            Fact::InTreeHidden => warn(Code::InTree),
            Fact::InTreeFallback => warn(Code::InTreeFallback),
            Fact::ProvenByUse => warn(Code::ProvenByUse),
            Fact::DeviceRedundant => warn(Code::DeviceRedundant),
            Fact::MasterDoesNotCarry => info(Code::DeviceRedundant),
            Fact::DeviceMissing => info(Code::DeviceMissing),
            Fact::DeviceMissingOfUnsafe => warn(Code::DeviceMissing),
            Fact::DeviceForgotten => refuse(Code::DeviceMissing, &[]),
        }
    }
}

/// Changes of a finding's severity after it was made.
impl Finding {
    /// Excuses the finding: it becomes a warning and does not refuse any more.
    pub fn excuse(&mut self) {
        self.severity = self.severity.min(Severity::Warning);
    }

    /// Makes it an info without a remedy: the problem was avoided in another way, so nothing is left to fix.
    pub fn into_info(self) -> Finding {
        Finding { severity: Severity::Info, remedy: String::new(), ..self }
    }
}
