//! Decompresses gzip, xz, lzma, zstd and lz4's legacy form within a limit. The format is recognised by content, not by name.

use std::borrow::Cow;
use std::cell::Cell;
use std::io::{self, BufRead, Read};
use std::rc::Rc;

/// The largest module that is read; the largest one of a debug kernel has some 60 MB.
pub const MAX_MODULE: u64 = 256 << 20;
/// The memory of a decoder: kernels are compressed with windows of up to 128 MB (zstd -22), modules with far smaller ones.
const MAX_WINDOW: u64 = 160 << 20;
/// The largest window for zstd, as a power of two: 128 MB.
const MAX_WINDOW_LOG: u32 = 27;

const GZIP: &[u8] = &[0x1f, 0x8b];
const XZ: &[u8] = &[0xfd, b'7', b'z', b'X', b'Z', 0];
const ZSTD: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];
/// How the kernel recognises lzma's old form, which has no magic: its usual properties, then the low byte of a power of two.
const LZMA: &[u8] = &[0x5d, 0];
/// Formats that are not read here, by their first bytes. The kernel (`lib/decompress.c`) reads all but the last.
const UNREAD: [(&[u8], &str); 4] = [
    (&[0x1f, 0x9e], "old gzip, which vfguard does not read"),
    (b"BZ", "bzip2, which vfguard does not read"),
    (&[0x89, 0x4c], "lzo, which vfguard does not read"),
    (&[0x04, 0x22, 0x4d, 0x18], "lz4 in frames, which the kernel does not read (only what lz4 -l writes)"),
];
/// The output of `lz4 -l`, the form that the kernel reads (`lib/decompress_unlz4.c`): blocks, each after its little-endian length.
const LZ4_LEGACY: &[u8] = &[0x02, 0x21, 0x4c, 0x18];
/// The decompressed size of a legacy lz4 block.
const LZ4_BLOCK: usize = 8 << 20;

/// How a file is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packing {
    /// Not at all.
    Plain,
    /// `.gz`
    Gzip,
    /// `.xz`
    Xz,
    /// `.zst`
    Zstd,
}

impl Packing {
    /// Recognises the format by the first bytes.
    pub fn of(bytes: &[u8]) -> Packing {
        match () {
            () if bytes.starts_with(GZIP) => Packing::Gzip,
            () if bytes.starts_with(XZ) => Packing::Xz,
            () if bytes.starts_with(ZSTD) => Packing::Zstd,
            () => Packing::Plain,
        }
    }
}

/// Bytes from which a decoder consumes one stream and leaves the rest, which clones of this value see.
#[derive(Clone)]
pub struct Bytes<'b>(Rc<Cell<&'b [u8]>>);

impl<'b> Bytes<'b> {
    /// Starts with all bytes.
    pub fn new(bytes: &'b [u8]) -> Bytes<'b> {
        Bytes(Rc::new(Cell::new(bytes)))
    }

    /// The bytes that are not consumed yet.
    pub fn rest(&self) -> &'b [u8] {
        self.0.get()
    }

    /// Consumes leading zeros.
    pub fn skip_zeros(&self) {
        self.advance(self.rest().iter().take_while(|&&b| b == 0).count());
    }

    fn advance(&self, n: usize) {
        self.0.set(&self.0.get()[n..]);
    }
}

impl Read for Bytes<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let n = self.rest().read(out)?;
        self.advance(n);
        Ok(n)
    }
}

impl BufRead for Bytes<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        Ok(self.rest())
    }

    fn consume(&mut self, n: usize) {
        self.advance(n);
    }
}

/// A reader that decompresses the one stream at the start of `source` and consumes no byte after it; none if the format is not known. The
/// first read may already fail.
///
/// # Errors
/// If a decoder cannot be created.
pub fn reader<'b>(source: &Bytes<'b>) -> io::Result<Option<Box<dyn Read + 'b>>> {
    let (bytes, source) = (source.rest(), source.clone());
    Ok(Some(if bytes.starts_with(GZIP) {
        Box::new(flate2::bufread::GzDecoder::new(source))
    } else if bytes.starts_with(XZ) {
        let stream = liblzma::stream::Stream::new_stream_decoder(MAX_WINDOW, 0)?;
        Box::new(liblzma::bufread::XzDecoder::new_stream(source, stream))
    } else if bytes.starts_with(LZMA) {
        let stream = liblzma::stream::Stream::new_lzma_decoder(MAX_WINDOW)?;
        Box::new(liblzma::bufread::XzDecoder::new_stream(source, stream))
    } else if bytes.starts_with(ZSTD) {
        let mut decoder = zstd::stream::read::Decoder::with_buffer(source)?.single_frame();
        decoder.window_log_max(MAX_WINDOW_LOG)?;
        Box::new(decoder)
    } else if bytes.starts_with(LZ4_LEGACY) {
        Box::new(Legacy { source, block: Vec::new(), given: 0 })
    } else {
        return Ok(None);
    }))
}

/// A known format that is not read here: its name, and what does not read it.
pub fn unread(bytes: &[u8]) -> Option<&'static str> {
    UNREAD.iter().find(|(magic, _)| bytes.starts_with(magic)).map(|(_, what)| *what)
}

