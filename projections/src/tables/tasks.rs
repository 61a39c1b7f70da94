//! `tasks`: one row per client write.
//!
//! A task fans out to node tasks; nodes report their statuses one by one, and the row keeps both what each node said
//! and the combined status. The write side decides the combined status; this fold only checks that it moves forward.

use std::collections::BTreeMap;

use crate::{At, Impossible, Index, JsonMap, Table, TableDef, Tombstones, events, row, words};

words! {
    /// The status of a task, and of each of its node tasks.
    pub enum TaskStatus {
        /// accepted, not begun
        Enqueued = "enqueued",
        /// begun
        Processing = "processing",
        /// done
        Succeeded = "succeeded",
        /// ended with an error
        Failed = "failed",
        /// ended on request
        Canceled = "canceled",
    }
}

impl TaskStatus {
    /// Whether it is final.
    #[must_use]
    pub const fn is_terminal(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Canceled)
    }

    /// `enqueued` < `processing` < terminal: a status only moves to a higher rank.
    #[must_use]
    pub const fn rank(self) -> u8 {
        match self {
            Self::Enqueued => 0,
            Self::Processing => 1,
            Self::Succeeded | Self::Failed | Self::Canceled => 2,
        }
    }
}

row! {
    /// One client write.
    pub struct TaskRow {
        key {
            /// task id, normally `mtask-<uuid>`
            miroir_id: String,
        }
        /// ms: registration
        created_at: i64,
        /// combined status
        status: TaskStatus,
        /// node id -> node task UID
        node_tasks: JsonMap<u64>,
        /// failure detail; only with `failed`, or `canceled` with a reason
        error: Option<String>,
        /// node id -> status; a missing node counts as `enqueued`
        node_states: JsonMap<TaskStatus>,
        /// node id -> error text
        node_errors: JsonMap<String>,
        /// index of the write
        index_uid: Option<String>,
        /// kind of the write, as Meilisearch names it
        task_type: Option<String>,
        /// ms: first change to `processing`, `succeeded` or `failed`
        started_at: Option<i64>,
        /// ms: change to a terminal status
        finished_at: Option<i64>,
        /// ms: first request to cancel
        cancel_requested_at: Option<i64>,
    }
}

events! {
    /// What happens to tasks.
    pub enum TaskEvent {
        /// A client write was accepted.
        "task_registered" v1 => TaskRegistered {
            /// ms
            created_at: i64,
            /// node id -> node task UID
            node_tasks: BTreeMap<String, u64>,
            /// index of the write
            index_uid: Option<String>,
            /// kind of the write
            task_type: Option<String>,
            /// key under which a retry finds the task
            idempotency_key: Option<String>,
            /// groups that did not take the write
            degraded_groups: Option<Vec<i64>>,
        },
        /// A node accepted its part of the write.
        "node_task_attached" v1 => NodeTaskAttached {
            /// the node
            node_id: String,
            /// its number for the task
            task_uid: u64,
        },
        /// The dispatch to a node was repeated after a lost answer.
        "node_task_replaced" v1 => NodeTaskReplaced {
            /// the node
            node_id: String,
            /// the number that was attached
            old_uid: u64,
            /// the number that counts now
            new_uid: u64,
            /// why
            why: String,
        },
        /// Nodes reported statuses further along than known.
        "node_task_statuses_observed" v1 => NodeTaskStatusesObserved {
            /// one per node that moved
            changes: Vec<NodeStatusChange>,
            /// ms
            observed_at: i64,
        },
        /// The combined status moved.
        "task_status_changed" v1 => TaskStatusChanged {
            /// before
            from: TaskStatus,
            /// after
            to: TaskStatus,
            /// the row's error from now on
            error: Option<String>,
            /// the nodes whose statuses decided; empty if it was set directly
            deciding_nodes: Vec<String>,
            /// ms
            changed_at: i64,
        },
        /// Somebody asked to cancel.
        "task_cancel_requested" v1 => TaskCancelRequested {
            /// ms
            requested_at: i64,
        },
        /// An old finished task was removed.
        "task_pruned" v1 => TaskPruned {
            /// its last status
            status: TaskStatus,
            /// ms: its registration
            created_at: i64,
            /// ms: it was older than this
            cutoff_ms: i64,
        },
        /// A finished or unfinished task was taken over from a Meilisearch dump.
        "task_imported" v1 => TaskImported {
            /// ms: when Meilisearch enqueued it
            created_at: i64,
            /// its status there
            status: TaskStatus,
            /// the node whose queue it stood in
            node_id: String,
            /// its number there
            task_uid: u64,
            /// its error there
            error: Option<String>,
            /// its index
            index_uid: Option<String>,
            /// its kind
            task_type: Option<String>,
            /// ms
            started_at: Option<i64>,
            /// ms
            finished_at: Option<i64>,
        },
    }
}

/// One node's move.
#[serde_with::skip_serializing_none]
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
pub struct NodeStatusChange {
    /// the node
    pub node_id: String,
    /// before
    pub from: TaskStatus,
    /// after
    pub to: TaskStatus,
    /// what the node said of it
    pub error: Option<String>,
}

/// The table.
pub struct Tasks;

/// The table at run time.
pub static DEF: TableDef = TableDef::of::<Tasks>();

