//! Whether a package manager is at work: what its transaction brings later (headers, an initramfs) is not missing yet.

use super::Host;
use nix::fcntl::{fcntl, FcntlArg};
use nix::libc;
use std::fs::File;

/// What dpkg, apt and rpm hold a POSIX lock on for as long as a transaction takes (fcntl(2); a query of rpm takes a read lock).
const LOCKS: [&str; 4] =
    ["/var/lib/dpkg/lock-frontend", "/var/lib/dpkg/lock", "/var/lib/rpm/.rpm.lock", "/usr/lib/sysimage/rpm/.rpm.lock"];

/// The lock that another process holds to write, if there is one.
pub fn under_way(host: &Host) -> Option<&'static str> {
    LOCKS.into_iter().find(|path| {
        let Ok(file) = File::open(host.path(path)) else { return false };
        let mut lock = libc::flock {
            l_type: libc::F_RDLCK as libc::c_short,
            l_whence: libc::SEEK_SET as libc::c_short,
            l_start: 0,
            l_len: 0,
            l_pid: 0,
        };
        fcntl(&file, FcntlArg::F_GETLK(&mut lock)).is_ok() && lock.l_type == libc::F_WRLCK as libc::c_short
    })
}
