//! How much of the machine a build may take, by what the machine has. What holds these bounds: `disk`, `scope`, `watch`, and the
//! limits of each process.

use super::disk::{self, Apart};
use super::{containment, level, scope, Level, Sandbox, MAX_MEMORY};
use crate::host::{sys, Host};
use std::ffi::CStr;
use std::fs;

/// The disk that a build may take: ixgbevf takes 20 MB, an ice with debug information 200 MB.
pub(super) const MAX_DISK: u64 = 1 << 30;
/// The least that is enough for any driver; where half of the memory is less, the build stays on the disk.
const LEAST_DISK: u64 = 256 << 20;
/// The files that a build may make: a driver's are 2,000.
pub(super) const MAX_FILES: u64 = 100_000;
/// Memory that one job of make takes at its peak: 0.2 GB were measured, twice that is left.
const JOB_MEMORY: u64 = 512 << 20;
/// The most jobs; the settings take no more either.
const MAX_JOBS: u64 = 1024;
/// The least that a build may have of memory where the machine has it: pahole with a vmlinux takes 1 GB, the linker of a large
/// driver as much.
const LEAST_MEMORY: u64 = 4 << 30;
/// What is not of the jobs: pahole, make, the private `/tmp`.
const OVERHEAD: u64 = 2 << 30;

/// Why nothing is bounded by the machine's memory.
pub(super) const UNTOLD: &str = "how much memory this machine has cannot be told";
/// Processes of the sandbox itself: monitor, init, reaper.
const TASKS_OF_OURS: u64 = 8;

/// Settings of an IPC namespace without which there is neither shared memory nor a queue nor a semaphore of System V: their memory
/// is nobody's, no limit of a process counts it.
const SYSTEM_V: [(&CStr, &[u8]); 5] = [
    (c"sys/kernel/shmmni", b"0"),
    (c"sys/kernel/shmall", b"0"),
    (c"sys/kernel/shmmax", b"0"),
    (c"sys/kernel/msgmni", b"0"),
    (c"sys/kernel/sem", b"0 0 0 0"),
];

/// Leaves the IPC namespace of this process without System V IPC; it works in a `/proc` that can be written: the machine's own is
/// read-only in many services and containers. Runs in the child; system calls only. Without root it is not allowed.
pub(super) fn without_system_v() {
    for (file, text) in SYSTEM_V {
        let _ = sys::write_file(file, text);
    }
}

/// The bytes of memory that this machine has; none where it cannot be told.
pub(super) fn machine() -> Option<u64> {
    Some(memory()?.total_memory()).filter(|&bytes| bytes > 0)
}

/// This machine's memory as it is now.
fn memory() -> Option<sysinfo::System> {
    let mut system = sysinfo::System::new().ok()?;
    system.refresh_memory();
    Some(system)
}

/// As many parallel jobs as this process may use cores, and as there is memory for now.
pub fn jobs() -> u32 {
    // The standard library counts what affinity and quota leave of the cores; sysinfo counts all of the machine's.
    let cores = std::thread::available_parallelism().map_or(1, |n| n.get() as u64);
    jobs_for(cores, memory().map(|system| system.available_memory()))
}

/// One job where it cannot be told how much memory there is: more could take what the machine does not have.
fn jobs_for(cores: u64, available: Option<u64>) -> u32 {
    let room = available.map_or(1, |bytes| bytes / JOB_MEMORY);
    cores.min(room).clamp(1, MAX_JOBS) as u32
}

/// The size of a build directory that lies in memory; none where there is too little of that.
pub(super) fn disk(machine: u64) -> Option<u64> {
    Some(MAX_DISK.min(machine / 2)).filter(|&size| size >= LEAST_DISK)
}

/// What all processes of a build may have together, files in memory included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Memory {
    /// Of the machine's memory.
    pub limit: u64,
    /// And of its swap, beyond that.
    pub swap: u64,
}

impl Memory {
    /// For as many jobs, on a machine with so much memory: a quarter is always left to others.
    pub fn of(machine: u64, jobs: u32) -> Memory {
        let wanted = LEAST_MEMORY.max(MAX_DISK + OVERHEAD + JOB_MEMORY.saturating_mul(jobs.into()));
        let limit = wanted.min(machine / 4 * 3);
        Memory { limit, swap: wanted - limit }
    }
}

