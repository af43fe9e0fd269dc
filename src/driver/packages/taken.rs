//! What root copies from an unpacked package: the files that headers consist of, as plain files and rewritten symbolic
//! links. All of it by descriptors.

use crate::host::files::remove;
use crate::host::Host;
use anyhow::{ensure, Context, Result};
use nix::errno::Errno;
use nix::fcntl::{openat, readlinkat, OFlag, AT_FDCWD};
use nix::sys::stat::{fchmod, mkdirat, Mode};
use std::ffi::{CStr, OsStr};
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{symlink, PermissionsExt};
use std::path::{Component, Path, PathBuf};

/// Bytes and entries of all packages together. EL's kernel-devel has 70 to 200 MB in 20,000 files.
const MAX_BYTES: u64 = 1 << 30;
const MAX_ENTRIES: u64 = 100_000;
/// Depth of directories; headers have 12.
const MAX_DEPTH: usize = 64;
/// Where headers are: kernel trees, the symbolic links to them, Debian's kbuild. Nothing else of a package is used, above
/// all not its settings for modprobe or vfguard.
const TAKEN: [&str; 4] = ["usr/src", "lib/modules", "usr/lib/modules", "usr/lib/linux-kbuild-"];
const DIRECTORY: OFlag = OFlag::O_DIRECTORY.union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC).union(OFlag::O_RDONLY);
const OLD_FILE: OFlag = OFlag::O_RDONLY.union(OFlag::O_NOFOLLOW).union(OFlag::O_NONBLOCK).union(OFlag::O_CLOEXEC);
const NEW_FILE: OFlag =
    OFlag::O_CREAT.union(OFlag::O_EXCL).union(OFlag::O_WRONLY).union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC);

/// What was copied so far.
#[derive(Default)]
pub(super) struct Taken {
    bytes: u64,
    entries: u64,
    /// Below the root. They are created last, after all files are written.
    links: Vec<(PathBuf, PathBuf)>,
}

impl Taken {
    /// Copies what headers consist of. No process writes below `from` any more; no symbolic link is followed on either side.
    pub(super) fn all(&mut self, from: &Path, to: &Path) -> Result<()> {
        let open = |dir: &Path| {
            openat(AT_FDCWD, dir, DIRECTORY, Mode::empty()).with_context(|| format!("opening {}", dir.display()))
        };
        self.directory(&open(from)?, &open(to)?, Path::new(""))
    }

    fn directory(&mut self, from: &OwnedFd, to: &OwnedFd, at: &Path) -> Result<()> {
        ensure!(at.components().count() < MAX_DEPTH, "its directories are too deep");
        for name in remove::names(from)? {
            let path = at.join(OsStr::from_bytes(name.to_bytes()));
            self.entry(from, to, &name, &path).with_context(|| path.display().to_string())?;
        }
        Ok(())
    }

    fn entry(&mut self, from: &OwnedFd, to: &OwnedFd, name: &CStr, path: &Path) -> Result<()> {
        self.entries += 1;
        ensure!(self.entries <= MAX_ENTRIES, "more than {MAX_ENTRIES} files");
        let place = Part::of(path);
        match openat(from, name, DIRECTORY, Mode::empty()) {
            _ if place == Part::Elsewhere => return Ok(()),
            Ok(from) => {
                match mkdirat(to, name, Mode::from_bits_truncate(0o755)) {
                    Ok(()) | Err(Errno::EEXIST) => {}
                    Err(e) => return Err(e.into()),
                }
                let to = openat(to, name, DIRECTORY, Mode::empty())?;
                fchmod(&to, Mode::from_bits_truncate(0o755))?;
                return self.directory(&from, &to, path);
            }
            // Something that is not a directory has the place of a directory of headers. Ignore it.
            Err(Errno::ENOTDIR | Errno::ELOOP) if place == Part::Above => return Ok(()),
            Err(Errno::ENOTDIR | Errno::ELOOP) => {}
            Err(e) => return Err(e.into()),
        }
        match openat(from, name, OLD_FILE, Mode::empty()) {
            Ok(file) => self.file(File::from(file), to, name),
            Err(Errno::ELOOP) => {
                let target = PathBuf::from(readlinkat(from, name)?);
                self.links.push((path.to_owned(), target));
                Ok(())
            }
            // A socket, or a device without a driver.
            Err(Errno::ENXIO | Errno::ENODEV) => anyhow::bail!("neither a file, a directory nor a link"),
            Err(e) => Err(e.into()),
        }
    }

