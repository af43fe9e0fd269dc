//! Fetches the archive of a release and verifies its digest before anything reads its contents.
//!
//! The cache comes first (verified again each time), then the mirrors, then the recipe's URLs. Whatever a server does, the
//! download is bounded in time and size, and only the pinned bytes are accepted.

mod http;
mod limits;
mod names;
mod network;
mod place;
mod store;

use crate::driver::recipe::url::parse_url;
pub use limits::Limits;
pub use network::Network;
use place::places;
pub use place::{files, NotFetched, Unanswered};
pub(super) use store::SOURCES;

use super::{Digest, Recipe, Release};
use crate::config::Fetch;
use crate::error::{advise, Remedy};
use crate::host::Host;
use crate::progress::Progress;
use crate::text::redact::scrub;
use anyhow::{anyhow, Error, Result};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use store::Store;

/// The largest archive that a person may name. The configured limit is for downloads.
const MAX_LOCAL: u64 = 256 << 20;

/// Where an archive came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FetchedFrom {
    /// The cache; the digest was verified again.
    Cache,
    /// A URL, without credentials.
    Url(String),
    /// A file that the caller named.
    File(PathBuf),
}

impl std::fmt::Display for FetchedFrom {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            FetchedFrom::Cache => f.write_str("the cache"),
            FetchedFrom::Url(url) => f.write_str(url),
            FetchedFrom::File(path) => path.display().fmt(f),
        }
    }
}

/// An archive whose digest was verified on the open descriptor.
#[derive(Debug)]
pub struct VerifiedArchive {
    path: PathBuf,
    file: File,
    version: Option<String>,
    origin: FetchedFrom,
    sha256: Digest,
}

impl VerifiedArchive {
    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The verified descriptor, positioned at the beginning.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// The version of the release; none for a file that the caller named.
    pub fn version(&self) -> Option<&str> {
        self.version.as_deref()
    }

    /// Where it came from.
    pub fn origin(&self) -> &FetchedFrom {
        &self.origin
    }

    /// Its digest.
    pub fn sha256(&self) -> Digest {
        self.sha256
    }
}

/// Why an attempt failed, and how to go on.
enum Failure {
    /// A later attempt may succeed (after that time, if the server says so).
    Again(Error, Option<Duration>),
    /// The same, but the server could not be reached: the network may not be up yet.
    Unreached(Error),
    /// This place will not work; the next one may.
    Next(Error),
    /// The problem is on this machine: no other place helps.
    Stop(Error),
}

/// The archive of a release: from the cache, else from the mirrors, else from its URLs. Servers that are in `unanswered` are
/// not asked again, so without a network only the first release has to wait.
///
/// # Errors
/// A [`NotFetched`] with the failure of each place if all failed; or an error of this machine.
pub fn fetch(
    host: &Host,
    config: &Fetch,
    recipe: &Recipe,
    release: &Release,
    unanswered: &Unanswered,
    progress: &dyn Progress,
) -> Result<VerifiedArchive> {
    fetch_within(host, config, &Limits::of(config), recipe, release, unanswered, progress)
}

/// [`fetch`] with other limits, for tests.
///
/// # Errors
/// Those of [`fetch`].
pub fn fetch_within(
    host: &Host,
    config: &Fetch,
    limits: &Limits,
    recipe: &Recipe,
    release: &Release,
    unanswered: &Unanswered,
    progress: &dyn Progress,
) -> Result<VerifiedArchive> {
    let job = Job {
        host,
        config,
        limits,
        unanswered,
        store: Store::new(host, recipe.archive_name(release)),
        sha256: release.sha256,
        client: http::Lazy::default(),
        progress,
    };
    let done = |(path, file), origin| VerifiedArchive {
        path,
        file,
        version: Some(release.version.clone()),
        origin,
        sha256: release.sha256,
    };
    let mut failures = Vec::new();
    match job.store.cached(&job.sha256) {
        Ok(Some(found)) => return Ok(done(found, FetchedFrom::Cache)),
        Ok(None) => {}
        Err(e) => failures.push(format!("{e:#}")),
    }
    let act = format!("fetching {}", job.store.name());
    job.store.prepare().remedy(act.clone(), format!("make {} writable, or run this as root", job.store.shown()))?;
    for url in places(config, recipe, release) {
        let shown = scrub(&url);
        match job.place(&url, &shown) {
            Ok(found) => return Ok(done(found, FetchedFrom::Url(shown))),
            Err(Failure::Stop(e)) => {
                let cure = format!("make room in {} and see that it can be written", job.store.shown());
                return Err(e).remedy(act, cure);
            }
            Err(Failure::Again(e, _) | Failure::Unreached(e) | Failure::Next(e)) => {
                let failure = format!("{shown}: {}", scrub(&format!("{e:#}")));
                progress.note(&failure);
                failures.push(failure);
            }
        }
    }
    let name = job.store.name();
    let remedy = if failures.iter().any(|failure| failure.contains(store::OTHER_DIGEST)) {
        format!("ask its vendor for the SHA-256 of {name}; if it is not {}, correct `sha256` in the recipe", release.sha256)
    } else {
        format!("check the network, or name a mirror that has {name} in fetch.mirrors")
    };
    Err(NotFetched(failures.join("; "))).remedy(format!("{name} could not be downloaded"), remedy)
}

