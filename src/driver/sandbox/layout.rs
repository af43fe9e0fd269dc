//! What the private root of a build contains: the host's programs and libraries, devices, K's trees, and nothing else.

use super::child::SetupStep;
use crate::host::{os_release, Host};
use crate::kernel::KernelRelease;
use anyhow::{Context, Result};
use nix::unistd::{Gid, Uid};
use std::collections::BTreeSet;
use std::ffi::{CString, OsStr};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Also for POSIX semaphores and shared memory.
pub(super) const TMP: &str = "/tmp";
/// The size of `/tmp`: gcc keeps one assembler file per job there.
const TMP_OPTIONS: &str = "size=256m,nr_inodes=16k,mode=1777";
/// The name of the build user inside the sandbox.
const NAME: &str = "vfguard";
/// Mount options of the root, which contains directories and small files only.
const ROOT: &str = "size=4m,nr_inodes=16k,mode=755";
/// On a system where `/lib` is a symbolic link to `/usr/lib`, resolves a name below `/lib` through it.
pub(super) fn usr(name: &Path) -> PathBuf {
    match (name.strip_prefix("/lib"), fs::canonicalize("/lib")) {
        (Ok(rest), Ok(lib)) => lib.join(rest),
        _ => name.to_owned(),
    }
}

pub(super) fn c(path: impl AsRef<OsStr>) -> Result<CString> {
    let path = path.as_ref();
    CString::new(path.as_bytes()).with_context(|| format!("{path:?} holds a NUL"))
}

/// The mount points of this process (proc_pid_mountinfo(5), the fifth field); empty if /proc is not mounted.
fn mounts() -> Result<Vec<PathBuf>> {
    // For this thread, which may have its own namespace. Some kernels do not have /proc/thread-self.
    let file = format!("/proc/self/task/{}/mountinfo", nix::unistd::gettid());
    let text = match fs::read(&file) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(e).with_context(|| format!("reading {file}")),
    };
    let field = |line: &[u8]| line.split(|&b| b == b' ').nth(4).map(unescape);
    Ok(text.split(|&b| b == b'\n').filter_map(field).collect())
}

