//! What is built and how it is told: recipes, sources, causes of failures, what is missing.

mod causes;
mod needs;
mod recipes;
mod silent;
mod source;
