//! Reads files with a size limit and writes them atomically.

pub mod below;
pub mod freeze;
pub mod mounts;
pub mod remove;
pub(super) mod resolve;
pub mod trust;

use self::below::Dir;

use anyhow::{Context, Result};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::time::Duration;

/// The modes of vfguard's own directories, the same as in the packages (packaging/vfguard.tmpfiles), for whenever one is
/// created.
const OWN: [(&str, u32); 2] = [("var/lib/vfguard", 0o700), ("var/cache/vfguard", 0o711)];
/// The prefix of temporary files.
const TEMPORARY: &str = ".vfguard-";
/// Temporary files older than this are leftovers; no write takes this long.
const STALE: Duration = Duration::from_secs(3600);
/// The mode of other new parent directories: readable by everybody, as /var/lib and /lib/modules are.
pub(super) const PARENT: u32 = 0o755;

/// Reads a regular file of at most `limit` bytes. A directory, a fifo or a device is an error, not a hang.
///
/// # Errors
/// Those of opening and reading; `InvalidInput` if it is not a regular file, `FileTooLarge` above the limit.
pub fn read_bounded(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let content = read_start(path, limit + 1)?;
    if content.len() as u64 > limit {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("larger than {limit} bytes")));
    }
    Ok(content)
}

/// Reads the first `length` bytes of a regular file, or all of a shorter one.
///
/// # Errors
/// Those of opening and reading; `InvalidInput` if it is not a regular file.
pub fn read_start(path: &Path, length: u64) -> io::Result<Vec<u8>> {
    let file = File::options().read(true).custom_flags(nix::libc::O_NONBLOCK | nix::libc::O_CLOEXEC).open(path)?;
    let meta = file.metadata()?;
    if !meta.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
    // Files of sysfs and procfs report a size of 0 or 4096, so the size is only a hint.
    let mut content = Vec::with_capacity(meta.len().min(length) as usize);
    file.take(length).read_to_end(&mut content)?;
    Ok(content)
}

/// Writes a file atomically: a temporary file in the same directory, fsync, rename, fsync of the directory. A missing
/// directory is created (mode 0755).
///
/// # Errors
/// Those of each step, with the path; nothing is left behind.
pub fn write_atomic(path: &Path, content: &[u8], mode: u32) -> Result<()> {
    let dir = path.parent().context("a path without a directory")?;
    create_dirs(dir, PARENT)?;
    write_in(&Dir::named(dir.to_owned()), path, content, mode)
}

/// [`write_atomic`] in an open directory. `path` is the file's name, also for errors.
pub(super) fn write_in(dir: &Dir, path: &Path, content: &[u8], mode: u32) -> Result<()> {
    let name = path.file_name().context("a path without a name")?;
    let mut temporary = tempfile::Builder::new()
        .prefix(TEMPORARY)
        .tempfile_in(dir.path())
        .with_context(|| format!("making a temporary file in {}", dir.shown().display()))?;
    let act = || format!("writing {}", path.display());
    temporary.write_all(content).with_context(act)?;
    temporary.as_file().set_permissions(fs::Permissions::from_mode(mode)).with_context(act)?;
    temporary.as_file().sync_all().with_context(act)?;
    super::failpoint::hit("record-before-rename");
    temporary.persist(dir.at(name)).map_err(|e| e.error).with_context(act)?;
    dir.sync()
}

/// Creates a directory with a mode, and its missing parents. A strict mode applies to the last directory only; parents are
/// readable by everybody, except vfguard's own. Modes do not depend on the umask. Existing directories are not changed.
///
/// # Errors
/// Those of mkdir(2) and fchmod(2), with the path.
pub fn create_dirs(dir: &Path, mode: u32) -> Result<()> {
    let missing: Vec<&Path> = dir.ancestors().take_while(|d| !d.as_os_str().is_empty() && !d.is_dir()).collect();
    for &new in missing.iter().rev() {
        make_dir(new, mode_of(new, dir, mode)).with_context(|| format!("making {}", new.display()))?;
    }
    Ok(())
}

/// The mode of a new directory on the path to `last`, which gets `mode`.
pub(super) fn mode_of(new: &Path, last: &Path, mode: u32) -> u32 {
    let usual = if new == last { mode } else { PARENT };
    OWN.iter().find(|(own, _)| new.ends_with(own)).map_or(usual, |(_, mode)| *mode)
}

fn make_dir(dir: &Path, mode: u32) -> io::Result<()> {
    match fs::DirBuilder::new().mode(mode).create(dir) {
        Ok(()) => {
            let flags = nix::libc::O_DIRECTORY | nix::libc::O_NOFOLLOW;
            let made = File::options().read(true).custom_flags(flags).open(dir)?;
            made.set_permissions(fs::Permissions::from_mode(mode))
        }
        // Another run created it first.
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists && dir.is_dir() => Ok(()),
        Err(e) => Err(e),
    }
}

/// Syncs a directory, so that its names survive a power cut.
///
/// # Errors
/// Those of opening and fsync(2), with the path.
pub fn sync_dir(dir: &Path) -> Result<()> {
    File::open(dir).and_then(|d| d.sync_all()).with_context(|| format!("syncing {}", dir.display()))
}

