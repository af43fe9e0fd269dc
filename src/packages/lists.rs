//! Package lists that are refreshed for one rehearsal, and the result of the refresh.
//!
//! apt: a private copy, so that neither root nor an ordinary user changes the machine's own (apt.conf(5), apt-get(8)).
//! dnf: its own cache as root; an ordinary user's dnf keeps one of its own (dnf.conf(5), dnf5-caching(7)).

use super::offer;
use super::Packages;
use crate::error::{advise, Remedy};
use crate::host::command::{self, Spec};
use crate::host::files;
use crate::release::KernelRelease;
use anyhow::{Context, Result};
use nix::unistd::geteuid;
use serde::Serialize;
use std::ffi::OsString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};
use tempfile::TempDir;

/// Time for refreshing all lists: 30 MB for each repository that was never read before; a mirror that does not answer is abandoned.
const REFRESH: Duration = Duration::from_secs(300);
/// Time for a query of existing lists.
const LOOK: Duration = Duration::from_secs(120);
/// The most output that is read: a listing of 64 packages takes some 30 KB.
const MAX_OUTPUT: u64 = 8 << 20;
/// The most bytes of lists that are copied; Debian's take 30 MB, with all that apt-file needs half a gigabyte. Lists that are left out are
/// downloaded again.
const MAX_COPIED: u64 = 1 << 30;
/// A reason is a single line of a report.
const MAX_REASON: usize = 200;
/// The number of kernels that dnf lists: the newest may be listed before its package is available.
const DNF_KERNELS: &str = "--latest-limit=4";
/// By Fedora's settings, dnf silently leaves out a repository that does not answer, and exits with 0.
const DNF_STRICT: &str = "--setopt=*.skip_if_unavailable=0";
pub(super) const DNF_LENIENT: &str = "--setopt=*.skip_if_unavailable=1";

const APT_LISTS: &str = "/var/lib/apt/lists";
const DNF_CACHES: [&str; 2] = ["/var/cache/dnf", "/var/cache/libdnf5"];

/// These settings come after the machine's own, so that none of those accepts a repository whose index is not signed: only `trusted=yes`
/// and `allow-insecure=yes` of a line in sources.list do, which name that one repository. The machine's hooks are for its own lists.
/// Nothing is installed, so descriptions in the user's language are not needed. apt's own download user cannot enter this private
/// directory, so apt downloads as the caller.
const APT_CONF: &str = "#clear APT::Update;\n\
    APT::Update::Error-Mode \"any\";\n\
    APT::Sandbox::User \"root\";\n\
    APT::Get::AllowUnauthenticated \"false\";\n\
    Acquire::AllowInsecureRepositories \"false\";\n\
    Acquire::AllowWeakRepositories \"false\";\n\
    Acquire::AllowDowngradeToInsecureRepositories \"false\";\n\
    Acquire::Languages \"none\";\n\
    Dir::Cache::srcpkgcache \"\";\n";

/// Proxy settings of the session; without them the package manager may not reach any repository.
const PROXIES: [&str; 8] =
    ["http_proxy", "https_proxy", "ftp_proxy", "all_proxy", "no_proxy", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"];

/// How fresh package lists are, so that old ones are never used silently.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Freshness {
    /// All lists were refreshed just now.
    pub refreshed: bool,
    /// Some of them were refreshed.
    pub in_part: bool,
    /// Days since the newest of the old lists was published; none if unknown, or if all were refreshed.
    pub age_days: Option<u64>,
    /// Why they could not be refreshed.
    pub why: Option<String>,
}

impl std::fmt::Display for Freshness {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let why = self.why.as_deref().unwrap_or("no reason is known");
        match (self.refreshed, self.in_part, self.age_days) {
            (true, _, _) => f.write_str("refreshed just now"),
            (false, true, _) => write!(f, "refreshed only in part: {why}"),
            (false, false, None) => write!(f, "of unknown age, and could not be refreshed: {why}"),
            (false, false, Some(0)) => write!(f, "less than a day old, and could not be refreshed: {why}"),
            (false, false, Some(1)) => write!(f, "1 day old, and could not be refreshed: {why}"),
            (false, false, Some(n)) => write!(f, "{n} days old, and could not be refreshed: {why}"),
        }
    }
}

