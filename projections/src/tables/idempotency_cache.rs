//! `idempotency_cache`: write deduplication.
//!
//! A client's key stands for one request, known by its hash, and for the task of the first such request. The record dies
//! by time and hits do not extend its life.

use crate::{At, Hash32, Impossible, Index, Table, TableDef, Tombstones, events, row, words};

row! {
    /// One key that a client has used.
    pub struct IdempotencyRow dies at expires_at {
        key {
            /// client key, or an internal one
            key: String,
        }
        /// hash of the request
        body_sha256: Hash32,
        /// task of the first request
        miroir_task_id: String,
        /// ms: end of validity
        expires_at: i64,
    }
}

words! {
    /// Who made the key.
    pub enum KeySource {
        /// a client, by its header
        Client = "client",
        /// the orchestrator, for a write of its own
        Internal = "internal",
        /// a beacon of the search page
        Beacon = "beacon",
    }
}

events! {
    /// What happens to idempotency keys.
    pub enum IdempotencyEvent {
        /// A key was seen for the first time.
        "idempotency_key_recorded" v1 => IdempotencyKeyRecorded {
            /// hash of the request
            body_sha256: Hash32,
            /// task of the request
            miroir_task_id: String,
            /// ms
            expires_at: i64,
            /// who made the key
            source: KeySource,
        },
        /// No node ever saw the request; the key is free again.
        "idempotency_key_released" v1 => IdempotencyKeyReleased {
            /// task of the request
            miroir_task_id: String,
            /// why
            why: String,
        },
        /// It made room for a newcomer.
        "idempotency_key_evicted" v1 => IdempotencyKeyEvicted {
            /// ms: when it would have died
            expires_at: i64,
            /// how many keys there may be
            bound: u64,
        },
    }
}

/// The table.
pub struct IdempotencyCache;

/// The table at run time.
pub static DEF: TableDef = TableDef::of::<IdempotencyCache>();

impl Table for IdempotencyCache {
    const NAME: &'static str = "idempotency_cache";
    const SCHEMA_VERSION: u32 = 1;
    const TOMBSTONES: Tombstones = Tombstones::Short;
    const INDEXES: &'static [Index] = &[Index::on("by_expiry", &["expires_at", "key"])];
    const KEY_PREFIX: &'static str = "idemp";
    type Row = IdempotencyRow;
    type Event = IdempotencyEvent;

    fn def() -> &'static TableDef {
        &DEF
    }

    fn evolve(
        row: Option<IdempotencyRow>,
        event: IdempotencyEvent,
        at: &At<'_>,
    ) -> Result<Option<IdempotencyRow>, Impossible> {
        match event {
            IdempotencyEvent::IdempotencyKeyRecorded(event) => recorded(row, event, at),
            IdempotencyEvent::IdempotencyKeyReleased(event) => {
                let row = row.ok_or_else(|| Impossible::no_row("idempotency_key_released"))?;
                if row.miroir_task_id != event.miroir_task_id {
                    let (found, held) = (event.miroir_task_id, row.miroir_task_id);
                    return Err(Impossible(format!("idempotency_key_released by task {found}, the row's is {held}")));
                }
                Ok(None)
            }
            IdempotencyEvent::IdempotencyKeyEvicted(event) => {
                let row = row.ok_or_else(|| Impossible::no_row("idempotency_key_evicted"))?;
                if row.expires_at != event.expires_at {
                    let (found, held) = (event.expires_at, row.expires_at);
                    return Err(Impossible(format!("idempotency_key_evicted at expiry {found}, the row's is {held}")));
                }
                Ok(None)
            }
        }
    }
}

fn recorded(
    row: Option<IdempotencyRow>,
    event: IdempotencyKeyRecorded,
    at: &At<'_>,
) -> Result<Option<IdempotencyRow>, Impossible> {
    if row.is_some() {
        return Err(Impossible::row_exists("idempotency_key_recorded"));
    }
    Ok(Some(IdempotencyRow {
        key: at.key.into(),
        body_sha256: event.body_sha256,
        miroir_task_id: event.miroir_task_id,
        expires_at: event.expires_at,
    }))
}

#[cfg(test)]
#[path = "idempotency_cache_tests.rs"]
mod tests;
