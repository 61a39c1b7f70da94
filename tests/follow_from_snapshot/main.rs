//! Replicas that begin with a snapshot of their source: the rows are those of a replica that began with the first event, and
//! of the source; the log goes on from there, exactly once; and what was before is never made up.
#![allow(clippy::unwrap_used, missing_docs)]
#![cfg(unix)]

#[path = "../support/mod.rs"]
mod support;

mod afterwards;
mod divergence;
mod exactly_once;
mod quarantines;
mod same_rows;
mod trimmed;
mod which_snapshot;
mod world;
