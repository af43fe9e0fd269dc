//! A write of GRUB's environment block that a power cut leaves half done. The block is two sectors of a disk, which writes each whole or
//! not at all, and not both at once. A write that changes both is noted before it is made, so that the next run can finish it.

use super::grubenv;
use crate::host::lock::BootLock;
use crate::host::{failpoint, files, Host};
use anyhow::{Context, Result};
use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// The note, below the root: the path of the file and a newline, the block before and the block after.
const NOTE: &str = "/var/lib/vfguard/records/grubenv-write";
/// What a disk writes whole.
const SECTOR: usize = 512;

/// Writes a block over the one that is there, `before`: the file never changes its length or its disk blocks. `path` is the real one.
pub(super) fn write(host: &Host, path: &Path, before: &[u8], after: &[u8]) -> Result<()> {
    let noted = both_sectors_differ(before, after) && note(host, path, before, after).is_ok();
    let file = File::options().write(true).open(path).with_context(|| format!("opening {}", path.display()))?;
    failpoint::hit("grubenv-before-write");
    file.write_all_at(after, 0).with_context(|| format!("writing {}", path.display()))?;
    failpoint::hit("grubenv-before-sync");
    file.sync_all().with_context(|| format!("syncing {}", path.display()))?;
    if noted {
        // One that stays is found to be about a write that is whole.
        let _ = files::remove(&host.path(NOTE));
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

/// Finishes a write that a power cut left half done, and says so. A file that is something else by now is another tool's, and stays.
///
/// # Errors
/// Those of taking the lock, and of writing the file; the note then stays for the next run.
pub fn heal(host: &Host) -> Result<Option<String>> {
    if !host.exists(NOTE) {
        return Ok(None);
    }
    let _lock = BootLock::take(host)?;
    let noted = host.read(NOTE).ok().and_then(|note| parse(&note));
    let Some((name, before, after)) = noted else {
        files::remove(&host.path(NOTE))?;
        return Ok(None);
    };
    let path = host.path(&name);
    let now = files::read_bounded(&path, grubenv::MAX).unwrap_or_default();
    let healed = is_torn(&now, &before, &after).then(|| write(host, &path, &now, &after)).transpose()?;
    files::remove(&host.path(NOTE))?;
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

/// Whether a block is neither of the two, and each of its sectors is one of theirs.
fn is_torn(now: &[u8], before: &[u8], after: &[u8]) -> bool {
    let mut sectors = now.chunks(SECTOR).zip(before.chunks(SECTOR).zip(after.chunks(SECTOR)));
    now.len() == grubenv::SIZE && now != before && now != after && sectors.all(|(n, (b, a))| n == b || n == a)
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
        for (now, then, said) in [
            (before.clone(), &before, false),
            (after.clone(), &after, false),
            (mix(&after, &before), &after, true),
            (mix(&before, &after), &after, true),
            (theirs.clone(), &theirs, false),
            (vec![], &vec![], false),
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
