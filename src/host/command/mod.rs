//! Describe, then run: a pure function makes a [`Spec`], and the one runner here runs it: no shell, a clean environment, a
//! time limit, the whole output to a log or through a pipe, and its last line in the error. The child's process group dies
//! with vfguard.

pub mod tied;

use crate::error::Remedy;
use anyhow::{Context, Result};
use nix::fcntl::OFlag;
use nix::poll::{poll, PollFd, PollFlags, PollTimeout};
use nix::sys::signal::{killpg, Signal};
use nix::unistd::Pid;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, ErrorKind, PipeReader, Read, Seek, SeekFrom};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// Where programs are searched; the caller's PATH is not trusted.
pub const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Bytes at the end of a log that are kept for a message.
const TAIL: u64 = 4096;
/// Bytes of output that are kept if there is no log: `systemctl show` for every unit that the gate knows prints 1 KiB,
/// `grubby --info=ALL` with a full /boot 20 KiB. The end is kept, because programs say there why they failed.
const MAX_OUTPUT: usize = 1 << 20;
/// Bytes per read: the size of a pipe.
const PIECE: usize = 64 << 10;
/// The time for a process group between SIGTERM and SIGKILL.
const GRACE: Duration = Duration::from_secs(2);
/// How often a running child is checked.
const POLL: Duration = Duration::from_millis(10);

