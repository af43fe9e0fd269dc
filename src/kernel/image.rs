//! The certificates in a kernel image: the keys whose module signatures it trusts.
//!
//! An x86 bzImage contains the compressed kernel at `payload_offset` (`Documentation/arch/x86/boot.rst`), an EFI zboot image at its
//! header's offset (`drivers/firmware/efi/libstub/zboot-header.S`); any other image is compressed as a whole. In the plain kernel the
//! certificates follow each other as X.509 DER (`certs/system_certificates.S`).

use super::installed;
use super::KernelRelease;
use crate::decompress;
use crate::host::{cache, Host};
use std::io::Read;

/// A certificate has some 1,400 bytes; this is more than any real one has.
const MAX_CERTIFICATE: usize = 16 << 10;
/// The number of certificates that are kept: distributions build in one to five.
const MAX_CERTIFICATES: usize = 64;
/// The largest plain kernel that is searched; Debian's have 70 MB.
const MAX_KERNEL: u64 = 512 << 20;
/// The start of a version 3 certificate, after two SEQUENCE headers: `[0] { INTEGER 2 }`, then the serial number.
const VERSION_3: &[u8] = &[0xa0, 0x03, 0x02, 0x01, 0x02, 0x02];
/// The two headers: tag, form of the length, two bytes of length.
const HEADERS: usize = 8;
/// The cache's name for the results: reading an image takes half a second.
const KEYS: &str = "keys";

/// The DER certificates in K's image; none if there is no image or it cannot be read.
pub fn certificates(host: &Host, release: &KernelRelease) -> Option<Vec<Vec<u8>>> {
    let path = installed::image(host, release)?;
    // The key contains everything that changes when the image does.
    let name = host.identity(&path).ok();
    if let Some(known) = name.as_ref().and_then(|name| cache::read(host, KEYS, name)) {
        return Some(split(&known));
    }
    let image = host.read(&path).ok()?;
    let found = search(payload(&image))?;
    if let Some(name) = name {
        cache::keep(host, KEYS, &name, &found.concat());
    }
    Some(found)
}

/// Entry point for tests with arbitrary bytes.
#[cfg(any(test, fuzzing))]
pub(crate) fn look(image: &[u8]) {
    let found = search(payload(image)).unwrap_or_default();
    split(&found.concat());
    split(image);
}

/// Splits consecutive certificates.
fn split(mut bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    while let Some(length) = length(bytes).filter(|l| *l <= bytes.len()) {
        all.push(bytes[..length].to_vec());
        bytes = &bytes[length..];
    }
    all
}

/// The compressed kernel inside an image.
fn payload(image: &[u8]) -> &[u8] {
    let u32_at = |at: usize| image.get(at..at + 4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]) as usize);
    let inside = |offset: Option<usize>, length: Option<usize>| image.get(offset?..)?.get(..length?);
    if image.get(0x202..0x206) == Some(b"HdrS") {
        let setup = usize::from(image.get(0x1f1).copied().unwrap_or(0).max(1)) * 512 + 512;
        return inside(u32_at(0x248).map(|o| o + setup), u32_at(0x24c)).unwrap_or_default();
    }
    if image.get(4..8) == Some(b"zimg") {
        return inside(u32_at(8), u32_at(12)).unwrap_or_default();
    }
    image
}

fn search(payload: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut stream: Box<dyn Read> = match decompress::reader(&decompress::Bytes::new(payload)).ok()? {
        Some(stream) => stream,
        None if payload.starts_with(b"\x7fELF") || payload.get(0x38..0x3c) == Some(b"ARM\x64") => Box::new(payload),
        None => return None,
    };
    let mut found: Vec<Vec<u8>> = Vec::new();
    let mut window = vec![0; 1 << 20];
    let (mut filled, mut total) = (0, 0);
    loop {
        let n = match stream.read(&mut window[filled..]) {
            Ok(n) => n,
            // A compressed kernel may end with its plain size, which some decoders report as an error.
            Err(_) if !found.is_empty() => 0,
            Err(_) => return None,
        };
        filled += n;
        total += n as u64;
        if n > 0 && filled < window.len() {
            continue;
        }
        scan(&window[..filled], n == 0, &mut found);
        if n == 0 || total > MAX_KERNEL || found.len() >= MAX_CERTIFICATES {
            return Some(found);
        }
        // A certificate across the border of the window is complete in the next one.
        let keep = filled.min(MAX_CERTIFICATE);
        window.copy_within(filled - keep..filled, 0);
        filled = keep;
    }
}

