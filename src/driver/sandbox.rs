//! Where a downloaded makefile runs: as nobody, without network, seeing the compiler, K's build tree and its own directory.
//!
//! The root of the sandbox is made from nothing: the host's programs and libraries read-only, K's trees at their own paths and,
//! with `--root`, also where absolute references expect them, the build directory at [`INSIDE`], a small private `/tmp`, a
//! `/proc` of its own processes. What is not named does not exist there: no `/root`, `/home`, `/var`, `/sys`, no keys, no other
//! kernel's headers.

use super::sandbox_child::{Namespaces, Plan, Step};
use crate::config::Build;
use crate::error::{advise, Remedy};
use crate::host::Host;
use crate::kernel::installed::modules_dir;
use crate::kernel::tree::BuildTree;
use anyhow::{Context, Result};
use nix::sched::CloneFlags;
use nix::sys::resource::Resource;
use nix::unistd::{Gid, Pid, Uid, User};
use serde::Serialize;
use std::collections::BTreeSet;
use std::ffi::{CString, OsStr};
use std::fmt;
use std::fs;
use std::os::fd::RawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The build directory as the sandbox sees it.
pub const INSIDE: &str = "/build";
/// Who compiles where the configured account does not exist. Between the ranges that systemd gives to homed (to 60705) and to
/// DynamicUser (from 61184): nobody's, and not the shared `nobody`.
pub const BUILD_UID: u32 = 61147;

/// The private `/tmp`: gcc keeps one assembler file a job there.
const TMP: &str = "size=256m,nr_inodes=16k,mode=1777";
/// The root holds directories and empty files only.
const ROOT: &str = "size=4m,nr_inodes=16k,mode=755";
/// The largest file of a build: a module with debug information is a few MB, the linker's temporaries are no larger.
const MAX_FILE: u64 = 256 << 20;
/// Address space of one process: cc1 on a driver takes 0.2 GB, pahole with a vmlinux under 1 GB.
const MAX_MEMORY: u64 = 4 << 30;
/// Open files of one process; make -j1024 needs the most.
const MAX_OPEN: u64 = 4096;
/// Processes beside those of make's jobs, and for each job (make, sh, gcc, cc1, as, objtool).
const PROCESSES: (u64, u64) = (128, 8);
/// Processor seconds of one process: a compiler that takes ten minutes for one file will not end.
const MAX_CPU: u64 = 3600;

/// How well a build is contained.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    /// Namespaces of its own, and an unprivileged user that owns nothing else.
    Full,
    /// Namespaces of its own, but the caller's own user: vfguard does not run as root.
    OwnUser,
    /// An unprivileged user without namespaces: the kernel has none, or a container forbids them.
    NoNamespaces,
    /// Nothing but limits: neither root nor namespaces.
    None,
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Level::Full => "full: own user, no network, private file system",
            Level::OwnUser => "no network, private file system, but your own user (not root)",
            Level::NoNamespaces => {
                "own user only: this system allows no namespaces, so the network and other files are in reach"
            }
            Level::None => "none: not root, and this system allows no user namespaces",
        })
    }
}

impl Level {
    /// Whether the build has a file system, a network and processes of its own.
    pub fn has_namespaces(self) -> bool {
        matches!(self, Level::Full | Level::OwnUser)
    }

    /// The next weaker level, for a system that promised more than it holds.
    pub(super) fn weaker(self) -> Option<Level> {
        match self {
            Level::Full => Some(Level::NoNamespaces),
            Level::OwnUser => Some(Level::None),
            Level::NoNamespaces | Level::None => None,
        }
    }
}

/// The bit of CAP_SYS_ADMIN (linux/capability.h), without which root makes no namespaces.
const CAP_SYS_ADMIN: u32 = 21;

