//! Runs a program in the sandbox to its end. Its output is read as it comes, its time and disk space are bounded, and no
//! process of it survives.

use super::child::{number, SIGNALLED};
use super::scope::{Scope, ScopeGuard};
use super::watch::DiskWatch;
use super::{Sandbox, TMP};
use crate::error::{advise, Remedy};
use crate::host::command::Spec;
use crate::host::sys;
use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::fcntl::{fcntl, FcntlArg, OFlag};
use nix::poll::{poll, PollFd, PollFlags, PollTimeout};
use nix::sys::signal::{killpg, Signal};
use nix::unistd::{pipe2, Pid, Uid};
use std::fs::File;
use std::io::{self, PipeReader, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::fchown;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, ExitStatus};
use std::time::{Duration, Instant};

/// How often a running build is checked while it prints nothing.
const TICK: Duration = Duration::from_millis(50);
/// Time for a process group between SIGTERM and SIGKILL.
const GRACE: Duration = Duration::from_secs(2);

/// Why a build was stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// The time limit was reached.
    Time,
    /// The disk was nearly full.
    Disk,
    /// It used more disk space than a build may.
    TooLarge,
    /// It used more memory than a build may.
    Memory,
}

/// How a program in the sandbox ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    /// Its exit code; 128 and more for a signal, as in shells.
    pub code: i32,
    /// Why it was stopped, if vfguard stopped it.
    pub stopped: Option<Stop>,
}

impl Ended {
    /// Exit code 0, and not stopped.
    pub fn success(&self) -> bool {
        self.code == 0 && self.stopped.is_none()
    }

    /// Whether a signal ended it that vfguard did not send.
    pub fn killed(&self) -> bool {
        self.code == SIGNALLED + Signal::SIGKILL as i32 && self.stopped.is_none()
    }
}

