//! Errors as values up to `main`: an [`anyhow::Error`] whose context may carry a remedy and an exit code.

use std::fmt;

/// The exit codes of the contract; callers treat every code but [`Exit::Done`] as a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Done, or safe.
    Done = 0,
    /// Failed or undecided (`unknown`, which refuses).
    Undecided = 1,
    /// The command line has an error.
    Usage = 2,
    /// Unsafe (refuses).
    Unsafe = 3,
    /// Another run holds the lock.
    Locked = 4,
}

/// A message for people with the next command to type.
///
/// It is attached to an [`anyhow::Error`] as its root or as context; [`remedy`] and [`exit`] find it again.
#[derive(Debug)]
pub struct Advice {
    /// The act and the object, in lower case: `reading /etc/vfguard/config.toml`.
    pub message: String,
    /// The exact command or edit that fixes it.
    pub remedy: String,
    /// The exit code that this error stands for.
    pub exit: Exit,
}

impl fmt::Display for Advice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Advice {}

/// A new error with a remedy, for "failed or undecided".
pub fn advise(message: impl Into<String>, remedy: impl Into<String>) -> anyhow::Error {
    advise_exit(Exit::Undecided, message, remedy)
}

/// A new error with a remedy and an exit code.
pub fn advise_exit(exit: Exit, message: impl Into<String>, remedy: impl Into<String>) -> anyhow::Error {
    anyhow::Error::new(Advice { message: message.into(), remedy: remedy.into(), exit })
}

/// Adds the act, the object and a remedy to an error.
pub trait Remedy<T> {
    /// Wraps the error, if any, in an [`Advice`].
    fn remedy(self, message: impl Into<String>, remedy: impl Into<String>) -> anyhow::Result<T>;
}

impl<T, E: Into<anyhow::Error>> Remedy<T> for Result<T, E> {
    fn remedy(self, message: impl Into<String>, remedy: impl Into<String>) -> anyhow::Result<T> {
        self.map_err(|e| e.into().context(Advice { message: message.into(), remedy: remedy.into(), exit: Exit::Undecided }))
    }
}

/// The outermost remedy of an error, if it has one.
pub fn remedy(error: &anyhow::Error) -> Option<&str> {
    error.downcast_ref::<Advice>().map(|a| a.remedy.as_str())
}

/// The exit code that an error stands for.
pub fn exit(error: &anyhow::Error) -> Exit {
    error.downcast_ref::<Advice>().map_or(Exit::Undecided, |a| a.exit)
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context;

    #[test]
    fn a_remedy_survives_further_context() {
        let error = Err::<(), _>(advise_exit(Exit::Locked, "locked", "wait")).context("reconciling").unwrap_err();
        assert_eq!(remedy(&error), Some("wait"));
        assert_eq!(exit(&error), Exit::Locked);
        assert_eq!(format!("{error:#}"), "reconciling: locked");
    }
}
