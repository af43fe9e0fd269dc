//! Makes the moves that [`plan`](super::plan) describes: GRUB's environment file in place, other files by replacement, variables by
//! bootctl(1). Each can be undone byte by byte.

use super::flush::flush;
use super::plan::{Move, Step, Way};
use crate::boot::efi;
use crate::boot::grubenv;
use crate::boot::grubenv::torn;
use crate::boot::meanwhile::SetMeanwhile;
use crate::error::{advise, Remedy};
use crate::host::{files, Host};
use anyhow::{Context, Result};
use nix::unistd::AccessFlags;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// grub-editenv reads and writes within a few milliseconds.
const OVERTAKEN: Duration = Duration::from_millis(50);
/// A boot loader's settings are a page of text.
const MAX_FILE: u64 = 4 << 20;
/// A new file needs a block or two, and its directory may need one.
const ROOM: u64 = 16 << 10;
/// How often a move is tried if another tool undoes it or writes first.
pub(in crate::boot) const ATTEMPTS: usize = 4;

/// What was changed, with its previous content.
pub(in crate::boot) enum Undo {
    /// A file that was replaced; none where there was none.
    File { path: PathBuf, before: Option<Vec<u8>> },
    /// GRUB's environment file.
    Env { path: PathBuf, before: Vec<u8>, after: Vec<u8> },
    /// A variable of systemd-boot, with its attributes.
    Variable { choice: efi::Choice, before: Option<Vec<u8>> },
    /// Several changes, in the order in which they were made.
    All(Vec<Undo>),
}

impl Undo {
    /// Restores the previous content, the same way it was changed.
    pub(in crate::boot) fn undo(self, host: &Host) -> Result<()> {
        match self {
            Undo::File { path, before: None } => remove(host, &path),
            Undo::File { path, before: Some(bytes) } => replace(host, &path, &bytes),
            Undo::Env { path, before, after } => {
                let now = grubenv::read(&path).with_context(|| format!("reading {}", path.display()))?;
                if now == after {
                    return torn::write(host, &path, &after, &before);
                }
                // Another tool has written since, and its changes stay. Only variables that still have the values that we wrote are
                // restored.
                let mut ours = grubenv::differing(&after, &before);
                ours.retain(|(name, _)| grubenv::get(&now, name) == grubenv::get(&after, name));
                let ours: Vec<_> = ours.iter().map(|(name, value)| (name.as_str(), value.as_deref())).collect();
                torn::write(host, &path, &now, &grubenv::edit(&now, &ours)?)
            }
            Undo::Variable { choice, before } => choice.put(host, before),
            // A failure to restore one does not keep the others from being restored.
            Undo::All(all) => all.into_iter().rev().map(|undo| undo.undo(host)).fold(Ok(()), Result::and),
        }
    }

    /// Whether another tool has overwritten our write with what it had read before it. This looks after a pause, by the end of which such a
    /// tool is done.
    pub(in crate::boot) fn overtaken(&self) -> bool {
        match self {
            Undo::Env { path, after, .. } => {
                std::thread::sleep(OVERTAKEN);
                grubenv::read(path).map_or(true, |now| now != *after)
            }
            // No tool reads these, changes what it read and writes it back.
            Undo::File { .. } | Undo::Variable { .. } => false,
            Undo::All(all) => all.iter().any(Undo::overtaken),
        }
    }
}

/// Makes a move, if the files still have the content that it was worked out from. If a write fails, the earlier ones are undone.
pub(in crate::boot) fn make(host: &Host, plan: Move) -> Result<Undo> {
    let mut done = Vec::new();
    for step in plan.steps {
        match write(host, step) {
            Ok(undo) => done.push(undo),
            Err(e) => {
                Undo::All(done).undo(host).context("putting the boot default back")?;
                return Err(e);
            }
        }
    }
    Ok(Undo::All(done))
}

