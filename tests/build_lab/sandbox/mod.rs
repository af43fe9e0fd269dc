//! What a build cannot reach, and what it still needs.

mod bounds;
mod calls;
mod confined;
mod hostile;
mod inside;
mod ties;
mod weaker;
