//! What several test files share.
#![allow(dead_code)]

pub mod console;
pub mod program;
pub mod registry;
pub mod script;
pub mod shared;