/// How well this process could contain a build; looked up in /proc, no process is started. The sandbox is the building
/// machine's, whatever root `host` has.
pub fn level(_host: &Host) -> Level {
    let kinds = ["mnt", "net", "pid", "ipc", "uts"];
    let namespaces = kinds.iter().all(|kind| Path::new("/proc/self/ns").join(kind).exists());
    if nix::unistd::geteuid().is_root() {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let capable = status
            .lines()
            .find_map(|l| l.strip_prefix("CapEff:"))
            .is_some_and(|hex| u64::from_str_radix(hex.trim(), 16).is_ok_and(|set| set >> CAP_SYS_ADMIN & 1 == 1));
        return if namespaces && capable { Level::Full } else { Level::NoNamespaces };
    }
    let number = |path: &str| fs::read_to_string(path).ok().and_then(|t| t.trim().parse::<u64>().ok());
    let allowed = number("/proc/sys/user/max_user_namespaces") != Some(0)
        && number("/proc/sys/kernel/unprivileged_userns_clone") != Some(0)
        && number("/proc/sys/kernel/apparmor_restrict_unprivileged_userns").unwrap_or(0) == 0
        && Path::new("/proc/self/ns/user").exists();
    if namespaces && allowed {
        Level::OwnUser
    } else {
        Level::None
    }
}

/// A sandbox for the builds of one run.
#[derive(Debug)]
pub struct Sandbox<'a> {
    pub(super) host: &'a Host,
    pub(super) level: Level,
    work: &'a Path,
    tree: &'a BuildTree,
    who: Option<(Uid, Gid)>,
    jobs: u32,
}

