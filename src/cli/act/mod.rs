//! The verbs that change something, one file each.

pub mod accept;
pub mod decline;
pub mod gate;
pub mod prepare;
pub mod reboot;
pub mod reconcile;
pub mod rehearse;
