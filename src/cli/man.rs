//! `vfguard man`

use crate::error::Exit;
use crate::print;
use crate::text::Text;
use anyhow::Result;

/// Arguments: none.
#[derive(clap::Args)]
pub struct Args {}

/// Prints the manual page, made from the command definition and packaging/man's chapters.
///
/// # Errors
/// When stdout cannot be written.
pub fn run(_: &Args) -> Result<Exit> {
    print::out(&Text::document(&super::page::page(&super::command())?));
    Ok(Exit::Done)
}
