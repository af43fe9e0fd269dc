//! What is known about each kernel, and the verdict on it.

pub mod judge;
pub mod survey;
