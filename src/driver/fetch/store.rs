//! The cache of archives, `/var/lib/vfguard/sources`. A file gets its final name only after its digest was verified, and it
//! is verified again before each use. A file with another digest is set aside for a person to look at.

use super::{digest, open_regular, Failure};
use crate::driver::digest::Hasher;
use crate::driver::packing::{Packing, HEAD};
use crate::driver::Digest;
use crate::host::files::below::Dir;
use crate::host::Host;
use anyhow::{anyhow, bail, Context, Error, Result};
use nix::fcntl::{Flock, FlockArg};
use std::fs::{self, File, Permissions};
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};
use tempfile::NamedTempFile;

/// Part of the message about an archive whose digest is not the pinned one.
pub(super) const OTHER_DIGEST: &str = " instead of ";
/// Where archives are kept, below the root.
pub(in crate::driver) const SOURCES: &str = "/var/lib/vfguard/sources";
/// How the names of temporary files begin; a killed run may leave them…
const PART: &str = ".part-";
/// …and they are removed if they are unlocked and at least this old. Younger ones may not be locked yet.
const STALE: Duration = Duration::from_secs(60);
/// The suffix of files that were set aside.
const REJECTED: &str = ".rejected";
/// Number of files set aside that are kept; the oldest are removed first.
const MAX_REJECTED: usize = 4;
/// No archive in the cache is larger. A larger file was not written by vfguard.
const MAX_CACHED: u64 = 1 << 30;

/// The cache, as far as it concerns one archive.
pub(super) struct Store {
    host: Host,
    directory: PathBuf,
    name: String,
}

/// An archive that is being downloaded.
pub(super) struct Part {
    file: NamedTempFile,
    /// Its directory. The file's path goes through this descriptor, so it is valid only while the descriptor is open.
    dir: Dir,
    /// Shows that a process is still writing it. The kernel releases it when the process dies.
    _lock: Option<Flock<File>>,
    hasher: Hasher,
    start: Vec<u8>,
}

impl Store {
    pub(super) fn new(host: &Host, name: String) -> Store {
        Store { host: host.clone(), directory: host.path(SOURCES), name }
    }

    /// The archive's file name.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// The directory, for messages.
    pub(super) fn shown(&self) -> std::path::Display<'_> {
        self.directory.display()
    }

    /// The cached archive, if it exists with the pinned digest. One with another digest is set aside, which is an error.
    pub(super) fn cached(&self, sha256: &Digest) -> Result<Option<(PathBuf, File)>> {
        let path = self.directory.join(&self.name);
        let file = match open_regular(&path, MAX_CACHED, nix::libc::O_NOFOLLOW) {
            Ok(file) => file,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(e).with_context(|| format!("reading {}", path.display())),
        };
        let got = digest(&file, MAX_CACHED).with_context(|| format!("reading {}", path.display()))?;
        if got == *sha256 {
            return Ok(Some((path, file)));
        }
        let aside = self.aside();
        let set_aside = || {
            let dir = self.host.dir(SOURCES)?;
            Ok(fs::rename(dir.at(&self.name), dir.at(self.rejected()))?)
        };
        let kept: Result<String> = set_aside().map(|()| format!("set aside as {}", aside.display()));
        bail!(
            "{}: SHA-256 {got} instead of {sha256}, {}",
            path.display(),
            kept.unwrap_or_else(|e| format!("and it cannot be set aside: {e:#}"))
        );
    }

    /// Creates the directory. Removes what killed runs left there, and all but the newest of the files that were set aside.
    pub(super) fn prepare(&self) -> Result<()> {
        let dir = self.host.make_dirs(SOURCES, 0o755)?;
        let mut rejected = Vec::new();
        let listing = fs::read_dir(dir.path()).with_context(|| format!("reading {}", self.shown()))?;
        for entry in listing.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let modified = entry.metadata().and_then(|m| m.modified()).unwrap_or(SystemTime::UNIX_EPOCH);
            if name.starts_with(PART) && modified.elapsed().is_ok_and(|age| age > STALE) {
                // The lock is held until the file is removed, so no file is removed while a run writes it.
                let unused = open_regular(&entry.path(), u64::MAX, nix::libc::O_NOFOLLOW).ok().and_then(lock);
                if unused.is_some() {
                    let _ = fs::remove_file(entry.path());
                }
            } else if name.ends_with(REJECTED) {
                rejected.push((modified, entry.path()));
            }
        }
        rejected.sort();
        let surplus = rejected.len().saturating_sub(MAX_REJECTED);
        for (_, path) in rejected.into_iter().take(surplus) {
            let _ = fs::remove_file(path);
        }
        Ok(())
    }

    /// A new temporary file beside the cache.
    pub(super) fn part(&self) -> Result<Part> {
        let dir = self.host.dir(SOURCES)?;
        let file = tempfile::Builder::new()
            .prefix(PART)
            .tempfile_in(dir.path())
            .with_context(|| format!("making a temporary file in {}", self.shown()))?;
        // Without a lock (on file systems that have none) only the file's age protects it.
        let _lock = file.as_file().try_clone().ok().and_then(lock);
        Ok(Part { file, dir, _lock, hasher: Hasher::default(), start: Vec::new() })
    }

    /// Gives a downloaded file its final name if its digest is the pinned one; else sets it aside.
    pub(super) fn keep(&self, part: Part, sha256: &Digest) -> Result<(PathBuf, File), Failure> {
        let got = part.hasher.finish();
        if got != *sha256 {
            let aside = self.aside();
            let kept = part.file.persist(part.dir.at(self.rejected())).is_ok();
            let hint = Packing::of(&part.start).map_or_else(|unread| format!(" (it is {})", unread.what), |_| String::new());
            let kept = if kept { format!(", set aside as {}", aside.display()) } else { String::new() };
            return Err(Failure::Next(anyhow!("SHA-256 {got}{OTHER_DIGEST}{sha256}{hint}{kept}")));
        }
        let path = self.directory.join(&self.name);
        self.persist(part.file, &part.dir).map(|file| (path, file)).map_err(Failure::Stop)
    }

    fn persist(&self, part: NamedTempFile, dir: &Dir) -> Result<File, Error> {
        let act = || format!("writing {}", self.directory.join(&self.name).display());
        part.as_file().set_permissions(Permissions::from_mode(0o644)).with_context(act)?;
        part.as_file().sync_all().with_context(act)?;
        let mut file = part.persist(dir.at(&self.name)).map_err(|e| e.error).with_context(act)?;
        dir.sync()?;
        file.seek(SeekFrom::Start(0)).with_context(act)?;
        Ok(file)
    }

    fn rejected(&self) -> String {
        format!("{}{REJECTED}", self.name)
    }

    fn aside(&self) -> PathBuf {
        self.directory.join(self.rejected())
    }
}

/// Locks a file, unless another process has it locked.
fn lock(file: File) -> Option<Flock<File>> {
    Flock::lock(file, FlockArg::LockExclusiveNonblock).ok()
}

impl Part {
    /// Writes the next piece.
    pub(super) fn take(&mut self, piece: &[u8]) -> Result<()> {
        self.start.extend(piece.iter().take(HEAD - self.start.len()));
        self.hasher.update(piece);
        self.file.write_all(piece).with_context(|| format!("writing {}", self.file.path().display()))
    }
}
