//! Brings a release's archive here and proves its digest before anything looks into it.

use super::{Digest, Progress, Recipe, Release};
use crate::config::Fetch;
use crate::host::Host;
use anyhow::Result;
use std::fs::File;
use std::path::{Path, PathBuf};

/// Where an archive came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The cache, verified again.
    Cache,
    /// A URL, without credentials.
    Url(String),
    /// A file that the caller named.
    File(PathBuf),
}

/// An archive whose digest was verified on the open descriptor.
#[derive(Debug)]
pub struct VerifiedArchive {
    path: PathBuf,
    file: File,
    version: Option<String>,
    origin: Origin,
    sha256: Digest,
}

impl VerifiedArchive {
    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The descriptor that was verified.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// The release's version; none for a file that the caller named.
    pub fn version(&self) -> Option<&str> {
        self.version.as_deref()
    }

    /// Where it came from.
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// Its digest.
    pub fn sha256(&self) -> Digest {
        self.sha256
    }
}

/// Whether a URL can be fetched from at all.
pub(super) fn check_url(url: &str) -> Result<(), String> {
    let parsed = reqwest::Url::parse(url).map_err(|e| format!("{url:?}: {e}"))?;
    match parsed.scheme() {
        "http" | "https" if parsed.has_host() => Ok(()),
        "file" if parsed.host_str().is_none_or(str::is_empty) => Ok(()),
        other => Err(format!("{url:?}: {other} is none of https, http and file")),
    }
}

/// A release's archive: from the cache, else from the mirrors, else from its URLs.
///
/// # Errors
/// When no place has it; each place's failure is told.
pub fn fetch(
    _host: &Host,
    _config: &Fetch,
    _recipe: &Recipe,
    _release: &Release,
    _progress: &dyn Progress,
) -> Result<VerifiedArchive> {
    anyhow::bail!("fetching is not there yet")
}

/// An archive that the caller names together with its digest (`--source FILE --sha256 HEX`).
///
/// # Errors
/// When it cannot be read or its digest is another.
pub fn local_archive(path: &Path, sha256: &Digest) -> Result<VerifiedArchive> {
    let file = File::open(path)?;
    anyhow::ensure!(Digest::of(&file)? == *sha256, "wrong digest");
    Ok(VerifiedArchive { path: path.into(), file, version: None, origin: Origin::File(path.into()), sha256: *sha256 })
}
