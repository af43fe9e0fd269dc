//! Makes a module for a kernel: recipe, fetch, unpack, build, sign, install. Each step takes what only the step before can make:
//! [`Recipe`] → [`VerifiedArchive`] → [`SourceTree`] → built module → installed module.

mod build;
mod build_cause;
mod build_log;
pub mod digest;
pub mod fetch;
pub mod fuzz;
pub mod headers;
pub mod initramfs;
pub mod install;
mod install_file;
pub mod leftovers;
mod preflight;
pub mod prepare;
mod prepare_outcome;
mod prepare_record;
mod prepare_verify;
pub mod progress;
pub mod recipe;
pub mod rest;
pub mod sandbox;
mod sandbox_child;
mod sandbox_landlock;
mod sandbox_layout;
mod sandbox_level;
mod sandbox_run;
mod sign;
pub mod unpack;

pub use build_log::last_log;
pub use digest::Digest;
pub use fetch::{fetch, local_archive, Origin, VerifiedArchive};
pub use preflight::{missing, programs};
pub use prepare::{prepare, Request};
pub use prepare_outcome::{PrepareError, Prepared};
pub use prepare_record::{last_failure, would_fail_again};
pub use progress::{Progress, Silent};
pub use recipe::{recipes, KernelRange, Recipe, Release};
pub(crate) use sandbox_run::free;
pub use unpack::{unpack, SourceTree};
