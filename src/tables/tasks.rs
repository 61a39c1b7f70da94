//! `tasks`: what clients and pollers may do to a task.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::{Bound, ControlFlow},
};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tasklog_log::Millis;
use tasklog_projections::{
    Cell, Found, Scan,
    tables::tasks::{
        DEF, NodeStatusChange, NodeTaskAttached, NodeTaskReplaced, NodeTaskStatusesObserved, TaskCancelRequested,
        TaskImported, TaskPruned, TaskRegistered, TaskRow, TaskStatus, TaskStatusChanged, Tasks,
    },
};

use crate::{
    command::Command,
    decision::Decision,
    meters,
    query::{Query, Reader},
    rejection::{Error, Rejection},
    tables::side,
    text,
};

side! {
    /// `tasks`
    pub struct TasksHandle for DEF as tasks {
        commands {
            register(Register),
            attach_node_task(AttachNodeTask),
            replace_node_task(ReplaceNodeTask),
            report_node_statuses(ReportNodeStatuses),
            set_status(SetStatus),
            cancel(Cancel),
            prune(Prune),
            import(Import),
        }
        queries {
            get(Get),
            count(Count),
            list(List),
            unfinished(Unfinished),
            oldest_processing(OldestProcessing),
            prunable(Prunable),
        }
    }
}

/// The default and the largest number of rows a chunked command works on.
pub const PRUNE_LIMIT: u64 = 10_000;

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

/// The task's combined status after the command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StatusAnswer {
    /// The combined status.
    pub status: TaskStatus,
}

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

/// Removes old finished tasks.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Prune {
    /// ms: only tasks registered before this; 7 days ago by default.
    pub cutoff_ms: Option<Millis>,
    /// Only these; others are skipped.
    pub miroir_ids: Option<Vec<String>>,
    /// At most this many; 10,000 by default.
    pub limit: Option<u64>,
    /// How many are gone already.
    #[serde(skip)]
    #[doc(hidden)]
    pub pruned: u64,
}

/// The outcome of a prune.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Pruned {
    /// How many tasks are gone.
    pub pruned: u64,
    /// Whether work is left.
    pub more: bool,
}

impl Command for Prune {
    const NAME: &'static str = "tasks.prune";
    const ABOUT: &'static str = "Removes old finished tasks";
    const CHUNKED: bool = true;
    type Answer = Pruned;

    fn decide(&mut self, cx: &mut Decision<'_>) -> Result<Pruned, Error> {
        // Fixed at the first round, so that a long prune does not chase the clock.
        let cutoff_ms = *self.cutoff_ms.get_or_insert(cx.now() - cx.config().task_ttl_ms);
        let left = self.limit.unwrap_or(PRUNE_LIMIT).saturating_sub(self.pruned);
        let room = usize::try_from(left).unwrap_or(usize::MAX).min(cx.room());
        // One more than there is room for tells whether work is left.
        let mut victims = match &mut self.miroir_ids {
            Some(ids) => named_victims(cx, ids, cutoff_ms, room)?,
            None => prunable(cutoff_ms, room + 1, |scan| {
                Ok(cx.scan::<Tasks>(scan)?.iter().map(|row| (**row).clone()).collect())
            })?,
        };
        let more = victims.len() > room;
        victims.truncate(room);
        for TaskRow { miroir_id, status, created_at, .. } in victims {
            cx.emit::<Tasks>(&miroir_id, TaskPruned { status, created_at, cutoff_ms })?;
            self.pruned += 1;
        }
        if more && self.pruned < self.limit.unwrap_or(PRUNE_LIMIT) {
            cx.more();
        }
        Ok(Pruned { pruned: self.pruned, more })
    }
}

