//! How much of the machine a build may use, depending on what the machine has. The bounds are enforced by `disk`, `scope`,
//! `watch` and the resource limits of each process.

use super::disk::{self, Apart};
use super::{containment, level, scope, Level, Sandbox, MAX_MEMORY};
use crate::host::{sys, Host};
use std::ffi::CStr;
use std::fs;

/// Disk space that a build may use: ixgbevf takes 20 MB, an ice with debug information 200 MB.
pub(super) const MAX_DISK: u64 = 1 << 30;
/// The smallest size that is enough for any driver. If half of the memory is less, the build directory stays on the disk.
const LEAST_DISK: u64 = 256 << 20;
/// The number of files that a build may create: a driver has 2,000.
pub(super) const MAX_FILES: u64 = 100_000;
/// Memory that one job of make may need at its peak: 0.2 GB were measured, and more than twice that is allowed.
const JOB_MEMORY: u64 = 512 << 20;
/// The largest number of jobs; the configuration accepts no more either.
const MAX_JOBS: u64 = 1024;
/// The memory that a build may always use if the machine has it: pahole with a vmlinux takes 1 GB, and the linker of a large
/// driver takes as much.
const LEAST_MEMORY: u64 = 4 << 30;
/// Memory for everything but the jobs: pahole, make, the private `/tmp`.
const OVERHEAD: u64 = 2 << 30;

/// Why the machine's memory does not bound anything.
pub(super) const UNTOLD: &str = "how much memory this machine has cannot be told";
/// Processes of the sandbox itself: monitor, init, reaper.
const TASKS_OF_OURS: u64 = 8;

/// Settings of an IPC namespace that disable System V shared memory, queues and semaphores. Their memory is charged to no
/// process, so no resource limit counts it.
const SYSTEM_V: [(&CStr, &[u8]); 5] = [
    (c"sys/kernel/shmmni", b"0"),
    (c"sys/kernel/shmall", b"0"),
    (c"sys/kernel/shmmax", b"0"),
    (c"sys/kernel/msgmni", b"0"),
    (c"sys/kernel/sem", b"0 0 0 0"),
];

/// Disables System V IPC in the IPC namespace of this process. It needs a writable `/proc`; the machine's own is read-only
/// in many services and containers. Runs in the child: system calls only. Without root it is not permitted.
pub(super) fn without_system_v() {
    for (file, text) in SYSTEM_V {
        let _ = sys::write_file(file, text);
    }
}

/// The machine's memory in bytes; none if it is unknown.
pub(super) fn machine() -> Option<u64> {
    Some(memory()?.total_memory()).filter(|&bytes| bytes > 0)
}

/// This machine's memory at present.
fn memory() -> Option<sysinfo::System> {
    let mut system = sysinfo::System::new().ok()?;
    system.refresh_memory();
    Some(system)
}

/// The number of parallel jobs: limited by the cores that this process may use and by the memory that is available now.
pub fn jobs() -> u32 {
    // The standard library respects CPU affinity and quota; sysinfo counts all cores of the machine.
    let cores = std::thread::available_parallelism().map_or(1, |n| n.get() as u64);
    jobs_for(cores, memory().map(|system| system.available_memory()))
}

/// One job if the memory is unknown: more could use more memory than the machine has.
fn jobs_for(cores: u64, available: Option<u64>) -> u32 {
    let room = available.map_or(1, |bytes| bytes / JOB_MEMORY);
    cores.min(room).clamp(1, MAX_JOBS) as u32
}

/// The size of a build directory in memory; none if there is too little memory.
pub(super) fn disk(machine: u64) -> Option<u64> {
    Some(MAX_DISK.min(machine / 2)).filter(|&size| size >= LEAST_DISK)
}

/// Memory that all processes of a build may use together, including files in a tmpfs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Memory {
    /// Bytes of memory.
    pub limit: u64,
    /// Bytes of swap in addition.
    pub swap: u64,
}

impl Memory {
    /// For this number of jobs on a machine with this memory. A quarter is always left for everything else.
    pub fn of(machine: u64, jobs: u32) -> Memory {
        let wanted = LEAST_MEMORY.max(MAX_DISK + OVERHEAD + JOB_MEMORY.saturating_mul(jobs.into()));
        let limit = wanted.min(machine / 4 * 3);
        Memory { limit, swap: wanted - limit }
    }
}

impl Sandbox<'_> {
    /// Mounts a file system of its own over the build directory, which is still empty, in a thread that can have one.
    pub fn bound_disk(&mut self, apart: Result<Apart, String>) {
        self.disk = apart.and_then(|apart| {
            let own = disk::Own::mount(&apart, &self.build_dir())?;
            // The directory that was created before is hidden by the mount. Without namespaces the compiler writes here.
            std::fs::create_dir(self.temporary()).map_err(|e| format!("no directory can be made in it ({e})"))?;
            Ok(own)
        });
    }

    /// Whether the build directory is a file system of its own.
    pub fn has_own_disk(&self) -> bool {
        self.disk.is_ok()
    }

    /// The disk space that a build may use, as text.
    pub fn disk_bound(&self) -> String {
        let size = self.disk.as_ref().map_or(MAX_DISK, |own| own.size);
        format!("{} MB and {MAX_FILES} files", size >> 20)
    }

    /// The memory that all processes of a build may use, as text, if a cgroup bounds it.
    pub fn memory_bound(&self) -> Option<String> {
        self.scope.as_ref().ok().map(|limits| format!("{} MB of memory", limits.memory.limit >> 20))
    }

    /// How the builds of this sandbox are bounded, as a line for their log.
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

    /// Whether the number of processes can be limited. The kernel counts them by user, and the caller's own user has other
    /// processes. Since Linux 5.14 the processes of a user namespace are counted separately.
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

/// How a build would be bounded here, as text. systemd is not asked.
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
    fn a_build_gets_memory_for_its_jobs_and_a_quarter_of_the_machine_stays_free() {
        assert_eq!(Memory::of(64 * GB, 1), Memory { limit: 4 * GB, swap: 0 });
        assert_eq!(Memory::of(64 * GB, 36), Memory { limit: 21 * GB, swap: 0 });
        assert_eq!(Memory::of(4 * GB, 2), Memory { limit: 3 * GB, swap: GB });
        assert_eq!(Memory::of(GB, 1024).limit, GB / 4 * 3);
    }
}
