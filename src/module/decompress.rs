//! Plain, gzip, xz or zstd, told by content and not by name, within a bound.

use std::borrow::Cow;
use std::io::{self, Read};

/// The largest module that is looked at; the largest of a debug kernel is some 60 MB.
const MAX_MODULE: u64 = 256 << 20;

const GZIP: &[u8] = &[0x1f, 0x8b];
const XZ: &[u8] = &[0xfd, b'7', b'z', b'X', b'Z', 0];
const ZSTD: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];

/// The plain bytes.
///
/// # Errors
/// A damaged stream, or one that grows past [`MAX_MODULE`].
pub(super) fn plain(bytes: &[u8]) -> io::Result<Cow<'_, [u8]>> {
    if bytes.starts_with(GZIP) {
        bounded(flate2::read::MultiGzDecoder::new(bytes)).map(Cow::Owned)
    } else if bytes.starts_with(XZ) {
        bounded(liblzma::read::XzDecoder::new_multi_decoder(bytes)).map(Cow::Owned)
    } else if bytes.starts_with(ZSTD) {
        bounded(zstd::stream::read::Decoder::new(bytes)?).map(Cow::Owned)
    } else {
        Ok(Cow::Borrowed(bytes))
    }
}

/// The plain bytes of any compressed file that belongs to a kernel (symvers, a module).
///
/// # Errors
/// Those of decompressing.
pub fn whole(bytes: Vec<u8>) -> io::Result<Vec<u8>> {
    match plain(&bytes)? {
        Cow::Owned(plain) => Ok(plain),
        Cow::Borrowed(_) => Ok(bytes),
    }
}

fn bounded(reader: impl Read) -> io::Result<Vec<u8>> {
    let mut plain = Vec::new();
    reader.take(MAX_MODULE + 1).read_to_end(&mut plain)?;
    if plain.len() as u64 > MAX_MODULE {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("grows past {MAX_MODULE} bytes")));
    }
    Ok(plain)
}
