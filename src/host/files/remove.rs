//! Removes a directory tree that an untrusted user created, with any depth and any names. It uses a handful of descriptors
//! and no recursion, and follows no symbolic link. Nested directories are first moved into the top directory and removed
//! from there.

use nix::dir::{Dir, Type};
use nix::errno::Errno;
use nix::fcntl::{openat, renameat, OFlag, AT_FDCWD};
use nix::sys::stat::{fchmodat, FchmodatFlags, Mode};
use nix::unistd::{unlinkat, UnlinkatFlags};
use std::ffi::{CStr, CString};
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

const DIRECTORY: OFlag = OFlag::O_RDONLY.union(OFlag::O_DIRECTORY).union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC);

/// Removes a file, or a directory with its contents. No other user may write in the directory itself; below it other users
/// may have done anything, but their processes are gone.
///
/// # Errors
/// Those of opening, reading, renaming and removing; what was removed before the error stays removed.
pub fn tree(path: &Path) -> io::Result<()> {
    if !fs::symlink_metadata(path)?.is_dir() {
        return fs::remove_file(path);
    }
    let top = openat(AT_FDCWD, path, DIRECTORY, Mode::empty())?;
    let mut brought = 0;
    loop {
        let names = names(&top)?;
        if names.is_empty() {
            break;
        }
        for name in names {
            entry(&top, &name, &mut brought)?;
        }
    }
    fs::remove_dir(path)
}

/// Removes one entry of the top directory. Its subdirectories are moved into the top directory.
fn entry(top: &OwnedFd, name: &CStr, brought: &mut u64) -> io::Result<()> {
    if !unlinked(top, name)? {
        match bring_up(top, name, brought) {
            Err(e) if e.raw_os_error() == Some(Errno::EACCES as i32) => {
                open_up(top, name)?;
                bring_up(top, name, brought)?;
            }
            result => result?,
        }
        unlinkat(top, name, UnlinkatFlags::RemoveDir)?;
    }
    Ok(())
}

/// Empties a directory in the top directory. Its subdirectories are moved into the top directory.
fn bring_up(top: &OwnedFd, name: &CStr, brought: &mut u64) -> io::Result<()> {
    let inner = openat(top, name, DIRECTORY, Mode::empty())?;
    for below in names(&inner)? {
        if !unlinked(&inner, &below)? {
            up(&inner, &below, top, brought)?;
        }
    }
    Ok(())
}

/// Gives the owner all rights to a directory. Without root, its mode could lock vfguard out of what a build created as the
/// same user.
fn open_up(at: &OwnedFd, name: &CStr) -> nix::Result<()> {
    fchmodat(at, name, Mode::S_IRWXU, FchmodatFlags::NoFollowSymlink)
}

/// Removes a file or an empty directory. Returns whether it is gone.
fn unlinked(at: &OwnedFd, name: &CStr) -> nix::Result<bool> {
    match unlinkat(at, name, UnlinkatFlags::NoRemoveDir) {
        Err(Errno::EISDIR | Errno::EPERM) => {}
        result => return result.map(|()| true),
    }
    match unlinkat(at, name, UnlinkatFlags::RemoveDir) {
        Err(Errno::ENOTEMPTY | Errno::EEXIST) => Ok(false),
        result => result.map(|()| true),
    }
}

/// Moves a directory into the top directory under an unused name.
fn up(from: &OwnedFd, name: &CStr, top: &OwnedFd, brought: &mut u64) -> io::Result<()> {
    let mut closed = true;
    loop {
        *brought += 1;
        let free = CString::new(format!(".up-{brought}"))?;
        match renameat(from, name, top, free.as_c_str()) {
            Err(Errno::ENOTEMPTY | Errno::EEXIST | Errno::ENOTDIR) => {}
            // A directory must be writable itself to get another parent.
            Err(Errno::EACCES) if closed => {
                open_up(from, name)?;
                closed = false;
            }
            result => return Ok(result?),
        }
    }
}