/// Takes qualifying tasks off the list of ids, up to one more than there is room for, which stays on it.
fn named_victims(
    cx: &mut Decision<'_>,
    ids: &mut Vec<String>,
    cutoff_ms: Millis,
    room: usize,
) -> Result<Vec<TaskRow>, Error> {
    let mut victims = Vec::new();
    let mut seen = BTreeSet::new();
    while let Some(id) = ids.last() {
        let row = cx.get::<Tasks>(id)?.filter(|row| row.status.is_terminal() && row.created_at < cutoff_ms);
        if let Some(row) = row.filter(|row| seen.insert(row.miroir_id.clone())) {
            victims.push((*row).clone());
            if victims.len() > room {
                break;
            }
        }
        ids.pop();
    }
    Ok(victims)
}

/// Finished tasks registered before `cutoff_ms`, oldest first within each status.
fn prunable(
    cutoff_ms: Millis,
    limit: usize,
    mut scan: impl FnMut(&Scan<'_>) -> Result<Vec<TaskRow>, Error>,
) -> Result<Vec<TaskRow>, Error> {
    let mut rows = Vec::new();
    for status in [TaskStatus::Succeeded, TaskStatus::Failed, TaskStatus::Canceled] {
        let mut page =
            Scan::equal("by_status", [Cell::from(status.as_str())]).to(Bound::Excluded(vec![Cell::Integer(cutoff_ms)]));
        while rows.len() < limit {
            page = page.limit(limit - rows.len());
            let found = scan(&page)?;
            let full = found.len() == page.limit;
            rows.extend(found);
            let Some(last) = rows.last().filter(|_| full) else { break };
            page = page.after(vec![Cell::Integer(last.created_at), Cell::Text(last.miroir_id.clone().into())]);
        }
    }
    Ok(rows)
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

fn existing(cx: &mut Decision<'_>, miroir_id: &str) -> Result<std::sync::Arc<TaskRow>, Error> {
    cx.subject::<Tasks>(miroir_id);
    let row = cx.get::<Tasks>(miroir_id)?;
    Ok(row.ok_or_else(|| Rejection::not_found(format!("no task {miroir_id}")))?)
}

fn not_terminal(row: &TaskRow) -> Result<(), Error> {
    if row.status.is_terminal() {
        return Err(Rejection::invalid(format!("task {} is {} already", row.miroir_id, row.status)).into());
    }
    Ok(())
}

fn node_status(row: &TaskRow, node_id: &str) -> TaskStatus {
    row.node_states.get(node_id).copied().unwrap_or(TaskStatus::Enqueued)
}

/// Moves the task to the combined status of its nodes, if that is further along.
fn recombine(cx: &mut Decision<'_>, miroir_id: &str) -> Result<StatusAnswer, Error> {
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
        cx.note(meters::Count::TaskEnded {
            status: to,
            processed_ms: started_at.map(|started_at| cx.now() - started_at),
        });
    }
    Ok(())
}

/// One task by its id.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Get {
    /// The task.
    pub miroir_id: String,
}

impl Query for Get {
    const NAME: &'static str = "tasks.get";
    const ABOUT: &'static str = "One task by its id";
    type Answer = Option<Found<TaskRow>>;

    fn answer(&self, read: &Reader<'_>) -> Result<Self::Answer, Error> {
        read.get::<Tasks>(&self.miroir_id)
    }
}

/// How many tasks there are.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Count {}

impl Query for Count {
    const NAME: &'static str = "tasks.count";
    const ABOUT: &'static str = "How many tasks there are";
    type Answer = u64;

    fn answer(&self, read: &Reader<'_>) -> Result<u64, Error> {
        read.count::<Tasks>(&Scan::all("pk"))
    }
}

/// Tasks, newest first: by `created_at`, then by id, both descending.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct List {
    /// Only this status.
    pub status: Option<TaskStatus>,
    /// Only tasks with a node task on this node.
    pub node_id: Option<String>,
    /// Only this index.
    pub index_uid: Option<String>,
    /// At most this many; all if absent.
    pub limit: Option<usize>,
    /// Skip this many.
    pub offset: Option<usize>,
}

impl Query for List {
    const NAME: &'static str = "tasks.list";
    const ABOUT: &'static str = "Tasks, newest first";
    type Answer = Vec<Found<TaskRow>>;

