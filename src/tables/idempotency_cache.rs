//! `idempotency_cache`: how a repeated write finds its first task.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tasklog_log::Millis;
use tasklog_projections::{
    Found, Hash32,
    tables::idempotency_cache::{
        DEF, IdempotencyCache, IdempotencyKeyEvicted, IdempotencyKeyRecorded, IdempotencyKeyReleased, IdempotencyRow,
        KeySource,
    },
    words,
};

use crate::{
    command::Command,
    decision::Decision,
    meters::{self, KeyHit},
    query::{Query, Reader},
    rejection::{Error, Rejection},
    tables::{Nothing, living, side},
    text,
};

side! {
    /// `idempotency_cache`
    pub struct IdempotencyCacheHandle for DEF as idempotency_cache {
        commands {
            check_or_record(CheckOrRecord),
            release(Release),
        }
        queries {
            get(Get),
            count(Count),
        }
    }
}

/// Records a key with its request, or finds the task of the first equal request.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CheckOrRecord {
    /// The client's key, or an internal one.
    pub key: String,
    /// Hash of the request: method, path and body.
    pub body_sha256: Hash32,
    /// The task of this request, minted before.
    pub miroir_task_id: String,
    /// Who made the key; `client` if absent.
    pub source: Option<KeySource>,
}

words! {
    /// What a key turned out to be.
    pub enum KeyOutcome {
        /// new; it is recorded now
        Miss = "miss",
        /// known, with an equal request
        Dedup = "dedup",
    }
}

/// The record that holds for the key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct KeyAnswer {
    /// What the key turned out to be.
    pub outcome: KeyOutcome,
    /// The task of the first request.
    pub miroir_task_id: String,
    /// ms: end of validity.
    pub expires_at: Millis,
}

impl Command for CheckOrRecord {
    const NAME: &'static str = "idempotency_cache.check_or_record";
    const ABOUT: &'static str = "Records a key with its request, or finds the task of the first equal request";
    type Answer = KeyAnswer;

    fn decide(&mut self, cx: &mut Decision<'_>) -> Result<KeyAnswer, Error> {
        let Self { key, body_sha256, miroir_task_id, source } = self.clone();
        text::key("key", &key)?;
        text::key("miroir_task_id", &miroir_task_id)?;
        cx.subject::<IdempotencyCache>(&key);
        if let Some(row) = cx.get::<IdempotencyCache>(&key)? {
            return known(cx, &row, body_sha256);
        }
        make_room(cx)?;
        let expires_at = cx.now() + cx.config().idempotency_ttl_ms;
        let event = IdempotencyKeyRecorded {
            body_sha256,
            miroir_task_id: miroir_task_id.clone(),
            expires_at,
            source: source.unwrap_or(KeySource::Client),
        };
        cx.emit::<IdempotencyCache>(&key, event)?;
        cx.note(meters::Count::Key(KeyHit::Miss));
        Ok(KeyAnswer { outcome: KeyOutcome::Miss, miroir_task_id, expires_at })
    }
}

fn known(cx: &mut Decision<'_>, row: &IdempotencyRow, body_sha256: Hash32) -> Result<KeyAnswer, Error> {
    if row.body_sha256 != body_sha256 {
        cx.note(meters::Count::Key(KeyHit::Conflict));
        let subject = format!("idempotency key {}: body_sha256", row.key);
        return Err(Rejection::conflict(&subject, body_sha256.to_hex(), row.body_sha256.to_hex()).into());
    }
    cx.note(meters::Count::Key(KeyHit::Dedup));
    cx.end_transact();
    Ok(KeyAnswer { outcome: KeyOutcome::Dedup, miroir_task_id: row.miroir_task_id.clone(), expires_at: row.expires_at })
}

/// Frees the key of a request that no node ever saw.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Release {
    /// The key.
    pub key: String,
    /// The task it was recorded with.
    pub miroir_task_id: String,
    /// Why.
    pub why: String,
}

impl Command for Release {
    const NAME: &'static str = "idempotency_cache.release";
    const ABOUT: &'static str = "Frees the key of a request that no node ever saw";
    type Answer = Nothing;

    fn decide(&mut self, cx: &mut Decision<'_>) -> Result<Nothing, Error> {
        let Self { key, miroir_task_id, why } = self.clone();
        cx.subject::<IdempotencyCache>(&key);
        let Some(row) = cx.get::<IdempotencyCache>(&key)? else {
            return Ok(Nothing {});
        };
        if row.miroir_task_id != miroir_task_id {
            let subject = format!("idempotency key {key}: task");
            return Err(Rejection::conflict(&subject, miroir_task_id, &row.miroir_task_id).into());
        }
        cx.emit::<IdempotencyCache>(&key, IdempotencyKeyReleased { miroir_task_id, why: text::error(&why) })?;
        Ok(Nothing {})
    }
}

/// Evicts the keys that would expire first, if one more would be beyond the bound.
fn make_room(cx: &mut Decision<'_>) -> Result<(), Error> {
    let bound = cx.config().idempotency_keys_max;
    for victim in living::victims::<IdempotencyCache>(cx, "by_expiry", bound)? {
        let event = IdempotencyKeyEvicted { expires_at: victim.expires_at, bound };
        cx.emit::<IdempotencyCache>(&victim.key, event)?;
    }
    Ok(())
}

/// One live record by its key.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Get {
    /// The key.
    pub key: String,
}

impl Query for Get {
    const NAME: &'static str = "idempotency_cache.get";
    const ABOUT: &'static str = "One live record by its key";
    type Answer = Option<Found<IdempotencyRow>>;

    fn answer(&self, read: &Reader<'_>) -> Result<Self::Answer, Error> {
        read.get::<IdempotencyCache>(&self.key)
    }
}

/// How many live records there are.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Count {}

impl Query for Count {
    const NAME: &'static str = "idempotency_cache.count";
    const ABOUT: &'static str = "How many live records there are";
    type Answer = u64;

    fn answer(&self, read: &Reader<'_>) -> Result<u64, Error> {
        read.count::<IdempotencyCache>(&living::scan("by_expiry", read.now()))
    }
}

#[cfg(test)]
#[path = "idempotency_cache_tests.rs"]
mod tests;
