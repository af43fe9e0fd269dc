//! The GRUB environment block (GRUB's `grub-core/lib/envblk.c`, `grub-core/commands/loadenv.c`): 1024 bytes, a signature line, `name=value`
//! lines with `\` and newline escaped by `\`, comment lines, and `#` to the end.
//!
//! Other tools write it in two steps: grub-editenv (`util/grub-editenv.c`) truncates the file and then writes it. A reader between the two
//! sees a block that nobody intended, so a block that is not whole and was written just now is read again.

pub mod torn;

use crate::host::files;
use std::fmt;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

/// The first bytes of every block.
pub const SIGNATURE: &[u8] = b"# GRUB Environment Block\n";
/// The program that edits this file by hand. Debian and GNU have their own name for it, and keep the file in /boot/grub.
pub fn tool(path: &Path) -> &'static str {
    if path.starts_with("/boot/grub") {
        "grub-editenv"
    } else {
        "grub2-editenv"
    }
}

/// The size that `grub-editenv create` makes and GRUB preserves.
pub const SIZE: usize = 1024;
/// More than any block that GRUB makes; a larger file is not read.
pub const MAX: u64 = 64 << 10;
/// How long a block that is being written is reread; grub-editenv needs less than a millisecond.
const SETTLING: Duration = Duration::from_millis(100);
const PAUSE: Duration = Duration::from_millis(2);
/// A file older than this is not being written. vfat stores times to two seconds.
const YOUNG: Duration = Duration::from_secs(3);

/// Why a block cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bad {
    /// The signature is missing: GRUB says "invalid environment block".
    Signature,
    /// Not [`SIZE`] bytes.
    Size(usize),
    /// The padding does not follow a newline, or a line does not end: GRUB calls that "broken".
    Broken,
    /// The new value does not fit: "environment block too small".
    Full,
}

impl fmt::Display for Bad {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Bad::Signature => f.write_str("it does not start with \"# GRUB Environment Block\""),
            Bad::Size(n) => write!(f, "it is {n} bytes long and not {SIZE}"),
            Bad::Broken => f.write_str("it holds a line that does not end"),
            Bad::Full => f.write_str("it is full"),
        }
    }
}

impl std::error::Error for Bad {}

/// Reads an environment file. If another tool is writing it, it is read again for a moment; the result is then either whole, or a block
/// that stays damaged (see [`is_whole`]).
///
/// # Errors
/// If it cannot be read, or keeps changing.
pub fn read(path: &Path) -> io::Result<Vec<u8>> {
    let start = Instant::now();
    loop {
        let block = files::read_bounded(path, MAX)?;
        let steady = files::read_bounded(path, MAX)? == block;
        let late = start.elapsed() >= SETTLING || !is_young(path);
        match (steady, is_whole(&block), late) {
            (true, true, _) | (true, false, true) => return Ok(block),
            (false, _, true) => return Err(io::Error::new(io::ErrorKind::ResourceBusy, "it changes while it is read")),
            (_, _, false) => std::thread::sleep(PAUSE),
        }
    }
}

/// Whether GRUB made the block or could write it: its signature, its size, and every line ends.
pub fn is_whole(block: &[u8]) -> bool {
    block.len() == SIZE && variables(block).is_ok_and(|(_, whole)| whole)
}

/// Whether the file exists and is not empty (`[ -s FILE ]`). If it was truncated just now, this waits for content.
///
/// # Errors
/// If it stays empty: it is unknown whether another tool is still writing it.
pub fn has_content(path: &Path) -> Result<bool, String> {
    let start = Instant::now();
    loop {
        match path.metadata() {
            Ok(meta) if meta.is_file() && meta.len() == 0 && is_young(path) => {}
            Ok(meta) => return Ok(meta.is_file() && meta.len() > 0),
            Err(_) => return Ok(false),
        }
        if start.elapsed() >= SETTLING {
            return Err("it was made empty just now".into());
        }
        std::thread::sleep(PAUSE);
    }
}

