//! Removing old finished jobs.
//!
//! The command and the duty that calls it choose by one function, so that the duty is due exactly when the command would
//! remove something. Chunks of a parent that has not ended stay, and there may be many of them in front of what may go: a
//! look passes by a bounded number of them, and the next one goes on from there.

use std::{collections::BTreeMap, ops::Bound, sync::Arc};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tasklog_log::Millis;
use tasklog_projections::{
    Cell, PAGE_ROWS_MAX, Scan,
    tables::jobs::{JobPurged, JobRow, Jobs},
};

use super::{CHUNK_LIMIT, room};
use crate::{command::Command, decision::Decision, rejection::Error};

/// Rows that one look meets, and so the most that one commit of a purge rests on.
pub(super) const LOOK_ROWS_MAX: usize = 5 * PAGE_ROWS_MAX;

/// When a job finished, and its id: where it stands among the finished ones.
type Place = (Millis, String);

/// Removes old finished jobs.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Purge {
    /// ms: only jobs that finished before this; `jobs.ttl_seconds` ago by default.
    pub cutoff_ms: Option<Millis>,
    /// At most this many; 10,000 by default.
    pub limit: Option<u64>,
    /// How many are gone already.
    #[serde(skip)]
    #[doc(hidden)]
    pub purged: u64,
    /// The last row looked at: when it finished, and its id.
    #[serde(skip)]
    #[doc(hidden)]
    pub after: Option<Place>,
}

/// The outcome of a purge.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PurgeAnswer {
    /// How many jobs are gone.
    pub purged: u64,
    /// Whether work is left.
    pub more: bool,
    /// Where a further purge goes on if work is left.
    #[serde(skip)]
    #[doc(hidden)]
    pub after: Option<Place>,
}

impl Command for Purge {
    const NAME: &'static str = "jobs.purge";
    const ABOUT: &'static str = "Removes old finished jobs";
    const CHUNKED: bool = true;
    type Answer = PurgeAnswer;

    fn decide(&mut self, cx: &mut Decision<'_>) -> Result<PurgeAnswer, Error> {
        // Fixed at the first round, so that a long purge does not chase the clock.
        let cutoff_ms = *self.cutoff_ms.get_or_insert(cx.now() - cx.config().job_ttl_ms);
        let limit = self.limit.unwrap_or(CHUNK_LIMIT);
        let room = room(cx, limit - self.purged);
        // One more than there is room for tells whether work is left.
        let look = purgeable(cx, cutoff_ms, self.after.take(), room + 1)?;
        let more = look.found.len() > room;
        for row in look.found.into_iter().take(room) {
            let finished_at = row.finished_at.unwrap_or_default();
            cx.emit::<Jobs>(&row.id, JobPurged { state: row.state, finished_at, cutoff_ms })?;
            self.purged += 1;
        }
        self.after = look.place;
        // At the limit, too, a look that has not met its end does not know whether work is left.
        let goes_on = if more { self.purged < limit } else { !look.ended };
        if goes_on {
            cx.more();
        }
        Ok(PurgeAnswer { purged: self.purged, more, after: self.after.clone() })
    }
}

/// What jobs are read by: a decision, whose commit then rests on them, or a query.
pub(super) trait ReadJobs {
    /// A page of jobs.
    fn page(&mut self, scan: Scan<'_>) -> Result<Vec<Arc<JobRow>>, Error>;
    /// One job.
    fn job(&mut self, id: &str) -> Result<Option<Arc<JobRow>>, Error>;
}

impl ReadJobs for Decision<'_> {
    fn page(&mut self, scan: Scan<'_>) -> Result<Vec<Arc<JobRow>>, Error> {
        self.scan::<Jobs>(&scan)
    }

    fn job(&mut self, id: &str) -> Result<Option<Arc<JobRow>>, Error> {
        self.get::<Jobs>(id)
    }
}

/// What a look at old finished jobs has met.
pub(super) struct Look {
    /// Those that may go, the oldest end first.
    pub found: Vec<Arc<JobRow>>,
    /// The last job that a further look need not meet again: if as many were found as wanted, the last of them does not
    /// count as met.
    pub place: Option<Place>,
    /// Whether there is no further old finished job.
    pub ended: bool,
}

/// Up to `wanted` (at least 1) jobs that finished before `cutoff_ms` and whose parent does not need them any more, beyond
/// `place`.
pub(super) fn purgeable(
    jobs: &mut impl ReadJobs,
    cutoff_ms: Millis,
    mut place: Option<Place>,
    wanted: usize,
) -> Result<Look, Error> {
    let mut found = Vec::new();
    // Many chunks have one parent.
    let mut needed_by = BTreeMap::new();
    let mut looked = 0;
    while looked < LOOK_ROWS_MAX {
        // As many again as were passed by.
        let limit = wanted.max(looked).min(PAGE_ROWS_MAX).min(LOOK_ROWS_MAX - looked);
        let mut scan = Scan::all("by_finished").to(Bound::Excluded(vec![Cell::Integer(cutoff_ms)])).limit(limit);
        if let Some((finished_at, id)) = place.clone() {
            scan = scan.after(vec![Cell::Integer(finished_at), Cell::Text(id.into())]);
        }
        let page = jobs.page(scan)?;
        let full = page.len() == limit;
        looked += page.len();
        for row in page {
            let met = (row.finished_at.unwrap_or_default(), row.id.clone());
            if !is_needed(jobs, &row, &mut needed_by)? {
                found.push(row);
                if found.len() == wanted {
                    return Ok(Look { found, place, ended: false });
                }
            }
            place = Some(met);
        }
        if !full {
            return Ok(Look { found, place, ended: true });
        }
    }
    Ok(Look { found, place, ended: false })
}

/// Whether it is a chunk of a job that has not ended: settling counts it.
fn is_needed(jobs: &mut impl ReadJobs, row: &JobRow, needed_by: &mut BTreeMap<String, bool>) -> Result<bool, Error> {
    let Some(parent_id) = &row.parent_id else { return Ok(false) };
    if let Some(needed) = needed_by.get(parent_id) {
        return Ok(*needed);
    }
    let needed = jobs.job(parent_id)?.is_some_and(|parent| !parent.state.is_terminal());
    needed_by.insert(parent_id.clone(), needed);
    Ok(needed)
}
