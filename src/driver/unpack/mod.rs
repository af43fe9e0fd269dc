//! Unpacks a verified archive into a private directory. Nothing is ever written outside of it, whatever the archive
//! contains.
//!
//! The format is detected by the first bytes: a gzip, an xz or a plain tar file (`driver::packing`). Tar is POSIX pax/ustar
//! with GNU's long names (tar(5)). Headers are read raw and checked here: anything that two tar readers may understand
//! differently is refused. Every file is created relative to a directory descriptor without following symbolic links. Links
//! are created last, so no path ever leads through one.

mod decoder;
mod entry;
mod limits;
mod tree;

pub use limits::Limits;

use super::packing::{Packing, Unread, HEAD};
use super::{Digest, FetchedFrom, Recipe, VerifiedArchive};
use crate::error::{advise, Remedy};
use anyhow::{ensure, Context, Result};
use decoder::Decoder;
use entry::{ArchiveEntry, Kind, Reader};
use limits::{Bounded, Deadline, Metered};
use nix::errno::Errno;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use tree::Tree;

/// An unpacked source; only [`unpack`] creates it.
#[derive(Debug)]
pub struct SourceTree {
    top: PathBuf,
    directory: String,
    version: Option<String>,
    origin: FetchedFrom,
    sha256: Digest,
}

impl SourceTree {
    /// The archive's top directory, inside the directory that was given to [`unpack`].
    pub fn top(&self) -> &Path {
        &self.top
    }

    /// Where make runs: the recipe's directory below the top, reached through no symbolic link. None if the recipe's
    /// `prepare` had to create it and did not.
    pub fn directory(&self) -> Option<PathBuf> {
        plain_directory(&self.top, &self.directory).then(|| self.top.join(&self.directory))
    }

    /// The release's version: the archive's own, else the one in the name of its top directory.
    pub fn version(&self) -> Option<&str> {
        self.version.as_deref()
    }

    /// Where the archive came from.
    pub fn origin(&self) -> &FetchedFrom {
        &self.origin
    }

    /// The archive's digest.
    pub fn sha256(&self) -> Digest {
        self.sha256
    }
}

/// Unpacks an archive into `into`, a private empty directory that the caller created. Files belong to the caller, have mode
/// 0644 or 0755, and are new. After an error the caller removes the directory with what was written.
///
/// # Errors
/// When the archive contains something that an honest one would not, and errors of writing.
pub fn unpack(archive: &VerifiedArchive, into: &Path, recipe: &Recipe) -> Result<SourceTree> {
    unpack_within(archive, into, recipe, &Limits::default())
}

/// [`unpack`] with other limits, for tests.
///
/// # Errors
/// Those of [`unpack`].
pub fn unpack_within(archive: &VerifiedArchive, into: &Path, recipe: &Recipe, limits: &Limits) -> Result<SourceTree> {
    let act = format!("unpacking {}", archive.path().display());
    let head = head(archive).remedy(act.clone(), "see that the file can be read, and try again")?;
    let packing = Packing::of(&head).map_err(|unread| not_read(archive, &act, unread, recipe))?;
    let top = match extract(archive, packing, into, limits) {
        Ok(top) => top,
        Err(e) if is_late(&e) => {
            let again = "try again when the machine has less to do";
            return Err(e).remedy(act, format!("{again}, or take another archive: {}", with_source("FILE", recipe)));
        }
        Err(e) if is_local(&e) => {
            return Err(e).remedy(act, format!("make room below {} and see that it can be written", into.display()))
        }
        Err(e) => {
            return Err(e).remedy(act, format!("take another archive: {}", with_source("FILE", recipe)));
        }
    };
    let top_dir = into.join(&top);
    if recipe.prepare.is_empty() && !plain_directory(&top_dir, &recipe.directory) {
        return Err(advise(
            format!("{act}: it holds no directory {top}/{}, where the recipe {} runs make", recipe.directory, recipe.name),
            format!("correct `directory` in the recipe {}, or take another archive", recipe.name),
        ));
    }
    let said = version_of(&top, recipe);
    Ok(SourceTree {
        top: top_dir,
        directory: recipe.directory.clone(),
        version: archive.version().map(str::to_owned).or(said),
        origin: archive.origin().clone(),
        sha256: archive.sha256(),
    })
}

/// The first bytes of an archive, which show its format.
fn head(archive: &VerifiedArchive) -> Result<Vec<u8>> {
    let mut file = archive.file();
    file.seek(SeekFrom::Start(0)).context("going back to its beginning")?;
    let mut head = Vec::new();
    file.take(HEAD as u64).read_to_end(&mut head).context("reading its beginning")?;
    Ok(head)
}

