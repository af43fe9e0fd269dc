//! Makes a module for a kernel: recipe, fetch, unpack, build, sign, install. Each step takes what only the step before can make:
//! [`Recipe`] → [`VerifiedArchive`] → [`SourceTree`] → built module → installed module.

pub mod digest;
pub mod fetch;
pub mod progress;
pub mod recipe;
pub mod unpack;

pub use digest::Digest;
pub use fetch::{fetch, local_archive, Origin, VerifiedArchive};
pub use progress::{Progress, Silent};
pub use recipe::{recipes, KernelRange, Recipe, Release};
pub use unpack::{unpack, SourceTree};
