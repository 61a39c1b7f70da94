//! Speed and size of a store in Redis, against a raw script in the same run, on the server that `--store` names and with
//! its settings. Everything is written under prefixes of its own and deleted afterwards.

mod follow;
mod past;
mod raw;
mod sizes;
mod writers;
mod writes;

use std::path::Path;

use tasklog_log::{
    StoreError,
    redis::{Connector, RedisUrl, facts, to_store_error},
};
use uuid::Uuid;

use super::{Figure, Plan};
use crate::{Error, OpenOptions, StoreUrl, TaskStore};

pub(crate) use writers::work;

/// Keys asked for at once when a scratch prefix is looked through or deleted.
pub(crate) const SCAN_KEYS: usize = 1_000;

/// A prefix of its own on a server, deleted when it is dropped.
pub(crate) struct Scratch {
    pub(crate) url: RedisUrl,
}

impl Scratch {
    pub(crate) fn new(server: &RedisUrl, what: &str) -> Self {
        let id = Uuid::now_v7().simple();
        Self { url: RedisUrl { prefix: format!("{{bench-{what}-{id}}}"), ..server.clone() } }
    }

    fn store_url(&self) -> StoreUrl {
        StoreUrl::Redis(Box::new(self.url.clone()))
    }

    pub(crate) fn open(&self) -> Result<TaskStore, Error> {
        TaskStore::open_with(&self.store_url(), OpenOptions::default())
    }

    pub(crate) fn connect(&self) -> Result<redis::Connection, StoreError> {
        Connector::new(self.url.clone()).connect()
    }

    /// Every key under the prefix.
    pub(crate) fn keys(&self) -> Result<Vec<Vec<u8>>, Error> {
        let mut conn = self.connect()?;
        let mut keys = Vec::new();
        let mut cursor = 0_u64;
        loop {
            let page: redis::RedisResult<(u64, Vec<Vec<u8>>)> = redis::cmd("SCAN")
                .arg(cursor)
                .arg("MATCH")
                .arg(format!("{}:*", self.url.prefix))
                .arg("COUNT")
                .arg(SCAN_KEYS)
                .query(&mut conn);
            let (next, page) = page.map_err(|error| to_store_error("listing the keys of the bench", error))?;
            keys.extend(page);
            cursor = next;
            if cursor == 0 {
                return Ok(keys);
            }
        }
    }

    fn delete(&self) -> Result<(), Error> {
        let keys = self.keys()?;
        let mut conn = self.connect()?;
        for keys in keys.chunks(SCAN_KEYS) {
            let done: redis::RedisResult<()> = redis::cmd("UNLINK").arg(keys).exec(&mut conn);
            done.map_err(|error| to_store_error("deleting the keys of the bench", error))?;
        }
        Ok(())
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = self.delete() {
            tracing::warn!("keys under {} are left: {error}", self.url.prefix);
        }
    }
}

/// Measures everything in the plan on `server`, telling each figure as it is known.
///
/// # Errors
/// The store's.
pub fn run(plan: &Plan, server: &RedisUrl, folder: &Path, mut tell: impl FnMut(Figure)) -> Result<(), Error> {
    type Group = fn(&Plan, &RedisUrl, &Path, &mut dyn FnMut(Figure)) -> Result<(), Error>;
    let mut conn = Connector::new(server.clone()).connect()?;
    let facts = facts(&mut conn).map_err(|error| to_store_error("asking the server for its settings", error))?;
    let sync = match (facts.appendonly, facts.appendfsync.as_deref()) {
        (Some(true), Some("always")) => 2.0,
        (Some(true), Some("everysec")) => 1.0,
        _ => 0.0,
    };
    tell(Figure::plain("appendfsync_none_everysec_always", sync));
    let groups: [(&[&str], Group); 8] = [
        (&["sequential_ratio"], writes::sequential),
        (&["sequential_hot_ratio"], writes::hot),
        (&["concurrent_ratio"], writes::concurrent),
        (&["writers_ratio"], writers::writers),
        (&["rebuild_ratio", "follow_events_per_s"], follow::catch_up),
        (&["follow_lag_ms_p99"], follow::lag),
        (&["redis_bytes_per_event", "redis_log_ratio", "redis_bytes_per_row"], sizes::sizes),
        (
            &[
                "as_of",
                "history",
                "snapshot",
                "archive_to_events_per_s",
                "merkle_kept_events_per_s",
                "verify_events_per_s",
            ],
            past::past,
        ),
    ];
    for (names, group) in groups {
        let wanted = plan.only.as_ref().is_none_or(|only| names.iter().any(|name| name.contains(&**only)));
        if wanted {
            group(plan, server, folder, &mut tell)?;
        }
    }
    Ok(())
}
