//! Kernels: their names, what is installed, their configuration, symbol versions and build trees.

pub mod compiler;
pub mod config;
pub mod el;
pub mod image;
pub mod installed;
pub mod leaving;
pub mod symvers;
pub mod tree;
pub mod whole;

pub use crate::release::KernelRelease;
pub use compiler::Compiler;
pub use config::KernelConfig;
pub use el::ElRelease;
pub use installed::{installed, Kernel};
pub use symvers::Symvers;
