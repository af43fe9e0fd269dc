//! Real drivers, built for real kernels: what the sandbox holds, what a build says, what a whole run does, what is judged of a module.
//! Wants root and the lab (tests/run.sh build).

#[path = "../machine/mod.rs"]
mod machine;

mod build;
/// Tests that kill vfguard at instants which are not in what is shipped.
#[cfg(feature = "failpoints")]
mod failpoints;
mod run;
mod sandbox;
mod verdict;
