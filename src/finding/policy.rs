//! How bad what was found is: the one table of policy.
//!
//! Those who look name what they saw, a [`Fact`]; how bad that is stands in [`Fact::rule`] and nowhere else. To change what is safe, change
//! a line there. What vfguard does about a finding (build, rebuild an initramfs, fetch headers) is decided by its code where it is done.

use super::{Code, Finding, Severity};
use Mark::{ByMaster, ByUse, OfTheBuild};

/// What was seen. A code that always weighs the same has one fact of its own name. Where it does not, or where one may want it not to, each
/// circumstance is a fact.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fact {
    /// The kernel has no module that claims the device, or the file is gone.
    ModuleMissing,
    /// The kernel's module directory cannot be read.
    ModulesUnreadable,
    /// The kernel has its own driver only, and an out-of-tree one is wanted.
    OnlyInTree,
    /// The file cannot be read or decompressed.
    ModuleUnreadable,
    /// Nothing shows that this machine's kmod reads files packed like this one.
    PackingUnproven,
    /// Not an ELF relocatable, or a damaged one.
    NotElf,
    /// Its `struct module` is of another size than that of the kernel's own modules.
    StructModuleDiffers,
    /// Built for another machine or class.
    WrongArch,
    /// Symbols or sections that the kernel needs are gone.
    Stripped,
    /// The release word of vermagic names another kernel, and that it loads all the same is not proven.
    VermagicRelease,
    /// The same, of a module that carries type information (BTF), which the kernel compares.
    VermagicReleaseAndTypes,
    /// The release word names another kernel, and every symbol CRC is this kernel's.
    VermagicReleaseSameSymbols,
    /// What was built a moment ago names another kernel than it was built for.
    BuiltForAnother,
    /// The flags of vermagic differ.
    VermagicFlags,
    /// The kernel's own flags are not known.
    VermagicFlagsUnknown,
    /// The CRC of an imported symbol differs from the kernel's.
    SymbolCrc,
    /// An imported symbol that nobody provides.
    SymbolMissing,
    /// A symbol that has no version, or whose version cannot be compared.
    SymbolUnversioned,
    /// A symbol that the kernel does not let this module take, or export.
    SymbolRestricted,
    /// The kernel uses modversions and the module carries none.
    VersionsMissing,
    /// The kernel does not use modversions.
    ModversionsOff,
    /// No `Module.symvers` of the kernel is here.
    SymversMissing,
    /// The `Module.symvers` that is here is not whole.
    SymversCut,
    /// None is here, and the module is the kernel's own, signed by its build.
    SymversMissingOwnModule,
    /// Built with another compiler than the kernel.
    CompilerMismatch,
    /// Not the version that the recipe names.
    WrongVersion,
    /// A device in use that the module, or any driver of the kernel, does not claim.
    DeviceUnclaimed,
    /// A module that this one depends on is missing or would not load.
    DependencyMissing,
    /// The same, where no module of the kernel is installed at all: only its headers are here.
    DependencyNotInstalled,
    /// A module of a softdep line is there and would not load.
    SoftDependencyBroken,
    /// A module of a softdep line is not there.
    SoftDependencyMissing,
    /// depmod's files do not describe the modules on disk.
    DepmodStale,
    /// modprobe would load another file.
    Shadowed,
    /// modprobe would load this file until depmod runs again, and then another.
    ShadowedAfterDepmod,
    /// modprobe is told not to load it.
    Blacklisted,
    /// A file of modprobe.d that may say so cannot be read.
    BlacklistUnreadable,
    /// dracut is told not to load it before the root is mounted.
    BlacklistedEarly,
    /// The modprobe.d of the initramfs says not to load it.
    BlacklistedInInitramfs,
    /// Not signed although the kernel demands it.
    Unsigned,
    /// Signed by a key that the kernel does not take, and it demands one that it does.
    SignerUntrusted,
    /// Signed by a key that the kernel does not know, and it loads the module all the same.
    SignerUntrustedNotEnforced,
    /// Signed twice; the last one counts.
    SignedTwice,
    /// The signature does not fit the content, or is damaged.
    SignatureInvalid,
    /// Whether the signature fits cannot be proven.
    SignatureUnproven,
    /// The same of an out-of-tree module, where the kernel's image is not here and it does not demand signatures.
    SignatureUnprovenNotEnforced,
    /// The initramfs carries another copy of the driver.
    InitramfsStale,
    /// The initramfs cannot be read to its end.
    InitramfsUnreadable,
    /// The initramfs ends without the mark of its end.
    InitramfsMayBeCut,
    /// The initramfs that the boot entry names is not there.
    InitramfsMissing,
    /// The boot entry names no initramfs, and those of other kernels do.
    EntryWithoutInitramfs,
    /// The same of the kernel that is running, which may have come up so.
    RunningWithoutInitramfs,
    /// The interface may get another name, and the network settings know it by its name alone.
    InterfaceRename,
    /// The interface may get another name, and no settings name it.
    InterfaceRenameUnconfigured,
    /// A device is bound by `driver_override` or `new_id`, which a reboot forgets.
    BoundByHand,
    /// The headers of the kernel are not there, or incomplete.
    HeadersMissing,
    /// The driver did not build, or cannot be built here.
    BuildFailed,
    /// A program is missing that makefiles of some drivers call.
    ProgramMayBeNeeded,
    /// The driver's source could not be downloaded.
    FetchFailed,
    /// What is not there or not whole may come: a package manager is at work.
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
    /// The kernel's image was not looked at, since only root may.
    ImageNotSeen,
    /// The installed boot loader does not load images of that kind.
    ImageFormat,
    /// Whether it does is not known.
    ImageFormatUnproven,
    /// The file system of the boot files has no room for one more kernel.
    BootSpace,
    /// The kernel's own driver serves, and is good enough by the settings.
    InTree,
    /// The kernel's own driver would load, and one that does not hides it.
    InTreeHidden,
    /// The kernel's own driver is taken, since no release of the recipe's builds for it.
    InTreeFallback,
    /// A strict rule objects to the kernel that is running well right now.
    ProvenByUse,
    /// A device is lost, and its master carries the network without it.
    DeviceRedundant,
    /// A device is lost that has a master, which does not carry the network without it.
    MasterDoesNotCarry,
    /// A device that was in use is not now, and the kernel would drive it.
    DeviceMissing,
    /// The same beside what refuses the kernel.
    DeviceMissingOfUnsafe,
    /// The boot default is held for a device, and which one is not known any more.
    DeviceForgotten,
    /// The next package update would remove the last safe kernel.
    LastSafeKernel,
    /// The boot default could not be moved although what boots next is safe.
    PromoteFailed,
    /// The newest installed kernel will never start, and vfguard does not hold it back.
    NewestNotBooting,
}

