//! Directories below a root that is not the live machine's, where others may plant symbolic links while vfguard works.
//!
//! A path that was resolved a moment ago may lead elsewhere now. So a change is made relative to a descriptor that was
//! reached component by component without following links: whatever is planted, nothing outside the root is changed. On the
//! live machine only root can change the path, so names are enough.

use super::trust::others_write;
use crate::error::advise;
use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::fcntl::{openat, OFlag};
use nix::sys::stat::{fchmod, mkdirat, Mode};
use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

/// A directory in which files can be created, replaced and removed.
#[derive(Debug)]
pub struct Dir {
    real: PathBuf,
    held: Option<OwnedFd>,
}

impl Dir {
    /// A directory by its name, for the live machine.
    pub(in crate::host) fn named(real: PathBuf) -> Dir {
        Dir { real, held: None }
    }

    /// Opens `real`, a path without links below `root`, component by component; `opened` is the descriptor of `root`. `make`
    /// is the mode for missing directories; with none, they are not created.
    ///
    /// # Errors
    /// When a component is missing, is not a directory, or can be changed by every user.
    pub(in crate::host) fn walk(
        root: &Path,
        opened: &OwnedFd,
        real: &Path,
        make: impl Fn(&Path) -> Option<u32>,
    ) -> Result<Dir> {
        if !Path::new("/proc/self/fd").exists() {
            return Err(advise("/proc is not mounted, and changes below --root are made by it", "mount -t proc proc /proc"));
        }
        let act = || format!("opening {}", real.display());
        let way = real.strip_prefix(root).with_context(act)?;
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let mut held = opened.try_clone().with_context(act)?;
        let mut at = root.to_owned();
        safe(&held, &at)?;
        for part in way.components() {
            let Component::Normal(name) = part else { continue };
            at.push(name);
            held = match (openat(&held, name, flags, Mode::empty()), make(&at)) {
                (Err(Errno::ENOENT), Some(mode)) => {
                    make_at(&held, name, mode).and_then(|()| openat(&held, name, flags, Mode::empty()))
                }
                (opened, _) => opened,
            }
            .with_context(|| format!("opening {}", at.display()))?;
            safe(&held, &at)?;
        }
        Ok(Dir { real: real.to_owned(), held: Some(held) })
    }

    /// The path for changing something in it.
    pub fn at(&self, name: impl AsRef<Path>) -> PathBuf {
        self.path().join(name)
    }

    /// The path of the directory itself, for changes in it.
    pub fn path(&self) -> PathBuf {
        match &self.held {
            // proc(5): this is the directory itself, even if it was moved.
            Some(held) => PathBuf::from(format!("/proc/self/fd/{}", held.as_raw_fd())),
            None => self.real.clone(),
        }
    }

    /// Its path, for messages.
    pub fn shown(&self) -> &Path {
        &self.real
    }

    /// Syncs the directory, so that its names survive a power cut.
    ///
    /// # Errors
    /// Those of opening and fsync(2), with the path.
    pub fn sync(&self) -> Result<()> {
        File::open(self.path()).and_then(|d| d.sync_all()).with_context(|| format!("syncing {}", self.real.display()))
    }
}

/// mkdir(2) with exactly this mode, whatever the umask is. The directory may exist already, if another run was faster.
fn make_at(dir: &OwnedFd, name: &std::ffi::OsStr, mode: u32) -> nix::Result<()> {
    let bits = Mode::from_bits_truncate(mode);
    match mkdirat(dir, name, bits) {
        Err(Errno::EEXIST) => return Ok(()),
        result => result?,
    }
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    fchmod(openat(dir, name, flags, Mode::empty())?, bits)
}

