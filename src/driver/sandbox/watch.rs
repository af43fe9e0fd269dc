//! What a running build takes of the disk, looked at again and again. Where the build directory is a file system of its own (`disk`)
//! it cannot take more than it may, and is only stopped when it tried.

use super::bounds::{MAX_DISK, MAX_FILES};
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
/// Less than this is nothing in a file system of its own.
const NOTHING: u64 = 64 << 10;
/// A build is stopped before it takes the last of the disk that the rest of the machine needs.
const RESERVE: u64 = 32 << 20;

/// Watches what a build takes of the disk. The file system's own figures are cheap; the directory is summed up now and then,
/// and at once when they have moved by more than a build may take: others write to the same disk.
pub(super) struct DiskWatch<'a> {
    dir: &'a Path,
    /// Whether it is a file system of its own.
    own: bool,
    at_start: Option<(u64, u64)>,
    last: Instant,
    counted: Instant,
}

impl<'a> DiskWatch<'a> {
    pub fn new(dir: &'a Path, own: bool) -> Self {
        DiskWatch { dir, own, at_start: free(dir), last: Instant::now(), counted: Instant::now() }
    }

    pub fn look(&mut self) -> Option<Stop> {
        if self.last.elapsed() < DISK_TICK {
            return None;
        }
        self.last = Instant::now();
        if self.own {
            return self.is_used_up().then_some(Stop::TooLarge);
        }
        let (bytes, files) = self.at_start?;
        let (bytes_now, files_now) = free(self.dir)?;
        let nearly_full = bytes_now < RESERVE && bytes_now < bytes;
        let suspicious = bytes.saturating_sub(bytes_now) > MAX_DISK || files.saturating_sub(files_now) > MAX_FILES;
        if nearly_full {
            return Some(Stop::Disk);
        }
        let mut too_much = false;
        if suspicious || self.counted.elapsed() >= COUNT_TICK {
            let (bytes, files) = usage(self.dir);
            self.counted = Instant::now();
            too_much = bytes > MAX_DISK || files > MAX_FILES;
        }
        too_much.then_some(Stop::TooLarge)
    }

    /// Whether nothing is left of a file system of its own: what its makers see of that is any error, or a signal.
    pub fn is_used_up(&self) -> bool {
        self.own && free(self.dir).is_some_and(|(bytes, files)| bytes < NOTHING || files == 0)
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
