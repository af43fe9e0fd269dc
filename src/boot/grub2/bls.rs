//! Boot Loader Specification entries as GRUB reads and sorts them (rhboot/grub2's `grub-core/commands/blscfg.c`).
//!
//! The order is by file name: split at the last two `-` into name, version and release, each compared as rpm compares versions
//! with `~` before the end and `+` after it but before all else. EL8's GRUB sorts by the `version` key first if every entry has
//! one, and knows no `+`.

use crate::host::{files, Host};
use std::cmp::{Ordering, Reverse};
use std::path::Path;

/// GRUB reads no entry larger than this (rhel-8's blscfg.c); real ones are below 1 KiB.
const MAX_ENTRY: u64 = 1 << 20;
/// More entries than any machine has, and as many as are read.
const MAX_ENTRIES: usize = 20_000;

/// One file: its id and its keys in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snippet {
    /// The file name without `.conf`.
    pub id: String,
    /// Keys and values.
    pub keys: Vec<(String, String)>,
}

impl Snippet {
    /// The first value of a key.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.keys.iter().find(|(k, _)| k == key).map(|(_, v)| v.as_str())
    }

    /// All values of a key.
    pub fn all<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a str> {
        self.keys.iter().filter(move |(k, _)| k == key).map(|(_, v)| v.as_str())
    }
}

/// The keys of a file as blscfg.c's `read_entry` finds them. It stops at the first line that has no value, an empty one too.
pub fn parse(id: &str, text: &str) -> Snippet {
    let mut keys = Vec::new();
    for line in text.split('\n') {
        let line = line.strip_suffix('\r').unwrap_or(line).trim_start_matches([' ', '\t']);
        if line.starts_with('#') {
            continue;
        }
        let Some(at) = line.find(' ').or_else(|| line.find('\t')).filter(|at| at + 1 < line.len()) else { break };
        keys.push((line[..at].to_owned(), line[at + 1..].trim_start_matches([' ', '\t']).to_owned()));
    }
    Snippet { id: id.to_owned(), keys }
}

/// All entries of a directory, unsorted, and what could not be read, as message and remedy.
pub fn read(host: &Host, directory: &Path) -> (Vec<Snippet>, Vec<(String, String)>) {
    let mut problems = Vec::new();
    let names = match host.read_dir(directory) {
        Ok(names) => names,
        Err(e) => {
            let remedy = format!("make {} a readable directory", directory.display());
            problems.push((format!("reading {}: {e}", directory.display()), remedy));
            return (Vec::new(), problems);
        }
    };
    let mut snippets = Vec::new();
    for name in names {
        let path = directory.join(&name);
        let Some(id) = name.to_str().map(|n| n.strip_suffix(".conf").filter(|i| !i.is_empty() && !n.starts_with('.')))
        else {
            problems.push((format!("{} is a name that is no UTF-8", path.display()), "rename or remove it".into()));
            continue;
        };
        let Some(id) = id else { continue };
        if snippets.len() >= MAX_ENTRIES {
            problems.push((
                format!("{} holds more than {MAX_ENTRIES} entries", directory.display()),
                "remove old entries".into(),
            ));
            break;
        }
        // GRUB passes over a directory and a link that leads nowhere.
        if !host.is_file(&path) {
            continue;
        }
        match files::read_bounded(&host.path(&path), MAX_ENTRY) {
            Ok(bytes) => snippets.push(parse(id, &String::from_utf8_lossy(&bytes))),
            Err(e) => {
                problems.push((format!("reading {}: {e}", path.display()), format!("mend or remove {}", path.display())))
            }
        }
    }
    (snippets, problems)
}

/// A sign of a version; its order is blscfg.c's `vercmp`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Sign {
    Tilde,
    End,
    Plus,
    Letters(Vec<u8>),
    /// Digits without leading zeros: the longer run is the larger number.
    Digits(usize, Vec<u8>),
}

fn signs(text: &str, plus: bool) -> Vec<Sign> {
    let bytes = text.as_bytes();
    let mut signs = Vec::new();
    let mut at = 0;
    let run = |from: usize, kind: fn(&u8) -> bool| bytes[from..].iter().take_while(|b| kind(b)).count();
    while at < bytes.len() {
        let b = bytes[at];
        if b.is_ascii_digit() {
            let n = run(at, u8::is_ascii_digit);
            let zeros = run(at, |b| *b == b'0').min(n);
            signs.push(Sign::Digits(n - zeros, bytes[at + zeros..at + n].to_vec()));
            at += n;
        } else if b.is_ascii_alphabetic() {
            let n = run(at, u8::is_ascii_alphabetic);
            signs.push(Sign::Letters(bytes[at..at + n].to_vec()));
            at += n;
        } else {
            match b {
                b'~' => signs.push(Sign::Tilde),
                b'+' if plus => signs.push(Sign::Plus),
                _ => {}
            }
            at += 1;
        }
    }
    signs.push(Sign::End);
    signs
}

/// What a file name sorts by: name, version and release.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key([Vec<Sign>; 3]);

impl Key {
    /// The key of an id, split at its last two `-`.
    pub fn of_id(id: &str, plus: bool) -> Key {
        let (name, version, release) = match id.rsplit_once('-') {
            None => (id, "", ""),
            Some((head, last)) => match head.rsplit_once('-') {
                None => (head, last, ""),
                Some((name, version)) => (name, version, last),
            },
        };
        Key([signs(name, plus), signs(version, plus), signs(release, plus)])
    }

    /// The key of a `version` value, split at its last `-`.
    fn of_version(version: &str) -> Key {
        let (version, release) = version.rsplit_once('-').unwrap_or((version, ""));
        Key([Vec::new(), signs(version, false), signs(release, false)])
    }
}

/// The order of two ids in GRUB's menu: the one that comes first is `Less`.
pub fn compare(a: &str, b: &str, plus: bool) -> Ordering {
    Key::of_id(b, plus).cmp(&Key::of_id(a, plus))
}

/// Entries in the order of GRUB's menu, and two that sort alike, if there are any. `by_version` is EL8's rule.
pub fn sort(snippets: Vec<Snippet>, by_version: bool) -> (Vec<Snippet>, Option<(String, String)>) {
    let versions = by_version && snippets.iter().all(|s| s.get("version").is_some());
    let mut keyed: Vec<((Key, Key), Snippet)> = snippets
        .into_iter()
        .map(|s| {
            let version = if versions { s.get("version").unwrap_or_default() } else { "" };
            ((Key::of_version(version), Key::of_id(&s.id, !by_version)), s)
        })
        .collect();
    keyed.sort_by(|a, b| Reverse(&a.0).cmp(&Reverse(&b.0)));
    let tie = keyed.windows(2).find(|w| w[0].0 == w[1].0).map(|w| (w[0].1.id.clone(), w[1].1.id.clone()));
    (keyed.into_iter().map(|(_, s)| s).collect(), tie)
}

#[cfg(test)]
mod tests;
