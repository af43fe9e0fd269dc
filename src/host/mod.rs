//! The edges: everything that accesses the machine goes through here.
//!
//! [`Host`] has the one root of all paths of the machine; `main` creates it and passes it on.

pub mod cache;
pub mod command;
pub mod devices;
pub mod failpoint;
pub mod files;
pub mod lock;
pub mod locks;
pub mod notices;
pub mod os_release;
pub mod place;
pub mod sys;
pub mod systemd;
pub mod upstart;

use self::files::below::Dir;
use self::files::resolve;
use crate::error::Remedy;
use anyhow::{Context, Result};
use nix::sys::statfs::{statfs, MSDOS_SUPER_MAGIC};
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The largest file that is read as a whole. A vmlinuz or a module is always smaller (a debug module of amdgpu has 60 MB).
pub const MAX_FILE: u64 = 256 << 20;

/// Where a file is written.
#[derive(Debug)]
pub struct Place {
    dir: Dir,
    name: OsString,
}

impl Place {
    /// The path to open it by, valid while this value exists.
    pub fn path(&self) -> PathBuf {
        self.dir.at(&self.name)
    }

    /// Syncs the directory, so that the file's name survives a power cut.
    ///
    /// # Errors
    /// Those of opening and fsync(2), with the path.
    pub fn sync(&self) -> Result<()> {
        self.dir.sync()
    }
}

/// A machine: the live one, or a tree below `--root DIR`.
#[derive(Clone, Debug)]
pub struct Host {
    root: PathBuf,
    /// The open root, if it is not the live one: changes are made below it, even if its path leads elsewhere now.
    opened: Option<Arc<OwnedFd>>,
}

impl Host {
    /// The machine with its root at `root`; `/` is the live one.
    ///
    /// # Errors
    /// When `root` is not a directory.
    pub fn new(root: &Path) -> Result<Host> {
        let real = fs::canonicalize(root).remedy(
            format!("opening the root {}", root.display()),
            "name an existing directory with --root, or leave it out for this machine",
        )?;
        if !real.is_dir() {
            return Err(crate::error::advise(
                format!("the root {} is not a directory", root.display()),
                "name an existing directory with --root",
            ));
        }
        let opened = match real == Path::new("/") {
            true => None,
            false => Some(Arc::new(OwnedFd::from(fs::File::open(&real)?))),
        };
        Ok(Host { root: real, opened })
    }

    /// Whether this is the machine that vfguard runs on. Only then are services and package managers used.
    pub fn is_live(&self) -> bool {
        self.root == Path::new("/")
    }

    /// The root of all paths.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The real location of a path of the machine: symbolic links, also absolute ones, are resolved below the root.
    /// Components that do not exist yet are appended unchanged. A loop of links resolves to a path that cannot exist.
    pub fn path(&self, path: impl AsRef<Path>) -> PathBuf {
        if self.is_live() {
            return Path::new("/").join(path);
        }
        resolve::below(&self.root, path.as_ref(), true)
    }

    /// Like [`Host::path`], but a symbolic link in the last component is not followed: for replacing or removing the link
    /// itself.
    pub fn path_of_link(&self, path: impl AsRef<Path>) -> PathBuf {
        if self.is_live() {
            return Path::new("/").join(path);
        }
        resolve::below(&self.root, path.as_ref(), false)
    }

    /// The machine's own name for a real path: without the root.
    pub fn name(&self, real: &Path) -> PathBuf {
        match real.strip_prefix(&self.root) {
            Ok(inner) => Path::new("/").join(inner),
            Err(_) => real.to_owned(),
        }
    }

    /// The whole file; at most [`MAX_FILE`] bytes.
    ///
    /// # Errors
    /// Those of opening and reading, and `FileTooLarge`.
    pub fn read(&self, path: impl AsRef<Path>) -> io::Result<Vec<u8>> {
        files::read_bounded(&self.path(path), MAX_FILE)
    }

    /// The first `length` bytes of a file.
    ///
    /// # Errors
    /// Those of opening and reading.
    pub fn read_start(&self, path: impl AsRef<Path>, length: u64) -> io::Result<Vec<u8>> {
        files::read_start(&self.path(path), length)
    }

