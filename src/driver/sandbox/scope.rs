//! A cgroup for each program that a build runs, if systemd runs: a transient scope with bounds on memory, tasks, CPU and IO.
//! Resource limits apply to single processes, and they count neither memfds, nor sockets, nor the kernel's own memory. The
//! scope does.
//!
//! ```text
//! child ── its id ──► vfguard: StartTransientUnit, waits until the child is in the scope ── a byte ──► child goes on
//! ```
//!
//! The child waits before it changes its user or starts anything, so everything that the source starts is in the scope from
//! its start. The scope is not a part of vfguard.service and does not end with it. When vfguard dies, the kernel kills the
//! child (PR_SET_PDEATHSIG), and with it its namespace or group (`child`, `host::tied`). systemd removes the empty scope.
//!
//! If systemd does not run, or does not answer in time, the build runs without a scope, and its log says so.

use super::bounds::Memory;
use crate::host::command;
use crate::host::{systemd, Host};
use nix::unistd::Pid;
use std::fs;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

/// Time for systemd to answer, and then to move the child. It takes milliseconds, or seconds on a machine that is swapping.
const ANSWER: Duration = Duration::from_secs(10);
/// How often vfguard checks whether the child was moved.
const LOOK: Duration = Duration::from_millis(2);
/// If CPU or disks are busy, a build gets half as much of them as other processes.
const WEIGHT: &str = "50";
/// The same in the units of cgroup v1, where others have 1024 and 500.
const SHARES: (&str, &str) = ("512", "250");

/// The properties of a scope.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub memory: Memory,
    pub tasks: u64,
}

/// Whether a build can have a scope here. systemd is not asked.
///
/// # Errors
/// Why not.
pub(super) fn available(host: &Host) -> Result<(), &'static str> {
    if host.root() != Path::new("/") {
        return Err("below another root no service is called");
    }
    if !nix::unistd::geteuid().is_root() {
        return Err("vfguard does not run as root");
    }
    // A container may see its host's /run, but its process ids differ from those that the host's systemd uses.
    let first = fs::read_to_string("/proc/1/comm").unwrap_or_default();
    if !host.is_dir(systemd::BOOTED) || first.trim_end() != "systemd" {
        return Err("systemd does not run here");
    }
    command::find("busctl").map(drop).ok_or("systemd's busctl is missing")
}

/// The cgroup of a program.
#[derive(Debug)]
pub(super) struct Scope {
    /// The counters of processes killed because memory ran out: of the scope, and of its parent, whose counter outlives the
    /// scope.
    counts: [Option<(PathBuf, u64)>; 2],
}

impl Scope {
    /// Whether a process in it was killed because memory ran out.
    pub fn was_starved(&self) -> bool {
        let grown = |(file, before): &(PathBuf, u64)| kills(file).map(|now| now > *before);
        self.counts.iter().flatten().find_map(grown).unwrap_or(false)
    }
}

/// `oom_kill` of memory.events (cgroup v2) or memory.oom_control (v1, since Linux 4.13).
fn kills(file: &Path) -> Option<u64> {
    let text = fs::read_to_string(file).ok()?;
    text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok())
}

/// A child that waits until it is in its scope, and both ends of the socket through which it reports and is released.
#[derive(Debug)]
pub(super) struct ScopeGuard {
    ours: UnixStream,
    childs: UnixStream,
}

impl ScopeGuard {
    /// Creates it before the fork.
    ///
    /// # Errors
    /// Those of socketpair(2).
    pub fn new() -> io::Result<ScopeGuard> {
        UnixStream::pair().map(|(ours, childs)| ScopeGuard { ours, childs })
    }