impl<'a> Sandbox<'a> {
    /// A sandbox with `work`, a private directory of this run: `work/build` is what a build may write.
    ///
    /// # Errors
    /// When the configured build user is root, or directories cannot be made.
    pub fn new(host: &'a Host, config: &Build, work: &'a Path, tree: &'a BuildTree, jobs: u32) -> Result<Sandbox<'a>> {
        let level = level(host);
        let who = match nix::unistd::geteuid().is_root() {
            true => Some(builder(&config.user)?),
            false => None,
        };
        let sandbox = Sandbox { host, level, work, tree, who, jobs };
        for dir in [sandbox.build_dir(), sandbox.root_dir()] {
            match fs::create_dir(&dir) {
                Ok(()) => {}
                Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(e) => return Err(e).with_context(|| format!("making {}", dir.display())),
            }
        }
        Ok(sandbox)
    }

    /// How well builds are contained.
    pub fn level(&self) -> Level {
        self.level
    }

    /// The directory that a build may write, outside.
    pub fn build_dir(&self) -> PathBuf {
        self.work.join("build")
    }

    fn root_dir(&self) -> PathBuf {
        self.work.join("root")
    }

    /// The user that builds, where it is another than ours.
    pub(super) fn user(&self) -> Option<Uid> {
        self.who.map(|(uid, _)| uid)
    }

    /// Hands what was unpacked into the build directory to the build user.
    ///
    /// # Errors
    /// Those of lchown(2).
    pub fn hand_over(&self) -> Result<()> {
        let Some((uid, gid)) = self.who else { return Ok(()) };
        fn walk(path: &Path, uid: u32, gid: u32) -> std::io::Result<()> {
            std::os::unix::fs::lchown(path, Some(uid), Some(gid))?;
            if fs::symlink_metadata(path)?.is_dir() {
                for entry in fs::read_dir(path)? {
                    walk(&entry?.path(), uid, gid)?;
                }
            }
            Ok(())
        }
        walk(&self.build_dir(), uid.as_raw(), gid.as_raw()).remedy(
            "handing the source to the build user",
            "a container without CAP_CHOWN cannot build as another user: run vfguard with it, or outside",
        )
    }

    /// The name inside of a path in the build directory.
    pub fn inside(&self, path: &Path) -> PathBuf {
        match path.strip_prefix(self.build_dir()) {
            Ok(rest) if self.level.has_namespaces() => Path::new(INSIDE).join(rest),
            _ => path.to_owned(),
        }
    }

    /// The way into the sandbox, ready for the child.
    pub(super) fn plan(&self, dir: &Path, report: RawFd) -> Result<Plan> {
        let namespaces = if self.level.has_namespaces() { Some(self.namespaces()?) } else { None };
        let mut limits = vec![
            (Resource::RLIMIT_CORE, 0),
            (Resource::RLIMIT_FSIZE, MAX_FILE),
            (Resource::RLIMIT_AS, MAX_MEMORY),
            (Resource::RLIMIT_CPU, MAX_CPU),
            (Resource::RLIMIT_NOFILE, MAX_OPEN),
        ];
        // Counted by user: for the caller's own it would count the caller's other processes.
        if self.who.is_some() {
            limits.push((Resource::RLIMIT_NPROC, PROCESSES.0 + PROCESSES.1 * u64::from(self.jobs)));
        }
        // A limit may be lowered by anyone and raised by few.
        for (resource, limit) in &mut limits {
            if let Ok((_, hard)) = nix::sys::resource::getrlimit(*resource) {
                *limit = hard.min(*limit);
            }
        }
        Ok(Plan { namespaces, dir: c(self.inside(dir))?, who: self.who, limits, report, parent: Pid::this() })
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
        let root = self.root_dir();
        let mut layout = Layout { root: root.clone(), steps: Vec::new(), made: BTreeSet::new() };
        layout.system()?;
        let kernels = self.kernel_dirs();
        layout.libraries(&kernels)?;
        for (from, at) in &kernels {
            layout.read_only(from, at)?;
        }
        layout.dirs(Path::new(INSIDE))?;
        layout.steps.push(Step::Writable(c(self.build_dir())?, layout.at(Path::new(INSIDE))?));
        Ok(Namespaces { flags, maps, root: c(root)?, steps: layout.steps })
    }

    /// Without namespaces the build user walks to the source and to K's trees from the machine's own root.
    ///
    /// # Errors
    /// Names the directory that is closed to it.
    pub(super) fn way_is_open(&self) -> Result<()> {
        let Some(uid) = self.user() else { return Ok(()) };
        let ends = self.tree.directories().iter().map(PathBuf::as_path);
        let open = |dir: &Path| match fs::metadata(dir) {
            Ok(meta) => meta.mode() & 0o001 != 0 || (meta.uid() == uid.as_raw() && meta.mode() & 0o100 != 0),
            // The build says better what is not there.
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

    /// K's trees and module directory: where they lie, and each place where the sandbox shows them.
    fn kernel_dirs(&self) -> Vec<(PathBuf, PathBuf)> {
        let mut real: Vec<PathBuf> = self.tree.directories().to_vec();
        real.push(self.host.path(modules_dir(&self.tree.release)));
        let mut places = Vec::new();
        for dir in real.iter().filter(|d| d.is_dir()) {
            // A directory inside another of them is there already, and nothing can be made inside a read-only one.
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

/// On a system where `/lib` is a link to `/usr/lib`, a name below it is written through.
fn usr(name: &Path) -> PathBuf {
    match (name.strip_prefix("/lib"), fs::canonicalize("/lib")) {
        (Ok(rest), Ok(lib)) => lib.join(rest),
        _ => name.to_owned(),
    }
}

fn c(path: impl AsRef<OsStr>) -> Result<CString> {
    let path = path.as_ref();
    CString::new(path.as_bytes()).with_context(|| format!("{path:?} holds a NUL"))
}

/// Collects the steps that fill the private root.
struct Layout {
    root: PathBuf,
    steps: Vec<Step>,
    made: BTreeSet<PathBuf>,
}

impl Layout {
    fn at(&self, path: &Path) -> Result<CString> {
        c(self.root.join(path.strip_prefix("/").unwrap_or(path)))
    }

    fn dirs(&mut self, path: &Path) -> Result<()> {
        let ancestors: Vec<&Path> = path.ancestors().filter(|a| *a != Path::new("/")).collect();
        for dir in ancestors.into_iter().rev() {
            if self.made.insert(dir.to_owned()) {
                self.steps.push(Step::Dir(self.at(dir)?));
            }
        }
        Ok(())
    }

    fn read_only(&mut self, from: &Path, at: &Path) -> Result<()> {
        self.dirs(at)?;
        self.steps.push(Step::ReadOnly(c(from)?, self.at(at)?));
        Ok(())
    }

    /// A directory, link or file of the host at its own place; nothing else exists in the sandbox, sockets least of all.
    fn same(&mut self, path: &Path) -> Result<()> {
        let Ok(meta) = fs::symlink_metadata(path) else { return Ok(()) };
        self.dirs(path.parent().unwrap_or(path))?;
        if meta.is_symlink() {
            let target = fs::read_link(path).with_context(|| format!("reading the link {}", path.display()))?;
            self.steps.push(Step::Link(c(target)?, self.at(path)?));
        } else if meta.is_dir() {
            self.read_only(path, path)?;
        } else if meta.is_file() {
            self.steps.push(Step::File(c(path)?, self.at(path)?));
        }
        Ok(())
    }

    /// Each entry of a directory but some, so that others can be put beside them.
    fn entries(&mut self, dir: &Path, but: &[&OsStr]) -> Result<()> {
        self.dirs(dir)?;
        let Ok(entries) = fs::read_dir(dir) else { return Ok(()) };
        for entry in entries.flatten().filter(|e| !but.contains(&e.file_name().as_os_str())) {
            self.same(&entry.path())?;
        }
        Ok(())
    }

    /// Programs, devices, /proc, /tmp.
    fn system(&mut self) -> Result<()> {
        self.steps.push(Step::Memory(c(&self.root)?, c(ROOT)?));
        for top in ["/bin", "/sbin", "/lib32", "/lib64", "/libx32"] {
            self.same(Path::new(top))?;
        }
        self.entries(Path::new("/usr"), &["lib", "src"].map(OsStr::new))?;
        self.dirs(Path::new("/usr/src"))?;
        for file in ["alternatives", "ld.so.cache", "ld.so.conf", "ld.so.conf.d"] {
            self.same(&Path::new("/etc").join(file))?;
        }
        self.dirs(Path::new("/dev"))?;
        for name in ["null", "zero", "full", "random", "urandom"] {
            let path = Path::new("/dev").join(name);
            if path.exists() {
                self.steps.push(Step::Device(c(&path)?, self.at(&path)?));
            }
        }
        for (to, name) in [("fd", "/dev/fd"), ("fd/0", "/dev/stdin"), ("fd/1", "/dev/stdout"), ("fd/2", "/dev/stderr")] {
            self.steps.push(Step::Link(c(format!("/proc/self/{to}"))?, self.at(Path::new(name))?));
        }
        self.dirs(Path::new("/proc"))?;
        self.steps.push(Step::Proc(self.at(Path::new("/proc"))?));
        self.dirs(Path::new("/tmp"))?;
        self.steps.push(Step::Memory(self.at(Path::new("/tmp"))?, c(TMP)?));
        Ok(())
    }

    /// `/usr/lib` and `/lib` without the modules of other kernels, with room for K's directories.
    fn libraries(&mut self, kernels: &[(PathBuf, PathBuf)]) -> Result<()> {
        let lib = Path::new("/lib");
        let real = !lib.is_symlink();
        for dir in [Path::new("/usr/lib"), lib] {
            if dir == lib && !real {
                self.same(lib)?;
                continue;
            }
            let mut but = vec![OsStr::new("modules")];
            but.extend(kernels.iter().filter(|(_, at)| at.parent() == Some(dir)).filter_map(|(_, at)| at.file_name()));
            self.entries(dir, &but)?;
        }
        Ok(())
    }
}
