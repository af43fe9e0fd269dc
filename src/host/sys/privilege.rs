//! Dropping privileges: capabilities, keyrings, and the system call filter.

#![allow(unsafe_code)]

use nix::errno::Errno;
use nix::libc;

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

/// KEYCTL_JOIN_SESSION_KEYRING of keyctl(2).
const JOIN_SESSION_KEYRING: libc::c_int = 1;

/// Replaces the inherited session keyring with a new empty one.
///
/// # Errors
/// Those of keyctl(2). It is no error if the kernel has no keys, or if a container's filter hides them.
pub fn new_session_keyring() -> nix::Result<()> {
    // SAFETY: without a name the call reads no memory of this process.
    let result = unsafe { libc::syscall(libc::SYS_keyctl, JOIN_SESSION_KEYRING, std::ptr::null::<libc::c_char>()) };
    match Errno::result(result) {
        Ok(_) | Err(Errno::ENOSYS | Errno::EPERM) => Ok(()),
        Err(e) => Err(e),
    }
}

/// Keyrings by their role in a process, and by their owner (keyctl(2)).
const OF_THREAD: libc::c_int = -1;
const OF_USER: libc::c_int = -4;
const OF_USERS_SESSIONS: libc::c_int = -5;
/// KEYCTL_CLEAR and KEYCTL_GET_PERSISTENT.
const CLEAR: libc::c_int = 7;
const GET_PERSISTENT: libc::c_int = 22;

/// Empties the keyrings that all processes of this user share, including the persistent one.
///
/// # Errors
/// Those of keyctl(2). It is no error if the kernel has no keys, or if a container's filter hides them.
pub fn clear_user_keyrings() -> nix::Result<()> {
    let keyctl = |command: libc::c_int, first: libc::c_int, second: libc::c_int| {
        // SAFETY: both commands take numbers, and read no memory of this process.
        let result = unsafe { libc::syscall(libc::SYS_keyctl, command, first, second) };
        match Errno::result(result) {
            Ok(serial) => Ok(Some(serial as libc::c_int)),
            // Persistent keyrings exist since Linux 3.13, and a kernel may be built without them.
            Err(Errno::ENOSYS | Errno::EPERM | Errno::EOPNOTSUPP) => Ok(None),
            Err(e) => Err(e),
        }
    };
    keyctl(CLEAR, OF_USER, 0)?;
    keyctl(CLEAR, OF_USERS_SESSIONS, 0)?;
    // -1 means the caller. The keyring is linked to the keyring of this thread, which execve(2) drops.
    if let Some(persistent) = keyctl(GET_PERSISTENT, -1, OF_THREAD)? {
        keyctl(CLEAR, persistent, 0)?;
    }
    Ok(())
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