/// Removes a file; it may be missing. Returns whether it existed.
///
/// # Errors
/// Those of unlink(2) but `NotFound`, with the path.
pub fn remove(path: &Path) -> Result<bool> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(e).with_context(|| format!("removing {}", path.display())),
    }
}

/// [`remove()`] for a file that must not reappear after a power cut.
///
/// # Errors
/// Those of [`remove()`] and [`sync_dir`].
pub fn remove_durably(path: &Path) -> Result<bool> {
    let removed = remove(path)?;
    if let Some(dir) = path.parent().filter(|_| removed) {
        sync_dir(dir)?;
    }
    Ok(removed)
}

/// Removes the oldest regular files of a directory whose names match `ours`, except the newest `most`. Files that cannot be
/// read or removed stay.
pub fn keep_newest(dir: &Path, most: usize, ours: impl Fn(&str) -> bool) {
    let mut found: Vec<_> = fs::read_dir(dir)
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| entry.file_name().to_str().is_some_and(&ours))
        .filter_map(|entry| Some((entry.metadata().ok().filter(|m| m.is_file())?.modified().ok()?, entry.path())))
        .collect();
    found.sort();
    let surplus = found.len().saturating_sub(most);
    for (_, path) in found.into_iter().take(surplus) {
        let _ = remove(&path);
    }
}

/// Removes temporary files that a killed [`write_atomic`] left in a directory. Files that are being written are younger than
/// `STALE`. Files that cannot be removed stay.
pub fn sweep_temporaries(dir: &Path) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let name = entry.file_name();
        // The names that tempfile creates: the prefix, an optional word, letters and digits.
        let random = name
            .to_str()
            .and_then(|n| n.strip_prefix(TEMPORARY))
            .filter(|r| r.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-'));
        let old = |m: &fs::Metadata| m.is_file() && m.modified().is_ok_and(|t| t.elapsed().is_ok_and(|age| age > STALE));
        if random.is_some() && entry.metadata().as_ref().is_ok_and(old) {
            let _ = remove(&entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fifo_a_directory_and_a_large_file_are_errors() {
        let dir = tempfile::tempdir().unwrap();
        let fifo = dir.path().join("fifo");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(read_bounded(&fifo, 10).is_err());
        assert!(read_bounded(dir.path(), 10).is_err());
        let large = dir.path().join("large");
        fs::write(&large, [0; 11]).unwrap();
        assert_eq!(read_bounded(&large, 10).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
        assert_eq!(read_bounded(&large, 11).unwrap().len(), 11);
    }

    #[test]
    fn a_strict_mode_applies_to_the_last_directory_only() {
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
        let dir = tempfile::tempdir().unwrap();
        let at = |path: &str| dir.path().join(path);
        let made = [
            create_dirs(&at("var/lib/vfguard/log"), 0o750),
            create_dirs(&at("var/cache/vfguard/build"), 0o711),
            create_dirs(&at("lib/modules/6.1/updates/vfguard"), 0o755),
        ];
        made.into_iter().for_each(|made| made.unwrap());
        for (path, want) in [
            ("var", 0o755),
            ("var/lib", 0o755),
            ("var/lib/vfguard", 0o700),
            ("var/lib/vfguard/log", 0o750),
            ("var/cache", 0o755),
            ("var/cache/vfguard", 0o711),
            ("var/cache/vfguard/build", 0o711),
            ("lib/modules/6.1/updates", 0o755),
            ("lib/modules/6.1/updates/vfguard", 0o755),
        ] {
            assert_eq!(mode(&at(path)), want, "{path}: {:o} instead of {want:o}", mode(&at(path)));
        }
        // The mode of an existing directory was set on purpose.
        fs::set_permissions(at("var/lib"), fs::Permissions::from_mode(0o711)).unwrap();
        create_dirs(&at("var/lib/vfguard/log"), 0o700).unwrap();
        assert_eq!((mode(&at("var/lib")), mode(&at("var/lib/vfguard/log"))), (0o711, 0o750));
        fs::write(at("file"), "").unwrap();
        assert!(create_dirs(&at("file/below"), 0o755).is_err() && create_dirs(&at("file"), 0o755).is_err());
        std::os::unix::fs::symlink("nowhere", at("dangling")).unwrap();
        assert!(create_dirs(&at("dangling"), 0o755).is_err());
    }

    #[test]
    fn temporary_files_of_killed_runs_are_removed_and_others_stay() {
        let dir = tempfile::tempdir().unwrap();
        let old = std::time::SystemTime::now() - 2 * STALE;
        for (name, is_old) in [(".vfguard-a", true), (".vfguard-b", false), ("vfguard-c", true), (".vfguard", true)] {
            let file = File::create(dir.path().join(name)).unwrap();
            file.set_modified(if is_old { old } else { old + 2 * STALE }).unwrap();
        }
        fs::create_dir(dir.path().join(".vfguard-dir")).unwrap();
        sweep_temporaries(dir.path());
        sweep_temporaries(&dir.path().join("absent"));
        let mut left: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, [".vfguard", ".vfguard-b", ".vfguard-dir", "vfguard-c"]);
    }

    #[test]
    fn an_atomic_write_replaces_and_leaves_no_temporary() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b/file");
        write_atomic(&path, b"one", 0o600).unwrap();
        write_atomic(&path, b"two", 0o644).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o644);
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }
}