impl Sandbox<'_> {
    /// Makes the build directory, which is empty yet, a file system of its own, in a thread that can have one.
    pub fn bound_disk(&mut self, apart: Result<Apart, String>) {
        self.disk = apart.and_then(|apart| {
            let own = disk::Own::mount(&apart, &self.build_dir())?;
            // The one that was made before is below the mount. Without namespaces the compiler writes here.
            std::fs::create_dir(self.temporary()).map_err(|e| format!("no directory can be made in it ({e})"))?;
            Ok(own)
        });
    }

    /// Whether the build directory is a file system of its own.
    pub fn has_own_disk(&self) -> bool {
        self.disk.is_ok()
    }

    /// What a build may take of the disk, in words.
    pub fn disk_bound(&self) -> String {
        let size = self.disk.as_ref().map_or(MAX_DISK, |own| own.size);
        format!("{} MB and {MAX_FILES} files", size >> 20)
    }

    /// What all processes of a build may take of memory, in words, where a cgroup bounds it.
    pub fn memory_bound(&self) -> Option<String> {
        self.scope.as_ref().ok().map(|limits| format!("{} MB of memory", limits.memory.limit >> 20))
    }

    /// How the builds of this sandbox are bounded, a line for their log.
    pub fn bounds(&self) -> String {
        let disk = match &self.disk {
            Ok(_) => "in memory".to_owned(),
            Err(why) => format!("on the disk and watched ({why})"),
        };
        let memory = match &self.scope {
            Ok(limits) => format!("{} MB of memory, by a cgroup", limits.memory.limit >> 20),
            Err(why) => format!("no cgroup ({why})"),
        };
        format!("vfguard: this build may take {}, {disk}; {memory}\n", self.disk_bound())
    }

    /// Whether the number of processes can be limited. They are counted by user, and the caller's own has others; but those of a user
    /// namespace are counted apart since Linux 5.14.
    pub(super) fn counts_processes(&self) -> bool {
        let apart = || fs::read_to_string("/proc/sys/kernel/osrelease").is_ok_and(|release| counts_apart(&release));
        self.who.is_some() || self.level == Level::OwnUser && apart()
    }

    pub(super) fn scope_limits(&self) -> Result<scope::Limits, String> {
        scope::available(self.host)?;
        let machine = machine().ok_or(UNTOLD)?;
        Ok(scope::Limits { memory: Memory::of(machine, self.jobs), tasks: self.processes() + TASKS_OF_OURS })
    }
}

fn counts_apart(release: &str) -> bool {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|number| number.parse::<u32>());
    matches!((numbers.next(), numbers.next()), (Some(Ok(major)), Some(Ok(minor))) if (major, minor) >= (5, 14))
}

/// How a build would be bounded here, in words; nothing is asked of systemd.
pub fn promised_bounds(host: &Host) -> String {
    let disk = match containment(host).level {
        Level::Full => disk::promised(),
        Level::NoNamespaces if level::may_mount() => disk::promised(),
        Level::OwnUser | Level::NoNamespaces | Level::None => Err("vfguard can mount nothing".to_owned()),
    };
    let disk = match disk {
        Ok(size) => format!("{} MB of files, in memory", size >> 20),
        Err(why) => format!("{} MB of files, on the disk and watched ({why})", MAX_DISK >> 20),
    };
    let memory = match (scope::available(host), machine()) {
        (Ok(()), Some(machine)) => format!("{} MB of memory, by a cgroup", Memory::of(machine, 1).limit >> 20),
        (Ok(()), None) => format!("{} MB of memory for each process, no cgroup ({UNTOLD})", MAX_MEMORY >> 20),
        (Err(why), _) => format!("{} MB of memory for each process, no cgroup ({why})", MAX_MEMORY >> 20),
    };
    format!("{disk}; {memory}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const GB: u64 = 1 << 30;

    #[test]
    fn a_build_gets_a_gigabyte_of_files_and_never_more_than_half_of_the_memory() {
        assert_eq!(disk(64 * GB), Some(GB));
        assert_eq!(disk(GB), Some(GB / 2));
        assert_eq!(disk(600 << 20), Some(300 << 20));
        assert_eq!(disk(400 << 20), None);
    }

    #[test]
    fn a_machine_with_little_memory_gets_fewer_jobs_than_cores_and_never_none() {
        for (cores, available, jobs) in [
            (8, Some(64 * GB), 8),
            (8, Some(4 * GB), 8),
            (8, Some(4 * GB - 1), 7),
            (8, Some(GB), 2),
            (8, Some(GB - 1), 1),
            (8, Some(1), 1),
            (8, Some(0), 1),
            (8, None, 1),
            (1, Some(64 * GB), 1),
            (0, Some(64 * GB), 1),
            (100_000, Some(u64::MAX), 1024),
        ] {
            assert_eq!(jobs_for(cores, available), jobs, "{cores} cores, {available:?} bytes");
        }
    }

    #[test]
    fn processes_are_counted_by_namespace_since_linux_5_14() {
        for release in ["5.14.0-427.el9\n", "6.1.0-57-amd64", "10.0", "6.1"] {
            assert!(counts_apart(release), "{release}");
        }
        for release in ["5.13.19", "4.18.0-553.el8_10.x86_64", "2.6.32-754.el6", "", "unknown", "6"] {
            assert!(!counts_apart(release), "{release}");
        }
    }

    #[test]
    fn a_build_gets_memory_for_its_jobs_and_leaves_a_quarter_of_the_machines() {
        assert_eq!(Memory::of(64 * GB, 1), Memory { limit: 4 * GB, swap: 0 });
        assert_eq!(Memory::of(64 * GB, 36), Memory { limit: 21 * GB, swap: 0 });
        assert_eq!(Memory::of(4 * GB, 2), Memory { limit: 3 * GB, swap: GB });
        assert_eq!(Memory::of(GB, 1024).limit, GB / 4 * 3);
    }
}