/// Nothing is written into a directory that users other than its owner can change, whoever the owner is.
fn safe(dir: &OwnedFd, shown: &Path) -> Result<()> {
    let held = PathBuf::from(format!("/proc/self/fd/{}", dir.as_raw_fd()));
    let meta = std::fs::metadata(&held).with_context(|| format!("looking at {}", shown.display()))?;
    if others_write(&meta, &held) {
        return Err(advise(
            format!("others can change {} (mode {:o}), so nothing is written there", shown.display(), meta.mode() & 0o7777),
            format!("chmod go-w {}", shown.display()),
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::{files, Host};
    use nix::fcntl::{renameat2, RenameFlags, AT_FDCWD};
    use std::fs;
    use std::os::unix::fs::{symlink, PermissionsExt};
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::{Duration, Instant};

    #[test]
    fn a_symbolic_link_in_the_path_and_a_world_writable_directory_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        fs::create_dir_all(root.join("var/lib")).unwrap();
        fs::create_dir(root.join("elsewhere")).unwrap();
        let opened = OwnedFd::from(File::open(&root).unwrap());
        let walk = |path: &str, make: bool| Dir::walk(&root, &opened, &root.join(path), |_| make.then_some(0o750));
        assert!(walk("var/lib", false).is_ok());
        assert!(walk("var/lib/vfguard/log", false).is_err());
        let made = walk("var/lib/vfguard/log", true).unwrap();
        fs::write(made.at("x"), "x").unwrap();
        made.sync().unwrap();
        assert_eq!(fs::read(root.join("var/lib/vfguard/log/x")).unwrap(), b"x");
        let mode = |path: &str| fs::metadata(root.join(path)).unwrap().permissions().mode() & 0o7777;
        assert_eq!(mode("var/lib/vfguard"), 0o750);
        symlink("../../elsewhere", root.join("var/lib/link")).unwrap();
        assert!(
            walk("var/lib/link", true).is_err(),
            "a link that leads below the root was put there after the path was resolved"
        );
        for (open, refused) in [(0o777, true), (0o757, true), (0o1777, false), (0o755, false)] {
            fs::set_permissions(root.join("var"), fs::Permissions::from_mode(open)).unwrap();
            let walked = walk("var/lib", false);
            assert_eq!(walked.is_err(), refused, "{open:o}");
            if let Err(error) = walked {
                assert_eq!(crate::error::remedy(&error), Some(format!("chmod go-w {}/var", root.display()).as_str()));
            }
        }
    }

    /// The owner of a part of the tree repeatedly exchanges a directory and a symbolic link that leads out of the tree.
    #[test]
    fn a_symbolic_link_planted_while_vfguard_writes_has_no_effect() {
        let dir = tempfile::tempdir().unwrap();
        let (root, victim) = (dir.path().join("root"), dir.path().join("victim"));
        fs::create_dir_all(root.join("var/lib/vfguard")).unwrap();
        fs::create_dir(&victim).unwrap();
        symlink(&victim, root.join("var/lib/link")).unwrap();
        let host = Host::new(&root).unwrap();
        let (done, hit) = (AtomicBool::new(false), || fs::read_dir(&victim).unwrap().next().is_some());
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let (a, b) = (root.join("var/lib/vfguard"), root.join("var/lib/link"));
                while !done.load(Ordering::Relaxed) {
                    renameat2(AT_FDCWD, &a, AT_FDCWD, &b, RenameFlags::RENAME_EXCHANGE).unwrap();
                }
            });
            for n in 0..500 {
                let _ = host.write_atomic("/var/lib/vfguard/record", b"x", 0o600);
                let _ = host.write_atomic(format!("/var/lib/vfguard/{n}/record"), b"x", 0o600);
                let _ = host.place("/var/lib/vfguard/log").map(|place| fs::write(place.path(), "x"));
                let _ = host.remove("/var/lib/vfguard/record");
            }
            let escaped = hit();
            // The control: if only names were used, the attack would soon succeed.
            let start = Instant::now();
            while !hit() && start.elapsed() < Duration::from_secs(60) {
                let _ = files::write_atomic(&host.path("/var/lib/vfguard/record"), b"x", 0o600);
            }
            let controlled = hit();
            done.store(true, Ordering::Relaxed);
            assert!(!escaped, "vfguard wrote outside of its root");
            assert!(controlled, "the link is never hit, so this proves nothing");
        });
    }
}
