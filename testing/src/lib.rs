//! Real parts for tests: redis-server processes on free loopback ports, and what can happen to them.
//!
//! Architecture invariant: this crate knows no tasklog type; every crate's tests may use it.
#![allow(clippy::missing_panics_doc)]

mod server;

pub use server::{RedisServer, free_port};