/// In mountinfo a space, tab, newline or backslash is written as `\` and three octal digits.
fn unescape(field: &[u8]) -> PathBuf {
    let mut path = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        match (byte, after) {
            (b'\\', [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', ..]) => {
                path.push((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'));
                rest = &after[3..];
            }
            _ => path.push(byte),
        }
    }
    PathBuf::from(OsStr::from_bytes(&path))
}

/// Collects the steps that fill the private root.
pub(super) struct Layout {
    root: PathBuf,
    /// In the order in which they run.
    pub steps: Vec<SetupStep>,
    made: BTreeSet<PathBuf>,
    /// The host's mount points.
    mounts: Vec<PathBuf>,
}

impl Layout {
    /// Starts an empty layout of the private root at `root`.
    ///
    /// # Errors
    /// When the mount points cannot be read.
    pub fn new(root: PathBuf) -> Result<Layout> {
        Ok(Layout { root, steps: Vec::new(), made: BTreeSet::new(), mounts: mounts()? })
    }

    /// The path outside for a path inside.
    pub fn at(&self, path: &Path) -> Result<CString> {
        c(self.root.join(path.strip_prefix("/").unwrap_or(path)))
    }

    /// A directory with its parents.
    pub fn dirs(&mut self, path: &Path) -> Result<()> {
        let ancestors: Vec<&Path> = path.ancestors().filter(|a| *a != Path::new("/")).collect();
        for dir in ancestors.into_iter().rev() {
            if self.made.insert(dir.to_owned()) {
                self.steps.push(SetupStep::Dir(self.at(dir)?));
            }
        }
        Ok(())
    }

    /// A directory of the host, read-only, at another path.
    pub fn read_only(&mut self, from: &Path, at: &Path) -> Result<()> {
        self.dirs(at)?;
        self.steps.push(SetupStep::ReadOnly(c(from)?, self.at(at)?));
        // A bind mount includes the mounts below it, and each of them must be made read-only separately.
        let real = fs::canonicalize(from).unwrap_or_else(|_| from.to_owned());
        let beneath = self.mounts.iter().filter_map(|m| m.strip_prefix(&real).ok()).filter(|m| !m.as_os_str().is_empty());
        let beneath: Vec<CString> = beneath.map(|m| self.at(&at.join(m))).collect::<Result<_>>()?;
        self.steps.extend(beneath.into_iter().map(SetupStep::RemountSubmount));
        Ok(())
    }

    /// A directory, link or file of the host at its own path; nothing else exists in the sandbox. A directory is shown with
    /// everything in it. Before Linux 7.1, Landlock does not check sockets by path, so a build can connect to a socket
    /// there.
    fn same(&mut self, path: &Path) -> Result<()> {
        let Ok(meta) = fs::symlink_metadata(path) else { return Ok(()) };
        self.dirs(path.parent().unwrap_or(path))?;
        if meta.is_symlink() {
            let target = fs::read_link(path).with_context(|| format!("reading the link {}", path.display()))?;
            self.steps.push(SetupStep::Link(c(target)?, self.at(path)?));
        } else if meta.is_dir() {
            self.read_only(path, path)?;
        } else if meta.is_file() {
            self.steps.push(SetupStep::File(c(path)?, self.at(path)?));
        }
        Ok(())
    }

    /// Each entry of a directory except those in `but`, so that other entries can be put beside them.
    fn entries(&mut self, dir: &Path, but: &[&OsStr]) -> Result<()> {
        self.dirs(dir)?;
        let Ok(entries) = fs::read_dir(dir) else { return Ok(()) };
        for entry in entries.flatten().filter(|e| !but.contains(&e.file_name().as_os_str())) {
            self.same(&entry.path())?;
        }
        Ok(())
    }

    /// Files about the machine and K that makefiles read: which distribution it is, and K's small files in /boot.
    pub fn machine(&mut self, host: &Host, release: Option<&KernelRelease>) -> Result<()> {
        let of = |release| ["config", "System.map"].map(|name| PathBuf::from(format!("/boot/{name}-{release}")));
        for name in os_release::files(host).into_iter().chain(release.into_iter().flat_map(of)) {
            // A symbolic link may lead to a path that does not exist in the sandbox, so bind the real file.
            let Ok(real) = fs::canonicalize(host.path(&name)) else { continue };
            if real.is_file() {
                self.dirs(name.parent().unwrap_or(&name))?;
                self.steps.push(SetupStep::File(c(real)?, self.at(&name)?));
            }
        }
        Ok(())
    }

    /// A name and a home for the build user, and the name of root, which owns the system's directories.
    pub fn people(&mut self, uid: Uid, gid: Gid) -> Result<()> {
        let people = format!("root:x:0:0:root:/:/bin/sh\n{NAME}:x:{uid}:{gid}:{NAME}:{TMP}:/bin/sh\n");
        let groups = format!("root:x:0:\n{NAME}:x:{gid}:\n");
        self.dirs(Path::new("/etc"))?;
        for (name, text) in [("/etc/passwd", people), ("/etc/group", groups)] {
            self.steps.push(SetupStep::Text(self.at(Path::new(name))?, text.into_bytes()));
        }
        Ok(())
    }

    /// Programs, devices, /proc, /tmp.
    pub fn system(&mut self) -> Result<()> {
        self.steps.push(SetupStep::Memory(c(&self.root)?, c(ROOT)?));
        // The last one contains the newer compilers of EL (Software Collections).
        for top in ["/bin", "/sbin", "/lib32", "/lib64", "/libx32", "/opt/rh"] {
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
                self.steps.push(SetupStep::Device(c(&path)?, self.at(&path)?));
            }
        }
        for (to, name) in [("fd", "/dev/fd"), ("fd/0", "/dev/stdin"), ("fd/1", "/dev/stdout"), ("fd/2", "/dev/stderr")] {
            self.steps.push(SetupStep::Link(c(format!("/proc/self/{to}"))?, self.at(Path::new(name))?));
        }
        self.dirs(Path::new("/proc"))?;
        self.steps.push(SetupStep::Proc(self.at(Path::new("/proc"))?));
        self.dirs(Path::new(TMP))?;
        self.steps.push(SetupStep::Memory(self.at(Path::new(TMP))?, c(TMP_OPTIONS)?));
        // No symbolic links: a directory created below one would be created at its target outside of the sandbox.
        for name in ["/var/tmp", "/dev/shm"] {
            self.dirs(Path::new(name))?;
            self.steps.push(SetupStep::Writable(self.at(Path::new(TMP))?, self.at(Path::new(name))?));
        }
        Ok(())
    }

    /// `/usr/lib` and `/lib` without the modules of other kernels, with mount points for K's directories.
    pub fn libraries(&mut self, kernels: &[(PathBuf, PathBuf)]) -> Result<()> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_point_is_unescaped_as_the_kernel_escaped_it() {
        assert_eq!(unescape(br"/mnt/a\040b\134c\012"), Path::new("/mnt/a b\\c\n"));
        assert_eq!(unescape(br"/mnt/\04"), Path::new("/mnt/\\04"));
        assert!(mounts().unwrap().contains(&PathBuf::from("/proc")));
    }
}
