//! A write of GRUB's environment block that a power cut leaves half done. The block is two sectors of a disk, which writes each whole or
//! not at all, and not both at once. A write that changes both is noted before it is made, so that the next run can finish it.

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

/// The note, below the root: the path of the file and a newline, the block before and the block after.
const NOTE: &str = "/var/lib/vfguard/records/grubenv-write";
/// What a disk writes whole.
const SECTOR: usize = 512;
/// What GRUB itself writes while it starts the next kernel, or a service after it: EL's `10_reset_boot_success`, `12_menu_auto_hide` and
/// `08_fallback_counting`, Debian's `recordfail`, and what `next_entry` leaves.
const BY_GRUB: [&str; 7] =
    ["boot_success", "boot_indeterminate", "boot_counter", "menu_show_once", "recordfail", "next_entry", "prev_saved_entry"];

/// Writes a block over the one that is there, if that still is `before`: the file never changes its length or its disk blocks. `path` is
/// the real one.
pub(in crate::boot) fn write(host: &Host, path: &Path, before: &[u8], after: &[u8]) -> Result<()> {
    let noted = both_sectors_differ(before, after) && note(host, path, before, after).is_ok();
    let place = host.place(host.name(path))?;
    let mut options = File::options();
    options.write(true).custom_flags(nix::libc::O_NOFOLLOW);
    let file = options.open(place.path()).with_context(|| format!("opening {}", path.display()))?;
    failpoint::hit("grubenv-before-write");
    // One that another tool is writing is waited for.
    if grubenv::read(path).map_or(true, |now| now != before) {
        let _ = host.remove(NOTE);
        return Err(SetMeanwhile.into());
    }
    file.write_all_at(after, 0).with_context(|| format!("writing {}", path.display()))?;
    failpoint::hit("grubenv-before-sync");
    file.sync_all().with_context(|| format!("syncing {}", path.display()))?;
    if noted {
        // One that stays is found to be about a write that is whole.
        let _ = host.remove(NOTE);
    }
    Ok(())
}

fn both_sectors_differ(before: &[u8], after: &[u8]) -> bool {
    before.chunks(SECTOR).zip(after.chunks(SECTOR)).filter(|(a, b)| a != b).count() > 1
}

/// That it cannot be written (a full disk) hinders no hold.
fn note(host: &Host, path: &Path, before: &[u8], after: &[u8]) -> Result<()> {
    let path = host.name(path);
    host.write_atomic(NOTE, &[path.as_os_str().as_bytes(), b"\n", before, after].concat(), 0o600)
}

/// Finishes a write that a power cut left half done, and says so. A file that is whole and something else by now is another tool's, and
/// stays.
///
/// # Errors
/// Those of taking the lock, and of writing the file; and where the file is neither whole nor what the cut can have left. The note then
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

/// The block as it would be had the write been whole: none where it was, where it was not begun, or where something else was written. GRUB
/// may have written its own variables into what the cut left; they stay as it set them.
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
    fn a_write_that_a_power_cut_left_half_done_is_finished_and_what_another_tool_wrote_stays() {
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
            // GRUB has written since, into each of these.
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
    fn only_a_write_that_changes_both_sectors_is_noted_and_a_note_that_is_cut_goes() {
        let (_dir, host) = machine();
        let short = |value: &str| grubenv::edit(&long(value), &[("kernelopts", None)]).unwrap();
        // Where the note cannot be written, the block is all the same; and where none is due, nothing is tried.
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
