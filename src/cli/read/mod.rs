//! The verbs that change nothing, one file each.

pub mod check;
pub mod doctor;
pub mod next_boot;
pub mod status;
pub mod verify;