/// The names in a directory.
///
/// # Errors
/// Those of reading it.
pub fn names(directory: &OwnedFd) -> nix::Result<Vec<CString>> {
    // A separate descriptor, so that reading starts at the beginning.
    let mut dir = Dir::openat(directory.as_fd(), ".", DIRECTORY, Mode::empty())?;
    let mut names = Vec::new();
    for entry in dir.iter() {
        let entry = entry?;
        let dots = entry.file_type().is_none_or(|t| t == Type::Directory) && [c".", c".."].contains(&entry.file_name());
        if !dots {
            names.push(entry.file_name().to_owned());
        }
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::stat::mkdirat;
    use std::os::unix::fs::symlink;

    #[test]
    fn trees_deeper_than_the_descriptor_limit_are_removed_and_no_link_is_followed() {
        let dir = tempfile::tempdir().unwrap();
        let (top, other) = (dir.path().join("top"), dir.path().join("other"));
        fs::create_dir_all(&other).unwrap();
        fs::create_dir_all(top.join("a")).unwrap();
        fs::write(other.join("precious"), "").unwrap();
        symlink(&other, top.join("a/link")).unwrap();
        symlink(&other, top.join("link")).unwrap();
        fs::write(top.join(".up-1"), "a name that is taken").unwrap();
        fs::create_dir_all(top.join(".up-2/inner")).unwrap();
        nix::unistd::mkfifo(&top.join("a/fifo"), Mode::S_IRWXU).unwrap();
        let mut at = openat(AT_FDCWD, &top, DIRECTORY, Mode::empty()).unwrap();
        for _ in 0..3000 {
            for name in [c"d", c"e"] {
                mkdirat(&at, name, Mode::S_IRWXU).unwrap();
            }
            at = openat(&at, c"d", DIRECTORY, Mode::empty()).unwrap();
        }
        tree(&top).unwrap();
        assert!(!top.exists() && other.join("precious").exists());
        assert_eq!(tree(&top).unwrap_err().kind(), io::ErrorKind::NotFound);
        symlink(&other, &top).unwrap();
        tree(&top).unwrap();
        assert!(fs::symlink_metadata(&top).is_err() && other.join("precious").exists());
    }

    #[test]
    fn directories_without_rights_are_removed_without_root_and_no_link_is_followed() {
        use nix::unistd::{setfsgid, setfsuid, Gid, Uid};
        use std::os::unix::fs::{chown, PermissionsExt};
        let dir = tempfile::tempdir().unwrap();
        // This thread takes another user id for file access, because root may enter every directory.
        let is_root = Uid::effective().is_root();
        if is_root {
            chown(dir.path(), Some(1000), Some(1000)).unwrap();
            setfsgid(Gid::from_raw(1000));
            setfsuid(Uid::from_raw(1000));
        }
        let (top, other) = (dir.path().join("top"), dir.path().join("other"));
        fs::create_dir_all(&other).unwrap();
        let modes = [0o000, 0o100, 0o200, 0o300, 0o400, 0o500, 0o600, 0o700];
        let mut all = Vec::new();
        for outer in modes {
            for inner in modes {
                let one = top.join(format!("{outer}/{inner}"));
                fs::create_dir_all(one.join("empty")).unwrap();
                fs::write(one.join("file"), "").unwrap();
                symlink(&other, one.join("link")).unwrap();
                all.push((one, inner));
            }
            all.push((top.join(outer.to_string()), outer));
        }
        for (path, mode) in all {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        }
        fs::set_permissions(&other, fs::Permissions::from_mode(0o500)).unwrap();
        assert!(fs::read_dir(top.join("0")).is_err(), "it may be read, so this proves nothing");
        let result = tree(&top);
        let mode = fs::metadata(&other).unwrap().permissions().mode() & 0o777;
        if is_root {
            setfsuid(Uid::from_raw(0));
            setfsgid(Gid::from_raw(0));
        }
        result.unwrap();
        assert!(!top.exists() && mode == 0o500, "{mode:o}");
    }
}
