//! The facilities of all pods on one Redis: one script per step, on the server's clock.
//!
//! Key names and shapes are those of `docs/shared-keys.md`. No step uses `SCAN` or `KEYS`, and each does a bounded amount
//! of work. Nothing is repeated here: after a lost answer the caller decides.

mod listener;
mod names;
mod scripts;

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
};

use redis::{Connection, FromRedisValue, RedisError, RedisResult, Script, ScriptInvocation};
use tasklog_log::{Millis, StoreError};

use self::{names::Names, scripts::Scripts};
use super::{
    CdcChange, CdcFront, Counter, Hits, KeyChange, KeyChanged, KeyState, LoginGate, LoginOutcome, LoginRecord, Pushed,
    Revocations, ScopedKeyRecord, SharedKeys,
    cdc::{DROPS_PER_STEP_MAX, FRONT_BYTES_MAX, FRONT_CHANGES_MAX},
    login::DOUBLINGS_MAX,
    revocation::Inbox,
};

/// How many idle connections are kept.
const CONNECTIONS_KEPT_MAX: usize = 8;

/// Makes a connection, with the time limits that its maker wants.
pub type Connect = Arc<dyn Fn() -> RedisResult<Connection> + Send + Sync>;

/// The facilities of all pods on one Redis.
pub struct RedisKeys {
    connect: Connect,
    idle: Mutex<Vec<Connection>>,
    names: Names,
    scripts: Scripts,
}

fn failed(doing: &str, error: RedisError) -> StoreError {
    match error.code() {
        Some("WRONGTYPE" | "CORRUPT") => StoreError::corrupt_store(format!("{doing}: {error}")),
        _ => StoreError::unavailable_because(format!("Redis: {doing}"), error),
    }
}

impl RedisKeys {
    /// The facilities under a prefix: `miroir` gives keys such as `miroir:cdc:overflow:<sink>`, and `{miroir}` keeps all of
    /// them in one slot of a cluster. Connects when it is first used.
    #[must_use]
    pub fn new(connect: Connect, prefix: &str) -> Self {
        Self { connect, idle: Mutex::default(), names: Names::new(prefix), scripts: Scripts::new() }
    }

    /// Puts the counters of the search page under another prefix, colon included: `search_ui.rate_limit.redis_key_prefix`.
    #[must_use]
    pub fn with_search_ui_prefix(mut self, prefix: &str) -> Self {
        self.names.set_search_ui(prefix);
        self
    }

    /// Runs one command on an idle or a new connection. After any error the connection is closed, since a late answer
    /// would be taken for the next command's.
    fn run<T>(&self, doing: &str, work: impl FnOnce(&mut Connection) -> RedisResult<T>) -> Result<T, StoreError> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let connection = idle.map_or_else(|| (self.connect)(), Ok);
        let mut connection = connection.map_err(|error| failed(doing, error))?;
        let done = work(&mut connection).map_err(|error| failed(doing, error))?;
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < CONNECTIONS_KEPT_MAX {
            idle.push(connection);
        }
        Ok(done)
    }

    fn invoke<T: FromRedisValue>(&self, doing: &str, call: &ScriptInvocation<'_>) -> Result<T, StoreError> {
        self.run(doing, |connection| call.invoke(connection))
    }

    fn cdc<'a>(&self, script: &'a Script, sink: &str) -> ScriptInvocation<'a> {
        let mut call = script.key(self.names.overflow(sink));
        call.key(self.names.overflow_bytes(sink));
        call
    }
}

/// A record from the fields of its hash; none if there is no hash.
fn record(index: &str, mut fields: HashMap<String, String>) -> Result<Option<ScopedKeyRecord>, StoreError> {
    if fields.is_empty() {
        return Ok(None);
    }
    let wrong = |field: &str, found: Option<String>| {
        StoreError::corrupt_store(format!("scoped key of index {index}: field {field} holds {found:?}"))
    };
    let rotated_at = fields.remove("rotated_at");
    let generation = fields.remove("generation");
    Ok(Some(ScopedKeyRecord {
        primary_uid: fields.remove("primary_uid").ok_or_else(|| wrong("primary_uid", None))?,
        previous_uid: fields.remove("previous_uid"),
        rotated_at: rotated_at.as_ref().and_then(|n| n.parse().ok()).ok_or_else(|| wrong("rotated_at", rotated_at))?,
        generation: generation.as_ref().and_then(|n| n.parse().ok()).ok_or_else(|| wrong("generation", generation))?,
        rotate_now: fields.remove("rotate_now").is_some_and(|flag| flag == "1"),
    }))
}

impl SharedKeys for RedisKeys {
    fn hit(&self, counter: &Counter, window_ms: Millis) -> Result<Hits, StoreError> {
        let call = &mut self.scripts.hit.key(self.names.counter(counter));
        let (count, reset_in_ms) = self.invoke("count a hit", call.arg(window_ms))?;
        Ok(Hits { count, reset_in_ms })
    }

    fn login_attempt(&self, ip: IpAddr, window_ms: Millis) -> Result<LoginGate, StoreError> {
        let call = &mut self.scripts.login_attempt.key(self.names.login(ip));
        let call = call.key(self.names.backoff(ip)).arg(window_ms);
        let (blocked, number, left_ms): (bool, i64, Millis) = self.invoke("begin a login", call)?;
        Ok(if blocked {
            LoginGate::Blocked { until: number, left_ms }
        } else {
            LoginGate::Counted(Hits { count: number.unsigned_abs(), reset_in_ms: left_ms })
        })
    }

