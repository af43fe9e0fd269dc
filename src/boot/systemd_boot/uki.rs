//! Unified kernel images: sections of a PE file (the UAPI group's Unified Kernel Image Specification; Microsoft's PE format).

use crate::boot::image;
use crate::host::os_release;
use crate::host::Host;
use crate::kernel::KernelRelease;
use object::read::coff::CoffHeader;
use object::{pe, LittleEndian as LE, ReadRef, U32};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

/// The headers, and each section that is read, are smaller than this.
const MAX: usize = 64 << 10;

/// The contents of the sections.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sections {
    /// `.uname`: the release.
    pub uname: String,
    /// `.cmdline`.
    pub cmdline: String,
    /// `IMAGE_VERSION` or `VERSION_ID` of `.osrel`, else the release.
    pub version: String,
    /// `ID` (with `IMAGE_ID` before it) of `.osrel`, by which systemd-boot sorts.
    pub sort_key: Option<String>,
}

/// Reads the sections; a missing one is empty.
pub fn sections(host: &Host, path: &Path) -> Sections {
    let text = |name: &str| read(host, path, name).unwrap_or_default();
    let (uname, osrel) = (text(".uname"), text(".osrel"));
    let first = |keys: [&str; 2]| keys.iter().map(|k| os_release::value(&osrel, k)).find(|v| !v.is_empty());
    Sections {
        cmdline: text(".cmdline").trim().to_owned(),
        version: first(["IMAGE_VERSION", "VERSION_ID"]).unwrap_or_else(|| uname.trim().to_owned()),
        sort_key: first(["IMAGE_ID", "ID"]),
        uname,
    }
}

/// The release that an image starts: its `.uname`, else the one in its name (`MACHINE-K.efi`).
pub fn release(host: &Host, path: &Path) -> Option<KernelRelease> {
    if let Ok(release) = sections(host, path).uname.trim().parse() {
        return Some(release);
    }
    let stem = path.file_stem()?.to_str()?;
    let stem =
        stem.split_once('+').filter(|(_, c)| c.bytes().all(|b| b.is_ascii_digit() || b == b'-')).map_or(stem, |(s, _)| s);
    let token = |t: &&str| t.len() == 32 && t.bytes().all(|b| b.is_ascii_hexdigit());
    let rest = stem.split_once('-').filter(|(t, _)| token(t)).map_or(stem, |(_, r)| r);
    let named = |name: &str| image::release_of_name(Path::new(&format!("vmlinuz-{name}")));
    named(rest).or_else(|| named(rest.split_once('-')?.1))
}

fn read(host: &Host, path: &Path, name: &str) -> Option<String> {
    if !host.is_file(path) {
        return None;
    }
    let mut file = File::open(host.path(path)).ok()?;
    let mut head = Vec::new();
    file.by_ref().take(MAX as u64).read_to_end(&mut head).ok()?;
    let (offset, size) = find(&head, name)?;
    file.seek(SeekFrom::Start(offset)).ok()?;
    let mut bytes = Vec::new();
    file.take(size.min(MAX as u64)).read_to_end(&mut bytes).ok()?;
    let end = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
    Some(String::from_utf8_lossy(&bytes[..end]).into_owned())
}

/// Offset and size of a section's content. None if the headers are not those of a PE file.
fn find(head: &[u8], name: &str) -> Option<(u64, u64)> {
    let mut at = u64::from(pe::ImageDosHeader::parse(head).ok()?.nt_headers_offset());
    if head.read::<U32<LE>>(&mut at).ok()?.get(LE) != pe::IMAGE_NT_SIGNATURE {
        return None;
    }
    // The optional header is skipped: nothing in its two forms (PE32, PE32+) is needed here.
    let sections = pe::ImageFileHeader::parse(head, &mut at).ok()?.sections(head, at).ok()?;
    let (offset, size) = sections.iter().find(|s| s.raw_name() == name.as_bytes())?.pe_file_range();
    Some((offset.into(), size.into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A minimal PE file with a `.uname`.
    fn image() -> Vec<u8> {
        let mut image = vec![0u8; 0x400];
        image[..2].copy_from_slice(b"MZ");
        image[0x3c] = 0x80;
        image[0x80..0x84].copy_from_slice(b"PE\0\0");
        image[0x86] = 1;
        let at = 0x80 + 24;
        image[at..at + 6].copy_from_slice(b".uname");
        image[at + 8] = 8;
        image[at + 17] = 2;
        image[at + 21] = 2;
        image[0x200..0x208].copy_from_slice(b"6.12.0-1");
        image
    }

    #[test]
    fn the_release_is_read_from_its_section() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("x.efi"), image()).unwrap();
        std::fs::write(dir.path().join("m-6.9.1-1.fc40.x86_64+2-1.efi"), b"MZ").unwrap();
        let host = Host::new(dir.path()).unwrap();
        assert_eq!(release(&host, Path::new("/x.efi")).unwrap().as_str(), "6.12.0-1");
        assert_eq!(release(&host, Path::new("/m-6.9.1-1.fc40.x86_64+2-1.efi")).unwrap().as_str(), "6.9.1-1.fc40.x86_64");
    }

    #[test]
    fn headers_that_point_nowhere_have_no_section() {
        let whole = image();
        assert_eq!(find(&whole, ".uname"), Some((0x200, 8)));
        let change = |at: usize, bytes: &[u8]| {
            let mut bad = whole.clone();
            bad[at..at + bytes.len()].copy_from_slice(bytes);
            find(&bad, ".uname")
        };
        for (what, at, bytes) in [
            ("no MZ", 0, &b"ZM"[..]),
            ("the PE header behind the end", 0x3c, &[0xff; 4]),
            ("no PE", 0x80, b"NE"),
            ("no section", 0x86, &[0, 0]),
            ("more sections than there is room for", 0x86, &[0xff; 2]),
            ("an optional header beyond the end", 0x94, &[0xff; 2]),
            ("another name", 0x98, b".other"),
        ] {
            assert_eq!(change(at, bytes), None, "{what}");
        }
        for end in 0..0x98 + 40 {
            assert_eq!(find(&whole[..end], ".uname"), None, "cut at {end}");
        }
        // A section that takes no memory has no content.
        assert_eq!(change(0xa0, &[0; 4]), Some((0x200, 0)));
    }

    proptest! {
        #[test]
        fn any_head_is_survived(mut head in proptest::collection::vec(any::<u8>(), 0..300), start in any::<bool>()) {
            if start && head.len() > 0x44 {
                head[..2].copy_from_slice(b"MZ");
                head[0x3c..0x40].copy_from_slice(&[0x40, 0, 0, 0]);
                head[0x40..0x44].copy_from_slice(b"PE\0\0");
            }
            find(&head, ".uname");
        }
    }
}
