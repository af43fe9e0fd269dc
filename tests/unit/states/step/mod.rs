//! What one step of an actor, and of what happens to the machine, changes.

pub mod boot;
pub mod event;
pub mod gate;
pub mod person;
pub mod program;
pub mod run;
