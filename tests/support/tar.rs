//! Tar archives byte by byte, valid and invalid (tar(5), POSIX ustar and pax).
#![allow(dead_code)]
#![allow(missing_docs)]

use std::io::Write;

/// An archive under construction; each method adds exactly what its name says.
#[derive(Clone, Default)]
pub struct Tar(pub Vec<u8>);

/// A header's fields; the checksum is set last.
pub struct Header(pub [u8; 512]);

impl Header {
    pub fn new(kind: u8, name: &[u8], size: u64) -> Header {
        let mut header = Header([0; 512]);
        header.put(0, &name[..name.len().min(100)]);
        header.put(100, b"0000644\0");
        header.put(108, b"0001750\0");
        header.put(116, b"0001750\0");
        header.put(124, format!("{size:011o}\0").as_bytes());
        header.put(136, b"07777777777\0");
        header.0[156] = kind;
        header.put(257, b"ustar\x0000");
        header.put(265, b"mallory");
        header
    }

    pub fn put(&mut self, at: usize, bytes: &[u8]) {
        self.0[at..at + bytes.len()].copy_from_slice(bytes);
    }

    pub fn with(mut self, at: usize, bytes: &[u8]) -> Header {
        self.put(at, bytes);
        self
    }

    pub fn mode(self, mode: u32) -> Header {
        self.with(100, format!("{mode:07o}\0").as_bytes())
    }

    pub fn link(self, target: &[u8]) -> Header {
        self.with(157, target)
    }

    fn sealed(mut self) -> [u8; 512] {
        self.put(148, b"        ");
        let sum: u32 = self.0.iter().map(|b| u32::from(*b)).sum();
        self.put(148, format!("{sum:06o}\0 ").as_bytes());
        self.0
    }
}

impl Tar {
    pub fn raw(mut self, header: Header, content: &[u8]) -> Tar {
        self.0.extend(header.sealed());
        self.0.extend(content);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    pub fn file(self, name: &str, content: &[u8]) -> Tar {
        self.raw(Header::new(b'0', name.as_bytes(), content.len() as u64), content)
    }

    pub fn dir(self, name: &str) -> Tar {
        self.raw(Header::new(b'5', name.as_bytes(), 0).mode(0o755), b"")
    }

    pub fn symlink(self, name: &str, target: &str) -> Tar {
        self.raw(Header::new(b'2', name.as_bytes(), 0).link(target.as_bytes()), b"")
    }

    pub fn hardlink(self, name: &str, target: &str) -> Tar {
        self.raw(Header::new(b'1', name.as_bytes(), 0).link(target.as_bytes()), b"")
    }

    /// Pax records for the next entry (`x`) or for all later ones (`g`).
    pub fn pax(self, kind: u8, records: &[(&str, &str)]) -> Tar {
        let content: String = records.iter().map(|(k, v)| record(k, v)).collect();
        self.raw(Header::new(kind, b"PaxHeader/x", content.len() as u64), content.as_bytes())
    }

    /// GNU's `L` or `K`: a long name or link for the next entry.
    pub fn long(self, kind: u8, name: &[u8]) -> Tar {
        let header = Header::new(kind, b"././@LongLink", name.len() as u64 + 1).with(257, b"ustar  \0");
        self.raw(header, &[name, b"\0"].concat())
    }

    /// The two zero blocks that end it.
    pub fn end(mut self) -> Vec<u8> {
        self.0.resize(self.0.len() + 1024, 0);
        self.0
    }

    pub fn gz(self) -> Vec<u8> {
        gzip(&self.end())
    }

    pub fn xz(self) -> Vec<u8> {
        xz(&self.end(), 6)
    }
}

/// `LENGTH KEY=VALUE\n`, the length counting itself.
pub fn record(key: &str, value: &str) -> String {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while length != rest + length.to_string().len() {
        length += 1;
    }
    format!("{length} {key}={value}\n")
}

pub fn gzip(content: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

pub fn xz(content: &[u8], level: u32) -> Vec<u8> {
    let mut encoder = liblzma::write::XzEncoder::new(Vec::new(), level);
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

/// An xz file whose first block needs a dictionary of 1 GiB; all its checksums are right.
pub fn greedy_xz(content: &[u8]) -> Vec<u8> {
    let mut bytes = xz(content, 6);
    // The stream's header is 12 bytes; the block's is its size, flags, LZMA2's id, one byte of properties, padding, CRC32.
    assert_eq!(bytes[12..16], [2, 0, 0x21, 1]);
    bytes[16] = 36;
    let mut crc = flate2::Crc::new();
    crc.update(&bytes[12..20]);
    bytes[20..24].copy_from_slice(&crc.sum().to_le_bytes());
    bytes
}
