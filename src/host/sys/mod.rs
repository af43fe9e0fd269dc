//! The fence: what neither std nor nix offers safely, in tiny wrappers with the reason why each is sound. No other folder may write `unsafe`, and here only
//! these files:
//!
//! - `child`: what runs between fork(2) and execve(2), and who may call it;
//! - `process`: signals, _exit(2), System V IPC;
//! - `privilege`: capabilities, keyrings, seccomp;
//! - `files`: extended attributes, FIFREEZE, and a write that does not allocate.

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