impl Sandbox<'_> {
    /// Runs a program in `dir` of the build directory; `output` gets what it prints, as it comes.
    ///
    /// If the system seems to offer namespaces, Landlock or seccomp and then refuses them, the program runs without them,
    /// and `output` says so.
    ///
    /// # Errors
    /// When the sandbox cannot be created or the program cannot be started.
    pub fn run(&mut self, spec: &Spec, dir: &Path, output: &mut dyn FnMut(&[u8])) -> Result<Ended> {
        loop {
            if !self.level.has_namespaces() {
                self.way_is_open()?;
                self.remove_system_v()?;
            }
            match self.start(spec, dir) {
                Ok((child, reader, scope)) => {
                    let scope = scope.and_then(|moved| moved.map_err(|why| self.go_without_scope(why, output)).ok());
                    return self.follow(child, reader, scope.as_ref(), spec.limit, output);
                }
                Err(Refused::Namespaces(e)) => match self.level.weaker() {
                    Some(weaker) => {
                        self.level = weaker;
                        let now = self.containment();
                        output(
                            format!("vfguard: namespaces are refused here ({e}); the build is contained less: {now}\n")
                                .as_bytes(),
                        );
                    }
                    None => return Err(e.into()),
                },
                // The kernel has Landlock but refuses it: a container's filter does, or too many rulesets are nested.
                Err(Refused::Landlock(e)) => {
                    self.landlock = None;
                    output(format!("vfguard: Landlock is refused here ({e}); {}\n", self.containment()).as_bytes());
                }
                // The kernel has filters but refuses this one: a container's filter does, or no_new_privs is missing.
                Err(Refused::Seccomp(e)) => {
                    self.seccomp = false;
                    output(format!("vfguard: seccomp is refused here ({e}); {}\n", self.containment()).as_bytes());
                }
                Err(Refused::Other(e)) => return Err(e),
            }
        }
    }

    fn go_without_scope(&mut self, why: String, output: &mut dyn FnMut(&[u8])) {
        output(format!("vfguard: no cgroup for this build ({why}); its bounds are weaker\n").as_bytes());
        // Whatever the reason was, the next program would wait for it again.
        self.scope = Err(why);
    }

    fn start(&self, spec: &Spec, dir: &Path) -> Result<Started, Refused> {
        let (reader, writer) = io::pipe().context("making a pipe for a build's output")?;
        nonblocking(&reader).context("preparing a pipe for a build's output")?;
        let (report, reporter) = pipe2(OFlag::O_CLOEXEC).context("making a pipe for the sandbox")?;
        // Opening /dev/stderr or /dev/stdout opens the pipe, whose mode is 0600, so the build user must own it.
        if let Some((uid, gid)) = self.who {
            let give = fchown(&writer, Some(uid.as_raw()), Some(gid.as_raw()));
            give.context("handing the pipe for a build's output to the build user")?;
        }
        let hold = match &self.scope {
            Ok(limits) => Some((ScopeGuard::new().context("making a pair of sockets for the sandbox")?, limits)),
            Err(_) => None,
        };
        let plan = self.plan(dir)?;
        let steps = plan.namespaces.as_ref().map_or(Vec::new(), |n| n.steps.iter().map(|s| format!("{s:?}")).collect());
        let mut command = spec.ungrouped();
        let temporary = if self.level.has_namespaces() { TMP.into() } else { self.temporary() };
        command.env("HOME", &temporary).env("TMPDIR", &temporary);
        command.current_dir("/").stdout(writer.try_clone().context("sharing a pipe")?).stderr(writer);
        let spawn = |hold: Option<BorrowedFd<'_>>| {
            sys::spawn_with(command, [Some(reporter.as_fd()), hold], move |child, ours| plan.enter(child, ours))
        };
        let (spawned, scope) = match hold {
            Some((hold, limits)) => hold.during(limits, |childs| spawn(Some(childs))),
            None => (spawn(None), None),
        };
        drop(reporter);
        let error = match spawned {
            Ok(child) => return Ok((child, reader, scope)),
            Err(e) => e,
        };
        let mut told = [0; 6];
        if File::from(report).read_exact(&mut told).is_err() {
            let program = spec.program.to_string_lossy();
            let cure = match error.raw_os_error().map(Errno::from_raw) {
                Some(Errno::EAGAIN) => self.too_many(),
                _ => format!("install the package that holds {program}"),
            };
            return Err(Refused::Other(
                Err::<(), _>(error).remedy(format!("starting {program} in the sandbox"), cure).unwrap_err(),
            ));
        }
        let step = u16::from_le_bytes([told[4], told[5]]);
        let errno = Errno::from_raw(i32::from_le_bytes([told[0], told[1], told[2], told[3]]));
        // Errors that mean "not available", from a kernel or a container's filter. Lack of memory is not among them, since a
        // process could cause it on purpose.
        let refusals = [
            Errno::EPERM,
            Errno::EACCES,
            Errno::ENOSYS,
            Errno::EINVAL,
            Errno::EOPNOTSUPP,
            Errno::E2BIG,
            Errno::ENOSPC,
            Errno::EUSERS,
        ];
        let proc = steps.get(usize::from(step)).is_some_and(|s| s.starts_with("Proc"));
        if (step == number::NAMESPACES || proc) && refusals.contains(&errno) {
            return Err(Refused::Namespaces(errno));
        }
        if step == number::LANDLOCK && refusals.contains(&errno) {
            return Err(Refused::Landlock(errno));
        }
        if step == number::SECCOMP && refusals.contains(&errno) {
            return Err(Refused::Seccomp(errno));
        }
        let act = match step {
            number::NAMESPACES => "making namespaces",
            number::INIT => "starting its first process",
            number::PIVOT => "entering its root",
            number::LIMITS => "setting limits",
            number::DIRECTORY => "entering the build directory",
            number::USER => "becoming the build user",
            number::PRIVILEGES => "giving up privileges",
            number::SESSION => "beginning a session",
            number::KEYRING => "leaving the caller's keys",
            number::STDIN => "opening its /dev/null",
            number::LANDLOCK => "restricting it by Landlock",
            number::SECCOMP => "filtering its system calls",
            number::USERS_KEYS => "emptying the keyrings of the build user",
            index => steps.get(usize::from(index)).map_or("an unknown step", String::as_str),
        };
        let cure = match (errno, step) {
            (Errno::EAGAIN, _) => self.too_many(),
            (_, number::USERS_KEYS) => "name another account in build.user, or restart this machine".to_owned(),
            (_, _) => "run `vfguard doctor`".to_owned(),
        };
        Err(Refused::Other(advise(format!("the build sandbox: {act}: {}", errno.desc()), cure)))
    }

    /// What to do about EAGAIN. fork(2) returns it, and execve(2) after setuid(2), if a user has more processes than
    /// RLIMIT_NPROC.
    fn too_many(&self) -> String {
        let uid = self.who.map_or(Uid::current(), |(uid, _)| uid);
        format!("end what runs already as the user of builds (`ps -u {uid}`), and try again")
    }

    fn follow(
        &self,
        mut child: Child,
        mut reader: PipeReader,
        scope: Option<&Scope>,
        limit: Duration,
        output: &mut dyn FnMut(&[u8]),
    ) -> Result<Ended> {
        let group = Pid::from_raw(child.id() as i32);
        let start = Instant::now();
        let build = self.build_dir();
        let mut watch = DiskWatch::new(&build, self.has_own_disk(), self.makers(group));
        let mut stopped: Option<(Stop, Instant)> = None;
        let mut open = true;
        let status = loop {
            open = open && drain(&mut reader, output, TICK);
            if let Some(status) = child.try_wait().context("waiting for a build")? {
                break status;
            }
            if !open {
                std::thread::sleep(Duration::from_millis(2));
            }
            match stopped {
                Some((_, since)) if since.elapsed() >= GRACE => {
                    let _ = killpg(group, Signal::SIGKILL);
                }
                Some(_) => {}
                None => {
                    let reason = if start.elapsed() >= limit { Some(Stop::Time) } else { watch.look() };
                    if let Some(reason) = reason {
                        stopped = Some((reason, Instant::now()));
                        let _ = killpg(group, Signal::SIGTERM);
                    }
                }
            }
        };
        // ESRCH (no process left) is normal.
        let _ = killpg(group, Signal::SIGKILL);
        self.end_strays()?;
        self.remove_system_v()?;
        if open {
            drain(&mut reader, output, Duration::ZERO);
        }
        let code = code(status);
        let failed_for = || match scope.is_some_and(Scope::was_starved) {
            true => Some(Stop::Memory),
            false => watch.is_used_up().then_some(Stop::TooLarge),
        };
        let stopped = stopped.map(|(reason, _)| reason).or_else(|| if code == 0 { None } else { failed_for() });
        Ok(Ended { code, stopped })
    }
}

