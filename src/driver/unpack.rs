//! Unpacks a verified archive into a private directory: nothing is ever written outside it, whatever the archive says.

use super::{Origin, Recipe, VerifiedArchive};
use anyhow::Result;
use std::path::{Path, PathBuf};

/// An unpacked source, made only by [`unpack`].
#[derive(Debug)]
pub struct SourceTree {
    top: PathBuf,
    directory: PathBuf,
    version: Option<String>,
    origin: Origin,
}

impl SourceTree {
    /// The archive's top directory, in the directory that was given to [`unpack`].
    pub fn top(&self) -> &Path {
        &self.top
    }

    /// Where make runs: the recipe's directory below the top.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The release's version: the archive's own, else what its top directory `NAME-VERSION` says.
    pub fn version(&self) -> Option<&str> {
        self.version.as_deref()
    }

    /// Where the archive came from.
    pub fn origin(&self) -> &Origin {
        &self.origin
    }
}

/// Unpacks an archive into `into`, a private empty directory that the caller made. Files belong to the caller, are 0644 or
/// 0755 and new; on an error what was written is left for the caller, who removes the directory.
///
/// # Errors
/// Whatever an honest archive would not hold.
pub fn unpack(_archive: &VerifiedArchive, _into: &Path, _recipe: &Recipe) -> Result<SourceTree> {
    anyhow::bail!("unpacking is not there yet")
}
