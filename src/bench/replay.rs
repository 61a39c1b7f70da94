use std::{
    path::Path,
    process::Command,
    sync::Arc,
    time::{Duration, Instant},
};

use tasklog_log::{
    Position, StoreError,
    sqlite::{connection, connection::Access},
};
use tasklog_projections::{AnyRow, PROJECTED, memory::MemoryView};
use tasklog_replay::catch_up;

use super::{
    Figure, Plan, by_hand, median, rate,
    raw::Raw,
    reads::fill,
    workload::{TASK_EVENTS, ids},
    writes::store,
};
use crate::{
    Error,
    store::{PAGE_EVENTS, sqlite},
};

/// Rounds of a rebuild: each is seconds long.
const REPLAY_ROUNDS: usize = 3;

/// Rebuild of all tables, and replay into the memory tables, of a log of a million events, against raw loops: select,
/// decode, fold in a HashMap, and for the rebuild bulk insert.
pub(super) fn replay(plan: &Plan, folder: &Path, tell: &mut dyn FnMut(Figure)) -> Result<(), Error> {
    let path = folder.join("store.db");
    let store = store(folder, "store.db")?;
    fill(&store, &ids((plan.events / TASK_EVENTS) as usize))?;
    let head = store.head()?;
    let info = store.read(|log, _| Ok(log.info()?))?;
    drop(store);
    let conn = connection::open(&path, Access::Read)?;
    let (mut folds, mut rebuilds, mut fold_rates, mut rebuild_rates, mut raw_rates) =
        (Vec::new(), Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for round in 0..REPLAY_ROUNDS {
        let began = Instant::now();
        let rows = by_hand::tasks(&conn, None, head)?;
        let rows: Vec<_> = rows.into_values().map(|(row, rev)| (Arc::new(row) as AnyRow, rev)).collect();
        let raw_fold = began.elapsed();
        let raw = Raw::create(&folder.join(format!("raw-{round}.db")))?;
        let began = Instant::now();
        raw.insert_rows(rows.iter().map(|(row, rev)| (row, *rev))).map_err(StoreError::from)?;
        let raw_rebuild = raw_fold + began.elapsed();
        drop((raw, rows));
        let folded = fold(&path, head, info)?;
        let (rebuilt, peak) = rebuild_in_child(&path)?;
        folds.push(raw_fold.as_secs_f64() / folded.as_secs_f64());
        rebuilds.push(raw_rebuild.as_secs_f64() / rebuilt.as_secs_f64());
        fold_rates.push(rate(head.0, folded));
        rebuild_rates.push(rate(head.0, rebuilt));
        raw_rates.push(rate(head.0, raw_fold));
        if round + 1 == REPLAY_ROUNDS {
            tell(Figure::at_most("rebuild_rss_mb", peak, 256.0));
        }
    }
    tell(Figure::at_least("rebuild_ratio", median(rebuilds), 0.60));
    tell(Figure::plain("rebuild_events_per_s", median(rebuild_rates)));
    tell(Figure::at_least("fold_ratio", median(folds), 0.60));
    tell(Figure::plain("fold_events_per_s", median(fold_rates)));
    tell(Figure::plain("fold_raw_events_per_s", median(raw_rates)));
    tell(Figure::plain("replayed_events", head.0 as f64));
    Ok(())
}

fn fold(path: &Path, head: Position, info: tasklog_log::LogInfo) -> Result<Duration, Error> {
    let began = Instant::now();
    let mut view = MemoryView::new(info);
    let reached =
        catch_up(&PROJECTED, sqlite::pages(path, Position::ZERO, head, PAGE_EVENTS, &[])?, &mut view, |_| {})?;
    let took = began.elapsed();
    if reached.position != head {
        return Err(StoreError::corrupt(reached.position, "the fold ended early").into());
    }
    Ok(took)
}

/// Runs `tasklog rebuild` as a process of its own, which reports how long it took and how much memory it had at its peak.
fn rebuild_in_child(path: &Path) -> Result<(Duration, f64), Error> {
    let failed = |why: String| Error::from(StoreError::unavailable(format!("rebuild in a process of its own: {why}")));
    let program = std::env::current_exe().map_err(|error| failed(error.to_string()))?;
    let output = Command::new(program)
        .args(["--json", "--store", &format!("sqlite:{}", path.display()), "rebuild"])
        .output()
        .map_err(|error| failed(error.to_string()))?;
    if !output.status.success() {
        return Err(failed(String::from_utf8_lossy(&output.stderr).into_owned()));
    }
    let report: serde_json::Value =
        serde_json::from_slice(&output.stdout).map_err(|error| failed(error.to_string()))?;
    let number = |name: &str| report.get(name).and_then(serde_json::Value::as_f64);
    let seconds = number("seconds").ok_or_else(|| failed("no seconds".into()))?;
    let peak = number("peak_rss_mb").ok_or_else(|| failed("no peak_rss_mb".into()))?;
    Ok((Duration::from_secs_f64(seconds), peak))
}