/// Whether it was written so recently that another tool may still be writing it.
fn is_young(path: &Path) -> bool {
    let written = path.metadata().and_then(|m| m.modified());
    written.is_ok_and(|at| SystemTime::now().duration_since(at).unwrap_or_else(|ahead| ahead.duration()) < YOUNG)
}

/// The variables of a block in order, as GRUB's `grub_envblk_iterate` sees them, and whether every line was well-formed to the end.
///
/// # Errors
/// [`Bad::Signature`].
pub fn variables(block: &[u8]) -> Result<(Vec<(String, String)>, bool), Bad> {
    if !block.starts_with(SIGNATURE) || block.len() <= SIGNATURE.len() {
        return Err(Bad::Signature);
    }
    let mut found = Vec::new();
    let mut at = SIGNATURE.len();
    while at < block.len() {
        if block[at] != b'#' {
            let Some(equals) = block[at..].iter().position(|&b| b == b'=') else {
                return Ok((found, block[at..].iter().all(|&b| b == b'\n')));
            };
            let start = at + equals + 1;
            let end = line_end(block, start);
            if end >= block.len() {
                return Ok((found, false));
            }
            let name = String::from_utf8_lossy(&block[at..at + equals]).into_owned();
            found.push((name, String::from_utf8_lossy(&unescape(&block[start..end])).into_owned()));
            at = end;
        }
        at = line_end(block, at) + 1;
    }
    Ok((found, true))
}

/// The index of the newline that ends the line, where `\` escapes the byte after it; past the end if there is none.
fn line_end(block: &[u8], mut at: usize) -> usize {
    while at < block.len() {
        match block[at] {
            b'\\' => at += 2,
            b'\n' => break,
            _ => at += 1,
        }
    }
    at
}

fn unescape(value: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(value.len());
    let mut bytes = value.iter();
    while let Some(&b) = bytes.next() {
        let b = if b == b'\\' { bytes.next().copied().unwrap_or(b) } else { b };
        plain.push(b);
    }
    plain
}

fn escape(value: &str) -> Vec<u8> {
    let mut escaped = Vec::with_capacity(value.len());
    for b in value.bytes() {
        if b == b'\\' || b == b'\n' {
            escaped.push(b'\\');
        }
        escaped.push(b);
    }
    escaped
}

/// The value of a variable. If it occurs more than once, the last one counts, as for `load_env`.
pub fn get(block: &[u8], name: &str) -> Option<String> {
    variables(block).ok()?.0.into_iter().rev().find(|(n, _)| n == name).map(|(_, v)| v)
}

/// The variables that differ between two blocks, with their values in `other`.
pub fn differing(block: &[u8], other: &[u8]) -> Vec<(String, Option<String>)> {
    let names = [block, other].into_iter().filter_map(|b| variables(b).ok()).flat_map(|(all, _)| all);
    let mut differ: Vec<_> = names.map(|(name, _)| (name.clone(), get(other, &name))).collect();
    differ.retain(|(name, value)| get(block, name) != *value);
    differ.sort();
    differ.dedup();
    differ
}

/// A block of the same size with `changes` applied: a value sets a variable (in place, else at the end), none removes it.
///
/// # Errors
/// If the block is not exactly [`SIZE`] bytes with a signature and whole lines, or has no room.
pub fn edit(block: &[u8], changes: &[(&str, Option<&str>)]) -> Result<Vec<u8>, Bad> {
    let (_, whole) = variables(block)?;
    if block.len() != SIZE {
        return Err(Bad::Size(block.len()));
    }
    if !whole {
        return Err(Bad::Broken);
    }
    let used = block.iter().rposition(|&b| b != b'#').map_or(0, |i| i + 1);
    if block[used - 1] != b'\n' {
        return Err(Bad::Broken);
    }
    let mut text = block[SIGNATURE.len()..used].to_vec();
    for (name, value) in changes {
        text = replace(&text, name, *value);
    }
    let mut edited = SIGNATURE.to_vec();
    edited.extend(text);
    if edited.len() > SIZE {
        return Err(Bad::Full);
    }
    edited.resize(SIZE, b'#');
    Ok(edited)
}

