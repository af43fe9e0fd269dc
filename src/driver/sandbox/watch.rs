//! What a running build takes of the disk, looked at again and again.

use super::run::Stop;
use nix::errno::Errno;
use nix::sys::statvfs::statvfs;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

/// How often the disk is looked at.
const DISK_TICK: Duration = Duration::from_millis(250);
/// How often the directory is summed up in any case: what others free hides what a build takes. A driver's is 2,000 files.
const COUNT_TICK: Duration = Duration::from_secs(2);
/// The disk that a build may take: a driver's takes 30 MB.
const MAX_DISK: u64 = 1 << 30;
/// The files that it may make.
const MAX_FILES: u64 = 100_000;
/// A build is stopped before it takes the last of the disk that the rest of the machine needs.
const RESERVE: u64 = 32 << 20;

/// Watches what a build takes of the disk. The file system's own figures are cheap; the directory is summed up now and then,
/// and at once when they have moved by more than a build may take: others write to the same disk.
pub(super) struct DiskWatch<'a> {
    dir: &'a Path,
    at_start: Option<(u64, u64)>,
    last: Instant,
    counted: Instant,
}

impl<'a> DiskWatch<'a> {
    pub fn new(dir: &'a Path) -> Self {
        DiskWatch { dir, at_start: free(dir), last: Instant::now(), counted: Instant::now() }
    }

    pub fn look(&mut self) -> Option<Stop> {
        if self.last.elapsed() < DISK_TICK {
            return None;
        }
        self.last = Instant::now();
        let (bytes, files) = self.at_start?;
        let (bytes_now, files_now) = free(self.dir)?;
        let nearly_full = bytes_now < RESERVE && bytes_now < bytes;
        let suspicious = bytes.saturating_sub(bytes_now) > MAX_DISK || files.saturating_sub(files_now) > MAX_FILES;
        let mut too_much = nearly_full;
        if suspicious || self.counted.elapsed() >= COUNT_TICK {
            let (bytes, files) = usage(self.dir);
            self.counted = Instant::now();
            too_much |= bytes > MAX_DISK || files > MAX_FILES;
        }
        too_much.then_some(Stop::Disk)
    }
}

/// Free bytes and free inodes of the file system that holds a directory.
pub(crate) fn free(dir: &Path) -> Option<(u64, u64)> {
    let stat = statvfs(dir).ok()?;
    Some((stat.blocks_available().saturating_mul(stat.fragment_size()), stat.files_available()))
}

fn usage(dir: &Path) -> (u64, u64) {
    let mut total = (0, 0);
    let mut todo = vec![dir.to_owned()];
    while let Some(dir) = todo.pop() {
        let entries = match fs::read_dir(&dir) {
            Ok(entries) => entries,
            // Deeper than a path may be long: no source is, and what lies there cannot be counted.
            Err(e) if e.raw_os_error() == Some(Errno::ENAMETOOLONG as i32) => return (u64::MAX, u64::MAX),
            Err(_) => continue,
        };
        for entry in entries.flatten() {
            let Ok(meta) = entry.metadata() else { continue };
            total.0 += meta.blocks() * 512;
            total.1 += 1;
            // Deep enough to know; a bomb of files must not be walked to its end.
            if total.1 > MAX_FILES || total.0 > MAX_DISK {
                return total;
            }
            if meta.is_dir() {
                todo.push(entry.path());
            }
        }
    }
    total
}