    fn answer(&self, read: &Reader<'_>) -> Result<Self::Answer, Error> {
        let Self { status, node_id, index_uid, limit, offset } = self;
        let mut rows = Vec::new();
        if *limit == Some(0) {
            return Ok(rows);
        }
        let mut skip = offset.unwrap_or(0);
        let scan = match status {
            Some(status) => Scan::equal("by_status", [Cell::from(status.as_str())]),
            None => Scan::all("by_created"),
        };
        let page = limit.map_or(usize::MAX, |limit| limit.saturating_add(skip));
        read.walk::<Tasks>(scan.descending().limit(page), |row| {
            let wanted = node_id.as_ref().is_none_or(|node| row.node_tasks.contains_key(node))
                && (index_uid.is_none() || row.index_uid == *index_uid);
            if !wanted {
                return ControlFlow::Continue(());
            }
            if skip > 0 {
                skip -= 1;
                return ControlFlow::Continue(());
            }
            rows.push(row);
            if Some(rows.len()) == *limit { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        Ok(rows)
    }
}

/// Tasks that are not finished, for the poller: processing ones, then enqueued ones, oldest first within each.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Unfinished {
    /// At most this many; all if absent.
    pub limit: Option<usize>,
    /// Go on after this task of the last page.
    pub after: Option<String>,
}

impl Query for Unfinished {
    const NAME: &'static str = "tasks.unfinished";
    const ABOUT: &'static str = "Tasks that are not finished: processing, then enqueued, oldest first";
    type Answer = Vec<Found<TaskRow>>;

    fn answer(&self, read: &Reader<'_>) -> Result<Self::Answer, Error> {
        let after = match &self.after {
            Some(id) => {
                let row = read.get::<Tasks>(id)?;
                Some(row.ok_or_else(|| Rejection::not_found(format!("after: no task {id}")))?)
            }
            None => None,
        };
        let mut rows = Vec::new();
        for status in [TaskStatus::Processing, TaskStatus::Enqueued] {
            let mut scan = Scan::equal("by_status", [Cell::from(status.as_str())]);
            if let Some(after) = &after {
                if after.status == TaskStatus::Enqueued && status == TaskStatus::Processing {
                    continue;
                }
                // A task that was finished meanwhile stood among the processing ones.
                let stood = if after.status == TaskStatus::Enqueued { after.status } else { TaskStatus::Processing };
                if stood == status {
                    scan = scan.after(vec![Cell::Integer(after.created_at), Cell::from(&*after.miroir_id)]);
                }
            }
            rows.extend(read.list::<Tasks>(scan, self.limit.map(|limit| limit - rows.len()))?);
        }
        Ok(rows)
    }
}

/// The task that has been processing for longest.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OldestProcessing {}

impl Query for OldestProcessing {
    const NAME: &'static str = "tasks.oldest_processing";
    const ABOUT: &'static str = "The oldest task that is processing";
    type Answer = Option<Found<TaskRow>>;

    fn answer(&self, read: &Reader<'_>) -> Result<Self::Answer, Error> {
        let scan = Scan::equal("by_status", [Cell::from(TaskStatus::Processing.as_str())]);
        Ok(read.list::<Tasks>(scan, Some(1))?.pop())
    }
}

/// Finished tasks that a prune with this cutoff would take.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Prunable {
    /// ms: registered before this.
    pub cutoff_ms: Millis,
    /// At most this many.
    pub limit: usize,
}

impl Query for Prunable {
    const NAME: &'static str = "tasks.prunable";
    const ABOUT: &'static str = "Finished tasks that a prune with this cutoff would take";
    type Answer = Vec<Found<TaskRow>>;

    fn answer(&self, read: &Reader<'_>) -> Result<Self::Answer, Error> {
        let mut rows = Vec::new();
        for status in [TaskStatus::Succeeded, TaskStatus::Failed, TaskStatus::Canceled] {
            let scan = Scan::equal("by_status", [Cell::from(status.as_str())])
                .to(Bound::Excluded(vec![Cell::Integer(self.cutoff_ms)]));
            rows.extend(read.list::<Tasks>(scan, Some(self.limit - rows.len()))?);
        }
        Ok(rows)
    }
}
