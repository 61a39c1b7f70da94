//! The log as an append table of one SQLite file.
//!
//! ```text
//! events   position INTEGER PRIMARY KEY, commit_id, recorded_at, actor, ... one row per event
//! _heads   'log': id, epoch and the newest commit. A row of its own, so that a deleted newest event is noticed
//!          and its position never given out again
//! _answers what callers that named their command were answered, to be answered again
//! ```
//! The connection belongs to the caller: the tables share the file, so that an append and its projection are one
//! transaction. [`connection`] says how it must be opened.

pub mod connection;
mod epochs;
mod heads;
mod read;

pub use epochs::{accept_epoch, accepted_epochs};
pub use heads::{Head, read_head, remove_head, write_head};

use std::{sync::Arc, thread, time::Duration};

use rusqlite::{Connection, ErrorCode, OptionalExtension, params};
use uuid::Uuid;

use crate::{
    Appended, COMMIT_EVENTS_MAX, Checkpoint, Clock, Commit, CommitId, Linked, Log, LogInfo, Millis, NewCommit, Outcome,
    Position, Revs, StoreError, Stored, adopt::check_identity, check_adopted, deadline::Deadline, link,
};

/// The first pause of [`Log::wait`] between two looks at the head; it doubles up to [`WAIT_PAUSE_MAX`].
const WAIT_PAUSE_MIN: Duration = Duration::from_micros(500);
/// The longest pause of [`Log::wait`].
const WAIT_PAUSE_MAX: Duration = Duration::from_millis(10);
/// Answers removed by one call of [`SqliteLog::forget_answers`].
pub const ANSWERS_FORGOTTEN_MAX: usize = 1_000;

const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS events (
  position     INTEGER PRIMARY KEY,
  commit_id    BLOB    NOT NULL,
  recorded_at  INTEGER NOT NULL,
  actor        TEXT    NOT NULL,
  reason       TEXT,
  request_id   TEXT,
  table_name   TEXT    NOT NULL,
  key          TEXT    NOT NULL,
  type         TEXT    NOT NULL,
  type_version INTEGER NOT NULL,
  prev         INTEGER,
  payload      BLOB    NOT NULL,
  checksum     INTEGER NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS _answers (
  first       INTEGER PRIMARY KEY,
  last        INTEGER NOT NULL,
  recorded_at INTEGER NOT NULL,
  commit_id   BLOB    NOT NULL UNIQUE,
  answer      BLOB    NOT NULL
) STRICT;
";

const INSERT: &str = "INSERT INTO events \
     (position, commit_id, recorded_at, actor, reason, request_id, table_name, key, type, type_version, prev, payload, checksum) \
     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)";

/// The log on a connection that the caller owns.
pub struct SqliteLog<'c> {
    conn: &'c Connection,
    clock: Arc<dyn Clock>,
}

impl<'c> SqliteLog<'c> {
    /// The log on `conn`, which must have been prepared by [`SqliteLog::create`] once.
    #[must_use]
    pub fn new(conn: &'c Connection, clock: Arc<dyn Clock>) -> Self {
        Self { conn, clock }
    }

    /// Creates the log's tables and gives the log its id, unless they are there. Joins an open transaction.
    ///
    /// # Errors
    /// `unavailable`, `read_only`, or `corrupt` for events without a head row.
    pub fn create(conn: &Connection) -> Result<(), StoreError> {
        if !conn.is_autocommit() {
            return Self::create_joined(conn);
        }
        // One transaction: of two that create at once, the second must find the first one's head, not replace it.
        let transaction = connection::begin(conn)?;
        Self::create_joined(conn)?;
        Ok(transaction.commit()?)
    }

    fn create_joined(conn: &Connection) -> Result<(), StoreError> {
        conn.execute_batch(SCHEMA)?;
        heads::create(conn)?;
        if read_head(conn, Head::Log)?.is_none() {
            let top: Option<i64> = conn.query_row("SELECT max(position) FROM events", [], |row| row.get(0))?;
            if let Some(top) = top {
                return Err(StoreError::corrupt_store(format!("the log has {top} events and no head row")));
            }
            let birth = Checkpoint::start(LogInfo { id: Uuid::now_v7(), epoch: 1 });
            write_head(conn, Head::Log, &birth)?;
        }
        Ok(())
    }

