//! The one fenced file: what neither std nor nix offers safely, in tiny wrappers with the reason why each is sound.
//!
//! A child that is made by fork(2) out of a process with threads may call only what is async-signal-safe (signal-safety(7)):
//! no allocation, no lock. Everything below that runs in such a child keeps to system calls on memory that was there before.

#![allow(unsafe_code)]

use nix::errno::Errno;
use nix::libc;
use nix::sys::signal::{sigaction, SaFlags, SigAction, SigHandler, SigSet, SigmaskHow, Signal};
use nix::unistd::Pid;
use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

/// Has `setup` run in the child between fork(2) and execve(2); its error becomes that of spawning.
///
/// `setup` must keep to async-signal-safe calls: system calls through nix with `&CStr` and memory that exists already.
pub fn in_child<F>(command: &mut Command, setup: F)
where
    F: FnMut() -> io::Result<()> + Send + Sync + 'static,
{
    // SAFETY: the closures that the crate passes (driver::sandbox::child) make system calls only, on C strings that were built
    // before the fork; they neither allocate nor lock nor unwind.
    unsafe {
        command.pre_exec(setup);
    }
}

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

/// Which side of a fork this is.
#[derive(Clone, Copy, Debug)]
pub enum Fork {
    /// The old process, with the new one's id.
    Parent(Pid),
    /// The new process.
    Child,
}

