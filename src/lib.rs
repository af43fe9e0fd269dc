//! vfguard: after a kernel update, builds the SR-IOV VF driver for the new kernel, proves that it will load and drive this
//! machine's NIC, and until it is proven neither a reboot nor the boot loader leads into that kernel.
//!
//! The way of the data, room by room:
//!
//! 1. [`host`] is the edge: paths below one root, commands, the lock, PCI devices.
//! 2. [`kernel`], [`boot`] and [`host::pci`] read facts: what is installed, what boots next, which devices are there.
//! 3. [`driver`] makes a module: fetch, unpack, build, install, each step's type made only by the step before.
//! 4. [`module`] reads a module and verifies it against a kernel: findings.
//! 5. [`judge`] turns facts, findings and policy into a verdict; it is pure.
//! 6. [`gate`] refuses the reboot, [`boot`] holds the default, [`retention`] keeps the held kernel installed.
//! 7. [`report`] tells people and machines; [`cli`] has one file a verb.

#![deny(unsafe_code)]

pub mod audit;
pub mod boot;
pub mod cli;
pub mod config;
pub mod decompress;
pub mod doctor;
pub mod driver;
pub mod error;
pub mod finding;
pub mod flow;
pub mod gate;
pub mod host;
pub mod kernel;
pub mod module;
pub mod packages;
pub mod print;
pub mod progress;
pub mod release;
pub mod report;
pub mod retention;
pub mod text;
pub mod verdict;
