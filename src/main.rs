//! `vfguard`: parse, run, exit code; nothing else exits.

use std::process::ExitCode;

fn main() -> ExitCode {
    // Where a caller ignores it, nobody learns how a child ended.
    vfguard::host::sys::default_action(nix::sys::signal::Signal::SIGCHLD);
    ExitCode::from(vfguard::cli::main(std::env::args_os().collect()) as u8)
}
