//! `_log`: facts about the log itself, one row each. It is folded, stored and replicated like the 14 tables, and is none of
//! them: no command of the catalogue changes it, and the rows of other tables do not depend on it.
//!
//! A fact's key is its kind and what it is about: `trim/log`, `quarantine/4711`, `place/archive`, `keep/events`,
//! `rebuild/tasks`.

use std::sync::Arc;

use tasklog_log::{Position, StoreError};

use crate::{At, Cell, Impossible, PAGE_ROWS_MAX, Scan, Table, TableDef, Tombstones, View, events, pair, row, typed};

/// How far the log is trimmed; about [`THE_LOG`].
pub const TRIM: &str = "trim";
/// An event that replays pass over; about its position.
pub const QUARANTINE: &str = "quarantine";
/// Where something is kept; about [`ARCHIVE`].
pub const PLACE: &str = "place";
/// How much of the log stays; about [`EVENTS`] or [`AGE`].
pub const KEEP: &str = "keep";
/// The last rebuild for a newer projection; about a table.
pub const REBUILD: &str = "rebuild";

/// What a trim is about.
pub const THE_LOG: &str = "log";
/// The place of the archive.
pub const ARCHIVE: &str = "archive";
/// Kept events, a count.
pub const EVENTS: &str = "events";
/// Kept age, ms.
pub const AGE: &str = "age";

row! {
    /// One fact about the log.
    pub struct FactRow {
        key {
            /// what kind of fact it is
            kind: String,
            /// what it is about
            subject: String,
        }
        /// ms: when it was recorded
        noted_at: i64,
        /// the number it states: a position, a count, a length of time in ms, a version
        number: Option<i64>,
        /// the text it states: a URL, a reason
        text: Option<String>,
    }
}

events! {
    /// What happens to facts.
    pub enum FactEvent {
        /// Events before a position were removed from the hot log; a snapshot and the archive have them.
        "log_trimmed" v1 => LogTrimmed {
            /// the first position that is kept
            first: i64,
            /// ms: the instant that ages were measured at
            instant: i64,
            /// the snapshot that covers what was removed
            snapshot: i64,
            /// the last position of the archive then
            archived: i64,
        },
        /// Replays pass over an event from now on, as if it had left its row as it was.
        "event_quarantined" v1 => EventQuarantined {
            /// why
            why: String,
            /// ms
            quarantined_at: i64,
        },
        /// Replays fold the event again.
        "quarantine_lifted" v1 => QuarantineLifted {
            /// why
            why: Option<String>,
        },
        /// Something is kept at a place from now on.
        "place_set" v1 => PlaceSet {
            /// its URL, without secrets
            url: String,
            /// ms
            set_at: i64,
        },
        /// Nothing more is kept there.
        "place_cleared" v1 => PlaceCleared {
            /// the URL it had
            last_url: String,
        },
        /// So much of the log is to stay.
        "keep_set" v1 => KeepSet {
            /// how many events, or how many ms
            number: i64,
            /// ms
            set_at: i64,
        },
        /// All of it is to stay, as far as this measure goes.
        "keep_cleared" v1 => KeepCleared {
            /// what it was
            last: i64,
        },
        /// A table was rebuilt because its projection is a newer one.
        "table_rebuilt" v1 => TableRebuilt {
            /// the projection version that it was built by; 0 if there was none
            from_version: i64,
            /// the projection version that it is built by now
            to_version: i64,
            /// the position through which it was rebuilt
            through: i64,
            /// ms
            rebuilt_at: i64,
        },
    }
}

/// The table of facts.
pub struct LogFacts;

/// The table at run time.
pub static DEF: TableDef = TableDef::of::<LogFacts>();

impl Table for LogFacts {
    const NAME: &'static str = "_log";
    const SCHEMA_VERSION: u32 = 1;
    const TOMBSTONES: Tombstones = Tombstones::Kept;
    const KEY_PREFIX: &'static str = "_facts";
    type Row = FactRow;
    type Event = FactEvent;