/// A running program, its output, and the result of moving it into a cgroup, if that was tried.
type Started = (Child, PipeReader, Option<Result<Scope, String>>);

enum Refused {
    Namespaces(Errno),
    Landlock(Errno),
    Seccomp(Errno),
    Other(anyhow::Error),
}

impl From<anyhow::Error> for Refused {
    fn from(e: anyhow::Error) -> Self {
        Refused::Other(e)
    }
}

fn nonblocking(reader: &PipeReader) -> nix::Result<()> {
    let flags = OFlag::from_bits_truncate(fcntl(reader.as_fd(), FcntlArg::F_GETFL)?);
    fcntl(reader.as_fd(), FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK)).map(drop)
}

/// Waits for output and passes it on, at most a few hundred kB at once, so that a flood does not delay the time limit.
/// Returns whether more may come.
fn drain(reader: &mut PipeReader, output: &mut dyn FnMut(&[u8]), wait: Duration) -> bool {
    let timeout = PollTimeout::try_from(wait).unwrap_or(PollTimeout::ZERO);
    let mut fds = [PollFd::new(reader.as_fd(), PollFlags::POLLIN)];
    if matches!(poll(&mut fds, timeout), Ok(0)) {
        return true;
    }
    let mut buffer = [0; 64 << 10];
    for _ in 0..8 {
        match reader.read(&mut buffer) {
            Ok(0) => return false,
            Ok(n) => output(&buffer[..n]),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => return true,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return false,
        }
    }
    true
}

fn code(status: ExitStatus) -> i32 {
    status.code().or_else(|| status.signal().map(|s| SIGNALLED + s)).unwrap_or(1)
}
