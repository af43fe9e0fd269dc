//! What a build finds in its private root: the host's programs and libraries, devices, K's trees, and nothing else.

use super::sandbox_child::Step;
use anyhow::{Context, Result};
use std::collections::BTreeSet;
use std::ffi::{CString, OsStr};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// The private `/tmp`: gcc keeps one assembler file a job there.
const TMP: &str = "size=256m,nr_inodes=16k,mode=1777";
/// The root holds directories and empty files only.
const ROOT: &str = "size=4m,nr_inodes=16k,mode=755";
/// On a system where `/lib` is a link to `/usr/lib`, a name below it is written through.
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

/// Collects the steps that fill the private root.
pub(super) struct Layout {
    root: PathBuf,
    /// In their order.
    pub steps: Vec<Step>,
    made: BTreeSet<PathBuf>,
}

impl Layout {
    /// Nothing yet, of what will lie below `root`.
    pub fn new(root: PathBuf) -> Layout {
        Layout { root, steps: Vec::new(), made: BTreeSet::new() }
    }

    /// The name outside of a name inside.
    pub fn at(&self, path: &Path) -> Result<CString> {
        c(self.root.join(path.strip_prefix("/").unwrap_or(path)))
    }

    /// A directory with its parents.
    pub fn dirs(&mut self, path: &Path) -> Result<()> {
        let ancestors: Vec<&Path> = path.ancestors().filter(|a| *a != Path::new("/")).collect();
        for dir in ancestors.into_iter().rev() {
            if self.made.insert(dir.to_owned()) {
                self.steps.push(Step::Dir(self.at(dir)?));
            }
        }
        Ok(())
    }

    /// A directory of the host, read-only, at another place.
    pub fn read_only(&mut self, from: &Path, at: &Path) -> Result<()> {
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
    pub fn system(&mut self) -> Result<()> {
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
