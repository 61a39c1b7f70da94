use rusqlite::{Connection, OptionalExtension, params};
use uuid::Uuid;

use crate::{Checkpoint, CommitId, LogInfo, Position, StoreError};

/// Whose head: the log's, or that of a set of rows derived from a log. Both stand in one small table, so that a group
/// commit touches one page for both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Head {
    /// The newest commit of the log in this file.
    Log,
    /// The commit that the tables in this file reflect.
    Tables,
    /// The commit through which the log's Merkle tree is kept.
    Tree,
    /// The commit that tables being rebuilt in this file reflect so far.
    Shadow,
    /// The commit after which the log in this file begins, if it was begun with a snapshot; none if it has its first event, or
    /// was trimmed.
    Beginning,
}

impl Head {
    const fn name(self) -> &'static str {
        match self {
            Self::Log => "log",
            Self::Tables => "tables",
            Self::Tree => "tree",
            Self::Shadow => "shadow",
            Self::Beginning => "beginning",
        }
    }
}

/// Creates the table of heads unless it is there. Joins an open transaction.
pub(super) fn create(conn: &Connection) -> Result<(), StoreError> {
    conn.execute_batch(
        "CREATE TABLE IF NOT EXISTS _heads (
           name        TEXT    PRIMARY KEY,
           log_id      BLOB    NOT NULL,
           epoch       INTEGER NOT NULL,
           position    INTEGER NOT NULL,
           commit_id   BLOB    NOT NULL,
           recorded_at INTEGER NOT NULL
         ) STRICT, WITHOUT ROWID;",
    )?;
    Ok(())
}

/// Reads one head.
///
/// # Errors
/// `unavailable`, or `corrupt` if the row is none that this program wrote.
pub fn read_head(conn: &Connection, head: Head) -> Result<Option<Checkpoint>, StoreError> {
    let mut select =
        conn.prepare_cached("SELECT log_id, epoch, position, commit_id, recorded_at FROM _heads WHERE name = ?1")?;
    let row = select
        .query_row([head.name()], |row| {
            let log_id: Vec<u8> = row.get(0)?;
            let commit: Vec<u8> = row.get(3)?;
            Ok((log_id, row.get::<_, i64>(1)?, row.get::<_, i64>(2)?, commit, row.get(4)?))
        })
        .optional()?;
    let Some((log_id, epoch, position, commit, recorded_at)) = row else { return Ok(None) };
    let checkpoint = || {
        Some(Checkpoint {
            log: LogInfo { id: Uuid::from_slice(&log_id).ok()?, epoch: u64::try_from(epoch).ok()? },
            position: Position::from_i64(position)?,
            commit: CommitId(Uuid::from_slice(&commit).ok()?),
            recorded_at,
        })
    };
    checkpoint()
        .map(Some)
        .ok_or_else(|| StoreError::corrupt_store(format!("row '{}' of _heads is no checkpoint", head.name())))
}

/// Writes one head. Joins an open transaction.
///
/// # Errors
/// `unavailable` or `read_only`.
pub fn write_head(conn: &Connection, head: Head, to: &Checkpoint) -> Result<(), StoreError> {
    let mut upsert = conn.prepare_cached(
        "INSERT INTO _heads (name, log_id, epoch, position, commit_id, recorded_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
         ON CONFLICT (name) DO UPDATE SET log_id = excluded.log_id, epoch = excluded.epoch,
           position = excluded.position, commit_id = excluded.commit_id, recorded_at = excluded.recorded_at",
    )?;
    upsert.execute(params![
        head.name(),
        to.log.id.as_bytes(),
        to.log.epoch.cast_signed(),
        to.position.to_i64(),
        to.commit.0.as_bytes(),
        to.recorded_at,
    ])?;
    Ok(())
}

/// Removes one head. Joins an open transaction.
///
/// # Errors
/// `unavailable` or `read_only`.
pub fn remove_head(conn: &Connection, head: Head) -> Result<(), StoreError> {
    conn.prepare_cached("DELETE FROM _heads WHERE name = ?1")?.execute([head.name()])?;
    Ok(())
}
