//! The cache of archives, `/var/lib/vfguard/sources`: a file gets its name only when its digest was verified, and is verified
//! again before each use. What turned out wrong is set aside for a person to look at.

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

/// What a message says of an archive with another digest than the pinned one.
pub(super) const OTHER_DIGEST: &str = " instead of ";
/// Where archives are kept, below the root.
pub(in crate::driver) const SOURCES: &str = "/var/lib/vfguard/sources";
/// What a killed run may leave begins so…
const PART: &str = ".part-";
/// …and is removed once nobody holds its lock; younger ones may not be locked yet.
const STALE: Duration = Duration::from_secs(60);
/// Ends the name of what was set aside.
const REJECTED: &str = ".rejected";
/// As many are kept; the oldest go first.
const MAX_REJECTED: usize = 4;
/// An archive in the cache is never larger; what is was not put there by us.
const MAX_CACHED: u64 = 1 << 30;

/// The cache as one archive sees it.
pub(super) struct Store {
    host: Host,
    directory: PathBuf,
    name: String,
}

/// An archive that is coming in.
pub(super) struct Part {
    file: NamedTempFile,
    /// Where it lies; the file's name ends with it.
    dir: Dir,
    /// Says that somebody still writes it; the kernel lets go of it when we die.
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

    /// The directory for messages.
    pub(super) fn shown(&self) -> std::path::Display<'_> {
        self.directory.display()
    }

    /// The cached archive, if it is there and is the pinned one; a wrong one is set aside, which is an error to be told.
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

    /// Makes the directory, removes what killed runs left there and all but the newest of what was set aside.
    pub(super) fn prepare(&self) -> Result<()> {
        let dir = self.host.make_dirs(SOURCES, 0o755)?;
        let mut rejected = Vec::new();
        let listing = fs::read_dir(dir.path()).with_context(|| format!("reading {}", self.shown()))?;
        for entry in listing.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let modified = entry.metadata().and_then(|m| m.modified()).unwrap_or(SystemTime::UNIX_EPOCH);
            if name.starts_with(PART) && modified.elapsed().is_ok_and(|age| age > STALE) {
                // Held until it is gone, so that none is taken from under a writer.
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
        // Without the lock (a file system that has none) the file is only swept when it is old.
        let _lock = file.as_file().try_clone().ok().and_then(lock);
        Ok(Part { file, dir, _lock, hasher: Hasher::default(), start: Vec::new() })
    }

    /// Gives what came in its name, if it is the pinned archive; else sets it aside.
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

/// The lock of a file, if nobody else has it.
fn lock(file: File) -> Option<Flock<File>> {
    Flock::lock(file, FlockArg::LockExclusiveNonblock).ok()
}

impl Part {
    /// Takes the next piece.
    pub(super) fn take(&mut self, piece: &[u8]) -> Result<()> {
        self.start.extend(piece.iter().take(HEAD - self.start.len()));
        self.hasher.update(piece);
        self.file.write_all(piece).with_context(|| format!("writing {}", self.file.path().display()))
    }
}