/// The output of a program.
pub(super) struct Said {
    /// Whether it succeeded.
    pub(super) ok: bool,
    /// Its stdout and stderr.
    pub(super) text: String,
}

/// Package lists that were refreshed just now, or the machine's present ones if that was not possible.
pub struct Lists {
    packages: Packages,
    // apt's lists and cache, dnf's cache for an ordinary user, and the output of the programs.
    dir: TempDir,
    freshness: Freshness,
    // dnf's answer to the query that refreshed its lists.
    kernels: Vec<KernelRelease>,
}

impl Lists {
    /// Refreshes the lists of a package manager. A failure is reported by [`Lists::freshness`].
    ///
    /// # Errors
    /// If there are no lists at all, or nothing can be run.
    pub fn refresh(packages: Packages) -> Result<Lists> {
        let dir = tempfile::Builder::new()
            .prefix("vfguard-lists-")
            .tempdir()
            .remedy("making a directory for package lists", "point TMPDIR at a writable directory")?;
        let freshness = Freshness { refreshed: true, in_part: false, age_days: None, why: None };
        let lists = Lists { packages, dir, freshness, kernels: Vec::new() };
        match packages {
            Packages::Apt => lists.refresh_apt(),
            Packages::Dnf => lists.refresh_dnf(),
            Packages::Yum => Err(super::no_download()),
        }
    }

    /// How fresh they are.
    pub fn freshness(&self) -> &Freshness {
        &self.freshness
    }

    /// The package manager of the lists.
    pub(super) fn packages(&self) -> Packages {
        self.packages
    }

    /// The kernels that dnf offers.
    pub(super) fn dnf_kernels(&self) -> &[KernelRelease] {
        &self.kernels
    }

    fn refresh_apt(mut self) -> Result<Lists> {
        let own = self.dir.path().join("lists");
        files::create_dirs(&own.join("partial"), 0o755)?;
        fs::write(self.apt_conf(), APT_CONF).context("writing settings for apt")?;
        copy_lists(Path::new(APT_LISTS), &own)?;
        let mut spec = self.apt("apt-get", ["update"]);
        spec.limit = REFRESH;
        let said = self.ask(spec)?;
        if !said.ok || offer::update_complains(&said.text) {
            let why = reason(&said.text);
            // Only lists of repositories that are configured now; lists of others may be there too.
            let targets =
                self.ask(self.apt("apt-get", ["indextargets", "--format", "$(FILENAME)", "Created-By: Packages"]))?;
            let any = targets.text.lines().any(|file| Path::new(file.trim()).exists());
            if !any {
                return Err(advise(
                    format!("there are no package lists here, and they could not be fetched: {why}"),
                    "apt-get update",
                ));
            }
            let releases = names(Path::new(APT_LISTS)).filter(|n| n.to_string_lossy().ends_with("Release"));
            let in_part = offer::updated_in_part(&said.text);
            self.freshness = old(in_part, why, releases.map(|name| Path::new(APT_LISTS).join(name)));
        }
        Ok(self)
    }

