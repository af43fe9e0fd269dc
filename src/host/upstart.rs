//! Whether upstart is the init of this machine (EL6), and whether the wrappers of packaging/el6 are in place.

use super::{files, Host};

/// The second line of each wrapper begins so.
const WRAPPER: &str = "# vfguard-upstart-wrapper";
/// Where the wrappers are.
const WRAPPED: [&str; 3] = ["/sbin/reboot", "/sbin/shutdown", "/sbin/telinit"];
/// A wrapper is a page of text; what it wraps is larger.
const MAX_WRAPPER: u64 = 1 << 20;

/// Whether the init of this machine is upstart: its own files and no systemd.
pub fn is_upstart(host: &Host) -> bool {
    let systemd = ["/usr/lib/systemd/systemd", "/lib/systemd/systemd"].iter().any(|p| host.exists(p));
    !systemd && host.is_dir("/etc/init") && host.exists("/sbin/initctl")
}

/// Programs that would reboot past the gate: they have no wrapper.
pub fn unwrapped(host: &Host) -> Vec<&'static str> {
    let wrapped = |path: &&str| {
        let text = files::read_bounded(&host.path(path), MAX_WRAPPER).unwrap_or_default();
        String::from_utf8_lossy(&text).lines().nth(1).is_some_and(|l| l.starts_with(WRAPPER))
    };
    WRAPPED.into_iter().filter(|path| !wrapped(path)).collect()
}
