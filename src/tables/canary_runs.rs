//! `canary_runs`: recording runs and keeping each canary's history within its bound.

use std::{
    ops::{Bound, ControlFlow},
    sync::Arc,
};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tasklog_log::Millis;
use tasklog_projections::{
    Cell, Found, Json, Row, Scan,
    tables::{
        canaries::Canaries,
        canary_runs::{CanaryRunDropped, CanaryRunRecorded, CanaryRunRow, CanaryRuns, DEF, DropReason, RunStatus},
    },
};

use crate::{
    command::Command,
    decision::Decision,
    meters::Count,
    query::{Query, Reader},
    rejection::{Error, Rejection},
    tables::{canaries::no_canary, side},
    text,
};

side! {
    /// `canary_runs`
    pub struct CanaryRunsHandle for DEF as canary_runs {
        commands {
            record(Record),
            prune(Prune),
        }
        queries {
            list(List),
            counts(Counts),
            last_failure(LastFailure),
        }
    }
}

/// The default number of runs that a prune works on.
pub const PRUNE_LIMIT: u64 = 10_000;

/// Records a run.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// The canary.
    pub canary_id: String,
    /// ms: start of the run.
    pub ran_at: Millis,
    /// How it ended.
    pub status: RunStatus,
    /// ms: measured.
    pub latency_ms: i64,
    /// Failed assertions with observed values: none for a pass, a non-empty array for a fail, either for an error.
    pub failed_assertions_json: Option<Json>,
    /// Who ran it; for the log only.
    pub runner_pod: Option<String>,
}

/// What became of a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Recorded {
    /// False if newer runs fill the history.
    pub kept: bool,
    /// How many older runs went.
    pub dropped: u64,
}

impl Command for Record {
    const NAME: &'static str = "canary_runs.record";
    const ABOUT: &'static str = "Records a canary's run and drops runs beyond the history";
    type Answer = Recorded;

    fn decide(&mut self, cx: &mut Decision<'_>) -> Result<Recorded, Error> {
        self.check()?;
        let Self { canary_id, ran_at, .. } = self;
        let Some(canary) = cx.get::<Canaries>(canary_id)? else {
            return Err(no_canary(canary_id));
        };
        let key = tasklog_projections::pair(canary_id, &ran_at.to_string());
        cx.subject::<CanaryRuns>(&key);
        if let Some(row) = cx.get::<CanaryRuns>(&key)? {
            if self.is_in(&row) {
                return Ok(Recorded { kept: true, dropped: 0 });
            }
            return Err(Rejection::already_exists(format!("canary run {key} exists with other content")).into());
        }
        let history_limit = cx.config().canary_history;
        let limit = history_limit as usize;
        let runs = newest(cx, canary_id, tasklog_projections::PAGE_ROWS_MAX)?;
        let newer = runs.iter().take_while(|run| run.ran_at > *ran_at).count();
        let kept = newer < limit;
        let stay = if kept { limit - 1 } else { limit };
        if kept {
            cx.emit::<CanaryRuns>(&key, self.event(history_limit))?;
            cx.note(Count::CanaryRan {
                canary: canary.name.clone(),
                result: self.status,
                latency_ms: self.latency_ms,
                failed: self.failed_assertions_json.clone(),
            });
        }
        // The oldest go first, so that what stays is the newest even where a commit has no room for all victims.
        let victims = runs.iter().skip(stay).rev().take(cx.room());
        let dropped = drop_runs(cx, victims, DropReason::Limit)?;
        Ok(Recorded { kept, dropped })
    }
}

impl Record {
    fn check(&self) -> Result<(), Rejection> {
        text::key("canary_id", &self.canary_id)?;
        text::instant("ran_at", self.ran_at)?;
        text::at_least("latency_ms", 0, self.latency_ms)?;
        let failed = self.failed_assertions_json.as_ref();
        failed.map_or(Ok(()), |json| text::bounded("failed_assertions_json", json))?;
        if self.status.allows(failed) {
            return Ok(());
        }
        Err(Rejection::invalid(format!(
            "failed_assertions_json: null for pass, a non-empty array for fail, either for error; found {:.40} for {}",
            failed.map_or("null", Json::as_str),
            self.status
        )))
    }

