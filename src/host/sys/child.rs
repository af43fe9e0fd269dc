//! Processes that are made by fork(2) out of a process with threads. The other threads are gone there, with whatever locks they held, so only what is
//! async-signal-safe may be called (signal-safety(7)): system calls on memory that was there before; no allocation, no lock.
//!
//! [`Child`] stands for being in such a process. Only this file makes one, right after the fork; what is right there alone asks for it.

#![allow(unsafe_code)]

use super::exit_now;
use nix::errno::Errno;
use nix::libc;
use nix::sys::signal::{SigSet, SigmaskHow};
use nix::unistd::Pid;
use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::{self, Command};

/// That this process was made by fork(2), has one thread, and never goes back into the code of the process that it was made of: it ends, or executes a program.
///
/// It stays on its thread, so nobody else has it.
#[derive(Debug)]
pub struct Child(PhantomData<*const ()>);

impl Child {
    fn new() -> Child {
        Child(PhantomData)
    }
}

/// Ends the process when it is dropped: a panic must not unwind into what belongs to the parent.
struct EndsHere;

impl Drop for EndsHere {
    fn drop(&mut self) {
        exit_now(PANICKED);
    }
}

/// The exit code that Rust gives a process which panicked.
const PANICKED: i32 = 101;

/// Has `setup` run in the child between fork(2) and execve(2); its error becomes that of spawning.
///
/// `setup` must keep to async-signal-safe calls: system calls through nix with `&CStr` and memory that exists already. No type can say so: `tests.rs` holds
/// the list of who calls this.
pub fn in_child<F>(command: &mut Command, mut setup: F)
where
    F: FnMut(&Child) -> io::Result<()> + Send + Sync + 'static,
{
    // SAFETY: those who call this (`tests.rs`) make system calls only, on memory that was there before the fork; they neither allocate nor lock. The
    // standard library executes the program or ends the process right after it, and has a panic abort.
    unsafe {
        command.pre_exec(move || setup(&Child::new()));
    }
}

/// Starts a command with `setup` as in [`in_child`], which gets these descriptors of ours.
///
/// # Errors
/// Those of spawning, and of `setup`.
pub fn spawn_with<const N: usize, F>(
    mut command: Command,
    ours: [Option<BorrowedFd<'_>>; N],
    mut setup: F,
) -> io::Result<process::Child>
where
    F: FnMut(&Child, [Option<BorrowedFd<'_>>; N]) -> io::Result<()> + Send + Sync + 'static,
{
    let numbers: [Option<RawFd>; N] = ours.map(|fd| fd.map(|fd| fd.as_raw_fd()));
    in_child(&mut command, move |child| {
        // SAFETY: they are open as long as they are borrowed, so at the fork: the command is started here and never again. The child has its own copies, which
        // nothing closes before the program is executed.
        setup(child, numbers.map(|number| number.map(|number| unsafe { BorrowedFd::borrow_raw(number) })))
    });
    command.spawn()
}

/// Which side of a fork this is.
#[derive(Clone, Copy, Debug)]
pub enum Fork {
    /// The old process, with the new one's id.
    Parent(Pid),
    /// The new process.
    Child,
}

/// fork(2) inside a child, for the init of a PID namespace or a reaper.
///
/// # Errors
/// Those of fork(2).
pub fn fork_in_child(_child: &Child) -> nix::Result<Fork> {
    // SAFETY: this process has one thread, and so has the new one; both go on as children do.
    match unsafe { libc::fork() } {
        -1 => Err(Errno::last()),
        0 => Ok(Fork::Child),
        pid => Ok(Fork::Parent(Pid::from_raw(pid))),
    }
}

/// Goes on without any descriptor, and ends with the exit code that `rest` returns. What it takes along can be copied, so it owns no descriptor.
pub fn without_descriptors(_child: &Child, rest: impl FnOnce() -> i32 + Copy + 'static) -> ! {
    let _ends = EndsHere;
    // SAFETY: this process never goes back into code that owns a descriptor, and no destructor of an owner runs: it ends here, even by a panic. EBADF is harmless.
    unsafe {
        if libc::syscall(libc::SYS_close_range, 0, libc::c_uint::MAX, 0) != 0 {
            for fd in 0..descriptor_limit() {
                libc::close(fd);
            }
        }
    }
    exit_now(rest())
}

/// Marks every descriptor from `first` on, so that execve(2) closes it.
pub fn close_on_exec_from(_child: &Child, first: RawFd) {
    // SAFETY: sets a flag on descriptors of this process alone; no memory is involved, and EBADF is harmless.
    unsafe {
        if libc::syscall(libc::SYS_close_range, first, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC) != 0 {
            for fd in first..descriptor_limit() {
                libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC);
            }
        }
    }
}

/// As many descriptors as are closed one by one where the kernel has no close_range(2) (before 5.9; flags since 5.11).
const MAX_DESCRIPTORS: RawFd = 1 << 16;

fn descriptor_limit() -> RawFd {
    // SAFETY: sysconf(3) with this name reads a limit only.
    let limit = unsafe { libc::sysconf(libc::_SC_OPEN_MAX) };
    if limit < 0 {
        MAX_DESCRIPTORS
    } else {
        (limit.min(libc::c_long::from(MAX_DESCRIPTORS))) as RawFd
    }
}

/// Forks a helper that does `work` and ends with what it returns; no signal but SIGKILL ends it, since it begins with all
/// others blocked. `work` must keep to system calls on memory that was there before: other threads may hold locks.
///
/// # Errors
/// Those of fork(2).
pub fn fork_helper(work: impl FnOnce(&Child) -> u8) -> nix::Result<Pid> {
    let before = SigSet::all().thread_swap_mask(SigmaskHow::SIG_SETMASK)?;
    // SAFETY: the only caller (`tests.rs`) passes a closure of system calls, which neither allocates nor locks. The new process ends here, even by a panic, and
    // _exit(2) runs no destructor of what the parent owns.
    let forked = match unsafe { libc::fork() } {
        -1 => Err(Errno::last()),
        0 => {
            let _ends = EndsHere;
            exit_now(i32::from(work(&Child::new())))
        }
        pid => Ok(Pid::from_raw(pid)),
    };
    before.thread_set_mask()?;
    forked
}
