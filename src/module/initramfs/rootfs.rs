//! The file system that the kernel makes from the entries of its initramfs (`do_name`, `do_symlink`, `maybe_link` and `clean_path` of
//! `init/initramfs.c`): an entry whose directory does not exist is dropped, later entries replace earlier ones of their path, links to
//! directories are followed, and hard links share their content.

use rustc_hash::FxHashMap;
use std::cell::Cell;
use std::io;

/// The number of links that Linux follows in one lookup (path_resolution(7)).
const MAX_LINKS: u32 = 40;
/// Entries of one initramfs; a full system has some 100,000.
const MAX_ENTRIES: u32 = 500_000;
/// Bytes of names and link targets; a full system in an initramfs has some 10 MB of them.
const MAX_NAMES: usize = 64 << 20;
/// The cost of resolving the paths of all entries: the bytes of the paths on the way, and [`STEP`] for each component. A full system takes
/// 80 MB; a name of three bytes that leads through forty links takes 3 MB alone.
const MAX_WALKED: u64 = 2 << 30;
const STEP: usize = 64;
/// Bytes of modules that are kept. The driver of a debug kernel has 60 MB, and the in-tree one may be beside it.
const MAX_MODULES: u64 = crate::decompress::MAX_MODULE;
/// Bytes of settings and tables that are kept; a full system has 2 MB of them.
const MAX_TEXTS: u64 = 32 << 20;

/// An entry of an archive.
pub(in crate::module) enum CpioEntry {
    Directory,
    /// A link with its target.
    Link(String),
    /// A file, with its content if that is wanted.
    File(Option<Vec<u8>>),
    /// One of several names of a file, identified by inode and device; an entry without content may be followed by one that has it.
    Shared(Inode, Option<Vec<u8>>),
    Other,
}

/// Why a file's content is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::module) enum Wanted {
    /// It may be the driver.
    Module,
    /// It may be a setting or a table of modprobe's.
    Text,
}

/// The identity that hard links of one archive share.
pub(in crate::module) type Inode = (u64, u64, u64);

enum Node {
    /// A directory, and whether it has entries.
    Directory(bool),
    Link(String),
    /// Its content is in `Tree::contents`.
    File(usize),
    Other,
}

