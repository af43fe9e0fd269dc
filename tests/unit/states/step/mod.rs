//! How a step of an actor, or an event, changes the machine.

pub mod boot;
pub mod event;
pub mod gate;
pub mod person;
pub mod program;
pub mod run;
