//! The writes of which a move of the boot default consists: a loader works them out; they are made and undone here.

pub(super) mod flush;
pub(super) mod mark;
pub(super) mod moves;
pub(super) mod plan;
pub mod told;
