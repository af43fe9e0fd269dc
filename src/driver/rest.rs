//! A pause after a change that failed and was undone.
//!
//! Building an initramfs, and installing a module with depmod, touch files that the systemd path unit watches, even if they
//! are undone. So it starts the worker again, which would retry at once and without end. Automatic runs therefore leave such
//! a kernel alone for a while. A person who runs `vfguard reconcile` or `vfguard prepare` does not wait. A failure before
//! any change needs no pause.

use crate::host::Host;
use crate::kernel::KernelRelease;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Enough time to free space in a full /boot; the timer runs once an hour.
const REST: Duration = Duration::from_secs(30 * 60);
/// The directory of files, one per kernel, whose age is the time since the failure. Below the root.
const DIR: &str = "/run/vfguard/rests";

fn path(kernel: &KernelRelease) -> PathBuf {
    Path::new(DIR).join(kernel.as_str())
}

/// Starts the pause: a change for this kernel has just failed. If that cannot be written (/run is full), there is no pause.
pub(in crate::driver) fn begin(host: &Host, kernel: &KernelRelease) {
    let _ = host.write_atomic(path(kernel), b"", 0o644);
}

/// Whether a kernel is left alone now. A clock that was set back ends the pause.
pub fn is_on(host: &Host, kernel: &KernelRelease) -> bool {
    let age = host.metadata(path(kernel)).and_then(|m| m.modified()).map(|t| t.elapsed());
    age.is_ok_and(|age| age.is_ok_and(|age| age < REST))
}

/// Ends all pauses, because a person asked for a run.
pub fn end(host: &Host) {
    for name in host.read_dir(DIR).unwrap_or_default() {
        let _ = host.remove(Path::new(DIR).join(name));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::time::SystemTime;

    #[test]
    fn a_pause_is_for_one_kernel_and_ends_by_itself_or_when_a_person_asks() {
        let dir = tempfile::tempdir().unwrap();
        let host = Host::new(dir.path()).unwrap();
        let [one, other] = ["6.1.0-56-amd64", "6.1.0-57-amd64"].map(|k| k.parse::<KernelRelease>().unwrap());
        assert!(!is_on(&host, &one));
        begin(&host, &one);
        assert!(is_on(&host, &one) && !is_on(&host, &other));
        for (time, on) in
            [(SystemTime::now() - 2 * REST, false), (SystemTime::now() + REST, false), (SystemTime::now(), true)]
        {
            File::open(host.path(path(&one))).unwrap().set_modified(time).unwrap();
            assert_eq!(is_on(&host, &one), on, "{time:?}");
        }
        end(&host);
        assert!(!is_on(&host, &one));
    }
}
