use std::{collections::BTreeMap, sync::Arc};

use tasklog_log::{Commit, Log, ManualClock, Position, READ_EVENTS_MAX};
use tasklog_projections::{AnyRow, TableDef, tables::tasks::TaskStatus};

use crate::{
    Config, Error,
    backend::MemoryBackend,
    command::{AnyCommand, CommandOptions},
    engine::{Engine, Request},
    tables::tasks::{NodeReport, Register, ReportNodeStatuses},
};

/// The instant at which recorded workloads happen, in ms.
const NOW_MS: i64 = 1_767_225_600_000;
/// Nodes of a task.
const NODES: [&str; 3] = ["meili-0", "meili-1", "meili-2"];
/// Events of one task's life.
pub(super) const TASK_EVENTS: u64 = 6;

/// A task's life, "task lifecycle": register with 3 node tasks, then a status report of each node; four commands, six
/// events.
pub(super) struct Life {
    pub(super) register: Register,
    pub(super) reports: [ReportNodeStatuses; 3],
}

impl Life {
    pub(super) fn new(id: &str, number: u64) -> Self {
        let node_tasks: BTreeMap<_, _> =
            NODES.iter().zip(0..).map(|(node, at)| ((*node).to_owned(), number * 3 + at)).collect();
        let register = Register {
            miroir_id: Some(id.into()),
            node_tasks,
            index_uid: Some("products".into()),
            ..Register::default()
        };
        let report = |nodes: &[(usize, TaskStatus)]| ReportNodeStatuses {
            miroir_id: id.into(),
            reports: nodes
                .iter()
                .map(|(node, status)| NodeReport { node_id: NODES[*node].into(), status: *status, error: None })
                .collect(),
        };
        let reports = [0, 1, 2].map(|node| report(&[(node, TaskStatus::Succeeded)]));
        Self { register, reports }
    }

    pub(super) fn commands(self) -> Vec<Box<dyn AnyCommand>> {
        let [a, b, c] = self.reports;
        vec![Box::new(self.register), Box::new(a), Box::new(b), Box::new(c)]
    }
}

/// The same life as lines for whoever is not in this process.
#[cfg(feature = "serve")]
pub(super) fn lines(id: &str, number: u64) -> Vec<String> {
    let node_tasks: BTreeMap<_, _> = NODES.iter().zip(0..).map(|(node, at)| (*node, number * 3 + at)).collect();
    let register = serde_json::json!({"command": "tasks.register", "args": {
        "miroir_id": id, "node_tasks": node_tasks, "index_uid": "products",
    }});
    let report = |node: &&str| {
        let reports = serde_json::json!([{"node_id": node, "status": "succeeded"}]);
        serde_json::json!({"command": "tasks.report_node_statuses", "args": {"miroir_id": id, "reports": reports}})
    };
    std::iter::once(register).chain(NODES.iter().map(report)).map(|line| line.to_string()).collect()
}

/// Ids as the product mints them.
pub(super) fn ids(count: usize) -> Vec<String> {
    (0..count).map(|_| format!("mtask-{}", uuid::Uuid::now_v7())).collect()
}

/// What one command writes: its commit, and the row as it leaves it.
pub(super) struct Written {
    pub(super) commit: Commit,
    pub(super) row: AnyRow,
}

/// Runs commands on one row in memory and keeps what every one writes.
pub(super) fn record_commands(
    table: &'static TableDef,
    key: &str,
    commands: impl Iterator<Item = Box<dyn AnyCommand>>,
) -> Result<Vec<Written>, Error> {
    let backend = MemoryBackend::new(Arc::new(ManualClock::at(NOW_MS)))?;
    let (log, view) = (backend.log.clone(), backend.view.clone());
    let mut engine = Engine::new(backend, Config::default(), "tasklog".into())?;
    let mut written = Vec::new();
    for command in commands {
        let reply = engine.execute(Request::one(command, CommandOptions::default()))?;
        let commit = log.read(reply.meta.position.before(), 1)?.into_iter().next();
        if let (Some(commit), Some(held)) = (commit, tasklog_projections::View::get(&view, table, key)?) {
            written.push(Written { commit, row: held.row });
        }
    }
    Ok(written)
}

/// Runs lives in memory and keeps what every command writes, so that the baseline can write exactly the same. The lives
/// are interleaved `width` at a time, as concurrent callers interleave them.
pub(super) fn record(ids: &[String], width: usize) -> Result<Vec<Written>, Error> {
    let backend = MemoryBackend::new(Arc::new(ManualClock::at(NOW_MS)))?;
    let (log, view) = (backend.log.clone(), backend.view.clone());
    let mut engine = Engine::new(backend, Config::default(), "tasklog".into())?;
    let mut written = Vec::with_capacity(ids.len() * 4);
    let mut after = Position::ZERO;
    for (group, chunk) in ids.chunks(width).enumerate() {
        let lives = chunk.iter().zip(0_u64..).map(|(id, at)| Life::new(id, (group * width) as u64 + at).commands());
        let mut lives: Vec<_> = lives.map(Vec::into_iter).collect();
        while let Some(step) = lives.iter_mut().map(Iterator::next).collect::<Option<Vec<_>>>() {
            for (id, command) in chunk.iter().zip(step) {
                engine.execute(Request::one(command, CommandOptions::default()))?;
                let held = tasklog_projections::View::get(&view, &tasklog_projections::tables::tasks::DEF, id)?;
                let commits = log.read(after, READ_EVENTS_MAX)?;
                if let (Some(commit), Some(held)) = (commits.into_iter().next(), held) {
                    after = commit.last();
                    written.push(Written { commit, row: held.row });
                }
            }
        }
    }
    Ok(written)
}
