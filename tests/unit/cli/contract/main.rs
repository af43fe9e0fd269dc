//! The contract from outside: exit codes, one-line errors, JSON, bad input. Runs the binary on small roots.

mod errors;
#[path = "../../../machine/mod.rs"]
mod machine;
mod manual;
mod options;
mod runs;
mod verdicts;

use machine::Machine;
use serde_json::Value;
use std::fs;

const K: &str = "6.1.0-56-amd64";
