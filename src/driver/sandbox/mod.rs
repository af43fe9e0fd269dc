//! The sandbox in which a downloaded makefile runs: as an unprivileged user, without network, with access to the compiler, K's build tree
//! and its own directory.
//!
//! The sandbox's root starts empty. It gets the host's programs and libraries read-only; K's trees at their own paths and, with `--root`,
//! also where absolute references expect them; the build directory at [`INSIDE`]; a small private `/tmp`; a `/proc` of its own processes;
//! and the files that name the distribution. Nothing else exists there: no `/root`, `/home`, `/var/lib`, `/sys`, no keys, no other
//! kernel's headers.
//!
//! Bounds on what it may use of the machine:
//!
//! | resource | as root, on any kernel | in addition |
//! |---|---|---|
//! | disk | the build directory is a tmpfs with a size (`disk`) | if that is not possible: on the disk, and watched (`watch`) |
//! | memory | a limit for each process; no System V IPC, no message queues | a cgroup for all together, if systemd runs (`scope`) |
//! | processes | a limit for the user | the same cgroup |
//! | time | a limit for each process, and for all of it (`run`) | |

mod bounds;
pub(super) mod child;
mod disk;
mod landlock;
mod layout;
mod level;
pub(super) mod run;
mod scope;
mod seccomp;
mod strays;
pub(super) mod watch;

pub use self::bounds::{jobs, promised_bounds};
use self::child::{Namespaces, Setup, SetupStep};
pub use self::disk::{apart, Apart};
use self::landlock::{Allowed, Rule};
use self::layout::{c, usr, Layout, TMP};
pub use self::level::{containment, Containment, Level};
use crate::config::Build;
use crate::error::{advise, Remedy};
use crate::host::Host;
use crate::kernel::installed::modules_dir;
use crate::kernel::tree::BuildTree;
use anyhow::{Context, Result};
use nix::sched::CloneFlags;
use nix::sys::resource::Resource;
use nix::unistd::{Gid, Pid, Uid, User};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The path of the build directory inside the sandbox.
pub const INSIDE: &str = "/build";
/// The file name of a package to unpack. It lies beside the build directory, inside the sandbox and outside.
pub const PACKAGE: &str = "package";
/// The user that compiles if the configured account does not exist. It lies between the ranges that systemd gives to homed (to 60705) and
/// to DynamicUser (from 61184): an unused uid, and not the shared `nobody`.
pub const BUILD_UID: u32 = 61147;

/// Maximum size of a core dump. It is less than a page, so none is written. With 1, and only with 1, the kernel does not start root's
/// program that `core_pattern` may name either (fs/coredump.c). With 0 it would.
const MAX_CORE: u64 = 1;
/// The largest file of a build. A module with debug information has a few MB, and the linker's temporary files are no larger.
const MAX_FILE: u64 = 256 << 20;
/// Address space of one process: cc1 takes 0.2 GB for a driver, pahole with a vmlinux less than 1 GB.
const MAX_MEMORY: u64 = 4 << 30;
/// Open files of one process; make -j1024 needs the most.
const MAX_OPEN: u64 = 4096;
/// Processes in general, and per job of make (make, sh, gcc, cc1, as, objtool). The limit always allows as many jobs as there are
/// processors: ena's makefile runs that many probes at once, whatever -j says, and takes a failed fork for the result of the probe.
const PROCESSES: (u64, u64) = (128, 8);
/// Locked memory of one process; no build locks any.
const MAX_LOCKED: u64 = 64 << 10;
/// Pending signals and timers of a process; they use kernel memory.
const MAX_SIGNALS: u64 = 1024;
/// CPU seconds of one process. A compiler that takes an hour for one file will not end.
const MAX_CPU: u64 = 3600;

/// Files in `/proc` that makefiles read, for when `/proc` is the machine's and not the build's own: the number of processors, the running
/// kernel. They say nothing about other processes.
const OF_THE_MACHINE: [&str; 7] = [
    "/proc/cpuinfo",
    "/proc/filesystems",
    "/proc/loadavg",
    "/proc/meminfo",
    "/proc/stat",
    "/proc/sys/kernel/osrelease",
    "/proc/version",
];

/// What a program in the sandbox works on.
#[derive(Clone, Copy, Debug)]
enum Subject<'a> {
    /// A build, which reads K's tree.
    Tree(&'a BuildTree),
    /// A package to unpack; the sandbox contains no kernel's tree.
    Package,
}

