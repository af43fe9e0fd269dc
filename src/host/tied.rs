//! A child's process group that ends with vfguard, however that ends: what goes on alone writes to the machine while the next run
//! does.
//!
//! ```text
//! vfguard ── reaper (leads the group; vfguard's death is a signal to it: it kills the group, itself included)
//!              └─ program, and whatever that starts
//! ```
//!
//! The program cannot have that signal itself: it goes to one process and not to what that has started, and an exec that changes
//! privileges or the SELinux domain clears it (PR_SET_PDEATHSIG(2const)). What leaves its group is not ended; a build that does so has
//! a namespace, or is ended as a stray by the next build (driver::sandbox).

use super::sys::{self, Fork};
use nix::errno::Errno;
use nix::sys::prctl;
use nix::sys::signal::{kill, killpg, SigSet, SigmaskHow, Signal};
use nix::sys::wait::{waitpid, WaitPidFlag, WaitStatus};
use nix::unistd::{self, Pid};
use std::io;
use std::process::Command;

/// What the reaper is told by when vfguard, or the thread that started the program, is gone. Nobody else uses it.
const LOST: Signal = Signal::SIGUSR2;
/// The exit code of a reaper that cannot end as its program did: 128 and more for a signal, as shells have it.
const SIGNALLED: i32 = 128;

/// Ties a command to this process. It must lead a process group of its own.
pub(super) fn tie(command: &mut Command) {
    let parent = Pid::this();
    sys::in_child(command, move || enter(parent).map_err(io::Error::from));
}

/// Runs in a child of `parent` that leads a process group, and stays there as the reaper; returns in the process that shall execute
/// the program. System calls only.
///
/// # Errors
/// Those of fork(2) and of setting signals.
pub fn enter(parent: Pid) -> nix::Result<()> {
    // A limit ends the group by SIGTERM: the reaper waits for what the program makes of it.
    let before = SigSet::all().thread_swap_mask(SigmaskHow::SIG_SETMASK)?;
    prctl::set_pdeathsig(LOST)?;
    if unistd::getppid() != parent {
        sys::exit_now(1);
    }
    let reaper = Pid::this();
    match sys::fork_in_child()? {
        Fork::Parent(program) => reap(program, parent),
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
fn reap(program: Pid, parent: Pid) -> ! {
    // Whoever reads the program's output waits for all who could write.
    sys::close_from(0);
    let mut watched = SigSet::empty();
    watched.add(Signal::SIGCHLD);
    watched.add(LOST);
    loop {
        let told = watched.wait();
        if told == Ok(LOST) && unistd::getppid() != parent {
            let _ = killpg(unistd::getpgrp(), Signal::SIGKILL);
        }
        match waitpid(program, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(_, code)) => sys::exit_now(code),
            Ok(WaitStatus::Signaled(_, signal, _)) => end_by(signal),
            Err(Errno::ECHILD) => sys::exit_now(1),
            Ok(_) | Err(_) => {}
        }
    }
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
