//! The names and files of an initramfs: concatenated cpio archives of the "newc" form (cpio(5),
//! `Documentation/driver-api/early-userspace/buffer-format.rst`), plain or compressed, in any number and order, as `unpack_to_rootfs` of
//! `init/initramfs.c` reads them.

use super::rootfs::{CpioEntry, Tree, Wanted};
use crate::decompress::{self, Bytes};
use std::io::{self, Read};

/// The magic is followed by thirteen numbers of eight hexadecimal digits.
const HEADER: usize = 110;
/// The two magics of the form, without and with checksums.
const MAGICS: [&[u8]; 2] = [b"070701", b"070702"];
/// `PATH_MAX`.
const MAX_NAME: usize = 4096;
/// The most that is read of one initramfs, decompressed; a generic one with all firmware has 500 MB.
const MAX_TOTAL: u64 = 2 << 30;
/// Consecutive compressed streams: firmware, modules, the rest; some tools make several.
const MAX_STREAMS: u32 = 4096;
/// The end of a boot configuration, after its size and its checksum (`Documentation/admin-guide/bootconfig.rst`).
const BOOTCONFIG: &[u8] = b"#BOOTCONFIG\n";
const S_IFMT: u64 = 0o170_000;
const S_IFREG: u64 = 0o100_000;
const S_IFDIR: u64 = 0o040_000;
const S_IFLNK: u64 = 0o120_000;

/// The last image of a boot entry without an appended boot configuration, which the kernel removes before it unpacks the image
/// (`get_boot_config_from_initrd` of `init/main.c`).
pub(in crate::module) fn without_bootconfig(image: &[u8]) -> &[u8] {
    let cut = |padding: usize| {
        // Boot loaders may align the size.
        let footer = image.get(..image.len().checked_sub(padding)?)?.strip_suffix(BOOTCONFIG)?;
        let (rest, sum) = footer.split_last_chunk::<4>()?;
        let (rest, size) = rest.split_last_chunk::<4>()?;
        let at = rest.len().checked_sub(u32::from_le_bytes(*size) as usize)?;
        let (archive, config) = rest.split_at(at);
        let counted = config.iter().fold(0u32, |sum, b| sum.wrapping_add(u32::from(*b)));
        (counted == u32::from_le_bytes(*sum)).then_some(archive)
    };
    (0..4).find_map(cut).unwrap_or(image)
}

/// Unpacks an image over the content that earlier ones left in `tree`, and keeps the content of the files whose names are wanted.
///
/// # Errors
/// If the archive is damaged, endless, or one at which the kernel would stop reading; `Unsupported` for a known compression that is not
/// read here.
pub(in crate::module) fn read(image: &[u8], tree: &mut Tree, wanted: impl Fn(&str) -> Option<Wanted>) -> io::Result<()> {
    let mut reading = Reading { tree, wanted, bytes: 0 };
    let source = Bytes::new(image);
    let (mut behind_plain, mut empty, mut streams) = (true, true, 0);
    loop {
        // Archives are padded with any number of zeros.
        source.skip_zeros();
        let rest = source.rest();
        if rest.is_empty() {
            return if empty { Err(invalid("it is empty")) } else { Ok(()) };
        }
        let plain = MAGICS.iter().any(|m| rest.starts_with(m));
        let at = image.len() - rest.len();
        if (plain || behind_plain) && !at.is_multiple_of(4) {
            return Err(invalid(&format!("what begins at byte {at} is not aligned, and the kernel stops there")));
        }
        if plain {
            let mut stream = Counted { inner: source.clone(), taken: 0 };
            let mut magic = [0; 6];
            stream.read_exact(&mut magic)?;
            reading.entry(&mut stream, magic)?;
            reading.count(stream.taken)?;
        } else if let Some(stream) = decompress::reader(&source)? {
            streams += 1;
            if streams > MAX_STREAMS {
                return Err(invalid("it has too many parts"));
            }
            reading.packed(stream)?;
        } else if let Some(packing) = decompress::unread(rest) {
            let why = format!("what begins at byte {at} is packed with {packing}");
            return Err(io::Error::new(io::ErrorKind::Unsupported, why));
        } else {
            return Err(invalid(&format!("what begins at byte {at} is neither a cpio archive nor packed in a known way")));
        }
        (behind_plain, empty) = (plain, false);
    }
}

struct Reading<'t, W> {
    tree: &'t mut Tree,
    wanted: W,
    bytes: u64,
}

