//! What happens between fork(2) and execve(2) of a build: namespaces, mounts, limits, and dropping all privileges.
//!
//! It runs in a hook of the fork. Executing vfguard's own binary again would need a hidden verb that others could call, and
//! the library's tests could not use the same path. In return, everything here must be async-signal-safe: all strings are
//! made before the fork, the setup is a list of steps, and a step that fails is reported through a pipe by its number.
//!
//! ```text
//! vfguard ── monitor (process group; SIGTERM → kills init, waits until all are gone)
//!              └─ init (PID 1 of the namespace; may not be traced; ends with the program, and everything with it)
//!                   └─ program (make)
//! ```
//!
//! Without namespaces the program has a reaper (host::tied). It kills everything that the program started when the program
//! ends or vfguard dies.

use super::bounds;
use super::landlock::{self, Rule};
use crate::host::command::tied::{self, Reach};
use crate::host::sys::{self, Child, Fork};
use nix::errno::Errno;
use nix::fcntl::{open, OFlag};
use nix::libc::sock_filter;
use nix::mount::{mount, umount2, MntFlags, MsFlags};
use nix::sched::{unshare, CloneFlags};
use nix::sys::prctl;
use nix::sys::resource::{setrlimit, Resource};
use nix::sys::signal::{kill, SigSet, Signal};
use nix::sys::stat::{mknod, umask, Mode, SFlag};
use nix::sys::statvfs::{statvfs, FsFlags};
use nix::sys::wait::{waitpid, WaitPidFlag, WaitStatus};
use nix::unistd::{self, Gid, Pid, Uid};
use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::BorrowedFd;

/// One step of building the private root. Destinations are below that root.
#[derive(Debug)]
pub(super) enum SetupStep {
    /// An empty tmpfs, with its mount options.
    Memory(CString, CString),
    /// A directory; it may exist already.
    Dir(CString),
    /// A symbolic link: target, name.
    Link(CString, CString),
    /// A directory or file of the host, read-only: source, destination.
    ReadOnly(CString, CString),
    /// Makes a mount read-only that lies below a bound directory.
    RemountSubmount(CString),
    /// The build directory: source, destination.
    Writable(CString, CString),
    /// A file of the host bound over a new empty file, read-only: source, destination.
    File(CString, CString),
    /// A new file with this text.
    Text(CString, Vec<u8>),
    /// A device node of the host bound over a new empty file: source, destination.
    Device(CString, CString),
    /// procfs of the namespace's own processes.
    Proc(CString),
}

/// Numbers of the steps that are not in the list, as the report pipe sends them.
pub(super) mod number {
    pub const NAMESPACES: u16 = 0xff00;
    pub const INIT: u16 = 0xff01;
    pub const PIVOT: u16 = 0xff02;
    pub const LIMITS: u16 = 0xff03;
    pub const DIRECTORY: u16 = 0xff04;
    pub const USER: u16 = 0xff05;
    pub const PRIVILEGES: u16 = 0xff06;
    pub const LANDLOCK: u16 = 0xff07;
    pub const SESSION: u16 = 0xff08;
    pub const KEYRING: u16 = 0xff09;
    pub const STDIN: u16 = 0xff0a;
    pub const USERS_KEYS: u16 = 0xff0b;
    pub const SECCOMP: u16 = 0xff0c;
}

/// Everything that the child needs, prepared before the fork.
#[derive(Debug)]
pub(super) struct Setup {
    /// Namespaces to create; none on a system without them.
    pub namespaces: Option<Namespaces>,
    /// Where the program starts.
    pub dir: CString,
    /// The user and group to switch to; none to keep the current ones.
    pub who: Option<(Uid, Gid)>,
    /// Resource limits.
    pub limits: Vec<(Resource, u64)>,
    /// What may be accessed; empty if the kernel has no Landlock.
    pub landlock: Vec<Rule>,
    /// The filter of system calls; empty if the kernel has no filters.
    pub seccomp: Vec<sock_filter>,
    /// vfguard's own process. The build ends when it dies.
    pub parent: Pid,
}

