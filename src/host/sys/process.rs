//! Signals, the end of this process, and what a user leaves behind that is no process.

#![allow(unsafe_code)]

use nix::errno::Errno;
use nix::libc;
use nix::sys::signal::{sigaction, SaFlags, SigAction, SigHandler, SigSet, Signal};

extern "C" fn nothing(_: libc::c_int) {}

/// Has these signals do nothing to this process: a hangup of the terminal, a caller's limit on the size of files (the write fails
/// then, and that is told). SIGPIPE is ignored by the standard library already.
///
/// They are caught rather than ignored, since execve(2) gives a caught signal its default back, and leaves an ignored one ignored: a
/// package manager that is started here may start daemons, which reload their settings on SIGHUP. No hangup comes to the programs
/// themselves: each has a process group or a session of its own. What the caller ignores (nohup(1)) stays ignored, here and there.
/// System calls go on after it (SA_RESTART), but for poll(2) and sleeping, which their callers repeat.
pub fn outlive(signals: &[Signal]) {
    let caught = SigAction::new(SigHandler::Handler(nothing), SaFlags::SA_RESTART, SigSet::empty());
    for &signal in signals {
        // SAFETY: the handler does nothing, so it is async-signal-safe; the old action is only put back.
        unsafe {
            if let Ok(old) = sigaction(signal, &caught) {
                if matches!(old.handler(), SigHandler::SigIgn) {
                    let _ = sigaction(signal, &old);
                }
            }
        }
    }
}

/// Gives a signal the effect that it has by default.
pub fn default_action(signal: Signal) {
    // SAFETY: a handler is taken away and none is set.
    unsafe {
        libc::signal(signal as libc::c_int, libc::SIG_DFL);
    }
}

/// Ends this process at once, without destructors: the end of a forked helper that never executes a program.
pub fn exit_now(code: i32) -> ! {
    // SAFETY: _exit(2) has no precondition.
    unsafe { libc::_exit(code) }
}

/// The kinds of System V IPC (sysvipc(7)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SystemV {
    /// Shared memory.
    Memory,
    /// A message queue.
    Queue,
    /// A set of semaphores.
    Semaphores,
}

/// Removes an object of System V IPC, which this process must own.
///
/// # Errors
/// Those of IPC_RMID; `EINVAL` and `EIDRM` where it is gone already.
pub fn remove_system_v(kind: SystemV, id: libc::c_int) -> nix::Result<()> {
    // SAFETY: this command takes the number alone and reads no memory of ours.
    let result = unsafe {
        match kind {
            SystemV::Memory => libc::shmctl(id, libc::IPC_RMID, std::ptr::null_mut()),
            SystemV::Queue => libc::msgctl(id, libc::IPC_RMID, std::ptr::null_mut()),
            SystemV::Semaphores => libc::semctl(id, 0, libc::IPC_RMID),
        }
    };
    Errno::result(result).map(drop)
}
