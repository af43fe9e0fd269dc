//! How strongly a build can be contained here. It is found out before a build starts, for `status`, `doctor` and the sandbox
//! itself.
//!
//! A weaker level is chosen only for something that is known to be missing. If it is unknown (a file in /proc cannot be
//! read), it is assumed to be there. If creating the sandbox then fails, that is reported.

use super::{landlock, seccomp};
use crate::host::{sys, Host};
use serde::Serialize;
use std::fmt;
use std::fs;
use std::path::Path;

/// How strongly a build is contained.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    /// Namespaces of its own, and an unprivileged user that owns nothing else.
    Full,
    /// Namespaces of its own, but the caller's own user: vfguard does not run as root.
    OwnUser,
    /// An unprivileged user without namespaces: the kernel has none, or a container forbids them.
    NoNamespaces,
    /// Only resource limits: neither root nor namespaces.
    None,
}

/// A level, with the state of Landlock and seccomp.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Containment {
    /// The isolation by user and namespaces.
    pub level: Level,
    /// The version of the kernel's Landlock; none if it has none.
    pub landlock: Option<u32>,
    /// Whether the kernel filters the system calls of a build.
    pub seccomp: bool,
}

/// What a build can reach without namespaces, depending on the version of Landlock (for what each version restricts see
/// `sandbox_landlock`).
fn in_reach(landlock: Option<u32>) -> &'static str {
    match landlock {
        None => "the network and other files are",
        Some(0..=3) => "the network and other processes are",
        Some(4..=5) => "the network but TCP, and other processes, are",
        Some(6..=8) => "the network but TCP, and sockets that have a name, are",
        Some(9) => "the network but TCP is",
        Some(10..) => "the network but TCP and UDP is",
    }
}

impl fmt::Display for Containment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.level, self.landlock) {
            (Level::Full, _) => f.write_str("full: own user, no network, private file system")?,
            (Level::OwnUser, _) => f.write_str("no network, private file system, but your own user (not root)")?,
            (Level::NoNamespaces, None) => f.write_str("own user only")?,
            (Level::NoNamespaces, Some(_)) => f.write_str("own user, other files out of reach")?,
            (Level::None, None) => f.write_str("none: not root, and this system allows no user namespaces")?,
            (Level::None, Some(_)) => f.write_str("other files out of reach, but your own user (not root)")?,
        }
        match (self.level, self.landlock) {
            (Level::NoNamespaces, abi) | (Level::None, abi @ Some(_)) => {
                write!(f, ": this system allows no namespaces, so {} in reach", in_reach(abi))?;
            }
            (Level::Full | Level::OwnUser, _) | (Level::None, None) => {}
        }
        self.landlock.map_or(Ok(()), |abi| write!(f, "; Landlock {abi}"))?;
        f.write_str(if self.seccomp { "; seccomp" } else { "; no seccomp" })
    }
}

impl Level {
    /// Whether the build has a file system, a network and processes of its own.
    pub fn has_namespaces(self) -> bool {
        matches!(self, Level::Full | Level::OwnUser)
    }

    /// The next weaker level, for a system that refuses what it seemed to offer.
    pub(super) fn weaker(self) -> Option<Level> {
        match self {
            Level::Full => Some(Level::NoNamespaces),
            Level::OwnUser => Some(Level::None),
            Level::NoNamespaces | Level::None => None,
        }
    }
}

/// The bit of CAP_SYS_ADMIN (linux/capability.h). Without this capability even root cannot create namespaces.
const CAP_SYS_ADMIN: u32 = 21;

/// Whether this process may mount file systems and create namespaces, judging by its capabilities.
pub(super) fn may_mount() -> bool {
    sys::capabilities().map_or(true, |set| set >> CAP_SYS_ADMIN & 1 == 1)
}

/// How strongly this process could contain a build. No process is started. The sandbox is the running machine's, even if
/// `host` has another root.
fn level(_host: &Host) -> Level {
    let missing = |path: &Path| path.try_exists().is_ok_and(|there| !there);
    // If /proc is not mounted, nothing counts as missing.
    let told = !missing(Path::new("/proc/self"));
    let has = |kind: &str| !(told && missing(&Path::new("/proc/self/ns").join(kind)));
    let namespaces = ["mnt", "net", "pid", "ipc", "uts"].into_iter().all(has);
    if nix::unistd::geteuid().is_root() {
        return if namespaces && may_mount() { Level::Full } else { Level::NoNamespaces };
    }
    let number = |path: &str| fs::read_to_string(path).ok().and_then(|t| t.trim().parse::<u64>().ok());
    let allowed = number("/proc/sys/user/max_user_namespaces") != Some(0)
        && number("/proc/sys/kernel/unprivileged_userns_clone") != Some(0)
        && number("/proc/sys/kernel/apparmor_restrict_unprivileged_userns").unwrap_or(0) == 0
        && has("user");
    if namespaces && allowed {
        Level::OwnUser
    } else {
        Level::None
    }
}

/// How strongly this process could contain a build, including Landlock and seccomp.
pub fn containment(host: &Host) -> Containment {
    Containment { level: level(host), landlock: landlock::version(), seccomp: seccomp::is_here() }
}