impl Table for Tasks {
    const NAME: &'static str = "tasks";
    const SCHEMA_VERSION: u32 = 1;
    const TOMBSTONES: Tombstones = Tombstones::Short;
    const INDEXES: &'static [Index] = &[
        Index::on("by_status", &["status", "created_at", "miroir_id"]),
        Index::on("by_created", &["created_at", "miroir_id"]),
    ];
    const KEY_PREFIX: &'static str = "tasks";
    type Row = TaskRow;
    type Event = TaskEvent;

    fn def() -> &'static TableDef {
        &DEF
    }

    fn evolve(row: Option<TaskRow>, event: TaskEvent, at: &At<'_>) -> Result<Option<TaskRow>, Impossible> {
        match event {
            TaskEvent::TaskRegistered(event) => registered(row, event, at),
            TaskEvent::TaskImported(event) => imported(row, event, at),
            TaskEvent::NodeTaskAttached(event) => {
                let mut row = row.ok_or_else(|| Impossible::no_row("node_task_attached"))?;
                row.node_states.insert(event.node_id.clone(), TaskStatus::Enqueued);
                row.node_tasks.insert(event.node_id, event.task_uid);
                Ok(Some(row))
            }
            TaskEvent::NodeTaskReplaced(event) => replaced(row, event),
            TaskEvent::NodeTaskStatusesObserved(event) => observed(row, event),
            TaskEvent::TaskStatusChanged(event) => status_changed(row, event),
            TaskEvent::TaskCancelRequested(event) => {
                let mut row = row.ok_or_else(|| Impossible::no_row("task_cancel_requested"))?;
                row.cancel_requested_at = Some(event.requested_at);
                Ok(Some(row))
            }
            TaskEvent::TaskPruned(_) => {
                let row = row.ok_or_else(|| Impossible::no_row("task_pruned"))?;
                if !row.status.is_terminal() {
                    return Err(Impossible(format!("task_pruned on a task that is {}", row.status)));
                }
                Ok(None)
            }
        }
    }
}

fn registered(row: Option<TaskRow>, event: TaskRegistered, at: &At<'_>) -> Result<Option<TaskRow>, Impossible> {
    if row.is_some() {
        return Err(Impossible::row_exists("task_registered"));
    }
    let node_states = event.node_tasks.keys().map(|node| (node.clone(), TaskStatus::Enqueued)).collect();
    Ok(Some(TaskRow {
        miroir_id: at.key.into(),
        created_at: event.created_at,
        status: TaskStatus::Enqueued,
        node_tasks: JsonMap(event.node_tasks),
        error: None,
        node_states: JsonMap(node_states),
        node_errors: JsonMap::default(),
        index_uid: event.index_uid,
        task_type: event.task_type,
        started_at: None,
        finished_at: None,
        cancel_requested_at: None,
    }))
}

fn imported(row: Option<TaskRow>, event: TaskImported, at: &At<'_>) -> Result<Option<TaskRow>, Impossible> {
    if row.is_some() {
        return Err(Impossible::row_exists("task_imported"));
    }
    let one = |status| JsonMap(BTreeMap::from([(event.node_id.clone(), status)]));
    let node_errors = event.error.iter().map(|error| (event.node_id.clone(), error.clone())).collect();
    Ok(Some(TaskRow {
        miroir_id: at.key.into(),
        created_at: event.created_at,
        status: event.status,
        node_tasks: JsonMap(BTreeMap::from([(event.node_id.clone(), event.task_uid)])),
        error: event.error,
        node_states: one(event.status),
        node_errors: JsonMap(node_errors),
        index_uid: event.index_uid,
        task_type: event.task_type,
        started_at: event.started_at,
        finished_at: event.finished_at,
        cancel_requested_at: None,
    }))
}

fn replaced(row: Option<TaskRow>, event: NodeTaskReplaced) -> Result<Option<TaskRow>, Impossible> {
    let mut row = row.ok_or_else(|| Impossible::no_row("node_task_replaced"))?;
    if row.node_tasks.get(&event.node_id) != Some(&event.old_uid) {
        return Err(Impossible(format!("node_task_replaced: node {} has no task {}", event.node_id, event.old_uid)));
    }
    row.node_errors.remove(&event.node_id);
    row.node_states.insert(event.node_id.clone(), TaskStatus::Enqueued);
    row.node_tasks.insert(event.node_id, event.new_uid);
    Ok(Some(row))
}

fn observed(row: Option<TaskRow>, event: NodeTaskStatusesObserved) -> Result<Option<TaskRow>, Impossible> {
    let mut row = row.ok_or_else(|| Impossible::no_row("node_task_statuses_observed"))?;
    for change in event.changes {
        if !row.node_tasks.contains_key(&change.node_id) {
            return Err(Impossible(format!("node_task_statuses_observed: node {} has no task here", change.node_id)));
        }
        if let Some(error) = change.error {
            row.node_errors.insert(change.node_id.clone(), error);
        }
        row.node_states.insert(change.node_id, change.to);
    }
    Ok(Some(row))
}

fn status_changed(row: Option<TaskRow>, event: TaskStatusChanged) -> Result<Option<TaskRow>, Impossible> {
    let mut row = row.ok_or_else(|| Impossible::no_row("task_status_changed"))?;
    if row.status != event.from || event.to.rank() <= event.from.rank() {
        let TaskStatusChanged { from, to, .. } = event;
        return Err(Impossible(format!("task_status_changed from {from} to {to} on a task that is {}", row.status)));
    }
    row.status = event.to;
    row.error = event.error;
    if event.to != TaskStatus::Canceled && row.started_at.is_none() {
        row.started_at = Some(event.changed_at);
    }
    if event.to.is_terminal() {
        row.finished_at = Some(event.changed_at);
    }
    Ok(Some(row))
}