    /// Runs `spawn` with the child's end while another thread has the child moved. `spawn` returns when the child has
    /// executed its program. The second result is none if there was no child.
    pub fn during<T>(self, limits: &Limits, spawn: impl FnOnce(BorrowedFd<'_>) -> T) -> (T, Option<Result<Scope, String>>) {
        let ScopeGuard { ours, childs } = self;
        thread::scope(|threads| {
            let moving = thread::Builder::new().spawn_scoped(threads, || serve(&ours, limits));
            if moving.is_err() {
                let _ = (&ours).write_all(&[0]);
            }
            let spawned = spawn(childs.as_fd());
            // If the child never reports, this ends the other thread's read.
            drop(childs);
            let moved = match moving {
                Ok(thread) => thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
                Err(e) => Some(Err(format!("no thread can be started: {e}"))),
            };
            (spawned, moved)
        })
    }
}

/// Waits for the child's id, has it moved, and releases it.
fn serve(mut ours: &UnixStream, limits: &Limits) -> Option<Result<Scope, String>> {
    let mut id = [0; 4];
    ours.read_exact(&mut id).ok()?;
    let moved = start(Pid::from_raw(i32::from_ne_bytes(id)), limits);
    let _ = ours.write_all(&[0]);
    Some(moved)
}

fn start(child: Pid, limits: &Limits) -> Result<Scope, String> {
    let unit = format!("vfguard-build-{child}.scope");
    let ask = |properties: &[(&str, &str, String)]| {
        let asked = command::run(&systemd::start_scope(&unit, "a build of vfguard's", child, properties, ANSWER));
        match asked.map_err(|e| format!("{e:#}"))? {
            outcome if outcome.timed_out => Err(format!("systemd does not answer within {} s", ANSWER.as_secs())),
            outcome if outcome.success() => Ok(()),
            outcome => Err(outcome.output.trim().to_owned()),
        }
    };
    let Limits { memory, tasks } = *limits;
    let bytes = |name: &'static str, bytes: u64| (name, "t", bytes.to_string());
    let weight = |name: &'static str, weight: &str| (name, "t", weight.to_owned());
    let newer = [
        bytes("MemoryMax", memory.limit),
        bytes("MemorySwapMax", memory.swap),
        bytes("TasksMax", tasks),
        weight("CPUWeight", WEIGHT),
        weight("IOWeight", WEIGHT),
        // Remove the scope also after a process in it was killed.
        ("CollectMode", "s", "inactive-or-failed".to_owned()),
    ];
    // The names before systemd 236, without a bound on swap.
    let older = [bytes("MemoryLimit", memory.limit), weight("CPUShares", SHARES.0), weight("BlockIOWeight", SHARES.1)];
    match ask(&newer) {
        Err(e) if e.contains("nknown property") => ask(&older)?,
        asked => asked?,
    }
    let since = Instant::now();
    // systemd answers before it has moved the child.
    let (mounted, path) = loop {
        match cgroup(child).filter(|(_, path)| path.ends_with(&unit)) {
            Some(found) => break found,
            None if since.elapsed() >= ANSWER => return Err(format!("systemd does not move the build into {unit}")),
            None => thread::sleep(LOOK),
        }
    };
    let (limit, count) = match mounted {
        "/sys/fs/cgroup" => ("memory.max", "memory.events"),
        _ => ("memory.limit_in_bytes", "memory.oom_control"),
    };
    let dir = Path::new(mounted).join(path.trim_start_matches('/'));
    let set = fs::read_to_string(dir.join(limit)).ok().and_then(|text| text.trim().parse::<u64>().ok());
    if set.is_none_or(|set| set > memory.limit) {
        return Err(format!("{unit} has no bound of memory: the kernel counts none for cgroups"));
    }
    let counted = |dir: &Path| Some(dir.join(count)).and_then(|file| kills(&file).map(|n| (file, n)));
    Ok(Scope { counts: [counted(&dir), dir.parent().and_then(counted)] })
}

/// The cgroup that counts the memory of a process: hierarchy and path (cgroups(7)).
fn cgroup(process: Pid) -> Option<(&'static str, String)> {
    place(&fs::read_to_string(format!("/proc/{process}/cgroup")).ok()?)
}

fn place(text: &str) -> Option<(&'static str, String)> {
    let lines = || text.lines().filter_map(|line| line.split_once(':')?.1.split_once(':'));
    let first = lines().find(|(controllers, _)| controllers.split(',').any(|c| c == "memory"));
    let found = |(mounted, (_, path)): (&'static str, (&str, &str))| (mounted, path.to_owned());
    let second = || lines().find(|(controllers, _)| controllers.is_empty());
    first.map(|line| found(("/sys/fs/cgroup/memory", line))).or_else(|| second().map(|line| found(("/sys/fs/cgroup", line))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cgroup_for_memory_is_the_controllers_own_where_it_has_a_hierarchy() {
        let scope = "/system.slice/vfguard-build-7.scope";
        let v1 = format!("9:name=systemd:{scope}\n4:memory:{scope}\n2:cpu,cpuacct:/\n0::/other\n");
        assert_eq!(place(&v1), Some(("/sys/fs/cgroup/memory", scope.to_owned())));
        assert_eq!(place(&format!("0::{scope}\n")), Some(("/sys/fs/cgroup", scope.to_owned())));
        assert_eq!(place("9:name=systemd:/\n"), None);
    }

    #[test]
    fn kills_are_counted_in_the_scope_or_in_its_parent_if_the_scope_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let (own, parent) = (dir.path().join("own"), dir.path().join("parent"));
        let write = |file: &Path, n: u64| fs::write(file, format!("oom 9\noom_kill {n}\noom_group_kill 5\n")).unwrap();
        write(&own, 0);
        write(&parent, 3);
        let scope = Scope { counts: [Some((own.clone(), 0)), Some((parent.clone(), 3))] };
        assert!(!scope.was_starved());
        // A kill in another scope.
        write(&parent, 4);
        assert!(!scope.was_starved());
        write(&own, 1);
        assert!(scope.was_starved());
        fs::remove_file(&own).unwrap();
        assert!(scope.was_starved());
        fs::remove_file(&parent).unwrap();
        assert!(!scope.was_starved());
    }

    #[test]
    fn a_child_that_never_reports_delays_nothing() {
        let limits = Limits { memory: Memory { limit: 1, swap: 0 }, tasks: 1 };
        let ((), moved) = ScopeGuard::new().unwrap().during(&limits, |_| ());
        assert!(moved.is_none());
    }
}
