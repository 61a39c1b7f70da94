//! Looking at earlier moments, through the library and through the program: what a store answers as of a moment is what an
//! independent fold of its log gives there, on every backend.
#![allow(clippy::unwrap_used, missing_docs)]

#[path = "../support/mod.rs"]
mod support;

mod as_of;
mod differences;
mod forks;
mod verbs;
mod world;
