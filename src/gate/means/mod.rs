//! How the reboot is refused on a machine: one file per init system.

pub mod systemd;
pub mod upstart;
