use std::{
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use tasklog_log::StoreError;

use super::{
    Figure, ROUNDS, median, past, rate,
    reads::fill,
    workload::{TASK_EVENTS, ids},
    writes::{CALLERS, callers, runtime},
};
use crate::{Error, TaskStore};

/// Lives of each caller, per round, while snapshots are made and while none is.
const LIVES_PER_CALLER: usize = 40;
/// Opens of each of the two stores.
const OPENS: usize = 25;
/// Events of the small one.
const SMALL_EVENTS: u64 = 1_000;

/// Everything that is checked, once.
pub(super) fn verify(store: &TaskStore, tell: &mut dyn FnMut(Figure)) -> Result<(), Error> {
    let head = store.head()?.0;
    let began = Instant::now();
    let report = store.verify(|_| {})?;
    let took = began.elapsed();
    if report.found > 0 {
        return Err(StoreError::corrupt_store("the store that was measured does not verify").into());
    }
    tell(Figure::plain("verify_events_per_s", rate(head, took)));
    Ok(())
}

/// 256 callers while one snapshot after the other is made, against the same without.
pub(super) fn append_during_snapshot(store: &TaskStore, tell: &mut dyn FnMut(Figure)) -> Result<(), Error> {
    let runtime = runtime()?;
    let lives = CALLERS * LIVES_PER_CALLER;
    let events = lives as u64 * TASK_EVENTS;
    let write = || -> Result<Duration, Error> {
        let ids = ids(lives);
        let began = Instant::now();
        runtime.block_on(callers(store, &ids, CALLERS))?;
        Ok(began.elapsed())
    };
    let (mut ratios, mut rates, mut bare_rates, mut made) = (Vec::new(), Vec::new(), Vec::new(), 0);
    for _ in 0..ROUNDS {
        let base = write()?;
        let done = AtomicBool::new(false);
        let (took, count) = thread::scope(|scope| {
            let maker = scope.spawn(|| -> Result<u64, Error> {
                let mut count = 0;
                while !done.load(Ordering::Acquire) {
                    store.snapshot(|_| {})?;
                    count += 1;
                }
                Ok(count)
            });
            let took = write();
            done.store(true, Ordering::Release);
            let count = maker.join().map_err(|_| StoreError::unavailable("making snapshots: a panic"))??;
            Ok::<_, Error>((took?, count))
        })?;
        made += count;
        ratios.push(base.as_secs_f64() / took.as_secs_f64());
        rates.push(rate(events, took));
        bare_rates.push(rate(events, base));
    }
    tell(Figure::at_least("append_during_snapshot_ratio", median(ratios), 0.80));
    tell(Figure::plain("append_during_snapshot_events_per_s", median(rates)));
    tell(Figure::plain("append_without_snapshot_events_per_s", median(bare_rates)));
    tell(Figure::plain("append_during_snapshots", made as f64));
    Ok(())
}

/// Opening the large store, which was closed, against opening one with 1,000 events.
pub(super) fn open(folder: &Path, tell: &mut dyn FnMut(Figure)) -> Result<(), Error> {
    fill(&past::open(folder, "small.db")?, &ids((SMALL_EVENTS / TASK_EVENTS) as usize))?;
    let time = |name: &str| -> Result<f64, Error> {
        let began = Instant::now();
        let store = past::open(folder, name)?;
        let took = began.elapsed();
        drop(store);
        Ok(took.as_secs_f64() * 1e3)
    };
    let (mut large, mut small) = (Vec::new(), Vec::new());
    for _ in 0..OPENS {
        small.push(time("small.db")?);
        large.push(time("store.db")?);
    }
    let (large, small) = (median(large), median(small));
    tell(Figure::plain("open_ms", large));
    tell(Figure::plain("open_small_ms", small));
    tell(Figure::at_most("open_ratio", large / small, 2.0));
    Ok(())
}
