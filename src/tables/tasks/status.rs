//! A task's own status: what the statuses of its node tasks come to, and who may set it beside them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tasklog_projections::tables::tasks::{TaskCancelRequested, TaskRow, TaskStatus, TaskStatusChanged, Tasks};

use super::existing;
use crate::{
    command::Command,
    decision::Decision,
    meters::Count,
    rejection::{Error, Rejection},
    text,
};

/// The task's combined status after the command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StatusAnswer {
    /// The combined status.
    pub status: TaskStatus,
}

/// Moves the task to the combined status of its nodes, if that is further along.
pub(super) fn recombine(cx: &mut Decision<'_>, miroir_id: &str) -> Result<StatusAnswer, Error> {
    let row = existing(cx, miroir_id)?;
    let status = combined(&row);
    if status.rank() <= row.status.rank() {
        return Ok(StatusAnswer { status: row.status });
    }
    let (error, deciding_nodes) = match status {
        TaskStatus::Failed => failures(&row),
        _ => (None, row.node_tasks.keys().filter(|node| node_status(&row, node) == status).cloned().collect()),
    };
    change_status(cx, miroir_id, row.status, status, error, deciding_nodes)?;
    Ok(StatusAnswer { status })
}

/// The combined status of the node statuses; the first matching line wins.
fn combined(row: &TaskRow) -> TaskStatus {
    let statuses: Vec<_> = row.node_tasks.keys().map(|node| node_status(row, node)).collect();
    let any = |status| statuses.contains(&status);
    let some_terminal = statuses.iter().any(|status| status.is_terminal());
    if statuses.is_empty() {
        TaskStatus::Enqueued
    } else if any(TaskStatus::Failed) {
        TaskStatus::Failed
    } else if any(TaskStatus::Processing) || (some_terminal && any(TaskStatus::Enqueued)) {
        TaskStatus::Processing
    } else if any(TaskStatus::Enqueued) {
        TaskStatus::Enqueued
    } else if any(TaskStatus::Canceled) {
        TaskStatus::Canceled
    } else {
        TaskStatus::Succeeded
    }
}

/// The error of a failed task: every failed node with what it said, sorted by node.
fn failures(row: &TaskRow) -> (Option<String>, Vec<String>) {
    let failed: Vec<_> =
        row.node_tasks.keys().filter(|node| node_status(row, node) == TaskStatus::Failed).cloned().collect();
    let texts = failed.iter().map(|node| match row.node_errors.get(node) {
        Some(error) => format!("{node}: {error}"),
        None => format!("{node}: failed"),
    });
    (Some(text::error(&texts.collect::<Vec<_>>().join("; "))), failed)
}

/// What is known of the task on one node.
pub(super) fn node_status(row: &TaskRow, node_id: &str) -> TaskStatus {
    row.node_states.get(node_id).copied().unwrap_or(TaskStatus::Enqueued)
}

/// Sets the combined status, for callers that combine statuses themselves.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SetStatus {
    /// The task.
    pub miroir_id: String,
    /// The new status.
    pub status: TaskStatus,
    /// With `failed` or `canceled` only.
    pub error: Option<String>,
}

impl Command for SetStatus {
    const NAME: &'static str = "tasks.set_status";
    const ABOUT: &'static str = "Sets the combined status directly";
    type Answer = StatusAnswer;

    fn row(&self) -> Option<&str> {
        Some(&self.miroir_id)
    }

    fn decide(&mut self, cx: &mut Decision<'_>) -> Result<StatusAnswer, Error> {
        let Self { miroir_id, status, error } = self;
        if error.is_some() && !matches!(status, TaskStatus::Failed | TaskStatus::Canceled) {
            return Err(Rejection::invalid(format!("task {miroir_id}: status {status} has no error")).into());
        }
        let row = existing(cx, miroir_id)?;
        if row.status == *status {
            return Ok(StatusAnswer { status: *status });
        }
        if status.rank() <= row.status.rank() {
            let from = row.status;
            return Err(Rejection::invalid(format!("task {miroir_id}: no transition from {from} to {status}")).into());
        }
        let error = error.as_deref().map(text::error);
        change_status(cx, miroir_id, row.status, *status, error, Vec::new())?;
        Ok(StatusAnswer { status: *status })
    }
}

/// Asks for a task to be canceled.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Cancel {
    /// The task.
    pub miroir_id: String,
    /// The reason, kept as the task's error if it is canceled at once.
    pub error: Option<String>,
}

impl Command for Cancel {
    const NAME: &'static str = "tasks.cancel";
    const ABOUT: &'static str = "Asks for a task to be canceled";
    type Answer = StatusAnswer;

    fn row(&self) -> Option<&str> {
        Some(&self.miroir_id)
    }

    fn decide(&mut self, cx: &mut Decision<'_>) -> Result<StatusAnswer, Error> {
        let miroir_id = &self.miroir_id;
        let row = existing(cx, miroir_id)?;
        if matches!(row.status, TaskStatus::Succeeded | TaskStatus::Failed) {
            return Err(Rejection::invalid(format!("task {miroir_id} is {}: too late to cancel", row.status)).into());
        }
        if row.status == TaskStatus::Canceled || row.cancel_requested_at.is_some() {
            return Ok(StatusAnswer { status: row.status });
        }
        cx.emit::<Tasks>(miroir_id, TaskCancelRequested { requested_at: cx.now() })?;
        if !row.node_tasks.is_empty() {
            return Ok(StatusAnswer { status: row.status });
        }
        let error = self.error.as_deref().map(text::error);
        change_status(cx, miroir_id, row.status, TaskStatus::Canceled, error, Vec::new())?;
        Ok(StatusAnswer { status: TaskStatus::Canceled })
    }
}

/// Emits the change, and has the end of a task counted.
fn change_status(
    cx: &mut Decision<'_>,
    miroir_id: &str,
    from: TaskStatus,
    to: TaskStatus,
    error: Option<String>,
    deciding_nodes: Vec<String>,
) -> Result<(), Error> {
    let event = TaskStatusChanged { from, to, error, deciding_nodes, changed_at: cx.now() };
    cx.emit::<Tasks>(miroir_id, event)?;
    if to.is_terminal() {
        let started_at = cx.get::<Tasks>(miroir_id)?.and_then(|row| row.started_at);
        cx.note(Count::TaskEnded { status: to, processed_ms: started_at.map(|started_at| cx.now() - started_at) });
    }
    Ok(())
}