/// The part of the setup that needs namespaces.
#[derive(Debug)]
pub(super) struct Namespaces {
    /// The flags for unshare(2).
    pub flags: CloneFlags,
    /// `uid_map` and `gid_map` of a user namespace.
    pub maps: Option<(CString, CString)>,
    /// An empty directory that becomes the root.
    pub root: CString,
    /// The steps that fill it.
    pub steps: Vec<SetupStep>,
}

type Failure = (u16, Errno);

impl Setup {
    /// Runs in the child. Returns in the process that will execute the program. A failed step is reported to `report`. If
    /// there is a `hold`, the child sends its id there and waits to be moved into a cgroup.
    pub(super) fn enter(&self, child: &Child, [report, hold]: [Option<BorrowedFd<'_>>; 2]) -> io::Result<()> {
        self.all(child, hold).map_err(|(step, errno)| {
            let mut message = [0; 6];
            message[..4].copy_from_slice(&(errno as i32).to_le_bytes());
            message[4..].copy_from_slice(&step.to_le_bytes());
            let _ = report.map(|report| unistd::write(report, &message));
            io::Error::from_raw_os_error(errno as i32)
        })
    }

    fn all(&self, child: &Child, hold: Option<BorrowedFd<'_>>) -> Result<(), Failure> {
        let _ = prctl::set_pdeathsig(Signal::SIGKILL);
        if unistd::getppid() != self.parent {
            sys::exit_now(1);
        }
        // If memory runs out, the kernel should kill the build first. The file is not writable everywhere, and nothing
        // depends on it.
        let _ = sys::write_file(c"/proc/self/oom_score_adj", b"1000");
        // Before the first fork: a cgroup must contain every process of the build from its start.
        if let Some(hold) = hold {
            let _ = unistd::write(hold, &Pid::this().as_raw().to_ne_bytes());
            while unistd::read(hold, &mut [0]) == Err(Errno::EINTR) {}
        }
        umask(Mode::from_bits_truncate(0o022));
        // A process in a new session has no access to the caller's terminal, so it cannot type commands into it for root
        // (TIOCSTI).
        unistd::setsid().map_err(|e| (number::SESSION, e))?;
        if let Some(namespaces) = &self.namespaces {
            namespaces.enter(self, child)?;
        } else {
            // The parent-death signal kills only make; the processes that make started would go on.
            tied::enter(child, self.parent, Reach::Descendants).map_err(|e| (number::INIT, e))?;
            unistd::chdir(self.dir.as_c_str()).map_err(|e| (number::DIRECTORY, e))?;
            self.drop_privileges()?;
        }
        sys::close_on_exec_from(child, 3);
        Ok(())
    }

    /// The order matters. Limits come first, since some need privileges. Then the user is changed, and the remaining
    /// privileges are dropped. Landlock and seccomp require that no privilege can be regained. seccomp is last, because its
    /// filter refuses calls that are made here.
    fn drop_privileges(&self) -> Result<(), Failure> {
        for &(resource, limit) in &self.limits {
            setrlimit(resource, limit, limit).map_err(|e| (number::LIMITS, e))?;
        }
        sys::drop_bounding_set();
        if let Some((uid, gid)) = self.who {
            let user = |e| (number::USER, e);
            unistd::setgroups(&[]).map_err(user)?;
            unistd::setresgid(gid, gid, gid).map_err(user)?;
            unistd::setresuid(uid, uid, uid).map_err(user)?;
            // Keys that an earlier build left. With a seccomp filter this build could not read them anyway.
            let cleared = sys::clear_user_keyrings();
            if self.seccomp.is_empty() {
                cleared.map_err(|e| (number::USERS_KEYS, e))?;
            }
        }
        // The session keyring survives a change of user, and a process that possesses it may read root's keys in it
        // (session-keyring(7)).
        sys::new_session_keyring().map_err(|e| (number::KEYRING, e))?;
        sys::drop_capabilities().map_err(|e| (number::PRIVILEGES, e))?;
        match prctl::set_no_new_privs() {
            // Linux before 3.5 does not have it (EL6 before its own backport).
            Ok(()) | Err(Errno::EINVAL) => {}
            Err(e) => return Err((number::PRIVILEGES, e)),
        }
        if !self.landlock.is_empty() {
            landlock::restrict(&self.landlock).map_err(|e| (number::LANDLOCK, e))?;
        }
        // Set again, because a change of credentials clears it.
        let _ = prctl::set_pdeathsig(Signal::SIGKILL);
        if !self.seccomp.is_empty() {
            sys::filter_calls(&self.seccomp).map_err(|e| (number::SECCOMP, e))?;
        }
        Ok(())
    }
}

/// The signals that the monitor waits for.
const WATCHED: [Signal; 4] = [Signal::SIGCHLD, Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP];

impl Namespaces {
    fn enter(&self, plan: &Setup, child: &Child) -> Result<(), Failure> {
        let namespace = |e| (number::NAMESPACES, e);
        let init = |e| (number::INIT, e);
        unshare(self.flags).map_err(namespace)?;
        if let Some((uids, gids)) = &self.maps {
            // Required before gid_map since 3.19; the file does not exist in older kernels.
            let _ = sys::write_file(c"/proc/self/setgroups", b"deny");
            sys::write_file(c"/proc/self/uid_map", uids.to_bytes()).map_err(namespace)?;
            sys::write_file(c"/proc/self/gid_map", gids.to_bytes()).map_err(namespace)?;
        }
        let watched: SigSet = WATCHED.into_iter().collect();
        watched.thread_block().map_err(init)?;
        match sys::fork_in_child(child).map_err(init)? {
            Fork::Parent(pid) => sys::without_descriptors(child, move || monitor(pid, watched)),
            Fork::Child => {}
        }
        watched.thread_unblock().map_err(init)?;
        let _ = prctl::set_pdeathsig(Signal::SIGKILL);
        let _ = unistd::sethostname("vfguard");
        mount(None::<&CStr>, c"/", None::<&CStr>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&CStr>)
            .map_err(namespace)?;
        for (index, step) in self.steps.iter().enumerate() {
            step.take().map_err(|e| (index as u16, e))?;
        }
        self.pivot().map_err(|e| (number::PIVOT, e))?;
        own_stdin().map_err(|e| (number::STDIN, e))?;
        unistd::chdir(plan.dir.as_c_str()).map_err(|e| (number::DIRECTORY, e))?;
        plan.drop_privileges()?;
        // Processes of the same user must not trace init or read its memory.
        prctl::set_dumpable(false).map_err(init)?;
        match sys::fork_in_child(child).map_err(init)? {
            Fork::Parent(pid) => sys::without_descriptors(child, move || reap(pid)),
            Fork::Child => Ok(()),
        }
    }

