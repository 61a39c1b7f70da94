//! What a store is and holds.

mod keeping;

use serde_json::{Value, json};
use tasklog_log::{Checkpoint, LogInfo, Position, StoreError};
use tasklog_projections::{TABLES, sqlite::read_built};

use self::keeping::Keeping;
use crate::{
    Error, StoreUrl, TaskStore,
    store::{FollowerReport, Following, Recording},
};

/// What a store is and holds.
pub(crate) struct StoreInfo {
    pub(crate) url: StoreUrl,
    pub(crate) info: LogInfo,
    pub(crate) head: Checkpoint,
    pub(crate) first: Position,
    /// The snapshot that a follower began with.
    pub(crate) began: Option<Position>,
    pub(crate) checkpoint: Checkpoint,
    /// Live rows per table.
    pub(crate) counts: Vec<(&'static str, u64)>,
    /// The projection version that built each table, in the same order.
    pub(crate) built: Vec<Option<u32>>,
    pub(crate) following: Option<Following>,
    /// Bytes of the file and of its write-ahead log.
    pub(crate) sizes: (u64, u64),
    pub(crate) durability: String,
    pub(crate) recording: Option<Recording>,
    pub(crate) schema_version: u32,
    pub(crate) keeping: Keeping,
}

impl StoreInfo {
    /// Asks the store that was opened by `url`.
    pub(crate) fn of(store: &TaskStore, url: &StoreUrl) -> Result<Self, Error> {
        let (info, head, first, checkpoint) =
            store.read(|log, view| Ok((log.info()?, log.head()?, log.first()?, view.checkpoint()?)))?;
        let counts = store.counts()?;
        let built: Vec<_> = match url {
            // What tells of earlier moments is this program's fold.
            _ if store.moment().is_some() => TABLES.iter().map(|table| Some(table.projection_version)).collect(),
            StoreUrl::Sqlite(_) => store.with_connection(|conn| {
                let built = TABLES.iter().map(|table| Ok(read_built(conn, table)?.map(|built| built.version)));
                built.collect::<Result<Vec<_>, Error>>()
            })?,
            StoreUrl::Memory => TABLES.iter().map(|_| None).collect(),
            StoreUrl::Redis(_) => {
                let built = store.built_projections()?;
                TABLES.iter().map(|table| built.get(table.name).copied()).collect()
            }
        };
        let following = store.following()?;
        let sizes = sizes(url)?;
        let durability = match url {
            StoreUrl::Sqlite(_) => {
                "every commit is synced to disk before it is answered (WAL, synchronous=FULL)".to_owned()
            }
            StoreUrl::Memory => "none: the store ends with the process".to_owned(),
            StoreUrl::Redis(_) => store.redis_promise().unwrap_or_default(),
        };
        Ok(Self {
            url: url.clone(),
            info,
            head,
            first,
            began: store.beginning()?.map(|at| at.position),
            checkpoint,
            counts,
            built,
            following,
            sizes,
            durability,
            recording: store.recording(),
            schema_version: store.schema_version()?,
            keeping: Keeping::of(store)?,
        })
    }

    /// As one JSON object.
    pub(crate) fn json(&self) -> Value {
        let Self { info, head, first, checkpoint, following, sizes, durability, .. } = self;
        let tables: Vec<_> = self
            .counts
            .iter()
            .zip(&self.built)
            .map(|((name, rows), built)| json!({ "table": name, "rows": rows, "projection_version": built }))
            .collect();
        let mut value = json!({
            "store": self.url.to_string(), "log_id": info.id, "epoch": info.epoch,
            "head": head.position, "first": first, "began_with_snapshot": self.began, "head_commit_id": head.commit, "head_recorded_at": head.recorded_at,
            "checkpoint": checkpoint.position, "recording_from": self.recording.map(|recording| recording.from),
            "bytes": sizes.0, "wal_bytes": sizes.1, "durability": durability,
            "follows": following.as_ref().map(|following| &following.source),
            "follows_since": following.as_ref().map(|following| following.since),
            "schema_version": self.schema_version, "sqlite_version": rusqlite::version(), "tables": tables,
        });
        if let Some(report) = following.as_ref().and_then(|following| following.report.as_ref()) {
            value["follower"] = of_follower(report);
        }
        self.keeping.tell(&mut value);
        value
    }
}

fn of_follower(report: &FollowerReport) -> Value {
    let FollowerReport { state, why, reported_at, source } = report;
    json!({
        "state": state.as_str(), "why": why, "reported_at": reported_at,
        "source_seen_at": source.map(|source| source.seen_at),
        "source_head": source.map(|source| source.position),
        "lag_events": source.map(|source| source.lag_events),
        "lag_ms": source.map(|source| source.lag_ms),
    })
}

/// Bytes of the file and of its write-ahead log.
fn sizes(url: &StoreUrl) -> Result<(u64, u64), Error> {
    let StoreUrl::Sqlite(path) = url else { return Ok((0, 0)) };
    let bytes = |path: &std::path::Path| match path.metadata() {
        Ok(metadata) => Ok(metadata.len()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(0),
        Err(error) => Err(StoreError::unavailable_because(format!("looking at {}", path.display()), error)),
    };
    let mut wal = path.as_os_str().to_owned();
    wal.push("-wal");
    Ok((bytes(path)?, bytes(std::path::Path::new(&wal))?))
}
