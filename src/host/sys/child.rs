//! Processes that are forked (fork(2)) from a process with threads. The other threads do not exist in the child, but the locks that they
//! held stay locked. So only async-signal-safe calls are allowed (signal-safety(7)): system calls on memory that existed before; no
//! allocation, no lock.
//!
//! A [`Child`] proves that the code runs in such a process. Only this file makes one, right after the fork. Functions that are only right
//! there take it as an argument.

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

/// Proof that this process was made by fork(2), has one thread, and never returns to the code of its parent: it exits or executes a
/// program.
///
/// It is not `Send`, so no other thread has it.
#[derive(Debug)]
pub struct Child(PhantomData<*const ()>);

impl Child {
    fn new() -> Child {
        Child(PhantomData)
    }
}

/// Ends the process when it is dropped, since a panic must not unwind into code of the parent.
struct EndsHere;

impl Drop for EndsHere {
    fn drop(&mut self) {
        exit_now(PANICKED);
    }
}

/// The exit code of a Rust process that panicked.
const PANICKED: i32 = 101;

/// Runs `setup` in the child between fork(2) and execve(2). Its error becomes the error of spawning.
///
/// `setup` must make async-signal-safe calls only: system calls through nix with `&CStr` and memory that exists already. No type can
/// express that, so `tests.rs` lists the callers.
pub fn in_child<F>(command: &mut Command, mut setup: F)
where
    F: FnMut(&Child) -> io::Result<()> + Send + Sync + 'static,
{
    // SAFETY: the callers (listed in `tests.rs`) make only system calls, on memory that existed before the fork; they neither allocate nor
    // lock. The standard library executes the program or ends the process right afterwards, and a panic aborts.
    unsafe {
        command.pre_exec(move || setup(&Child::new()));
    }
}

/// Starts a command with `setup` as in [`in_child`], which gets these descriptors of this process.
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
        // SAFETY: the descriptors are open while they are borrowed, so also at the fork: the command is started here and only once. The
        // child has its own copies, which nothing closes before the program is executed.
        setup(child, numbers.map(|number| number.map(|number| unsafe { BorrowedFd::borrow_raw(number) })))
    });
    command.spawn()
}

/// The side of a fork.
#[derive(Clone, Copy, Debug)]
pub enum Fork {
    /// The parent, with the child's id.
    Parent(Pid),
    /// The child.
    Child,
}

/// fork(2) inside a child, for the init of a PID namespace or a reaper.
///
/// # Errors
/// Those of fork(2).
pub fn fork_in_child(_child: &Child) -> nix::Result<Fork> {
    // SAFETY: this process has one thread, and so has the new one; both keep to the rules of a child.
    match unsafe { libc::fork() } {
        -1 => Err(Errno::last()),
        0 => Ok(Fork::Child),
        pid => Ok(Fork::Parent(Pid::from_raw(pid))),
    }
}

/// Runs `rest` without any descriptor, and ends with the exit code that it returns. `rest` is `Copy`, so it owns no descriptor.
pub fn without_descriptors(_child: &Child, rest: impl FnOnce() -> i32 + Copy + 'static) -> ! {
    let _ends = EndsHere;
    // SAFETY: this process never returns to code that owns a descriptor, and no owner's destructor runs: the process ends here, even by a
    // panic. EBADF is harmless.
    unsafe {
        if libc::syscall(libc::SYS_close_range, 0, libc::c_uint::MAX, 0) != 0 {
            for fd in 0..descriptor_limit() {
                libc::close(fd);
            }
        }
    }
    exit_now(rest())
}

/// Makes execve(2) close every descriptor from `first` on.
pub fn close_on_exec_from(_child: &Child, first: RawFd) {
    // SAFETY: only sets a flag on descriptors of this process. No memory is involved, and EBADF is harmless.
    unsafe {
        if libc::syscall(libc::SYS_close_range, first, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC) != 0 {
            for fd in first..descriptor_limit() {
                libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC);
            }
        }
    }
}

/// How many descriptors are closed one by one where the kernel has no close_range(2) (before 5.9; flags since 5.11).
const MAX_DESCRIPTORS: RawFd = 1 << 16;

fn descriptor_limit() -> RawFd {
    // SAFETY: sysconf(3) with this name only reads a limit.
    let limit = unsafe { libc::sysconf(libc::_SC_OPEN_MAX) };
    if limit < 0 {
        MAX_DESCRIPTORS
    } else {
        (limit.min(libc::c_long::from(MAX_DESCRIPTORS))) as RawFd
    }
}

/// Forks a helper that runs `work` and exits with its result. It starts with all signals blocked, so only SIGKILL ends it. `work` must keep
/// to system calls on memory that existed before, because other threads may hold locks.
///
/// # Errors
/// Those of fork(2).
pub fn fork_helper(work: impl FnOnce(&Child) -> u8) -> nix::Result<Pid> {
    let before = SigSet::all().thread_swap_mask(SigmaskHow::SIG_SETMASK)?;
    // SAFETY: the only caller (`tests.rs`) passes a closure that makes system calls and neither allocates nor locks. The new process ends
    // here, even by a panic, and _exit(2) runs no destructor of anything that the parent owns.
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