/// A sandbox for the builds of one run.
#[derive(Debug)]
pub struct Sandbox<'a> {
    pub(super) host: &'a Host,
    pub(super) level: Level,
    pub(super) landlock: Option<u32>,
    pub(super) seccomp: bool,
    work: &'a Path,
    subject: Subject<'a>,
    pub(super) who: Option<(Uid, Gid)>,
    jobs: u32,
    /// The build directory in memory, or why it is on the disk.
    disk: Result<disk::Own, String>,
    /// The bounds of all processes together, or why there are none.
    scope: Result<scope::Limits, String>,
}

impl<'a> Sandbox<'a> {
    /// A sandbox in `work`, a private directory of this run. A build may write in `work/build`.
    ///
    /// # Errors
    /// When the configured build user is root, or directories cannot be created.
    pub fn new(host: &'a Host, config: &Build, work: &'a Path, tree: &'a BuildTree, jobs: u32) -> Result<Sandbox<'a>> {
        Sandbox::on(host, config, work, Subject::Tree(tree), jobs)
    }

    /// A sandbox that unpacks the file `work/package`, which the build user may read, into `work/build`.
    ///
    /// # Errors
    /// Those of [`Sandbox::new`].
    pub fn for_package(host: &'a Host, config: &Build, work: &'a Path) -> Result<Sandbox<'a>> {
        Sandbox::on(host, config, work, Subject::Package, 1)
    }

