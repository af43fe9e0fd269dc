//! Making the moves that [`plan`](super::plan) works out: GRUB's environment file in place, other files as new ones, variables by
//! bootctl(1). Each can be undone byte by byte.

use super::flush::settle;
use super::plan::{Plan, Way};
use crate::boot::efi;
use crate::boot::grub2::{grubenv, torn};
use crate::host::{files, Host};
use anyhow::{Context, Result};
use std::fmt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// grub-editenv reads and writes within a few milliseconds.
const OVERTAKEN: Duration = Duration::from_millis(50);
/// A boot loader's settings are a page of text.
const MAX_FILE: u64 = 4 << 20;
/// How often a move is made that another tool undoes or gets ahead of.
pub(in crate::boot) const ATTEMPTS: usize = 4;

/// What was changed, as it was.
pub(in crate::boot) enum Undo {
    /// A file that was replaced; none where there was none.
    File { path: PathBuf, before: Option<Vec<u8>> },
    /// GRUB's environment file.
    Env { path: PathBuf, before: Vec<u8>, after: Vec<u8> },
    /// A variable of systemd-boot, with its attributes.
    Variable { choice: efi::Choice, before: Option<Vec<u8>> },
}

impl Undo {
    /// Puts it back, the way it was changed.
    pub(in crate::boot) fn undo(self, host: &Host) -> Result<()> {
        match self {
            Undo::File { path, before: None } => files::remove(&path).map(|_| ()),
            Undo::File { path, before: Some(bytes) } => replace(host, &path, &bytes),
            Undo::Env { path, before, after } => {
                let now = grubenv::read(&path).with_context(|| format!("reading {}", path.display()))?;
                if now == after {
                    return torn::write(host, &path, &after, &before);
                }
                // Another tool wrote since; what it wrote stays. Only what still stands as we wrote it is put back.
                let mut ours = grubenv::differing(&after, &before);
                ours.retain(|(name, _)| grubenv::get(&now, name) == grubenv::get(&after, name));
                let ours: Vec<_> = ours.iter().map(|(name, value)| (name.as_str(), value.as_deref())).collect();
                torn::write(host, &path, &now, &grubenv::edit(&now, &ours)?)
            }
            Undo::Variable { choice, before } => choice.put(host, before),
        }
    }

    /// Whether another tool has written since, from what it had read before our write: then that is lost. Looked at after a moment,
    /// in which such a tool comes to its end.
    pub(in crate::boot) fn overtaken(&self) -> bool {
        match self {
            Undo::Env { path, after, .. } => {
                std::thread::sleep(OVERTAKEN);
                grubenv::read(path).map_or(true, |now| now != *after)
            }
            // Nothing reads these, changes what it read and writes it back.
            Undo::File { .. } | Undo::Variable { .. } => false,
        }
    }
}

/// The default, or the file that holds it, is another one by now than what a move was worked out from: whoever set it would be overwritten,
/// and what they want be forgotten.
#[derive(Debug)]
pub(in crate::boot) struct SetMeanwhile;

impl fmt::Display for SetMeanwhile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("something else sets the boot default at this moment")
    }
}

impl std::error::Error for SetMeanwhile {}

/// Makes a move, where the file still is what it was worked out from.
pub(in crate::boot) fn make(host: &Host, plan: Plan) -> Result<Undo> {
    let Plan { at, way, before, after } = plan;
    match (way, before) {
        (Way::InPlace, Some(before)) => {
            if before != after {
                torn::write(host, &at, &before, &after)?;
            }
            Ok(Undo::Env { path: at, before, after })
        }
        (Way::InPlace | Way::Replace, before) => {
            if files::read_bounded(&at, MAX_FILE).ok() != before {
                return Err(SetMeanwhile.into());
            }
            replace(host, &at, &after)?;
            Ok(Undo::File { path: at, before })
        }
        (Way::Bootctl(choice), before) => {
            choice.put(host, Some(after).filter(|value| !value.is_empty()))?;
            Ok(Undo::Variable { choice, before })
        }
    }
}

/// Replaces a file of /boot whole, keeping its mode, and makes that visible to a loader that reads no journal.
pub(in crate::boot) fn replace(host: &Host, path: &Path, content: &[u8]) -> Result<()> {
    let mode = std::fs::metadata(path).map_or(0o644, |m| m.permissions().mode() & 0o7777);
    files::write_atomic(path, content, mode)?;
    settle(host, path)
}

/// Writes, and looks whether that came to what it was to come to; once more after a moment, since another tool that had read the file
/// before may write it after us. Whoever is overtaken puts back what is left of it, and writes again. `Err` holds how to undo what did
/// not take.
pub(in crate::boot) fn lastingly(
    host: &Host,
    write: impl Fn() -> Result<Undo>,
    arrived: impl Fn() -> bool,
) -> Result<Result<(), Undo>> {
    let mut undo = write()?;
    for _ in 1..ATTEMPTS {
        match (arrived(), undo.overtaken()) {
            (true, false) => return Ok(Ok(())),
            (false, false) => return Ok(Err(undo)),
            (true, true) if arrived() => return Ok(Ok(())),
            (_, true) => {
                undo.undo(host)?;
                undo = write()?;
            }
        }
    }
    Ok(if arrived() { Ok(()) } else { Err(undo) })
}
