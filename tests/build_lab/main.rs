//! Real drivers, built for real kernels: the limits of the sandbox, the messages of a build, whole runs, and the judgement of modules.
//! Needs root and the lab (tests/run.sh build).

#[path = "../machine/mod.rs"]
mod machine;

mod build;
/// Tests that kill vfguard at failpoints, which the shipped binary does not have.
#[cfg(feature = "failpoints")]
mod failpoints;
mod run;
mod sandbox;
mod verdict;
