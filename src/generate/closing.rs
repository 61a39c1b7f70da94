use std::io;

use serde_json::json;

use super::{DAY_MS, actor::Actor as _, actor::Day, jobs::RequeueTimer, line::Line, world::PODS};
use crate::store::RECORDING_FROM;

/// Ids that one pod passes to its own pruning.
const OWN_IDS_MAX: usize = 12;
const HOUR_MS: i64 = 3_600_000;

/// The end of the day: claims that ended are returned, and what is older than some hours is tidied away.
pub(super) fn close(day: &mut Day<'_>) -> io::Result<()> {
    let steps: [fn(&mut Day<'_>) -> io::Result<()>; 6] =
        [requeue, drop_sink, prune_own_tasks, prune_tasks, prune_runs, purge_jobs];
    let step_ms = (DAY_MS - 1 - day.now) / steps.len() as u64;
    for step in steps {
        step(day)?;
        day.now += step_ms;
    }
    Ok(())
}

fn requeue(day: &mut Day<'_>) -> io::Result<()> {
    RequeueTimer.act(day).map(drop)
}

fn drop_sink(day: &mut Day<'_>) -> io::Result<()> {
    let line = Line::one("cdc_cursors.drop", json!({"sink_name": "search-log"}));
    day.say(&line.by("alice").because("sink retired")).map(drop)
}

/// Every pod prunes the ids that are its own.
fn prune_own_tasks(day: &mut Day<'_>) -> io::Result<()> {
    for (at, pod) in PODS.into_iter().enumerate() {
        let own: Vec<_> = day.world.succeeded.iter().skip(at).step_by(PODS.len()).take(OWN_IDS_MAX).collect();
        let args = json!({"cutoff_ms": RECORDING_FROM + 24 * HOUR_MS, "miroir_ids": own});
        day.say(&Line::one("tasks.prune", args).by(pod))?;
        day.moment();
    }
    Ok(())
}

fn prune_tasks(day: &mut Day<'_>) -> io::Result<()> {
    let args = json!({"cutoff_ms": RECORDING_FROM + 6 * HOUR_MS, "limit": 5_000});
    let line = Line::one("tasks.prune", args).by("pod-0");
    day.say(&line)?;
    day.moment();
    // Another pod comes too late: there is nothing left.
    day.say(&line).map(drop)
}

fn prune_runs(day: &mut Day<'_>) -> io::Result<()> {
    let args = json!({"cutoff_ms": RECORDING_FROM + 14 * HOUR_MS});
    day.say(&Line::one("canary_runs.prune", args)).map(drop)
}

fn purge_jobs(day: &mut Day<'_>) -> io::Result<()> {
    let args = json!({"cutoff_ms": RECORDING_FROM + 8 * HOUR_MS});
    day.say(&Line::one("jobs.purge", args)).map(drop)
}
