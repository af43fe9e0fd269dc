//! The names and files of an initramfs: cpio archives of the "newc" form one behind the other (cpio(5),
//! `Documentation/driver-api/early-userspace/buffer-format.rst`), some plain (microcode comes first), the last one mostly packed.

use super::decompress;
use std::io::{self, Read};

/// Behind the magic there are thirteen numbers of eight hexadecimal digits.
const HEADER: usize = 110;
/// The two magics of the form, without and with checksums.
const MAGICS: [&[u8]; 2] = [b"070701", b"070702"];
/// `PATH_MAX`.
const MAX_NAME: usize = 4096;
/// A file that is wanted and larger than this is no module.
const MAX_FILE: u64 = 256 << 20;
/// The largest initramfs that is read through; a generic one with all firmware is 500 MB.
const MAX_TOTAL: u64 = 4 << 30;
/// Entries of an archive; a full system in an initramfs has some 100,000.
const MAX_ENTRIES: u32 = 4_000_000;
const S_IFMT: u64 = 0o170_000;
const S_IFREG: u64 = 0o100_000;

/// A file that was wanted: its name without a leading `/`, and its content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub name: String,
    pub content: Vec<u8>,
}

/// Reads an initramfs and keeps the files whose names are wanted.
///
/// # Errors
/// A damaged archive, or one that goes on without end.
pub(super) fn read(image: &[u8], wanted: impl Fn(&str) -> bool) -> io::Result<Vec<Entry>> {
    let mut found = Vec::new();
    let mut rest = image;
    let mut seen_any = false;
    loop {
        // Archives are padded with zeros to whatever their maker likes.
        let start = rest.iter().position(|&b| b != 0).unwrap_or(rest.len());
        rest = &rest[start..];
        if rest.is_empty() {
            return if seen_any { Ok(found) } else { Err(invalid("it is empty")) };
        }
        if MAGICS.iter().any(|m| rest.starts_with(m)) {
            let mut stream = Counted { inner: rest, taken: 0 };
            archive(&mut stream, &wanted, &mut found)?;
            rest = &rest[usize::try_from(stream.taken).unwrap_or(rest.len()).min(rest.len())..];
        } else {
            let Some(stream) = decompress::reader(rest)? else {
                return Err(invalid("neither a cpio archive nor packed in a known way"));
            };
            packed(stream, &wanted, &mut found)?;
            // What lies behind a packed archive (a second packed one) is not looked for: nobody makes that.
            return Ok(found);
        }
        seen_any = true;
    }
}

/// The archives of one packed stream.
fn packed(stream: impl Read, wanted: &impl Fn(&str) -> bool, found: &mut Vec<Entry>) -> io::Result<()> {
    let mut stream = Counted { inner: io::BufReader::with_capacity(1 << 16, stream), taken: 0 };
    let mut magic = [0; 6];
    let mut any = false;
    while next_magic(&mut stream, &mut magic)? {
        archive_behind(&mut stream, magic, wanted, found)?;
        any = true;
    }
    if any {
        Ok(())
    } else {
        Err(invalid("the packed archive is empty"))
    }
}

/// Skips the zeros between two archives; says whether there is another one.
fn next_magic(stream: &mut impl Read, magic: &mut [u8; 6]) -> io::Result<bool> {
    loop {
        if stream.read(&mut magic[..1])? == 0 {
            return Ok(false);
        }
        if magic[0] != 0 {
            stream.read_exact(&mut magic[1..])?;
            return Ok(true);
        }
    }
}

fn archive(stream: &mut Counted<impl Read>, wanted: &impl Fn(&str) -> bool, found: &mut Vec<Entry>) -> io::Result<()> {
    let mut magic = [0; 6];
    stream.read_exact(&mut magic)?;
    archive_behind(stream, magic, wanted, found)
}

