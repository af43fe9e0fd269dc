//! A file system in memory for the build directory. A build cannot exceed its size even for an instant, however fast it
//! writes.
//!
//! It is mounted in a mount namespace that only the preparing thread and its children have. Other processes do not see it,
//! and it vanishes with the thread, also when vfguard is killed. A namespace for one thread works since Linux 2.6.16.
//! unshare(2) also gives the thread its own root and working directory, so the other threads are not affected.

use super::bounds::{self, MAX_FILES};
use nix::mount::{mount, umount2, MntFlags, MsFlags};
use nix::sched::{unshare, CloneFlags};
use std::io;
use std::marker::PhantomData;
use std::path::{Path, PathBuf};
use std::thread;

/// The stack size of a main thread, which the code that unpacks and reads there was written for.
const STACK: usize = 8 << 20;

/// Proof that this thread has a mount namespace of its own, with the size of the file system that may be mounted there. It
/// cannot leave the thread.
#[derive(Debug)]
pub struct Apart {
    size: u64,
    _here: PhantomData<*const ()>,
}

/// Runs `act` in a thread that has a mount namespace of its own. If that is not possible, `act` gets the reason.
///
/// # Errors
/// When no thread can be started.
pub fn apart<T: Send>(act: impl FnOnce(Result<Apart, String>) -> T + Send) -> io::Result<T> {
    thread::scope(|threads| {
        let started = thread::Builder::new().stack_size(STACK).spawn_scoped(threads, || act(separate()))?;
        started.join().map_or_else(|panic| std::panic::resume_unwind(panic), Ok)
    })
}

/// The size that the build directory in memory would have here.
///
/// # Errors
/// Why there is none.
pub(super) fn promised() -> Result<u64, String> {
    if !nix::unistd::geteuid().is_root() {
        return Err("vfguard does not run as root".to_owned());
    }
    let machine = bounds::machine().ok_or(bounds::UNTOLD)?;
    bounds::disk(machine).ok_or_else(|| format!("{} MB of memory are too little for it", machine >> 20))
}

fn separate() -> Result<Apart, String> {
    let size = promised()?;
    unshare(CloneFlags::CLONE_NEWNS).map_err(|e| format!("no mount namespace can be made ({})", e.desc()))?;
    // Mounts made outside later appear here, but mounts made here do not appear outside.
    let slave = MsFlags::MS_REC | MsFlags::MS_SLAVE;
    mount(None::<&Path>, "/", None::<&Path>, slave, None::<&Path>).map_err(|e| format!("/ is no mount ({})", e.desc()))?;
    Ok(Apart { size, _here: PhantomData })
}

/// A build directory with a size limit of its own.
#[derive(Debug)]
pub(super) struct Own {
    dir: PathBuf,
    /// In bytes.
    pub size: u64,
    _here: PhantomData<*const ()>,
}

impl Own {
    /// Mounts it over an empty directory.
    ///
    /// # Errors
    /// Why it cannot be mounted.
    pub fn mount(apart: &Apart, dir: &Path) -> Result<Own, String> {
        let options = format!("size={},nr_inodes={MAX_FILES},mode=755", apart.size);
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
        mount(Some("vfguard-build"), dir, Some("tmpfs"), flags, Some(options.as_str()))
            .map_err(|e| format!("nothing can be mounted ({})", e.desc()))?;
        Ok(Own { dir: dir.to_owned(), size: apart.size, _here: PhantomData })
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        // The end of the thread is too late: before Linux 3.18 a directory that is a mount point in another namespace cannot
        // be removed, and the thread may still be ending when the directory is removed.
        let _ = umount2(&self.dir, MntFlags::MNT_DETACH);
    }
}
