//! Everything unsafe, in small wrappers: what neither std nor nix offers safely. Each says why it is sound.
//!
//! The first part is about processes that are forked (fork(2)) from a process with threads. The other threads do not exist in the child, but
//! the locks that they held stay locked. So only async-signal-safe calls are allowed (signal-safety(7)): system calls on memory that existed
//! before; no allocation, no lock. A [`Child`] proves that the code runs in such a process. Only this file makes one, right after the fork.
//! Functions that are only right there take it as an argument.

#![allow(unsafe_code)]

use super::descriptor_limit;
use super::shared::SystemV;
use nix::errno::Errno;
use nix::libc;
use nix::sys::signal::{sigaction, SaFlags, SigAction, SigHandler, SigSet, SigmaskHow, Signal};
use nix::unistd::Pid;
use std::ffi::{CStr, CString};
use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
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

/// Writes bytes to an existing file without allocating.
///
/// # Errors
/// Those of open(2) and write(2).
pub fn write_file(path: &CStr, bytes: &[u8]) -> nix::Result<()> {
    // SAFETY: the path ends in NUL; the descriptor belongs to this function and is closed once.
    let fd = Errno::result(unsafe { libc::open(path.as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC) })?;
    let mut rest = bytes;
    let mut done = Ok(());
    while !rest.is_empty() && done.is_ok() {
        // SAFETY: the slice is valid for its length.
        let written = Errno::result(unsafe { libc::write(fd, rest.as_ptr().cast(), rest.len()) });
        done = match written.map(|n| rest.get(n as usize..).filter(|left| left.len() < rest.len())) {
            Ok(Some(left)) => {
                rest = left;
                Ok(())
            }
            Ok(None) => Err(Errno::EIO),
            Err(Errno::EINTR) => Ok(()),
            Err(e) => Err(e),
        };
    }
    // SAFETY: opened above.
    unsafe { libc::close(fd) };
    done
}

/// The name of the extended attribute that holds the SELinux label (xattr(7)).
const LABEL: &CStr = c"security.selinux";
/// A label is a short string; SELinux accepts at most a page.
const MAX_LABEL: usize = 4096;

/// The SELinux label of an open file; `None` without SELinux.
pub fn label(file: impl AsFd) -> Option<Vec<u8>> {
    let mut value = vec![0u8; MAX_LABEL];
    // SAFETY: the buffer is valid for the length that is passed.
    let length =
        unsafe { libc::fgetxattr(file.as_fd().as_raw_fd(), LABEL.as_ptr(), value.as_mut_ptr().cast(), value.len()) };
    value.truncate(usize::try_from(length).ok()?);
    Some(value)
}

/// Whether a file has an access control list beyond its mode (acl(5)). In doubt yes.
pub fn has_acl(path: &Path) -> bool {
    let Ok(path) = CString::new(path.as_os_str().as_bytes()) else { return true };
    // SAFETY: both strings end in NUL. Without a buffer the call only returns the length.
    let length = unsafe { libc::getxattr(path.as_ptr(), c"system.posix_acl_access".as_ptr(), std::ptr::null_mut(), 0) };
    length >= 0 || !matches!(Errno::last(), Errno::ENODATA | Errno::EOPNOTSUPP | Errno::ENOSYS)
}

/// Sets the label of an open file.
///
/// # Errors
/// Those of fsetxattr(2).
pub fn set_label(file: impl AsFd, value: &[u8]) -> nix::Result<()> {
    // SAFETY: the slice is valid for its length.
    let result = unsafe { libc::fsetxattr(file.as_fd().as_raw_fd(), LABEL.as_ptr(), value.as_ptr().cast(), value.len(), 0) };
    Errno::result(result).map(drop)
}

mod ioctl {
    // linux/fs.h: FIFREEZE _IOWR('X', 119, int), FITHAW _IOWR('X', 120, int); the argument is not used.
    nix::ioctl_readwrite!(fifreeze, b'X', 119, nix::libc::c_int);
    nix::ioctl_readwrite!(fithaw, b'X', 120, nix::libc::c_int);
}

/// Freezes the file system of an open file. When this returns, its journal is empty, and every write waits until [`thaw`].
///
/// # Errors
/// Those of FIFREEZE: `EOPNOTSUPP` if the file system cannot be frozen, `EBUSY` if it is already frozen.
pub fn freeze(file: impl AsFd) -> nix::Result<()> {
    let mut unused = 0;
    // SAFETY: the kernel neither reads nor writes the argument.
    unsafe { ioctl::fifreeze(file.as_fd().as_raw_fd(), &mut unused) }.map(drop)
}

/// Thaws the file system of an open file.
///
/// # Errors
/// Those of FITHAW: `EINVAL` if it is not frozen.
pub fn thaw(file: impl AsFd) -> nix::Result<()> {
    let mut unused = 0;
    // SAFETY: as for FIFREEZE.
    unsafe { ioctl::fithaw(file.as_fd().as_raw_fd(), &mut unused) }.map(drop)
}

