//! Builds and their messages: recipes, sources, causes of failures, missing programs.

mod causes;
mod needs;
mod recipes;
mod silent;
mod source;
