use std::borrow::Cow;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;
use tasklog_log::Millis;
use tasklog_projections::tables::tasks::TaskRow;

use super::{
    asked::TYPES,
    error::{ErrorBody, body},
};

/// The type of a task that was registered without one.
const NO_TYPE: &str = "unknown";
/// The code of an error whose text names none.
const NO_CODE: &str = "internal";

/// A task's error, in the shape of all errors.
pub type TaskError = ErrorBody;

/// A task in Meilisearch's shape.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TaskView {
    /// The position of the event that registered it.
    pub uid: u64,
    /// Always null: batches are the nodes' own.
    pub batch_uid: Option<u64>,
    /// The index of the write.
    pub index_uid: Option<String>,
    /// The combined status of its node tasks.
    pub status: String,
    /// The kind of the write.
    pub r#type: String,
    /// Always null: a task is canceled by a command, not by another task.
    pub canceled_by: Option<u64>,
    /// Always null: the registry holds no details.
    pub details: Option<serde_json::Map<String, serde_json::Value>>,
    /// Why it failed.
    pub error: Option<TaskError>,
    /// ISO 8601: from start to end.
    pub duration: Option<String>,
    /// RFC 3339
    pub enqueued_at: String,
    /// RFC 3339
    pub started_at: Option<String>,
    /// RFC 3339
    pub finished_at: Option<String>,
    /// What the task is called everywhere else; Meilisearch has no such member.
    pub miroir_id: String,
}

impl TaskView {
    pub(super) fn of(row: &TaskRow, uid: u64) -> Self {
        let duration = row.started_at.zip(row.finished_at).map(|(start, end)| duration(end - start));
        Self {
            uid,
            batch_uid: None,
            index_uid: row.index_uid.clone(),
            status: row.status.as_str().into(),
            r#type: kind(row).into_owned(),
            canceled_by: None,
            details: None,
            error: row.error.as_deref().map(error),
            duration,
            enqueued_at: time(row.created_at),
            started_at: row.started_at.map(time),
            finished_at: row.finished_at.map(time),
            miroir_id: row.miroir_id.clone(),
        }
    }
}

/// The kind as Meilisearch's API names it. Its dumps use older names, which imported tasks keep.
pub(super) fn kind(row: &TaskRow) -> Cow<'_, str> {
    let Some(kind) = row.task_type.as_deref() else { return NO_TYPE.into() };
    match kind {
        "documentImport" => "documentAdditionOrUpdate".into(),
        "documentDeletionByFilter" | "documentClear" => "documentDeletion".into(),
        "settings" => "settingsUpdate".into(),
        other => match TYPES.into_iter().find(|known| known.eq_ignore_ascii_case(other)) {
            Some(known) => known.into(),
            None => other.into(),
        },
    }
}

/// An error text ends with Meilisearch's code in parentheses, if a node gave one.
fn error(text: &str) -> TaskError {
    let code = text.strip_suffix(')').and_then(|text| text.rsplit_once('(')).map(|(_, code)| code);
    let is_code =
        |code: &&str| code.contains('_') && code.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
    match code.filter(is_code) {
        Some(code) => body(text.to_owned(), code, "invalid_request"),
        None => body(text.to_owned(), NO_CODE, "internal"),
    }
}

fn duration(ms: Millis) -> String {
    let ms = ms.max(0);
    let (seconds, ms) = (ms / 1_000, ms % 1_000);
    if ms == 0 { format!("PT{seconds}S") } else { format!("PT{seconds}.{ms:03}S") }
}

/// Instants beyond the year 9999, which the tables allow, are told as the last one before.
fn time(at: Millis) -> String {
    Timestamp::from_millisecond(at).unwrap_or(Timestamp::MAX).to_string()
}