/// Whether the archive of a release could be fetched now, without fetching it: from the cache, or from the first place that
/// answers. Returns which one. Places in the network are asked only for the live machine.
///
/// # Errors
/// The failure of each place.
pub fn reachable(host: &Host, config: &Fetch, recipe: &Recipe, release: &Release) -> Result<String> {
    let name = recipe.archive_name(release);
    if local_archive(&host.path(Path::new(SOURCES).join(&name)), &release.sha256).is_ok() {
        return Ok(format!("{name} is in the cache"));
    }
    let (client, limits) = (http::Lazy::default(), Limits::of(config));
    let mut failures = Vec::new();
    for url in places(config, recipe, release) {
        let shown = scrub(&url);
        let parsed = parse_url(&url).map_err(|e| anyhow!(e))?;
        let answer = match parsed.to_file_path() {
            Ok(path) if parsed.scheme() == "file" => {
                open_regular(&host.path(path), config.max_bytes, 0).map(drop).map_err(Into::into)
            }
            Ok(_) | Err(()) if !host.is_live() => Err(anyhow!("not asked: this is another root")),
            Ok(_) | Err(()) => match client.get(&parsed, host, config, &limits) {
                // The body is not read.
                Ok(_) => Ok(()),
                Err(Failure::Again(e, _) | Failure::Unreached(e) | Failure::Next(e) | Failure::Stop(e)) => Err(e),
            },
        };
        match answer {
            Ok(()) => return Ok(format!("{name} is at {shown}")),
            Err(e) => failures.push(format!("{shown}: {}", scrub(&format!("{e:#}")))),
        }
    }
    Err(anyhow!("{name}: {}", failures.join("; ")))
}

/// An archive that the caller names together with its digest (`--source FILE --sha256 HEX`).
///
/// # Errors
/// When it cannot be read or has another digest.
pub fn local_archive(path: &Path, sha256: &Digest) -> Result<VerifiedArchive> {
    let act = format!("reading {}", path.display());
    let cure = "name a readable archive (.tar.gz, .tar.xz or .tar) with --source";
    let file = open_regular(path, MAX_LOCAL, 0).remedy(act.clone(), cure)?;
    let got = digest(&file, MAX_LOCAL).remedy(act.clone(), cure)?;
    if got != *sha256 {
        return Err(advise(
            format!("{act}: its SHA-256 is {got} instead of {sha256}"),
            "see where the file and the digest come from; only a digest from a trusted place is worth anything",
        ));
    }
    Ok(VerifiedArchive {
        path: path.to_owned(),
        file,
        version: None,
        origin: FetchedFrom::File(path.to_owned()),
        sha256: *sha256,
    })
}

/// Opens a regular file of at most `limit` bytes. A fifo is an error; opening it does not block.
fn open_regular(path: &Path, limit: u64, flags: i32) -> io::Result<File> {
    let flags = flags | nix::libc::O_NONBLOCK | nix::libc::O_CLOEXEC;
    let file = File::options().read(true).custom_flags(flags).open(path)?;
    let meta = file.metadata()?;
    if !meta.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
    if meta.len() > limit {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("larger than {limit} bytes")));
    }
    Ok(file)
}

/// The digest of a file. Its position is at the beginning again afterwards.
fn digest(mut file: &File, limit: u64) -> io::Result<Digest> {
    file.seek(SeekFrom::Start(0))?;
    let got = Digest::of(file.take(limit))?;
    file.seek(SeekFrom::Start(0))?;
    Ok(got)
}

