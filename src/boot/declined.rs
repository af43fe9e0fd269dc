//! The kernels that a person declined. A declined kernel is never wanted, and nothing is refused on its account as long as the boot loader
//! does not start it. If the loader does start it, it is judged like any other. A kernel that is removed leaves the list.

use crate::audit::{self, Who};
use crate::error::advise;
use crate::host::lock::BootLock;
use crate::host::Host;
use crate::kernel::{installed, KernelRelease};
use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

/// The record, below the root.
pub const RECORD: &str = "/var/lib/vfguard/records/declined.json";
/// A /boot holds a handful of kernels.
const MAX: usize = 64;

/// A declined kernel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Declined {
    /// Its release.
    pub kernel: KernelRelease,
    /// When it was declined, as RFC 3339.
    pub when: String,
    /// Who declined it.
    #[serde(flatten)]
    pub who: Who,
    /// Why, in the person's words.
    pub why: String,
}

impl Declined {
    /// One line for people.
    pub fn line(&self) -> String {
        let Declined { kernel, when, why, .. } = self;
        let why = if why.is_empty() { String::new() } else { format!(" ({why})") };
        format!("{kernel} is declined since {when}{why}; to take that back: vfguard accept {kernel}")
    }
}

/// The installed kernels that are declined. Empty if the record cannot be read: then every kernel is judged.
pub fn read(host: &Host) -> Vec<Declined> {
    let mut declined = recorded(host);
    declined.retain(|d| is_installed(host, &d.kernel));
    declined
}

fn recorded(host: &Host) -> Vec<Declined> {
    let read = host.read(RECORD).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
    let mut declined: Vec<Declined> = read.unwrap_or_default();
    declined.truncate(MAX);
    declined
}

/// Image or modules alone are enough: /boot may not be mounted now, and a removal may be aborted.
fn is_installed(host: &Host, kernel: &KernelRelease) -> bool {
    host.is_dir(installed::modules_dir(kernel)) || installed::image(host, kernel).is_some()
}

/// Declines a kernel. If it is declined already, the date and reason stay.
///
/// # Errors
/// If too many are declined, or the record cannot be written.
pub fn add(host: &Host, _lock: &BootLock, kernel: &KernelRelease, why: &str) -> Result<()> {
    let mut declined = recorded(host);
    if declined.iter().any(|d| d.kernel == *kernel) {
        return Ok(());
    }
    if declined.len() >= MAX {
        return Err(advise(
            format!("{MAX} kernels are declined already"),
            "remove those that are not needed with the package manager, or vfguard accept one",
        ));
    }
    let (when, who) = (audit::stamp(audit::now()), Who::current(host));
    declined.push(Declined { kernel: kernel.clone(), when, who, why: why.to_owned() });
    write(host, &declined)
}

/// Accepts a declined kernel again.
///
/// # Errors
/// If the record cannot be written.
pub fn remove(host: &Host, _lock: &BootLock, kernel: &KernelRelease) -> Result<()> {
    let mut declined = recorded(host);
    declined.retain(|d| d.kernel != *kernel);
    write(host, &declined)
}

/// Drops the kernels that are no longer installed: if one comes back, it is judged again.
///
/// # Errors
/// If the lock cannot be taken (only tried if there are kernels to drop) or the record cannot be written.
pub fn forget_removed(host: &Host) -> Result<()> {
    if recorded(host).iter().all(|d| is_installed(host, &d.kernel)) {
        return Ok(());
    }
    let _lock = BootLock::take(host)?;
    write(host, &read(host))
}

fn write(host: &Host, declined: &[Declined]) -> Result<()> {
    let written = match declined {
        [] => host.remove_durably(RECORD).map(drop),
        declined => host.write_atomic(RECORD, &serde_json::to_vec_pretty(declined)?, 0o644),
    };
    written.with_context(|| format!("writing {RECORD}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn k(n: usize) -> KernelRelease {
        format!("6.1.0-{n}").parse().unwrap()
    }

    #[test]
    fn a_kernel_stays_declined_until_it_is_accepted_or_removed() {
        let dir = tempfile::tempdir().unwrap();
        let host = Host::new(dir.path()).unwrap();
        let install = |n: usize| host.write_atomic(format!("/boot/vmlinuz-{}", k(n)), b"x", 0o644).unwrap();
        (1..4).for_each(install);
        let lock = BootLock::take(&host).unwrap();
        let names = || read(&host).into_iter().map(|d| d.kernel).collect::<Vec<_>>();
        add(&host, &lock, &k(1), "no driver").unwrap();
        let first = read(&host);
        for n in [2, 3, 1] {
            add(&host, &lock, &k(n), "").unwrap();
        }
        assert_eq!((names(), &read(&host)[0]), (vec![k(1), k(2), k(3)], &first[0]));
        assert!(first[0].line().contains("no driver") && first[0].line().ends_with("vfguard accept 6.1.0-1"));
        remove(&host, &lock, &k(1)).unwrap();
        drop(lock);
        assert_eq!(names(), [k(2), k(3)]);
        // A kernel that is removed and comes back later is no longer declined.
        std::fs::remove_file(host.path(format!("/boot/vmlinuz-{}", k(2)))).unwrap();
        assert_eq!(names(), [k(3)]);
        forget_removed(&host).unwrap();
        install(2);
        assert_eq!(names(), [k(3)]);
        std::fs::remove_file(host.path(format!("/boot/vmlinuz-{}", k(3)))).unwrap();
        forget_removed(&host).unwrap();
        assert!(!host.exists(RECORD));
    }

    #[test]
    fn the_list_is_bounded_and_an_unreadable_list_declines_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let host = Host::new(dir.path()).unwrap();
        let lock = BootLock::take(&host).unwrap();
        for n in 0..=MAX {
            host.write_atomic(format!("/boot/vmlinuz-{}", k(n)), b"x", 0o644).unwrap();
            let added = add(&host, &lock, &k(n), "");
            assert_eq!(added.is_ok(), n < MAX, "{n}: {added:?}");
        }
        assert_eq!(read(&host).len(), MAX);
        for spoilt in ["", "{}", "[{\"kernel\": \"../x\"}]", "[1]"] {
            host.write_atomic(RECORD, spoilt.as_bytes(), 0o644).unwrap();
            assert!(read(&host).is_empty(), "{spoilt}");
        }
    }
}