/// What else is true of a finding that refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mark {
    /// The proof by use answers it: it is about a file that loaded and works. What a new boot would find elsewhere (a missing or shadowed
    /// file, another initramfs, a blacklist added since) is not.
    ByUse,
    /// A master that carries the network without the device answers it: all that comes of it is that the module is certainly not there, or
    /// that the kernel certainly refuses it. One that might be loaded, and then do harm, is no loss that a master makes good: by force
    /// (`CONFIG_MODULE_FORCE_LOAD`), where only a warning is logged, after the next depmod, or as another module's dependency.
    ByMaster,
    /// Of a module that was just built, only another source, kernel tree or compiler mends it: nothing that a person sets elsewhere (keys,
    /// modprobe.d, further modules) does.
    OfTheBuild,
}

/// What follows from a fact.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rule {
    /// What the finding is called.
    pub code: Code,
    /// How much it weighs before anything answers it.
    pub severity: Severity,
    /// Only where it refuses.
    pub marks: &'static [Mark],
    /// An info that people are told of unasked, since nothing else makes it known.
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

            // Against the kernel that is to load it.
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

            // Its signature.
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

            // The boot: entry, image, initramfs, names.
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

            // The build, and what is still under way.
            Fact::HeadersMissing => refuse(Code::HeadersMissing, &[ByUse]),
            Fact::BuildFailed => refuse(Code::BuildFailed, &[ByUse]),
            Fact::ProgramMayBeNeeded => warn(Code::BuildFailed),
            Fact::FetchFailed => refuse(Code::FetchFailed, &[ByUse]),
            Fact::PackageManagerAtWork | Fact::KernelLeaving => refuse(Code::BuildPending, &[]),
            Fact::OtherRunAtWork => warn(Code::BuildPending),

            // What the judge says of a need.
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

/// How the weight of a finding changes after it was made.
impl Finding {
    /// Something answers what it objects to: it refuses no more, and is a warning.
    pub fn excuse(&mut self) {
        self.severity = self.severity.min(Severity::Warning);
    }

    /// What it says was got round by other means: it is worth knowing, and nothing is left to mend.
    pub fn into_info(self) -> Finding {
        Finding { severity: Severity::Info, remedy: String::new(), ..self }
    }
}