fn replace(text: &[u8], name: &str, value: Option<&str>) -> Vec<u8> {
    let line = value.map(|v| [name.as_bytes(), b"=", &escape(v), b"\n"].concat());
    let mut out = Vec::new();
    let mut done = false;
    let mut at = 0;
    while at < text.len() {
        let end = (line_end(text, at) + 1).min(text.len());
        let this = &text[at..end];
        if this.strip_prefix(name.as_bytes()).is_some_and(|r| r.first() == Some(&b'=')) {
            // If a variable has several lines, GRUB uses the last; one line is enough.
            if !done {
                out.extend(line.iter().flatten());
            }
            done = true;
        } else {
            out.extend(this);
        }
        at = end;
    }
    if !done {
        out.extend(line.iter().flatten());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn block(text: &str) -> Vec<u8> {
        let mut b = SIGNATURE.to_vec();
        b.extend(text.as_bytes());
        b.resize(SIZE, b'#');
        b
    }

    #[test]
    fn values_are_read_as_grub_reads_them() {
        let b = block("# WARNING: Do not edit this file by tools other than grub-editenv!!!\nsaved_entry=a\\\\b\\\nc\nempty=\nx=1\nx=2\n");
        let (all, whole) = variables(&b).unwrap();
        assert!(whole);
        assert_eq!(all[0], ("saved_entry".into(), "a\\b\nc".into()));
        assert_eq!(all[1], ("empty".into(), String::new()));
        assert_eq!(get(&b, "x").as_deref(), Some("2"));
    }

    #[test]
    fn an_edit_preserves_size_and_all_other_lines() {
        let b = block("# c\nsaved_entry=old\nkernelopts=root=/dev/sda1 ro\nnext_entry=n\n");
        let e = edit(&b, &[("saved_entry", Some("a new and longer one")), ("next_entry", None), ("added", Some("x\\y"))])
            .unwrap();
        assert_eq!(e.len(), SIZE);
        let text = String::from_utf8(e).unwrap();
        assert!(text.starts_with("# GRUB Environment Block\n# c\nsaved_entry=a new and longer one\nkernelopts=root=/dev/sda1 ro\nadded=x\\\\y\n###"));
    }

    #[test]
    fn a_block_that_grub_would_not_write_is_not_written() {
        assert_eq!(edit(b"", &[]), Err(Bad::Signature));
        assert_eq!(edit(&block("")[..1023], &[]), Err(Bad::Size(1023)));
        assert_eq!(edit(&block("saved_entry=x"), &[]), Err(Bad::Broken));
        assert_eq!(edit(&block(""), &[("a", Some(&"x".repeat(1000)))]), Err(Bad::Full));
        let fits = "x".repeat(SIZE - SIGNATURE.len() - 3);
        assert_eq!(edit(&block(""), &[("a", Some(&fits))]).unwrap().len(), SIZE);
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(tail in proptest::collection::vec(any::<u8>(), 0..1200)) {
            let _ = variables(&tail);
            let mut b = SIGNATURE.to_vec();
            b.extend(&tail);
            b.truncate(SIZE);
            let _ = variables(&b);
            let _ = edit(&b, &[("saved_entry", Some("x"))]);
        }

        #[test]
        fn what_is_set_is_read_back(value in "[ -~\\n\\\\]{0,200}", other in "[a-z]{1,20}") {
            let b = edit(&block("saved_entry=old\nkeep=this\n"), &[("saved_entry", Some(&value)), ("zz", Some(&other))]).unwrap();
            prop_assert_eq!(get(&b, "saved_entry"), Some(value));
            prop_assert_eq!(get(&b, "keep"), Some("this".to_owned()));
            let gone = edit(&b, &[("saved_entry", None)]).unwrap();
            prop_assert_eq!(get(&gone, "saved_entry"), None);
            prop_assert_eq!(get(&gone, "zz"), Some(other));
        }
    }
}
