//! The subset of GRUB 2's script language that `grub-mkconfig`, `grubby` and people write: a lexer and a parser (after GRUB's
//! `grub-core/script/yylex.l` and `parser.y`) and an interpreter with bounded steps and a bounded size (`execute.c`, `commands/`, `normal/`).

mod bls;
pub(super) mod budget;
mod commands;
pub(super) mod context;
pub(super) mod embedded;
mod env;
pub mod eval;
mod matching;
mod menu;
mod run;
pub mod syntax;
pub mod world;

pub use eval::{Machine, Simulated};
pub use menu::Choice;
pub use world::{Flavor, World};
