//! Installs missing headers of a kernel with the machine's own package manager: never inside a transaction, with bounds on
//! time and tries. Whether it worked is checked on the disk.

use super::build;
use crate::error::{advise, Remedy};
use crate::finding::{Code, Fact, Finding};
use crate::host::{command, files, locks, Host};
use crate::kernel::tree::Tree;
use crate::kernel::KernelRelease;
use crate::packages::Packages;
use crate::progress::Progress;
use anyhow::Result;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Records of earlier tries, one file per kernel.
pub(super) const DIR: &str = "/var/lib/vfguard/records/headers";
/// Where the package manager's output goes.
const LOGS: &str = "/var/lib/vfguard/log";
/// Tries before a pause of [`REST`].
const TRIES: u32 = 3;
/// After this a mirror may have the package.
const REST: Duration = Duration::from_secs(24 * 3600);
/// Pause between two tries: another transaction may run, or a mirror may be in the middle of an update.
const PAUSE: Duration = Duration::from_secs(60);
/// How long to wait for a running package manager; `yum update` of a whole machine takes long.
const PATIENCE: Duration = Duration::from_secs(2 * 3600);

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Record {
    tries: u32,
    /// Time of the last try, in unix seconds.
    last: i64,
    /// The repositories were asked and do not have the package.
    absent: bool,
    said: String,
}

fn path(kernel: &KernelRelease) -> PathBuf {
    Path::new(DIR).join(format!("{kernel}.json"))
}

fn read(host: &Host, kernel: &KernelRelease) -> Record {
    host.read(path(kernel)).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
}

/// Whether the headers of a kernel are missing.
pub fn missing(host: &Host, kernel: &KernelRelease) -> bool {
    lacks(&Tree::of(host, kernel))
}

/// The same for a tree that may have been loaded already.
pub fn lacks(tree: &Tree) -> bool {
    tree.get().is_err_and(|finding| finding.code == Code::HeadersMissing)
}

/// Whether it makes sense to try to install them now.
pub fn worth_a_try(host: &Host, kernel: &KernelRelease) -> bool {
    let record = read(host, kernel);
    let now = jiff::Timestamp::now().as_second();
    let rested = now.saturating_sub(record.last).unsigned_abs() >= REST.as_secs();
    missing(host, kernel) && (rested || (record.tries < TRIES && !record.absent))
}

/// Why the headers could not be installed, as long as they are missing; with what to do if no repository has them any more.
pub fn last_failure(host: &Host, kernel: &KernelRelease) -> Option<Finding> {
    let record = read(host, kernel);
    if record.tries == 0 || !missing(host, kernel) {
        return None;
    }
    let bring = format!(
        "install the headers of {kernel} from the distribution's archive of old packages, or update to a kernel whose headers \
         are still offered, or give it up: vfguard decline {kernel}"
    );
    let (detail, remedy) = if record.absent {
        (format!("no repository offers the headers of {kernel} ({})", record.said), bring)
    } else {
        let again = crate::kernel::tree::install_headers(host, kernel);
        (format!("the headers of {kernel} could not be installed ({} tries): {}", record.tries, record.said), again)
    };
    Some(Finding::new(Fact::HeadersMissing, detail, remedy))
}

/// Installs the headers of a kernel. Waits while a package manager is running, so callers inside a transaction must not use
/// it: they would wait for themselves.
///
/// # Errors
/// When the headers are still missing after the last try. The reason is kept for [`last_failure`].
pub fn install(host: &Host, kernel: &KernelRelease, progress: &dyn Progress) -> Result<()> {
    let packages = Packages::here()?;
    let mut before = read(host, kernel);
    loop {
        if let Some(lock) = locks::wait(host, PATIENCE, locks::held) {
            return Err(advise(
                format!("a package manager still holds {lock} after {} h", PATIENCE.as_secs() / 3600),
                "vfguard reconcile, once it is done",
            ));
        }
        progress.note(&format!("{kernel}: installing its headers"));
        let tried = one_try(host, packages, kernel);
        if !missing(host, kernel) {
            // The record matters only while headers are missing.
            let _ = host.remove(path(kernel));
            progress.note(&format!("{kernel}: its headers are installed"));
            return Ok(());
        }
        let said = tried.unwrap_or_else(|e| format!("{e:#}"));
        let rested = before.tries >= TRIES || before.absent;
        let record = Record {
            tries: if rested { 1 } else { before.tries + 1 },
            last: jiff::Timestamp::now().as_second(),
            absent: packages.says_absent(&said),
            said: last_line(&said),
        };
        if let Err(e) = host.write_atomic(path(kernel), &serde_json::to_vec(&record)?, 0o644) {
            progress.note(&format!("{kernel}: this is not remembered: {e:#}"));
        }
        progress.note(&format!("{kernel}: its headers are not installed: {}", record.said));
        if record.absent || record.tries >= TRIES {
            let why = last_failure(host, kernel);
            let (detail, remedy) = why.map_or_else(|| (record.said, String::new()), |f| (f.detail, f.remedy));
            return Err(advise(detail, remedy));
        }
        before = record;
        std::thread::sleep(PAUSE);
    }
}

