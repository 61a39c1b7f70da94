//! The service as its clients meet it: the program as a process on a free port, asked over real connections.
#![allow(clippy::unwrap_used, missing_docs)]
#![cfg(all(unix, feature = "serve"))]

#[path = "../support/mod.rs"]
mod support;

mod bodies;
mod connections;
mod duties;
mod endings;
mod floods;
mod meters;
mod opening;
mod page;
mod problems;
mod redis;
mod replica;
mod routes;
mod service;
mod streams;
mod tails;
mod tls;
mod tokens;
mod trimmed;
