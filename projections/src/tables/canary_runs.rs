//! `canary_runs`: how each canary did, newest runs only.
//!
//! The write side chooses which runs no longer fit the history and drops them one event a row, so that a changed limit
//! never changes a replay.

use crate::{At, Impossible, Json, KeyPart, Table, TableDef, Tombstones, events, row, split_pair, words};

words! {
    /// How a run ended.
    pub enum RunStatus {
        /// every assertion held
        Pass = "pass",
        /// at least one assertion did not hold
        Fail = "fail",
        /// the run could not judge
        Error = "error",
    }
}

impl RunStatus {
    /// Whether a run of this status may carry these failed assertions: none for a pass, a non-empty array for a fail,
    /// either for an error.
    #[must_use]
    pub fn allows(self, failed_assertions: Option<&Json>) -> bool {
        match failed_assertions {
            None => self != Self::Fail,
            Some(json) => self != Self::Pass && is_filled_array(json),
        }
    }
}

fn is_filled_array(json: &Json) -> bool {
    let inner = json.as_str().strip_prefix('[').and_then(|text| text.strip_suffix(']'));
    inner.is_some_and(|inner| !inner.trim_ascii().is_empty())
}

words! {
    /// Why a run was dropped.
    pub enum DropReason {
        /// newer runs fill the history
        Limit = "limit",
        /// it was older than a cutoff
        Age = "age",
        /// its canary is gone
        CanaryDeleted = "canary_deleted",
    }
}

row! {
    /// One run.
    pub struct CanaryRunRow {
        key {
            /// the canary
            canary_id: String,
            /// ms: start of the run
            ran_at: i64,
        }
        /// how it ended
        status: RunStatus,
        /// ms: measured
        latency_ms: i64,
        /// failed assertions with observed values
        failed_assertions_json: Option<Json>,
    }
}

events! {
    /// What happens to canary runs.
    pub enum CanaryRunEvent {
        /// A canary ran.
        "canary_run_recorded" v1 => CanaryRunRecorded {
            /// how it ended
            status: RunStatus,
            /// ms
            latency_ms: i64,
            /// failed assertions with observed values
            failed_assertions_json: Option<Json>,
            /// runs: the canary keeps at most this many
            history_limit: u32,
            /// who ran it
            runner_pod: Option<String>,
        },
        /// A run was dropped.
        "canary_run_dropped" v1 => CanaryRunDropped {
            /// why
            why: DropReason,
        },
    }
}

/// The table.
pub struct CanaryRuns;

/// The table at run time.
pub static DEF: TableDef = TableDef::of::<CanaryRuns>();

impl Table for CanaryRuns {
    const NAME: &'static str = "canary_runs";
    const SCHEMA_VERSION: u32 = 2;
    const TOMBSTONES: Tombstones = Tombstones::Short;
    const KEY_PREFIX: &'static str = "canary_runs";
    type Row = CanaryRunRow;
    type Event = CanaryRunEvent;

    fn def() -> &'static TableDef {
        &DEF
    }

    fn evolve(
        row: Option<CanaryRunRow>,
        event: CanaryRunEvent,
        at: &At<'_>,
    ) -> Result<Option<CanaryRunRow>, Impossible> {
        match event {
            CanaryRunEvent::CanaryRunRecorded(event) => recorded(row, event, at),
            CanaryRunEvent::CanaryRunDropped(_) => {
                row.ok_or_else(|| Impossible::no_row("canary_run_dropped"))?;
                Ok(None)
            }
        }
    }
}

fn recorded(
    row: Option<CanaryRunRow>,
    event: CanaryRunRecorded,
    at: &At<'_>,
) -> Result<Option<CanaryRunRow>, Impossible> {
    if row.is_some() {
        return Err(Impossible::row_exists("canary_run_recorded"));
    }
    let CanaryRunRecorded { status, latency_ms, failed_assertions_json, .. } = event;
    if !status.allows(failed_assertions_json.as_ref()) {
        return Err(Impossible(format!("canary_run_recorded: status {status} with these failed assertions")));
    }
    let (canary_id, ran_at) = split_pair(at.key)?;
    let ran_at = i64::from_key_part(&ran_at)?;
    Ok(Some(CanaryRunRow { canary_id, ran_at, status, latency_ms, failed_assertions_json }))
}

#[cfg(test)]
#[path = "canary_runs_tests.rs"]
mod tests;
