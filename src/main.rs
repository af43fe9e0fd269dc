//! `vfguard`: parse, run, exit code; nothing else exits.

use std::process::ExitCode;

fn main() -> ExitCode {
    // If the caller ignored SIGCHLD, the exit status of a child would be lost.
    vfguard::host::sys::default_action(nix::sys::signal::Signal::SIGCHLD);
    ExitCode::from(vfguard::cli::main(std::env::args_os().collect()) as u8)
}
