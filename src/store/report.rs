//! What a follower leaves in its replica, so that whoever reads it there knows how far it is behind.

use std::time::{Duration, Instant};

use rusqlite::{Connection, OptionalExtension, params};
use tasklog_log::{Checkpoint, Clock, Millis, Position, StoreError, SystemClock};
use tasklog_projections::sqlite::table_exists;
use tasklog_replay::follow::Word;

/// How often a follower reports while nothing changes.
const REPORT_INTERVAL: Duration = Duration::from_secs(10);

/// What a follower was doing when it last reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FollowerState {
    /// It sees its source.
    Following,
    /// The source cannot be reached.
    Lost,
    /// It ended as it was told to.
    Stopped,
    /// It ended with an error: somebody has to look.
    Failed,
}

impl FollowerState {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Following, Self::Lost, Self::Stopped, Self::Failed];

    /// The name that is stored and shown.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Following => "following",
            Self::Lost => "lost",
            Self::Stopped => "stopped",
            Self::Failed => "failed",
        }
    }
}

/// What a follower last reported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FollowerReport {
    /// What it was doing.
    pub state: FollowerState,
    /// Why the source is lost, or why it ended.
    pub why: Option<String>,
    /// ms: when it reported.
    pub reported_at: Millis,
    /// The source as it was last seen; none if it never was.
    pub source: Option<SourceSeen>,
}

/// A source's head, and what a replica misses of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SourceSeen {
    /// ms: when it was seen.
    pub seen_at: Millis,
    /// The head's position.
    pub position: Position,
    /// Events that the replica does not have.
    pub lag_events: u64,
    /// The log's time between the replica's head and the source's, in ms.
    pub lag_ms: Millis,
}

impl FollowerReport {
    /// The last report in a replica's file; none if there was none.
    pub(super) fn read(conn: &Connection) -> Result<Option<Self>, StoreError> {
        if !table_exists(conn, "_follower")? {
            return Ok(None);
        }
        // One statement: the report and the head are of one moment.
        let mut select = conn.prepare_cached(
            "SELECT state, why, reported_at, seen_at, source_position, source_recorded_at, position, recorded_at
             FROM _follower JOIN _heads ON _heads.name = 'log'",
        )?;
        let report = select
            .query_row([], |row| {
                let state: String = row.get(0)?;
                let source = match (row.get(3)?, row.get(4)?, row.get::<_, Option<Millis>>(5)?) {
                    (Some(seen_at), Some(position), Some(recorded_at)) => {
                        let position = Position::from_i64(position).unwrap_or_default();
                        let mine = Position::from_i64(row.get(6)?).unwrap_or_default();
                        let lag_events = position.0.saturating_sub(mine.0);
                        let lag_ms = if lag_events == 0 { 0 } else { recorded_at.saturating_sub(row.get(7)?).max(0) };
                        Some(SourceSeen { seen_at, position, lag_events, lag_ms })
                    }
                    _ => None,
                };
                let state = FollowerState::ALL.into_iter().find(|known| known.as_str() == state);
                let (why, reported_at) = (row.get(1)?, row.get(2)?);
                Ok(state.map(|state| Self { state, why, reported_at, source }))
            })
            .optional()?;
        Ok(report.flatten())
    }
}

/// The side of a report that writes it.
pub(super) struct Reporter {
    /// The source's head, to be told with the next transaction.
    seen: Option<Checkpoint>,
    told: Option<(FollowerState, Instant)>,
}

impl Reporter {
    /// Makes room for reports in a replica's file.
    pub(super) fn new(conn: &Connection) -> Result<Self, StoreError> {
        conn.execute_batch(
            "CREATE TABLE IF NOT EXISTS _follower (
               one                INTEGER PRIMARY KEY CHECK (one = 1),
               state              TEXT    NOT NULL,
               why                TEXT,
               reported_at        INTEGER NOT NULL,
               seen_at            INTEGER,
               source_position    INTEGER,
               source_recorded_at INTEGER
             ) STRICT;",
        )?;
        Ok(Self { seen: None, told: None })
    }

    /// Takes a word. The first one is written at once, and what happens seldom; what was seen waits for [`Reporter::tell_seen`].
    pub(super) fn hear(&mut self, conn: &Connection, word: Word<'_>) -> Result<(), StoreError> {
        let (state, why) = match word {
            Word::Seen(source) => {
                self.seen = Some(*source);
                return if self.is_due(FollowerState::Following) { self.tell_seen(conn) } else { Ok(()) };
            }
            Word::Lost(error) => (FollowerState::Lost, Some(error.full())),
            Word::Failed(error) => (FollowerState::Failed, Some(error.full())),
            Word::Stopped => (FollowerState::Stopped, None),
        };
        if state == FollowerState::Stopped {
            // It may have seen more than it has told.
            self.tell_seen(conn)?;
        }
        if !self.is_due(state) {
            return Ok(());
        }
        let mut tell = conn.prepare_cached(
            "INSERT INTO _follower (one, state, why, reported_at) VALUES (1, ?1, ?2, ?3)
             ON CONFLICT (one) DO UPDATE
             SET state = excluded.state, why = excluded.why, reported_at = excluded.reported_at",
        )?;
        tell.execute(params![state.as_str(), why, SystemClock.now()])?;
        self.told = Some((state, Instant::now()));
        Ok(())
    }

    fn is_due(&self, state: FollowerState) -> bool {
        self.told.is_none_or(|(told, when)| told != state || when.elapsed() >= REPORT_INTERVAL)
    }

    /// Writes what was seen of the source and not told yet, such as in the transaction that takes events of it.
    pub(super) fn tell_seen(&mut self, conn: &Connection) -> Result<(), StoreError> {
        let Some(source) = self.seen.take() else { return Ok(()) };
        let mut tell = conn.prepare_cached(
            "INSERT INTO _follower (one, state, reported_at, seen_at, source_position, source_recorded_at)
             VALUES (1, ?1, ?2, ?2, ?3, ?4)
             ON CONFLICT (one) DO UPDATE
             SET state = excluded.state, why = NULL, reported_at = excluded.reported_at, seen_at = excluded.seen_at,
                 source_position = excluded.source_position, source_recorded_at = excluded.source_recorded_at",
        )?;
        let state = FollowerState::Following;
        tell.execute(params![state.as_str(), SystemClock.now(), source.position.to_i64(), source.recorded_at])?;
        self.told = Some((state, Instant::now()));
        Ok(())
    }
}
