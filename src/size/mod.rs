//! How much a registry takes: fills scratch stores with rows of realistic size and weighs them.
//!
//! ```text
//! counts ─► fill.rs: the commands of that many client writes, sessions, jobs, … ─► scratch store
//!                                                                                   ├─► weigh SQLite: pages (dbstat)
//!                                                                                   └─► weigh Redis: MEMORY USAGE, INFO
//! weights ─► forecast.rs: what a deployment keeps in memory, and for how many hours its log fits
//! ```
//! Rows are made by commands, as in real life, so that their columns, helpers and events are those of real life, too.

mod fill;
mod forecast;
mod redis;
mod sqlite;

use std::path::Path;

use tasklog_log::redis::RedisUrl;

pub use self::{
    fill::Counts,
    forecast::{Deployment, Forecast, Growth, TOLERATED_PERCENT, WRITES_PER_S, deployments, growth},
};
use crate::Error;

pub(crate) use self::redis::usage;

/// What one table takes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Weight {
    /// The table, or a part of the log.
    pub name: &'static str,
    /// Live rows.
    pub rows: u64,
    /// Bytes of rows, indexes and helpers.
    pub bytes: u64,
    /// Bytes of indexes and helpers among them.
    pub index_bytes: u64,
}

impl Weight {
    /// Bytes for each row, helpers included.
    #[must_use]
    pub fn per_row(&self) -> f64 {
        self.bytes as f64 / self.rows.max(1) as f64
    }
}

/// What one store takes.
#[derive(Clone, Debug, PartialEq)]
pub struct Weights {
    /// Each of the 14 tables, in their order.
    pub tables: Vec<Weight>,
    /// Events in the log.
    pub events: u64,
    /// Events of one client write: key, task, session, and what its nodes report.
    pub events_per_write: f64,
    /// Bytes of the log.
    pub log_bytes: u64,
    /// Bytes of everything else that the store keeps: heads, tombstones, answers, hashes of the tree.
    pub other_bytes: u64,
    /// What the server says: none for a file.
    pub server: Option<Server>,
}

/// What INFO says before and after.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Server {
    /// `used_memory` more than before, by which the allocator and the key space are counted as well.
    pub used_bytes: u64,
    /// `used_memory_rss / used_memory` afterwards.
    pub fragmentation: f64,
}

impl Weights {
    /// Bytes of one event.
    #[must_use]
    pub fn per_event(&self) -> f64 {
        self.log_bytes as f64 / self.events.max(1) as f64
    }

    /// Bytes of the tables together.
    #[must_use]
    pub fn table_bytes(&self) -> u64 {
        self.tables.iter().map(|table| table.bytes).sum()
    }

    /// What the server uses for each byte that MEMORY USAGE tells of; 1 for a file.
    #[must_use]
    pub fn overhead(&self) -> f64 {
        let told = self.table_bytes() + self.log_bytes + self.other_bytes;
        self.server.map_or(1.0, |server| server.used_bytes as f64 / told.max(1) as f64)
    }

    /// The weight of a table.
    #[must_use]
    pub fn table(&self, name: &str) -> Option<&Weight> {
        self.tables.iter().find(|table| table.name == name)
    }
}

/// Weighs a file in `folder`, which is removed afterwards. `note` hears of each command.
///
/// # Errors
/// The store's.
pub fn weigh_sqlite(counts: &Counts, folder: &Path, note: &mut dyn FnMut()) -> Result<Weights, Error> {
    sqlite::weigh(counts, folder, note)
}

/// Weighs a registry under a prefix of its own on a server, which is removed afterwards.
///
/// # Errors
/// The store's.
pub fn weigh_redis(counts: &Counts, server: &RedisUrl, note: &mut dyn FnMut()) -> Result<Weights, Error> {
    redis::weigh(counts, server, note)
}
