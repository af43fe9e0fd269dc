//! Writes a module's file: compressed and labelled as the kernel's own modules are.

use crate::host::sys;
use crate::host::Host;
use crate::kernel::installed::modules_dir;
use crate::kernel::tree::BuildTree;
use crate::kernel::KernelRelease;
use anyhow::{Context, Result};
use liblzma::stream::{Check, Filters, LzmaOptions, Stream};
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

/// The dictionary size of the kernel's own `scripts/Makefile.modinst`. Not every kernel can decode with a larger one.
const XZ_DICTIONARY: u32 = 1 << 20;
/// The default preset of xz.
const XZ_PRESET: u32 = 6;
/// The default level of zstd, which the kernel uses too.
const ZSTD_LEVEL: i32 = 3;
/// Directories searched for a reference module; in every kernel one of the first few contains modules.
const MAX_DIRECTORIES: usize = 500;

/// How the modules of a kernel are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Compression {
    Plain,
    Gzip,
    Xz,
    Zstd,
}

impl Compression {
    pub(super) const ALL: [Compression; 4] = [Compression::Plain, Compression::Gzip, Compression::Xz, Compression::Zstd];

    /// The suffix of a module's file name.
    pub(super) fn suffix(self) -> &'static str {
        match self {
            Compression::Plain => ".ko",
            Compression::Gzip => ".ko.gz",
            Compression::Xz => ".ko.xz",
            Compression::Zstd => ".ko.zst",
        }
    }

    fn of(path: &Path) -> Option<Compression> {
        let name = path.file_name()?.to_str()?;
        Compression::ALL.into_iter().find(|c| name.ends_with(c.suffix()))
    }

    /// The bytes to write.
    pub(super) fn compress(self, bytes: &[u8]) -> Result<Vec<u8>> {
        match self {
            Compression::Plain => anyhow::Ok(bytes.to_vec()),
            Compression::Gzip => {
                let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
                encoder.write_all(bytes)?;
                Ok(encoder.finish()?)
            }
            Compression::Xz => {
                let mut options = LzmaOptions::new_preset(XZ_PRESET)?;
                options.dict_size(XZ_DICTIONARY);
                let mut filters = Filters::new();
                filters.lzma2(&options);
                // The kernel's decoder supports only this check.
                let stream = Stream::new_stream_encoder(&filters, Check::Crc32)?;
                let mut encoder = liblzma::write::XzEncoder::new_stream(Vec::new(), stream);
                encoder.write_all(bytes)?;
                Ok(encoder.finish()?)
            }
            Compression::Zstd => Ok(zstd::encode_all(bytes, ZSTD_LEVEL)?),
        }
        .context("compressing a module")
    }
}

/// One of the kernel's own modules, used as the reference module.
pub(super) fn reference(host: &Host, kernel: &KernelRelease) -> Option<PathBuf> {
    let mut todo = vec![host.path(modules_dir(kernel).join("kernel"))];
    for _ in 0..MAX_DIRECTORIES {
        let mut entries: Vec<_> = fs::read_dir(todo.pop()?).into_iter().flatten().flatten().collect();
        entries.sort_by_key(|e| e.file_name());
        for entry in entries {
            let Ok(kind) = entry.file_type() else { continue };
            if kind.is_dir() {
                todo.push(entry.path());
            } else if kind.is_file() && Compression::of(&entry.path()).is_some() {
                return Some(entry.path());
            }
        }
    }
    None
}

/// The compression of the reference module; without one, what the kernel's configuration says.
pub(super) fn compression(tree: &BuildTree, reference: Option<&Path>) -> Compression {
    if let Some(compression) = reference.and_then(Compression::of) {
        return compression;
    }
    let settings = [
        ("CONFIG_MODULE_COMPRESS_XZ", Compression::Xz),
        ("CONFIG_MODULE_COMPRESS_ZSTD", Compression::Zstd),
        ("CONFIG_MODULE_COMPRESS_GZIP", Compression::Gzip),
    ];
    settings.into_iter().find(|(name, _)| tree.is_set(name)).map_or(Compression::Plain, |(_, c)| c)
}

/// Gives a new file the SELinux label of the reference module, if there is one. A file with the wrong label is not loaded.
pub(super) fn label(file: &File, reference: Option<&Path>) -> Result<()> {
    let Some(value) = reference.and_then(|n| File::open(n).ok()).and_then(sys::label) else { return Ok(()) };
    if sys::label(file).as_ref() == Some(&value) {
        return Ok(());
    }
    sys::set_label(file, &value).context("copying the SELinux label of the kernel's own modules")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[test]
    fn each_compression_is_read_by_the_tool_that_the_system_has() {
        let bytes: Vec<u8> = (0..100_000u32).flat_map(|n| (n % 7919).to_le_bytes()).collect();
        for (compression, tool) in [(Compression::Gzip, "gzip"), (Compression::Xz, "xz"), (Compression::Zstd, "zstd")] {
            let packed = compression.compress(&bytes).unwrap();
            assert!(packed.len() < bytes.len());
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("x");
            fs::write(&path, &packed).unwrap();
            let Ok(mut child) = std::process::Command::new(tool)
                .arg("-dc")
                .stdin(File::open(&path).unwrap())
                .stdout(std::process::Stdio::piped())
                .spawn()
            else {
                continue;
            };
            let mut back = Vec::new();
            child.stdout.take().unwrap().read_to_end(&mut back).unwrap();
            assert!(child.wait().unwrap().success() && back == bytes, "{tool}");
        }
    }

    #[test]
    fn xz_has_the_check_and_the_dictionary_that_the_kernel_can_read() {
        let packed = Compression::Xz.compress(b"module").unwrap();
        // The stream header's flags: 00 01 is CRC32 (xz-file-format 2.1.1.2).
        assert_eq!(packed[..8], [0xfd, b'7', b'z', b'X', b'Z', 0, 0, 1]);
        // LZMA2's filter property 16 is 1 MiB (5.3.1).
        assert_eq!(packed[12..17], [2, 0, 0x21, 1, 16]);
    }
}
