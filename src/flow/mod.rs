//! What happens in which order: from a call to the effects.

pub mod hook;
pub mod look;
pub mod plan;
pub mod reconcile;
pub mod refuse;
pub mod rehearse;
