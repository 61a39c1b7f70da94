use std::{
    path::Path,
    time::{Duration, Instant},
};

use super::{
    Figure, Plan, ROUNDS, median, rate,
    workload::{TASK_EVENTS, ids},
    writes::{CALLERS, callers, runtime},
};
use crate::{Error, OpenOptions, StoreUrl, TaskStore};

/// Lives of each caller, per round: so many that the tree's thread has several rounds of its own within one.
const LIVES_PER_CALLER: usize = 100;

/// 256 callers on a store whose Merkle tree is kept up to date, against the same on one that keeps none.
pub(super) fn overhead(_: &Plan, folder: &Path, tell: &mut dyn FnMut(Figure)) -> Result<(), Error> {
    let open = |name: &str, keep_tree| {
        let options = OpenOptions { keep_tree, ..OpenOptions::default() };
        TaskStore::open_with(&StoreUrl::Sqlite(folder.join(name)), options)
    };
    let (with, without) = (open("with.db", true)?, open("without.db", false)?);
    let lives = CALLERS * LIVES_PER_CALLER;
    let events = lives as u64 * TASK_EVENTS;
    let runtime = runtime()?;
    let measure = |store: &TaskStore| -> Result<Duration, Error> {
        let ids = ids(lives);
        let began = Instant::now();
        runtime.block_on(callers(store, &ids, CALLERS))?;
        Ok(began.elapsed())
    };
    let (mut ratios, mut rates, mut bare_rates, mut behind) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let base = measure(&without)?;
        let took = measure(&with)?;
        let kept = with.kept_tree()?.at.map_or(0, |at| at.position.0);
        behind.push((with.head()?.0 - kept) as f64);
        // What is left over must not be done in the other store's time.
        with.keep_tree()?;
        ratios.push(base.as_secs_f64() / took.as_secs_f64());
        rates.push(rate(events, took));
        bare_rates.push(rate(events, base));
    }
    tell(Figure::at_least("merkle_overhead_ratio", median(ratios), 0.95));
    tell(Figure::plain("merkle_events_per_s", median(rates)));
    tell(Figure::plain("merkle_none_events_per_s", median(bare_rates)));
    tell(Figure::plain("merkle_behind_events", median(behind)));
    Ok(())
}