    fn refresh_dnf(mut self) -> Result<Lists> {
        let format = "%{VERSION}-%{RELEASE}.%{ARCH}\\n";
        let query = ["repoquery", DNF_KERNELS, "--qf", format, "kernel-devel"];
        let refresh = |how| {
            let mut spec = self.dnf(["--refresh", how].into_iter().chain(query));
            spec.limit = REFRESH;
            if !geteuid().is_root() {
                // An ordinary user's dnf5 would copy root's lists, even old ones, and take them for fresh.
                let mut elsewhere = OsString::from("--setopt=system_cachedir=");
                elsewhere.push(self.dir.path().join("none"));
                spec.args.push(elsewhere);
            }
            self.ask(spec)
        };
        let strict = refresh(DNF_STRICT)?;
        if strict.ok {
            self.kernels = offer::dnf_kernels(&strict.text);
            return Ok(self);
        }
        let why = reason(&strict.text);
        // One repository that does not answer should not keep the others from being refreshed.
        let lenient = refresh(DNF_LENIENT)?;
        let kernels = offer::dnf_kernels(&lenient.text);
        if lenient.ok && !kernels.is_empty() {
            self.freshness = old(true, why, std::iter::empty());
            self.kernels = kernels;
        } else {
            let said = self.ask(self.dnf(std::iter::once("-C").chain(query)))?;
            if !said.ok {
                return Err(advise(
                    format!("dnf has no package lists here, and they could not be fetched: {why}"),
                    "dnf makecache",
                ));
            }
            let repositories = DNF_CACHES
                .iter()
                .flat_map(|cache| names(Path::new(cache)).map(move |name| Path::new(cache).join(name)))
                .map(|repository| repository.join("repodata/repomd.xml"));
            self.freshness = old(false, why, repositories);
            self.kernels = offer::dnf_kernels(&said.text);
        }
        Ok(self)
    }

    fn apt_conf(&self) -> PathBuf {
        self.dir.path().join("apt.conf")
    }

    /// The command for apt-get or apt-cache on these lists.
    pub(super) fn apt<'a>(&self, program: &str, args: impl IntoIterator<Item = &'a str>) -> Spec {
        let setting = |name: &str, file: &str| {
            let mut setting = OsString::from(format!("{name}="));
            setting.push(self.dir.path().join(file));
            setting
        };
        let mut spec = Spec::new(program, ["-q"], LOOK);
        spec.args.extend(["-c".into(), self.apt_conf().into_os_string()]);
        spec.args.extend(["-o".into(), setting("Dir::State::Lists", "lists")]);
        spec.args.extend(["-o".into(), setting("Dir::Cache::pkgcache", "pkgcache.bin")]);
        spec.args.extend(args.into_iter().map(Into::into));
        spec.env = proxies();
        spec
    }

    /// The command for dnf on these lists.
    pub(super) fn dnf<'a>(&self, args: impl IntoIterator<Item = &'a str>) -> Spec {
        let mut spec = Spec::new("dnf", ["-q"], LOOK);
        spec.args.extend(args.into_iter().map(Into::into));
        spec.env = proxies();
        if !geteuid().is_root() {
            // HOME is / here, and dnf5 keeps an ordinary user's cache and log below it.
            for name in ["XDG_CACHE_HOME", "XDG_STATE_HOME"] {
                spec.env.push((name.into(), self.dir.path().into()));
            }
        }
        spec
    }

    /// Runs a program and reads its output.
    pub(super) fn ask(&self, mut spec: Spec) -> Result<Said> {
        let log = self.dir.path().join("said");
        files::remove(&log)?;
        spec.log = Some(log.clone());
        let outcome = command::run(&spec)?;
        let read = files::read_start(&log, MAX_OUTPUT).with_context(|| format!("reading what {} said", spec.line()))?;
        let mut text = String::from_utf8_lossy(&read).into_owned();
        if outcome.timed_out {
            let program = Path::new(&spec.program).display();
            text = format!("E: {program} did not end within {} s\n{text}", spec.limit.as_secs());
        }
        Ok(Said { ok: outcome.success(), text })
    }
}

/// The names in a directory, if it can be read.
fn names(dir: &Path) -> impl Iterator<Item = OsString> {
    fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.file_name())
}

/// The state of lists as old as the newest of these files.
fn old(in_part: bool, why: String, files: impl Iterator<Item = PathBuf>) -> Freshness {
    let newest = files.filter_map(|file| file.metadata().ok()?.modified().ok()).max();
    let age = newest.and_then(|time| SystemTime::now().duration_since(time).ok());
    Freshness { refreshed: false, in_part, age_days: age.map(|age| age.as_secs() / (24 * 3600)), why: Some(why) }
}