    fn on(host: &'a Host, config: &Build, work: &'a Path, subject: Subject<'a>, jobs: u32) -> Result<Sandbox<'a>> {
        let Containment { level, landlock, seccomp } = containment(host);
        let who = match nix::unistd::geteuid().is_root() {
            true => Some(builder(&config.user)?),
            false => None,
        };
        let disk = Err("no other was asked for".to_owned());
        let scope = Err(String::new());
        let mut sandbox = Sandbox { host, level, landlock, seccomp, work, subject, who, jobs, disk, scope };
        sandbox.scope = sandbox.scope_limits();
        for dir in [sandbox.build_dir(), sandbox.root_dir(), sandbox.temporary()] {
            match fs::create_dir(&dir) {
                Ok(()) => {}
                Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(e) => return Err(e).with_context(|| format!("making {}", dir.display())),
            }
        }
        Ok(sandbox)
    }

    /// The number of processes that the build user may have.
    fn processes(&self) -> u64 {
        PROCESSES.0 + PROCESSES.1 * processors().max(self.jobs.into())
    }

    /// How strongly builds are contained.
    pub fn containment(&self) -> Containment {
        Containment { level: self.level, landlock: self.landlock, seccomp: self.seccomp }
    }

    /// The directory that a build may write, as a path outside.
    pub fn build_dir(&self) -> PathBuf {
        self.work.join("build")
    }

    fn root_dir(&self) -> PathBuf {
        self.work.join("root")
    }

    /// Where a build puts temporary files if it has no `/tmp` of its own. No archive has a top directory that begins with a dot.
    pub(super) fn temporary(&self) -> PathBuf {
        self.build_dir().join(".tmp")
    }

    /// The build user, if it is not the user of this process.
    pub(super) fn user(&self) -> Option<Uid> {
        self.who.map(|(uid, _)| uid)
    }

    /// Gives the unpacked files in the build directory to the build user.
    ///
    /// # Errors
    /// Those of lchown(2).
    pub fn hand_over(&self) -> Result<()> {
        let Some((uid, gid)) = self.who else { return Ok(()) };
        let give = |path: PathBuf| std::os::unix::fs::lchown(path, Some(uid.as_raw()), Some(gid.as_raw()));
        inside_first(&self.build_dir()).and_then(|all| all.into_iter().try_for_each(give)).remedy(
            "handing the source to the build user",
            "a container without CAP_CHOWN cannot build as another user: run vfguard with it, or outside",
        )
    }

    /// The path inside the sandbox for a path in the build directory.
    pub fn inside(&self, path: &Path) -> PathBuf {
        match path.strip_prefix(self.build_dir()) {
            Ok(rest) if self.level.has_namespaces() => Path::new(INSIDE).join(rest),
            _ => path.to_owned(),
        }
    }

    /// The complete setup for the child.
    fn plan(&self, dir: &Path) -> Result<Setup> {
        let namespaces = if self.level.has_namespaces() { Some(self.namespaces()?) } else { None };
        let mut limits = vec![
            (Resource::RLIMIT_CORE, MAX_CORE),
            (Resource::RLIMIT_FSIZE, MAX_FILE),
            (Resource::RLIMIT_AS, MAX_MEMORY),
            (Resource::RLIMIT_CPU, MAX_CPU),
            (Resource::RLIMIT_NOFILE, MAX_OPEN),
            (Resource::RLIMIT_MEMLOCK, MAX_LOCKED),
            (Resource::RLIMIT_SIGPENDING, MAX_SIGNALS),
            // Their memory is charged to no process, like that of System V.
            (Resource::RLIMIT_MSGQUEUE, 0),
        ];
        if self.counts_processes() {
            limits.push((Resource::RLIMIT_NPROC, self.processes()));
        }
        // Any process may lower its limits, but few may raise them.
        for (resource, limit) in &mut limits {
            if let Ok((_, hard)) = nix::sys::resource::getrlimit(*resource) {
                *limit = hard.min(*limit);
            }
        }
        let landlock = if self.landlock.is_some() { self.rules()? } else { Vec::new() };
        let seccomp = if self.seccomp { seccomp::program()? } else { Vec::new() };
        Ok(Setup { namespaces, dir: c(self.inside(dir))?, who: self.who, limits, landlock, seccomp, parent: Pid::this() })
    }

    /// What a build may access, by the paths that it sees: everything in the private root, or without one the same paths of the machine.
    fn rules(&self) -> Result<Vec<Rule>> {
        let rule = |path: &Path, allowed| Ok(Rule { path: c(path)?, allowed });
        if self.level.has_namespaces() {
            let rules = [("/", Allowed::Read), ("/dev", Allowed::Device), (TMP, Allowed::Write), (INSIDE, Allowed::Write)];
            return rules.into_iter().map(|(path, allowed)| rule(Path::new(path), allowed)).collect();
        }
        let steps = self.layout()?.steps.into_iter();
        let rules = steps.filter_map(|step| match step {
            SetupStep::ReadOnly(path, _) | SetupStep::File(path, _) => Some(Rule { path, allowed: Allowed::Read }),
            SetupStep::Device(path, _) => Some(Rule { path, allowed: Allowed::Device }),
            SetupStep::Writable(path, _) => Some(Rule { path, allowed: Allowed::Write }),
            SetupStep::Memory(..)
            | SetupStep::Dir(_)
            | SetupStep::Link(..)
            | SetupStep::Text(..)
            | SetupStep::Proc(_)
            | SetupStep::RemountSubmount(_) => None,
        });
        let mut rules: Vec<Rule> = rules.collect();
        for path in OF_THE_MACHINE {
            rules.push(rule(Path::new(path), Allowed::Read)?);
        }
        Ok(rules)
    }

    fn namespaces(&self) -> Result<Namespaces> {
        let mut flags = CloneFlags::CLONE_NEWNS
            | CloneFlags::CLONE_NEWNET
            | CloneFlags::CLONE_NEWPID
            | CloneFlags::CLONE_NEWIPC
            | CloneFlags::CLONE_NEWUTS;
        let mut maps = None;
        if self.level == Level::OwnUser {
            flags |= CloneFlags::CLONE_NEWUSER;
            let map = |id: u32| c(format!("{id} {id} 1\n"));
            maps = Some((map(nix::unistd::geteuid().as_raw())?, map(nix::unistd::getegid().as_raw())?));
        }
        Ok(Namespaces { flags, maps, root: c(self.root_dir())?, steps: self.layout()?.steps })
    }

    fn layout(&self) -> Result<Layout> {
        let mut layout = Layout::new(self.root_dir())?;
        layout.system()?;
        let release = match self.subject {
            Subject::Tree(tree) => Some(&tree.release),
            Subject::Package => None,
        };
        layout.machine(self.host, release)?;
        let (uid, gid) = self.who.unwrap_or_else(|| (Uid::effective(), Gid::effective()));
        layout.people(uid, gid)?;
        let kernels = self.kernel_dirs();
        layout.libraries(&kernels)?;
        for (from, at) in &kernels {
            layout.read_only(from, at)?;
        }
        layout.dirs(Path::new(INSIDE))?;
        if let Subject::Package = self.subject {
            let beside = Path::new(INSIDE).with_file_name(PACKAGE);
            layout.steps.push(SetupStep::File(c(self.work.join(PACKAGE))?, layout.at(&beside)?));
        }
        layout.steps.push(SetupStep::Writable(c(self.build_dir())?, layout.at(Path::new(INSIDE))?));
        Ok(layout)
    }

    /// Without namespaces the build user must reach the source and K's trees from the machine's own root.
    ///
    /// # Errors
    /// Names the directory that it may not enter.
    pub(super) fn way_is_open(&self) -> Result<()> {
        let Some(uid) = self.user() else { return Ok(()) };
        let trees = match self.subject {
            Subject::Tree(tree) => tree.directories(),
            Subject::Package => &[],
        };
        let ends = trees.iter().map(PathBuf::as_path);
        let open = |dir: &Path| match fs::metadata(dir) {
            Ok(meta) => meta.mode() & 0o001 != 0 || (meta.uid() == uid.as_raw() && meta.mode() & 0o100 != 0),
            // The build reports a missing directory better.
            Err(_) => true,
        };
        for end in ends.chain([self.work]) {
            if let Some(closed) = end.ancestors().find(|dir| dir.is_dir() && !open(dir)) {
                let closed = closed.display();
                return Err(advise(
                    format!("the build user (uid {uid}) may not enter {closed}, and without namespaces it must"),
                    format!("work below a directory that everyone may enter, or: chmod o+x {closed}"),
                ));
            }
        }
        Ok(())
    }

    /// K's trees and module directory: their paths, each with the paths at which the sandbox shows it.
    fn kernel_dirs(&self) -> Vec<(PathBuf, PathBuf)> {
        let Subject::Tree(tree) = self.subject else { return Vec::new() };
        let mut real: Vec<PathBuf> = tree.directories().to_vec();
        real.push(self.host.path(modules_dir(&tree.release)));
        let mut places = Vec::new();
        for dir in real.iter().filter(|d| d.is_dir()) {
            // A directory inside another one of the list is shown with it, and no mount point can be created in a read-only one.
            if real.iter().any(|other| other != dir && dir.starts_with(other)) {
                continue;
            }
            for at in [dir.clone(), usr(&self.host.name(dir))] {
                if !places.iter().any(|(_, a)| *a == at) {
                    places.push((dir.clone(), at));
                }
            }
        }
        places
    }
}

/// The number of processors, counted as makefiles do.
fn processors() -> u64 {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    text.lines().filter(|l| l.starts_with("processor")).count() as u64
}

/// A directory and everything in it, contents first. The order matters: a leftover process of the build user could replace entries of a
/// directory that it already owns by symbolic links.
fn inside_first(path: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut all = Vec::new();
    if fs::symlink_metadata(path)?.is_dir() {
        for entry in fs::read_dir(path)? {
            all.extend(inside_first(&entry?.path())?);
        }
    }
    all.push(path.to_owned());
    Ok(all)
}

/// The account that compiles: the configured one, else [`BUILD_UID`].
fn builder(name: &str) -> Result<(Uid, Gid)> {
    match User::from_name(name).with_context(|| format!("looking up the build user {name}"))? {
        Some(user) if user.uid.is_root() || user.gid.as_raw() == 0 => {
            Err(advise(format!("setting build.user: {name} is root"), "name an account without privileges in build.user"))
        }
        Some(user) => Ok((user.uid, user.gid)),
        None => Ok((Uid::from_raw(BUILD_UID), Gid::from_raw(BUILD_UID))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contents_are_handed_over_before_their_directory_and_no_symbolic_link_is_followed() {
        let dir = tempfile::tempdir().unwrap();
        let top = dir.path().join("build");
        fs::create_dir_all(top.join("a/b/c")).unwrap();
        fs::create_dir_all(top.join("d")).unwrap();
        fs::write(top.join("a/b/c/f"), "").unwrap();
        fs::write(top.join("g"), "").unwrap();
        fs::write(dir.path().join("secret"), "").unwrap();
        std::os::unix::fs::symlink(dir.path(), top.join("a/link")).unwrap();
        let order = inside_first(&top).unwrap();
        assert_eq!(order.len(), 8, "{order:?}");
        assert!(order.iter().all(|p| p.starts_with(&top)), "{order:?}");
        for (n, path) in order.iter().enumerate() {
            assert!(order[n + 1..].iter().all(|later| !later.starts_with(path)), "{} before what it holds", path.display());
        }
    }
}
