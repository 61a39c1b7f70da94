//! The tasks that nodes made of one write: which they are, and what the nodes say about them.
//!
//! Each command here ends by combining the nodes' statuses into the task's own.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tasklog_projections::tables::tasks::{
    NodeStatusChange, NodeTaskAttached, NodeTaskReplaced, NodeTaskStatusesObserved, TaskRow, TaskStatus, Tasks,
};

use super::{
    existing,
    status::{StatusAnswer, node_status, recombine},
};
use crate::{
    command::Command,
    decision::Decision,
    rejection::{Error, Rejection},
    text,
};

/// Attaches the task a node created for the write.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AttachNodeTask {
    /// The task.
    pub miroir_id: String,
    /// The node.
    pub node_id: String,
    /// The node's number for it.
    pub task_uid: u64,
}

impl Command for AttachNodeTask {
    const NAME: &'static str = "tasks.attach_node_task";
    const ABOUT: &'static str = "Attaches the task a node created for the write";
    type Answer = StatusAnswer;

    fn row(&self) -> Option<&str> {
        Some(&self.miroir_id)
    }

    fn decide(&mut self, cx: &mut Decision<'_>) -> Result<StatusAnswer, Error> {
        let Self { miroir_id, node_id, task_uid } = self;
        text::key("node_id", node_id)?;
        let row = existing(cx, miroir_id)?;
        match row.node_tasks.get(node_id) {
            Some(uid) if uid == task_uid => return Ok(StatusAnswer { status: row.status }),
            Some(uid) => {
                return Err(
                    Rejection::conflict(&format!("task {miroir_id}: node task on {node_id}"), task_uid, uid).into()
                );
            }
            None => not_terminal(&row)?,
        }
        cx.emit::<Tasks>(miroir_id, NodeTaskAttached { node_id: node_id.clone(), task_uid: *task_uid })?;
        recombine(cx, miroir_id)
    }
}

/// Replaces a node's task after a dispatch was repeated.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReplaceNodeTask {
    /// The task.
    pub miroir_id: String,
    /// The node.
    pub node_id: String,
    /// The number that is attached.
    pub old_uid: u64,
    /// The number that counts from now on.
    pub new_uid: u64,
    /// Why.
    pub why: String,
}

impl Command for ReplaceNodeTask {
    const NAME: &'static str = "tasks.replace_node_task";
    const ABOUT: &'static str = "Replaces a node's task after a dispatch was repeated";
    type Answer = StatusAnswer;

    fn row(&self) -> Option<&str> {
        Some(&self.miroir_id)
    }

    fn decide(&mut self, cx: &mut Decision<'_>) -> Result<StatusAnswer, Error> {
        let Self { miroir_id, node_id, old_uid, new_uid, why } = self.clone();
        let row = existing(cx, &miroir_id)?;
        let Some(attached) = row.node_tasks.get(&node_id) else {
            return Err(Rejection::not_found(format!("task {miroir_id}: no node task on {node_id}")).into());
        };
        if *attached == new_uid {
            return Ok(StatusAnswer { status: row.status });
        }
        if *attached != old_uid {
            return Err(
                Rejection::conflict(&format!("task {miroir_id}: node task on {node_id}"), old_uid, attached).into()
            );
        }
        not_terminal(&row)?;
        cx.emit::<Tasks>(&miroir_id, NodeTaskReplaced { node_id, old_uid, new_uid, why: text::error(&why) })?;
        recombine(cx, &miroir_id)
    }
}

/// Reports what nodes say about their tasks.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReportNodeStatuses {
    /// The task.
    pub miroir_id: String,
    /// One per node.
    pub reports: Vec<NodeReport>,
}

/// What one node says.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NodeReport {
    /// The node.
    pub node_id: String,
    /// The status of its task.
    pub status: TaskStatus,
    /// Its error, if it failed.
    pub error: Option<String>,
}

/// The outcome of reports.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ReportAnswer {
    /// The combined status.
    pub status: TaskStatus,
    /// How many nodes moved.
    pub moved: u64,
}

impl Command for ReportNodeStatuses {
    const NAME: &'static str = "tasks.report_node_statuses";
    const ABOUT: &'static str = "Reports what nodes say about their tasks";
    type Answer = ReportAnswer;

    fn row(&self) -> Option<&str> {
        Some(&self.miroir_id)
    }

    fn decide(&mut self, cx: &mut Decision<'_>) -> Result<ReportAnswer, Error> {
        let miroir_id = &self.miroir_id;
        let row = existing(cx, miroir_id)?;
        let mut states: BTreeMap<&str, TaskStatus> = BTreeMap::new();
        let mut changes = Vec::new();
        for report in &self.reports {
            let node_id = &report.node_id;
            if !row.node_tasks.contains_key(node_id) {
                return Err(Rejection::not_found(format!("task {miroir_id}: no node task on {node_id}")).into());
            }
            let known = states.get(&**node_id).copied().unwrap_or_else(|| node_status(&row, node_id));
            if report.status.rank() <= known.rank() {
                continue;
            }
            states.insert(node_id, report.status);
            changes.push(NodeStatusChange {
                node_id: node_id.clone(),
                from: known,
                to: report.status,
                error: report.error.as_deref().map(text::error),
            });
        }
        if changes.is_empty() {
            return Ok(ReportAnswer { status: row.status, moved: 0 });
        }
        let moved = states.len() as u64;
        cx.emit::<Tasks>(miroir_id, NodeTaskStatusesObserved { changes, observed_at: cx.now() })?;
        Ok(ReportAnswer { status: recombine(cx, miroir_id)?.status, moved })
    }
}

fn not_terminal(row: &TaskRow) -> Result<(), Error> {
    if row.status.is_terminal() {
        return Err(Rejection::invalid(format!("task {} is {} already", row.miroir_id, row.status)).into());
    }
    Ok(())
}
