//! Landlock: what a build may touch, in the kernel's own access control (`Documentation/userspace-api/landlock.rst`; Linux 5.13).
//!
//! Where a build has namespaces it is a second wall behind them, and one thing more: nothing can be mounted, in no further
//! namespace either. Where there are none, as in many containers, it alone keeps a build from what anyone may read or write.
//!
//! A kernel holds as much of it as it knows; one without it (ENOSYS, EOPNOTSUPP) goes without, and that is said. What each version
//! brought, of that which is asked for here:
//!
//! ```text
//!  1  5.13  reading, writing, making and removing by path     5  6.10  ioctl(2) on devices
//!  2  5.19  moving from one directory to another              6  6.12  abstract sockets, signals
//!  3  6.2   truncating                                        9  7.1   sockets by path
//!  4  6.7   TCP                                              10  7.2   UDP
//! ```
//!
//! Versions 7 and 8 hold nothing more. Of the former's settings for the audit log none is touched: what a build is refused is not
//! logged unless asked for, and a compiler looks for many files that are not its own. The latter restricts all threads of a
//! process at once; between fork and exec there is one.

use landlock::{
    Access, AccessFs, AccessNet, BitFlags, LandlockStatus, PathBeneath, RestrictSelf, Ruleset, RulesetAttr,
    RulesetCreatedAttr, RulesetError, Scope, ABI,
};
use nix::errno::Errno;
use nix::fcntl::{open, OFlag};
use nix::sys::stat::Mode;
use std::ffi::CString;

/// The version whose rights are asked for, the newest that the crate knows. Builds were tried with those up to 7 (Linux 6.18); a
/// compiler needs nothing of what 9 and 10 hold.
const VERSION: ABI = ABI::V10;

/// What a build may do below a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Allowed {
    /// Read and execute.
    Read,
    /// Read and write what is there.
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

/// The version of the running kernel's Landlock; none where it has none or does not use it.
pub(super) fn version() -> Option<u32> {
    // Without flags nothing is restricted; this is how the crate tells.
    match RestrictSelf::default().no_new_privs(false).apply().ok()?.landlock {
        LandlockStatus::Available { effective_abi, kernel_abi } => {
            Some(kernel_abi.map_or(effective_abi as u32, |n| n as u32))
        }
        LandlockStatus::NotEnabled | LandlockStatus::NotImplemented => None,
    }
}

/// Restricts this process and all that come from it, for ever. Runs between fork and exec: the crate makes system calls and
/// allocates nothing on this way.
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
            // What is gone needs no leave.
            Err(Errno::ENOENT | Errno::EACCES) => {}
            Err(e) => return Err(e),
        }
    }
    ruleset.restrict_self().map_err(failed).map(drop)
}
