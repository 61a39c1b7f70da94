//! Events as JSON: as the log has them, and as steps of one row's history.

use serde_json::{Value, json};
use tasklog_log::{Commit, Event};
use tasklog_projections::{TableDef, table};
use tasklog_replay::{FieldChange, Step};

use super::{mask::Mask, rows::field};
use crate::Error;

/// An event's key and payload, masked.
pub(crate) fn payload(commit_event: &Event, mask: &mut Mask) -> (String, Value) {
    let Some(table) = table(&commit_event.table) else { return (commit_event.key.to_string(), Value::Null) };
    // An event that this program cannot decode is shown without its payload; `verify` says why.
    let text = table
        .payload_json(commit_event)
        .unwrap_or_else(|error| json!({ "undecodable": error.to_string() }).to_string());
    let value = serde_json::from_str(&text).unwrap_or(Value::Null);
    (mask.key(table, &commit_event.key), mask.payload(table, value))
}

/// An event of the log.
pub(crate) fn event_json(mask: &mut Mask, commit: &Commit, event: &Event) -> Value {
    let (key, payload) = payload(event, mask);
    let meta = &commit.meta;
    json!({
        "position": event.position, "commit_id": meta.id, "recorded_at": commit.recorded_at,
        "actor": &*meta.actor, "reason": meta.reason, "request_id": meta.request_id,
        "table": &*event.table, "key": key, "type": &*event.event_type, "type_version": event.type_version,
        "prev": event.prev, "payload": payload,
    })
}

/// A step of a row's history.
pub(crate) fn step_json(table: &'static TableDef, step: &Step, mask: &mut Mask) -> Result<Value, Error> {
    let changes = changes_json(table, &step.changes, mask)?;
    let (key, payload) = payload(&step.event, mask);
    Ok(json!({
        "position": step.event.position, "commit_id": step.meta.id, "recorded_at": step.recorded_at,
        "actor": &*step.meta.actor, "reason": step.meta.reason, "request_id": step.meta.request_id,
        "table": table.name, "key": key, "type": &*step.event.event_type, "prev": step.event.prev,
        "exists": step.exists, "quarantined": step.quarantined, "changes": changes, "payload": payload,
    }))
}

/// What changed, as a JSON object: `{"column": {"old": …, "new": …}}`.
pub(crate) fn changes_json(table: &TableDef, changes: &[FieldChange], mask: &mut Mask) -> Result<Value, Error> {
    let mut object = serde_json::Map::new();
    for change in changes {
        let old = field(table, change.column, change.old.as_ref(), mask)?;
        let new = field(table, change.column, change.new.as_ref(), mask)?;
        object.insert(change.column.into(), json!({ "old": old, "new": new }));
    }
    Ok(Value::Object(object))
}
