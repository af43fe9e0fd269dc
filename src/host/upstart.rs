//! Whether upstart is the init system of this machine (EL6), and whether the wrappers of packaging/el6 are installed.

use super::{files, Host};

/// The beginning of the second line of each wrapper.
const WRAPPER: &str = "# vfguard-upstart-wrapper";
/// The paths of the wrappers.
const WRAPPED: [&str; 3] = ["/sbin/reboot", "/sbin/shutdown", "/sbin/telinit"];
/// A wrapper is about a page of text; the wrapped program is larger.
const MAX_WRAPPER: u64 = 1 << 20;

/// Whether the init system of this machine is upstart: its files exist and systemd does not run.
pub fn is_upstart(host: &Host) -> bool {
    let systemd = ["/usr/lib/systemd/systemd", "/lib/systemd/systemd"].iter().any(|p| host.exists(p));
    !systemd && host.is_dir("/etc/init") && host.exists("/sbin/initctl")
}

/// Programs without a wrapper; they would reboot without asking the gate.
pub fn unwrapped(host: &Host) -> Vec<&'static str> {
    let wrapped = |path: &&str| {
        let text = files::read_bounded(&host.path(path), MAX_WRAPPER).unwrap_or_default();
        String::from_utf8_lossy(&text).lines().nth(1).is_some_and(|l| l.starts_with(WRAPPER))
    };
    WRAPPED.into_iter().filter(|path| !wrapped(path)).collect()
}
