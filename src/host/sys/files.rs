//! Files: writing without allocation, SELinux labels, access control lists, and freezing file systems.

#![allow(unsafe_code)]

use nix::errno::Errno;
use nix::libc;
use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Writes bytes to an existing file without allocating.
///
/// # Errors
/// Those of open(2) and write(2).
pub fn write_file(path: &CStr, bytes: &[u8]) -> nix::Result<()> {
    // SAFETY: the path ends in NUL; the descriptor belongs to this function and is closed once.
    let fd = Errno::result(unsafe { libc::open(path.as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC) })?;
    let mut rest = bytes;
    let mut done = Ok(());
    while !rest.is_empty() && done.is_ok() {
        // SAFETY: the slice is valid for its length.
        let written = Errno::result(unsafe { libc::write(fd, rest.as_ptr().cast(), rest.len()) });
        done = match written.map(|n| rest.get(n as usize..).filter(|left| left.len() < rest.len())) {
            Ok(Some(left)) => {
                rest = left;
                Ok(())
            }
            Ok(None) => Err(Errno::EIO),
            Err(Errno::EINTR) => Ok(()),
            Err(e) => Err(e),
        };
    }
    // SAFETY: opened above.
    unsafe { libc::close(fd) };
    done
}

/// The name of the extended attribute that holds the SELinux label (xattr(7)).
const LABEL: &CStr = c"security.selinux";
/// A label is a short string; SELinux accepts at most a page.
const MAX_LABEL: usize = 4096;

/// The SELinux label of an open file; `None` without SELinux.
pub fn label(file: impl AsFd) -> Option<Vec<u8>> {
    let mut value = vec![0u8; MAX_LABEL];
    // SAFETY: the buffer is valid for the length that is passed.
    let length =
        unsafe { libc::fgetxattr(file.as_fd().as_raw_fd(), LABEL.as_ptr(), value.as_mut_ptr().cast(), value.len()) };
    value.truncate(usize::try_from(length).ok()?);
    Some(value)
}

/// Whether a file has an access control list beyond its mode (acl(5)). In doubt yes.
pub fn has_acl(path: &Path) -> bool {
    let Ok(path) = CString::new(path.as_os_str().as_bytes()) else { return true };
    // SAFETY: both strings end in NUL. Without a buffer the call only returns the length.
    let length = unsafe { libc::getxattr(path.as_ptr(), c"system.posix_acl_access".as_ptr(), std::ptr::null_mut(), 0) };
    length >= 0 || !matches!(Errno::last(), Errno::ENODATA | Errno::EOPNOTSUPP | Errno::ENOSYS)
}

/// Sets the label of an open file.
///
/// # Errors
/// Those of fsetxattr(2).
pub fn set_label(file: impl AsFd, value: &[u8]) -> nix::Result<()> {
    // SAFETY: the slice is valid for its length.
    let result = unsafe { libc::fsetxattr(file.as_fd().as_raw_fd(), LABEL.as_ptr(), value.as_ptr().cast(), value.len(), 0) };
    Errno::result(result).map(drop)
}

mod raw {
    // linux/fs.h: FIFREEZE _IOWR('X', 119, int), FITHAW _IOWR('X', 120, int); the argument is not used.
    nix::ioctl_readwrite!(fifreeze, b'X', 119, nix::libc::c_int);
    nix::ioctl_readwrite!(fithaw, b'X', 120, nix::libc::c_int);
}

/// Freezes the file system of an open file. When this returns, its journal is empty, and every write waits until [`thaw`].
///
/// # Errors
/// Those of FIFREEZE: `EOPNOTSUPP` if the file system cannot be frozen, `EBUSY` if it is already frozen.
pub fn freeze(file: impl AsFd) -> nix::Result<()> {
    let mut unused = 0;
    // SAFETY: the kernel neither reads nor writes the argument.
    unsafe { raw::fifreeze(file.as_fd().as_raw_fd(), &mut unused) }.map(drop)
}

/// Thaws the file system of an open file.
///
/// # Errors
/// Those of FITHAW: `EINVAL` if it is not frozen.
pub fn thaw(file: impl AsFd) -> nix::Result<()> {
    let mut unused = 0;
    // SAFETY: as for FIFREEZE.
    unsafe { raw::fithaw(file.as_fd().as_raw_fd(), &mut unused) }.map(drop)
}

/// fnmatch(3) of the C library without flags, to compare our own with.
#[cfg(test)]
pub(super) fn fnmatch(pattern: &std::ffi::CStr, text: &std::ffi::CStr) -> bool {
    // SAFETY: both strings end in NUL, and fnmatch keeps neither.
    unsafe { libc::fnmatch(pattern.as_ptr(), text.as_ptr(), 0) == 0 }
}