/// What is found at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::module) enum Found<'t> {
    Nothing,
    /// Content that was kept.
    Kept(&'t [u8]),
    /// A file, by its resolved path, whose content was not wanted.
    Unread(&'t str),
}

/// The file system that the entries make.
pub(in crate::module) struct Tree {
    nodes: FxHashMap<String, Node>,
    contents: Vec<Option<Vec<u8>>>,
    /// None for an inode whose first name could not be created: the kernel makes its other names as links to that one.
    inodes: FxHashMap<Inode, Option<usize>>,
    entries: u32,
    names: usize,
    walked: Cell<u64>,
    modules: u64,
    texts: u64,
    /// Whether the last entry was a trailer.
    ended: bool,
}

impl Default for Tree {
    /// The entries that every kernel has before it unpacks the first one (`usr/default_cpio_list`, `init/noinitramfs.c`).
    fn default() -> Tree {
        let own = [("dev", Node::Directory(true)), ("dev/console", Node::Other), ("root", Node::Directory(false))];
        let nodes = own.into_iter().map(|(path, node)| (path.to_owned(), node)).collect();
        Tree {
            nodes,
            contents: Vec::new(),
            inodes: FxHashMap::default(),
            entries: 0,
            names: 0,
            walked: Cell::new(0),
            modules: 0,
            texts: 0,
            ended: false,
        }
    }
}

impl Tree {
    /// Reserves room for content that is about to be kept. Content that a later entry replaces does not free its room.
    ///
    /// # Errors
    /// If there is more of this kind than an initramfs has.
    pub(in crate::module) fn make_room(&mut self, kind: Wanted, size: u64) -> io::Result<()> {
        let (taken, most, what) = match kind {
            Wanted::Module => (&mut self.modules, MAX_MODULES, "modules of the driver's name"),
            Wanted::Text => (&mut self.texts, MAX_TEXTS, "settings and tables"),
        };
        *taken += size;
        if *taken > most {
            return Err(invalid(format!("it holds more than {} MiB of {what}", most >> 20)));
        }
        Ok(())
    }

    /// Adds an entry like the kernel unpacks it: an entry whose directory does not exist is dropped.
    ///
    /// # Errors
    /// If there are more entries or names than an initramfs has.
    pub(in crate::module) fn add(&mut self, name: &str, entry: CpioEntry) -> io::Result<()> {
        self.ended = false;
        self.entries += 1;
        if self.entries > MAX_ENTRIES {
            return Err(invalid(format!("it holds too many entries, more than {MAX_ENTRIES}")));
        }
        self.names += name.len() + if let CpioEntry::Link(target) = &entry { target.len() } else { 0 };
        if self.names > MAX_NAMES {
            return Err(invalid(format!("its names take more than {} MiB", MAX_NAMES >> 20)));
        }
        let path = self.resolve(name, false);
        if self.walked.get() > MAX_WALKED {
            return Err(invalid("its names lead through too many links".into()));
        }
        let Some(path) = path.filter(|p| !p.is_empty()) else {
            if let CpioEntry::Shared(inode, _) = entry {
                self.inodes.entry(inode).or_insert(None);
            }
            return Ok(());
        };
        // A directory that is not empty cannot be removed and replaced, so it stays.
        let stays = matches!(self.nodes.get(&path), Some(Node::Directory(true)));
        let node = match entry {
            CpioEntry::Directory if matches!(self.nodes.get(&path), Some(Node::Directory(_))) => return Ok(()),
            CpioEntry::Directory => Node::Directory(false),
            _ if stays => return Ok(()),
            CpioEntry::Link(target) => Node::Link(target),
            CpioEntry::Other => Node::Other,
            CpioEntry::File(content) => {
                self.contents.push(content);
                Node::File(self.contents.len() - 1)
            }
            CpioEntry::Shared(inode, content) => {
                let contents = &mut self.contents;
                let at = *self.inodes.entry(inode).or_insert_with(|| {
                    contents.push(Some(Vec::new()));
                    Some(contents.len() - 1)
                });
                let Some(at) = at else { return Ok(()) };
                // An entry without content is another name for the existing content.
                if content.as_ref().is_none_or(|c| !c.is_empty()) {
                    contents[at] = content;
                }
                Node::File(at)
            }
        };
        if let Some(Node::Directory(full)) = path.rsplit_once('/').and_then(|(above, _)| self.nodes.get_mut(above)) {
            *full = true;
        }
        self.nodes.insert(path, node);
        Ok(())
    }

    /// Ends an archive: the inode numbers of the next one are different files.
    pub(in crate::module) fn end_archive(&mut self) {
        self.inodes.clear();
        self.ended = true;
    }

    /// Whether the last archive ended with a trailer. The kernel does not require one, but every tool writes it.
    pub(in crate::module) fn has_ended(&self) -> bool {
        self.ended
    }

    /// What is at a path, with all links followed.
    pub(in crate::module) fn look(&self, path: &str) -> Found<'_> {
        let Some((path, Node::File(at))) = self.resolve(path, true).and_then(|p| self.nodes.get_key_value(&p)) else {
            return Found::Nothing;
        };
        self.contents[*at].as_ref().map_or(Found::Unread(path), |content| Found::Kept(content))
    }

    /// The paths of files and links, in order.
    pub(in crate::module) fn names(&self) -> Vec<&str> {
        let named = self.nodes.iter().filter(|(_, n)| matches!(n, Node::File(_) | Node::Link(_)));
        let mut names: Vec<&str> = named.map(|(path, _)| path.as_str()).collect();
        names.sort_unstable();
        names
    }

    /// A path without links, `.` and `..`; `follow_last` decides about a link in the last component. None if a component before the last is
    /// not a directory.
    fn resolve<'t>(&'t self, path: &'t str, follow_last: bool) -> Option<String> {
        let mut real = String::new();
        let mut todo: Vec<&str> = path.rsplit('/').collect();
        let mut links = 0;
        while let Some(part) = todo.pop() {
            self.walked.set(self.walked.get() + (real.len() + part.len() + STEP) as u64);
            if !real.is_empty() && !part.is_empty() && !matches!(self.nodes.get(&real), Some(Node::Directory(_))) {
                return None;
            }
            match part {
                "" | "." => continue,
                ".." => {
                    real.truncate(real.rfind('/').unwrap_or(0));
                    continue;
                }
                _ => {}
            }
            let length = real.len();
            if !real.is_empty() {
                real.push('/');
            }
            real.push_str(part);
            let Some(Node::Link(target)) = self.nodes.get(&real).filter(|_| follow_last || !todo.is_empty()) else {
                continue;
            };
            links += 1;
            if links > MAX_LINKS {
                return None;
            }
            real.truncate(if target.starts_with('/') { 0 } else { length });
            todo.extend(target.rsplit('/'));
        }
        Some(real)
    }
}

