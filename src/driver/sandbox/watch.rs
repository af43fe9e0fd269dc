//! Checks repeatedly how much of the disk a running build uses. If the build directory is a file system of its own (`disk`),
//! the build cannot exceed its bound and is stopped when it tries. Otherwise it can exceed the bound for an instant.
//!
//! Files are counted by their names in the build directory, and files without a name by the descriptors of the build's
//! processes. Some cannot be seen: a file that is only mapped, a descriptor in a socket, a process that hides its files. If
//! there may be such files, they count as too much as soon as the file system has lost more space than a build may use.

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

/// How often the free space is checked.
const DISK_TICK: Duration = Duration::from_millis(250);
/// How often the directory is summed up in any case, because space that others free hides what a build uses. A driver has
/// 2,000 files.
const COUNT_TICK: Duration = Duration::from_secs(2);
/// If less than this is free, a file system of its own counts as full.
const NOTHING: u64 = 64 << 10;
/// A build is stopped before it uses the last disk space, which the rest of the machine needs.
const RESERVE: u64 = 32 << 20;

/// Watches the disk space that a build uses. Reading the free space is cheap. The directory is summed up at intervals, and
/// at once if the free space fell by more than a build may use; other processes write to the same disk, too.
pub(super) struct DiskWatch<'a> {
    dir: &'a Path,
    /// Whether the build directory is a file system of its own.
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

    /// Whether a file system of its own is full. The build itself may report that as any error or signal.
    pub fn is_used_up(&self) -> bool {
        self.own && free(self.dir).is_some_and(|(bytes, files)| bytes < NOTHING || files == 0)
    }
}

/// Free bytes and free inodes of the file system that contains a directory.
pub(crate) fn free(dir: &Path) -> Option<(u64, u64)> {
    let stat = statvfs(dir).ok()?;
    Some((stat.blocks_available().saturating_mul(stat.fragment_size()), stat.files_available()))
}

/// The processes that may use disk space.
#[derive(Debug)]
pub(super) struct Makers {
    /// The first process of the program, and how many of its generations are vfguard's own.
    pub first: Pid,
    pub ours: usize,
    /// The build user, if no namespace contains its processes.
    pub user: Option<Uid>,
}

/// Files that processes have open and that no longer have a name, on any file system. No build needs many.
#[derive(Debug, Default)]
struct Nameless {
    files: BTreeSet<(u64, u64)>,
    bytes: u64,
    /// Whether there may be more that cannot be seen.
    unseen: bool,
}

impl Nameless {
    fn of(processes: &[Pid], thoroughly: bool) -> Nameless {
        let mut all = Nameless::default();
        for pid in processes {
            // Each thread may have its own descriptors and may outlive the first one.
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
            // A socket may contain descriptors.
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

/// Whether a line of `/proc/PID/maps` is for a removed file, and not for memory that looks like one.
fn is_of_nameless_file(line: &str) -> bool {
    let Some(path) = line.find('/').and_then(|at| line.get(at..)?.strip_suffix(" (deleted)")) else { return false };
    path != "/dev/zero" && !["/memfd:", "/SYSV"].iter().any(|memory| path.starts_with(memory))
}

fn is_gone(e: &io::Error) -> bool {
    matches!(e.raw_os_error().map(Errno::from_raw), Some(Errno::ENOENT | Errno::ESRCH))
}

/// Whether a thread has ended and is only waiting to be reaped.
fn is_over(thread: &Path) -> bool {
    let stat = fs::read_to_string(thread.join("stat")).unwrap_or_default();
    stat.rsplit(')').next().is_none_or(|rest| rest.trim().is_empty() || rest.trim_start().starts_with(['Z', 'X']))
}

/// The bytes and files below a directory. Anything unreadable (by its mode, or because its path is too long) does not come
/// from a source and counts as too much.
fn usage(dir: &Path) -> (u64, u64) {
    const TOO_MUCH: (u64, u64) = (u64::MAX, u64::MAX);
    let mut total = (0, 0);
    let mut todo = vec![dir.to_owned()];
    while let Some(dir) = todo.pop() {
        let entries = match fs::read_dir(&dir) {
            Ok(entries) => entries,
            // It was removed in the meantime, or a file replaced it.
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
            // Already too much, so stop here: the number of files may be huge.
            if total.1 > MAX_FILES || total.0 > MAX_DISK {
                return total;
            }
        }
    }
    total
}
