//! Feeds arbitrary bytes to what reads input from outside: recipes, settings, arguments, archives. A panic, an endless run
//! or a file outside its directory is a failure. The runs here are short; tests/fuzz has a cargo-fuzz target of the same
//! name for each, and its corpus is run here as well.

use super::recipe::{Filling, Numbers};
use super::unpack::{unpack_within, Limits};
use super::{local_archive, Digest, Recipe};
use crate::config::Config;
use crate::host::Host;
use std::fs;
use std::io::{self, Write};
use std::path::Path;

/// A function that accepts any bytes.
pub type Parser = fn(&[u8]);

/// Each parser by the name of its target.
pub const ALL: [(&str, Parser); 4] =
    [("recipe", recipe), ("config", config), ("arguments", arguments), ("archive", archive)];

/// A recipe. If it is valid, everything that a build reads from it is read.
pub fn recipe(bytes: &[u8]) {
    let Ok(recipe) = Recipe::parse(&String::from_utf8_lossy(bytes), Path::new("/x")) else { return };
    let Ok(kernel) = "2.6.32-431.20.3.el6.x86_64".parse() else { return };
    let el = "el6_5".to_owned().try_into().ok();
    let tree = Filling { kernel: &kernel, source: Path::new("/a"), build: Path::new("/b"), compiler: "gcc" };
    for release in recipe.candidates(&Numbers::new(&kernel, el)) {
        recipe.make_args(Some(release), &tree);
        assert!(!recipe.archive_name(release).contains('/'), "an archive's name leads elsewhere");
    }
    recipe.claims("pci:v00008086d000010EDsv00008086sd00000000bc02sc00i00");
    recipe.release_named("ethernet-linux-demo-1.0");
    recipe.module();
}

/// A configuration file.
pub fn config(bytes: &[u8]) {
    let Ok(dir) = tempfile::tempdir() else { return };
    let file = dir.path().join("config.toml");
    if let (Ok(()), Ok(host)) = (fs::write(&file, bytes), Host::new(dir.path())) {
        let _ = Config::load(&host, Some(&file));
    }
}

/// A command line with one argument per line.
pub fn arguments(bytes: &[u8]) {
    use std::os::unix::ffi::OsStrExt;
    let args = bytes.split(|&b| b == b'\n').map(std::ffi::OsStr::from_bytes);
    let _ = crate::cli::command().try_get_matches_from(std::iter::once("vfguard".as_ref()).chain(args));
}

/// A tar, both as it is and compressed here, so that changed bytes reach the tar reader instead of failing a compression's
/// checksum.
pub fn archive(bytes: &[u8]) {
    for content in packed(bytes).into_iter().flatten() {
        let Ok(dir) = tempfile::tempdir() else { return };
        let (file, into) = (dir.path().join("a.tar.gz"), dir.path().join("into"));
        if fs::write(&file, &content).and_then(|()| fs::create_dir(&into)).is_err() {
            return;
        }
        let (Ok(digest), Ok(recipe)) = (Digest::of(&content[..]), Recipe::parse(RECIPE, Path::new("/x"))) else { return };
        if let Ok(archive) = local_archive(&file, &digest) {
            let _ = unpack_within(&archive, &into, &recipe, &Limits::default());
        }
        let beside = fs::read_dir(dir.path()).map_or(0, Iterator::count);
        assert_eq!(beside, 2, "something was written outside the directory");
    }
}

/// The bytes in each compression that vfguard reads.
fn packed(bytes: &[u8]) -> [io::Result<Vec<u8>>; 3] {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    let mut xz = liblzma::write::XzEncoder::new(Vec::new(), 0);
    [gzip.write_all(bytes).and_then(|()| gzip.finish()), xz.write_all(bytes).and_then(|()| xz.finish()), Ok(bytes.to_vec())]
}

/// A recipe for the source in the seed of `archive`.
const RECIPE: &str = "name = 'demo'\ndevices = ['pci:v00001234d0000D0F0sv*sd*bc*sc*i*']\n[[releases]]\nversion = '1.0'\n\
    urls = ['https://x/a.tar.gz']\nsha256 = '861eb54a9fdd1dceaf72a5651127e86bbf38cbf2e5433b3e5493992ff6a1f9f2'\n";

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn seeds(name: &str) -> Vec<Vec<u8>> {
        let top = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz");
        assert!(top.join(format!("fuzz_targets/{name}.rs")).is_file(), "tests/fuzz has no target {name}");
        let mut seeds: Vec<_> =
            fs::read_dir(top.join("corpus").join(name)).unwrap().map(|e| fs::read(e.unwrap().path()).unwrap()).collect();
        seeds.sort();
        assert!(!seeds.is_empty(), "{name} has no seed");
        seeds
    }

    #[test]
    fn the_seeds_are_valid_so_that_changed_seeds_reach_deep_code() {
        for text in seeds("recipe") {
            assert!(Recipe::parse(std::str::from_utf8(&text).unwrap(), Path::new("/x")).is_ok());
        }
        let recipe = Recipe::parse(RECIPE, Path::new("/x")).unwrap();
        for content in packed(&seeds("archive")[0]).map(Result::unwrap) {
            let dir = tempfile::tempdir().unwrap();
            let (file, into) = (dir.path().join("a.tar.gz"), dir.path().join("into"));
            fs::write(&file, &content).unwrap();
            fs::create_dir(&into).unwrap();
            let archive = local_archive(&file, &Digest::of(&content[..]).unwrap()).unwrap();
            unpack_within(&archive, &into, &recipe, &Limits::default()).unwrap();
        }
    }

    #[test]
    fn the_corpus_of_every_target_passes_with_each_byte_changed() {
        for (name, parser) in ALL {
            for mut bytes in seeds(name) {
                parser(&bytes);
                for at in 0..bytes.len().min(1024) {
                    let kept = bytes[at];
                    bytes[at] = kept.wrapping_mul(31).wrapping_add(u8::try_from(at % 251).unwrap());
                    parser(&bytes);
                    bytes[at] = kept;
                }
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(400))]

        #[test]
        fn no_bytes_make_a_parser_panic(which in 0..ALL.len(), noise in proptest::collection::vec(any::<u8>(), 0..600)) {
            ALL[which].1(&noise);
        }

        #[test]
        fn no_changed_bytes_make_the_unpacker_write_elsewhere(
            changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        ) {
            let mut bytes = seeds("archive").remove(0);
            for (at, value) in changes {
                let at = at.index(bytes.len());
                bytes[at] = value;
            }
            archive(&bytes);
        }
    }
}
