//! Archives, honest and hostile, through the unpacker: an honest one comes out whole, a hostile one is refused, and nothing
//! is ever written outside the private directory.
#![allow(missing_docs)]
#![allow(unused)] // the rest follows

#[path = "support/tar.rs"]
mod tar;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tar::{gzip, record, Header, Tar};
use vfguard::driver::unpack::{unpack_within, Limits};
use vfguard::driver::{local_archive, Digest, Recipe, SourceTree};

/// A sandbox directory with the archive, a place that must stay as it is, and the private directory.
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
        let text = format!(
            "name = 'x'\ndevices = []\n[[releases]]\nversion = '1'\nurls = ['https://h/x']\nsha256 = '{}'\n",
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

    /// Everything beside the private directory is as it was made.
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

/// What Intel's archives look like.
fn honest() -> Tar {
    Tar::default().dir("x-1/").file("x-1/COPYING", b"GPL").dir("x-1/src/").file("x-1/src/Makefile", b"all:\n")
}

fn read(tree: &SourceTree, path: &str) -> String {
    fs::read_to_string(tree.top().join(path)).unwrap()
}

#[test]
fn an_honest_archive_comes_out_whole_with_plain_modes_new_times_and_our_owner() {
    let case = Case::new();
    let script = Header::new(b'0', b"x-1/run.sh", 2).mode(0o6755);
    let old = Header::new(b'\0', b"x-1/old", 3).mode(0o000);
    let tree = case.unpack(&honest().raw(script, b"#!").raw(old, b"old").gz()).unwrap();
    assert_eq!(tree.top(), case.private().join("x-1"));
    assert_eq!(tree.directory(), case.private().join("x-1/src"));
    assert_eq!(tree.version(), Some("1"));
    assert_eq!(
        (read(&tree, "COPYING"), read(&tree, "src/Makefile"), read(&tree, "old")),
        ("GPL".into(), "all:\n".into(), "old".into())
    );
    for (path, mode) in [("run.sh", 0o755), ("COPYING", 0o644), ("old", 0o644), ("src", 0o755), (".", 0o755)] {
        let meta = fs::metadata(tree.top().join(path)).unwrap();
        assert_eq!(meta.mode() & 0o7777, mode, "{path}");
        assert_eq!(meta.uid(), nix::unistd::geteuid().as_raw(), "{path}");
        assert!(meta.modified().unwrap().elapsed().unwrap() < Duration::from_secs(60), "{path}");
    }
}