    /// Forgets answers recorded before `cutoff`, a bounded number per call; returns how many.
    ///
    /// # Errors
    /// `unavailable` or `read_only`.
    pub fn forget_answers(&mut self, cutoff: Millis) -> Result<usize, StoreError> {
        // Answers are in log order, so the old ones are the first ones.
        let mut statement = self.conn.prepare_cached(
            "DELETE FROM _answers WHERE recorded_at < ?1 AND first IN (SELECT first FROM _answers ORDER BY first LIMIT ?2)",
        )?;
        Ok(statement.execute(params![cutoff, ANSWERS_FORGOTTEN_MAX as i64])?)
    }

    /// Takes back every commit after `to`, with its kept answers, and moves the head there. `to` must be a point of this
    /// log; its identity may be another epoch's. Joins an open transaction, and must not be called outside one if the
    /// tables in the file are to go back with the log.
    ///
    /// # Errors
    /// `unavailable` or `read_only`.
    pub fn cut_back(&mut self, to: &Checkpoint) -> Result<(), StoreError> {
        let transaction = self.conn.is_autocommit().then(|| connection::begin(self.conn)).transpose()?;
        self.conn.execute("DELETE FROM events WHERE position > ?1", [to.position.to_i64()])?;
        self.conn.execute("DELETE FROM _answers WHERE last > ?1", [to.position.to_i64()])?;
        write_head(self.conn, Head::Log, to)?;
        if let Some(transaction) = transaction {
            transaction.commit()?;
        }
        Ok(())
    }

    /// Makes an empty log one that begins after `at`, a commit of another log whose identity it takes over: what follows that
    /// commit is adopted next. Joins an open transaction, and must not be called outside one if the tables in the file are
    /// to come with it.
    ///
    /// # Errors
    /// `corrupt` if this log has events; `unavailable` or `read_only`.
    pub fn begin_after(&mut self, at: &Checkpoint) -> Result<(), StoreError> {
        check_identity(&self.head()?)?;
        let transaction = self.conn.is_autocommit().then(|| connection::begin(self.conn)).transpose()?;
        write_head(self.conn, Head::Log, at)?;
        write_head(self.conn, Head::Beginning, at)?;
        if let Some(transaction) = transaction {
            transaction.commit()?;
        }
        Ok(())
    }

    /// The commit after which the log begins, if it was begun by [`SqliteLog::begin_after`].
    ///
    /// # Errors
    /// `unavailable` or `corrupt`.
    pub fn beginning(&self) -> Result<Option<Checkpoint>, StoreError> {
        read_head(self.conn, Head::Beginning)
    }

    /// Removes commits from the front that end before `before`, oldest first, but never the last one: about `events_max`
    /// events of them, and at least one commit. Answers whether none is left to remove. Joins an open transaction; what is
    /// removed leaves free pages in the file, which the next events take.
    ///
    /// # Errors
    /// `unavailable` or `read_only`.
    pub fn trim(&mut self, before: Position, events_max: usize) -> Result<bool, StoreError> {
        let head = self.head()?.position;
        let end = read::start_of_commit(self.conn, before.min(head).max(Position(1)))?;
        let first = self.first()?;
        if first >= end {
            return Ok(true);
        }
        // Every call goes on by a commit.
        let step = events_max.max(COMMIT_EVENTS_MAX) as u64;
        let until = read::start_of_commit(self.conn, Position(first.0.saturating_add(step).min(end.0)))?;
        self.conn.execute("DELETE FROM events WHERE position < ?1", [until.to_i64()])?;
        Ok(until >= end)
    }

