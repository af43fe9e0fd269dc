//! What refuses the reboot on a machine: one file an init system.

pub mod systemd;
pub mod upstart;