    fn pivot(&self) -> nix::Result<()> {
        unistd::chdir(self.root.as_c_str())?;
        match unistd::pivot_root(c".", c".") {
            Ok(()) => umount2(c".", MntFlags::MNT_DETACH)?,
            // pivot_root(2) cannot move the root of an initramfs.
            Err(Errno::EINVAL) => {
                mount(Some(c"."), c"/", None::<&CStr>, MsFlags::MS_MOVE, None::<&CStr>)?;
                unistd::chroot(c".")?;
            }
            Err(e) => return Err(e),
        }
        unistd::chdir(c"/")?;
        read_only(c"/")
    }
}

/// Opens `/dev/null` of the new root as stdin. The inherited one is on a mount outside of this root, and Landlock refuses to
/// open it again through `/dev/stdin`.
fn own_stdin() -> nix::Result<()> {
    unistd::dup2_stdin(open(c"/dev/null", OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())?)
}

impl SetupStep {
    fn take(&self) -> nix::Result<()> {
        match self {
            SetupStep::Memory(at, options) => {
                let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
                mount(Some(c"tmpfs"), at.as_c_str(), Some(c"tmpfs"), flags, Some(options.as_c_str()))
            }
            SetupStep::Dir(at) => match unistd::mkdir(at.as_c_str(), Mode::from_bits_truncate(0o755)) {
                Ok(()) | Err(Errno::EEXIST) => Ok(()),
                Err(e) => Err(e),
            },
            SetupStep::Link(to, at) => match unistd::symlinkat(to.as_c_str(), nix::fcntl::AT_FDCWD, at.as_c_str()) {
                Ok(()) | Err(Errno::EEXIST) => Ok(()),
                Err(e) => Err(e),
            },
            SetupStep::ReadOnly(from, at) => {
                bind(from, at)?;
                read_only(at)
            }
            SetupStep::RemountSubmount(at) => match read_only(at) {
                // It is hidden by another mount, so it is not reachable.
                Err(Errno::ENOENT | Errno::ENOTDIR | Errno::EINVAL) => Ok(()),
                result => result,
            },
            SetupStep::Writable(from, at) => {
                bind(from, at)?;
                remount(at, MsFlags::MS_NOSUID | MsFlags::MS_NODEV)
            }
            SetupStep::File(from, at) => {
                touch(at)?;
                bind(from, at)?;
                read_only(at)
            }
            SetupStep::Text(at, text) => {
                touch(at)?;
                sys::write_file(at, text)
            }
            SetupStep::Device(from, at) => {
                touch(at)?;
                bind(from, at)
            }
            SetupStep::Proc(at) => {
                let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
                mount(Some(c"proc"), at.as_c_str(), Some(c"proc"), flags, None::<&CStr>)?;
                unistd::chdir(at.as_c_str())?;
                bounds::without_system_v();
                let read_only = flags | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
                mount(None::<&CStr>, at.as_c_str(), None::<&CStr>, read_only, None::<&CStr>)
            }
        }
    }
}

fn touch(at: &CStr) -> nix::Result<()> {
    match mknod(at, SFlag::S_IFREG, Mode::from_bits_truncate(0o644), 0) {
        Ok(()) | Err(Errno::EEXIST) => Ok(()),
        Err(e) => Err(e),
    }
}

fn bind(from: &CStr, at: &CStr) -> nix::Result<()> {
    mount(Some(from), at, None::<&CStr>, MsFlags::MS_BIND | MsFlags::MS_REC, None::<&CStr>)
}

fn read_only(at: &CStr) -> nix::Result<()> {
    remount(at, MsFlags::MS_RDONLY | MsFlags::MS_NOSUID | MsFlags::MS_NODEV)
}

/// Adds flags to a mount. Flags that it already has are repeated, because a user namespace may not remove them.
fn remount(at: &CStr, flags: MsFlags) -> nix::Result<()> {
    let now = statvfs(at)?.flags();
    let keep = [
        (FsFlags::ST_RDONLY, MsFlags::MS_RDONLY),
        (FsFlags::ST_NOSUID, MsFlags::MS_NOSUID),
        (FsFlags::ST_NODEV, MsFlags::MS_NODEV),
        (FsFlags::ST_NOEXEC, MsFlags::MS_NOEXEC),
        (FsFlags::ST_NOATIME, MsFlags::MS_NOATIME),
        (FsFlags::ST_NODIRATIME, MsFlags::MS_NODIRATIME),
        (FsFlags::ST_RELATIME, MsFlags::MS_RELATIME),
    ];
    let mut all = flags | MsFlags::MS_REMOUNT | MsFlags::MS_BIND;
    for (has, flag) in keep {
        if now.contains(has) {
            all |= flag;
        }
    }
    mount(None::<&CStr>, at, None::<&CStr>, all, None::<&CStr>)
}

/// The base of exit codes that report a signal, as in shells.
pub(super) const SIGNALLED: i32 = 128;

/// Waits for init, which ends only after its whole namespace is gone, and returns its exit code. On a signal to end, it
/// kills init and still waits.
fn monitor(init: Pid, watched: SigSet) -> i32 {
    loop {
        match watched.wait() {
            Ok(Signal::SIGCHLD) | Err(_) => {}
            Ok(_) => {
                let _ = kill(init, Signal::SIGKILL);
            }
        }
        match waitpid(init, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(_, code)) => return code,
            Ok(WaitStatus::Signaled(_, signal, _)) => return SIGNALLED + signal as i32,
            Err(Errno::ECHILD) => return 1,
            Ok(_) | Err(_) => {}
        }
    }
}

/// PID 1: reaps every orphan. When the program ends, it returns the program's exit code; init then exits, and the kernel
/// kills all remaining processes.
fn reap(program: Pid) -> i32 {
    loop {
        match waitpid(None, None) {
            Ok(WaitStatus::Exited(pid, code)) if pid == program => return code,
            Ok(WaitStatus::Signaled(pid, signal, _)) if pid == program => return SIGNALLED + signal as i32,
            Err(Errno::ECHILD) => return 1,
            Ok(_) | Err(_) => {}
        }
    }
}
