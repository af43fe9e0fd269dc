//! Downloads from a real server that misbehaves. The result is either the pinned bytes or an error, in limited time.
#![allow(missing_docs)]

mod cache;
mod network;
mod server;
#[path = "../../../support/mod.rs"]
mod support;
mod trust;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};
use support::{Authority, Reply, Server};
use vfguard::config::Fetch;
use vfguard::driver::fetch::{fetch_within, Limits, Network, NotFetched, Unanswered};
use vfguard::driver::{local_archive, Digest, FetchedFrom, Recipe, VerifiedArchive};
use vfguard::error::remedy;
use vfguard::host::Host;
use vfguard::progress::Progress;

/// The content to download. Fetching does not care about it, except that it reports content that is not an archive.
fn archive() -> Vec<u8> {
    let mut bytes = vec![0x1f, 0x8b];
    bytes.extend((0..9000u32).flat_map(|i| (i.wrapping_mul(2_654_435_761) >> 8).to_le_bytes()));
    bytes
}

fn limits() -> Limits {
    Limits {
        connect: Duration::from_secs(5),
        stall: Duration::from_secs(5),
        overall: Duration::from_secs(15),
        backoff: Duration::from_millis(5),
        longest_wait: Duration::from_millis(40),
        network: Box::leak(Box::new(Network::new(Duration::from_secs(60)))),
    }
}

/// Much shorter than the time after which a server in these tests closes the connection, also on a busy machine.
const SOON: Duration = Duration::from_secs(10);

/// A machine with an empty cache.
struct Case {
    dir: tempfile::TempDir,
    host: Host,
    config: Fetch,
    limits: Limits,
    told: Notes,
}

#[derive(Default)]
struct Notes {
    notes: Mutex<Vec<String>>,
    open: Mutex<i32>,
    bytes: Mutex<u64>,
}

impl Progress for Notes {
    fn begin(&self, _total: Option<u64>, what: &str) {
        *self.open.lock().unwrap() += 1;
        self.note(what);
    }
    fn advance(&self, n: u64) {
        *self.bytes.lock().unwrap() += n;
    }
    fn end(&self) {
        *self.open.lock().unwrap() -= 1;
    }
    fn note(&self, text: &str) {
        self.notes.lock().unwrap().push(text.to_owned());
    }
}

impl Case {
    fn new() -> Case {
        let dir = tempfile::tempdir().unwrap();
        let host = Host::new(dir.path()).unwrap();
        let config = Fetch { attempts: 2, ..Fetch::default() };
        Case { dir, host, config, limits: limits(), told: Notes::default() }
    }

    /// Downloads, and checks what is left in the cache.
    fn fetch(&self, urls: &[&str]) -> anyhow::Result<VerifiedArchive> {
        let result = self.fetch_only(urls);
        assert_eq!(*self.told.open.lock().unwrap(), 0, "every begin has its end");
        if result.is_err() {
            assert!(!self.cached().exists(), "nothing wrong may get the archive's name");
        }
        assert!(self.sources().iter().all(|n| !n.starts_with(".part-")), "{:?}", self.sources());
        result
    }

    fn fetch_only(&self, urls: &[&str]) -> anyhow::Result<VerifiedArchive> {
        self.fetch_in_run(urls, &Unanswered::default())
    }

    fn fetch_in_run(&self, urls: &[&str], unanswered: &Unanswered) -> anyhow::Result<VerifiedArchive> {
        let text = format!(
            "name = 'x'\ndevices = ['pci:v00001234d*']\n[[releases]]\nversion = '1.0'\nurls = ['https://h/x']\nsha256 = '{}'\n",
            Digest::of(&archive()[..]).unwrap()
        );
        let mut recipe = Recipe::parse(&text, Path::new("x.toml")).unwrap();
        recipe.releases[0].urls = urls.iter().map(|u| u.to_string()).collect();
        fetch_within(&self.host, &self.config, &self.limits, &recipe, &recipe.releases[0], unanswered, &self.told)
    }

    /// A download that must succeed.
    fn good(&self, urls: &[&str]) -> VerifiedArchive {
        let found = self.fetch(urls).unwrap_or_else(|e| panic!("{urls:?}: {e:#}"));
        assert_eq!(Digest::of(found.file()).unwrap(), found.sha256());
        assert_eq!(fs::read(found.path()).unwrap(), archive());
        found
    }

    /// A download that must fail; returns the error.
    fn bad(&self, urls: &[&str]) -> String {
        let error = self.fetch(urls).expect_err("it must fail");
        assert!(remedy(&error).is_some_and(|r| !r.is_empty()), "{error:#}");
        format!("{error:#}")
    }

    fn directory(&self) -> PathBuf {
        self.dir.path().join("var/lib/vfguard/sources")
    }

    fn cached(&self) -> PathBuf {
        self.directory().join("x-1.0.tar.gz")
    }

    fn sources(&self) -> Vec<String> {
        let Ok(list) = fs::read_dir(self.directory()) else { return Vec::new() };
        list.map(|e| e.unwrap().file_name().into_string().unwrap()).collect()
    }

    fn notes(&self) -> String {
        self.told.notes.lock().unwrap().join("\n")
    }
}

fn write(path: &Path, content: &[u8]) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o644)).unwrap();
}
