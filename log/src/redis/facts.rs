use std::collections::HashMap;

use redis::{Connection, ErrorKind, RedisResult, ServerErrorKind};

use super::{Durability, connector::info};
use crate::StoreError;

/// The policy that evicts nothing.
const POLICY: &str = "noeviction";

/// What a server says about itself, as far as promises rest on it. `None` is "unknown": the user may not ask.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// `redis_version`
    pub version: String,
    /// What it does when `maxmemory` is reached.
    pub maxmemory_policy: Option<String>,
    /// In bytes; 0 for no limit.
    pub maxmemory: Option<u64>,
    /// Bytes in use.
    pub used_memory: Option<u64>,
    /// Whether it keeps an append-only file.
    pub appendonly: Option<bool>,
    /// When it syncs that file: `always`, `everysec` or `no`.
    pub appendfsync: Option<String>,
    /// When it writes a snapshot; empty for never.
    pub save: Option<String>,
    /// Whether it is a node of a Redis Cluster.
    pub cluster: bool,
    /// The replicas connected now.
    pub connected_replicas: u32,
}

/// Asks a server about itself.
///
/// # Errors
/// Whatever keeps it from answering INFO. A forbidden CONFIG is no error.
pub fn facts(conn: &mut Connection) -> RedisResult<Facts> {
    let info = info(conn)?;
    let said = |name: &str| info.get(name).cloned();
    let config = |conn: &mut Connection, name: &str| -> RedisResult<Option<String>> {
        let answer: RedisResult<HashMap<String, String>> = redis::cmd("CONFIG").arg("GET").arg(name).query(conn);
        match answer {
            Ok(mut found) => Ok(found.remove(name)),
            // Forbidden by its ACL, or renamed away by whoever hosts it.
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::Server(ServerErrorKind::NoPerm | ServerErrorKind::ResponseError)
                ) =>
            {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    };
    let number = |text: Option<String>| text.and_then(|text| text.parse().ok());
    Ok(Facts {
        version: said("redis_version").unwrap_or_else(|| "unknown".into()),
        maxmemory_policy: config(conn, "maxmemory-policy")?.or_else(|| said("maxmemory_policy")),
        maxmemory: number(config(conn, "maxmemory")?.or_else(|| said("maxmemory"))),
        used_memory: number(said("used_memory")),
        appendonly: said("aof_enabled").map(|enabled| enabled == "1"),
        appendfsync: config(conn, "appendfsync")?,
        save: config(conn, "save")?,
        cluster: said("cluster_enabled").is_some_and(|enabled| enabled == "1"),
        connected_replicas: said("connected_slaves").and_then(|n| n.parse().ok()).unwrap_or(0),
    })
}

impl Facts {
    /// Refuses a server that may throw the log away, or that cannot keep what `durability` asks for.
    ///
    /// # Errors
    /// `unavailable`, saying what is set and how to set it right.
    pub fn check(&self, durability: &Durability) -> Result<(), StoreError> {
        if let Some(policy) = self.maxmemory_policy.as_deref().filter(|policy| *policy != POLICY) {
            return Err(StoreError::unavailable(format!(
                "maxmemory-policy is {policy}, which may evict the log: expected {POLICY} \
                 (CONFIG SET maxmemory-policy {POLICY}, and in redis.conf)"
            )));
        }
        if *durability == Durability::Fsynced && !self.syncs_always() {
            return Err(StoreError::unavailable(format!(
                "durability fsynced: appendonly is {} and appendfsync is {}, expected yes and always",
                self.appendonly_text(),
                self.appendfsync.as_deref().unwrap_or("unknown")
            )));
        }
        Ok(())
    }

    fn syncs_always(&self) -> bool {
        self.appendonly == Some(true) && self.appendfsync.as_deref() == Some("always")
    }

    fn appendonly_text(&self) -> &'static str {
        match self.appendonly {
            Some(true) => "yes",
            Some(false) => "no",
            None => "unknown",
        }
    }

    /// Which promise holds when this server crashes, in one sentence. A promotion of a replica may lose what that replica
    /// had not received, whatever this says.
    #[must_use]
    pub fn promise(&self) -> String {
        let snapshots = self.save.as_deref();
        match (self.appendonly, self.appendfsync.as_deref()) {
            (Some(true), Some("always")) => "every acknowledged commit is on the server's disk".into(),
            (Some(true), Some("everysec")) => {
                "a crash of the server's machine may lose the acknowledged commits of about the last second".into()
            }
            (Some(true), Some("no")) => {
                "a crash of the server's machine may lose the acknowledged commits of about the last half minute".into()
            }
            (Some(true), other) => format!(
                "the server keeps an append-only file, and how much of its end a crash may lose is unknown \
                 (appendfsync is {})",
                other.unwrap_or("unknown")
            ),
            (Some(false), _) if snapshots == Some("") => {
                "WARNING: PERSISTENCE IS OFF: when the server stops, the whole log is lost".into()
            }
            (Some(false), _) => format!(
                "WARNING: NO APPEND-ONLY FILE: a crash of the server loses every commit since its last snapshot (save is {})",
                snapshots.unwrap_or("unknown")
            ),
            (None, _) => {
                "WARNING: UNKNOWN PERSISTENCE: the server does not say whether it keeps anything on disk".into()
            }
        }
    }
}
