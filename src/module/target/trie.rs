//! depmod's binary tables (`modules.dep.bin`, `.alias.bin`, `.symbols.bin`, `.builtin.bin`, `.builtin.alias.bin`), which modprobe reads: a
//! radix tree, described in kmod's `libkmod/libkmod-index.c`. All numbers are big-endian.
//!
//! header: magic, version, root. The upper four bits of a node's reference are flags for the parts of the node: a prefix (NUL-terminated),
//! children (first and last character, then a reference for each character between them; zero: none), values (count, then priority and
//! NUL-terminated text each).

use crate::module::fits;
use std::fmt;

const MAGIC: u32 = 0xB007_F457;
/// The major half of the version; the minor half does not matter.
const VERSION: u32 = 0x0002;
const PREFIX: u32 = 0x8000_0000;
const VALUES: u32 = 0x4000_0000;
const CHILDREN: u32 = 0x2000_0000;
const OFFSET: u32 = 0x0FFF_FFFF;
/// The largest key: an alias of a device tree node has some 200 bytes.
const MAX_KEY: usize = 4096;
/// The limit for a search: the bytes of the nodes' keys, and [`NODE`] for each. All of Debian's aliases, 36,000 nodes, take 3.4 MB; a
/// cyclic tree would never end.
const MAX_LOOKED: usize = 64 << 20;
const NODE: usize = 64;
/// Values of one key, or of all matching keys: eight in a real table.
const MAX_VALUES: usize = 10_000;

/// A table, as it was read.
pub(in crate::module) struct Trie(Vec<u8>);

/// The bytes are not a valid table.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::module) struct Damaged;

impl fmt::Display for Damaged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("it is damaged")
    }
}

struct Node<'t> {
    prefix: &'t [u8],
    first: u8,
    children: &'t [u8],
    /// Priority and text of each value, undecoded.
    values: &'t [u8],
    count: u32,
}

type Result<T> = std::result::Result<T, Damaged>;

impl Trie {
    /// Checks the header.
    ///
    /// # Errors
    /// If it is not the header of a table.
    pub(in crate::module) fn new(bytes: Vec<u8>) -> Result<Trie> {
        let trie = Trie(bytes);
        let good = trie.word(0)? == MAGIC && trie.word(4)? >> 16 == VERSION;
        trie.word(8)?;
        if good {
            Ok(trie)
        } else {
            Err(Damaged)
        }
    }

    /// The values of a key.
    ///
    /// # Errors
    /// If the table is damaged.
    pub(in crate::module) fn exact(&self, key: &str) -> Result<Vec<&str>> {
        let mut rest = key.as_bytes();
        let mut at = self.word(8)?;
        // Each step but the last consumes a character of the key.
        loop {
            let node = self.node(at)?;
            let Some(after) = rest.strip_prefix(node.prefix) else { return Ok(Vec::new()) };
            let Some((&c, after)) = after.split_first() else { return self.values(&node) };
            match child(&node, c) {
                Some(next) => (at, rest) = (next, after),
                None => return Ok(Vec::new()),
            }
        }
    }

    /// The values of all keys that match as patterns, the highest priority first.
    ///
    /// # Errors
    /// If the table is damaged.
    pub(in crate::module) fn matching(&self, text: &str) -> Result<Vec<&str>> {
        let mut found: Vec<(u32, &str)> = Vec::new();
        let mut room = MAX_LOOKED;
        // The nodes still to visit: the node, the number of key bytes before its own character, that character, and whether those bytes are
        // free of wildcards. There is only one copy of the key: each visit shares its beginning with the previous one.
        let mut todo: Vec<(u32, usize, Option<u8>, bool)> = vec![(self.word(8)?, 0, None, true)];
        let mut key: Vec<u8> = Vec::new();
        while let Some((at, before, own, plain)) = todo.pop() {
            let node = self.node(at)?;
            key.truncate(before);
            key.extend(own);
            key.extend_from_slice(node.prefix);
            room = room.checked_sub(NODE + key.len()).filter(|_| key.len() <= MAX_KEY).ok_or(Damaged)?;
            let plain = plain && !key.iter().any(|c| b"*?[\\".contains(c));
            if plain && !text.as_bytes().starts_with(&key) {
                continue;
            }
            if node.count > 0 && std::str::from_utf8(&key).is_ok_and(|pattern| fits(pattern, text)) {
                self.each(&node, MAX_VALUES - found.len(), |priority, value| found.push((priority, value)))?;
            }
            for (i, reference) in node.children.chunks_exact(4).enumerate() {
                let reference = u32::from_be_bytes([reference[0], reference[1], reference[2], reference[3]]);
                let c = node.first.wrapping_add(i as u8);
                let dead_end = plain && !b"*?[\\".contains(&c) && text.as_bytes().get(key.len()) != Some(&c);
                if reference & OFFSET != 0 && !dead_end {
                    todo.push((reference, key.len(), Some(c), plain));
                }
            }
        }
        found.sort_by_key(|(priority, _)| *priority);
        Ok(found.into_iter().map(|(_, value)| value).collect())
    }

