//! Killed at dangerous instants.

mod initramfs;
mod kill;
