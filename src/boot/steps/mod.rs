//! The steps of which a move of the boot default is made: worked out by a loader, written and undone here.

pub(super) mod flush;
pub(super) mod mark;
pub(super) mod moves;
pub(super) mod plan;
pub mod told;
