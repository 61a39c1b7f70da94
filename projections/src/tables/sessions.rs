//! `sessions`: read-your-writes pins.
//!
//! A session remembers its last write, the group that first confirmed it, and the settings version its reads must not
//! fall below. It dies by time; a dead session that is used again starts a new life, with floor 0 and no pin. `ttl` is
//! an instant, and its order is also the order of last use.

use crate::{At, Impossible, Index, Table, TableDef, Tombstones, events, row, words};

row! {
    /// One session of a client.
    pub struct SessionRow dies at ttl {
        key {
            /// client-chosen, opaque
            session_id: String,
        }
        /// last write; none before the first one
        last_write_mtask_id: Option<String>,
        /// ms: when that write was first recorded
        last_write_at: Option<i64>,
        /// first group that reached quorum on that write; none is not pinned
        pinned_group: Option<i64>,
        /// settings floor
        min_settings_version: i64,
        /// ms: the instant of death, not a length
        ttl: i64,
    }
}

words! {
    /// Why a pin was cleared.
    pub enum PinClearedWhy {
        /// the group cannot be read from
        GroupFailed = "group_failed",
        /// the write is visible everywhere
        WriteSettled = "write_settled",
    }
}

events! {
    /// What happens to sessions.
    pub enum SessionEvent {
        /// A write of the session was accepted, or a group confirmed it.
        "session_write_recorded" v1 => SessionWriteRecorded {
            /// the write
            last_write_mtask_id: String,
            /// ms
            last_write_at: i64,
            /// first group that reached quorum
            pinned_group: Option<i64>,
            /// the floor, unchanged; 0 in a new life
            min_settings_version: i64,
            /// ms
            ttl: i64,
            /// whether there was no live session
            new_life: bool,
        },
        /// The session has seen newer settings.
        "session_settings_floor_raised" v1 => SessionSettingsFloorRaised {
            /// before
            from: i64,
            /// after
            to: i64,
            /// ms
            ttl: i64,
            /// whether there was no live session
            new_life: bool,
        },
        /// The session was used and lives longer.
        "session_touched" v1 => SessionTouched {
            /// ms
            ttl: i64,
        },
        /// Reads of the session may go anywhere again.
        "session_pin_cleared" v1 => SessionPinCleared {
            /// the write that the pin belonged to
            mtask_id: String,
            /// the group it was pinned to
            group: i64,
            /// why
            why: PinClearedWhy,
        },
        /// The client ended it.
        "session_closed" v1 => SessionClosed {},
        /// It made room for a newcomer.
        "session_evicted" v1 => SessionEvicted {
            /// ms: when it would have died
            ttl: i64,
            /// how many sessions there may be
            bound: u64,
        },
    }
}

/// The table.
pub struct Sessions;

/// The table at run time.
pub static DEF: TableDef = TableDef::of::<Sessions>();

impl Table for Sessions {
    const NAME: &'static str = "sessions";
    const SCHEMA_VERSION: u32 = 1;
    const TOMBSTONES: Tombstones = Tombstones::Short;
    const INDEXES: &'static [Index] = &[Index::on("by_ttl", &["ttl", "session_id"])];
    const SENSITIVE: &'static [&'static str] = &["session_id"];
    const KEY_PREFIX: &'static str = "session";
    type Row = SessionRow;
    type Event = SessionEvent;

    fn def() -> &'static TableDef {
        &DEF
    }

    fn evolve(row: Option<SessionRow>, event: SessionEvent, at: &At<'_>) -> Result<Option<SessionRow>, Impossible> {
        match event {
            SessionEvent::SessionWriteRecorded(event) => write_recorded(row, event, at),
            SessionEvent::SessionSettingsFloorRaised(event) => floor_raised(row, event, at),
            SessionEvent::SessionTouched(event) => {
                let mut row = row.ok_or_else(|| Impossible::no_row("session_touched"))?;
                extend("session_touched", &mut row, event.ttl)?;
                Ok(Some(row))
            }
            SessionEvent::SessionPinCleared(event) => pin_cleared(row, &event),
            SessionEvent::SessionClosed(_) => {
                row.ok_or_else(|| Impossible::no_row("session_closed"))?;
                Ok(None)
            }
            SessionEvent::SessionEvicted(event) => {
                let row = row.ok_or_else(|| Impossible::no_row("session_evicted"))?;
                if row.ttl != event.ttl {
                    return Err(Impossible(format!("session_evicted at ttl {}, the row's is {}", event.ttl, row.ttl)));
                }
                Ok(None)
            }
        }
    }
}

