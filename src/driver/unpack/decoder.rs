//! Decompresses an archive to a tar: one gzip member, one xz stream, or the file itself. Bytes after its end are not read.

use crate::driver::packing::Packing;
use anyhow::{bail, ensure, Context, Result};
use flate2::bufread::GzDecoder;
use liblzma::bufread::XzDecoder;
use liblzma::stream::{Error, Stream};
use std::io::{self, BufRead, Read};

/// Memory that xz may use. Its header may ask for up to 4 GiB; `xz -9` needs half of this limit.
const MAX_MEMORY: u64 = 128 << 20;

/// The reader for a format.
pub(super) enum Decoder<R> {
    Gzip(GzDecoder<R>),
    Xz(XzDecoder<R>),
    Tar(R),
}

impl<R: BufRead> Decoder<R> {
    pub(super) fn new(packing: Packing, packed: R) -> Result<Decoder<R>> {
        Ok(match packing {
            Packing::Gzip => Decoder::Gzip(GzDecoder::new(packed)),
            Packing::Xz => {
                let stream = Stream::new_stream_decoder(MAX_MEMORY, 0).context("making an xz decoder")?;
                Decoder::Xz(XzDecoder::new_stream(packed, stream))
            }
            Packing::Tar => Decoder::Tar(packed),
        })
    }

    /// The underlying reader, after everything was read. It must be at its end.
    pub(super) fn finish(self) -> Result<R> {
        let (mut packed, magic, one, several): (R, &[u8], _, _) = match self {
            Decoder::Gzip(decoder) => (decoder.into_inner(), &[0x1f, 0x8b], "gzip member", "gzip members"),
            Decoder::Xz(decoder) => (decoder.into_inner(), b"\xfd7zXZ\0", "xz stream", "xz streams"),
            Decoder::Tar(file) => return Ok(file),
        };
        let rest = packed.fill_buf().context("reading its end")?;
        if rest.starts_with(magic) {
            bail!("it consists of several {several}");
        }
        ensure!(rest.is_empty(), "it holds data after its {one}");
        Ok(packed)
    }
}

impl<R: BufRead> Read for Decoder<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Decoder::Gzip(decoder) => decoder.read(buffer),
            Decoder::Xz(decoder) => decoder.read(buffer).map_err(explained),
            Decoder::Tar(file) => file.read(buffer),
        }
    }
}

/// Replaces messages of liblzma that are meant for programmers.
fn explained(error: io::Error) -> io::Error {
    match error.get_ref().and_then(|e| e.downcast_ref::<Error>()) {
        Some(Error::MemLimit) => io::Error::other(format!(
            "its xz dictionary takes more than {} MiB of memory (xz -9 takes less)",
            MAX_MEMORY >> 20
        )),
        Some(Error::Data) => io::Error::new(io::ErrorKind::InvalidData, "its xz stream is damaged"),
        _ => error,
    }
}
