//! Repairs a write of GRUB's environment block that a power cut interrupted. The block is two disk sectors. A disk writes each sector whole
//! or not at all, but not both at once. A write that changes both sectors is noted before it is made, so that the next run can finish it.

use crate::boot::grubenv;
use crate::boot::meanwhile::SetMeanwhile;
use crate::error::advise;
use crate::host::lock::BootLock;
use crate::host::{failpoint, files, Host};
use anyhow::{Context, Result};
use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// The note, below the root: the path of the file and a newline, the block before the write and the block after it.
const NOTE: &str = "/var/lib/vfguard/records/grubenv-write";
/// The unit that a disk writes whole.
const SECTOR: usize = 512;
/// Variables that GRUB itself writes while it starts the next kernel, or that a service writes afterwards: EL's `10_reset_boot_success`,
/// `12_menu_auto_hide` and `08_fallback_counting`, Debian's `recordfail`, and those that `next_entry` involves.
const BY_GRUB: [&str; 7] =
    ["boot_success", "boot_indeterminate", "boot_counter", "menu_show_once", "recordfail", "next_entry", "prev_saved_entry"];

/// Overwrites a block in place, if it still equals `before`: the file never changes its length or its disk blocks. `path` is the path on
/// the disk, with links resolved.
pub(in crate::boot) fn write(host: &Host, path: &Path, before: &[u8], after: &[u8]) -> Result<()> {
    let noted = both_sectors_differ(before, after) && note(host, path, before, after).is_ok();
    let place = host.place(host.name(path))?;
    let mut options = File::options();
    options.write(true).custom_flags(nix::libc::O_NOFOLLOW);
    let file = options.open(place.path()).with_context(|| format!("opening {}", path.display()))?;
    failpoint::hit("grubenv-before-write");
    // `grubenv::read` waits for another tool that is writing the file.
    if grubenv::read(path).map_or(true, |now| now != before) {
        let _ = host.remove(NOTE);
        return Err(SetMeanwhile.into());
    }
    file.write_all_at(after, 0).with_context(|| format!("writing {}", path.display()))?;
    failpoint::hit("grubenv-before-sync");
    file.sync_all().with_context(|| format!("syncing {}", path.display()))?;
    if noted {
        // If the note stays, the next run finds that the write is whole and removes it.
        let _ = host.remove(NOTE);
    }
    Ok(())
}

fn both_sectors_differ(before: &[u8], after: &[u8]) -> bool {
    before.chunks(SECTOR).zip(after.chunks(SECTOR)).filter(|(a, b)| a != b).count() > 1
}

/// Writes the note. Its failure (a full disk) does not prevent a hold.
fn note(host: &Host, path: &Path, before: &[u8], after: &[u8]) -> Result<()> {
    let path = host.name(path);
    host.write_atomic(NOTE, &[path.as_os_str().as_bytes(), b"\n", before, after].concat(), 0o600)
}

/// Finishes a write that a power cut interrupted, and returns a message if it did. A file that is whole and differs was written by another
/// tool since, and is not touched.
///
/// # Errors
/// If the lock cannot be taken or the file cannot be written, or if the file is neither whole nor explained by the power cut. The note then
/// stays.
pub fn heal(host: &Host) -> Result<Option<String>> {
    if !host.exists(NOTE) {
        return Ok(None);
    }
    let _lock = BootLock::take(host)?;
    let noted = host.read(NOTE).ok().and_then(|note| parse(&note));
    let Some((name, before, after)) = noted else {
        host.remove(NOTE)?;
        return Ok(None);
    };
    let path = host.path(&name);
    let now = files::read_bounded(&path, grubenv::MAX).unwrap_or_default();
    let finished = finished(&now, &before, &after);
    if finished.is_none() && !now.is_empty() && !grubenv::is_whole(&now) {
        let (tool, name) = (grubenv::tool(&name), name.display());
        return Err(advise(
            format!("{name} is damaged, and not by our write alone"),
            format!("{tool} {name} list; set what is lost again"),
        ));
    }
    let healed = finished.map(|finished| write(host, &path, &now, &finished)).transpose()?;
    host.remove(NOTE)?;
    Ok(healed.map(|()| format!("{}: a write that was cut short is finished", name.display())))
}

fn parse(note: &[u8]) -> Option<(PathBuf, Vec<u8>, Vec<u8>)> {
    let end = note.iter().position(|byte| *byte == b'\n')?;
    let (path, blocks) = (&note[..end], &note[end + 1..]);
    (blocks.len() == 2 * grubenv::SIZE).then(|| {
        let (before, after) = blocks.split_at(grubenv::SIZE);
        (PathBuf::from(OsStr::from_bytes(path)), before.to_vec(), after.to_vec())
    })
}

