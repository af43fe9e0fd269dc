//! Removes what a stranger made: however deep it is nested and whatever its names are, with a handful of open descriptors, without
//! recursion and through no link. What lies deeper is brought up into the top directory, and removed from there.

use nix::dir::{Dir, Type};
use nix::errno::Errno;
use nix::fcntl::{openat, renameat, OFlag, AT_FDCWD};
use nix::sys::stat::Mode;
use nix::unistd::{unlinkat, UnlinkatFlags};
use std::ffi::{CStr, CString};
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

const DIRECTORY: OFlag = OFlag::O_RDONLY.union(OFlag::O_DIRECTORY).union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC);

/// Removes a file, or a directory with all that is in it. Nobody else may write the directory itself; below it they may have
/// done what they wanted, and are gone.
///
/// # Errors
/// Those of opening, reading, renaming and removing; what could be removed by then is gone.
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

/// Removes one entry of the top directory; its own directories come up into the top.
fn entry(top: &OwnedFd, name: &CStr, brought: &mut u64) -> io::Result<()> {
    if !unlinked(top, name)? {
        let inner = openat(top, name, DIRECTORY, Mode::empty())?;
        for below in names(&inner)? {
            if !unlinked(&inner, &below)? {
                up(&inner, &below, top, brought)?;
            }
        }
        unlinkat(top, name, UnlinkatFlags::RemoveDir)?;
    }
    Ok(())
}

/// Removes what is no directory, or an empty one. Says whether it is gone.
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

/// Moves a directory into the top, to a name that nothing there has.
fn up(from: &OwnedFd, name: &CStr, top: &OwnedFd, brought: &mut u64) -> io::Result<()> {
    loop {
        *brought += 1;
        let free = CString::new(format!(".up-{brought}"))?;
        match renameat(from, name, top, free.as_c_str()) {
            Err(Errno::ENOTEMPTY | Errno::EEXIST | Errno::ENOTDIR) => {}
            result => return Ok(result?),
        }
    }
}

/// The names in a directory.
///
/// # Errors
/// Those of reading it.
pub fn names(directory: &OwnedFd) -> nix::Result<Vec<CString>> {
    // A descriptor of its own, so that reading begins at the beginning.
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
    fn what_is_nested_deeper_than_descriptors_reach_is_removed_and_no_link_is_followed() {
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
}
