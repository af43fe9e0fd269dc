//! The public names of findings, for readers of the JSON and the manual.

use serde::{Deserialize, Serialize};

/// The stable code of a finding. Part of the contract: codes may be added, but not renamed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Code {
    /// The kernel or its module directory does not exist, or has no module with that name.
    ModuleMissing,
    /// The file cannot be read or decompressed.
    ModuleUnreadable,
    /// Not an ELF relocatable file, or a damaged one.
    NotElf,
    /// Built for another architecture or ELF class.
    WrongArch,
    /// Symbols or sections that the kernel needs were stripped.
    Stripped,
    /// The release word of vermagic names another kernel.
    VermagicRelease,
    /// The flags of vermagic differ (SMP, preempt, mod_unload, modversions…).
    VermagicFlags,
    /// The CRC of an imported symbol differs from the kernel's.
    SymbolCrc,
    /// An imported symbol that nothing exports.
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
    /// modprobe would load another file instead.
    Shadowed,
    /// modprobe's configuration tells it not to load the module.
    Blacklisted,
    /// Not the version that the recipe names.
    WrongVersion,
    /// Not signed, although the kernel demands signatures.
    Unsigned,
    /// Signed by a key that the kernel does not know.
    SignerUntrusted,
    /// The signature does not match the content.
    SignatureInvalid,
    /// The kernel's initramfs carries another copy of the driver, or is missing.
    InitramfsStale,
    /// The interface may come up under another name.
    InterfaceRename,
    /// The headers of the kernel are not installed (yet).
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
    /// An info: the in-tree driver is good enough by policy.
    InTree,
    /// An info: the kernel does not use modversions.
    ModversionsOff,
    /// Built with another compiler than the kernel, or another major version of it.
    CompilerMismatch,
    /// A check fails for the kernel that is running well right now.
    ProvenByUse,
    /// A symbol exported only to GPL modules, or in a namespace that is not imported.
    SymbolRestricted,
    /// The next package update would remove the last safe kernel.
    LastSafeKernel,
    /// The boot default could not be moved although what boots next is safe.
    PromoteFailed,
    /// A device that was in use is missing, and is judged as if it were there.
    DeviceMissing,
    /// The kernel's image is empty, truncated or unreadable.
    ImageDamaged,
    /// The installed boot loader does not load images of that format, or may not.
    ImageFormat,
    /// The boot loader stops at the kernel's entry and waits for a person: its image is gone, or it asks for a password.
    EntryStops,
    /// The file system of the boot files has no room for one more kernel.
    BootSpace,
    /// The kernel does not drive a device, and its master carries the network without it.
    DeviceRedundant,
    /// The in-tree driver is used, since no release of the recipe's builds for the kernel.
    InTreeFallback,
    /// An info: the newest installed kernel will never start, although vfguard does not hold it back.
    NewestNotBooting,
}