/// One installation. Returns what the package manager printed last; its exit code says less than the disk.
fn one_try(host: &Host, packages: Packages, kernel: &KernelRelease) -> Result<String> {
    if let Some(refresh) = packages.refresh() {
        // If the refresh fails, there may still be older lists and a cached package, so only the installation counts.
        let _ = command::run(&refresh);
    }
    let mut spec = packages.install_headers(kernel);
    let dir = host.path(LOGS);
    let log = dir.join(format!("{kernel}-headers.log"));
    // Without a log file only the end of the output is kept.
    if files::create_dirs(&dir, 0o750).is_ok() && files::remove(&log).is_ok() {
        build::log::prune(&dir);
        spec.log = Some(log);
    }
    let outcome = command::run(&spec).remedy(spec.line(), "run it by hand")?;
    if outcome.timed_out {
        return Ok(format!("{}\n{} did not end within {} s", outcome.output, spec.line(), spec.limit.as_secs()));
    }
    Ok(outcome.output)
}

fn last_line(text: &str) -> String {
    let told = |l: &&str| !l.trim().is_empty();
    let error = text.lines().rev().filter(told).find(|l| l.starts_with("Error") || l.starts_with("E: "));
    let line = error.or_else(|| text.lines().rev().find(told)).unwrap_or("it printed nothing");
    line.trim().chars().take(300).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host_with(record: &Record) -> (tempfile::TempDir, Host, KernelRelease) {
        let dir = tempfile::tempdir().unwrap();
        let host = Host::new(dir.path()).unwrap();
        let kernel: KernelRelease = "5.14.0-1.el9.x86_64".parse().unwrap();
        host.write_atomic(path(&kernel), &serde_json::to_vec(record).unwrap(), 0o644).unwrap();
        (dir, host, kernel)
    }

    #[test]
    fn tries_are_limited_and_start_again_a_day_later() {
        let now = jiff::Timestamp::now().as_second();
        for (tries, absent, age, worth) in [
            (0, false, 0, true),
            (1, false, 60, true),
            (3, false, 60, false),
            (1, true, 60, false),
            (3, true, 90_000, true),
            // The clock was set back: count it as another day.
            (3, true, -90_000, true),
        ] {
            let (_dir, host, kernel) = host_with(&Record { tries, absent, last: now - age, said: "x".into() });
            assert_eq!(worth_a_try(&host, &kernel), worth, "{tries} {absent} {age}");
        }
    }

    #[test]
    fn headers_that_no_repository_has_are_reported_with_a_remedy() {
        let (_dir, host, kernel) = host_with(&Record { tries: 1, absent: true, last: 0, said: "No match".into() });
        let finding = last_failure(&host, &kernel).unwrap();
        assert!(finding.detail.contains("no repository offers"), "{finding:?}");
        assert!(finding.remedy.contains("vfguard decline 5.14.0-1.el9.x86_64"), "{finding:?}");
    }

    #[test]
    fn the_error_shown_is_the_line_that_says_error() {
        assert_eq!(last_line("a\nError: Unable to find a match\nNothing to do\n\n"), "Error: Unable to find a match");
        assert_eq!(last_line("one\ntwo\n\n"), "two");
        assert_eq!(last_line(""), "it printed nothing");
    }
}