/// The block as the complete write would have left it. None if the write was complete, was not begun, or something else was written since.
/// GRUB may have written its own variables into the interrupted block; their values stay.
fn finished(now: &[u8], before: &[u8], after: &[u8]) -> Option<Vec<u8>> {
    let theirs = BY_GRUB.map(|name| (name, grubenv::get(now, name)));
    let theirs: Vec<(&str, Option<&str>)> = theirs.iter().map(|(name, value)| (*name, value.as_deref())).collect();
    let is = |block: &[u8]| now == block || grubenv::edit(block, &theirs).is_ok_and(|edited| edited == now);
    let mixed = |first: &[u8], second: &[u8]| [&first[..SECTOR], &second[SECTOR..]].concat();
    let torn = !is(before) && !is(after) && (is(&mixed(before, after)) || is(&mixed(after, before)));
    torn.then(|| grubenv::edit(after, &theirs).unwrap_or_else(|_| after.to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    const ENV: &str = "/boot/grub2/grubenv";

    fn machine() -> (tempfile::TempDir, Host) {
        let dir = tempfile::tempdir().unwrap();
        let host = Host::new(dir.path()).unwrap();
        (dir, host)
    }

    /// A block that reaches into its second sector.
    fn long(value: &str) -> Vec<u8> {
        let mut block = grubenv::SIGNATURE.to_vec();
        block.resize(grubenv::SIZE, b'#');
        grubenv::edit(&block, &[("saved_entry", Some(value)), ("kernelopts", Some(&"x".repeat(600)))]).unwrap()
    }

    #[test]
    fn a_write_interrupted_by_a_power_cut_is_finished_and_what_another_tool_wrote_stays() {
        let (before, after) = (long("a-longer-entry"), long("entry"));
        let mix = |first: &[u8], second: &[u8]| [&first[..SECTOR], &second[SECTOR..]].concat();
        let theirs = grubenv::edit(&after, &[("theirs", Some("1"))]).unwrap();
        let by_grub =
            |block: &[u8]| grubenv::edit(block, &[("boot_success", Some("0")), ("recordfail", Some("1"))]).unwrap();
        for (now, then, said) in [
            (before.clone(), &before, false),
            (after.clone(), &after, false),
            (mix(&after, &before), &after, true),
            (mix(&before, &after), &after, true),
            (theirs.clone(), &theirs, false),
            (vec![], &vec![], false),
            // The same blocks after GRUB has written to each of them.
            (by_grub(&before), &by_grub(&before), false),
            (by_grub(&after), &by_grub(&after), false),
            (by_grub(&mix(&after, &before)), &by_grub(&after), true),
            (by_grub(&mix(&before, &after)), &by_grub(&after), true),
        ] {
            let (_dir, host) = machine();
            host.write_atomic(ENV, &now, 0o644).unwrap();
            note(&host, &host.path(ENV), &before, &after).unwrap();
            let healed = heal(&host).unwrap();
            assert_eq!(healed.is_some(), said, "{healed:?}");
            assert!(host.read(ENV).unwrap() == *then && !host.exists(NOTE));
            assert_eq!(heal(&host).unwrap(), None);
        }
    }

    #[test]
    fn only_a_write_that_changes_both_sectors_is_noted_and_a_truncated_note_is_removed() {
        let (_dir, host) = machine();
        let short = |value: &str| grubenv::edit(&long(value), &[("kernelopts", None)]).unwrap();
        // If the note cannot be written, the block is written anyway; and where no note is due, none is tried.
        fs::create_dir_all(host.path(NOTE)).unwrap();
        for (before, after, noted) in [
            (short("a-longer-entry"), short("entry"), false),
            (long("entry"), long("other"), false),
            (long("a"), long("entry"), true),
        ] {
            host.write_atomic(ENV, &before, 0o644).unwrap();
            assert_eq!(both_sectors_differ(&before, &after), noted);
            write(&host, &host.path(ENV), &before, &after).unwrap();
            assert!(host.read(ENV).unwrap() == after);
        }
        fs::remove_dir(host.path(NOTE)).unwrap();
        write(&host, &host.path(ENV), &long("entry"), &long("a")).unwrap();
        assert!(!host.exists(NOTE), "the note of a write that is whole stays");
        host.write_atomic(NOTE, b"/boot/grub2/grubenv\nshort", 0o600).unwrap();
        assert_eq!(heal(&host).unwrap(), None);
        assert!(!host.exists(NOTE) && host.read(ENV).unwrap() == long("a"));
    }
}
