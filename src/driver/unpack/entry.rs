//! Turns raw tar headers into entries: names, pax records and GNU long names. Anything ambiguous is refused.

use super::Limits;
use anyhow::{bail, ensure, Context, Result};
use std::collections::BTreeMap;
use std::io::Read;
use tar::EntryType;

/// The longest path component that Linux supports (NAME_MAX).
const MAX_COMPONENT: usize = 255;
/// How much of a hostile name is shown.
const SHOWN: usize = 120;
/// The size of a tar block.
const BLOCK: u64 = 512;
/// Pax records without effect here: times, owners, comments (git puts its commit there).
const IGNORED: [&str; 8] = ["mtime", "atime", "ctime", "uid", "gid", "uname", "gname", "comment"];
/// Prefixes of such records: attributes, ACLs and flags of files, which are not applied.
const IGNORED_PREFIXES: [&str; 3] = ["SCHILY.", "LIBARCHIVE.", "RHT."];

/// What an entry creates.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Directory,
    File { executable: bool, size: u64 },
    Symlink { target: String },
    Hardlink { target: Vec<String> },
}

/// An entry whose path is relative, plain and in UTF-8.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ArchiveEntry {
    pub(super) path: Vec<String>,
    pub(super) kind: Kind,
}

impl ArchiveEntry {
    /// The path for a message.
    pub(super) fn shown(&self) -> String {
        shown(self.path.join("/").as_bytes())
    }
}

/// Names for the next entry, from the headers before it.
#[derive(Default)]
struct Pending {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    pax: bool,
}

/// Combines headers into entries.
pub(super) struct Reader<'a> {
    limits: &'a Limits,
    pending: Pending,
    entries: u64,
    records: usize,
    read: u64,
}

impl<'a> Reader<'a> {
    pub(super) fn new(limits: &'a Limits) -> Self {
        Reader { limits, pending: Pending::default(), entries: 0, records: 0, read: 0 }
    }

    /// The entry of a header; none if the header only describes the next one.
    pub(super) fn next(&mut self, raw: &mut tar::Entry<'_, impl Read>) -> Result<Option<ArchiveEntry>> {
        self.entries += 1;
        ensure!(self.entries <= self.limits.entries, "it holds more than {} entries", self.limits.entries);
        let header = raw.header().clone();
        let name = header.path_bytes().into_owned();
        // Sizes above 8 GiB and negative ones are written in binary. No honest file here needs that.
        ensure!(header.as_old().size[0] & 0x80 == 0, "{}: its size is not in octal", shown(&name));
        let size = header.entry_size().with_context(|| shown(&name))?;
        let kind = header.entry_type();
        let metadata =
            matches!(kind, EntryType::GNULongName | EntryType::GNULongLink | EntryType::XHeader | EntryType::XGlobalHeader);
        let most = if metadata { self.limits.metadata } else { self.limits.file };
        ensure!(size <= most, "{}: {size} bytes are more than {most}", shown(&name));
        self.read += BLOCK + size.div_ceil(BLOCK) * BLOCK;
        if metadata {
            let mut content = Vec::new();
            raw.take(size).read_to_end(&mut content).with_context(|| shown(&name))?;
            ensure!(content.len() as u64 == size, "{}: it was cut off", shown(&name));
            self.describe(kind, content).with_context(|| shown(&name))?;
            return Ok(None);
        }
        let pending = std::mem::take(&mut self.pending);
        let name = pending.path.unwrap_or(name);
        let link = pending.link.or_else(|| header.link_name_bytes().map(|l| l.into_owned()));
        self.entry(kind, &header, &name, link, size).map(Some).with_context(|| shown(&name))
    }

    fn entry(
        &self,
        kind: EntryType,
        header: &tar::Header,
        name: &[u8],
        link: Option<Vec<u8>>,
        size: u64,
    ) -> Result<ArchiveEntry> {
        let path = self.path(name)?;
        ensure!(kind == EntryType::Regular || size == 0, "it is no file and has content");
        let target = || -> Result<String> {
            let link = link.as_deref().unwrap_or_default();
            ensure!(link.len() <= self.limits.path, "its link is longer than {} bytes", self.limits.path);
            text(link).map(str::to_owned)
        };
        let kind = match kind {
            EntryType::Directory => Kind::Directory,
            EntryType::Regular => {
                ensure!(!name.ends_with(b"/"), "a file's name ends in a slash");
                Kind::File { executable: header.mode()? & 0o111 != 0, size }
            }
            EntryType::Symlink => Kind::Symlink { target: target()? },
            EntryType::Link => Kind::Hardlink { target: self.path(target()?.as_bytes()).context("the target of its link")? },
            EntryType::Char | EntryType::Block => bail!("a device has no place in a source"),
            EntryType::Fifo => bail!("a fifo has no place in a source"),
            EntryType::GNUSparse => bail!("sparse files are not taken"),
            other => bail!("entries of type {:?} are not taken", other.as_byte() as char),
        };
        ensure!(!path.is_empty() || kind == Kind::Directory, "its name is empty");
        Ok(ArchiveEntry { path, kind })
    }

