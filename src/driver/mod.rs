//! Builds a module for a kernel: recipe, fetch, unpack, build, sign, install. Each step takes a type that only the step
//! before can create: [`Recipe`] → [`VerifiedArchive`] → [`SourceTree`] → built module → installed module.

mod build;
pub mod digest;
pub mod fetch;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
pub mod headers;
pub mod install;
pub mod packages;
mod packing;
pub mod prepare;
pub mod recipe;
pub mod rest;
pub mod sandbox;
pub mod unpack;

pub use build::log::last_log;
pub use build::preflight::{missing, programs, ALWAYS};
pub use digest::Digest;
pub use fetch::{fetch, local_archive, FetchedFrom, VerifiedArchive};
pub(crate) use install::sign::look as signing_key;
pub use prepare::outcome::{PrepareError, Prepared};
pub use prepare::record::{last_failure, would_fail_again};
pub use prepare::{prepare, Request};
pub use recipe::{recipes, Numbers, Recipe, Release};
pub(crate) use sandbox::watch::free;
pub use unpack::{unpack, SourceTree};
