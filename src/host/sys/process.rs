//! Signals, the exit of this process, and System V IPC objects, which outlive a user's processes.

#![allow(unsafe_code)]

use nix::errno::Errno;
use nix::libc;
use nix::sys::signal::{sigaction, SaFlags, SigAction, SigHandler, SigSet, Signal};

extern "C" fn nothing(_: libc::c_int) {}

/// Makes these signals harmless for this process: a hangup of the terminal, a caller's limit on the size of files (the write then fails,
/// and that is reported). The standard library ignores SIGPIPE already.
///
/// They are caught and not ignored, since execve(2) resets a caught signal to its default, but leaves an ignored one ignored: a package
/// manager that is started here may start daemons, which reload their configuration on SIGHUP. The programs themselves get no hangup, since
/// each has a process group or a session of its own. A signal that the caller ignores (nohup(1)) stays ignored, here and in the programs.
/// System calls go on after the signal (SA_RESTART), except poll(2) and sleeping, which their callers repeat.
pub fn outlive(signals: &[Signal]) {
    let caught = SigAction::new(SigHandler::Handler(nothing), SaFlags::SA_RESTART, SigSet::empty());
    for &signal in signals {
        // SAFETY: the handler does nothing, so it is async-signal-safe. The old action is only restored.
        unsafe {
            if let Ok(old) = sigaction(signal, &caught) {
                if matches!(old.handler(), SigHandler::SigIgn) {
                    let _ = sigaction(signal, &old);
                }
            }
        }
    }
}

/// Resets a signal to its default action.
pub fn default_action(signal: Signal) {
    // SAFETY: removes a handler and sets none.
    unsafe {
        libc::signal(signal as libc::c_int, libc::SIG_DFL);
    }
}

/// Ends this process at once, without destructors, for a forked helper that never executes a program.
pub fn exit_now(code: i32) -> ! {
    // SAFETY: _exit(2) has no precondition.
    unsafe { libc::_exit(code) }
}

/// The kinds of System V IPC objects (sysvipc(7)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SystemV {
    /// Shared memory.
    Memory,
    /// A message queue.
    Queue,
    /// A set of semaphores.
    Semaphores,
}

/// Removes a System V IPC object, which this process must own.
///
/// # Errors
/// Those of IPC_RMID; `EINVAL` and `EIDRM` if it is already gone.
pub fn remove_system_v(kind: SystemV, id: libc::c_int) -> nix::Result<()> {
    // SAFETY: this command only takes the number, and reads no memory of this process.
    let result = unsafe {
        match kind {
            SystemV::Memory => libc::shmctl(id, libc::IPC_RMID, std::ptr::null_mut()),
            SystemV::Queue => libc::msgctl(id, libc::IPC_RMID, std::ptr::null_mut()),
            SystemV::Semaphores => libc::semctl(id, 0, libc::IPC_RMID),
        }
    };
    Errno::result(result).map(drop)
}
