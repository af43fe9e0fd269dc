//! What a running build takes of the disk, looked at again and again. Where the build directory is a file system of its own (`disk`)
//! it cannot take more than it may, and is only stopped when it tried; elsewhere it may have more for an instant.
//!
//! Files count by their names in the build directory, and those without a name by the descriptors of the build's processes. What of
//! them cannot be seen (a file that is only mapped, a descriptor on its way through a socket, a process that hides them) counts as too
//! much as soon as the file system has lost more than a build may take.

use super::bounds::{MAX_DISK, MAX_FILES};
use super::run::Stop;
use nix::errno::Errno;
use nix::sys::statvfs::statvfs;
use nix::unistd::{Pid, Uid};
use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
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
    makers: Makers,
    at_start: Option<(u64, u64)>,
    last: Instant,
    counted: Instant,
}

impl<'a> DiskWatch<'a> {
    pub fn new(dir: &'a Path, own: bool, makers: Makers) -> Self {
        DiskWatch { dir, own, makers, at_start: free(dir), last: Instant::now(), counted: Instant::now() }
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
            let nameless = Nameless::of(&self.makers.living(), suspicious);
            self.counted = Instant::now();
            let files = files.saturating_add(nameless.files.len() as u64);
            too_much = bytes.saturating_add(nameless.bytes) > MAX_DISK || files > MAX_FILES || suspicious && nameless.unseen;
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

/// Who may take of the disk.
#[derive(Debug)]
pub(super) struct Makers {
    /// The first process of what runs, and how many of its generations are vfguard's own.
    pub first: Pid,
    pub ours: usize,
    /// The build user, where no namespace holds its processes together.
    pub user: Option<Uid>,
}

/// The files that processes have open and that have no name any more, on whatever file system: no build needs many.
#[derive(Debug, Default)]
struct Nameless {
    files: BTreeSet<(u64, u64)>,
    bytes: u64,
    /// Whether there may be others.
    unseen: bool,
}

impl Nameless {
    fn of(processes: &[Pid], thoroughly: bool) -> Nameless {
        let mut all = Nameless::default();
        for pid in processes {
            // Each thread may have descriptors of its own, and outlive the first.
            for thread in fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten() {
                let looked = all.look(&thread.path(), thoroughly);
                all.unseen |= looked.is_err_and(|e| !is_gone(&e)) && !is_over(&thread.path());
            }
        }
        all
    }

    fn look(&mut self, thread: &Path, thoroughly: bool) -> io::Result<()> {
        for descriptor in fs::read_dir(thread.join("fd"))? {
            let meta = match fs::metadata(descriptor?.path()) {
                Err(e) if is_gone(&e) => continue,
                result => result?,
            };
            // A socket may hold descriptors.
            self.unseen |= meta.file_type().is_socket();
            if meta.is_file() && meta.nlink() == 0 && self.files.insert((meta.dev(), meta.ino())) {
                self.bytes += meta.blocks() * 512;
            }
        }
        if thoroughly {
            let maps = fs::read(thread.join("maps"))?;
            self.unseen |= String::from_utf8_lossy(&maps).lines().any(is_of_nameless_file);
        }
        Ok(())
    }
}

/// Whether a line of `/proc/PID/maps` is of a file that was removed, and not of memory that has the form of one.
fn is_of_nameless_file(line: &str) -> bool {
    let Some(path) = line.find('/').and_then(|at| line.get(at..)?.strip_suffix(" (deleted)")) else { return false };
    path != "/dev/zero" && !["/memfd:", "/SYSV"].iter().any(|memory| path.starts_with(memory))
}

fn is_gone(e: &io::Error) -> bool {
    matches!(e.raw_os_error().map(Errno::from_raw), Some(Errno::ENOENT | Errno::ESRCH))
}

/// Whether a thread has ended, and is only waited for.
fn is_over(thread: &Path) -> bool {
    let stat = fs::read_to_string(thread.join("stat")).unwrap_or_default();
    stat.rsplit(')').next().is_none_or(|rest| rest.trim().is_empty() || rest.trim_start().starts_with(['Z', 'X']))
}

/// What lies below a directory, in bytes and files. What cannot be looked into (a mode that keeps us out, a path longer than one may
/// be) is no source's, and counts as too much.
fn usage(dir: &Path) -> (u64, u64) {
    const TOO_MUCH: (u64, u64) = (u64::MAX, u64::MAX);
    let mut total = (0, 0);
    let mut todo = vec![dir.to_owned()];
    while let Some(dir) = todo.pop() {
        let entries = match fs::read_dir(&dir) {
            Ok(entries) => entries,
            // Removed meanwhile, and a file has its name now.
            Err(e) if is_gone(&e) || e.raw_os_error() == Some(Errno::ENOTDIR as i32) => continue,
            Err(_) => return TOO_MUCH,
        };
        for entry in entries {
            let meta = match entry.and_then(|entry| Ok((entry.metadata()?, entry))) {
                Ok((meta, entry)) => {
                    if meta.is_dir() {
                        todo.push(entry.path());
                    }
                    meta
                }
                Err(e) if is_gone(&e) => continue,
                Err(_) => return TOO_MUCH,
            };
            total.0 += meta.blocks() * 512;
            total.1 += 1;
            // Deep enough to know; a bomb of files must not be walked to its end.
            if total.1 > MAX_FILES || total.0 > MAX_DISK {
                return total;
            }
        }
    }
    total
}
