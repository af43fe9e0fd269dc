//! Resolving a path below a root as chroot(2) would, without being in it: links, absolute ones too, never lead out.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs;
use std::path::{Component, Path, PathBuf};

/// As many links as Linux follows in one look-up (path_resolution(7)).
const MAX_LINKS: u32 = 40;

/// The real path of `path` below `root`. Components after one that does not exist are appended as they are.
pub(super) fn below(root: &Path, path: &Path, follow_last: bool) -> PathBuf {
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
        assert_eq!(below(root, Path::new("/lib/modules/6.1/build/Makefile"), true), root.join("usr/src/headers/Makefile"));
        assert_eq!(below(root, Path::new("/lib/modules/6.1/up/shadow"), true), root.join("etc/shadow"));
        assert_eq!(below(root, Path::new("/../../etc/shadow"), true), root.join("etc/shadow"));
        assert_eq!(below(root, Path::new("/lib/modules/6.1/build"), false), root.join("lib/modules/6.1/build"));
        assert!(!below(root, Path::new("/loop/x"), true).exists());
    }
}
