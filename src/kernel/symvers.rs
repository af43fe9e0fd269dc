//! `Module.symvers`: the symbols that a kernel and its modules export (`Documentation/kbuild/modules.rst`). A line has CRC, symbol,
//! provider, kind and (since Linux 5.4) namespace, separated by tabs.

use super::installed::modules_dir;
use super::KernelRelease;
use crate::decompress;
use crate::host::Host;
use hashbrown::HashTable;
use rustc_hash::{FxBuildHasher, FxHashMap};
use std::cell::{Cell, OnceCell, RefCell};
use std::hash::BuildHasher;
use std::path::{Path, PathBuf};

/// The largest table that is read; Debian's has 2 MB.
const MAX_SYMVERS: u64 = 64 << 20;
/// After this many scans an index of the lines is worth its cost.
const INDEX_AFTER: u32 = 1;
/// A low estimate of a line's length in bytes.
const SHORT_LINE: usize = 64;
/// Bits for the first bytes of names; a few hundred names leave the table nearly empty.
const SLOTS: usize = 1 << 16;

/// One symbol's line of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Export<'s> {
    /// Its version.
    pub crc: u32,
    /// `vmlinux`, or the path of a module without its suffix.
    pub provider: &'s str,
    /// Whether only GPL-compatible modules may use it.
    pub gpl_only: bool,
    /// The namespace that a module must import to use it; usually empty.
    pub namespace: &'s str,
}

/// The table as it was read. It is not parsed as a whole, since a module imports a few hundred of its 25,000 symbols.
///
/// The first lookup scans the text, later ones use an index of all lines. An index from the start would cost a `check` with one device,
/// which makes one lookup, a tenth of its time on Debian's table; a map that owns the names would cost several times that.
pub struct Symvers {
    /// The file's path.
    pub path: PathBuf,
    text: Vec<u8>,
    /// Starts of the lines for names that were looked up.
    known: RefCell<FxHashMap<Box<str>, Option<u32>>>,
    scans: Cell<u32>,
    /// The start of each line, by its symbol.
    index: OnceCell<HashTable<u32>>,
}

impl Symvers {
    /// From the file's bytes, which may be compressed. None if they are no such table.
    pub fn new(path: &Path, bytes: Vec<u8>) -> Option<Symvers> {
        let text = decompress::plain(bytes, MAX_SYMVERS).ok()?.into_owned();
        let parsed = text.split(|&b| b == b'\n').next().and_then(export).is_some();
        let small = u32::try_from(text.len()).is_ok();
        (parsed && small).then(|| Symvers {
            path: path.to_owned(),
            text,
            known: RefCell::default(),
            scans: Cell::new(0),
            index: OnceCell::new(),
        })
    }

    /// Reads the first table that belongs to K: from the build trees, then the one that kernel-core of EL, Fedora and AL2023 ships.
    pub fn load(host: &Host, release: &KernelRelease, trees: &[PathBuf]) -> Option<Symvers> {
        let modules = modules_dir(release);
        let packed = ["gz", "xz", "zst"].into_iter().flat_map(|ext| {
            [modules.join(format!("symvers.{ext}")), PathBuf::from(format!("/boot/symvers-{release}.{ext}"))]
        });
        let plain = trees.iter().map(|t| t.join("Module.symvers"));
        plain.chain(packed).find_map(|path| Symvers::new(&path, host.read(&path).ok()?))
    }

    /// The exports of these names; names that are not exported are left out.
    pub fn find<'s>(&'s self, names: &[&str]) -> FxHashMap<&'s str, Export<'s>> {
        let mut known = self.known.borrow_mut();
        let new: Vec<&str> = names.iter().copied().filter(|n| !known.contains_key(*n)).collect();
        if !new.is_empty() {
            known.extend(new.iter().map(|n| (Box::from(*n), None)));
            if self.scans.get() < INDEX_AFTER {
                self.scans.set(self.scans.get() + 1);
                self.scan(&new, |start, name| _ = known.insert(name.into(), Some(start)));
            } else {
                new.iter().for_each(|n| _ = known.insert(Box::from(*n), self.search(n)));
            }
        }
        names.iter().filter_map(|n| export(self.line((*known.get(*n)?)?))).collect()
    }

    /// Calls `found` with the start of each line whose symbol is one of `names`.
    fn scan<'n>(&self, names: &[&'n str], mut found: impl FnMut(u32, &'n str)) {
        let wanted: FxHashMap<&[u8], &'n str> = names.iter().map(|n| (n.as_bytes(), *n)).collect();
        // Few lines start like a name that is looked for; only then the rest of the line is compared.
        let mut may = [0u64; SLOTS / 64];
        for name in names {
            match beginning(name.as_bytes()) {
                Some(beginning) => may[slot(beginning).0] |= slot(beginning).1,
                None => may.fill(u64::MAX),
            }
        }
        let mut start = 0;
        for end in memchr::memchr_iter(b'\n', &self.text).chain([self.text.len()]) {
            let line = &self.text[start..end];
            let at =
                if line.get(10) == Some(&b'\t') { 11 } else { memchr::memchr(b'\t', line).map_or(line.len(), |t| t + 1) };
            let may = beginning(&line[at..]).map(slot).is_none_or(|(word, bit)| may[word] & bit != 0);
            if may {
                if let (Some(name), Ok(start)) = (wanted.get(symbol(line)), u32::try_from(start)) {
                    found(start, name);
                }
            }
            start = end + 1;
        }
    }

    fn search(&self, name: &str) -> Option<u32> {
        let at = |start: &u32| symbol(self.line(*start));
        let index = self.index.get_or_init(|| {
            let mut index = HashTable::with_capacity(self.text.len() / SHORT_LINE);
            let mut start = 0;
            for end in memchr::memchr_iter(b'\n', &self.text).chain([self.text.len()]) {
                let symbol = symbol(&self.text[start..end]);
                // `new` refused any table that is too large for it.
                if let Ok(start) = u32::try_from(start) {
                    index.entry(hash(symbol), |other| at(other) == symbol, |start| hash(at(start))).insert(start);
                }
                start = end + 1;
            }
            index
        });
        index.find(hash(name.as_bytes()), |start| at(start) == name.as_bytes()).copied()
    }

    fn line(&self, start: u32) -> &[u8] {
        let rest = self.text.get(start as usize..).unwrap_or_default();
        &rest[..memchr::memchr(b'\n', rest).unwrap_or(rest.len())]
    }
}