    /// Whether the row has the same content.
    fn is_in(&self, row: &CanaryRunRow) -> bool {
        let same = match (&self.failed_assertions_json, &row.failed_assertions_json) {
            (Some(given), Some(held)) => given.same_content(held),
            (given, held) => given == held,
        };
        same && self.status == row.status && self.latency_ms == row.latency_ms
    }

    fn event(&self, history_limit: u32) -> CanaryRunRecorded {
        CanaryRunRecorded {
            status: self.status,
            latency_ms: self.latency_ms,
            failed_assertions_json: self.failed_assertions_json.clone(),
            history_limit,
            runner_pod: self.runner_pod.clone(),
        }
    }
}

/// Drops old runs of all canaries.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Prune {
    /// ms: runs that began before this.
    pub cutoff_ms: Millis,
    /// At most this many; 10,000 if absent.
    pub limit: Option<u64>,
    /// How many are gone already.
    #[serde(skip)]
    #[doc(hidden)]
    pub dropped: u64,
    /// The last canary without old runs, in key order.
    #[serde(skip)]
    #[doc(hidden)]
    pub done: Option<String>,
}

impl Prune {
    /// Drops up to `limit` runs that began before `cutoff_ms`.
    #[must_use]
    pub fn new(cutoff_ms: Millis, limit: Option<u64>) -> Self {
        Self { cutoff_ms, limit, dropped: 0, done: None }
    }

    /// Old runs, canary by canary, from the first canary that may have some. Skips along the primary key from canary to
    /// canary, so that young runs are not looked at.
    fn victims(&mut self, cx: &mut Decision<'_>, limit: usize) -> Result<Vec<Arc<CanaryRunRow>>, Error> {
        let mut victims = Vec::new();
        while victims.len() < limit {
            let mut oldest = Scan::all("pk").limit(1);
            if let Some(done) = &self.done {
                oldest = oldest.after(vec![Cell::from(&**done)]);
            }
            let Some(canary_id) = cx.scan::<CanaryRuns>(&oldest)?.pop().map(|run| run.canary_id.clone()) else {
                break;
            };
            if self.victims_of(cx, &canary_id, limit, &mut victims)? {
                self.done = Some(canary_id);
            }
        }
        Ok(victims)
    }

    /// Old runs of one canary; whether that is all of them.
    fn victims_of(
        &self,
        cx: &mut Decision<'_>,
        canary_id: &str,
        limit: usize,
        victims: &mut Vec<Arc<CanaryRunRow>>,
    ) -> Result<bool, Error> {
        let old = Bound::Excluded(vec![Cell::Integer(self.cutoff_ms)]);
        let mut page = Scan::equal("pk", [Cell::from(canary_id)]).to(old);
        while victims.len() < limit {
            page = page.limit(limit - victims.len());
            let found = cx.scan::<CanaryRuns>(&page)?;
            let full = found.len() == page.limit;
            victims.extend(found);
            let Some(last) = victims.last().filter(|_| full) else { return Ok(true) };
            page = page.after(vec![Cell::Integer(last.ran_at)]);
        }
        Ok(false)
    }
}

/// The outcome of a prune.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Pruned {
    /// How many runs are gone.
    pub dropped: u64,
    /// Whether work is left.
    pub more: bool,
}

impl Command for Prune {
    const NAME: &'static str = "canary_runs.prune";
    const ABOUT: &'static str = "Drops old runs of all canaries";
    const CHUNKED: bool = true;
    type Answer = Pruned;

    fn decide(&mut self, cx: &mut Decision<'_>) -> Result<Pruned, Error> {
        text::instant("cutoff_ms", self.cutoff_ms)?;
        let limit = self.limit.unwrap_or(PRUNE_LIMIT);
        let room = cx.room_for(limit.saturating_sub(self.dropped));
        // One more than there is room for tells whether work is left.
        let mut victims = self.victims(cx, room + 1)?;
        let more = victims.len() > room;
        victims.truncate(room);
        self.dropped += drop_runs(cx, &victims, DropReason::Age)?;
        if more && self.dropped < limit {
            cx.more();
        }
        Ok(Pruned { dropped: self.dropped, more })
    }
}

