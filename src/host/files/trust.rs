//! Whether only root (or the caller) can have written a file that decides what root does.

use crate::error::{advise, Remedy};
use crate::host::sys;
use anyhow::{bail, Result};
use std::fs::{self, File, Metadata};
use std::io::Read;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// The largest configuration; a real one is about a page of text.
const MAX_TEXT: u64 = 1 << 20;

/// The sticky bit: in such a directory users cannot rename or remove the files of others (inode(7)).
const STICKY: u32 = 0o1000;

/// Opens a regular file that decides what root does. The file and its directory must belong to root or to the caller. Other
/// users must not be able to write the file. They must not be able to write in the directory either, unless it is sticky;
/// its group may, if it is root's or the caller's. The check is made on the descriptor, not on the name. `shown` is the name
/// for messages.
///
/// # Errors
/// When it cannot be opened, is not a regular file, or another user may write it.
pub fn open(path: &Path, shown: &Path) -> Result<File> {
    let act = format!("reading {}", shown.display());
    let cure = format!("make {} a readable file of root, or remove it", shown.display());
    let file =
        File::options().read(true).custom_flags(nix::libc::O_NONBLOCK).open(path).remedy(act.clone(), cure.clone())?;
    let meta = file.metadata().remedy(act.clone(), cure.clone())?;
    if !meta.is_file() {
        return Err(advise(format!("{act}: not a regular file"), cure));
    }
    if !ours(&meta) || meta.mode() & 0o022 != 0 {
        return Err(advise(
            format!("{} may be written by others ({})", shown.display(), owner_and_mode(&meta)),
            format!("chown root: {0}; chmod go-w {0}", shown.display()),
        ));
    }
    // A user who may write in the directory can replace or remove the file.
    let parent = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let dir = fs::metadata(parent).remedy(act, cure)?;
    if !ours(&dir) || others_write(&dir, parent) {
        let above = shown.parent().unwrap_or(shown).display();
        return Err(advise(
            format!("{} may be replaced by others: {above} has {}", shown.display(), owner_and_mode(&dir)),
            format!("chown root: {above}; chmod go-w {above}"),
        ));
    }
    Ok(file)
}

/// The text of a file that [`open`] accepts.
///
/// # Errors
/// Those of [`open`]; when it is larger than 1 MiB, or not UTF-8.
pub fn read_text(path: &Path, shown: &Path) -> Result<String> {
    let file = open(path, shown)?;
    let act = format!("reading {}", shown.display());
    let cure = format!("make {} a readable file of root, or remove it", shown.display());
    let mut text = String::new();
    file.take(MAX_TEXT + 1).read_to_string(&mut text).remedy(act.clone(), cure.clone())?;
    if text.len() as u64 > MAX_TEXT {
        return Err(advise(format!("{act}: larger than {MAX_TEXT} bytes"), cure));
    }
    Ok(text)
}

/// Checks that only root and the caller can have created what is at `path`: it and every directory above it, up to `/`,
/// belong to one of them, and no other user may write them (a directory may be sticky). Symbolic links are resolved first.
///
/// # Errors
/// Names the component that other users may change.
pub fn whole_way(path: &Path) -> Result<()> {
    let real = fs::canonicalize(path).remedy(format!("looking at {}", path.display()), "name a path that exists")?;
    for part in real.ancestors() {
        let meta = fs::metadata(part)?;
        let writable = if meta.is_dir() { others_write(&meta, part) } else { meta.mode() & 0o022 != 0 };
        if !ours(&meta) || writable {
            bail!("others than root may change {} ({})", part.display(), owner_and_mode(&meta));
        }
    }
    Ok(())
}