    fn file(&mut self, mut from: File, to: &OwnedFd, name: &CStr) -> Result<()> {
        let meta = from.metadata()?;
        ensure!(meta.is_file(), "neither a file, a directory nor a link");
        let executable = meta.permissions().mode() & 0o111 != 0;
        let mode = Mode::from_bits_truncate(if executable { 0o755 } else { 0o644 });
        let mut file = File::from(openat(to, name, NEW_FILE, mode)?);
        // The umask must not change the mode, and a set-user-ID bit must not survive.
        fchmod(&file, mode)?;
        let left = MAX_BYTES - self.bytes;
        let copied = io::copy(&mut (&mut from).take(left + 1), &mut file)?;
        ensure!(copied <= left, "more than {MAX_BYTES} bytes");
        self.bytes += copied;
        // make compares modification times.
        file.set_modified(meta.modified()?)?;
        Ok(())
    }

    /// Creates the symbolic links; the directories that they are in exist already. Each leads directly to its final target
    /// below the root, through no other link, so following it outside of the root does not leave the root either.
    pub(super) fn link(self, stage: &Host) -> Result<()> {
        let at = |path: &Path| stage.root().join(path);
        for (path, target) in &self.links {
            symlink(target, at(path)).with_context(|| format!("linking {}", path.display()))?;
        }
        let real: Vec<PathBuf> = self.links.iter().map(|(path, _)| stage.path(Path::new("/").join(path))).collect();
        for ((path, _), real) in self.links.iter().zip(real) {
            let act = || format!("linking {}", path.display());
            let to = relative(path, real.strip_prefix(stage.root()).with_context(act)?);
            fs::remove_file(at(path)).and_then(|()| symlink(to, at(path))).with_context(act)?;
        }
        Ok(())
    }
}

/// Where an entry of a package is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    /// A directory above headers.
    Above,
    /// Among headers.
    Headers,
    /// Somewhere else.
    Elsewhere,
}

impl Part {
    fn of(path: &Path) -> Part {
        let path = path.as_os_str().as_bytes();
        let all = || TAKEN.iter().map(|t| t.as_bytes());
        let beyond =
            |long: &[u8], short: &[u8]| long.starts_with(short) && [None, Some(&b'/')].contains(&long.get(short.len()));
        if all().any(|taken| path != taken && (beyond(path, taken) || taken.ends_with(b"-") && path.starts_with(taken))) {
            Part::Headers
        } else if all().any(|taken| beyond(taken, path)) {
            Part::Above
        } else {
            Part::Elsewhere
        }
    }
}

