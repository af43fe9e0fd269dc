//! The stamp of a removal: while vfguard is being removed nothing closes the gate, because nothing would be left to open it.
//!
//! The package writes the stamp before it stops the units. Stopping them could close the gate: a run that is stopped in the
//! middle counts as failed and starts vfguard-fail-closed.service.

use super::term::uptime;
use crate::host::files::trust;
use crate::host::Host;

/// The file, below the root: the time since boot at which the removal began, in seconds. packaging/deb/prerm,
/// packaging/vfguard.spec and packaging/systemd/fail-closed use it too.
pub const FILE: &str = "/run/vfguard/removing";
/// How long a removal may take. An aborted removal must not leave the machine unguarded.
const LASTS: u64 = 10 * 60;

/// Whether vfguard is being removed. A stamp that cannot be read, or that others could have written, does not count.
pub fn removing(host: &Host) -> bool {
    let began = trust::read_text(&host.path(FILE), FILE.as_ref()).ok().and_then(|t| t.trim().parse::<u64>().ok());
    let since = began.and_then(|began| uptime(host)?.checked_sub(began));
    since.is_some_and(|since| since < LASTS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_stamp_counts_for_ten_minutes_and_only_if_root_wrote_it() {
        let dir = tempfile::tempdir().unwrap();
        let host = Host::new(dir.path()).unwrap();
        let at = |uptime: &str| host.write_atomic("/proc/uptime", uptime.as_bytes(), 0o644).unwrap();
        at("700.25 90.0\n");
        assert!(!removing(&host));
        host.write_atomic(FILE, b"700\n", 0o644).unwrap();
        assert!(removing(&host));
        at("1299.99 90.0\n");
        assert!(removing(&host));
        at("1300.00 90.0\n");
        assert!(!removing(&host), "a removal that was given up leaves the machine unguarded");
        at("699.99 90.0\n");
        assert!(!removing(&host));
        at("700.25 90.0\n");
        for text in ["", "x\n", "-1\n", "18446744073709551615\n", "18446744073709551616\n"] {
            host.write_atomic(FILE, text.as_bytes(), 0o644).unwrap();
            assert!(!removing(&host), "{text:?}");
        }
        host.write_atomic(FILE, b"700\n", 0o666).unwrap();
        std::fs::set_permissions(host.path(FILE), std::fs::Permissions::from_mode(0o666)).unwrap();
        assert!(!removing(&host), "others could have written it");
    }
}
