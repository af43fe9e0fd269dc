//! Plain, gzip, xz, zstd or lz4, told by content and not by name, within a bound.

use std::borrow::Cow;
use std::io::{self, Read};

/// The largest module that is looked at; the largest of a debug kernel is some 60 MB.
pub const MAX_MODULE: u64 = 256 << 20;
/// What a decoder may hold in memory: kernels are packed with windows of up to 128 MB (zstd -22), modules with far less.
const MAX_WINDOW: u64 = 160 << 20;
/// The same as a power of two, for zstd.
const MAX_WINDOW_LOG: u32 = 27;

const GZIP: &[u8] = &[0x1f, 0x8b];
const XZ: &[u8] = &[0xfd, b'7', b'z', b'X', b'Z', 0];
const ZSTD: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];
const LZ4_FRAME: &[u8] = &[0x04, 0x22, 0x4d, 0x18];
/// What `lz4 -l` writes, the form that the kernel reads (`lib/decompress_unlz4.c`): blocks behind their little-endian length.
const LZ4_LEGACY: &[u8] = &[0x02, 0x21, 0x4c, 0x18];
/// The plain size of a legacy lz4 block.
const LZ4_BLOCK: usize = 8 << 20;

/// How a file is packed.
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
    /// By the first bytes.
    pub fn of(bytes: &[u8]) -> Packing {
        match () {
            () if bytes.starts_with(GZIP) => Packing::Gzip,
            () if bytes.starts_with(XZ) => Packing::Xz,
            () if bytes.starts_with(ZSTD) => Packing::Zstd,
            () => Packing::Plain,
        }
    }
}

/// A reader of the plain bytes of one stream; none where the bytes are not compressed in a known way. It may fail at once.
///
/// # Errors
/// A decoder that cannot be made.
pub fn reader<'b>(bytes: &'b [u8]) -> io::Result<Option<Box<dyn Read + 'b>>> {
    Ok(Some(if bytes.starts_with(GZIP) {
        Box::new(flate2::read::GzDecoder::new(bytes))
    } else if bytes.starts_with(XZ) {
        let stream = liblzma::stream::Stream::new_stream_decoder(MAX_WINDOW, 0)?;
        Box::new(liblzma::read::XzDecoder::new_stream(bytes, stream))
    } else if bytes.starts_with(ZSTD) {
        let mut decoder = zstd::stream::read::Decoder::with_buffer(bytes)?.single_frame();
        decoder.window_log_max(MAX_WINDOW_LOG)?;
        Box::new(decoder)
    } else if bytes.starts_with(LZ4_FRAME) {
        Box::new(lz4_flex::frame::FrameDecoder::new(bytes))
    } else if let Some(rest) = bytes.strip_prefix(LZ4_LEGACY) {
        Box::new(Legacy { rest, block: io::Cursor::default() })
    } else {
        return Ok(None);
    }))
}

/// The plain bytes; what is not compressed is handed back as it came, without a copy.
///
/// # Errors
/// A damaged stream, something behind it, or one that grows past `limit`.
pub fn plain<'b>(bytes: impl Into<Cow<'b, [u8]>>, limit: u64) -> io::Result<Cow<'b, [u8]>> {
    let bytes = bytes.into();
    let unpacked = unpack(&bytes, limit)?;
    Ok(unpacked.map_or(bytes, Cow::Owned))
}

fn unpack(bytes: &[u8], limit: u64) -> io::Result<Option<Vec<u8>>> {
    // Several gzip members are one file to zlib's gzread, which kmod uses.
    let mut stream: Box<dyn Read> = if bytes.starts_with(GZIP) {
        Box::new(flate2::read::MultiGzDecoder::new(bytes))
    } else {
        match reader(bytes)? {
            Some(stream) => stream,
            None => return Ok(None),
        }
    };
    let mut plain = Vec::new();
    stream.by_ref().take(limit + 1).read_to_end(&mut plain)?;
    if plain.len() as u64 > limit {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("it grows past {limit} bytes")));
    }
    Ok(Some(plain))
}

struct Legacy<'b> {
    rest: &'b [u8],
    block: io::Cursor<Vec<u8>>,
}

impl Read for Legacy<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        loop {
            let n = self.block.read(out)?;
            if n > 0 || out.is_empty() {
                return Ok(n);
            }
            let Some((length, rest)) = self.rest.split_first_chunk::<4>() else { return Ok(0) };
            if length == LZ4_LEGACY {
                self.rest = rest;
                continue;
            }
            let length = u32::from_le_bytes(*length) as usize;
            // A kernel image ends with its plain size, which is no block.
            let Some((block, rest)) = rest.split_at_checked(length).filter(|_| length > 0) else { return Ok(0) };
            self.rest = rest;
            let mut plain = vec![0; LZ4_BLOCK];
            let n = lz4_flex::block::decompress_into(block, &mut plain)
                .map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))?;
            plain.truncate(n);
            self.block = io::Cursor::new(plain);
        }
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
        let mut frame = lz4_flex::frame::FrameEncoder::new(Vec::new());
        frame.write_all(content).unwrap();
        let block = lz4_flex::block::compress(content);
        let legacy = [LZ4_LEGACY, &u32::try_from(block.len()).unwrap().to_le_bytes()[..], &block].concat();
        let zst = zstd::stream::encode_all(content, 3).unwrap();
        vec![gz.finish().unwrap(), xz.finish().unwrap(), zst, frame.finish().unwrap(), legacy]
    }

    #[test]
    fn every_packing_is_told_by_its_content() {
        let content: Vec<u8> = (0..100_000u32).map(|i| (i / 7) as u8).collect();
        for bytes in packed(&content).into_iter().chain([content.clone()]) {
            assert_eq!(plain(&bytes, MAX_MODULE).unwrap(), content);
        }
    }

    #[test]
    fn what_grows_past_the_bound_is_an_error() {
        for bytes in packed(&vec![0; 1_000_000]) {
            assert!(plain(&bytes, 999_999).is_err());
            assert!(plain(&bytes, 1_000_000).is_ok());
        }
    }

    #[test]
    fn a_cut_stream_is_an_error() {
        let content: Vec<u8> = (0..50_000u32).map(|i| (i * i / 3) as u8).collect();
        for bytes in packed(&content).into_iter().take(3) {
            for end in [7, bytes.len() / 2, bytes.len() - 1] {
                assert!(plain(&bytes[..end], MAX_MODULE).is_err(), "{end} of {}", bytes.len());
            }
        }
    }
}
