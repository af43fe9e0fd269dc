//! Output for people (terminal) and programs (JSON).

pub mod human;
pub mod json;
pub mod progress;
