//! The one place that writes to stdout and stderr.
//!
//! The reader may disappear at any moment: an ssh session that drops during `yum update` takes the terminal with it (EIO), `| head` ends
//! early (EPIPE), a disk is full. None of that may end or change the work, so no write here panics and its error is dropped: the result of
//! the work and the exit code are what counts. `println!` and its relatives would panic, and are denied elsewhere.

#![allow(clippy::disallowed_methods)] // this is where stdout and stderr are

use crate::text::{printable, Text};
use nix::libc;
use std::fs::OpenOptions;
use std::io::{stderr, stdout, IsTerminal, Write};
use std::os::unix::fs::OpenOptionsExt;

/// Text for people, to stdout.
pub fn out(text: &Text) {
    put(stdout().lock(), text.as_str());
}

/// One line for people, to stdout.
pub fn line(line: &str) {
    out(&Text::of(line));
}

/// Text for programs, to stdout; the caller has removed everything that acts on a terminal.
pub(crate) fn raw(text: &str) {
    put(stdout().lock(), text);
}

/// Text for people, to stderr.
pub fn err(text: &Text) {
    put(stderr().lock(), text.as_str());
}

/// One line for people that starts with the program's name, to stderr.
pub fn note(line: &str) {
    err(&Text::of(&format!("vfguard: {}", printable(line))));
}

/// Lines for people to the session's terminal, if neither stdout nor stderr is that terminal. A stopped terminal is not waited for.
pub fn to_terminal(lines: impl Iterator<Item = String>) {
    if out_is_terminal() || err_is_terminal() {
        return;
    }
    let terminal = OpenOptions::new().write(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open("/dev/tty");
    let Ok(mut terminal) = terminal else { return };
    lines.for_each(|line| put(&mut terminal, Text::of(&line).as_str()));
}

/// Whether stdout is a terminal.
pub fn out_is_terminal() -> bool {
    stdout().is_terminal()
}

/// Whether stderr is a terminal.
pub fn err_is_terminal() -> bool {
    stderr().is_terminal()
}

/// Written in one piece, so that lines of two programs do not mix.
fn put(mut to: impl Write, text: &str) {
    let _ = to.write_all(text.as_bytes()).and_then(|()| to.flush());
}