impl<W: Fn(&str) -> Option<Wanted>> Reading<'_, W> {
    /// Reads the entries of one compressed stream.
    fn packed(&mut self, stream: impl Read) -> io::Result<()> {
        let mut stream = Counted { inner: io::BufReader::with_capacity(1 << 16, stream), taken: 0 };
        let mut magic = [0; 6];
        let mut any = false;
        while next_magic(&mut stream, &mut magic)? {
            if stream.taken % 4 != 2 {
                return Err(invalid("an entry inside a packed stream is not aligned"));
            }
            self.entry(&mut stream, magic)?;
            any = true;
        }
        self.count(stream.taken)?;
        if any {
            Ok(())
        } else {
            Err(invalid("the packed archive is empty"))
        }
    }

    /// Reads one entry whose magic was read already. Like in the kernel, zeros and the end of the data may follow each entry, and a trailer
    /// only ends the scope of hard links.
    fn entry(&mut self, stream: &mut Counted<impl Read>, magic: [u8; 6]) -> io::Result<()> {
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
        let (mode, size) = (number(1)?, number(6)?);
        let name_size = usize::try_from(number(11)?).ok().filter(|n| (1..=MAX_NAME).contains(n));
        let mut name = vec![0; name_size.ok_or_else(|| invalid("an entry's name is too long"))?];
        stream.read_exact(&mut name)?;
        // Some tools align contents by zeros after the name.
        name.truncate(name.iter().position(|&b| b == 0).unwrap_or(name.len() - 1));
        stream.align()?;
        if name == b"TRAILER!!!" {
            self.tree.end_archive();
            stream.skip(size)?;
            return stream.align();
        }
        let name = String::from_utf8_lossy(&name).into_owned();
        let entry = match mode & S_IFMT {
            S_IFDIR => CpioEntry::Directory,
            S_IFLNK if size <= MAX_NAME as u64 => {
                CpioEntry::Link(String::from_utf8_lossy(&stream.content(size)?).trim_end_matches('\0').to_owned())
            }
            S_IFREG => {
                let content = match (self.wanted)(&name) {
                    Some(kind) if size > 0 => {
                        self.tree.make_room(kind, size)?;
                        Some(stream.content(size)?)
                    }
                    _ => (size == 0).then(Vec::new),
                };
                let inode = (number(0)?, number(7)?, number(8)?);
                if number(4)? > 1 {
                    CpioEntry::Shared(inode, content)
                } else {
                    CpioEntry::File(content)
                }
            }
            _ => CpioEntry::Other,
        };
        // Content that is not kept, or that an entry such as a directory should not have.
        if matches!(entry, CpioEntry::Directory | CpioEntry::Other | CpioEntry::File(None) | CpioEntry::Shared(_, None)) {
            stream.skip(size)?;
        }
        self.tree.add(&name, entry)?;
        stream.align()?;
        self.within(stream.taken)
    }

    fn count(&mut self, taken: u64) -> io::Result<()> {
        self.bytes += taken;
        self.within(0)
    }

    /// Checks that the total including these bytes is within the limit.
    fn within(&self, taken: u64) -> io::Result<()> {
        if self.bytes + taken > MAX_TOTAL {
            return Err(invalid("it goes on without end"));
        }
        Ok(())
    }
}

/// Skips the zeros between two entries; returns whether there is another one.
fn next_magic(stream: &mut Counted<impl Read>, magic: &mut [u8; 6]) -> io::Result<bool> {
    loop {
        if stream.taken > MAX_TOTAL {
            return Err(invalid("it goes on without end"));
        }
        if stream.read(&mut magic[..1])? == 0 {
            return Ok(false);
        }
        if magic[0] != 0 {
            stream.read_exact(&mut magic[1..])?;
            return Ok(true);
        }
    }
}

/// A reader that counts the bytes read.
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
    fn content(&mut self, size: u64) -> io::Result<Vec<u8>> {
        // Only called for a limited size: for content with reserved room, or for a link target.
        let mut content = Vec::with_capacity(size as usize);
        self.by_ref().take(size).read_to_end(&mut content)?;
        if content.len() as u64 == size {
            Ok(content)
        } else {
            Err(io::ErrorKind::UnexpectedEof.into())
        }
    }

    fn skip(&mut self, n: u64) -> io::Result<()> {
        if io::copy(&mut self.by_ref().take(n), &mut io::sink())? == n {
            Ok(())
        } else {
            Err(io::ErrorKind::UnexpectedEof.into())
        }
    }

    /// Names and contents are padded to four bytes, counted from the start of an entry or of a compressed stream.
    fn align(&mut self) -> io::Result<()> {
        let over = self.taken % 4;
        self.skip((4 - over) % 4)
    }
}

fn invalid(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why.to_owned())
}

#[cfg(test)]
pub(in crate::module) mod tests {
    use super::super::rootfs::Found;
    use super::*;
    use proptest::prelude::*;

    fn unpack(image: &[u8]) -> io::Result<Tree> {
        let mut tree = Tree::default();
        read(image, &mut tree, |_| Some(Wanted::Module)).map(|()| tree)
    }

