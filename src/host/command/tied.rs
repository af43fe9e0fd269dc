//! A child's process group that ends with vfguard, however that ends: what goes on alone writes to the machine while the next run
//! does.
//!
//! ```text
//! vfguard ── reaper (leads the group; vfguard's death is a signal to it: it kills the group, itself included)
//!              └─ program, and whatever that starts
//! ```
//!
//! The program cannot have that signal itself: it goes to one process and not to what that has started, and an exec that changes
//! privileges or the SELinux domain clears it (PR_SET_PDEATHSIG(2const)). What leaves the group of a program of the system is not ended.
//! Of a build without namespaces everything is: whatever loses its parent comes to the reaper (PR_SET_CHILD_SUBREAPER(2const), Linux 3.4),
//! which ends what it has for children until there are none. It finds them in `/proc/PID/task/PID/children` (Linux 3.5, and a kernel may
//! be built without); elsewhere the strays of a build user are ended by driver::sandbox.

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

/// What the reaper is told by when vfguard, or the thread that started the program, is gone. Nobody else uses it.
const LOST: Signal = Signal::SIGUSR2;
/// The exit code of a reaper that cannot end as its program did: 128 and more for a signal, as shells have it.
const SIGNALLED: i32 = 128;

/// What ends with the program, and with vfguard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Its process group.
    Group,
    /// All that it started, in whatever group.
    Descendants,
}

/// Ties a command to this process. It must lead a process group of its own.
pub(in crate::host) fn tie(command: &mut Command) {
    let parent = Pid::this();
    sys::in_child(command, move |child| enter(child, parent, Reach::Group).map_err(io::Error::from));
}

/// Runs in a `child` of `parent` that leads a process group, and stays there as the reaper; returns in the process that shall execute
/// the program. System calls only.
///
/// # Errors
/// Those of fork(2) and of setting signals.
pub fn enter(child: &Child, parent: Pid, reach: Reach) -> nix::Result<()> {
    // A limit ends the group by SIGTERM: the reaper waits for what the program makes of it.
    let before = SigSet::all().thread_swap_mask(SigmaskHow::SIG_SETMASK)?;
    prctl::set_pdeathsig(LOST)?;
    if unistd::getppid() != parent {
        sys::exit_now(1);
    }
    if reach == Reach::Descendants {
        // Older kernels have no such thing.
        let _ = prctl::set_child_subreaper(true);
    }
    let reaper = Pid::this();
    match sys::fork_in_child(child)? {
        // Whoever reads the program's output waits for all who could write.
        Fork::Parent(program) => sys::without_descriptors(child, move || reap(program, parent, reach)),
        Fork::Child => {}
    }
    // Should the reaper be killed alone.
    prctl::set_pdeathsig(Signal::SIGKILL)?;
    if unistd::getppid() != reaper {
        sys::exit_now(1);
    }
    before.thread_set_mask()?;
    Ok(())
}

/// Ends as the program does, or with the whole group when vfguard is gone.
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

/// Ends all that this process has for children, and what then comes to it, until nothing does. System calls only.
fn end_children(reach: Reach) {
    if reach == Reach::Group {
        return;
    }
    let mut path = [0; 64];
    let _ = write!(&mut path[..], "/proc/self/task/{}/children\0", Pid::this());
    let Ok(path) = CStr::from_bytes_until_nul(&path) else { return };
    // Where there is none to be found, none is waited for: it might go on for ever.
    while kill_listed(path).is_ok_and(|found| found) {
        // The children of what ends are ours before its end is told.
        let _ = waitpid(None, None);
    }
}

/// Sends SIGKILL to the processes in a list of the kernel's, each with a blank after it; past a page they wait for the next time.
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

/// Ends by a signal, so that who waits sees what ended the program.
fn end_by(signal: Signal) -> ! {
    // No core of its own beside the program's.
    let _ = prctl::set_dumpable(false);
    // What Rust's runtime handles is handled in its forks.
    sys::default_action(signal);
    let mut own = SigSet::empty();
    own.add(signal);
    let _ = kill(Pid::this(), signal);
    let _ = own.thread_unblock();
    sys::exit_now(SIGNALLED + signal as i32)
}