/// Creates a directory with this mode for the caller alone, or takes an existing empty one. Other users can neither put
/// anything into it nor replace it. Missing parents are created. Returns its path without symbolic links, each component of
/// which was checked; use this path. An existing directory that others may enter keeps that permission.
///
/// # Errors
/// When it is not empty, belongs to another user, is a symbolic link, or is in a place where others could replace it.
pub fn own_dir(dir: &Path, mode: u32) -> Result<PathBuf> {
    let shown = dir.display();
    let elsewhere = "name an empty or absent directory in one that only you can change, such as below your home or /var/tmp";
    let parent = match dir.parent().filter(|p| !p.as_os_str().is_empty()) {
        Some(parent) => parent,
        None => Path::new("."),
    };
    super::create_dirs(parent, 0o755)?;
    let parent = fs::canonicalize(parent).remedy(format!("opening {}", parent.display()), elsewhere)?;
    whole_way(&parent).map_err(|e| advise(format!("the directory {shown} could be replaced: {e:#}"), elsewhere))?;
    // A slash at the end would make the system follow a symbolic link.
    let Some(name) = dir.file_name() else { return Err(advise(format!("{shown} has no name of its own"), elsewhere)) };
    let dir = parent.join(name);
    match fs::DirBuilder::new().mode(mode).create(&dir) {
        Err(e) if e.kind() != std::io::ErrorKind::AlreadyExists => {
            return Err(e).remedy(format!("making {shown}"), elsewhere)
        }
        Ok(()) | Err(_) => {}
    }
    let flags = nix::libc::O_DIRECTORY | nix::libc::O_NOFOLLOW;
    let opened = File::options().read(true).custom_flags(flags).open(&dir).remedy(format!("opening {shown}"), elsewhere)?;
    let before = opened.metadata()?;
    let owner = before.uid();
    if owner != nix::unistd::geteuid().as_raw() {
        return Err(advise(format!("{shown} belongs to another user (uid {owner})"), elsewhere));
    }
    let empty = || match fs::read_dir(&dir)?.next() {
        None => Ok(()),
        Some(_) => Err(advise(format!("{shown} is not empty"), elsewhere)),
    };
    empty()?;
    opened.set_permissions(fs::Permissions::from_mode(mode | before.mode() & 0o011))?;
    // From here on no other user can write in it; this notices what was put into it before.
    empty()?;
    Ok(dir)
}

/// A temporary directory of the caller that no other user can replace. It is removed when it is dropped.
///
/// # Errors
/// When none can be created, or TMPDIR is in a place where others could replace it.
pub fn temporary(prefix: &str) -> Result<TempDir> {
    let cure = "point TMPDIR at a writable directory that only you can change, or at one like /tmp";
    let dir = tempfile::Builder::new().prefix(prefix).tempdir().remedy("making a temporary directory", cure)?;
    whole_way(dir.path()).map_err(|e| advise(format!("a temporary directory could be replaced: {e:#}"), cure))?;
    Ok(dir)
}

/// Whether it belongs to root or the caller.
fn ours(meta: &Metadata) -> bool {
    meta.uid() == 0 || meta.uid() == nix::unistd::geteuid().as_raw()
}

/// Whether other users may create or remove names in a directory. Its group may, if it is root's or the caller's and the
/// directory has no access control list; with a list, the group's bits are only its mask (acl(5)).
pub(super) fn others_write(dir: &Metadata, path: &Path) -> bool {
    let our_group = dir.gid() == 0 || dir.gid() == nix::unistd::getegid().as_raw();
    let group = dir.mode() & 0o020 != 0 && (!our_group || sys::has_acl(path));
    dir.mode() & STICKY == 0 && (group || dir.mode() & 0o002 != 0)
}