    /// A header that describes the next one.
    fn describe(&mut self, kind: EntryType, content: Vec<u8>) -> Result<()> {
        match kind {
            EntryType::GNULongName => set(&mut self.pending.path, long(content)?),
            EntryType::GNULongLink => set(&mut self.pending.link, long(content)?),
            EntryType::XHeader => {
                ensure!(!std::mem::replace(&mut self.pending.pax, true), "two pax headers in a row");
                for (key, value) in self.records(&content)? {
                    match key {
                        "path" => set(&mut self.pending.path, value.to_vec())?,
                        "linkpath" => set(&mut self.pending.link, value.to_vec())?,
                        key => ignorable(key)?,
                    }
                }
                Ok(())
            }
            // A global name or size would apply to every entry after it.
            _ => self.records(&content)?.into_iter().try_for_each(|(key, _)| ignorable(key)),
        }
    }

    /// The records of one pax header.
    fn records<'c>(&mut self, content: &'c [u8]) -> Result<BTreeMap<&'c str, &'c [u8]>> {
        let found = records(content)?;
        self.records += found.len();
        ensure!(self.records <= self.limits.records, "it holds more than {} pax records", self.limits.records);
        Ok(found)
    }

    /// The components of a path; empty for the archive's own `./`.
    fn path(&self, name: &[u8]) -> Result<Vec<String>> {
        ensure!(name.len() <= self.limits.path, "its name is longer than {} bytes", self.limits.path);
        let name = text(name)?;
        ensure!(!name.starts_with('/'), "its name is absolute");
        let parts: Vec<String> = name.split('/').filter(|p| !p.is_empty() && *p != ".").map(str::to_owned).collect();
        ensure!(parts.iter().all(|p| p != ".."), "its name leads out through ..");
        ensure!(parts.iter().all(|p| p.len() <= MAX_COMPONENT), "a part of its name is longer than {MAX_COMPONENT} bytes");
        ensure!(parts.len() <= self.limits.depth, "it lies deeper than {} directories", self.limits.depth);
        Ok(parts)
    }

    /// The size of all entries in the tar, in bytes.
    pub(super) fn finish(self) -> Result<u64> {
        let open = self.pending.path.is_some() || self.pending.link.is_some() || self.pending.pax;
        ensure!(!open, "its last header describes an entry that is not there");
        Ok(self.read)
    }
}

fn set(slot: &mut Option<Vec<u8>>, value: Vec<u8>) -> Result<()> {
    ensure!(slot.is_none(), "an entry is given two names");
    *slot = Some(value);
    Ok(())
}

/// GNU's long name: the content without its final NUL.
fn long(mut content: Vec<u8>) -> Result<Vec<u8>> {
    if content.last() == Some(&0) {
        content.pop();
    }
    ensure!(!content.is_empty(), "a long name is empty");
    Ok(content)
}

fn ignorable(key: &str) -> Result<()> {
    let known = IGNORED.contains(&key) || IGNORED_PREFIXES.iter().any(|p| key.starts_with(p));
    ensure!(known, "the pax record {} is not taken", shown(key.as_bytes()));
    Ok(())
}

/// Pax records, `LENGTH KEY=VALUE
/// `, where LENGTH counts the whole record. No key may occur twice.
fn records(mut content: &[u8]) -> Result<BTreeMap<&str, &[u8]>> {
    let mut found = BTreeMap::new();
    while !content.is_empty() {
        let digits = content.iter().take_while(|b| b.is_ascii_digit()).count();
        let length: Option<usize> = std::str::from_utf8(&content[..digits]).ok().and_then(|d| d.parse().ok());
        let record = length.filter(|l| (digits + 3..=content.len()).contains(l)).map(|l| &content[..l]);
        let inner = record.and_then(|r| r[digits..].strip_prefix(b" ")).and_then(|r| r.strip_suffix(b"\n"));
        let at = inner.and_then(|r| r.iter().position(|b| *b == b'='));
        let (Some(record), Some(inner), Some(at)) = (record, inner, at) else { bail!("a malformed pax record") };
        let key = std::str::from_utf8(&inner[..at]).context("a malformed pax record")?;
        let twice = found.insert(key, &inner[at + 1..]).is_some();
        ensure!(!key.is_empty() && !twice, "the pax record {key:?} is there twice or empty");
        content = &content[record.len()..];
    }
    Ok(found)
}

/// A name as text: UTF-8 without control characters (a NUL would truncate it, an escape would change terminals).
fn text(name: &[u8]) -> Result<&str> {
    let text = std::str::from_utf8(name).ok().context("its name is not UTF-8")?;
    ensure!(!text.contains(char::is_control), "its name holds a control character");
    Ok(text)
}

/// A name for a message: escaped and shortened.
fn shown(name: &[u8]) -> String {
    let cut = name.len() > SHOWN;
    format!("{:?}{}", String::from_utf8_lossy(&name[..name.len().min(SHOWN)]), if cut { "…" } else { "" })
}
