//! The processes of a build, and what it leaves behind without namespaces: processes that left their group, and System V IPC
//! objects, which belong to the machine then. All of them are killed or removed.

use super::watch::Makers;
use super::{Level, Sandbox};
use crate::host::sys::{self, SystemV};
use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::sys::signal::{kill, Signal};
use nix::unistd::{self, Gid, Pid, Uid};
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

/// How many attempts there are to kill the processes of the build user without a namespace.
const ROUNDS: usize = 50;
/// Files of `/proc/sysvipc`, one for each kind.
const SYSTEM_V: [(SystemV, &str); 3] = [(SystemV::Memory, "shm"), (SystemV::Queue, "msg"), (SystemV::Semaphores, "sem")];

impl Sandbox<'_> {
    /// Without namespaces, a process that left the group would keep running, so all processes of the build user are killed
    /// at once. If another vfguard is building at the same time below another root, its processes are spared and the others
    /// are killed one by one.
    pub(super) fn end_strays(&self) -> Result<()> {
        let Some((uid, gid)) = self.who.filter(|_| self.level == Level::NoNamespaces) else { return Ok(()) };
        let act = || format!("ending the processes of the build user (uid {uid})");
        for _ in 0..ROUNDS {
            let (anothers, strays): (Vec<Pid>, Vec<Pid>) =
                processes(uid).into_iter().partition(|pid| is_anothers(*pid, uid.as_raw()));
            if anothers.is_empty() {
                // A process that forks all the time may be missing in any list, so the list is not used.
                return end_all(uid, gid).with_context(act);
            }
            if strays.is_empty() {
                return Ok(());
            }
            for pid in strays {
                let _ = kill(pid, Signal::SIGKILL);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        end_all(uid, gid).with_context(act)
    }

    /// Without an IPC namespace and without seccomp, shared memory, queues and semaphores would outlive the build, and the
    /// next build could read them.
    pub(super) fn remove_system_v(&self) -> Result<()> {
        let shared = self.level == Level::NoNamespaces && !self.seccomp;
        let Some((uid, gid)) = self.who.filter(|_| shared) else { return Ok(()) };
        let act = || format!("removing the System V IPC of the build user (uid {uid})");
        let mut owned = Vec::new();
        for (kind, name) in SYSTEM_V {
            match fs::read_to_string(format!("/proc/sysvipc/{name}")) {
                Ok(table) => owned.extend(owned_by(uid.as_raw(), &table).into_iter().map(|id| (kind, id))),
                // A kernel may be built without System V IPC.
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(e) => return Err(e).with_context(act),
            }
        }
        if owned.is_empty() {
            return Ok(());
        }
        // As the owner, because root may lack the permission (CAP_SYS_ADMIN).
        let removed = become_user(uid, gid, move || {
            owned.iter().try_for_each(|(kind, id)| match sys::remove_system_v(*kind, *id) {
                Ok(()) | Err(Errno::EINVAL | Errno::EIDRM) => Ok(()),
                Err(e) => Err(e),
            })
        });
        match removed {
            Ok(false) => Err(io::Error::other("it was ended meanwhile")),
            result => result.map(drop),
        }
        .with_context(act)
    }

    /// The processes that may use disk space while the program runs; `first` is its first process.
    pub(super) fn makers(&self, first: Pid) -> Makers {
        // vfguard's own processes: the reaper, or with namespaces monitor and init.
        let ours = if self.level.has_namespaces() { 2 } else { 1 };
        Makers { first, ours, user: self.user().filter(|_| self.level == Level::NoNamespaces) }
    }
}

impl Makers {
    /// The processes of the build that are alive now.
    pub(super) fn living(&self) -> Vec<Pid> {
        let mut all = descendants(self.first, self.ours);
        // Processes that lost their parent and were not adopted by a reaper.
        all.extend(
            self.user
                .into_iter()
                .flat_map(|user| processes(user).into_iter().filter(move |pid| !is_anothers(*pid, user.as_raw()))),
        );
        all
    }
}

/// The descendants of a process, without the first generations.
fn descendants(first: Pid, without: usize) -> Vec<Pid> {
    let mut children: BTreeMap<i32, Vec<i32>> = BTreeMap::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let pid = entry.file_name().to_str().and_then(|name| name.parse().ok());
        if let Some((pid, parent)) = pid.and_then(|pid| Some((pid, parent(pid)?))) {
            children.entry(parent).or_default().push(pid);
        }
    }
    let mut all = Vec::new();
    let mut generation = vec![first.as_raw()];
    for number in 0.. {
        if number >= without {
            all.extend(generation.iter().copied().map(Pid::from_raw));
        }
        // Each entry is removed: /proc changes while it is read, so a process could seem to be its own ancestor.
        generation = generation.into_iter().filter_map(|pid| children.remove(&pid)).flatten().collect();
        if generation.is_empty() {
            break;
        }
    }
    all
}

/// The parent of a process; none for the kernel's own.
fn parent(pid: i32) -> Option<i32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in brackets may contain anything. After it come the state and the parent (proc(5)).
    stat.rsplit(')').next()?.split_whitespace().nth(1)?.parse().ok().filter(|parent| *parent > 0)
}

