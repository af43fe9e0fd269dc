//! `vfguard`: parse, run, exit code; nothing else exits.

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(vfguard::cli::main(std::env::args_os().collect()) as u8)
}