fn write(host: &Host, step: Step) -> Result<Undo> {
    let Step { at, way, before, after } = step;
    match (way, before, after) {
        (Way::InPlace, Some(before), Some(after)) => {
            if before != after {
                torn::write(host, &at, &before, &after)?;
            }
            Ok(Undo::Env { path: at, before, after })
        }
        (Way::InPlace | Way::Replace, before, after) => {
            if files::read_bounded(&at, MAX_FILE).ok() != before {
                return Err(SetMeanwhile.into());
            }
            match after {
                after if after == before => {}
                Some(after) => replace(host, &at, &after)?,
                None => remove(host, &at)?,
            }
            Ok(Undo::File { path: at, before })
        }
        (Way::Bootctl(choice), before, after) => {
            choice.put(host, after)?;
            Ok(Undo::Variable { choice, before })
        }
    }
}

/// Checks that the files of a move could be written, without writing: a failing write would wake whoever watches the files.
///
/// # Errors
/// What prevents it, with the fix.
pub(in crate::boot) fn can_be_made(plan: &Move) -> Result<()> {
    for step in plan.steps.iter().filter(|step| step.way == Way::Replace && step.before != step.after) {
        let directory = step.at.parent().unwrap_or(Path::new("/"));
        let shown = directory.display();
        if let Err(e) = nix::unistd::access(directory, AccessFlags::W_OK) {
            let remedy = format!("mount -o remount,rw the file system of {shown}; run this as root");
            return Err(anyhow::Error::from(e)).remedy(format!("{shown} cannot be written"), remedy);
        }
        let needed = step.after.as_ref().map_or(0, |after| after.len() as u64 + ROOM);
        let full = nix::sys::statvfs::statvfs(directory).is_ok_and(|fs| {
            let free = fs.blocks_free() * fs.fragment_size();
            // A file system without a fixed number of inodes reports 0 of 0.
            free < needed || (needed > 0 && fs.files() > 0 && fs.files_free() == 0)
        });
        if full {
            return Err(advise(
                format!("the file system of {shown} is full, so {} cannot be written", step.at.display()),
                format!("remove an old kernel, or other files (df -h {shown}; df -i {shown})"),
            ));
        }
    }
    Ok(())
}

fn remove(host: &Host, path: &Path) -> Result<()> {
    host.remove_durably(host.name(path))?;
    flush(host, path)
}

/// Replaces a file of /boot as a whole, keeping its mode and owner, and makes that visible to a loader that reads no journal.
pub(in crate::boot) fn replace(host: &Host, path: &Path, content: &[u8]) -> Result<()> {
    let before = std::fs::metadata(path).ok();
    host.write_atomic(host.name(path), content, before.as_ref().map_or(0o644, |m| m.mode() & 0o7777))?;
    if let Some(before) = before {
        // Without the right to change owners (in a test), the file keeps our owner.
        let _ = host
            .place(host.name(path))
            .map(|file| std::os::unix::fs::lchown(file.path(), Some(before.uid()), Some(before.gid())));
    }
    flush(host, path)
}

/// The result of a write that was checked again.
pub(in crate::boot) enum Written {
    /// It had the intended effect, and still has.
    Lasting,
    /// It had no effect; this undoes what is left of it.
    Not(Undo),
}

/// Writes and checks that it had the intended effect, and checks again after a pause, since another tool that had read the file before may
/// write it after us. In that case what is left of our write is undone, and it is made again.
pub(in crate::boot) fn lastingly(
    host: &Host,
    write: impl Fn() -> Result<Undo>,
    arrived: impl Fn() -> bool,
) -> Result<Written> {
    let mut undo = write()?;
    for _ in 1..ATTEMPTS {
        match (arrived(), undo.overtaken()) {
            (true, false) => return Ok(Written::Lasting),
            (false, false) => return Ok(Written::Not(undo)),
            (true, true) if arrived() => return Ok(Written::Lasting),
            (_, true) => {
                undo.undo(host)?;
                undo = write()?;
            }
        }
    }
    Ok(if arrived() { Written::Lasting } else { Written::Not(undo) })
}