    fn node(&self, reference: u32) -> Result<Node<'_>> {
        let mut at = (reference & OFFSET) as usize;
        let mut node = Node { prefix: &[], first: 0, children: &[], values: &[], count: 0 };
        if reference & PREFIX != 0 {
            node.prefix = self.text(at)?;
            at += node.prefix.len() + 1;
        }
        if reference & CHILDREN != 0 {
            let [first, last] = *self.0.get(at..at + 2).ok_or(Damaged)? else { return Err(Damaged) };
            let count = usize::from(last.checked_sub(first).ok_or(Damaged)?) + 1;
            node.first = first;
            node.children = self.0.get(at + 2..at + 2 + 4 * count).ok_or(Damaged)?;
            at += 2 + 4 * count;
        }
        if reference & VALUES != 0 {
            node.count = self.word(at)?;
            node.values = self.0.get(at + 4..).ok_or(Damaged)?;
        }
        Ok(node)
    }

    fn values<'t>(&'t self, node: &Node<'t>) -> Result<Vec<&'t str>> {
        let mut values = Vec::new();
        self.each(node, MAX_VALUES, |_, value| values.push(value))?;
        Ok(values)
    }

    /// Passes the values to `take`, but not more than `most`.
    fn each<'t>(&'t self, node: &Node<'t>, most: usize, mut take: impl FnMut(u32, &'t str)) -> Result<()> {
        if node.count as usize > most {
            return Err(Damaged);
        }
        let mut rest = node.values;
        for _ in 0..node.count {
            let (priority, after) = rest.split_first_chunk::<4>().ok_or(Damaged)?;
            let end = after.iter().position(|&b| b == 0).ok_or(Damaged)?;
            take(u32::from_be_bytes(*priority), std::str::from_utf8(&after[..end]).map_err(|_| Damaged)?);
            rest = &after[end + 1..];
        }
        Ok(())
    }

    fn text(&self, at: usize) -> Result<&[u8]> {
        let rest = self.0.get(at..).ok_or(Damaged)?;
        Ok(&rest[..rest.iter().take(MAX_KEY).position(|&b| b == 0).ok_or(Damaged)?])
    }

    fn word(&self, at: usize) -> Result<u32> {
        let bytes = self.0.get(at..at.saturating_add(4)).ok_or(Damaged)?;
        bytes.try_into().map(u32::from_be_bytes).map_err(|_| Damaged)
    }
}

fn child(node: &Node<'_>, c: u8) -> Option<u32> {
    let at = usize::from(c.checked_sub(node.first)?) * 4;
    let reference = u32::from_be_bytes(node.children.get(at..at + 4)?.try_into().ok()?);
    (reference & OFFSET != 0).then_some(reference)
}

#[cfg(test)]
pub(in crate::module) mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    /// Writes a table like depmod, one character per level, without prefixes but the root's.
    pub(in crate::module) fn write(entries: &[(&str, &str)]) -> Vec<u8> {
        let mut keys: BTreeMap<&[u8], Vec<(u32, &str)>> = BTreeMap::new();
        for (priority, (key, value)) in entries.iter().enumerate() {
            keys.entry(key.as_bytes()).or_default().push((priority as u32, value));
        }
        let mut out = [MAGIC.to_be_bytes(), 0x0002_0001u32.to_be_bytes(), [0; 4]].concat();
        let keys: Vec<_> = keys.into_iter().collect();
        let root = node(&keys, 0, &mut out);
        out[8..12].copy_from_slice(&root.to_be_bytes());
        out
    }

    type Keyed<'k> = (&'k [u8], Vec<(u32, &'k str)>);

    fn node(keys: &[Keyed<'_>], depth: usize, out: &mut Vec<u8>) -> u32 {
        let mut children: BTreeMap<u8, u32> = BTreeMap::new();
        let mut start = 0;
        while start < keys.len() {
            let Some(&c) = keys[start].0.get(depth) else {
                start += 1;
                continue;
            };
            let end = start + keys[start..].iter().take_while(|k| k.0.get(depth) == Some(&c)).count();
            children.insert(c, node(&keys[start..end], depth + 1, out));
            start = end;
        }
        let mut reference = out.len() as u32;
        if let (Some((&first, _)), Some((&last, _))) = (children.first_key_value(), children.last_key_value()) {
            reference |= CHILDREN;
            out.extend([first, last]);
            (first..=last).for_each(|c| out.extend(children.get(&c).copied().unwrap_or(0).to_be_bytes()));
        }
        if let Some((_, values)) = keys.iter().find(|(key, _)| key.len() == depth) {
            reference |= VALUES;
            out.extend((values.len() as u32).to_be_bytes());
            for (priority, value) in values {
                out.extend(priority.to_be_bytes());
                out.extend(value.as_bytes());
                out.push(0);
            }
        }
        reference
    }

    #[test]
    fn keys_and_patterns_are_found() {
        let entries = [
            ("pci:v8086d10EDsv*", "ixgbevf"),
            ("pci:v8086*", "other"),
            ("pci:v8086d10EDsv*", "second"),
            ("ixgbevf", "a.ko:"),
        ];
        let trie = Trie::new(write(&entries)).unwrap();
        assert_eq!(trie.exact("ixgbevf").unwrap(), ["a.ko:"]);
        assert_eq!(trie.exact("pci:v8086d10EDsv*").unwrap(), ["ixgbevf", "second"]);
        assert_eq!(trie.matching("pci:v8086d10EDsv0").unwrap(), ["ixgbevf", "other", "second"]);
        assert!(trie.exact("ixgbe").unwrap().is_empty() && trie.matching("pci:v1").unwrap().is_empty());
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic_or_run_for_ever(mut bytes in proptest::collection::vec(any::<u8>(), 0..400), at in 0..200usize) {
            let _ = Trie::new(bytes.clone()).map(|t| (t.exact("a").is_ok(), t.matching("a").is_ok()));
            let mut real = write(&[("abc*", "x"), ("abd", "y"), ("b?", "z")]);
            let at = at % real.len();
            bytes.truncate(4);
            for (b, r) in bytes.iter().zip(&mut real[at..]) {
                *r = *b;
            }
            let _ = Trie::new(real).map(|t| (t.exact("abd").is_ok(), t.matching("abcd").is_ok()));
        }
    }
}
