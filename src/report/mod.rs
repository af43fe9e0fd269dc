//! Telling people (terminal) and machines (JSON).

pub mod json;
pub mod man;
