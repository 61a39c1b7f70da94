use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use tasklog_log::{Event, Log, Millis, Position, StoreError};
use tasklog_projections::{
    TableEvent,
    tables::tasks::{DEF, TaskEvent},
};

/// How many uids are remembered; all are forgotten when there are more.
const REMEMBERED_MAX: usize = 10_000;
/// How far back the history of one task is walked.
const HISTORY_EVENTS_MAX: usize = 100_000;

/// The uids of tasks: the positions of the events that registered them. Finding one walks the task's history back, so those
/// found are remembered.
#[derive(Default)]
pub struct Uids {
    /// By task and rev: a task that was removed and registered again has another rev.
    known: Mutex<HashMap<(String, Position), u64>>,
}

/// The event that registered a task.
pub(super) struct Birth {
    pub(super) miroir_id: String,
    pub(super) created_at: Millis,
}

impl Uids {
    /// The uid of the task whose last event is at `rev`.
    pub(super) fn of(&self, log: &dyn Log, miroir_id: &str, rev: Position) -> Result<u64, StoreError> {
        let key = (miroir_id.to_owned(), rev);
        if let Some(uid) = self.known().get(&key) {
            return Ok(*uid);
        }
        let uid = find(log, rev)?.0;
        let mut known = self.known();
        if known.len() >= REMEMBERED_MAX {
            known.clear();
        }
        known.insert(key, uid);
        Ok(uid)
    }

    fn known(&self) -> std::sync::MutexGuard<'_, HashMap<(String, Position), u64>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn find(log: &dyn Log, rev: Position) -> Result<Position, StoreError> {
    let mut at = rev;
    for _ in 0..HISTORY_EVENTS_MAX {
        let Some(commit) = log.event_alone(at)? else {
            return Err(StoreError::corrupt(at, "a task's history leads there, the log has no such event"));
        };
        let Some(event) = commit.events.first() else { break };
        match event.prev.filter(|_| !is_birth(event)) {
            Some(prev) => at = prev,
            None => return Ok(at),
        }
    }
    Err(StoreError::corrupt(rev, format!("the task's history has more than {HISTORY_EVENTS_MAX} events")))
}

fn is_birth(event: &Event) -> bool {
    matches!(&*event.event_type, "task_registered" | "task_imported")
}

/// The registration at a position; none if something else stands there, or nothing.
pub(super) fn birth_at(log: &dyn Log, uid: u64) -> Result<Option<Birth>, StoreError> {
    let Some(commit) = i64::try_from(uid).ok().map(|_| log.event_alone(Position(uid))).transpose()?.flatten() else {
        return Ok(None);
    };
    let Some(event) = commit.events.first().filter(|event| *event.table == *DEF.name && is_birth(event)) else {
        return Ok(None);
    };
    let decoded = TaskEvent::decode(&event.event_type, event.type_version, &event.payload)
        .map_err(|error| StoreError::corrupt(event.position, error.to_string()))?;
    let created_at = match decoded {
        TaskEvent::TaskRegistered(event) => event.created_at,
        TaskEvent::TaskImported(event) => event.created_at,
        _ => return Ok(None),
    };
    Ok(Some(Birth { miroir_id: event.key.to_string(), created_at }))
}
