//! What happens in which order, from the call of a command or hook to its effects.

pub mod hook;
pub mod look;
pub mod plan;
pub mod reconcile;
pub mod refuse;
pub mod rehearse;
