//! Landlock: what a build may access, by the kernel's own access control (`Documentation/userspace-api/landlock.rst`; Linux
//! 5.13).
//!
//! If a build has namespaces, this is a second barrier. It also forbids mounts, even in a further namespace. Without
//! namespaces, as in many containers, it is the only protection of files that every user may read or write.
//!
//! A kernel enforces the parts that it knows. Without Landlock (ENOSYS, EOPNOTSUPP) the build runs without it, and vfguard
//! reports that. Of the rights used here, each version brought:
//!
//! ```text
//!  1  5.13  reading, writing, making and removing by path     5  6.10  ioctl(2) on devices
//!  2  5.19  moving from one directory to another              6  6.12  abstract sockets, signals
//!  3  6.2   truncating                                        9  7.1   sockets by path
//!  4  6.7   TCP                                              10  7.2   UDP
//! ```
//!
//! Versions 7 and 8 add no rights. Version 7 has settings for the audit log, which are left as they are: refused accesses
//! are not logged unless asked for, and a compiler looks for many files that it may not read. Version 8 restricts all
//! threads of a process at once; between fork and exec there is only one.

use landlock::{
    Access, AccessFs, AccessNet, BitFlags, LandlockStatus, PathBeneath, RestrictSelf, Ruleset, RulesetAttr,
    RulesetCreatedAttr, RulesetError, Scope, ABI,
};
use nix::errno::Errno;
use nix::fcntl::{open, OFlag};
use nix::sys::stat::Mode;
use std::ffi::CString;

/// The newest version that the crate knows; its rights are requested. Builds were tested with versions up to 7 (Linux 6.18).
/// A compiler needs none of the rights that versions 9 and 10 restrict.
const VERSION: ABI = ABI::V10;

/// What a build may do below a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Allowed {
    /// Read and execute.
    Read,
    /// Read and write existing files.
    Device,
    /// Everything.
    Write,
}

/// One path, as the build sees it.
#[derive(Debug)]
pub(super) struct Rule {
    pub path: CString,
    pub allowed: Allowed,
}

/// The Landlock version of the running kernel; none if it has no Landlock or it is disabled.
pub(super) fn version() -> Option<u32> {
    // Without flags this call restricts nothing. It is the crate's way to ask for the version.
    match RestrictSelf::default().no_new_privs(false).apply().ok()?.landlock {
        LandlockStatus::Available { effective_abi, kernel_abi } => {
            Some(kernel_abi.map_or(effective_abi as u32, |n| n as u32))
        }
        LandlockStatus::NotEnabled | LandlockStatus::NotImplemented => None,
    }
}

/// Restricts this process and all its descendants permanently. Runs between fork and exec: on this path the crate makes
/// system calls and allocates nothing.
pub(super) fn restrict(rules: &[Rule]) -> Result<(), Errno> {
    let failed = |_: RulesetError| match Errno::last_raw() {
        0 => Errno::EINVAL,
        raw => Errno::from_raw(raw),
    };
    Errno::clear();
    let everything = AccessFs::from_all(VERSION);
    let mut ruleset = Ruleset::default()
        .handle_access(everything)
        .and_then(|r| r.handle_access(AccessNet::from_all(VERSION)))
        .and_then(|r| r.scope(Scope::from_all(VERSION)))
        .and_then(Ruleset::create)
        .map_err(failed)?;
    let read = AccessFs::from_read(VERSION);
    for Rule { path, allowed } in rules {
        let access: BitFlags<AccessFs> = match allowed {
            Allowed::Read => read,
            Allowed::Device => read | AccessFs::WriteFile | AccessFs::Truncate | AccessFs::IoctlDev,
            Allowed::Write => everything,
        };
        match open(path.as_c_str(), OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty()) {
            Ok(at) => ruleset = ruleset.add_rule(PathBeneath::new(at, access)).map_err(failed)?,
            // Skip paths that do not exist.
            Err(Errno::ENOENT | Errno::EACCES) => {}
            Err(e) => return Err(e),
        }
    }
    ruleset.restrict_self().map_err(failed).map(drop)
}