fn hash(symbol: &[u8]) -> u64 {
    FxBuildHasher.hash_one(symbol)
}

/// The first four bytes, if there are four.
fn beginning(bytes: &[u8]) -> Option<u32> {
    bytes.first_chunk().map(|first| u32::from_le_bytes(*first))
}

/// The word and the bit for the first bytes of a name in a table of [`SLOTS`] bits.
fn slot(beginning: u32) -> (usize, u64) {
    let hash = beginning.wrapping_mul(0x9E37_79B1) >> 16;
    (hash as usize >> 6, 1 << (hash & 63))
}

/// The second word of a line.
fn symbol(line: &[u8]) -> &[u8] {
    let Some(start) = memchr::memchr(b'\t', line) else { return &[] };
    let rest = &line[start + 1..];
    &rest[..memchr::memchr(b'\t', rest).unwrap_or(rest.len())]
}

fn export(line: &[u8]) -> Option<(&str, Export<'_>)> {
    let mut parts = std::str::from_utf8(line).ok()?.trim_end_matches('\r').split('\t');
    let crc = parts.next()?.strip_prefix("0x")?;
    // Old 64-bit kernels write 16 digits; the upper eight are zero.
    let crc = u32::try_from(u64::from_str_radix(crc, 16).ok()?).ok()?;
    let (symbol, provider) = (parts.next()?, parts.next()?);
    let kind = parts.next().unwrap_or_default();
    let namespace = parts.next().unwrap_or_default().trim();
    (!symbol.is_empty()).then_some((symbol, Export { crc, provider, gpl_only: kind.contains("GPL"), namespace }))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str =
        "0x4c9d28b0\tphys_base\tvmlinux\tEXPORT_SYMBOL\t\n0x84b45156\tinsert_resource\tvmlinux\tEXPORT_SYMBOL_GPL\tCXL\n\
                        0x00000000fa000001\told\tdrivers/net/mdio\tEXPORT_SYMBOL\n";

    #[test]
    fn scanning_and_searching_find_the_same() {
        let symvers = Symvers::new(Path::new("/x"), TEXT.into()).unwrap();
        let names = ["insert_resource", "old", "nobody", "phys_base", ""];
        let scanned = symvers.find(&names);
        assert_eq!(scanned.len(), 3);
        assert_eq!(
            scanned["insert_resource"],
            Export { crc: 0x84b4_5156, provider: "vmlinux", gpl_only: true, namespace: "CXL" }
        );
        assert_eq!((scanned["old"].crc, scanned["old"].provider), (0xfa00_0001, "drivers/net/mdio"));
        assert_eq!(symvers.find(&names), scanned, "what was asked for is kept");
        let searched = Symvers::new(Path::new("/x"), TEXT.into()).unwrap();
        searched.scans.set(INDEX_AFTER);
        assert_eq!(searched.find(&names), scanned);
        // Short names disable the comparison of a line's first bytes.
        assert_eq!(found("phys_base"), ["phys_base"]);
        assert_eq!(found("old"), ["old"]);
    }

    /// The symbols that a table without earlier lookups finds for this name.
    fn found(name: &str) -> Vec<String> {
        let symvers = Symvers::new(Path::new("/x"), TEXT.into()).unwrap();
        symvers.find(&[name, "nobody"]).into_keys().map(String::from).collect()
    }

    #[test]
    fn an_invalid_table_is_refused() {
        for bad in [&b""[..], b"\n", b"<html>", b"0xzz\tx\tvmlinux\n", &[0x1f, 0x8b, 8, 0]] {
            assert!(Symvers::new(Path::new("/x"), bad.to_vec()).is_none());
        }
    }
}