fn archive_behind(
    stream: &mut Counted<impl Read>,
    mut magic: [u8; 6],
    wanted: &impl Fn(&str) -> bool,
    found: &mut Vec<Entry>,
) -> io::Result<()> {
    // Padding counts from the archive's start, of which the magic has been taken.
    let base = stream.taken - 6;
    for _ in 0..MAX_ENTRIES {
        if !MAGICS.contains(&&magic[..]) {
            return Err(invalid("an entry does not begin as one"));
        }
        let mut header = [0; HEADER - 6];
        stream.read_exact(&mut header)?;
        let number = |field: usize| {
            let text = std::str::from_utf8(&header[field * 8..field * 8 + 8])
                .map_err(|_| invalid("an entry's header is no text"))?;
            u64::from_str_radix(text, 16).map_err(|_| invalid("an entry's header holds no numbers"))
        };
        let (mode, size, name_size) = (number(1)?, number(6)?, number(11)?);
        let mut name = vec![
            0;
            usize::try_from(name_size)
                .ok()
                .filter(|n| (1..=MAX_NAME).contains(n))
                .ok_or_else(|| invalid("an entry's name is too long"))?
        ];
        stream.read_exact(&mut name)?;
        name.pop();
        stream.align(base)?;
        if name == b"TRAILER!!!" {
            return Ok(());
        }
        let name = String::from_utf8_lossy(&name).trim_start_matches("./").trim_start_matches('/').to_owned();
        if mode & S_IFMT == S_IFREG && size <= MAX_FILE && wanted(&name) {
            let mut content = Vec::new();
            stream.by_ref().take(size).read_to_end(&mut content)?;
            if content.len() as u64 != size {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            found.push(Entry { name, content });
        } else {
            stream.skip(size)?;
        }
        stream.align(base)?;
        if stream.taken > MAX_TOTAL {
            return Err(invalid("it goes on without end"));
        }
        stream.read_exact(&mut magic)?;
    }
    Err(invalid("it holds too many entries"))
}

/// A reader that knows how much was read.
struct Counted<R> {
    inner: R,
    taken: u64,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(out)?;
        self.taken += n as u64;
        Ok(n)
    }
}

impl<R: Read> Counted<R> {
    fn skip(&mut self, n: u64) -> io::Result<()> {
        if io::copy(&mut self.by_ref().take(n), &mut io::sink())? == n {
            Ok(())
        } else {
            Err(io::ErrorKind::UnexpectedEof.into())
        }
    }

    /// Names and contents are padded to four bytes.
    fn align(&mut self, base: u64) -> io::Result<()> {
        let over = (self.taken - base) % 4;
        self.skip((4 - over) % 4)
    }
}

fn invalid(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why.to_owned())
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// An archive of regular files.
    pub(in crate::module) fn write(files: &[(&str, &[u8])]) -> Vec<u8> {
        let mut out = Vec::new();
        for (name, content) in files.iter().copied().chain([("TRAILER!!!", &b""[..])]) {
            let mode = if name == "TRAILER!!!" { 0 } else { 0o100_644 };
            let mut fields = [0usize; 13];
            (fields[1], fields[6], fields[11]) = (mode, content.len(), name.len() + 1);
            out.extend(b"070701");
            fields.iter().for_each(|f| out.extend(format!("{f:08X}").bytes()));
            out.extend(name.bytes());
            out.push(0);
            out.resize(out.len().next_multiple_of(4), 0);
            out.extend(content);
            out.resize(out.len().next_multiple_of(4), 0);
        }
        out
    }

    #[test]
    fn files_are_found_behind_microcode_and_packing() {
        let early = write(&[("kernel/x86/microcode/AuthenticAMD.bin", b"ucode")]);
        let main = write(&[("./usr/lib/a.ko", b"one"), ("etc/b.conf", b"three"), ("skipped", &[7; 999])]);
        let zst = zstd::stream::encode_all(&main[..], 1).unwrap();
        let zeros = vec![0; 512];
        for image in [main.clone(), [&early[..], &zeros, &main].concat(), [&early[..], &zeros, &zst].concat(), zst.clone()] {
            let found = read(&image, |n| !n.contains("skipped") && !n.contains("microcode")).unwrap();
            let names: Vec<_> = found.iter().map(|e| (e.name.as_str(), e.content.len())).collect();
            assert_eq!(names, [("usr/lib/a.ko", 3), ("etc/b.conf", 5)]);
        }
    }

    #[test]
    fn a_cut_archive_is_an_error() {
        let main = write(&[("a", b"one"), ("b", &[1; 100])]);
        for end in 1..main.len() - 4 {
            assert!(read(&main[..end], |_| true).is_err(), "{end}");
        }
        assert!(read(b"", |_| true).is_err() && read(b"\0\0\0\0", |_| true).is_err() && read(b"hello", |_| true).is_err());
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(noise in proptest::collection::vec(any::<u8>(), 0..64), at in 0..300usize) {
            let mut image = write(&[("a", b"one"), ("b", &[1; 100])]);
            let at = at % image.len();
            for (n, i) in noise.iter().zip(&mut image[at..]) {
                *i = *n;
            }
            let _ = read(&image, |_| true);
            let _ = read(&noise, |_| true);
        }
    }
}
