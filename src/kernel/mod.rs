//! Kernels: their names, what is installed, their configuration, symbol versions and build trees.

pub mod installed;
pub mod release;
pub mod tree;

pub use installed::{installed, Kernel};
pub use release::KernelRelease;
