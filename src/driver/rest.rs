//! A rest after a change that failed and was undone.
//!
//! Making an initramfs, and installing a module with its depmod, change what the watch looks at, undone or not; so the watch starts the
//! worker again, which would try again at once and without end. Whoever comes by itself leaves such a kernel alone for a while; a person
//! who asks (`vfguard reconcile`, `vfguard prepare`) does not wait. What fails before it has changed anything needs no rest.

use crate::host::Host;
use crate::kernel::KernelRelease;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A full /boot is made room in, and the timer looks once an hour.
const REST: Duration = Duration::from_secs(30 * 60);
/// Where the files are whose age says how long ago it was, below the root.
const DIR: &str = "/run/vfguard/rests";

fn path(kernel: &KernelRelease) -> PathBuf {
    Path::new(DIR).join(kernel.as_str())
}

/// A change for a kernel has failed now. Where that cannot be written down (a full /run), there is no rest.
pub(in crate::driver) fn begin(host: &Host, kernel: &KernelRelease) {
    let _ = host.write_atomic(path(kernel), b"", 0o644);
}

/// Whether a kernel is left alone now. A clock that was set back ends the rest.
pub fn is_on(host: &Host, kernel: &KernelRelease) -> bool {
    let age = host.metadata(path(kernel)).and_then(|m| m.modified()).map(|t| t.elapsed());
    age.is_ok_and(|age| age.is_ok_and(|age| age < REST))
}

/// Ends the rest of each kernel: a person asks.
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
    fn a_rest_is_one_kernels_and_ends_by_itself_or_when_a_person_asks() {
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
