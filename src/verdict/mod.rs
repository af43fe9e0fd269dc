//! What is known about each kernel, and what it adds up to.

pub mod judge;
pub mod survey;