/// The ids of objects that a user owns or created, from a table of `/proc/sysvipc` (proc(5)).
fn owned_by(user: u32, table: &str) -> Vec<i32> {
    let mut lines = table.lines();
    let titles: Vec<&str> = lines.next().unwrap_or_default().split_whitespace().collect();
    let columns = ["uid", "cuid"].map(|title| titles.iter().position(|t| *t == title));
    let owned = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let is_users = |at: &usize| words.get(*at).and_then(|word| word.parse().ok()) == Some(user);
        columns.iter().flatten().any(is_users).then(|| words.get(1)?.parse().ok())?
    };
    lines.filter_map(owned).collect()
}

/// The living processes of a user.
fn processes(user: Uid) -> Vec<Pid> {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    processes
        .filter(|e| e.metadata().is_ok_and(|m| m.uid() == user.as_raw()))
        .filter_map(|e| e.file_name().to_str()?.parse().ok().map(Pid::from_raw))
        .collect()
}

/// Sends SIGKILL to every process of a user, from a child that became that user. One kill(2) reaches all of them, so none
/// can escape by forking. But one of them may kill the child first; then another child tries.
fn end_all(uid: Uid, gid: Gid) -> io::Result<()> {
    for _ in 0..ROUNDS {
        let ended = become_user(uid, gid, || match kill(Pid::from_raw(-1), Signal::SIGKILL) {
            Ok(()) | Err(Errno::ESRCH) => Ok(()),
            Err(e) => Err(e),
        });
        if ended? {
            return Ok(());
        }
    }
    Err(io::Error::other("they end what is to end them"))
}

/// Runs `act` as another user in a child, with system calls only. Returns whether it ran to its end.
fn become_user(uid: Uid, gid: Gid, act: impl Fn() -> nix::Result<()> + Send + Sync + 'static) -> io::Result<bool> {
    let mut command = Command::new("/proc/self/exe");
    sys::in_child(&mut command, move |_| {
        unistd::setgroups(&[])?;
        unistd::setresgid(gid, gid, gid)?;
        unistd::setresuid(uid, uid, uid)?;
        act()?;
        sys::exit_now(0)
    });
    Ok(command.spawn()?.wait()?.success())
}

/// Whether the nearest ancestor that has another user is a living vfguard other than this one. A process that lost its
/// parents was reparented to init, so it belongs to none.
fn is_anothers(pid: Pid, user: u32) -> bool {
    let mut pid = pid.as_raw();
    // A chain of parents is finite, but it changes while it is read.
    for _ in 0..1000 {
        let Some(parent) = parent(pid) else { return false };
        let Ok(owner) = fs::metadata(format!("/proc/{parent}")) else { return false };
        if owner.uid() != user {
            let exe = |pid: i32| fs::read_link(format!("/proc/{pid}/exe")).ok();
            let (theirs, ours) = (exe(parent), exe(Pid::this().as_raw()));
            // During a package upgrade, two vfguard programs may be running. The build user cannot start one as another
            // user.
            let named = |exe: &PathBuf| exe.file_name().is_some_and(|name| name.as_bytes().starts_with(b"vfguard"));
            return parent != Pid::this().as_raw()
                && theirs.as_ref().is_some_and(|exe| ours.as_ref() == Some(exe) || named(exe));
        }
        pid = parent;
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn system_v_ipc_is_its_owners_and_its_makers() {
        // From Linux 2.6.32 and 6.1. The creator of the third object gave it to another user.
        let shm = "       key      shmid perms                  size  cpid  lpid nattch   uid   gid  cuid  cgid      atime      dtime      ctime\n\
                   1986400820      32769   666              33554432  1000  1000      0 61147 61147 61147 61147          0          0 1700000000\n\
                   0          2   600                 61147 61147 61147      0     0     0     0     0          0          0 1700000000\n\
                   0          3   600                  4096  1000  1000      0  1000  1000 61147 61147          0          0 1700000000\n";
        assert_eq!(owned_by(61147, shm), [32769, 3]);
        let msg = "       key      msqid perms      cbytes       qnum lspid lrpid   uid   gid  cuid  cgid      stime      rtime      ctime\n\
                   1986400820          7  1666          14          1  1000     0 61147 61147 61147 61147          0          0          0\n";
        let sem = "       key      semid perms      nsems   uid   gid  cuid  cgid      otime      ctime\n\
                   1986400820          9   666        250 61147 61147 61147 61147          0 1700000000\n";
        assert_eq!((owned_by(61147, msg), owned_by(61147, sem)), (vec![7], vec![9]));
        assert!(owned_by(0, sem).is_empty() && owned_by(61147, "").is_empty());
    }

    #[test]
    fn the_descendants_of_a_process_are_found_without_the_first_generations() {
        let mut child = Command::new("sh").args(["-c", "sh -c 'sleep 30; :' & wait"]).spawn().unwrap();
        let first = Pid::from_raw(child.id() as i32);
        let start = std::time::Instant::now();
        while descendants(first, 0).len() < 3 && start.elapsed() < Duration::from_secs(10) {
            std::thread::sleep(Duration::from_millis(5));
        }
        let (all, later) = (descendants(first, 0), descendants(first, 2));
        for pid in &all {
            let _ = kill(*pid, Signal::SIGKILL);
        }
        child.wait().unwrap();
        assert!(all.len() == 3 && all[0] == first && later == all[2..], "{all:?} {later:?}");
    }
}