/// The download of one archive.
struct Job<'a> {
    host: &'a Host,
    config: &'a Fetch,
    limits: &'a Limits,
    unanswered: &'a Unanswered,
    store: Store,
    sha256: Digest,
    client: http::Lazy,
    progress: &'a dyn Progress,
}

impl Job<'_> {
    /// Tries one place: several attempts with growing waits between them.
    fn place(&self, url: &str, shown: &str) -> Result<(PathBuf, File), Failure> {
        let parsed = parse_url(url).map_err(|e| Failure::Next(anyhow!(e)))?;
        if self.unanswered.holds(&parsed) {
            return Err(Failure::Next(anyhow!("not tried: its server could not be reached a moment ago")));
        }
        let mut wait = self.limits.backoff;
        let mut attempt = 1;
        loop {
            let outcome = match self.attempt(&parsed, shown) {
                // Not counted as an attempt: no server was reached.
                Err(Failure::Unreached(_)) if self.limits.network.may_come(self.host, &parsed, self.progress) => continue,
                Err(Failure::Unreached(e)) => {
                    if attempt >= self.config.attempts {
                        self.unanswered.note(&parsed);
                    }
                    Err(Failure::Again(e, None))
                }
                other => other,
            };
            match outcome {
                Err(Failure::Again(e, asked)) if attempt < self.config.attempts => {
                    // Random, so that machines that failed at the same time do not retry at the same time.
                    let pause = asked.unwrap_or(wait.mul_f64(1.0 + jitter())).min(self.limits.longest_wait);
                    self.progress.note(&format!(
                        "{shown}: {}; trying again in {:.1} s",
                        scrub(&format!("{e:#}")),
                        pause.as_secs_f64()
                    ));
                    std::thread::sleep(pause);
                    wait = wait.saturating_mul(2).min(self.limits.longest_wait);
                    attempt += 1;
                }
                other => return other,
            }
        }
    }

    fn attempt(&self, url: &reqwest::Url, shown: &str) -> Result<(PathBuf, File), Failure> {
        let deadline = Instant::now() + self.limits.overall;
        if url.scheme() == "file" {
            let path = url.to_file_path().map_err(|()| Failure::Next(anyhow!("it names no file")))?;
            let next = |e: io::Error| Failure::Next(e.into());
            let file = open_regular(&self.host.path(path), self.config.max_bytes, 0).map_err(next)?;
            let length = file.metadata().ok().map(|m| m.len());
            return self.receive(file, length, shown, deadline);
        }
        let response = self.client.get(url, self.host, self.config, self.limits)?;
        let length = response.content_length();
        self.receive(response, length, shown, deadline)
    }

    /// Writes the body to a temporary file beside the cache, and renames it into the cache if its digest is the pinned one.
    fn receive(
        &self,
        mut from: impl Read,
        length: Option<u64>,
        shown: &str,
        deadline: Instant,
    ) -> Result<(PathBuf, File), Failure> {
        let most = self.config.max_bytes;
        let too_large = || Failure::Next(anyhow!("larger than {most} bytes (fetch.max_bytes)"));
        if length.is_some_and(|l| l > most) {
            return Err(too_large());
        }
        let mut part = self.store.part().map_err(Failure::Stop)?;
        self.progress.begin(length, &format!("{} from {shown}", self.store.name()));
        let result = (|| {
            let mut buffer = [0; 64 << 10];
            let mut got = 0;
            loop {
                let n = match from.read(&mut buffer) {
                    Ok(0) => return Ok(()),
                    Ok(n) => n,
                    Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                    Err(e) => return Err(Failure::Again(http::told(&e).context(format!("after {got} bytes")), None)),
                };
                got += n as u64;
                if got > most {
                    return Err(too_large());
                }
                part.take(&buffer[..n]).map_err(Failure::Stop)?;
                self.progress.advance(n as u64);
                if Instant::now() > deadline {
                    let limit = self.limits.overall.as_secs_f64();
                    return Err(Failure::Again(anyhow!("not there after {limit} s ({got} bytes came)"), None));
                }
            }
        })();
        self.progress.end();
        result?;
        self.store.keep(part, &self.sha256)
    }
}

/// A random fraction by which a wait is extended: 0 to 0.5.
fn jitter() -> f64 {
    use std::hash::{BuildHasher, Hasher};
    let random = std::collections::hash_map::RandomState::new().build_hasher().finish();
    (random % 512) as f64 / 1024.0
}
