//! Describe, then run: a pure function makes a [`Spec`], this one runner runs it: no shell, a clean environment, a time
//! limit, the whole output to a log, its tail in the error; the child's process group dies with us.

use crate::error::Remedy;
use anyhow::{Context, Result};
use nix::sys::signal::{killpg, Signal};
use nix::unistd::Pid;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// Where programs are looked for; the caller's PATH is not trusted.
pub const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Bytes of output kept for a message when there is no log.
const TAIL: u64 = 4096;
/// How long a process group gets between SIGTERM and SIGKILL.
const GRACE: Duration = Duration::from_secs(2);
/// How often a running child is looked at.
const POLL: Duration = Duration::from_millis(10);

/// A program to run, described.
#[derive(Clone, Debug)]
pub struct Spec {
    /// Name or path of the program.
    pub program: OsString,
    /// Its arguments.
    pub args: Vec<OsString>,
    /// Environment beside PATH, LC_ALL=C and HOME=/.
    pub env: Vec<(OsString, OsString)>,
    /// Working directory; `/` unless told.
    pub dir: PathBuf,
    /// The process group is ended after this long.
    pub limit: Duration,
    /// Where stdout and stderr go together; else a temporary file, of which the tail is kept.
    pub log: Option<PathBuf>,
}

impl Spec {
    /// A program with arguments and a time limit.
    pub fn new<A: AsRef<OsStr>>(program: &str, args: impl IntoIterator<Item = A>, limit: Duration) -> Spec {
        Spec {
            program: program.into(),
            args: args.into_iter().map(|a| a.as_ref().to_owned()).collect(),
            env: Vec::new(),
            dir: "/".into(),
            limit,
            log: None,
        }
    }

    /// The command line as a person would type it.
    pub fn line(&self) -> String {
        let words = std::iter::once(&self.program).chain(&self.args);
        words.map(|w| w.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
    }

    /// The [`Command`] with a clean environment in a process group of its own, not yet started.
    pub fn command(&self) -> Command {
        let mut command = self.ungrouped();
        command.process_group(0);
        command
    }

    /// The same in our process group, for a child that begins a session: who leads a group may not.
    pub fn ungrouped(&self) -> Command {
        let mut command = Command::new(&self.program);
        command
            .args(&self.args)
            .env_clear()
            .env("PATH", PATH)
            .env("LC_ALL", "C")
            .env("HOME", "/")
            .envs(self.env.iter().map(|(k, v)| (k, v)))
            .current_dir(&self.dir)
            .stdin(Stdio::null());
        command
    }
}

/// How a program ended.
#[derive(Debug)]
pub struct Outcome {
    /// Its exit status.
    pub status: ExitStatus,
    /// Whether the time limit ended it.
    pub timed_out: bool,
    /// The end of what it printed.
    pub tail: String,
}

impl Outcome {
    /// Exit status 0 within the time limit.
    pub fn success(&self) -> bool {
        self.status.success() && !self.timed_out
    }
}

/// Runs a program to its end. That it fails is an [`Outcome`]; that it cannot be run is an error.
///
/// # Errors
/// When it cannot be started, or its log cannot be written or read.
pub fn run(spec: &Spec) -> Result<Outcome> {
    let mut log = match &spec.log {
        Some(path) => File::options()
            .create(true)
            .append(true)
            .read(true)
            .mode(0o640)
            .custom_flags(nix::libc::O_NOFOLLOW)
            .open(path)
            .with_context(|| format!("opening the log {}", path.display()))?,
        None => tempfile::tempfile().context("making a temporary file for a program's output")?,
    };
    let mut command = spec.command();
    command.stdout(log.try_clone()?).stderr(log.try_clone()?);
    let mut child = command.spawn().remedy(
        format!("starting {}", spec.program.to_string_lossy()),
        format!("install the package that holds {}", spec.program.to_string_lossy()),
    )?;
    let (status, timed_out) = wait(&mut child, spec.limit)?;
    let length = log.seek(SeekFrom::End(0))?;
    log.seek(SeekFrom::Start(length.saturating_sub(TAIL)))?;
    let mut tail = Vec::new();
    log.take(TAIL).read_to_end(&mut tail)?;
    Ok(Outcome { status, timed_out, tail: String::from_utf8_lossy(&tail).into_owned() })
}

/// Runs a program that must succeed.
///
/// # Errors
/// Those of [`run`], and an exit status other than 0, with the last line it printed.
pub fn run_ok(spec: &Spec) -> Result<Outcome> {
    let outcome = run(spec)?;
    if outcome.timed_out {
        anyhow::bail!("{} did not end within {} s", spec.line(), spec.limit.as_secs());
    }
    if !outcome.success() {
        let last = outcome.tail.lines().rev().find(|l| !l.trim().is_empty()).unwrap_or("it printed nothing");
        anyhow::bail!("{}: {} ({})", spec.line(), last.trim(), outcome.status);
    }
    Ok(outcome)
}

/// Waits for a child that leads its own process group; past the limit the group is ended, and it is ended in any case once
/// its leader is gone, so that nothing survives.
///
/// # Errors
/// Those of waitpid(2).
pub fn wait(child: &mut Child, limit: Duration) -> io::Result<(ExitStatus, bool)> {
    let group = Pid::from_raw(child.id() as i32);
    let start = Instant::now();
    let mut timed_out = false;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        let elapsed = start.elapsed();
        if elapsed >= limit + GRACE {
            let _ = killpg(group, Signal::SIGKILL);
        } else if elapsed >= limit && !timed_out {
            timed_out = true;
            let _ = killpg(group, Signal::SIGTERM);
        }
        std::thread::sleep(POLL);
    };
    // ESRCH (nobody left) is the rule.
    let _ = killpg(group, Signal::SIGKILL);
    Ok((status, timed_out))
}

