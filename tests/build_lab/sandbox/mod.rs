//! What a build is kept from, and what it needs all the same.

mod bounds;
mod calls;
mod confined;
mod hostile;
mod inside;
mod ties;
mod weaker;