/// Drops the runs of one canary that this commit has room for; how many.
pub(super) fn drop_all(cx: &mut Decision<'_>, canary_id: &str, why: DropReason) -> Result<u64, Error> {
    let room = cx.room();
    let runs = newest(cx, canary_id, room)?;
    drop_runs(cx, &runs, why)
}

fn drop_runs<'r>(
    cx: &mut Decision<'_>,
    runs: impl IntoIterator<Item = &'r Arc<CanaryRunRow>>,
    why: DropReason,
) -> Result<u64, Error> {
    let mut dropped = 0;
    for run in runs {
        cx.emit::<CanaryRuns>(&run.key(), CanaryRunDropped { why })?;
        dropped += 1;
    }
    Ok(dropped)
}

/// The newest runs of one canary, at most one page of them.
fn newest(cx: &mut Decision<'_>, canary_id: &str, limit: usize) -> Result<Vec<Arc<CanaryRunRow>>, Error> {
    cx.scan::<CanaryRuns>(&Scan::equal("pk", [Cell::from(canary_id)]).descending().limit(limit))
}

/// Meets a canary's runs, newest first, until `meet` breaks. Runs whose canary does not live are hidden.
fn walk(
    read: &Reader<'_>,
    canary_id: &str,
    meet: impl FnMut(Found<CanaryRunRow>) -> ControlFlow<()>,
) -> Result<(), Error> {
    if read.get::<Canaries>(canary_id)?.is_none() {
        return Ok(());
    }
    read.walk::<CanaryRuns>(Scan::equal("pk", [Cell::from(canary_id)]).descending(), meet)
}

/// A canary's runs, newest first.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct List {
    /// The canary.
    pub canary_id: String,
    /// At most this many; all if absent.
    pub limit: Option<usize>,
}

impl Query for List {
    const NAME: &'static str = "canary_runs.list";
    const ABOUT: &'static str = "A canary's runs, newest first";
    type Answer = Vec<Found<CanaryRunRow>>;

    fn answer(&self, read: &Reader<'_>) -> Result<Self::Answer, Error> {
        let mut runs = Vec::new();
        if self.limit == Some(0) {
            return Ok(runs);
        }
        walk(read, &self.canary_id, |run| {
            runs.push(run);
            if Some(runs.len()) == self.limit { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        Ok(runs)
    }
}

/// How many runs of a canary ended how.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Counts {
    /// The canary.
    pub canary_id: String,
}

/// Runs by status.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StatusCounts {
    /// Runs in which every assertion held.
    pub pass: u64,
    /// Runs in which at least one did not.
    pub fail: u64,
    /// Runs that could not judge.
    pub error: u64,
}

impl Query for Counts {
    const NAME: &'static str = "canary_runs.counts";
    const ABOUT: &'static str = "How many runs of a canary ended how";
    type Answer = StatusCounts;

    fn answer(&self, read: &Reader<'_>) -> Result<StatusCounts, Error> {
        let mut counts = StatusCounts::default();
        walk(read, &self.canary_id, |run| {
            match run.status {
                RunStatus::Pass => counts.pass += 1,
                RunStatus::Fail => counts.fail += 1,
                RunStatus::Error => counts.error += 1,
            }
            ControlFlow::Continue(())
        })?;
        Ok(counts)
    }
}

/// A canary's newest run with status `fail`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LastFailure {
    /// The canary.
    pub canary_id: String,
}

impl Query for LastFailure {
    const NAME: &'static str = "canary_runs.last_failure";
    const ABOUT: &'static str = "A canary's newest failed run";
    type Answer = Option<Found<CanaryRunRow>>;

    fn answer(&self, read: &Reader<'_>) -> Result<Self::Answer, Error> {
        let mut last = None;
        walk(read, &self.canary_id, |run| {
            if run.status != RunStatus::Fail {
                return ControlFlow::Continue(());
            }
            last = Some(run);
            ControlFlow::Break(())
        })?;
        Ok(last)
    }
}

#[cfg(test)]
#[path = "canary_runs_tests.rs"]
mod tests;