/// The full path of a program in [`PATH`], if it is there.
pub fn find(program: &str) -> Option<PathBuf> {
    use std::os::unix::fs::PermissionsExt;
    PATH.split(':')
        .map(|dir| PathBuf::from(dir).join(program))
        .find(|p| p.metadata().is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_limit_ends_the_whole_process_group() {
        let dir = tempfile::tempdir().unwrap();
        let mark = dir.path().join("survived");
        let script = format!("(sleep 1; touch {}) & sleep 30", mark.display());
        let outcome = run(&Spec::new("sh", ["-c", &script], Duration::from_millis(200))).unwrap();
        assert!(outcome.timed_out && !outcome.success());
        std::thread::sleep(Duration::from_millis(1200));
        assert!(!mark.exists(), "a grandchild outlived its group");
    }

    #[test]
    fn the_environment_is_clean_and_the_tail_is_kept() {
        let outcome = run(&Spec::new("env", [] as [&str; 0], Duration::from_secs(5))).unwrap();
        assert!(outcome.tail.contains("LC_ALL=C"));
        assert!(!outcome.tail.contains("CARGO"));
        let error = run_ok(&Spec::new("sh", ["-c", "echo why >&2; exit 7"], Duration::from_secs(5))).unwrap_err();
        assert!(error.to_string().contains("why"), "{error}");
    }

    #[test]
    fn a_log_is_not_written_through_a_link_and_others_may_not_read_it() {
        use std::os::unix::fs::{symlink, PermissionsExt};
        let dir = tempfile::tempdir().unwrap();
        let (log, other) = (dir.path().join("log"), dir.path().join("other"));
        std::fs::write(&other, "").unwrap();
        symlink(&other, &log).unwrap();
        let mut spec = Spec::new("echo", ["evil"], Duration::from_secs(5));
        spec.log = Some(log.clone());
        assert!(run(&spec).is_err());
        assert_eq!(std::fs::read(&other).unwrap(), b"");
        std::fs::remove_file(&log).unwrap();
        run(&spec).unwrap();
        assert_eq!(log.metadata().unwrap().permissions().mode() & 0o007, 0);
    }
}