/// Copies the readable lists. They keep their times, since apt asks a mirror only for newer ones.
fn copy_lists(from: &Path, to: &Path) -> Result<()> {
    let mut left = MAX_COPIED;
    for name in names(from) {
        let (source, target) = (from.join(&name), to.join(&name));
        let Ok(meta) = source.metadata() else { continue };
        if !meta.is_file() || meta.len() == 0 || meta.len() > left || File::open(&source).is_err() {
            continue;
        }
        left -= meta.len();
        let act = || format!("copying {}", source.display());
        fs::copy(&source, &target).remedy(act(), "point TMPDIR at a directory with room")?;
        let time = meta.modified().with_context(act)?;
        File::options().write(true).open(&target).and_then(|f| f.set_modified(time)).with_context(act)?;
    }
    Ok(())
}

fn proxies() -> Vec<(OsString, OsString)> {
    PROXIES.iter().filter_map(|name| Some((name.into(), std::env::var_os(name)?))).collect()
}

/// Why a package manager failed: the first error that it printed, else its last line. It is a single line without the addresses to which a
/// host name was resolved.
pub(super) fn reason(text: &str) -> String {
    let marked = |marks: &[&str]| text.lines().find_map(|l| marks.iter().find_map(|m| l.strip_prefix(m)));
    let line = marked(&["E: ", "Error: "]).or_else(|| marked(&["W: ", "Warning: "]));
    let line = line.or_else(|| text.lines().rev().find(|l| !l.trim().is_empty())).unwrap_or("it printed nothing");
    let line = line.split(" [IP: ").next().unwrap_or(line);
    line.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(MAX_REASON).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_freshness_of_lists_is_shown_in_one_line() {
        let lists = |in_part, age_days| Freshness { refreshed: false, in_part, age_days, why: Some("no route".into()) };
        let fresh = Freshness { refreshed: true, in_part: false, age_days: None, why: None };
        assert_eq!(fresh.to_string(), "refreshed just now");
        assert_eq!(lists(false, Some(9)).to_string(), "9 days old, and could not be refreshed: no route");
        assert_eq!(lists(false, Some(1)).to_string(), "1 day old, and could not be refreshed: no route");
        assert_eq!(lists(false, Some(0)).to_string(), "less than a day old, and could not be refreshed: no route");
        assert_eq!(lists(false, None).to_string(), "of unknown age, and could not be refreshed: no route");
        assert_eq!(lists(true, Some(9)).to_string(), "refreshed only in part: no route");
    }

    #[test]
    fn the_reason_is_the_first_error() {
        // Output of apt 2.6.
        let text = "Err:1 http://h/d bookworm InRelease\n  Could not connect to h:80 (192.0.2.1). - connect (111: Connection refused)\n\
                    E: Failed to fetch http://h/d/dists/bookworm/InRelease  Could not connect [IP: 192.0.2.1 80]\n\
                    E: Some index files failed to download. They have been ignored, or old ones used instead.\n";
        assert_eq!(reason(text), "Failed to fetch http://h/d/dists/bookworm/InRelease Could not connect");
        assert_eq!(reason("one\nlast\n\n"), "last");
        assert_eq!(reason(""), "it printed nothing");
        assert_eq!(reason(&format!("E: {}", "x".repeat(9999))).len(), MAX_REASON);
    }

    #[test]
    fn copied_lists_keep_their_times_and_nothing_else_is_copied() {
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let then = SystemTime::now() - Duration::from_secs(9 * 24 * 3600);
        fs::write(from.path().join("a_Release"), "x").unwrap();
        File::options().write(true).open(from.path().join("a_Release")).unwrap().set_modified(then).unwrap();
        fs::write(from.path().join("lock"), "").unwrap();
        fs::create_dir(from.path().join("partial")).unwrap();
        copy_lists(from.path(), to.path()).unwrap();
        assert_eq!(names(to.path()).collect::<Vec<_>>(), ["a_Release"]);
        assert_eq!(to.path().join("a_Release").metadata().unwrap().modified().unwrap(), then);
        let age = old(false, String::new(), [to.path().join("a_Release"), to.path().join("none")].into_iter());
        assert_eq!(age.age_days, Some(9));
        // A machine without lists has nothing to copy.
        copy_lists(&from.path().join("absent"), to.path()).unwrap();
    }
}