/// A description of a program to run.
#[derive(Clone, Debug)]
pub struct Spec {
    /// Name or path of the program.
    pub program: OsString,
    /// Its arguments.
    pub args: Vec<OsString>,
    /// Environment in addition to PATH, LC_ALL=C and HOME=/.
    pub env: Vec<(OsString, OsString)>,
    /// Working directory; the default is `/`.
    pub dir: PathBuf,
    /// The process group is killed after this time.
    pub limit: Duration,
    /// The file that gets stdout and stderr; without it, a pipe that is read while the program runs. Never a file in /tmp,
    /// because any user can fill that.
    pub log: Option<PathBuf>,
    /// Whether it keeps running when vfguard is killed or the time limit is reached: a package manager that is killed in a
    /// transaction leaves a half-installed package. The next run notices its lock ([`super::locks`]) and waits. Without a
    /// log its output is discarded: a pipe would end with vfguard, and the program would fail when it writes.
    pub outlives: bool,
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
            outlives: false,
        }
    }

    /// The command line as a person would type it.
    pub fn line(&self) -> String {
        let words = std::iter::once(&self.program).chain(&self.args);
        words.map(|w| w.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
    }

    /// The [`Command`] with a clean environment and a process group of its own, not yet started. The group dies with
    /// vfguard.
    pub fn command(&self) -> Command {
        let mut command = self.ungrouped();
        command.process_group(0);
        if !self.outlives {
            tied::tie(&mut command);
        }
        command
    }

    /// The same in vfguard's own process group, for a child that starts a session: a group leader cannot do that.
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
pub struct Ended {
    /// Its exit status.
    pub status: ExitStatus,
    /// Whether it was killed at the time limit.
    pub timed_out: bool,
    /// Its stdout and stderr in order: all of it, or its end if it is more than a mebibyte; with a log, the log's last 4
    /// KiB.
    pub output: String,
    /// Whether something is missing in `output`. Then no answer may be read from it.
    pub cut: bool,
}

impl Ended {
    /// Exit status 0 within the time limit.
    pub fn success(&self) -> bool {
        self.status.success() && !self.timed_out
    }
}

/// Runs a program to its end. If it fails, that is an [`Ended`], not an error.
///
/// # Errors
/// When it cannot be started, or its output cannot be read.
pub fn run(spec: &Spec) -> Result<Ended> {
    let Some(path) = &spec.log else {
        return if spec.outlives { unheard(spec) } else { piped(spec) };
    };
    let mut log = File::options()
        .create(true)
        .append(true)
        .read(true)
        .mode(0o640)
        .custom_flags(nix::libc::O_NOFOLLOW)
        .open(path)
        .with_context(|| format!("opening the log {}", path.display()))?;
    let mut child = spawn(spec, log.try_clone()?, log.try_clone()?)?;
    let (status, timed_out) = if spec.outlives { await_end(&mut child, spec.limit) } else { wait(&mut child, spec.limit) }?;
    let length = log.seek(SeekFrom::End(0))?;
    log.seek(SeekFrom::Start(length.saturating_sub(TAIL)))?;
    let mut tail = Vec::new();
    log.take(TAIL).read_to_end(&mut tail)?;
    Ok(Ended { status, timed_out, output: String::from_utf8_lossy(&tail).into_owned(), cut: length > TAIL })
}

fn spawn(spec: &Spec, stdout: impl Into<Stdio>, stderr: impl Into<Stdio>) -> Result<Child> {
    let program = spec.program.to_string_lossy();
    let mut command = spec.command();
    command.stdout(stdout).stderr(stderr);
    command.spawn().remedy(format!("starting {program}"), format!("install the package that holds {program}"))
}

fn unheard(spec: &Spec) -> Result<Ended> {
    let mut child = spawn(spec, Stdio::null(), Stdio::null())?;
    let (status, timed_out) = await_end(&mut child, spec.limit)?;
    Ok(Ended { status, timed_out, output: String::new(), cut: true })
}

fn piped(spec: &Spec) -> Result<Ended> {
    let (reader, writer) = io::pipe().context("making a pipe for a program's output")?;
    nix::fcntl::fcntl(&reader, nix::fcntl::FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    // The command keeps its ends of the pipe until it is dropped, at the end of spawn.
    let mut child = spawn(spec, writer.try_clone()?, writer)?;
    let mut output = Output { reader: Some(reader), kept: Vec::new(), cut: false };
    let (status, timed_out) = wait_with(&mut child, spec.limit, |pause| {
        output.read(pause);
    })?;
    // Read the rest of the output: a pipe may contain a mebibyte. A grandchild that left the group may still hold the other
    // end, so this neither waits for the end of the pipe nor reads forever.
    for _ in 0..2 * MAX_OUTPUT / PIECE {
        if !output.read(Duration::ZERO) {
            break;
        }
    }
    Ok(Ended { status, timed_out, output: String::from_utf8_lossy(&output.kept).into_owned(), cut: output.cut })
}

/// The output read from a pipe so far.
struct Output {
    /// None after the other end was closed.
    reader: Option<PipeReader>,
    kept: Vec<u8>,
    cut: bool,
}

impl Output {
    /// Reads what is available; waits at most `pause` for it. Returns whether there was anything.
    fn read(&mut self, pause: Duration) -> bool {
        let Some(reader) = &mut self.reader else {
            std::thread::sleep(pause);
            return false;
        };
        let before = self.kept.len();
        let timeout = PollTimeout::try_from(pause).unwrap_or(PollTimeout::ZERO);
        let _ = poll(&mut [PollFd::new(reader.as_fd(), PollFlags::POLLIN)], timeout);
        let mut piece = [0; PIECE];
        // One pipe full at a time, so that a flood of output does not delay the time limit.
        match reader.read(&mut piece) {
            Ok(0) => self.reader = None,
            Ok(n) => self.kept.extend_from_slice(&piece[..n]),
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            Err(_) => (self.reader, self.cut) = (None, true),
        }
        let grown = self.kept.len() > before;
        if let Some(over) = self.kept.len().checked_sub(MAX_OUTPUT).filter(|&n| n > 0) {
            self.kept.drain(..over);
            self.cut = true;
        }
        grown
    }
}

/// Runs a program that must succeed.
///
/// # Errors
/// Those of [`run`], and an exit status other than 0, with the program's last line.
pub fn run_ok(spec: &Spec) -> Result<Ended> {
    let outcome = run(spec)?;
    if outcome.timed_out {
        anyhow::bail!("{} did not end within {} s", spec.line(), spec.limit.as_secs());
    }
    if !outcome.success() {
        let last = outcome.output.lines().rev().find(|l| !l.trim().is_empty()).unwrap_or("it printed nothing");
        anyhow::bail!("{}: {} ({})", spec.line(), last.trim(), outcome.status);
    }
    Ok(outcome)
}

/// Waits for a child that leads its own process group. The group is killed at the time limit, and in any case after its
/// leader has ended, so that no process survives.
///
/// # Errors
/// Those of waitpid(2).
pub fn wait(child: &mut Child, limit: Duration) -> io::Result<(ExitStatus, bool)> {
    wait_with(child, limit, std::thread::sleep)
}

/// [`wait`], with `meanwhile` called repeatedly to pass the time.
fn wait_with(child: &mut Child, limit: Duration, mut meanwhile: impl FnMut(Duration)) -> io::Result<(ExitStatus, bool)> {
    let group = Pid::from_raw(child.id() as i32);
    let start = Instant::now();
    let mut timed_out = false;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        let elapsed = start.elapsed();
        if elapsed >= limit.saturating_add(GRACE) {
            let _ = killpg(group, Signal::SIGKILL);
        } else if elapsed >= limit && !timed_out {
            timed_out = true;
            let _ = killpg(group, Signal::SIGTERM);
        }
        meanwhile(POLL);
    };
    // ESRCH (no process left) is normal.
    let _ = killpg(group, Signal::SIGKILL);
    Ok((status, timed_out))
}

/// Waits for a child that must not be killed. After the time limit it keeps running.
fn await_end(child: &mut Child, limit: Duration) -> io::Result<(ExitStatus, bool)> {
    let start = Instant::now();
    loop {
        match child.try_wait()? {
            Some(status) => return Ok((status, false)),
            None if start.elapsed() >= limit => return Ok((ExitStatus::default(), true)),
            None => std::thread::sleep(POLL),
        }
    }
}

/// The full path of a program in [`PATH`], if it exists.
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
    fn a_time_limit_kills_the_whole_process_group() {
        let dir = tempfile::tempdir().unwrap();
        let mark = dir.path().join("survived");
        let script = format!("(sleep 1; touch {}) & sleep 30", mark.display());
        let outcome = run(&Spec::new("sh", ["-c", &script], Duration::from_millis(200))).unwrap();
        assert!(outcome.timed_out && !outcome.success());
        std::thread::sleep(Duration::from_millis(1200));
        assert!(!mark.exists(), "a grandchild outlived its group");
    }

    #[test]
    fn the_environment_is_clean_and_the_output_is_kept() {
        let outcome = run(&Spec::new("env", [] as [&str; 0], Duration::from_secs(5))).unwrap();
        assert!(outcome.output.contains("LC_ALL=C"));
        assert!(!outcome.output.contains("CARGO"));
        let error = run_ok(&Spec::new("sh", ["-c", "echo why >&2; exit 7"], Duration::from_secs(5))).unwrap_err();
        assert!(error.to_string().contains("why"), "{error}");
    }

    fn shell(script: &str) -> Ended {
        run(&Spec::new("sh", ["-c", script], Duration::from_secs(20))).unwrap()
    }

    #[test]
    fn output_larger_than_a_pipe_is_read_whole_while_the_program_runs() {
        let outcome = shell("seq 100000; echo end >&2");
        assert!(outcome.success() && !outcome.cut);
        assert!(outcome.output.starts_with("1\n2\n") && outcome.output.ends_with("\n100000\nend\n"));
    }

    #[test]
    fn endless_output_is_bounded_and_marked_as_cut() {
        let outcome = shell("head -c 3000000 /dev/zero | tr '\\0' x; echo end");
        assert!(outcome.success() && outcome.cut);
        assert!(outcome.output.len() == MAX_OUTPUT && outcome.output.ends_with("xend\n"));
        let endless = run(&Spec::new("yes", ["x"], Duration::from_secs(2))).unwrap();
        assert!(endless.timed_out && endless.cut && endless.output.len() == MAX_OUTPUT);
    }

    #[test]
    fn a_grandchild_that_keeps_the_pipe_open_is_not_waited_for() {
        let start = Instant::now();
        let outcome = shell("echo said; setsid sleep 15 & exit 3");
        assert_eq!((outcome.status.code(), outcome.output.as_str()), (Some(3), "said\n"));
        assert!(start.elapsed() < Duration::from_secs(10));
    }

    #[test]
    fn a_program_that_closes_its_output_is_still_waited_for() {
        let outcome = shell("exec >&- 2>&-; sleep 0.3; exit 4");
        assert_eq!((outcome.status.code(), outcome.cut), (Some(4), false));
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
