//! Whether a kernel's image is complete, as far as its own headers show, and whether it is compressed in a way that not every boot loader
//! supports.
//!
//! An x86 bzImage states its length in `setup_sects` and `syssize` (`Documentation/arch/x86/boot.rst`), an EFI zboot image the end of its
//! payload (`drivers/firmware/efi/libstub/zboot-header.S`), any other PE program the ends of its sections. Of other images it is only known
//! that an empty one is incomplete.

use crate::host::Host;
use std::io;
use std::path::Path;

/// All headers are within this size.
const HEAD: u64 = 64 << 10;
/// The end of a bzImage may have less padding than its header counts.
const SLACK: u64 = 4096;
/// A PE program has fewer sections than this.
const MAX_SECTIONS: usize = 96;

/// The facts about an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Whether it is an EFI zboot image, which decompresses itself with EFI services.
    pub zboot: bool,
    /// What is missing, if the image is incomplete.
    pub cut: Option<String>,
}

/// Reads the headers of an image, a path below the root.
///
/// # Errors
/// If it cannot be opened or read.
pub fn look(host: &Host, path: &Path) -> io::Result<Seen> {
    let head = host.read_start(path, HEAD)?;
    let length = host.metadata(path)?.len();
    Ok(Seen { zboot: is_zboot(&head), cut: cut(&head, length) })
}

fn is_zboot(head: &[u8]) -> bool {
    head.starts_with(b"MZ") && head.get(4..8) == Some(b"zimg")
}

/// What is missing from an image of this length with this start.
fn cut(head: &[u8], length: u64) -> Option<String> {
    if length == 0 {
        return Some("is empty".into());
    }
    let wanted = [bz_image(head), zboot(head), sections(head)].into_iter().flatten().max()?;
    (length < wanted).then(|| format!("has {length} bytes of at least {wanted}"))
}

fn u16_at(head: &[u8], at: usize) -> Option<usize> {
    Some(u16::from_le_bytes(head.get(at..at + 2)?.try_into().ok()?).into())
}

fn u32_at(head: &[u8], at: usize) -> Option<u64> {
    Some(u32::from_le_bytes(head.get(at..at + 4)?.try_into().ok()?).into())
}

fn bz_image(head: &[u8]) -> Option<u64> {
    if head.get(0x202..0x206) != Some(b"HdrS") {
        return None;
    }
    let sectors = match *head.get(0x1f1)? {
        0 => 4,
        sectors => u64::from(sectors),
    };
    // Before protocol 2.04 the header has only the lower half of `syssize`, so it is not used.
    let paragraphs = if u16_at(head, 0x206)? < 0x204 { 0 } else { u32_at(head, 0x1f4)? };
    Some(((sectors + 1) * 512 + paragraphs * 16).saturating_sub(SLACK))
}

fn zboot(head: &[u8]) -> Option<u64> {
    Some(u32_at(head, 8)? + u32_at(head, 12)?).filter(|_| is_zboot(head))
}

/// The end of the last section of a PE program.
fn sections(head: &[u8]) -> Option<u64> {
    let at = usize::try_from(u32_at(head, 0x3c)?).ok().filter(|_| head.starts_with(b"MZ"))?;
    if head.get(at..at.checked_add(4)?) != Some(b"PE\0\0") || head.get(0x202..0x206) == Some(b"HdrS") {
        return None;
    }
    let first = at + 24 + u16_at(head, at + 20)?;
    let end = |n: usize| Some(u32_at(head, first + n * 40 + 16)? + u32_at(head, first + n * 40 + 20)?);
    (0..u16_at(head, at + 6)?.min(MAX_SECTIONS)).filter_map(end).max()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(image: &mut [u8], at: usize, bytes: &[u8]) {
        image[at..at + bytes.len()].copy_from_slice(bytes);
    }

    /// A bzImage whose header states this length.
    fn bz(length: u32) -> Vec<u8> {
        let mut head = vec![0; 0x1000];
        put(&mut head, 0x202, b"HdrS");
        put(&mut head, 0x206, &0x20fu16.to_le_bytes());
        put(&mut head, 0x1f1, &[7]);
        put(&mut head, 0x1f4, &((length - 8 * 512) / 16).to_le_bytes());
        head
    }

    fn pe(section_end: u32) -> Vec<u8> {
        let mut head = vec![0; 0x1000];
        put(&mut head, 0, b"MZ");
        put(&mut head, 0x3c, &0x40u32.to_le_bytes());
        put(&mut head, 0x40, b"PE\0\0");
        put(&mut head, 0x46, &2u16.to_le_bytes());
        put(&mut head, 0x54, &0xa0u16.to_le_bytes());
        let first = 0x40 + 24 + 0xa0;
        put(&mut head, first + 16, &0x200u32.to_le_bytes());
        put(&mut head, first + 20, &0x1000u32.to_le_bytes());
        put(&mut head, first + 56, &(section_end - 0x2000).to_le_bytes());
        put(&mut head, first + 60, &0x2000u32.to_le_bytes());
        head
    }

    #[test]
    fn an_image_that_is_shorter_than_its_header_states_is_incomplete() {
        let mut packed = pe(0x9000);
        put(&mut packed, 4, b"zimg");
        put(&mut packed, 8, &0x1000u32.to_le_bytes());
        put(&mut packed, 12, &0xb000u32.to_le_bytes());
        for (what, head, length, whole) in [
            ("a bzImage", bz(10 << 20), 10 << 20, true),
            ("a bzImage of which half is there", bz(10 << 20), 5 << 20, false),
            ("a PE program", pe(0x9000), 0x9000, true),
            ("a PE program whose last section is cut", pe(0x9000), 0x8fff, false),
            ("a zboot image", packed.clone(), 0xc000, true),
            ("a zboot image whose payload is cut", packed, 0xbfff, false),
            ("an image of which nothing is known", b"\x1f\x8b\x08 packed".to_vec(), 20, true),
            ("an empty file", Vec::new(), 0, false),
        ] {
            assert_eq!(cut(&head, length).is_none(), whole, "{what}: {:?}", cut(&head, length));
        }
    }

    #[test]
    fn a_zboot_image_is_recognised_by_its_magic_and_no_bytes_cause_a_panic() {
        assert!(is_zboot(b"MZ\0\0zimg....") && !is_zboot(&pe(0x9000)) && !is_zboot(b"MZ"));
        for image in [bz(1 << 20), pe(0x9000), b"MZ\0\0zimg\xff\xff\xff\xff\xff\xff\xff\xff".to_vec()] {
            for end in (0..image.len()).step_by(7) {
                let _ = cut(&image[..end], end as u64);
            }
        }
        let mut far = pe(0x9000);
        put(&mut far, 0x3c, &u32::MAX.to_le_bytes());
        assert_eq!(cut(&far, 10), None);
        put(&mut far, 0x3c, &0x0ff0u32.to_le_bytes());
        put(&mut far, 0x0ff0, b"PE\0\0");
        assert_eq!(cut(&far, 10), None);
    }
}
