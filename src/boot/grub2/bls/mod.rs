//! Boot Loader Specification entries as GRUB reads and sorts them (rhboot/grub2's `grub-core/commands/blscfg.c`).
//!
//! The order is by file name: split at the last two `-` into name, version and release, each compared as rpm compares versions, where `~`
//! sorts before the end and `+` after the end but before everything else. EL8's GRUB sorts by the `version` key first if every entry has
//! one, and gives `+` no meaning. For other implementations see [`dialect`] and [`gnu`].

pub mod dialect;
pub mod gnu;

use super::ITEM;
use crate::host::{files, Host};
use dialect::{Dialect, Order};
use std::cmp::{Ordering, Reverse};
use std::path::Path;

/// GRUB reads no entry larger than this (rhel-8's blscfg.c); real ones are below 1 KiB.
const MAX_ENTRY: u64 = 1 << 20;
/// The number of entries that are read; no machine has more.
const MAX_ENTRIES: usize = 20_000;
/// The memory for all entries of one directory: 20,000 real ones of 1 KiB and ten lines take 33 MB.
const MAX_TOTAL: usize = 64 << 20;

/// One file: its id and its keys in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snippet {
    /// The file name without `.conf`.
    pub id: String,
    /// Keys and values.
    pub keys: Vec<(String, String)>,
    /// The tries left, if the implementation counts them.
    pub tries: Option<u32>,
}

impl Snippet {
    /// The first value of a key.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.keys.iter().find(|(k, _)| k == key).map(|(_, v)| v.as_str())
    }

    /// The memory that it takes.
    pub fn size(&self) -> usize {
        let keys = self.keys.iter().map(|(key, value)| key.len() + value.len() + ITEM);
        self.id.len() + ITEM + keys.sum::<usize>()
    }

    /// All values of a key.
    pub fn all<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a str> {
        self.keys.iter().filter(move |(k, _)| k == key).map(|(_, v)| v.as_str())
    }
}

/// The keys of a file as blscfg.c's `read_entry` finds them. It stops at the first line without a value, also at an empty line.
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
    Snippet { id: id.to_owned(), keys, tries: None }
}

/// All entries of a directory, unsorted; and the read errors, as message and remedy.
pub fn read(host: &Host, directory: &Path, dialect: Dialect) -> (Vec<Snippet>, Vec<(String, String)>) {
    let mut problems = Vec::new();
    let names = match host.read_dir(directory) {
        Ok(names) => names,
        Err(e) => {
            let remedy = format!("make {} a readable directory", directory.display());
            problems.push((format!("reading {}: {e}", directory.display()), remedy));
            return (Vec::new(), problems);
        }
    };
    let (mut snippets, mut room) = (Vec::new(), MAX_TOTAL);
    // GNU's implementation reads files of any name.
    let listed = |name: &str| (!name.is_empty() && !name.starts_with('.')) || dialect == Dialect::GNU;
    for name in names {
        let path = directory.join(&name);
        let Some(id) = name.to_str().map(|n| n.strip_suffix(".conf").filter(|id| listed(id))) else {
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
        // GRUB skips directories and dangling links.
        if !host.is_file(&path) {
            continue;
        }
        match read_one(host, &path, id, dialect) {
            Ok(snippet) => match room.checked_sub(snippet.size()) {
                Some(left) => {
                    room = left;
                    snippets.push(snippet);
                }
                None => {
                    problems.push((
                        format!("the entries in {} take more than {} MiB", directory.display(), MAX_TOTAL >> 20),
                        "remove what is no boot entry from there".into(),
                    ));
                    break;
                }
            },
            Err(problem) => problems.push(problem),
        }
    }
    (snippets, problems)
}

/// The entry in a file.
///
/// # Errors
/// If the file cannot be read, as message and remedy.
pub fn read_one(host: &Host, path: &Path, id: &str, dialect: Dialect) -> Result<Snippet, (String, String)> {
    match files::read_bounded(&host.path(path), MAX_ENTRY) {
        Ok(bytes) => {
            let parse = if dialect.order == Order::File { gnu::parse } else { parse };
            let snippet = parse(id, &String::from_utf8_lossy(&bytes));
            Ok(Snippet { tries: dialect.tries(id), ..snippet })
        }
        Err(e) => Err((format!("reading {}: {e}", path.display()), format!("mend or remove {}", path.display()))),
    }
}

/// A character or a number of a version; their order is that of blscfg.c's `vercmp`.
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

/// The sort key of a file name: name, version and release.
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

/// The sort key of rhboot's implementation: entries without a try left come last, the others newest first.
type Place = (bool, Reverse<(Key, Key)>);

/// Entries in the order of GRUB's menu, and two whose sort keys are equal, if there are any.
pub fn sort(mut snippets: Vec<Snippet>, dialect: Dialect) -> (Vec<Snippet>, Option<(String, String)>) {
    let ran_out = |s: &Snippet| s.tries == Some(0);
    let pair = |a: &Snippet, b: &Snippet| (a.id.clone(), b.id.clone());
    if dialect.order == Order::File {
        snippets.sort_by(|a, b| ran_out(a).cmp(&ran_out(b)).then_with(|| gnu::compare(&b.id, &a.id)));
        let tie = snippets.windows(2).find(|w| gnu::compare(&w[0].id, &w[1].id).is_eq());
        let tie = tie.map(|w| pair(&w[0], &w[1]));
        return (snippets, tie);
    }
    let by_version = dialect.order == Order::Version;
    let versions = by_version && snippets.iter().all(|s| s.get("version").is_some());
    let mut keyed: Vec<(Place, Snippet)> = snippets
        .into_iter()
        .map(|s| {
            let version = if versions { s.get("version").unwrap_or_default() } else { "" };
            // The counter is cut off, whether or not it is a number.
            let name = if dialect.counted { s.id.rsplit_once('+').map_or(s.id.as_str(), |(name, _)| name) } else { &s.id };
            ((ran_out(&s), Reverse((Key::of_version(version), Key::of_id(name, !by_version)))), s)
        })
        .collect();
    keyed.sort_by(|a, b| a.0.cmp(&b.0));
    let tie = keyed.windows(2).find(|w| w[0].0 == w[1].0).map(|w| pair(&w[0].1, &w[1].1));
    (keyed.into_iter().map(|(_, s)| s).collect(), tie)
}

#[cfg(test)]
mod tests;
