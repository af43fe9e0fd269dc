//! Unified kernel images: sections of a PE file (the UAPI group's Unified Kernel Image Specification; Microsoft's PE format).

use crate::boot::image;
use crate::host::os_release;
use crate::host::Host;
use crate::kernel::KernelRelease;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

/// The headers, and any section that is read, are smaller.
const MAX: usize = 64 << 10;
/// The PE format allows 96 sections to an image.
const MAX_SECTIONS: usize = 96;

/// What the sections say.
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

/// Reads the sections; what is not there is empty.
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

/// The release that an image starts: its `.uname`, else what its name says (`MACHINE-K.efi`).
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

/// Where a section's content lies: offset and size.
fn find(head: &[u8], name: &str) -> Option<(u64, u64)> {
    let u16_at = |at: usize| Some(u16::from_le_bytes(head.get(at..at.checked_add(2)?)?.try_into().ok()?) as usize);
    let u32_at = |at: usize| Some(u32::from_le_bytes(head.get(at..at.checked_add(4)?)?.try_into().ok()?));
    let pe = u32_at(0x3c)? as usize;
    if head.get(..2)? != b"MZ" || head.get(pe..pe.checked_add(4)?)? != b"PE\0\0" {
        return None;
    }
    let table = pe + 24 + u16_at(pe + 20)?;
    (0..u16_at(pe + 6)?.min(MAX_SECTIONS)).find_map(|i| {
        let at = table + 40 * i;
        let label = head.get(at..at + 8)?;
        let label = &label[..label.iter().position(|b| *b == 0).unwrap_or(8)];
        let (virtual_size, size) = (u32_at(at + 8)?, u32_at(at + 16)?);
        (label == name.as_bytes()).then_some((u64::from(u32_at(at + 20)?), u64::from(size.min(virtual_size.max(1)))))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_release_is_read_from_its_section() {
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
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("x.efi"), &image).unwrap();
        std::fs::write(dir.path().join("m-6.9.1-1.fc40.x86_64+2-1.efi"), b"MZ").unwrap();
        let host = Host::new(dir.path()).unwrap();
        assert_eq!(release(&host, Path::new("/x.efi")).unwrap().as_str(), "6.12.0-1");
        assert_eq!(release(&host, Path::new("/m-6.9.1-1.fc40.x86_64+2-1.efi")).unwrap().as_str(), "6.9.1-1.fc40.x86_64");
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