    /// One entry.
    fn entry(name: &str, mode: usize, content: &[u8]) -> Vec<u8> {
        let mut fields = [0usize; 13];
        (fields[1], fields[6], fields[11]) = (mode, content.len(), name.len() + 1);
        let mut out = b"070701".to_vec();
        fields.iter().for_each(|f| out.extend(format!("{f:08X}").bytes()));
        out.extend(name.bytes());
        out.push(0);
        out.resize(out.len().next_multiple_of(4), 0);
        out.extend(content);
        out.resize(out.len().next_multiple_of(4), 0);
        out
    }

    /// Regular files after the directories that contain them, without a trailer.
    fn entries(files: &[(&str, &[u8])]) -> Vec<u8> {
        let mut out = Vec::new();
        for (name, content) in files {
            for (end, _) in name.match_indices('/') {
                out.extend(entry(&name[..end], 0o040_755, b""));
            }
            out.extend(entry(name, 0o100_644, content));
        }
        out
    }

    /// An archive of regular files.
    pub(in crate::module) fn write(files: &[(&str, &[u8])]) -> Vec<u8> {
        [entries(files), entry("TRAILER!!!", 0, b"")].concat()
    }

    #[test]
    fn files_are_found_after_microcode_and_in_compressed_streams() {
        let early = write(&[("kernel/x86/microcode/AuthenticAMD.bin", b"ucode")]);
        let main = write(&[("./usr/lib/a.ko", b"one"), ("etc/b.conf", b"three"), ("skipped", &[7; 999])]);
        let zst = zstd::stream::encode_all(&main[..], 1).unwrap();
        let zeros = vec![0; 512];
        for image in [main.clone(), [&early[..], &zeros, &main].concat(), [&early[..], &zeros, &zst].concat(), zst.clone()] {
            let mut tree = Tree::default();
            read(&image, &mut tree, |n| (n != "skipped").then_some(Wanted::Text)).unwrap();
            assert_eq!((tree.look("usr/lib/a.ko"), tree.look("etc/b.conf")), (Found::Kept(b"one"), Found::Kept(b"three")));
            assert_eq!(tree.look("skipped"), Found::Unread("skipped"));
        }
    }

    #[test]
    fn a_truncated_entry_is_an_error() {
        let (a, b) = (entry("a", 0o100_644, b"one"), entry("b", 0o100_644, &[1; 100]));
        let main = [&a[..], &b].concat();
        for end in (1..main.len()).filter(|end| *end != a.len()) {
            assert!(unpack(&main[..end]).is_err(), "{end}");
            // The stream is complete, but its content is not.
            assert!(unpack(&zstd::stream::encode_all(&main[..end], 1).unwrap()).is_err(), "{end} in a packed stream");
        }
        assert!(unpack(b"").is_err() && unpack(b"\0\0\0\0").is_err() && unpack(b"hello").is_err());
    }

    /// `do_name` sets the state to `Reset` after each entry, which skips zeros and accepts anything that can start an archive.
    #[test]
    fn an_archive_needs_no_trailer_and_may_have_zeros_between_its_entries() {
        let (a, b) = (entries(&[("a", b"one")]), entries(&[("b", &[1; 100])]));
        let packed = zstd::stream::encode_all(&b[..], 1).unwrap();
        for (what, image) in [
            ("without a trailer", [&a[..], &b].concat()),
            ("zeros between entries", [&a[..], &[0; 512], &b, &[0; 4]].concat()),
            ("zeros before the trailer", [&a[..], &b, &[0; 8], &entry("TRAILER!!!", 0, b"")].concat()),
            ("a packed stream behind an entry", [&a[..], &packed].concat()),
        ] {
            for image in [
                image.clone(),
                if what.starts_with("a packed") { image } else { zstd::stream::encode_all(&image[..], 1).unwrap() },
            ] {
                let tree = unpack(&image).unwrap_or_else(|e| panic!("{what}: {e}"));
                assert_eq!((tree.look("a"), tree.look("b")), (Found::Kept(b"one"), Found::Kept(&[1; 100])), "{what}");
            }
        }
        assert!(unpack(&[&a[..], &[0; 2], &b].concat()).is_err(), "the kernel says: broken padding");
        assert!(unpack(&[&a[..], b"junk"].concat()).is_err());
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(noise in proptest::collection::vec(any::<u8>(), 0..64), at in 0..300usize) {
            let mut image = write(&[("a", b"one"), ("b", &[1; 100])]);
            let at = at % image.len();
            for (n, i) in noise.iter().zip(&mut image[at..]) {
                *i = *n;
            }
            let _ = (unpack(&image), unpack(&noise));
        }
    }
}
