//! Real parts for tests: redis-server processes on free loopback ports, and what can happen to them.
//!
//! Architecture invariant: this crate knows no tasklog type; every crate's tests may use it.
#![allow(clippy::missing_panics_doc)]

mod cluster;
mod proxy;
mod sentinel;
mod server;
mod switch;

pub use cluster::RedisCluster;
pub use proxy::{Cut, CuttingProxy};
pub use sentinel::RedisSentinel;
pub use server::{RedisServer, free_port};
pub use switch::SwitchProxy;
