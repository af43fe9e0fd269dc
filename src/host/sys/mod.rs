//! The only place for unsafe code: what neither std nor nix offers safely, in small wrappers, each with the reason why it is sound. Other
//! folders must not use `unsafe`, and here only these files may:
//!
//! - `child`: code between fork(2) and execve(2), and who may run it;
//! - `process`: signals, _exit(2), System V IPC;
//! - `privilege`: capabilities, keyrings, seccomp;
//! - `files`: extended attributes, FIFREEZE, and writing without allocation.

mod child;
mod files;
mod privilege;
mod process;

pub use child::{close_on_exec_from, fork_helper, fork_in_child, in_child, spawn_with, without_descriptors, Child, Fork};
pub use files::{freeze, has_acl, label, set_label, thaw, write_file};
pub use privilege::{
    capabilities, clear_user_keyrings, drop_bounding_set, drop_capabilities, filter_calls, has_filters, new_session_keyring,
};
pub use process::{default_action, exit_now, outlive, remove_system_v, SystemV};

#[cfg(test)]
mod tests;
