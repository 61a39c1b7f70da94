//! How finished tasks go once they are old.

use std::{collections::BTreeSet, ops::Bound, sync::Arc};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tasklog_log::Millis;
use tasklog_projections::{
    Cell, Scan,
    tables::tasks::{TaskPruned, TaskRow, TaskStatus, Tasks},
};

use crate::{command::Command, decision::Decision, rejection::Error};

/// How many tasks a prune removes unless it is told otherwise.
pub const PRUNE_LIMIT: u64 = 10_000;

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
        let limit = self.limit.unwrap_or(PRUNE_LIMIT);
        let room = cx.room_for(limit.saturating_sub(self.pruned));
        // One more than there is room for tells whether work is left.
        let mut victims = match &mut self.miroir_ids {
            Some(ids) => named_victims(cx, ids, cutoff_ms, room)?,
            None => oldest_victims(cx, cutoff_ms, room + 1)?,
        };
        let more = victims.len() > room;
        victims.truncate(room);
        for row in victims {
            let TaskRow { miroir_id, status, created_at, .. } = &*row;
            cx.emit::<Tasks>(miroir_id, TaskPruned { status: *status, created_at: *created_at, cutoff_ms })?;
            self.pruned += 1;
        }
        if more && self.pruned < limit {
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
) -> Result<Vec<Arc<TaskRow>>, Error> {
    let mut victims = Vec::new();
    let mut seen = BTreeSet::new();
    while let Some(id) = ids.last() {
        let row = cx.get::<Tasks>(id)?.filter(|row| row.status.is_terminal() && row.created_at < cutoff_ms);
        if let Some(row) = row.filter(|row| seen.insert(row.miroir_id.clone())) {
            victims.push(row);
            if victims.len() > room {
                break;
            }
        }
        ids.pop();
    }
    Ok(victims)
}

/// Up to `limit` finished tasks registered before `cutoff_ms`.
fn oldest_victims(cx: &mut Decision<'_>, cutoff_ms: Millis, limit: usize) -> Result<Vec<Arc<TaskRow>>, Error> {
    let mut victims: Vec<Arc<TaskRow>> = Vec::new();
    for mut scan in prunable_scans(cutoff_ms) {
        while victims.len() < limit {
            scan = scan.limit(limit - victims.len());
            let page = cx.scan::<Tasks>(&scan)?;
            let full = page.len() == scan.limit;
            victims.extend(page);
            let Some(last) = victims.last().filter(|_| full) else { break };
            scan = scan.after(vec![Cell::Integer(last.created_at), Cell::Text(last.miroir_id.clone().into())]);
        }
    }
    Ok(victims)
}

/// Where finished tasks stand that were registered before `cutoff_ms`: one scan for each status, oldest first.
pub(super) fn prunable_scans(cutoff_ms: Millis) -> [Scan<'static>; 3] {
    [TaskStatus::Succeeded, TaskStatus::Failed, TaskStatus::Canceled].map(|status| {
        Scan::equal("by_status", [Cell::from(status.as_str())]).to(Bound::Excluded(vec![Cell::Integer(cutoff_ms)]))
    })
}
