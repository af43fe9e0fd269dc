//! Ties a child's process group to vfguard, so that it dies whenever vfguard ends. Otherwise it would change the machine at
//! the same time as the next run.
//!
//! ```text
//! vfguard ── reaper (leads the group; vfguard's death is a signal to it: it kills the group, itself included)
//!              └─ program, and whatever that starts
//! ```
//!
//! A parent-death signal for the program itself is not enough: it goes to one process and not to the processes that this one
//! started, and an exec that changes privileges or the SELinux domain clears it (PR_SET_PDEATHSIG(2const)). Processes that
//! leave the group of a system program are not killed. In a build without namespaces all of them are: orphans are reparented
//! to the reaper (PR_SET_CHILD_SUBREAPER(2const), Linux 3.4), which kills its children until there are none. It finds them
//! in `/proc/PID/task/PID/children` (Linux 3.5, optional in the kernel's configuration). Without that file driver::sandbox
//! kills the strays of the build user.

use crate::host::sys::{self, Child, Fork};
use nix::errno::Errno;
use nix::fcntl::{open, OFlag};
use nix::sys::prctl;
use nix::sys::signal::{kill, killpg, SigSet, SigmaskHow, Signal};
use nix::sys::stat::Mode;
use nix::sys::wait::{waitpid, WaitPidFlag, WaitStatus};
use nix::unistd::{self, Pid};
use std::ffi::CStr;
use std::io::{self, Write};
use std::process::Command;

/// The signal that the reaper gets when vfguard, or the thread that started the program, is gone. Nothing else sends it.
const LOST: Signal = Signal::SIGUSR2;
/// The base of the exit code if the reaper cannot die by its program's signal: 128 and more, as in shells.
const SIGNALLED: i32 = 128;

/// What is killed with the program and with vfguard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Its process group.
    Group,
    /// All its descendants, in any group.
    Descendants,
}

/// Ties a command to this process. It must lead a process group of its own.
pub(in crate::host) fn tie(command: &mut Command) {
    let parent = Pid::this();
    sys::in_child(command, move |child| enter(child, parent, Reach::Group).map_err(io::Error::from));
}

/// Runs in a `child` of `parent` that leads a process group. The child stays as the reaper; the call returns in the process
/// that will execute the program. System calls only.
///
/// # Errors
/// Those of fork(2) and of setting signals.
pub fn enter(child: &Child, parent: Pid, reach: Reach) -> nix::Result<()> {
    // At the time limit the group gets SIGTERM. The reaper blocks it and waits for the program's reaction.
    let before = SigSet::all().thread_swap_mask(SigmaskHow::SIG_SETMASK)?;
    prctl::set_pdeathsig(LOST)?;
    if unistd::getppid() != parent {
        sys::exit_now(1);
    }
    if reach == Reach::Descendants {
        // Older kernels do not have it.
        let _ = prctl::set_child_subreaper(true);
    }
    let reaper = Pid::this();
    match sys::fork_in_child(child)? {
        // A reader of the program's output waits until all writers have closed it.
        Fork::Parent(program) => sys::without_descriptors(child, move || reap(program, parent, reach)),
        Fork::Child => {}
    }
    // In case the reaper alone is killed.
    prctl::set_pdeathsig(Signal::SIGKILL)?;
    if unistd::getppid() != reaper {
        sys::exit_now(1);
    }
    before.thread_set_mask()?;
    Ok(())
}

/// Exits as the program does. If vfguard is gone, kills the whole group.
fn reap(program: Pid, parent: Pid, reach: Reach) -> ! {
    let mut watched = SigSet::empty();
    watched.add(Signal::SIGCHLD);
    watched.add(LOST);
    loop {
        let told = watched.wait();
        if told == Ok(LOST) && unistd::getppid() != parent {
            end_children(reach);
            let _ = killpg(unistd::getpgrp(), Signal::SIGKILL);
        }
        loop {
            let ended = waitpid(None, Some(WaitPidFlag::WNOHANG));
            match ended {
                Ok(WaitStatus::Exited(pid, _) | WaitStatus::Signaled(pid, ..)) if pid == program => {}
                Err(Errno::ECHILD) => {}
                Ok(WaitStatus::StillAlive) => break,
                Ok(_) | Err(_) => continue,
            }
            end_children(reach);
            match ended {
                Ok(WaitStatus::Exited(_, code)) => sys::exit_now(code),
                Ok(WaitStatus::Signaled(_, signal, _)) => end_by(signal),
                Ok(_) | Err(_) => sys::exit_now(1),
            }
        }
    }
}

/// Kills all children of this process, and orphans that are reparented to it, until there are none. System calls only.
fn end_children(reach: Reach) {
    if reach == Reach::Group {
        return;
    }
    let mut path = [0; 64];
    let _ = write!(&mut path[..], "/proc/self/task/{}/children\0", Pid::this());
    let Ok(path) = CStr::from_bytes_until_nul(&path) else { return };
    // If the list cannot be read, do not wait: the processes may run forever.
    while kill_listed(path).is_ok_and(|found| found) {
        // When a child's end is reported, its own children are already reparented to this process.
        let _ = waitpid(None, None);
    }
}

/// Sends SIGKILL to the processes in a list from the kernel, each followed by a blank. Those after the first page are killed
/// in the next round.
fn kill_listed(path: &CStr) -> nix::Result<bool> {
    let list = open(path, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())?;
    let mut text = [0; 4096];
    let length = unistd::read(&list, &mut text)?;
    let (mut pid, mut found) = (0, false);
    for byte in text.iter().take(length) {
        match byte {
            b'0'..=b'9' => pid = pid * 10 + i32::from(byte - b'0'),
            _ if pid > 0 => {
                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
                (pid, found) = (0, true);
            }
            _ => {}
        }
    }
    Ok(found)
}

/// Dies by a signal, so that the waiting process sees what ended the program.
fn end_by(signal: Signal) -> ! {
    // Do not dump a core in addition to the program's.
    let _ = prctl::set_dumpable(false);
    // Rust's runtime installs handlers, and its forks inherit them.
    sys::default_action(signal);
    let mut own = SigSet::empty();
    own.add(signal);
    let _ = kill(Pid::this(), signal);
    let _ = own.thread_unblock();
    sys::exit_now(SIGNALLED + signal as i32)
}
