//! GRUB's script language: from text to commands.

pub mod lexer;
pub mod parser;
