//! A store with a past: what it costs to look at it, to keep snapshots of it, to open and to verify it.

use std::{
    collections::VecDeque,
    path::Path,
    time::{Duration, Instant},
};

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use tasklog_log::{Clock, Millis, StoreError, SystemClock};
use tasklog_replay::snapshot::SnapshotInfo;

use super::{
    Figure, Plan, as_of, median, rate, upkeep,
    workload::{TASK_EVENTS, ids},
    writes::{CALLERS, callers, runtime},
};
use crate::{
    Error, OpenOptions, StoreUrl, TaskStore,
    command::{AnyCommand, CommandOptions},
    engine::Request,
    store::SNAPSHOT_EVERY_DEFAULT,
    tables::{cdc_cursors::Advance, tasks::Prune},
};

/// Rows that are alive at most.
const LIVE_ROWS: usize = 100_000;
/// So many of them at most are of a smaller log.
const EVENTS_PER_LIVE_ROW: u64 = 10;
/// Of those, rows that are changed again and again.
pub(super) const CURSORS: usize = 100;
/// The events of each of them, evenly over the log.
pub(super) const CURSOR_EVENTS: u64 = 50;
/// Lives of each caller between two prunes.
const LIVES_PER_CALLER: usize = 5;
/// The index whose cursors are advanced.
const INDEX: &str = "products";
/// ms: tasks registered before that much later than now are old enough to be pruned.
const PRUNE_AHEAD_MS: Millis = 3_600_000;

/// A store that callers have written, one command a commit, with snapshots as its own thread makes them.
pub(super) struct Filled {
    pub(super) store: TaskStore,
    /// All tasks that there ever were; the older ones are pruned.
    pub(super) ids: Vec<String>,
    /// Through this event the table of tasks was growing.
    pub(super) grown: u64,
}

impl Filled {
    pub(super) fn cursor(at: usize) -> (String, String) {
        (format!("sink-{at}"), INDEX.into())
    }
}

/// As-of reads, history, snapshots, opening and verifying, all of one log.
pub(super) fn past(plan: &Plan, folder: &Path, tell: &mut dyn FnMut(Figure)) -> Result<(), Error> {
    let filled = fill(plan.events, open(folder, "store.db")?, tell)?;
    let mut rng = ChaCha8Rng::seed_from_u64(4);
    as_of::rows(&filled, &mut rng, tell)?;
    as_of::histories(&filled, &mut rng, tell)?;
    as_of::tables(&filled, &folder.join("store.db"), &mut rng, tell)?;
    as_of::sql(&filled, &mut rng, tell)?;
    upkeep::verify(&filled.store, tell)?;
    upkeep::append_during_snapshot(&filled.store, tell)?;
    drop(filled);
    upkeep::open(folder, tell)
}

/// Without a thread that makes snapshots: it is done in its place, at the same events, so that it can be timed.
pub(super) fn open(folder: &Path, name: &str) -> Result<TaskStore, Error> {
    let options = OpenOptions { snapshot_every: 0, ..OpenOptions::default() };
    TaskStore::open_with(&StoreUrl::Sqlite(folder.join(name)), options)
}

/// Fills a store that is new and makes no snapshots by itself.
pub(super) fn fill(events: u64, store: TaskStore, tell: &mut dyn FnMut(Figure)) -> Result<Filled, Error> {
    let runtime = runtime()?;
    let live_max = LIVE_ROWS.min((events / EVENTS_PER_LIVE_ROW) as usize).saturating_sub(CURSORS);
    let lives = (CALLERS * LIVES_PER_CALLER).min((events / TASK_EVENTS).max(1) as usize);
    let (mut all, mut live, mut grown) = (Vec::new(), VecDeque::new(), 0);
    let (mut advanced, mut due) = (0, SNAPSHOT_EVERY_DEFAULT);
    let mut made = Vec::new();
    let mut head = 0;
    while head < events {
        let born = ids(lives);
        let excess = (live.len() + born.len()).saturating_sub(live_max).min(live.len());
        if excess > 0 {
            grown = if grown == 0 { head } else { grown };
            prune(&store, live.drain(..excess).collect())?;
        }
        runtime.block_on(callers(&store, &born, CALLERS.min(lives)))?;
        live.extend(born.iter().cloned());
        all.extend(born);
        head = store.head()?.0;
        while advanced < CURSOR_EVENTS && advanced * events <= head * CURSOR_EVENTS {
            advance_cursors(&store, advanced)?;
            advanced += 1;
        }
        if head >= due {
            let began = Instant::now();
            made.push((store.snapshot(|_| {})?, began.elapsed()));
            due += SNAPSHOT_EVERY_DEFAULT;
        }
    }
    while advanced < CURSOR_EVENTS {
        advance_cursors(&store, advanced)?;
        advanced += 1;
    }
    if made.is_empty() {
        let began = Instant::now();
        made.push((store.snapshot(|_| {})?, began.elapsed()));
    }
    snapshots(&store, made, tell)?;
    Ok(Filled { store, ids: all, grown })
}

/// Those of the fully grown tables: of the last half of them that were made.
fn snapshots(
    store: &TaskStore,
    made: Vec<(SnapshotInfo, Duration)>,
    tell: &mut dyn FnMut(Figure),
) -> Result<(), Error> {
    let snapshots = store.snapshots()?;
    let (mut rates, mut sizes) = (Vec::new(), Vec::new());
    for (info, took) in made.iter().rev().take(made.len().div_ceil(2)) {
        // Others were thinned out since.
        if let Ok(contents) = snapshots.contents(info)? {
            rates.push(rate(contents.rows(), *took));
            sizes.push(info.bytes as f64 / contents.rows() as f64);
        }
    }
    tell(Figure::plain("snapshot_rows_per_s", median(rates)));
    tell(Figure::plain("snapshot_bytes_per_row", median(sizes)));
    Ok(())
}

fn prune(store: &TaskStore, ids: Vec<String>) -> Result<(), Error> {
    let cutoff_ms = Some(SystemClock.now() + PRUNE_AHEAD_MS);
    let prune = Prune { cutoff_ms, miroir_ids: Some(ids), limit: None, pruned: 0 };
    let done = store.run_blocking(prune, CommandOptions::default())?;
    if done.answer.more {
        return Err(StoreError::unavailable("a prune left something behind").into());
    }
    Ok(())
}

fn advance_cursors(store: &TaskStore, advanced: u64) -> Result<(), Error> {
    let seq = |at: u64| i64::try_from(at).unwrap_or(i64::MAX);
    let mut queued = Vec::with_capacity(CURSORS);
    for (sink_name, index_uid) in (0..CURSORS).map(Filled::cursor) {
        let expected_seq = advanced.checked_sub(1).map(seq);
        let advance = Advance { sink_name, index_uid, expected_seq, new_seq: seq(advanced) };
        let command: Box<dyn AnyCommand> = Box::new(advance);
        queued.push(store.queue(Request::one(command, CommandOptions::default()))?);
    }
    queued.into_iter().try_for_each(|queued| queued.wait().map(drop))
}