    fn def() -> &'static TableDef {
        &DEF
    }

    fn evolve(row: Option<FactRow>, event: FactEvent, at: &At<'_>) -> Result<Option<FactRow>, Impossible> {
        let state = |noted_at: i64, number: Option<i64>, text: Option<String>| {
            let (kind, subject) = crate::split_pair(at.key).map_err(|why| Impossible(why.to_string()))?;
            Ok(Some(FactRow { kind, subject, noted_at, number, text }))
        };
        let gone = |event: &str, row: Option<FactRow>| row.map(|_| None).ok_or_else(|| Impossible::no_row(event));
        match event {
            FactEvent::LogTrimmed(event) => {
                let before = row.and_then(|row| row.number).unwrap_or_default();
                if event.first < before {
                    return Err(Impossible(format!("log_trimmed to {} after {before}", event.first)));
                }
                state(event.instant, Some(event.first), None)
            }
            FactEvent::EventQuarantined(event) if row.is_none() => state(event.quarantined_at, None, Some(event.why)),
            FactEvent::EventQuarantined(_) => Err(Impossible::row_exists("event_quarantined")),
            FactEvent::QuarantineLifted(_) => gone("quarantine_lifted", row),
            FactEvent::PlaceSet(event) => state(event.set_at, None, Some(event.url)),
            FactEvent::PlaceCleared(_) => gone("place_cleared", row),
            FactEvent::KeepSet(event) => state(event.set_at, Some(event.number), None),
            FactEvent::KeepCleared(_) => gone("keep_cleared", row),
            FactEvent::TableRebuilt(event) => state(event.rebuilt_at, Some(event.to_version), None),
        }
    }
}

/// The events that replays pass over, ascending.
///
/// # Errors
/// The view's; `corrupt` for a fact that names no position.
pub fn quarantined(view: &dyn View) -> Result<Vec<Position>, StoreError> {
    quarantined_by(view, Position(u64::MAX))
}

/// Those of them whose quarantine stands at or before `through`.
///
/// # Errors
/// The view's; `corrupt` for a fact that names no position.
pub fn quarantined_by(view: &dyn View, through: Position) -> Result<Vec<Position>, StoreError> {
    let mut positions = Vec::new();
    let mut scan = Scan::equal("pk", [Cell::Text(QUARANTINE.into())]);
    loop {
        let page = view.scan(&DEF, &scan)?;
        for held in page.iter().filter(|held| held.rev <= through) {
            let key = held.row.key();
            let position = key.rsplit('/').next().and_then(|subject| subject.parse().ok()).map(Position);
            positions.push(position.ok_or_else(|| StoreError::corrupt_store(format!("_log/{key} names no position")))?);
        }
        match page.last() {
            Some(last) if page.len() == PAGE_ROWS_MAX => scan = scan.after(vec![last.row.cell(1).into_owned()]),
            _ => break,
        }
    }
    positions.sort_unstable();
    Ok(positions)
}

/// A fact, if it is known.
///
/// # Errors
/// The view's; `corrupt` for a row that is none.
pub fn get(view: &dyn View, kind: &str, subject: &str) -> Result<Option<Arc<FactRow>>, StoreError> {
    let held = view.get(&DEF, &pair(kind, subject))?;
    held.map(|held| typed::<LogFacts>(held.row).map_err(|why| StoreError::corrupt_store(why.0))).transpose()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use tasklog_log::Position;

    use super::*;

    fn at(key: &str) -> At<'_> {
        At { position: Position(1), recorded_at: 5, key }
    }

    fn trimmed(first: i64) -> FactEvent {
        FactEvent::LogTrimmed(LogTrimmed { first, instant: 5, snapshot: first, archived: first })
    }

    #[test]
    fn a_trim_never_goes_back() {
        let row = LogFacts::evolve(None, trimmed(10), &at("trim/log")).unwrap();
        assert_eq!(row.as_ref().unwrap().number, Some(10));
        assert!(LogFacts::evolve(row.clone(), trimmed(9), &at("trim/log")).is_err());
        assert!(LogFacts::evolve(row, trimmed(10), &at("trim/log")).is_ok());
    }

    #[test]
    fn a_quarantine_is_lifted_once() {
        let quarantine = || FactEvent::EventQuarantined(EventQuarantined { why: "poison".into(), quarantined_at: 5 });
        let lift = || FactEvent::QuarantineLifted(QuarantineLifted { why: None });
        let row = LogFacts::evolve(None, quarantine(), &at("quarantine/7")).unwrap();
        assert_eq!(row.as_ref().map(|row| (&*row.kind, &*row.subject)), Some((QUARANTINE, "7")));
        assert!(LogFacts::evolve(row.clone(), quarantine(), &at("quarantine/7")).is_err());
        assert_eq!(LogFacts::evolve(row, lift(), &at("quarantine/7")), Ok(None));
        assert!(LogFacts::evolve(None, lift(), &at("quarantine/7")).is_err());
    }
}
