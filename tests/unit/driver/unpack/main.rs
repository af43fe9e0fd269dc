//! Honest and hostile archives: the unpacker extracts an honest one completely, refuses a hostile one, and never writes outside the private
//! directory.
#![allow(missing_docs)]

mod attacks;
mod honest_tools;
#[path = "../../../support/hostile.rs"]
mod hostile;
mod limits;
mod packings;
mod random;
#[path = "../../../support/tar.rs"]
mod tar;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tar::{gzip, Header, Tar};
use vfguard::driver::unpack::{unpack_within, Limits};
use vfguard::driver::{local_archive, Digest, Recipe, SourceTree};

/// A directory with the archive, files that must not change, and the private directory.
struct Case {
    dir: tempfile::TempDir,
    recipe: Recipe,
    limits: Limits,
}

impl Case {
    fn new() -> Case {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("into")).unwrap();
        fs::set_permissions(dir.path().join("into"), fs::Permissions::from_mode(0o700)).unwrap();
        fs::create_dir(dir.path().join("outside")).unwrap();
        fs::write(dir.path().join("outside/precious"), "untouched").unwrap();
        // Set explicitly, since another test changes the umask at the same time.
        fs::set_permissions(dir.path().join("outside/precious"), fs::Permissions::from_mode(0o644)).unwrap();
        let text = format!(
            "name = 'x'\ndevices = ['pci:v00001234d0000D0F0sv*sd*bc*sc*i*']\n[[releases]]\nversion = '1'\nurls = ['https://h/x']\nsha256 = '{}'\n",
            "0".repeat(64)
        );
        Case { recipe: Recipe::parse(&text, Path::new("x.toml")).unwrap(), limits: Limits::default(), dir }
    }

    fn private(&self) -> PathBuf {
        self.dir.path().join("into")
    }

    fn unpack(&self, archive: &[u8]) -> anyhow::Result<SourceTree> {
        let path = self.dir.path().join("a.tar.gz");
        fs::write(&path, archive).unwrap();
        let archive = local_archive(&path, &Digest::of(archive).unwrap()).unwrap();
        unpack_within(&archive, &self.private(), &self.recipe, &self.limits)
    }

    /// Asserts that everything outside the private directory is unchanged.
    fn assert_contained(&self, claim: &str) {
        let mut names: Vec<_> = fs::read_dir(self.dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["a.tar.gz", "into", "outside"], "{claim}");
        let outside = self.dir.path().join("outside");
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 1, "{claim}");
        let precious = fs::metadata(outside.join("precious")).unwrap();
        assert_eq!(fs::read_to_string(outside.join("precious")).unwrap(), "untouched", "{claim}");
        assert_eq!((precious.nlink(), precious.mode() & 0o7777), (1, 0o644), "{claim}");
    }
}

/// An archive like Intel's.
fn honest() -> Tar {
    Tar::default().dir("x-1/").file("x-1/COPYING", b"GPL").dir("x-1/src/").file("x-1/src/Makefile", b"all:\n")
}

fn read(tree: &SourceTree, path: &str) -> String {
    fs::read_to_string(tree.top().join(path)).unwrap()
}

/// Asserts that the private directory holds only plain files, directories and symbolic links that stay inside, with plain modes.
fn assert_plain(dir: &Path, claim: &str) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let meta = fs::symlink_metadata(&path).unwrap();
        assert!(meta.is_file() || meta.is_dir() || meta.is_symlink(), "{claim}: {path:?}");
        assert!(meta.is_symlink() || meta.mode() & 0o7022 == 0, "{claim}: {path:?} {:o}", meta.mode());
        if meta.is_dir() {
            assert_plain(&path, claim);
        }
    }
}
