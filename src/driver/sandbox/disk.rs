//! The build directory as a file system of its own in memory, whose size no build exceeds at any instant, however fast it takes.
//!
//! It is mounted in a mount namespace that only the preparing thread has, and its children: nobody else sees it, and it is gone with
//! the thread, also when vfguard is killed. A namespace of a thread works since Linux 2.6.16; unshare(2) gives the thread a root and
//! working directory of its own too, so the other threads notice nothing.

use super::bounds::{self, MAX_FILES};
use nix::mount::{mount, umount2, MntFlags, MsFlags};
use nix::sched::{unshare, CloneFlags};
use std::io;
use std::marker::PhantomData;
use std::path::{Path, PathBuf};
use std::thread;

/// As much as a first thread has: what is unpacked and read there was written for one.
const STACK: usize = 8 << 20;

/// The proof that this thread has a mount namespace of its own, and how large a file system may be mounted there. It stays with the
/// thread.
#[derive(Debug)]
pub struct Apart {
    size: u64,
    _here: PhantomData<*const ()>,
}

/// Does something in a thread which has a mount namespace of its own, where that is possible; else `act` learns why not.
///
/// # Errors
/// When no thread can be started.
pub fn apart<T: Send>(act: impl FnOnce(Result<Apart, String>) -> T + Send) -> io::Result<T> {
    thread::scope(|threads| {
        let started = thread::Builder::new().stack_size(STACK).spawn_scoped(threads, || act(separate()))?;
        started.join().map_or_else(|panic| std::panic::resume_unwind(panic), Ok)
    })
}

/// How large the build directory in memory would be here.
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
    // What is mounted outside meanwhile is seen here, and nothing that is mounted here is seen outside.
    let slave = MsFlags::MS_REC | MsFlags::MS_SLAVE;
    mount(None::<&Path>, "/", None::<&Path>, slave, None::<&Path>).map_err(|e| format!("/ is no mount ({})", e.desc()))?;
    Ok(Apart { size, _here: PhantomData })
}

/// A build directory with a size of its own.
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
        // Not left to the end of the thread: before Linux 3.18 a directory on which another namespace has something mounted cannot be
        // removed, and the thread may still be ending when its directory is.
        let _ = umount2(&self.dir, MntFlags::MNT_DETACH);
    }
}
