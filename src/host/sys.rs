//! The one fenced file with `unsafe`: system calls that no safe crate wraps, each behind a safe function.
#![allow(unsafe_code)]

use nix::errno::Errno;
use std::fs::File;
use std::os::fd::AsRawFd;

mod raw {
    // linux/fs.h: FIFREEZE _IOWR('X', 119, int), FITHAW _IOWR('X', 120, int); the argument is not used.
    nix::ioctl_readwrite!(fifreeze, b'X', 119, nix::libc::c_int);
    nix::ioctl_readwrite!(fithaw, b'X', 120, nix::libc::c_int);
}

/// Freezes the file system of an open directory and thaws it at once: its journal then is empty, and a boot loader that reads
/// no journal (GRUB on XFS or ext4) sees what was written.
///
/// # Errors
/// Those of FIFREEZE (`EOPNOTSUPP` where the file system cannot, `EBUSY` where another has frozen it) and FITHAW.
pub fn freeze_and_thaw(directory: &File) -> nix::Result<()> {
    let mut unused = 0;
    // SAFETY: the descriptor is open for the whole call, and the kernel neither reads nor writes the argument.
    unsafe { raw::fifreeze(directory.as_raw_fd(), &mut unused) }?;
    // A file system that stays frozen would hang the machine, so an interrupted thaw is tried again.
    loop {
        // SAFETY: as above.
        match unsafe { raw::fithaw(directory.as_raw_fd(), &mut unused) } {
            Err(Errno::EINTR) => {}
            result => return result.map(|_| ()),
        }
    }
}
