//! What the processes of a user share and what outlives them: keyrings and System V IPC objects.

use super::raw::keyctl;
use nix::errno::Errno;
use nix::libc;

/// KEYCTL_JOIN_SESSION_KEYRING of keyctl(2).
const JOIN_SESSION_KEYRING: libc::c_int = 1;

/// Replaces the inherited session keyring with a new empty one.
///
/// # Errors
/// Those of keyctl(2). It is no error if the kernel has no keys, or if a container's filter hides them.
pub fn new_session_keyring() -> nix::Result<()> {
    // A null pointer in place of a name.
    match keyctl(JOIN_SESSION_KEYRING, 0, 0) {
        Ok(_) | Err(Errno::ENOSYS | Errno::EPERM) => Ok(()),
        Err(e) => Err(e),
    }
}

/// Keyrings by their role in a process, and by their owner (keyctl(2)).
const OF_THREAD: libc::c_long = -1;
const OF_USER: libc::c_long = -4;
const OF_USERS_SESSIONS: libc::c_long = -5;
/// KEYCTL_CLEAR and KEYCTL_GET_PERSISTENT.
const CLEAR: libc::c_int = 7;
const GET_PERSISTENT: libc::c_int = 22;

/// Empties the keyrings that all processes of this user share, including the persistent one.
///
/// # Errors
/// Those of keyctl(2). It is no error if the kernel has no keys, or if a container's filter hides them.
pub fn clear_user_keyrings() -> nix::Result<()> {
    let keyctl = |command, first, second| {
        match keyctl(command, first, second) {
            Ok(serial) => Ok(Some(serial)),
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
