#![doc = include_str!("../ARCHITECTURE.md")]
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
pub mod glob;
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