    fn login_outcome(&self, ip: IpAddr, outcome: &LoginOutcome) -> Result<LoginRecord, StoreError> {
        match outcome {
            LoginOutcome::Succeeded => {
                let keys = [self.names.login(ip), self.names.backoff(ip)];
                self.run("end a login", |connection| redis::cmd("DEL").arg(&keys).query::<()>(connection))?;
                Ok(LoginRecord::default())
            }
            LoginOutcome::Failed(policy) => {
                let call = &mut self.scripts.login_failed.key(self.names.backoff(ip));
                let call = call.arg(policy.threshold).arg(policy.start_ms).arg(policy.max_ms).arg(policy.kept_ms);
                let (failed_count, next_allowed_at) = self.invoke("end a login", call.arg(DOUBLINGS_MAX))?;
                Ok(LoginRecord { failed_count, next_allowed_at })
            }
        }
    }

    fn cdc_push(&self, sink: &str, change: &[u8], bytes_max: u64) -> Result<Pushed, StoreError> {
        let mut call = self.cdc(&self.scripts.cdc_push, sink);
        let call = call.arg(change).arg(bytes_max).arg(DROPS_PER_STEP_MAX);
        let (stored, dropped, bytes, more) = self.invoke("push to an overflow buffer", call)?;
        Ok(Pushed { stored, dropped, bytes, more })
    }

    fn cdc_front(&self, sink: &str, changes_max: usize) -> Result<CdcFront, StoreError> {
        let mut call = self.cdc(&self.scripts.cdc_front, sink);
        let call = call.arg(changes_max.min(FRONT_CHANGES_MAX)).arg(FRONT_BYTES_MAX);
        let (held, bytes, flat): (u64, u64, Vec<Vec<u8>>) = self.invoke("look at an overflow buffer", call)?;
        let pairs = flat.chunks_exact(2);
        let change = |pair: &[Vec<u8>]| CdcChange {
            token: String::from_utf8_lossy(&pair[0]).into_owned(),
            bytes: pair[1].clone(),
        };
        Ok(CdcFront { changes: pairs.map(change).collect(), held, bytes })
    }

    fn cdc_ack(&self, sink: &str, tokens: &[String]) -> Result<u64, StoreError> {
        if tokens.is_empty() {
            return Ok(0);
        }
        self.invoke("acknowledge changes", self.cdc(&self.scripts.cdc_ack, sink).arg(tokens))
    }

    fn key_state(&self, index: &str, peers: &[&str]) -> Result<KeyState, StoreError> {
        let mut call = self.scripts.key_state.key(self.names.scoped_key(index));
        for pod in peers {
            call.key(self.names.beacon(pod, index));
        }
        let (now, fields, seen): (Millis, _, Vec<i64>) = self.invoke("look at a scoped key", &call)?;
        let beacons = seen.into_iter().map(|generation| u64::try_from(generation).ok()).collect();
        Ok(KeyState { now, record: record(index, fields)?, beacons })
    }

    fn key_change(&self, index: &str, change: &KeyChange) -> Result<KeyChanged, StoreError> {
        let scripts = &self.scripts;
        let script = match change {
            KeyChange::Publish { .. } => &scripts.key_publish,
            KeyChange::Finish { .. } => &scripts.key_finish,
            KeyChange::Request { .. } => &scripts.key_request,
            KeyChange::Forget => &scripts.key_forget,
        };
        let mut call = script.key(self.names.scoped_key(index));
        call.key(self.names.scoped_key_index());
        match change {
            KeyChange::Publish { expected_generation, new_uid } => {
                call.arg(expected_generation).arg(new_uid).arg(index)
            }
            KeyChange::Finish { generation } => call.arg(generation),
            KeyChange::Request { age_min_ms } => call.arg(age_min_ms.map(|age| age.to_string()).unwrap_or_default()),
            KeyChange::Forget => call.arg(index),
        };
        let (applied, now, fields) = self.invoke("change a scoped key", &call)?;
        Ok(KeyChanged { applied, now, record: record(index, fields)? })
    }

    fn key_observe(&self, pod: &str, index: &str, generation: u64, ttl_ms: Millis) -> Result<(), StoreError> {
        let call = &mut self.scripts.key_observe.key(self.names.beacon(pod, index));
        self.invoke("write a beacon", call.arg(generation).arg(ttl_ms))
    }

    fn key_indexes(&self) -> Result<Vec<String>, StoreError> {
        let key = self.names.scoped_key_index();
        let list = |connection: &mut Connection| redis::cmd("SMEMBERS").arg(key).query::<Vec<String>>(connection);
        let mut indexes = self.run("list scoped keys", list)?;
        indexes.sort_unstable();
        Ok(indexes)
    }

    fn publish_revoked(&self, session_id: &str) -> Result<(), StoreError> {
        let channel = self.names.revoked();
        let publish =
            |connection: &mut Connection| redis::cmd("PUBLISH").arg(channel).arg(session_id).query::<()>(connection);
        self.run("tell a revocation", publish)
    }

    fn revocations(&self) -> Result<Revocations, StoreError> {
        let inbox = Arc::new(Inbox::default());
        // Made first, so that the thread ends if the first subscription fails.
        let revocations = Revocations::new(Arc::clone(&inbox));
        listener::listen(Arc::clone(&self.connect), self.names.revoked(), inbox)?;
        Ok(revocations)
    }
}