    /// Keeps an answer of a commit that was adopted, as the log has it that made the commit.
    ///
    /// # Errors
    /// `unavailable` or `read_only`.
    pub fn adopt_answer(&mut self, id: CommitId, stored: &Stored) -> Result<(), StoreError> {
        let mut insert = self.conn.prepare_cached(
            "INSERT OR REPLACE INTO _answers (first, last, recorded_at, commit_id, answer) VALUES (?1, ?2, ?3, ?4, ?5)",
        )?;
        let Appended { first, last, recorded_at } = stored.appended;
        insert.execute(params![first.to_i64(), last.to_i64(), recorded_at, id.0.as_bytes(), stored.answer])?;
        Ok(())
    }

    fn data_version(&self) -> Result<i64, StoreError> {
        Ok(self.conn.prepare_cached("PRAGMA data_version")?.query_row([], |row| row.get(0))?)
    }

    fn adopt_joined(&mut self, commits: &[Commit]) -> Result<(), StoreError> {
        let to = check_adopted(&self.head()?, commits)?;
        let mut insert = self.conn.prepare_cached(INSERT)?;
        for commit in commits {
            self.insert(&mut insert, commit)?;
        }
        write_head(self.conn, Head::Log, &to)
    }

    fn insert(&self, insert: &mut rusqlite::Statement<'_>, commit: &Commit) -> Result<(), StoreError> {
        for event in &commit.events {
            insert
                .execute(params![
                    event.position.to_i64(),
                    commit.meta.id.0.as_bytes(),
                    commit.recorded_at,
                    &*commit.meta.actor,
                    commit.meta.reason.as_deref(),
                    commit.meta.request_id.as_deref(),
                    &*event.table,
                    &*event.key,
                    &*event.event_type,
                    event.type_version,
                    event.prev.map(Position::to_i64),
                    event.payload,
                    event.checksum,
                ])
                .map_err(|error| match error.sqlite_error_code() {
                    // The head was below what is stored. A retry would meet the same row again.
                    Some(ErrorCode::ConstraintViolation) => {
                        StoreError::corrupt(event.position, "already in the log, above its head")
                    }
                    _ => error.into(),
                })?;
        }
        Ok(())
    }

    fn keep_answer(&self, id: CommitId, appended: &Appended, answer: &[u8]) -> Result<(), StoreError> {
        let mut insert = self.conn.prepare_cached(
            "INSERT INTO _answers (first, last, recorded_at, commit_id, answer) VALUES (?1, ?2, ?3, ?4, ?5)",
        )?;
        let Appended { first, last, recorded_at } = appended;
        insert.execute(params![first.to_i64(), last.to_i64(), recorded_at, id.0.as_bytes(), answer])?;
        Ok(())
    }

    /// Appends inside an open transaction. After an error the transaction is good for a rollback only.
    fn append_joined(
        &mut self,
        now: Millis,
        batch: &[NewCommit],
        revs: &mut dyn Revs,
    ) -> Result<Vec<Outcome>, StoreError> {
        let mut head = self.head()?;
        let conn = self.conn;
        let mut answered = |id| Ok(find(conn, id)?.map(|stored| stored.appended));
        let (outcomes, linked) = link(head.position, head.recorded_at, now, batch, revs, &mut answered)?;
        let mut insert = self.conn.prepare_cached(INSERT)?;
        for Linked { index, commit } in &linked {
            self.insert(&mut insert, commit)?;
            if let (Some(answer), Ok(appended)) = (&batch[*index].answer, &outcomes[*index]) {
                self.keep_answer(commit.meta.id, appended, answer)?;
            }
        }
        if let Some(Linked { commit, .. }) = linked.last() {
            head.position = commit.last();
            head.commit = commit.meta.id;
            head.recorded_at = commit.recorded_at;
            write_head(self.conn, Head::Log, &head)?;
        }
        Ok(outcomes)
    }
}

