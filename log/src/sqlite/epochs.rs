use rusqlite::{Connection, params};
use uuid::Uuid;

use super::{Head, read_head, write_head};
use crate::{AcceptedEpoch, Checkpoint, CommitId, LogInfo, Millis, Position, StoreError};

/// Begins the next epoch of the log in this file, and of the rows that reflect it. Joins an open transaction.
///
/// # Errors
/// `corrupt` if the file has no head of a log; `unavailable` or `read_only`.
pub fn accept_epoch(
    conn: &Connection,
    accepted_at: Millis,
    actor: &str,
    reason: Option<&str>,
) -> Result<AcceptedEpoch, StoreError> {
    conn.execute_batch(
        "CREATE TABLE IF NOT EXISTS _epochs (
           epoch       INTEGER PRIMARY KEY,
           position    INTEGER NOT NULL,
           commit_id   BLOB    NOT NULL,
           accepted_at INTEGER NOT NULL,
           actor       TEXT    NOT NULL,
           reason      TEXT
         ) STRICT;",
    )?;
    let head = read_head(conn, Head::Log)?;
    let head = head.ok_or_else(|| StoreError::corrupt_store("table _heads has no row for the log"))?;
    let log = LogInfo { epoch: head.log.epoch + 1, ..head.log };
    for which in [Head::Log, Head::Tables] {
        if let Some(at) = read_head(conn, which)? {
            write_head(conn, which, &Checkpoint { log, ..at })?;
        }
    }
    conn.execute(
        "INSERT OR REPLACE INTO _epochs (epoch, position, commit_id, accepted_at, actor, reason)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        params![log.epoch.cast_signed(), head.position.to_i64(), head.commit.0.as_bytes(), accepted_at, actor, reason],
    )?;
    Ok(AcceptedEpoch {
        epoch: log.epoch,
        position: head.position,
        commit: head.commit,
        accepted_at,
        actor: actor.to_owned(),
        reason: reason.map(str::to_owned),
    })
}

/// The epochs that were accepted, oldest first.
///
/// # Errors
/// `unavailable`; `corrupt` for rows that this program did not write.
pub fn accepted_epochs(conn: &Connection) -> Result<Vec<AcceptedEpoch>, StoreError> {
    let exists: bool = conn.query_row(
        "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = '_epochs')",
        [],
        |row| row.get(0),
    )?;
    if !exists {
        return Ok(Vec::new());
    }
    let mut select = conn
        .prepare_cached("SELECT epoch, position, commit_id, accepted_at, actor, reason FROM _epochs ORDER BY epoch")?;
    let rows = select.query_map([], |row| {
        let commit: Vec<u8> = row.get(2)?;
        Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?, commit, row.get(3)?, row.get(4)?, row.get(5)?))
    })?;
    rows.map(|row| {
        let (epoch, position, commit, accepted_at, actor, reason) = row?;
        let read = || {
            Some((u64::try_from(epoch).ok()?, Position::from_i64(position)?, CommitId(Uuid::from_slice(&commit).ok()?)))
        };
        let (epoch, position, commit) =
            read().ok_or_else(|| StoreError::corrupt_store("table _epochs has a row that is no accepted epoch"))?;
        Ok(AcceptedEpoch { epoch, position, commit, accepted_at, actor, reason })
    })
    .collect()
}