fn scan(window: &[u8], last: bool, found: &mut Vec<Vec<u8>>) {
    let end = if last { window.len() } else { window.len().saturating_sub(MAX_CERTIFICATE) };
    let mut at = HEADERS;
    while let Some(next) =
        window.get(at..end + HEADERS.min(window.len() - end)).and_then(|w| w.iter().position(|&b| b == VERSION_3[0]))
    {
        at += next;
        if window[at..].starts_with(VERSION_3) {
            let start = &window[at - HEADERS..];
            let whole = length(start).and_then(|l| start.get(..l)).filter(|_| start[4..6] == [0x30, 0x82]);
            if let Some(certificate) = whole.filter(|c| !found.iter().any(|f| f == c) && found.len() < MAX_CERTIFICATES) {
                found.push(certificate.to_vec());
            }
        }
        at += 1;
    }
}

/// The total length of a SEQUENCE whose length field has two bytes, as every certificate's has.
fn length(der: &[u8]) -> Option<usize> {
    let [0x30, 0x82, high, low, ..] = der else { return None };
    let length = usize::from(u16::from_be_bytes([*high, *low])) + 4;
    (length <= MAX_CERTIFICATE).then_some(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn certificate(serial: u8) -> Vec<u8> {
        let mut der = vec![0x30, 0x82, 0x01, 0x04, 0x30, 0x82, 0x00, 0xf0, 0xa0, 0x03, 0x02, 0x01, 0x02, 0x02, 0x01, serial];
        der.resize(0x104 + 4, 7);
        der
    }

    #[test]
    fn certificates_are_found_wherever_they_lie() {
        for offset in [0, 1, (1 << 20) - 100, (1 << 20) - MAX_CERTIFICATE, 3 << 20] {
            let mut kernel = b"\x7fELF".to_vec();
            kernel.resize(4 + offset, 0xa0);
            kernel.extend(certificate(1));
            kernel.extend(certificate(2));
            let tail = kernel.len() + (1 << 19);
            kernel.resize(tail, 0);
            let packed = zstd::stream::encode_all(&kernel[..], 1).unwrap();
            for image in [&kernel, &packed] {
                assert_eq!(search(payload(image)), Some(vec![certificate(1), certificate(2)]), "at {offset}");
            }
        }
        assert_eq!(split(&[certificate(1), certificate(2)].concat()).len(), 2);
    }

    #[test]
    fn images_that_come_and_go_leave_a_bounded_number_of_results() {
        let dir = tempfile::tempdir().unwrap();
        let host = Host::new(dir.path()).unwrap();
        crate::host::files::create_dirs(&host.path(cache::DIR), 0o711).unwrap();
        let release: KernelRelease = "6.1".parse().unwrap();
        let kept = || host.read_dir(cache::DIR).unwrap().len();
        for n in 0..300u16 {
            let mut image = b"\x7fELF".to_vec();
            image.extend(certificate(n as u8));
            image.resize(0x200 + usize::from(n), 0);
            host.write_atomic("/boot/vmlinuz-6.1", &image, 0o644).unwrap();
            for _ in 0..2 {
                assert_eq!(certificates(&host, &release), Some(vec![certificate(n as u8)]));
            }
            assert!(kept() <= 128, "{} answers are kept", kept());
        }
        assert!(kept() > 1);
    }

    #[test]
    fn an_invalid_image_has_no_certificates_and_does_not_panic() {
        let mut bz = vec![0; 0x300];
        bz[0x202..0x206].copy_from_slice(b"HdrS");
        bz[0x248..0x250].fill(0xff);
        for image in [vec![], vec![0; 10], bz, b"MZ\0\0zimg\xff\xff\xff\xff\xff\xff\xff\xff".to_vec()] {
            assert_eq!(search(payload(&image)), None);
        }
    }
}
