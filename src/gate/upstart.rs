//! The gate on upstart (EL6): wrappers around reboot, shutdown and telinit refuse while a state file says so.

use crate::host::Host;

/// Whether the init of this machine is upstart: its own files and no systemd.
pub fn is_upstart(host: &Host) -> bool {
    let systemd = ["/usr/lib/systemd/systemd", "/lib/systemd/systemd"].iter().any(|p| host.exists(p));
    !systemd && host.is_dir("/etc/init") && host.exists("/sbin/initctl")
}
