//! System calls that neither std nor nix offers safely. `raw` is the only file of the program with unsafe code.

mod raw;
mod shared;

pub use raw::{
    capabilities, close_on_exec_from, default_action, drop_bounding_set, drop_capabilities, exit_now, filter_calls,
    fork_helper, fork_in_child, freeze, has_acl, has_filters, in_child, label, outlive, remove_system_v, set_label,
    spawn_with, thaw, without_descriptors, write_file, Child, Fork,
};
pub use shared::{clear_user_keyrings, new_session_keyring, SystemV};

use nix::unistd::{sysconf, SysconfVar};
use std::os::fd::RawFd;

/// How many descriptors are closed one by one where the kernel has no close_range(2) (before 5.9; flags since 5.11).
const MAX_DESCRIPTORS: RawFd = 1 << 16;

fn descriptor_limit() -> RawFd {
    let limit = sysconf(SysconfVar::OPEN_MAX).ok().flatten().and_then(|limit| RawFd::try_from(limit).ok());
    limit.map_or(MAX_DESCRIPTORS, |limit| limit.min(MAX_DESCRIPTORS))
}

#[cfg(test)]
mod tests;
