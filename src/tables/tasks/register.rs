//! How a task comes to be: a client's write is registered, or a node's task is taken over from a dump.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tasklog_log::Millis;
use tasklog_projections::tables::tasks::{TaskImported, TaskRegistered, TaskRow, TaskStatus, Tasks};

use crate::{
    command::Command,
    decision::Decision,
    rejection::{Error, Rejection},
    text,
};

/// Registers a client write as a task.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Register {
    /// The task id; minted as `mtask-<uuid>` if absent.
    pub miroir_id: Option<String>,
    /// Node id -> node task UID; may be empty before the dispatch.
    #[serde(deserialize_with = "text::unique_keys")]
    pub node_tasks: BTreeMap<String, u64>,
    /// Index of the write.
    pub index_uid: Option<String>,
    /// Kind of the write, as Meilisearch names it.
    pub task_type: Option<String>,
    /// Key under which a retry finds the task.
    pub idempotency_key: Option<String>,
    /// Groups that did not take the write.
    pub degraded_groups: Option<Vec<i64>>,
}

/// The task as registered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Registered {
    /// The task id.
    pub miroir_id: String,
    /// ms
    pub created_at: Millis,
}

impl Command for Register {
    const NAME: &'static str = "tasks.register";
    const ABOUT: &'static str = "Registers a client write as a task";
    type Answer = Registered;

    fn row(&self) -> Option<&str> {
        self.miroir_id.as_deref()
    }

    fn decide(&mut self, cx: &mut Decision<'_>) -> Result<Registered, Error> {
        let miroir_id = self.miroir_id.clone().unwrap_or_else(|| format!("mtask-{}", cx.mint_id()));
        text::key("miroir_id", &miroir_id)?;
        for node_id in self.node_tasks.keys() {
            text::key("node_tasks: node_id", node_id)?;
        }
        cx.subject::<Tasks>(&miroir_id);
        if let Some(row) = cx.get::<Tasks>(&miroir_id)? {
            if self.is_in(&row) {
                return Ok(Registered { miroir_id, created_at: row.created_at });
            }
            return Err(Rejection::already_exists(format!("task {miroir_id} exists with other content")).into());
        }
        let created_at = cx.now();
        let event = TaskRegistered {
            created_at,
            node_tasks: self.node_tasks.clone(),
            index_uid: self.index_uid.clone(),
            task_type: self.task_type.clone(),
            idempotency_key: self.idempotency_key.clone(),
            degraded_groups: self.degraded_groups.clone(),
        };
        cx.emit::<Tasks>(&miroir_id, event)?;
        Ok(Registered { miroir_id, created_at })
    }
}

impl Register {
    /// Whether every given value stands in the row already.
    fn is_in(&self, row: &TaskRow) -> bool {
        let given = |wanted: &Option<String>, held: &Option<String>| wanted.is_none() || wanted == held;
        self.node_tasks.iter().all(|(node, uid)| row.node_tasks.get(node) == Some(uid))
            && given(&self.index_uid, &row.index_uid)
            && given(&self.task_type, &row.task_type)
    }
}

/// Takes over one task of a Meilisearch node, as its dump holds it.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Import {
    /// The task id it gets here.
    pub miroir_id: String,
    /// The node whose queue it stood in.
    pub node_id: String,
    /// Its number there.
    pub task_uid: u64,
    /// Its status there.
    pub status: TaskStatus,
    /// ms: when it was enqueued there.
    pub created_at: Millis,
    /// Its error there.
    pub error: Option<String>,
    /// Its index.
    pub index_uid: Option<String>,
    /// Its kind.
    pub task_type: Option<String>,
    /// ms
    pub started_at: Option<Millis>,
    /// ms
    pub finished_at: Option<Millis>,
}

impl Command for Import {
    const NAME: &'static str = "tasks.import";
    const ABOUT: &'static str = "Takes over one task of a Meilisearch node, as its dump holds it";
    type Answer = Registered;

    fn decide(&mut self, cx: &mut Decision<'_>) -> Result<Registered, Error> {
        let Self { miroir_id, node_id, created_at, .. } = self.clone();
        text::key("miroir_id", &miroir_id)?;
        text::key("node_id", &node_id)?;
        text::instant("created_at", created_at)?;
        for (what, at) in [("started_at", self.started_at), ("finished_at", self.finished_at)] {
            at.map_or(Ok(()), |at| text::instant(what, at))?;
        }
        if self.finished_at.is_some() != self.status.is_terminal() {
            return Err(Rejection::invalid(format!(
                "task {miroir_id}: finished_at goes with a terminal status and only with one, status is {}",
                self.status
            ))
            .into());
        }
        if self.error.is_some() && !matches!(self.status, TaskStatus::Failed | TaskStatus::Canceled) {
            return Err(Rejection::invalid(format!("task {miroir_id}: status {} has no error", self.status)).into());
        }
        cx.subject::<Tasks>(&miroir_id);
        if let Some(row) = cx.get::<Tasks>(&miroir_id)? {
            let same = row.created_at == created_at && row.node_tasks.get(&node_id) == Some(&self.task_uid);
            if same {
                return Ok(Registered { miroir_id, created_at });
            }
            return Err(Rejection::already_exists(format!("task {miroir_id} exists with other content")).into());
        }
        let event = TaskImported {
            created_at,
            status: self.status,
            node_id,
            task_uid: self.task_uid,
            error: self.error.as_deref().map(text::error),
            index_uid: self.index_uid.clone(),
            task_type: self.task_type.clone(),
            started_at: self.started_at,
            finished_at: self.finished_at,
        };
        cx.emit::<Tasks>(&miroir_id, event)?;
        Ok(Registered { miroir_id, created_at })
    }
}