/// The relative text of a symbolic link at `link` that leads to `to`, both below one root.
fn relative(link: &Path, to: &Path) -> PathBuf {
    let (from, to): (Vec<Component>, Vec<Component>) =
        (link.parent().unwrap_or(Path::new("")).components().collect(), to.components().collect());
    let shared = from.iter().zip(&to).take_while(|(a, b)| a == b).count();
    let up = std::iter::repeat_n(Component::ParentDir, from.len() - shared);
    let path: PathBuf = up.chain(to[shared..].iter().copied()).collect();
    if path.as_os_str().is_empty() {
        PathBuf::from(".")
    } else {
        path
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_files_that_headers_consist_of_are_copied() {
        for (path, place) in [
            ("usr", Part::Above),
            ("usr/src", Part::Above),
            ("usr/src/kernels", Part::Headers),
            ("usr/src/kernels/K/Makefile", Part::Headers),
            ("usr/lib", Part::Above),
            ("usr/lib/linux-kbuild-6.1", Part::Headers),
            ("usr/lib/linux-kbuild-6.1/scripts", Part::Headers),
            ("usr/lib/modprobe.d", Part::Elsewhere),
            ("usr/lib/vfguard", Part::Elsewhere),
            ("lib/modules/K/build", Part::Headers),
            ("lib/modules", Part::Above),
            ("lib/modules-load.d", Part::Elsewhere),
            ("etc", Part::Elsewhere),
            ("us", Part::Elsewhere),
        ] {
            assert_eq!(Part::of(Path::new(path)), place, "{path}");
        }
    }

    /// Copies a tree, made like an unpacked package, into a stage.
    fn take(make: impl Fn(&Path)) -> (tempfile::TempDir, Result<()>) {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        fs::create_dir_all(from.join("usr/src/kernels/K")).unwrap();
        fs::create_dir(&to).unwrap();
        make(&from);
        let mut taken = Taken::default();
        let result = taken.all(&from, &to).and_then(|()| taken.link(&Host::new(&to).unwrap()));
        (dir, result)
    }

    #[test]
    fn symbolic_links_lead_to_the_same_place_with_and_without_the_root() {
        let (dir, result) = take(|from| {
            let headers = from.join("usr/src/kernels/K");
            fs::create_dir_all(from.join("lib/modules/K")).unwrap();
            fs::write(headers.join("Makefile"), "m").unwrap();
            symlink("/usr/src/kernels/K", from.join("lib/modules/K/build")).unwrap();
            symlink("build", from.join("lib/modules/K/source")).unwrap();
            symlink("/etc", headers.join("etc")).unwrap();
            symlink("etc/passwd", headers.join("passwd")).unwrap();
            symlink("../../../../../../../../../../../../../etc/passwd", headers.join("up")).unwrap();
            // Its text alone does not leave the root.
            symlink("..", headers.join("a")).unwrap();
            symlink("a/a/../../../../../../../../../etc/passwd", headers.join("b")).unwrap();
            symlink("loop", headers.join("loop")).unwrap();
            symlink("K", from.join("usr/src/kernels/J")).unwrap();
        });
        result.unwrap();
        let to = dir.path().join("to");
        for link in ["lib/modules/K/build", "lib/modules/K/source", "usr/src/kernels/J"] {
            assert_eq!(fs::canonicalize(to.join(link)).unwrap(), fs::canonicalize(to.join("usr/src/kernels/K")).unwrap());
        }
        assert_eq!(fs::read_link(to.join("lib/modules/K/source")).unwrap(), Path::new("../../../usr/src/kernels/K"));
        for link in ["etc", "passwd", "up", "b", "loop"] {
            assert!(!to.join("usr/src/kernels/K").join(link).exists(), "{link}");
        }
        // The same for a target that does not exist yet.
        fs::create_dir(to.join("etc")).unwrap();
        fs::write(to.join("etc/passwd"), "inside").unwrap();
        for link in ["etc/passwd", "passwd", "up", "b"] {
            assert_eq!(fs::read(to.join("usr/src/kernels/K").join(link)).unwrap(), b"inside", "{link}");
        }
    }

    #[test]
    fn copied_files_are_plain_and_have_no_special_bits() {
        let (dir, result) = take(|from| {
            let headers = from.join("usr/src/kernels/K");
            for (name, mode) in [("su", 0o6777), ("tool", 0o700), ("header", 0o666)] {
                fs::write(headers.join(name), name).unwrap();
                fs::set_permissions(headers.join(name), fs::Permissions::from_mode(mode)).unwrap();
            }
            fs::set_permissions(&headers, fs::Permissions::from_mode(0o777)).unwrap();
            fs::create_dir_all(from.join("etc/cron.d")).unwrap();
            fs::write(from.join("etc/cron.d/evil"), "").unwrap();
            symlink("/etc", from.join("lib")).unwrap();
        });
        result.unwrap();
        let to = dir.path().join("to");
        let mode = |path: &str| fs::metadata(to.join(path)).unwrap().permissions().mode() & 0o7777;
        for (name, expected) in [("", 0o755), ("su", 0o755), ("tool", 0o755), ("header", 0o644)] {
            assert_eq!(mode(&format!("usr/src/kernels/K/{name}")), expected, "{name}");
        }
        assert_eq!(fs::read_dir(&to).unwrap().count(), 1, "no etc, no lib");
    }

    #[test]
    fn a_fifo_and_a_socket_are_refused() {
        let (_dir, result) = take(|from| {
            nix::unistd::mkfifo(&from.join("usr/src/kernels/K/fifo"), Mode::S_IRWXU).unwrap();
        });
        assert!(format!("{:#}", result.unwrap_err()).contains("fifo: neither a file, a directory nor a link"));
        let (_dir, result) = take(|from| {
            std::os::unix::net::UnixListener::bind(from.join("usr/src/kernels/K/socket")).unwrap();
        });
        assert!(format!("{:#}", result.unwrap_err()).contains("socket: neither a file"));
    }

    #[test]
    fn a_sparse_file_and_deep_directories_are_refused() {
        let (_dir, result) = take(|from| {
            File::create(from.join("usr/src/kernels/K/sparse")).unwrap().set_len(10 << 30).unwrap();
        });
        assert!(format!("{:#}", result.unwrap_err()).contains("sparse: more than 1073741824 bytes"));
        let (_dir, result) = take(|from| {
            fs::create_dir_all(from.join("usr/src").join("d/".repeat(70))).unwrap();
        });
        assert!(format!("{:#}", result.unwrap_err()).contains("too deep"));
    }

    #[test]
    fn a_directory_of_one_package_is_not_a_symbolic_link_of_another() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::create_dir_all(at("one/usr/src/kernels")).unwrap();
        fs::create_dir_all(at("two/usr/src/kernels/K")).unwrap();
        fs::create_dir(at("to")).unwrap();
        fs::write(at("two/usr/src/kernels/K/evil"), "").unwrap();
        symlink(dir.path(), at("one/usr/src/kernels/K")).unwrap();
        let mut taken = Taken::default();
        taken.all(&at("one"), &at("to")).unwrap();
        taken.all(&at("two"), &at("to")).unwrap();
        assert!(taken.link(&Host::new(&at("to")).unwrap()).is_err());
        assert!(!at("evil").exists());
    }
}
