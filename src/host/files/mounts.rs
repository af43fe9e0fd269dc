//! Mounted file systems, and which of them may be frozen. The format is that of `/proc/self/mountinfo`
//! (proc_pid_mountinfo(5)).

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The directories of boot files; no other part of a system writes there.
const BOOT: [&str; 2] = ["/boot", "/efi"];
/// The file systems with a journal that GRUB does not read. Others (btrfs, f2fs, FAT) are complete after syncfs(2).
const JOURNALS: [&str; 5] = ["ext3", "ext4", "xfs", "jfs", "reiserfs"];

/// A mounted file system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// The id of the mount.
    id: u64,
    /// `major:minor` of the superblock. All subvolumes of a btrfs have the same, although stat(2) reports different ones.
    pub device: String,
    /// The mount point.
    pub point: PathBuf,
    /// The file system type.
    kind: String,
    /// The device or name that was mounted.
    source: String,
}

/// Parses mountinfo. Lines in an unknown format are skipped.
pub fn parse(text: &[u8]) -> Vec<Mount> {
    text.split(|b| *b == b'\n').filter_map(line).collect()
}

/// `36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw`
fn line(line: &[u8]) -> Option<Mount> {
    let words: Vec<&[u8]> = line.split(|b| *b == b' ').collect();
    let dash = words.iter().position(|w| *w == b"-").filter(|at| *at >= 6)?;
    let text = |at: usize| words.get(at).map(|w| String::from_utf8_lossy(w).into_owned());
    Some(Mount {
        id: text(0)?.parse().ok()?,
        device: text(2)?,
        point: OsString::from_vec(unescaped(words[4])).into(),
        kind: text(dash + 1)?,
        source: text(dash + 2)?,
    })
}

/// Blanks, line breaks and backslashes are written as octal escapes with three digits.
fn unescaped(word: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(word.len());
    let mut rest = word;
    while let Some((&first, after)) = rest.split_first() {
        let code = after.get(..3).filter(|_| first == b'\\').and_then(|d| std::str::from_utf8(d).ok());
        match code.and_then(|d| u8::from_str_radix(d, 8).ok()) {
            Some(byte) => {
                out.push(byte);
                rest = &after[3..];
            }
            None => {
                out.push(first);
                rest = after;
            }
        }
    }
    out
}

/// All mounts that this process sees.
///
/// # Errors
/// Those of reading /proc/self/mountinfo.
pub fn all() -> io::Result<Vec<Mount>> {
    fs::read("/proc/self/mountinfo").map(|text| parse(&text))
}

/// The mount that contains an open directory; none if it is not known for certain.
fn of<'a>(mounts: &'a [Mount], directory: &File) -> Option<&'a Mount> {
    // Since Linux 3.15.
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", directory.as_raw_fd())).ok()?;
    if let Some(id) = info.lines().find_map(|l| l.strip_prefix("mnt_id:")) {
        let id: u64 = id.trim().parse().ok()?;
        return mounts.iter().find(|m| m.id == id);
    }
    let path = fs::read_link(format!("/proc/self/fd/{}", directory.as_raw_fd())).ok()?;
    let dev = directory.metadata().ok()?.dev();
    let device = format!("{}:{}", nix::sys::stat::major(dev), nix::sys::stat::minor(dev));
    let covering = mounts.iter().filter(|m| path.starts_with(&m.point));
    // If two are mounted at one place, the later one hides the other.
    covering.max_by_key(|m| m.point.components().count()).filter(|m| m.device == device)
}

/// The mount of an open directory, if its file system may be frozen: it has a journal that GRUB does not read, it is mounted
/// at or below /boot or /efi and nowhere else, and it contains nothing that the machine needs meanwhile. In doubt the answer
/// is none.
pub fn freezable(directory: &File) -> Option<Mount> {
    let mounts = all().ok()?;
    let mount = of(&mounts, directory)?;
    let needed = needed()?;
    is_apart(&mounts, mount, &needed).then(|| mount.clone())
}

fn is_apart(mounts: &[Mount], mount: &Mount, needed: &[PathBuf]) -> bool {
    let plain = |p: &Path| p.to_str().is_some_and(|p| p.bytes().all(|b| b.is_ascii_graphic()));
    let below_boot = |p: &Path| BOOT.iter().any(|top| p.starts_with(top));
    let same = |m: &&Mount| m.device == mount.device || (m.source.starts_with('/') && m.source == mount.source);
    // If `/` is not a mount, this process sees only a part of the machine.
    mounts.iter().any(|m| m.point == Path::new("/"))
        && JOURNALS.contains(&mount.kind.as_str())
        && plain(&mount.point)
        && mounts.iter().filter(same).all(|m| below_boot(&m.point) && !needed.iter().any(|n| n.starts_with(&m.point)))
}

/// Files that must stay readable and writable while a file system is frozen: swap, files behind loop devices, this program.
/// None if they are not known.
fn needed() -> Option<Vec<PathBuf>> {
    let mut files = vec![fs::read_link("/proc/self/exe").ok()?];
    // The first line is a header. A kernel without swap does not have this file.
    let swaps = fs::read("/proc/swaps").unwrap_or_default();
    let words = swaps.split(|b| *b == b'\n').skip(1).filter_map(|l| l.split(|b| *b == b' ' || *b == b'\t').next());
    files.extend(words.filter(|w| !w.is_empty()).map(|w| OsString::from_vec(unescaped(w)).into()));
    for entry in fs::read_dir("/sys/block").ok()?.flatten() {
        // Only loop devices in use have it.
        if let Ok(mut file) = fs::read(entry.path().join("loop/backing_file")) {
            file.truncate(file.trim_ascii_end().len());
            files.push(OsString::from_vec(file).into());
        }
    }
    Some(files)
}

/// A directory on the file system with this device number, opened through one of its mount points.
pub(in crate::host) fn open(device: &str, point: &Path) -> Option<File> {
    let mounts = all().ok()?;
    let mut places: Vec<&Mount> = mounts.iter().filter(|m| m.device == device).collect();
    places.sort_by_key(|m| m.point != point);
    // Another mount may hide it.
    places.into_iter().find_map(|m| {
        let directory = File::open(&m.point).ok()?;
        of(&mounts, &directory).is_some_and(|m| m.device == device).then_some(directory)
    })
}

#[cfg(test)]
#[path = "mounts_tests.rs"]
mod tests;