fn write_recorded(
    row: Option<SessionRow>,
    event: SessionWriteRecorded,
    at: &At<'_>,
) -> Result<Option<SessionRow>, Impossible> {
    const EVENT: &str = "session_write_recorded";
    let mut next = begin(EVENT, row, event.new_life, event.ttl, at)?;
    if event.min_settings_version != next.min_settings_version {
        let (found, floor) = (event.min_settings_version, next.min_settings_version);
        return Err(Impossible(format!("{EVENT} with settings floor {found}, the row's is {floor}")));
    }
    next.last_write_mtask_id = Some(event.last_write_mtask_id);
    next.last_write_at = Some(event.last_write_at);
    next.pinned_group = event.pinned_group;
    Ok(Some(next))
}

fn floor_raised(
    row: Option<SessionRow>,
    event: SessionSettingsFloorRaised,
    at: &At<'_>,
) -> Result<Option<SessionRow>, Impossible> {
    const EVENT: &str = "session_settings_floor_raised";
    let mut next = begin(EVENT, row, event.new_life, event.ttl, at)?;
    let SessionSettingsFloorRaised { from, to, .. } = event;
    if from != next.min_settings_version || to <= from {
        return Err(Impossible(format!("{EVENT} from {from} to {to}, the row's is {}", next.min_settings_version)));
    }
    next.min_settings_version = to;
    Ok(Some(next))
}

fn pin_cleared(row: Option<SessionRow>, event: &SessionPinCleared) -> Result<Option<SessionRow>, Impossible> {
    let mut row = row.ok_or_else(|| Impossible::no_row("session_pin_cleared"))?;
    let SessionPinCleared { mtask_id, group, .. } = event;
    if row.last_write_mtask_id.as_ref() != Some(mtask_id) || row.pinned_group != Some(*group) {
        return Err(Impossible(format!(
            "session_pin_cleared of group {group} for {mtask_id}, the row has {:?} for {:?}",
            row.pinned_group, row.last_write_mtask_id
        )));
    }
    row.pinned_group = None;
    Ok(Some(row))
}

/// The row that an event goes on from: the live one with its life extended, or an empty one in a new life.
fn begin(
    event: &str,
    row: Option<SessionRow>,
    new_life: bool,
    ttl: i64,
    at: &At<'_>,
) -> Result<SessionRow, Impossible> {
    match (row, new_life) {
        (Some(_), true) => Err(Impossible::row_exists(event)),
        (None, false) => Err(Impossible::no_row(event)),
        (Some(mut row), false) => {
            extend(event, &mut row, ttl)?;
            Ok(row)
        }
        (None, true) => Ok(SessionRow {
            session_id: at.key.into(),
            last_write_mtask_id: None,
            last_write_at: None,
            pinned_group: None,
            min_settings_version: 0,
            ttl,
        }),
    }
}

fn extend(event: &str, row: &mut SessionRow, ttl: i64) -> Result<(), Impossible> {
    if ttl < row.ttl {
        return Err(Impossible(format!("{event} takes ttl back from {} to {ttl}", row.ttl)));
    }
    row.ttl = ttl;
    Ok(())
}

#[cfg(test)]
#[path = "sessions_tests.rs"]
mod tests;
