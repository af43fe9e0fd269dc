//! The error for a boot default that something else sets at the same time.

use std::fmt;

/// The default, or the file that sets it, has changed since the move was worked out. Writing it now would overwrite and lose somebody
/// else's choice.
#[derive(Debug)]
pub(in crate::boot) struct SetMeanwhile;

impl fmt::Display for SetMeanwhile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("something else sets the boot default at this moment")
    }
}

impl std::error::Error for SetMeanwhile {}
