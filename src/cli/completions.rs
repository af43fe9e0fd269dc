//! `vfguard completions SHELL`

use crate::error::Exit;
use crate::print;
use crate::text::Text;
use anyhow::Result;

/// Arguments.
#[derive(clap::Args)]
pub struct Args {
    /// The shell
    shell: clap_complete::Shell,
}

/// Prints the completion script of a shell.
///
/// # Errors
/// None today; every verb has this signature.
pub fn run(args: &Args) -> Result<Exit> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut super::command(), "vfguard", &mut script);
    print::out(&Text::document(&String::from_utf8_lossy(&script)));
    Ok(Exit::Done)
}