/// The decompressed bytes; uncompressed ones are returned as they came, without a copy.
///
/// # Errors
/// If a stream is damaged, other data follows it, or it grows past `limit`.
pub fn plain<'b>(bytes: impl Into<Cow<'b, [u8]>>, limit: u64) -> io::Result<Cow<'b, [u8]>> {
    let bytes = bytes.into();
    let unpacked = unpack(&bytes, limit)?;
    Ok(unpacked.map_or(bytes, Cow::Owned))
}

fn unpack(bytes: &[u8], limit: u64) -> io::Result<Option<Vec<u8>>> {
    let (packing, source) = (Packing::of(bytes), Bytes::new(bytes));
    let mut plain = Vec::new();
    let mut any = false;
    // kmod reads several consecutive streams as one file.
    while !any || Packing::of(source.rest()) == packing {
        let Some(stream) = reader(&source)? else { break };
        stream.take(limit + 1 - plain.len() as u64).read_to_end(&mut plain)?;
        if plain.len() as u64 > limit {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("it grows past {limit} bytes")));
        }
        any = true;
        if packing == Packing::Xz {
            // Streams are padded with zeros.
            source.skip_zeros();
        }
    }
    if matches!(packing, Packing::Xz | Packing::Zstd) && !source.rest().is_empty() {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "something lies behind the packed stream"));
    }
    Ok(any.then_some(plain))
}

struct Legacy<'b> {
    source: Bytes<'b>,
    /// The last block, of which the first `given` bytes were returned.
    block: Vec<u8>,
    given: usize,
}

impl Read for Legacy<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        while self.given == self.block.len() {
            let rest = self.source.rest();
            let Some((length, behind)) = rest.split_first_chunk::<4>() else { return Ok(0) };
            if length == LZ4_LEGACY {
                self.source.advance(4);
                continue;
            }
            let length = u32::from_le_bytes(*length) as usize;
            // A kernel image ends with its decompressed size, which is not a block.
            let Some((block, _)) = behind.split_at_checked(length).filter(|_| length > 0) else { return Ok(0) };
            self.block.resize(LZ4_BLOCK, 0);
            let n = lz4_flex::block::decompress_into(block, &mut self.block)
                .map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))?;
            self.block.truncate(n);
            self.given = 0;
            self.source.advance(4 + length);
        }
        let n = (&self.block[self.given..]).read(out)?;
        self.given += n;
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn packed(content: &[u8]) -> Vec<Vec<u8>> {
        let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gz.write_all(content).unwrap();
        let mut xz = liblzma::write::XzEncoder::new(Vec::new(), 1);
        xz.write_all(content).unwrap();
        let block = lz4_flex::block::compress(content);
        let legacy = [LZ4_LEGACY, &u32::try_from(block.len()).unwrap().to_le_bytes()[..], &block].concat();
        let zst = zstd::stream::encode_all(content, 3).unwrap();
        vec![gz.finish().unwrap(), xz.finish().unwrap(), zst, legacy]
    }

    #[test]
    fn every_format_is_recognised_by_its_content() {
        let content: Vec<u8> = (0..100_000u32).map(|i| (i / 7) as u8).collect();
        for bytes in packed(&content).into_iter().chain([content.clone()]) {
            assert_eq!(plain(&bytes, MAX_MODULE).unwrap(), content);
        }
    }

    #[test]
    fn consecutive_streams_are_one_file_and_junk_after_them_is_an_error() {
        let (first, second) = (packed(b"first "), packed(b"second"));
        for (first, second) in first.iter().zip(&second).take(3) {
            let both = [&first[..], second].concat();
            assert_eq!(plain(&both, MAX_MODULE).unwrap(), &b"first second"[..]);
            assert!(plain(&both, 11).is_err(), "the bound is that of the whole");
        }
        let padded = [&first[1][..], &[0; 8], &second[1]].concat();
        assert_eq!(plain(padded, MAX_MODULE).unwrap(), &b"first second"[..]);
        for stream in &first[1..3] {
            assert!(plain([stream, &b"junk"[..]].concat(), MAX_MODULE).is_err());
        }
    }

    #[test]
    fn a_decoder_leaves_the_bytes_after_its_stream() {
        for stream in packed(b"content") {
            // A legacy lz4 stream ends at a block of length 0.
            let bytes = [&stream[..], &[0; 4], b"behind"].concat();
            let source = Bytes::new(&bytes);
            let mut plain = Vec::new();
            reader(&source).unwrap().unwrap().read_to_end(&mut plain).unwrap();
            assert_eq!((&plain[..], source.rest()), (&b"content"[..], &b"\0\0\0\0behind"[..]));
        }
    }

    #[test]
    fn output_that_grows_past_the_limit_is_an_error() {
        for bytes in packed(&vec![0; 1_000_000]) {
            assert!(plain(&bytes, 999_999).is_err());
            assert!(plain(&bytes, 1_000_000).is_ok());
        }
    }

    #[test]
    fn a_truncated_stream_is_an_error() {
        let content: Vec<u8> = (0..50_000u32).map(|i| (i * i / 3) as u8).collect();
        for bytes in packed(&content).into_iter().take(3) {
            for end in [7, bytes.len() / 2, bytes.len() - 1] {
                assert!(plain(&bytes[..end], MAX_MODULE).is_err(), "{end} of {}", bytes.len());
            }
        }
    }
}