    /// The whole file as text; invalid UTF-8 becomes replacement characters.
    ///
    /// # Errors
    /// Those of [`Host::read`].
    pub fn read_text(&self, path: impl AsRef<Path>) -> io::Result<String> {
        let bytes = self.read(path)?;
        // Lossy conversion alone would take ten times as long, and the content is mostly valid UTF-8.
        Ok(String::from_utf8(bytes).unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into_owned()))
    }

    /// The names in a directory, sorted.
    ///
    /// # Errors
    /// Those of reading the directory.
    pub fn read_dir(&self, path: impl AsRef<Path>) -> io::Result<Vec<OsString>> {
        let mut names: Vec<OsString> =
            fs::read_dir(self.path(path))?.map(|e| e.map(|e| e.file_name())).collect::<io::Result<_>>()?;
        names.sort();
        Ok(names)
    }

    /// The result of stat(2).
    ///
    /// # Errors
    /// Those of stat(2).
    pub fn metadata(&self, path: impl AsRef<Path>) -> io::Result<fs::Metadata> {
        fs::metadata(self.path(path))
    }

    /// A text that changes whenever the file does, as part of the name of a cached result. It does not change with a reboot:
    /// instead of the device number, which may (NVMe disks get theirs in the order in which they answer, btrfs invents one),
    /// the path is used; and FAT renumbers its files whenever it is mounted.
    ///
    /// # Errors
    /// Those of stat(2).
    pub fn identity(&self, path: impl AsRef<Path>) -> io::Result<String> {
        let (path, real) = (path.as_ref(), self.path(path.as_ref()));
        let m = fs::metadata(&real)?;
        let digest = ring::digest::digest(&ring::digest::SHA256, path.as_os_str().as_encoded_bytes());
        let path: String = digest.as_ref().iter().take(8).map(|b| format!("{b:02x}")).collect();
        let fat = statfs(&real).is_ok_and(|fs| fs.filesystem_type() == MSDOS_SUPER_MAGIC);
        let number = if fat { 0 } else { m.ino() };
        let times = [m.mtime(), m.mtime_nsec(), m.ctime(), m.ctime_nsec()].map(|t| format!("{t:x}")).join("-");
        Ok(format!("{path}-{number:x}-{:x}-{times}", m.size()))
    }

    /// Whether the path exists (a dangling symbolic link does not).
    pub fn exists(&self, path: impl AsRef<Path>) -> bool {
        self.path(path).exists()
    }

    /// Whether it is a regular file.
    pub fn is_file(&self, path: impl AsRef<Path>) -> bool {
        self.path(path).is_file()
    }

    /// Whether it is a directory.
    pub fn is_dir(&self, path: impl AsRef<Path>) -> bool {
        self.path(path).is_dir()
    }

    /// The target of a symbolic link as it is written.
    ///
    /// # Errors
    /// Those of readlink(2).
    pub fn read_link(&self, path: impl AsRef<Path>) -> io::Result<PathBuf> {
        fs::read_link(self.path_of_link(path))
    }

    /// A directory of the machine, for changes in it.
    ///
    /// # Errors
    /// When it is missing. With another root: when every user could change its content, or its path contains a symbolic link
    /// that was just put there.
    pub fn dir(&self, path: impl AsRef<Path>) -> Result<Dir> {
        self.held(self.path(path), |_| None)
    }

    /// [`Host::dir`]; if it is missing, creates it with this mode, and its parents.
    ///
    /// # Errors
    /// Those of [`Host::dir`] and of creating it.
    pub fn make_dirs(&self, path: impl AsRef<Path>, mode: u32) -> Result<Dir> {
        let real = self.path(path);
        if self.is_live() {
            files::create_dirs(&real, mode)?;
        }
        let last = real.clone();
        self.held(real, |new| Some(files::mode_of(new, &last, mode)))
    }

    /// Where to open a file for writing; its directory is created (mode 0755) if it is missing. The caller must not follow a
    /// symbolic link (`O_NOFOLLOW`).
    ///
    /// # Errors
    /// Those of [`Host::make_dirs`].
    pub fn place(&self, path: impl AsRef<Path>) -> Result<Place> {
        let real = self.path_of_link(path);
        let name = real.file_name().context("a path without a name")?.to_owned();
        Ok(Place { dir: self.make_dirs(self.name(real.parent().unwrap_or(&self.root)), files::PARENT)?, name })
    }

    fn held(&self, real: PathBuf, make: impl Fn(&Path) -> Option<u32>) -> Result<Dir> {
        match &self.opened {
            None => Ok(Dir::named(real)),
            Some(opened) => Dir::walk(&self.root, opened, &real, make),
        }
    }

    /// Writes a file atomically and creates its directory first; see [`files::write_atomic`].
    ///
    /// # Errors
    /// Those of each step, with the path.
    pub fn write_atomic(&self, path: impl AsRef<Path>, content: &[u8], mode: u32) -> Result<()> {
        let real = self.path(path);
        let dir = self.make_dirs(self.name(real.parent().unwrap_or(&self.root)), files::PARENT)?;
        files::write_in(&dir, &real, content, mode)
    }

    /// Removes a file or a symbolic link; it may be missing. Returns whether it existed.
    ///
    /// # Errors
    /// Those of unlink(2) but `NotFound`, with the path, and those of [`Host::dir`].
    pub fn remove(&self, path: impl AsRef<Path>) -> Result<bool> {
        let real = self.path_of_link(path);
        let dir = real.parent().unwrap_or(&self.root);
        match real.file_name() {
            Some(name) if dir.is_dir() => {
                files::remove(&self.dir(self.name(dir))?.at(name)).with_context(|| format!("removing {}", real.display()))
            }
            _ => Ok(false),
        }
    }

    /// [`Host::remove`] for a file that must not reappear after a power cut.
    ///
    /// # Errors
    /// Those of [`Host::remove`] and fsync(2).
    pub fn remove_durably(&self, path: impl AsRef<Path>) -> Result<bool> {
        let removed = self.remove(&path)?;
        if let Some(dir) = self.path_of_link(path).parent().filter(|_| removed) {
            files::sync_dir(dir)?;
        }
        Ok(removed)
    }
}