/// fnmatch(3) of the C library without flags, to compare our own with.
#[cfg(test)]
pub(super) fn fnmatch(pattern: &CStr, text: &CStr) -> bool {
    // SAFETY: both strings end in NUL, and fnmatch keeps neither.
    unsafe { libc::fnmatch(pattern.as_ptr(), text.as_ptr(), 0) == 0 }
}

/// The newest version of capset(2)'s header, since Linux 2.6.26.
const CAPABILITY_VERSION_3: u32 = 0x2008_0522;
/// Capabilities are bits of a 64-bit set.
const CAPABILITIES: libc::c_ulong = 64;

#[repr(C)]
struct CapHeader {
    version: u32,
    pid: i32,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct CapData {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// Empties the bounding set, so that no program can ever get a capability back. Needs CAP_SETPCAP; without it nothing happens.
pub fn drop_bounding_set() {
    for capability in 0..CAPABILITIES {
        // SAFETY: prctl(2) with integers only.
        unsafe {
            libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0);
        }
    }
}

/// Empties the effective, permitted and inheritable sets.
///
/// # Errors
/// Those of capset(2).
pub fn drop_capabilities() -> nix::Result<()> {
    let header = CapHeader { version: CAPABILITY_VERSION_3, pid: 0 };
    let none = [CapData { effective: 0, permitted: 0, inheritable: 0 }; 2];
    // SAFETY: header and data have the layout of version 3 (two words) and live through the call.
    let result = unsafe { libc::syscall(libc::SYS_capset, &header, none.as_ptr()) };
    Errno::result(result).map(drop)
}

/// The effective capabilities of this process, one bit each. This asks the kernel and reads no file of /proc, so a read error cannot look
/// like a lack of privilege.
///
/// # Errors
/// Those of capget(2).
pub fn capabilities() -> nix::Result<u64> {
    let header = CapHeader { version: CAPABILITY_VERSION_3, pid: 0 };
    let mut sets = [CapData { effective: 0, permitted: 0, inheritable: 0 }; 2];
    // SAFETY: header and data have the layout of version 3 (two words) and live through the call.
    let result = unsafe { libc::syscall(libc::SYS_capget, &header, sets.as_mut_ptr()) };
    Errno::result(result)?;
    Ok(u64::from(sets[1].effective) << 32 | u64::from(sets[0].effective))
}

/// keyctl(2) with a command that takes two numbers, or a null pointer for one.
///
/// # Errors
/// Those of keyctl(2).
pub(super) fn keyctl(command: libc::c_int, first: libc::c_long, second: libc::c_long) -> nix::Result<libc::c_long> {
    // SAFETY: the only caller (`shared.rs`) uses commands that take numbers or a null pointer, so the call reads no memory of this process.
    Errno::result(unsafe { libc::syscall(libc::SYS_keyctl, command, first, second) })
}

/// Whether the kernel has seccomp filters (Linux 3.5). A call without a program fails with EFAULT if it has (seccomp(2)), and restricts
/// nothing; EINVAL or ENOSYS mean that it has none. After any other error filters are assumed, and applying one will show.
pub fn has_filters() -> bool {
    let mode = libc::c_ulong::from(libc::SECCOMP_MODE_FILTER);
    // SAFETY: the program's address is checked by the kernel, and there is nothing at 0.
    let result = unsafe { libc::prctl(libc::PR_SET_SECCOMP, mode, std::ptr::null::<libc::sock_fprog>()) };
    !matches!(Errno::result(result), Err(Errno::EINVAL | Errno::ENOSYS))
}

/// Applies a seccomp program to every system call of this process and of its descendants. Needs no_new_privs.
///
/// # Errors
/// Those of seccomp(2).
pub fn filter_calls(program: &[libc::sock_filter]) -> nix::Result<()> {
    let length = libc::c_ushort::try_from(program.len()).map_err(|_| Errno::EINVAL)?;
    let program = libc::sock_fprog { len: length, filter: program.as_ptr().cast_mut() };
    // From Linux 4.17 on, speculation is slower in a filtered process unless this flag is set. A build has no secrets to protect from
    // itself.
    for flags in [libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW, 0] {
        let mode = libc::c_ulong::from(libc::SECCOMP_SET_MODE_FILTER);
        // SAFETY: the kernel copies as many instructions as the length says, and writes nothing.
        let result = unsafe { libc::syscall(libc::SYS_seccomp, mode, flags, &raw const program) };
        match Errno::result(result) {
            Ok(_) => return Ok(()),
            Err(Errno::EINVAL) if flags != 0 => {}
            // The call exists since 3.17.
            Err(Errno::ENOSYS) => break,
            Err(e) => return Err(e),
        }
    }
    let mode = libc::c_ulong::from(libc::SECCOMP_MODE_FILTER);
    // SAFETY: as above.
    Errno::result(unsafe { libc::prctl(libc::PR_SET_SECCOMP, mode, &raw const program) }).map(drop)
}
