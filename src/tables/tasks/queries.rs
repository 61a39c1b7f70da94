//! What can be asked about tasks.

use std::ops::ControlFlow;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tasklog_log::Millis;
use tasklog_projections::{
    Cell, Found, Scan,
    tables::tasks::{TaskRow, TaskStatus, Tasks},
};

use super::prune::prunable_scans;
use crate::{
    query::{Query, Reader},
    rejection::{Error, Rejection},
};

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
        for scan in prunable_scans(self.cutoff_ms) {
            rows.extend(read.list::<Tasks>(scan, Some(self.limit - rows.len()))?);
        }
        Ok(rows)
    }
}