fn invalid(why: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(entries: Vec<(&str, CpioEntry)>) -> Tree {
        let mut tree = Tree::default();
        for (name, entry) in entries {
            tree.add(name, entry).unwrap();
        }
        tree
    }

    fn file(content: &str) -> CpioEntry {
        CpioEntry::File(Some(content.into()))
    }

    fn link(target: &str) -> CpioEntry {
        CpioEntry::Link(target.into())
    }

    #[test]
    fn a_later_entry_replaces_an_earlier_one_of_its_path_even_through_a_link() {
        let t = tree(vec![
            ("usr", CpioEntry::Directory),
            ("usr/lib", CpioEntry::Directory),
            ("./lib", link("usr/lib")),
            ("lib/a.ko", file("old")),
            ("usr/lib/a.ko", file("new")),
        ]);
        assert_eq!((t.look("lib/a.ko"), t.look("/usr//lib/./a.ko")), (Found::Kept(b"new"), Found::Kept(b"new")));
        assert_eq!(t.names(), ["lib", "usr/lib/a.ko"]);
    }

    #[test]
    fn a_nonempty_directory_is_not_replaced_by_a_link_and_an_empty_one_is() {
        let usr =
            || [("usr", CpioEntry::Directory), ("usr/lib", CpioEntry::Directory), ("lib", CpioEntry::Directory)].into_iter();
        let t = tree(usr().chain([("lib/a", file("one")), ("lib", link("usr/lib")), ("usr/lib/a", file("two"))]).collect());
        assert_eq!(t.look("lib/a"), Found::Kept(b"one"));
        let t = tree(usr().chain([("lib", link("/usr/lib")), ("lib/a", file("two"))]).collect());
        assert_eq!(t.look("usr/lib/a"), Found::Kept(b"two"));
        let t = tree(vec![("a", link("b")), ("b", file("old")), ("a", file("new"))]);
        assert_eq!(
            (t.look("a"), t.look("b")),
            (Found::Kept(b"new"), Found::Kept(b"old")),
            "a link is replaced, not followed"
        );
    }

    #[test]
    fn hard_links_share_the_content_that_one_of_them_has() {
        let inode = (7, 0, 1);
        let mut t =
            tree(vec![("a", CpioEntry::Shared(inode, Some(vec![]))), ("b", CpioEntry::Shared(inode, Some(b"x".into())))]);
        assert_eq!((t.look("a"), t.look("b")), (Found::Kept(b"x"), Found::Kept(b"x")));
        t.end_archive();
        t.add("c", CpioEntry::Shared(inode, Some(b"y".into()))).unwrap();
        assert_eq!((t.look("a"), t.look("c")), (Found::Kept(b"x"), Found::Kept(b"y")), "another archive, another file");
    }

    /// `filp_open`, `init_mkdir`, `init_symlink` and `init_link` fail then, and the kernel continues with the next entry.
    #[test]
    fn an_entry_whose_directory_does_not_exist_yet_is_dropped() {
        let (dir, inode) = (|| CpioEntry::Directory, (7, 0, 1));
        for (what, entries, there) in [
            ("no directory", vec![("lib/a", file("x"))], false),
            ("no directory, a link", vec![("b", file("x")), ("lib/a", link("/b"))], false),
            ("the directory above alone", vec![("lib", dir()), ("lib/x/a", file("x")), ("lib/a", link("x/a"))], false),
            ("a directory below none", vec![("lib/x", dir()), ("lib/x/a", file("x")), ("lib/a", link("x/a"))], false),
            ("the directory behind it", vec![("lib/a", file("x")), ("lib", dir())], false),
            ("the directory before it", vec![("lib", dir()), ("lib/a", file("x"))], true),
            ("a file in its place", vec![("lib", file("y")), ("lib/a", file("x"))], false),
            ("a link to nothing", vec![("lib", link("usr/lib")), ("lib/a", file("x"))], false),
            ("out of nothing", vec![("lib", dir()), ("none/../lib/a", file("x"))], false),
            ("out of a directory", vec![("lib", dir()), ("usr", dir()), ("usr/../lib/a", file("x"))], true),
            ("what the kernel itself has", vec![("lib", dir()), ("dev/a", file("x")), ("lib/a", link("/dev/a"))], true),
            ("home", vec![("lib", dir()), ("root/a", file("x")), ("lib/a", link("/root/a"))], true),
            (
                "another name of what is not there",
                vec![
                    ("lib", dir()),
                    ("none/a", CpioEntry::Shared(inode, Some(vec![]))),
                    ("lib/a", CpioEntry::Shared(inode, Some(b"x".into()))),
                ],
                false,
            ),
        ] {
            let t = tree(entries);
            assert_eq!(t.look("lib/a"), if there { Found::Kept(b"x") } else { Found::Nothing }, "{what}");
        }
    }

    /// Each lookup has its own limit, but half a million of them would take minutes.
    #[test]
    fn names_that_lead_through_too_many_links_in_total_are_an_error() {
        let d = "d".repeat(250);
        let mut t = tree(vec![(d.as_str(), CpioEntry::Directory)]);
        let far = format!("{d}/../").repeat(15);
        (1..40).for_each(|i| t.add(&format!("l{i}"), link(&format!("{far}l{}", i - 1))).unwrap());
        t.add("l0", link(&far)).unwrap();
        let refused = (0..100_000).find_map(|_| t.add("l39/x", CpioEntry::Directory).err());
        assert!(refused.unwrap().to_string().contains("too many links"));
    }

    #[test]
    fn dangling_and_cyclic_links_contain_nothing() {
        let t = tree(vec![
            ("a", link("b")),
            ("b", link("a")),
            ("c", link("../../none")),
            ("d", link("e")),
            ("e", CpioEntry::File(None)),
        ]);
        assert_eq!((t.look("a"), t.look("c"), t.look("d")), (Found::Nothing, Found::Nothing, Found::Unread("e")));
    }
}
