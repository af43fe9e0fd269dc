//! Writes below one directory descriptor: each component is opened with `O_NOFOLLOW` relative to the one before, each file
//! is new, and links are created last.

use super::limits::Deadline;
use anyhow::{bail, ensure, Context, Result};
use nix::fcntl::{openat, AtFlags, OFlag};
use nix::sys::stat::{fchmod, fstat, mkdirat, Mode};
use nix::unistd::{geteuid, linkat, symlinkat};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

const DIRECTORY: OFlag = OFlag::O_DIRECTORY.union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC).union(OFlag::O_RDONLY);
const NEW_FILE: OFlag =
    OFlag::O_CREAT.union(OFlag::O_EXCL).union(OFlag::O_WRONLY).union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC);
/// The longest name of the top directory. The name becomes a part of make's arguments.
const MAX_TOP: usize = 100;

/// What exists at a path already.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Made {
    /// A directory created as a parent; its own entry may follow.
    Implied,
    Directory,
    File,
    Link,
}

/// The tree during unpacking.
pub(super) struct Tree {
    root: OwnedFd,
    made: BTreeMap<Vec<String>, Made>,
    links: Vec<(Vec<String>, String)>,
    top: Option<String>,
}

impl Tree {
    /// Opens the directory to write into. It must belong to the caller, and no other user may write in it.
    pub(super) fn open(into: &Path) -> Result<Tree> {
        let act = || format!("opening {}", into.display());
        let root: OwnedFd = nix::fcntl::open(into, DIRECTORY, Mode::empty()).with_context(act)?;
        let stat = fstat(&root).with_context(act)?;
        let private = stat.st_uid == geteuid().as_raw() && stat.st_mode & 0o022 == 0;
        ensure!(private, "{} is not a private directory", into.display());
        Ok(Tree { root, made: BTreeMap::new(), links: Vec::new(), top: None })
    }

    pub(super) fn directory(&mut self, path: &[String]) -> Result<()> {
        let Some((name, parent)) = path.split_last() else { return Ok(()) };
        self.check_top(path)?;
        match self.made.get(path) {
            Some(Made::Implied) => {}
            Some(_) => bail!("it is there twice"),
            None => {
                let parent = self.parent(parent)?;
                make_directory(&parent, name)?;
            }
        }
        self.made.insert(path.to_vec(), Made::Directory);
        Ok(())
    }

    pub(super) fn file(&mut self, path: &[String], executable: bool, size: u64, data: &mut impl Read) -> Result<()> {
        let (parent, name) = self.place(path)?;
        let mode = Mode::from_bits_truncate(if executable { 0o755 } else { 0o644 });
        let mut file = File::from(openat(&parent, name.as_str(), NEW_FILE, mode)?);
        // The build user must be able to read it, whatever the umask is.
        fchmod(&file, mode)?;
        self.made.insert(path.to_vec(), Made::File);
        let copied = io::copy(&mut data.take(size), &mut file)?;
        ensure!(copied == size, "it was cut off");
        Ok(())
    }

    /// A hard link to an earlier file.
    pub(super) fn hardlink(&mut self, path: &[String], target: &[String]) -> Result<()> {
        ensure!(self.made.get(target) == Some(&Made::File), "it is a hard link to no file before it");
        let Some((old, directory)) = target.split_last() else { bail!("it is a hard link to nothing") };
        let from = self.parent(directory)?;
        let (parent, name) = self.place(path)?;
        linkat(&from, old.as_str(), &parent, name.as_str(), AtFlags::empty())?;
        self.made.insert(path.to_vec(), Made::File);
        Ok(())
    }

    /// Remembers a symbolic link. [`Tree::finish`] checks and creates it.
    pub(super) fn symlink(&mut self, path: &[String], target: &str) -> Result<()> {
        self.place(path)?;
        self.made.insert(path.to_vec(), Made::Link);
        self.links.push((path.to_vec(), target.to_owned()));
        Ok(())
    }

    /// Creates the links and returns the name of the one top directory.
    pub(super) fn finish(mut self, deadline: Deadline) -> Result<String> {
        for (path, target) in std::mem::take(&mut self.links) {
            deadline.check()?;
            let act = || format!("{:?} -> {target:?}", path.join("/"));
            self.judge(&path, &target).with_context(act)?;
            let Some((name, parent)) = path.split_last() else { bail!("a link without a name") };
            let parent = self.parent(parent)?;
            symlinkat(target.as_str(), &parent, name.as_str()).with_context(act)?;
        }
        self.top.context("it is empty")
    }

    /// A symbolic link may lead to a file or directory of the same tree, but through no other link. Then its text is its
    /// real target.
    fn judge(&self, path: &[String], target: &str) -> Result<()> {
        ensure!(!target.is_empty() && !target.starts_with('/'), "an absolute link");
        let mut at = path[..path.len() - 1].to_vec();
        for part in target.split('/').filter(|p| !p.is_empty() && *p != ".") {
            if part == ".." {
                // The first component is the top directory, so above it is outside.
                ensure!(at.len() > 1, "the link leads out");
                at.pop();
            } else {
                at.push(part.to_owned());
            }
            match self.made.get(&at) {
                Some(Made::Link) => bail!("the link leads through another link"),
                Some(_) => {}
                None => bail!("the link leads to nothing"),
            }
        }
        Ok(())
    }

    /// The opened parent directory of a path that does not exist yet.
    fn place(&mut self, path: &[String]) -> Result<(OwnedFd, String)> {
        self.check_top(path)?;
        ensure!(!self.made.contains_key(path), "it is there twice");
        let Some((name, parent)) = path.split_last() else { bail!("its name is empty") };
        ensure!(!parent.is_empty(), "it lies outside the top directory");
        Ok((self.parent(parent)?, name.clone()))
    }

    /// There is one top directory. To make and to a shell its name is a plain word.
    fn check_top(&mut self, path: &[String]) -> Result<()> {
        let Some(first) = path.first() else { return Ok(()) };
        match &self.top {
            Some(top) => ensure!(top == first, "it lies outside the top directory {top}"),
            None => {
                let plain = |b: u8| b.is_ascii_alphanumeric() || b"._+~-".contains(&b);
                let fits = first.len() <= MAX_TOP
                    && first.bytes().all(plain)
                    && first.starts_with(|c: char| c.is_ascii_alphanumeric());
                ensure!(fits, "the top directory's name is not plain");
                self.top = Some(first.clone());
            }
        }
        Ok(())
    }

    /// Opens a directory of the tree and creates missing ones.
    fn parent(&mut self, path: &[String]) -> Result<OwnedFd> {
        let mut at = self.root.try_clone()?;
        for end in 1..=path.len() {
            let name = path[end - 1].as_str();
            match self.made.get(&path[..end]) {
                Some(Made::Directory | Made::Implied) => {}
                Some(Made::File | Made::Link) => bail!("it lies below something that is no directory"),
                None => {
                    make_directory(&at, name)?;
                    self.made.insert(path[..end].to_vec(), Made::Implied);
                }
            }
            at = openat(&at, name, DIRECTORY, Mode::empty())?;
        }
        Ok(at)
    }
}

fn make_directory(parent: &impl AsFd, name: &str) -> Result<()> {
    let mode = Mode::from_bits_truncate(0o755);
    mkdirat(parent, name, mode)?;
    fchmod(openat(parent, name, DIRECTORY, Mode::empty())?, mode)?;
    Ok(())
}
