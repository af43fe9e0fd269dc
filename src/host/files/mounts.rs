//! What is mounted, and which of it may be frozen. The format is that of `/proc/self/mountinfo` (proc_pid_mountinfo(5)).

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Where boot files are: nothing else of a system writes there.
const BOOT: [&str; 2] = ["/boot", "/efi"];
/// The file systems whose journal GRUB does not read. Others (btrfs, f2fs, FAT) are whole after syncfs(2).
const JOURNALS: [&str; 5] = ["ext3", "ext4", "xfs", "jfs", "reiserfs"];

/// A mounted file system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// The number of the mount.
    id: u64,
    /// `major:minor` of the superblock. It is one for all subvolumes of a btrfs, unlike what stat(2) says of their files.
    pub device: String,
    /// Where it is mounted.
    pub point: PathBuf,
    /// Its type.
    kind: String,
    /// The device or name that was mounted.
    source: String,
}

/// Reads mountinfo; lines that are not understood are left out.
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

/// Blanks, line breaks and backslashes are written as three octal digits.
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

/// All that this process sees mounted.
///
/// # Errors
/// Those of reading /proc/self/mountinfo.
pub fn all() -> io::Result<Vec<Mount>> {
    fs::read("/proc/self/mountinfo").map(|text| parse(&text))
}

/// The mount on which an open directory lies; none where that cannot be known for certain.
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
    // Of two at one place the later one covers the other.
    covering.max_by_key(|m| m.point.components().count()).filter(|m| m.device == device)
}

/// The mount of an open directory, if its file system may be frozen: it has a journal that GRUB does not read, it is mounted at or
/// below /boot or /efi and nowhere else, and nothing that the machine needs meanwhile lies on it. In doubt it may not.
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
    // Where `/` is no mount, this is a part of a machine only, and the rest is not seen.
    mounts.iter().any(|m| m.point == Path::new("/"))
        && JOURNALS.contains(&mount.kind.as_str())
        && plain(&mount.point)
        && mounts.iter().filter(same).all(|m| below_boot(&m.point) && !needed.iter().any(|n| n.starts_with(&m.point)))
}

/// Files that must stay writable or readable while a file system is frozen: swap, what loop devices stand on, this program. None where
/// that cannot be known.
fn needed() -> Option<Vec<PathBuf>> {
    let mut files = vec![fs::read_link("/proc/self/exe").ok()?];
    // The first line is a heading. Without swap in the kernel there is no such file.
    let swaps = fs::read("/proc/swaps").unwrap_or_default();
    let words = swaps.split(|b| *b == b'\n').skip(1).filter_map(|l| l.split(|b| *b == b' ' || *b == b'\t').next());
    files.extend(words.filter(|w| !w.is_empty()).map(|w| OsString::from_vec(unescaped(w)).into()));
    for entry in fs::read_dir("/sys/block").ok()?.flatten() {
        // Only those in use have one.
        if let Ok(mut file) = fs::read(entry.path().join("loop/backing_file")) {
            file.truncate(file.trim_ascii_end().len());
            files.push(OsString::from_vec(file).into());
        }
    }
    Some(files)
}

/// A directory on the file system that has this device number, opened by one of the places where it is mounted.
pub(in crate::host) fn open(device: &str, point: &Path) -> Option<File> {
    let mounts = all().ok()?;
    let mut places: Vec<&Mount> = mounts.iter().filter(|m| m.device == device).collect();
    places.sort_by_key(|m| m.point != point);
    // Another mount may cover it.
    places.into_iter().find_map(|m| {
        let directory = File::open(&m.point).ok()?;
        of(&mounts, &directory).is_some_and(|m| m.device == device).then_some(directory)
    })
}

#[cfg(test)]
#[path = "mounts_tests.rs"]
mod tests;
