//! That somebody else sets the boot default at this moment.

use std::fmt;

/// The default, or the file that holds it, is another one by now than what a move was worked out from: whoever set it would be overwritten,
/// and what they want be forgotten.
#[derive(Debug)]
pub(in crate::boot) struct SetMeanwhile;

impl fmt::Display for SetMeanwhile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("something else sets the boot default at this moment")
    }
}

impl std::error::Error for SetMeanwhile {}
