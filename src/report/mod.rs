//! Telling people (terminal) and machines (JSON).

pub mod human;
pub mod json;
pub mod man;
pub mod notices;
pub mod print;
pub mod progress;
pub mod text;
