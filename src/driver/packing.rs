//! How an archive is compressed, detected by its first bytes and not by its name. An unsupported format is named, with a
//! command that converts it.
//!
//! gzip: RFC 1952. xz: the .xz file format 1.2. tar: POSIX ustar, and before it v7, which has a checksum and no magic.

/// Suffixes of archives that are supported; the first is the usual one.
pub(super) const ENDINGS: [&str; 3] = [".tar.gz", ".tar.xz", ".tar"];
/// The number of first bytes that are needed: the first header of a tar.
pub(super) const HEAD: usize = 512;

const GZIP: &[u8] = &[0x1f, 0x8b];
const XZ: &[u8] = &[0xfd, b'7', b'z', b'X', b'Z', 0];
/// Where a header's checksum is, in octal. It is computed with spaces in its own place.
const CHECKSUM: std::ops::Range<usize> = 148..156;
/// Where ustar and GNU's format have their magic bytes.
const USTAR: std::ops::Range<usize> = 257..262;

/// The supported formats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Packing {
    Gzip,
    Xz,
    /// An uncompressed tar.
    Tar,
}

/// An unsupported format: its description, after "it is"…
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Unread {
    pub(super) what: &'static str,
    /// …and the command that makes `NEW.tar.gz` of `FILE`, if there is one.
    pub(super) again: Option<&'static str>,
}

/// Unsupported formats by their first bytes.
const UNREAD: [(&[u8], Unread); 6] = [
    (b"BZh", repacked("packed with bzip2", "bzip2 -dc FILE | gzip >NEW.tar.gz")),
    (&[0x28, 0xb5, 0x2f, 0xfd], repacked("packed with zstd", "zstd -dc FILE | gzip >NEW.tar.gz")),
    (&[0x5d, 0, 0], repacked("packed with lzma", "xz --format=lzma -dc FILE | gzip >NEW.tar.gz")),
    (b"PK\x03\x04", repacked("a zip archive", "unzip -q FILE -d NEW && tar -C NEW -czf NEW.tar.gz .")),
    (b"7z\xbc\xaf\x27\x1c", repacked("a 7z archive", "7z x -oNEW FILE && tar -C NEW -czf NEW.tar.gz .")),
    (b"PK\x05\x06", Unread { what: "an empty zip archive", again: None }),
];
const EMPTY: Unread = Unread { what: "empty", again: None };
const PAGE: Unread =
    Unread { what: "an HTML page and not an archive: a login or an error was sent in its place?", again: None };
const UNKNOWN: Unread = Unread { what: "neither a gzip, an xz nor a tar file", again: None };

const fn repacked(what: &'static str, again: &'static str) -> Unread {
    Unread { what, again: Some(again) }
}

impl Packing {
    /// Detects the format by the first [`HEAD`] bytes, or fewer in a shorter file.
    pub(super) fn of(head: &[u8]) -> Result<Packing, Unread> {
        match () {
            () if head.starts_with(GZIP) => Ok(Packing::Gzip),
            () if head.starts_with(XZ) => Ok(Packing::Xz),
            () if is_tar(head) => Ok(Packing::Tar),
            () if head.is_empty() => Err(EMPTY),
            () if is_page(head) => Err(PAGE),
            () => Err(UNREAD.iter().find(|(magic, _)| head.starts_with(magic)).map_or(UNKNOWN, |(_, unread)| *unread)),
        }
    }
}

fn is_tar(head: &[u8]) -> bool {
    let Some(header) = head.first_chunk::<HEAD>() else { return false };
    let sum: u32 = header.iter().enumerate().map(|(i, b)| u32::from(if CHECKSUM.contains(&i) { b' ' } else { *b })).sum();
    let said = std::str::from_utf8(&header[CHECKSUM]).ok().map(|octal| octal.trim_matches([' ', '\0']));
    header[USTAR] == *b"ustar" || said.and_then(|octal| u32::from_str_radix(octal, 8).ok()) == Some(sum)
}

fn is_page(head: &[u8]) -> bool {
    let text = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head).trim_ascii_start();
    let begins = |tag: &[u8]| text.get(..tag.len()).is_some_and(|start| start.eq_ignore_ascii_case(tag));
    begins(b"<!doctype") || begins(b"<html")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tar_older_than_ustar_is_recognised_by_its_checksum_alone() {
        let mut header = [0; HEAD];
        header[..4].copy_from_slice(b"BZh9");
        header[124..136].copy_from_slice(b"00000000000\0");
        header[CHECKSUM].fill(b' ');
        let sum: u32 = header.iter().map(|b| u32::from(*b)).sum();
        header[CHECKSUM].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        assert_eq!(Packing::of(&header), Ok(Packing::Tar));
        assert_eq!(Packing::of(&header[..HEAD - 1]).unwrap_err().what, "packed with bzip2", "a part of a header is none");
        header[0] = b'A';
        assert_eq!(Packing::of(&header), Err(UNKNOWN));
        assert_eq!(Packing::of(&[0; HEAD]), Err(UNKNOWN));
    }

    #[test]
    fn a_web_page_is_recognised_in_upper_and_lower_case() {
        for page in ["<!DOCTYPE html>", "<!doctype HTML>", "\u{feff}\r\n  <HTML lang=en>", "<html>"] {
            assert_eq!(Packing::of(page.as_bytes()), Err(PAGE), "{page}");
        }
        assert_eq!(Packing::of(b"<htm"), Err(UNKNOWN));
    }
}