/// The error for an unsupported format: what it is, and the command that converts it.
fn not_read(archive: &VerifiedArchive, act: &str, unread: Unread, recipe: &Recipe) -> anyhow::Error {
    let remedy = match unread.again {
        Some(command) => {
            // A name with special characters for a shell must be typed by the person.
            let name = archive.path().to_string_lossy();
            let plain = name.bytes().all(|b| b.is_ascii_alphanumeric() || b"/._+-".contains(&b));
            let command = command.replace("FILE", if plain { name.as_ref() } else { "FILE" });
            let then = with_source("NEW.tar.gz", recipe);
            format!("pack it again: `{command}`; then {then} with the digest that `sha256sum NEW.tar.gz` says")
        }
        None => format!("take another archive: {}", with_source("FILE", recipe)),
    };
    let reads = "vfguard reads .tar.gz, .tar.xz and .tar";
    advise(format!("{act}: it is {} ({reads})", unread.what), remedy)
}

fn with_source(file: &str, recipe: &Recipe) -> String {
    format!("`vfguard prepare KERNEL --driver {} --source {file} --sha256 HEX`", recipe.name)
}

/// The version in the name of a top directory: the version of one of the recipe's releases; else the text after `NAME-`;
/// else, if the name contains the recipe's name, the text after its last `-` or `_`, if that begins with a digit.
fn version_of(top: &str, recipe: &Recipe) -> Option<String> {
    let is_version = |said: &&str| said.starts_with(|c: char| c.is_ascii_digit());
    let known = recipe.release_named(top).map(|release| release.version.as_str());
    let after_name = || top.strip_prefix(&recipe.name)?.strip_prefix('-').filter(is_version);
    let last = || top.rsplit(['-', '_']).next().filter(is_version).filter(|_| top.contains(&recipe.name));
    known.or_else(after_name).or_else(last).map(str::to_owned)
}

/// Whether an error is due to this machine (a full disk, no permission, a timeout) and not to the archive.
pub(super) fn is_local(error: &anyhow::Error) -> bool {
    let local = |e: &io::Error| e.raw_os_error().is_some();
    is_late(error) || error.chain().any(|e| e.is::<Errno>() || e.downcast_ref().is_some_and(local))
}

/// Whether the time limit was reached: the machine may be busy, or the archive may be made for that.
fn is_late(error: &anyhow::Error) -> bool {
    let late = |e: &io::Error| e.kind() == io::ErrorKind::TimedOut && e.raw_os_error().is_none();
    error.chain().any(|e| e.downcast_ref().is_some_and(late))
}

/// Whether the directory is reached through no symbolic link.
fn plain_directory(top: &Path, inner: &str) -> bool {
    let mut path = top.to_owned();
    inner.split('/').all(|part| {
        path.push(part);
        path.symlink_metadata().is_ok_and(|m| m.is_dir())
    })
}

/// Extracts everything and returns the name of the one top directory.
fn extract(archive: &VerifiedArchive, packing: Packing, into: &Path, limits: &Limits) -> Result<String> {
    let mut file = archive.file();
    file.seek(SeekFrom::Start(0)).context("going back to its beginning")?;
    let meter = limits::Meter::default();
    let deadline = Deadline::after(limits.time);
    let packed = BufReader::new(Metered::new(file, meter.clone(), deadline));
    let bounded = Bounded::new(Decoder::new(packing, packed)?, meter, limits, deadline);
    let mut tar = tar::Archive::new(bounded);
    let mut tree = Tree::open(into)?;
    let mut reader = Reader::new(limits);
    for raw in tar.entries().context("reading its first header")?.raw(true) {
        let mut raw = raw.context("reading a header")?;
        if let Some(entry) = reader.next(&mut raw)? {
            write(&mut tree, &entry, &mut raw).with_context(|| entry.shown())?;
        }
    }
    let read = reader.finish()?;
    finish(tar.into_inner(), read, archive.sha256())?;
    tree.finish(deadline)
}

fn write(tree: &mut Tree, entry: &ArchiveEntry, data: &mut impl Read) -> Result<()> {
    match &entry.kind {
        Kind::Directory => tree.directory(&entry.path),
        Kind::File { executable, size } => tree.file(&entry.path, *executable, *size, data),
        Kind::Symlink { target } => tree.symlink(&entry.path, target),
        Kind::Hardlink { target } => tree.hardlink(&entry.path, target),
    }
}

/// Checks the end of the archive: only zeros up to the end of the one gzip member, xz stream or file, and nothing after it.
/// All bytes that were read must have the verified digest; they do not if the owner changed the file in the meantime.
fn finish<R: Read>(mut bounded: Bounded<Decoder<BufReader<Metered<R>>>>, read: u64, verified: Digest) -> Result<()> {
    let mut buffer = [0; 8 << 10];
    loop {
        match bounded.read(&mut buffer).context("reading its end")? {
            0 => break,
            n => ensure!(buffer[..n].iter().all(|b| *b == 0), "it holds data after its end"),
        }
    }
    ensure!(bounded.total() > read, "it has no end: it was cut off");
    let got = bounded.into_inner().finish()?.into_inner().digest();
    ensure!(got == verified, "it was changed after it was verified: SHA-256 {got} instead of {verified}");
    Ok(())
}