fn owner_and_mode(meta: &Metadata) -> String {
    format!("owner {}, mode {:o}", meta.uid(), meta.mode() & 0o7777)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn a_path_is_trusted_only_if_no_part_of_it_can_be_changed_by_others() {
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join("a/b/program");
        fs::create_dir_all(program.parent().unwrap()).unwrap();
        fs::write(&program, "").unwrap();
        set(&program, 0o755);
        // It is below /tmp, which is sticky.
        assert!(whole_way(&program).is_ok());
        for (part, mode) in [("a", 0o777), ("a/b", 0o757), ("a/b/program", 0o757), ("a/b/program", 0o775)] {
            let part = dir.path().join(part);
            let before = fs::metadata(&part).unwrap().permissions();
            set(&part, mode);
            let said = whole_way(&program).unwrap_err().to_string();
            assert!(said.contains(&format!("may change {} (", part.display())), "{said}");
            set(&part, 0o1777);
            assert_eq!(whole_way(&program).is_ok(), part.is_dir(), "sticky: a directory's names are safe, a file is not");
            fs::set_permissions(&part, before).unwrap();
        }
        // For a symbolic link its target counts.
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&program, &link).unwrap();
        set(&dir.path().join("a"), 0o777);
        assert!(whole_way(&link).is_err());
        set(&dir.path().join("a"), 0o755);
        assert!(whole_way(&program).is_ok());
        // An access control list shows up in the group's bits. Each entry has tag, permissions and id (acl(5),
        // linux/posix_acl_xattr.h).
        let entries: [(u16, u16, u32); 5] = [(1, 7, !0), (2, 7, 65534), (4, 5, !0), (16, 7, !0), (32, 5, !0)];
        let mut acl = 2u32.to_le_bytes().to_vec();
        for (tag, permissions, id) in entries {
            acl.extend(tag.to_le_bytes().into_iter().chain(permissions.to_le_bytes()).chain(id.to_le_bytes()));
        }
        let a = dir.path().join("a");
        let hex: String = acl.iter().map(|b| format!("{b:02x}")).collect();
        let set_acl = std::process::Command::new("setfattr")
            .args(["-n", "system.posix_acl_access", "-v", &format!("0x{hex}")])
            .arg(&a)
            .status();
        // Skipped without setfacl, or on a file system without access control lists.
        if set_acl.is_ok_and(|status| status.success()) {
            assert_eq!(fs::metadata(&a).unwrap().mode() & 0o7777, 0o775);
            assert!(whole_way(&program).is_err(), "user 65534 may rename what lies in it");
        }
        assert!(whole_way(&dir.path().join("absent")).is_err());
    }

    #[test]
    fn an_own_directory_is_empty_owned_by_the_caller_and_not_replaceable_by_others() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let mode = |name: &str| fs::metadata(at(name)).unwrap().mode() & 0o7777;
        own_dir(&at("a/b"), 0o700).unwrap();
        assert_eq!((mode("a"), mode("a/b")), (0o755, 0o700));
        set(&at("a/b"), 0o755);
        let real = own_dir(&at("a/b/."), 0o700).unwrap();
        assert_eq!(mode("a/b"), 0o711, "one that is there and empty is taken, and stays open to who walks through");
        assert_eq!(real, at("a/b").canonicalize().unwrap());
        fs::write(at("a/b/file"), "").unwrap();
        set(&at("a/b"), 0o755);
        std::os::unix::fs::symlink("a", at("link")).unwrap();
        fs::create_dir(at("open")).unwrap();
        set(&at("open"), 0o777);
        let refused = |name: &str, said: &str| {
            let error = own_dir(&at(name), 0o700).unwrap_err();
            assert!(format!("{error:#}").contains(said), "{name}: {error:#}");
            assert!(crate::error::remedy(&error).unwrap().contains("name an empty or absent directory"));
        };
        refused("a/b", "is not empty");
        for link in ["link", "link/", "link/."] {
            refused(link, "opening");
        }
        // The path contains a symbolic link; the returned path does not.
        std::os::unix::fs::symlink("a", at("way")).unwrap();
        assert_eq!(own_dir(&at("way/new/"), 0o700).unwrap(), at("a/new").canonicalize().unwrap());
        refused("open/scratch", "could be replaced");
        assert!(!at("open/scratch").exists() && mode("a/b") == 0o755, "what is refused is left as it was");
        if nix::unistd::geteuid().is_root() {
            std::os::unix::fs::chown(at("a"), Some(65534), None).unwrap();
            refused("a/c", "may change");
            fs::create_dir(at("theirs")).unwrap();
            std::os::unix::fs::chown(at("theirs"), Some(65534), None).unwrap();
            refused("theirs", "belongs to another user (uid 65534)");
        }
    }
}
