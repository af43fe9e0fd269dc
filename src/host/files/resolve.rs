//! Resolves a path below a root as chroot(2) would, without being in it: symbolic links, also absolute ones, never lead out.

use nix::errno::Errno;
use nix::fcntl::{openat2, OFlag, OpenHow, ResolveFlag, AT_FDCWD};
use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs;
use std::path::{Component, Path, PathBuf};

/// The number of symbolic links that Linux follows in one lookup (path_resolution(7)).
const MAX_LINKS: u32 = 40;

/// The real path of `path` below `root`. Components after one that does not exist are appended as they are.
pub(in crate::host) fn below(root: &Path, path: &Path, follow_last: bool) -> PathBuf {
    straight(root, path, follow_last).unwrap_or_else(|| walk(root, path, follow_last))
}

/// Resolves a path without symbolic links with one system call; not possible before Linux 5.6.
fn straight(root: &Path, path: &Path, follow_last: bool) -> Option<PathBuf> {
    let mut real = root.to_owned();
    for part in path.components() {
        match part {
            Component::Normal(name) => real.push(name),
            Component::ParentDir => return None,
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    // With both flags the last component may be a symbolic link, and it is not followed.
    let last = if follow_last { OFlag::empty() } else { OFlag::O_NOFOLLOW };
    let how = OpenHow::new().flags(OFlag::O_PATH | OFlag::O_CLOEXEC | last).resolve(ResolveFlag::RESOLVE_NO_SYMLINKS);
    match openat2(AT_FDCWD, &real, how) {
        Ok(_) | Err(Errno::ENOENT | Errno::ENOTDIR) => Some(real),
        Err(_) => None,
    }
}

fn walk(root: &Path, path: &Path, follow_last: bool) -> PathBuf {
    let mut real = root.to_owned();
    let mut depth = 0usize;
    let mut links = 0;
    let mut todo: VecDeque<OsString> = VecDeque::new();
    push_front(&mut todo, path);
    while let Some(part) = todo.pop_front() {
        if part == ".." {
            if depth > 0 {
                real.pop();
                depth -= 1;
            }
            continue;
        }
        let next = real.join(&part);
        let last = todo.is_empty();
        match fs::read_link(&next) {
            Ok(target) if follow_last || !last => {
                links += 1;
                if links > MAX_LINKS {
                    return next.join("too many levels of symbolic links");
                }
                if target.is_absolute() {
                    real = root.to_owned();
                    depth = 0;
                }
                push_front(&mut todo, &target);
            }
            _ => {
                real = next;
                depth += 1;
            }
        }
    }
    real
}

fn push_front(todo: &mut VecDeque<OsString>, path: &Path) {
    for part in path.components().rev() {
        match part {
            Component::Normal(name) => todo.push_front(name.to_owned()),
            Component::ParentDir => todo.push_front("..".into()),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn links_never_lead_out_of_the_root() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        fs::create_dir_all(root.join("usr/src/headers")).unwrap();
        fs::create_dir_all(root.join("lib/modules/6.1")).unwrap();
        symlink("/usr/src/headers", root.join("lib/modules/6.1/build")).unwrap();
        symlink("../../../../../../../etc", root.join("lib/modules/6.1/up")).unwrap();
        symlink("loop", root.join("loop")).unwrap();
        for (path, follow_last, real) in [
            ("/lib/modules/6.1/build/Makefile", true, "usr/src/headers/Makefile"),
            ("/lib/modules/6.1/up/shadow", true, "etc/shadow"),
            ("/../../etc/shadow", true, "etc/shadow"),
            ("/lib/modules/6.1/build", false, "lib/modules/6.1/build"),
            ("/lib/modules/6.1/build", true, "usr/src/headers"),
            ("/lib/modules/6.1/build/none/at/all", false, "usr/src/headers/none/at/all"),
            ("/lib/modules/./6.1//none", true, "lib/modules/6.1/none"),
        ] {
            let path = Path::new(path);
            assert_eq!(below(root, path, follow_last), root.join(real));
            assert_eq!(walk(root, path, follow_last), root.join(real), "as where the kernel cannot say it in one call");
        }
        assert!(!below(root, Path::new("/loop/x"), true).exists());
    }
}