/// fork(2) inside a child of [`in_child`], for the init of a PID namespace.
///
/// # Errors
/// Those of fork(2).
pub fn fork_in_child() -> nix::Result<Fork> {
    // SAFETY: only called in a process that fork(2) made already and that has one thread; both sides go on with system calls.
    match unsafe { libc::fork() } {
        -1 => Err(Errno::last()),
        0 => Ok(Fork::Child),
        pid => Ok(Fork::Parent(Pid::from_raw(pid))),
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

/// As many descriptors as are closed one by one where the kernel has no close_range(2) (before 5.9; flags since 5.11).
const MAX_DESCRIPTORS: RawFd = 1 << 16;

/// Closes every descriptor from `first` on. Only for a helper between fork and exit: nothing that owns one may run after it.
pub fn close_from(first: RawFd) {
    // SAFETY: the calling helper uses no descriptor afterwards and never drops an owner of one; EBADF is harmless.
    unsafe {
        if libc::syscall(libc::SYS_close_range, first, libc::c_uint::MAX, 0) != 0 {
            for fd in first..descriptor_limit() {
                libc::close(fd);
            }
        }
    }
}

/// Marks every descriptor from `first` on, so that execve(2) closes it.
pub fn close_on_exec_from(first: RawFd) {
    // SAFETY: sets a flag on descriptors; no memory is involved, and EBADF is harmless.
    unsafe {
        if libc::syscall(libc::SYS_close_range, first, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC) != 0 {
            for fd in first..descriptor_limit() {
                libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC);
            }
        }
    }
}

fn descriptor_limit() -> RawFd {
    // SAFETY: sysconf(3) with this name reads a limit only.
    let limit = unsafe { libc::sysconf(libc::_SC_OPEN_MAX) };
    if limit < 0 {
        MAX_DESCRIPTORS
    } else {
        (limit.min(libc::c_long::from(MAX_DESCRIPTORS))) as RawFd
    }
}

/// The newest layout of capset(2)'s header, since Linux 2.6.26.
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

/// Empties the bounding set, so that no program can ever give one back. Needs CAP_SETPCAP; without it nothing happens.
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

/// The effective capabilities of this process, a bit each. The kernel is asked itself: no file of /proc is read, so no error of
/// reading can look like a lack of privilege.
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

/// KEYCTL_JOIN_SESSION_KEYRING of keyctl(2).
const JOIN_SESSION_KEYRING: libc::c_int = 1;

/// Takes a new empty session keyring in the place of the one that was inherited.
///
/// # Errors
/// Those of keyctl(2); that the kernel has no keys, or a container's filter hides them, is none.
pub fn new_session_keyring() -> nix::Result<()> {
    // SAFETY: without a name the call reads no memory of ours.
    let result = unsafe { libc::syscall(libc::SYS_keyctl, JOIN_SESSION_KEYRING, std::ptr::null::<libc::c_char>()) };
    match Errno::result(result) {
        Ok(_) | Err(Errno::ENOSYS | Errno::EPERM) => Ok(()),
        Err(e) => Err(e),
    }
}

/// Keyrings by the place that they have in a process, and by whose they are (keyctl(2)).
const OF_THREAD: libc::c_int = -1;
const OF_USER: libc::c_int = -4;
const OF_USERS_SESSIONS: libc::c_int = -5;
/// KEYCTL_CLEAR and KEYCTL_GET_PERSISTENT.
const CLEAR: libc::c_int = 7;
const GET_PERSISTENT: libc::c_int = 22;

/// Empties the keyrings that every process of this user has, the persistent one too.
///
/// # Errors
/// Those of keyctl(2); that the kernel has no keys, or a container's filter hides them, is none.
pub fn clear_user_keyrings() -> nix::Result<()> {
    let keyctl = |command: libc::c_int, first: libc::c_int, second: libc::c_int| {
        // SAFETY: both commands take numbers and read no memory of ours.
        let result = unsafe { libc::syscall(libc::SYS_keyctl, command, first, second) };
        match Errno::result(result) {
            Ok(serial) => Ok(Some(serial as libc::c_int)),
            // Persistent keyrings are younger (Linux 3.13), and a kernel may be built without.
            Err(Errno::ENOSYS | Errno::EPERM | Errno::EOPNOTSUPP) => Ok(None),
            Err(e) => Err(e),
        }
    };
    keyctl(CLEAR, OF_USER, 0)?;
    keyctl(CLEAR, OF_USERS_SESSIONS, 0)?;
    // -1 is the caller. It is linked to the keyring of this thread, which execve(2) drops.
    if let Some(persistent) = keyctl(GET_PERSISTENT, -1, OF_THREAD)? {
        keyctl(CLEAR, persistent, 0)?;
    }
    Ok(())
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

/// Whether the kernel has seccomp filters (Linux 3.5). Asked for none it has, it says EFAULT (seccomp(2)), and nothing is restricted.
/// What is said otherwise is no answer: applying one shows it then.
pub fn has_filters() -> bool {
    let mode = libc::c_ulong::from(libc::SECCOMP_MODE_FILTER);
    // SAFETY: the program's address is checked by the kernel, and there is nothing at 0.
    let result = unsafe { libc::prctl(libc::PR_SET_SECCOMP, mode, std::ptr::null::<libc::sock_fprog>()) };
    !matches!(Errno::result(result), Err(Errno::EINVAL | Errno::ENOSYS))
}

/// Has a seccomp program look at every system call of this process, and of all that come from it. Needs no_new_privs.
///
/// # Errors
/// Those of seccomp(2).
pub fn filter_calls(program: &[libc::sock_filter]) -> nix::Result<()> {
    let length = libc::c_ushort::try_from(program.len()).map_err(|_| Errno::EINVAL)?;
    let program = libc::sock_fprog { len: length, filter: program.as_ptr().cast_mut() };
    // From 4.17 on speculation is slowed down in a filtered process unless this is said. A build keeps no secret from itself.
    for flags in [libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW, 0] {
        let mode = libc::c_ulong::from(libc::SECCOMP_SET_MODE_FILTER);
        // SAFETY: the kernel copies the instructions, of which there are as many as is said, and writes nothing.
        let result = unsafe { libc::syscall(libc::SYS_seccomp, mode, flags, &raw const program) };
        match Errno::result(result) {
            Ok(_) => return Ok(()),
            Err(Errno::EINVAL) if flags != 0 => {}
            // The call is of 3.17.
            Err(Errno::ENOSYS) => break,
            Err(e) => return Err(e),
        }
    }
    let mode = libc::c_ulong::from(libc::SECCOMP_MODE_FILTER);
    // SAFETY: as above.
    Errno::result(unsafe { libc::prctl(libc::PR_SET_SECCOMP, mode, &raw const program) }).map(drop)
}

/// Writes bytes to a descriptor that is only known by number: the report of a failing helper, or its own /proc file.
pub fn write_raw(fd: RawFd, bytes: &[u8]) {
    // SAFETY: the slice is valid for its length; a bad descriptor is EBADF.
    unsafe {
        libc::write(fd, bytes.as_ptr().cast(), bytes.len());
    }
}

/// Waits for a byte at a descriptor that is only known by number, or for its end.
pub fn await_raw(fd: RawFd) {
    let mut byte = 0_u8;
    // SAFETY: one byte is written to one that is ours; a bad descriptor is EBADF.
    while unsafe { libc::read(fd, (&raw mut byte).cast(), 1) } < 0 && Errno::last() == Errno::EINTR {}
}

/// Writes bytes to a file that exists, without allocating.
///
/// # Errors
/// Those of open(2) and write(2).
pub fn write_file(path: &CStr, bytes: &[u8]) -> nix::Result<()> {
    // SAFETY: the path ends in NUL, the descriptor is ours and closed once.
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

/// The name of SELinux's label among the extended attributes (xattr(7)).
const LABEL: &CStr = c"security.selinux";
/// A label is a short string; the longest that SELinux accepts is a page.
const MAX_LABEL: usize = 4096;

/// The SELinux label of an open file; none without SELinux.
pub fn label(file: impl AsFd) -> Option<Vec<u8>> {
    let mut value = vec![0u8; MAX_LABEL];
    // SAFETY: the buffer is valid for the length that is passed.
    let length =
        unsafe { libc::fgetxattr(file.as_fd().as_raw_fd(), LABEL.as_ptr(), value.as_mut_ptr().cast(), value.len()) };
    value.truncate(usize::try_from(length).ok()?);
    Some(value)
}

/// Whether an access control list beyond the mode stands behind a file (acl(5)). What cannot be told counts as one.
pub fn has_acl(path: &Path) -> bool {
    let Ok(path) = CString::new(path.as_os_str().as_bytes()) else { return true };
    // SAFETY: both strings end in NUL; without a buffer only the length is asked for.
    let length = unsafe { libc::getxattr(path.as_ptr(), c"system.posix_acl_access".as_ptr(), std::ptr::null_mut(), 0) };
    length >= 0 || !matches!(Errno::last(), Errno::ENODATA | Errno::EOPNOTSUPP | Errno::ENOSYS)
}

/// Gives an open file a label.
///
/// # Errors
/// Those of fsetxattr(2).
pub fn set_label(file: impl AsFd, value: &[u8]) -> nix::Result<()> {
    // SAFETY: the slice is valid for its length.
    let result = unsafe { libc::fsetxattr(file.as_fd().as_raw_fd(), LABEL.as_ptr(), value.as_ptr().cast(), value.len(), 0) };
    Errno::result(result).map(drop)
}

mod raw {
    // linux/fs.h: FIFREEZE _IOWR('X', 119, int), FITHAW _IOWR('X', 120, int); the argument is not used.
    nix::ioctl_readwrite!(fifreeze, b'X', 119, nix::libc::c_int);
    nix::ioctl_readwrite!(fithaw, b'X', 120, nix::libc::c_int);
}

/// Freezes the file system of an open file: its journal is empty when this returns, and every write waits until [`thaw`].
///
/// # Errors
/// Those of FIFREEZE: `EOPNOTSUPP` where the file system cannot be frozen, `EBUSY` where it is frozen already.
pub fn freeze(fd: RawFd) -> nix::Result<()> {
    let mut unused = 0;
    // SAFETY: the kernel neither reads nor writes the argument; a bad descriptor is EBADF.
    unsafe { raw::fifreeze(fd, &mut unused) }.map(drop)
}

/// Thaws the file system of an open file.
///
/// # Errors
/// Those of FITHAW: `EINVAL` where it is not frozen.
pub fn thaw(fd: RawFd) -> nix::Result<()> {
    let mut unused = 0;
    // SAFETY: as for FIFREEZE.
    unsafe { raw::fithaw(fd, &mut unused) }.map(drop)
}

/// Forks a helper that does `work` and ends with what it returns; no signal but SIGKILL ends it, since it begins with all
/// others blocked. `work` must keep to system calls on memory that was there before: other threads may hold locks.
///
/// # Errors
/// Those of fork(2).
pub fn fork_helper(work: impl FnOnce() -> u8) -> nix::Result<Pid> {
    let before = SigSet::all().thread_swap_mask(SigmaskHow::SIG_SETMASK)?;
    // SAFETY: the only caller (host::freeze) passes a closure of system calls on integers, which neither allocates nor locks
    // nor unwinds; _exit(2) runs no destructor of what the parent owns.
    let forked = match unsafe { libc::fork() } {
        -1 => Err(Errno::last()),
        0 => exit_now(i32::from(work())),
        pid => Ok(Pid::from_raw(pid)),
    };
    before.thread_set_mask()?;
    forked
}

#[cfg(test)]
mod tests;
