//! Telling people (terminal) and machines (JSON).

pub mod human;
pub mod json;
pub mod progress;