fn find(conn: &Connection, id: CommitId) -> Result<Option<Stored>, StoreError> {
    let mut select =
        conn.prepare_cached("SELECT first, last, recorded_at, answer FROM _answers WHERE commit_id = ?1")?;
    let found = select
        .query_row([id.0.as_bytes().as_slice()], |row| {
            Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?, row.get(2)?, row.get(3)?))
        })
        .optional()?;
    let Some((first, last, recorded_at, answer)) = found else { return Ok(None) };
    let position = |value| {
        Position::from_i64(value)
            .ok_or_else(|| StoreError::corrupt_store(format!("answer of {id}: {value} is no position")))
    };
    Ok(Some(Stored { appended: Appended { first: position(first)?, last: position(last)?, recorded_at }, answer }))
}

impl Log for SqliteLog<'_> {
    fn info(&self) -> Result<LogInfo, StoreError> {
        Ok(self.head()?.log)
    }

    fn now(&self) -> Result<Millis, StoreError> {
        Ok(self.clock.now().max(self.head()?.recorded_at))
    }

    fn append(&mut self, now: Millis, batch: &[NewCommit], revs: &mut dyn Revs) -> Result<Vec<Outcome>, StoreError> {
        if !self.conn.is_autocommit() {
            return self.append_joined(now, batch, revs);
        }
        let transaction = connection::begin(self.conn)?;
        let outcomes = self.append_joined(now, batch, revs)?;
        transaction.commit()?;
        Ok(outcomes)
    }

    fn adopt(&mut self, commits: &[Commit]) -> Result<(), StoreError> {
        if !self.conn.is_autocommit() {
            return self.adopt_joined(commits);
        }
        let transaction = connection::begin(self.conn)?;
        self.adopt_joined(commits)?;
        Ok(transaction.commit()?)
    }

    fn adopt_identity(&mut self, log: LogInfo) -> Result<(), StoreError> {
        check_identity(&self.head()?)?;
        write_head(self.conn, Head::Log, &Checkpoint::start(log))
    }

    fn read(&self, after: Position, limit: usize) -> Result<Vec<Commit>, StoreError> {
        read::commits(self.conn, after, limit)
    }

    fn head(&self) -> Result<Checkpoint, StoreError> {
        read_head(self.conn, Head::Log)?
            .ok_or_else(|| StoreError::corrupt_store("no log here: table _heads has no row 'log'"))
    }

    fn first(&self) -> Result<Position, StoreError> {
        let first: Option<i64> =
            self.conn.prepare_cached("SELECT min(position) FROM events")?.query_row([], |row| row.get(0))?;
        match first.and_then(Position::from_i64) {
            Some(first) => Ok(first),
            None => Ok(self.head()?.position.next()),
        }
    }

    fn find(&self, id: CommitId) -> Result<Option<Stored>, StoreError> {
        find(self.conn, id)
    }

    fn wait(&self, after: Position, timeout: Duration) -> Result<Position, StoreError> {
        let deadline = Deadline::after(timeout);
        let mut pause = WAIT_PAUSE_MIN;
        loop {
            // Read before the head: what is committed between the two is seen by the next look. While this connection
            // waits it writes nothing itself, so every commit is another connection's and moves the number.
            let version = self.data_version()?;
            let head = self.head()?.position;
            loop {
                let left = deadline.left();
                if head > after || left.is_zero() {
                    return Ok(head);
                }
                thread::sleep(pause.min(left));
                pause = (pause * 2).min(WAIT_PAUSE_MAX);
                if self.data_version()? != version {
                    break;
                }
            }
        }
    }

    fn positions_of(
        &self,
        table: &str,
        key: &str,
        after: Position,
        through: Position,
    ) -> Result<Vec<Position>, StoreError> {
        read::positions_of(self.conn, table, key, after, through)
    }

    fn event(&self, position: Position) -> Result<Option<(Commit, usize)>, StoreError> {
        if position == Position::ZERO || position > self.head()?.position {
            return Ok(None);
        }
        read::commit_around(self.conn, position).map(Some)
    }

    fn event_alone(&self, position: Position) -> Result<Option<Commit>, StoreError> {
        if position == Position::ZERO || position > self.head()?.position {
            return Ok(None);
        }
        read::event_alone(self.conn, position).map(Some)
    }
}
