use std::{
    collections::HashMap,
    path::Path,
    process::Command,
    sync::Arc,
    time::{Duration, Instant},
};

use ahash::RandomState;
use rusqlite::Connection;
use tasklog_log::{
    Position, StoreError,
    sqlite::{connection, connection::Access},
};
use tasklog_projections::{
    AnyRow, At, PROJECTED, Table, TableEvent,
    memory::MemoryView,
    tables::tasks::{TaskEvent, TaskRow, Tasks},
};
use tasklog_replay::catch_up;

use super::{
    Figure, Plan, median, rate,
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
        let rows = raw_fold(&conn)?;
        let raw_fold = began.elapsed();
        let raw = Raw::create(&folder.join(format!("raw-{round}.db")))?;
        let began = Instant::now();
        raw.insert_rows(rows.values().map(|(row, rev)| (row, *rev))).map_err(StoreError::from)?;
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

/// Select, decode, fold in a HashMap; nothing is checked.
fn raw_fold(conn: &Connection) -> Result<HashMap<String, (AnyRow, Position)>, Error> {
    let mut rows: HashMap<String, (TaskRow, Position), RandomState> = HashMap::default();
    let mut select = conn
        .prepare("SELECT position, recorded_at, key, type, type_version, payload FROM events ORDER BY position")
        .map_err(StoreError::from)?;
    let mut events = select.query([]).map_err(StoreError::from)?;
    while let Some(event) = events.next().map_err(StoreError::from)? {
        let text = |at| event.get_ref(at).ok().and_then(|value| value.as_str().ok()).unwrap_or_default();
        let number = |at| event.get_ref(at).ok().and_then(|value| value.as_i64().ok()).unwrap_or_default();
        let payload = event.get_ref(5).ok().and_then(|value| value.as_blob().ok()).unwrap_or_default();
        let decoded = TaskEvent::decode(text(3), number(4) as u32, payload)
            .map_err(|error| StoreError::corrupt_store(error.to_string()))?;
        let position = Position(number(0) as u64);
        let at = At { position, recorded_at: number(1), key: text(2) };
        let row = rows.remove(at.key).map(|(row, _)| row);
        let row = Tasks::evolve(row, decoded, &at).map_err(|why| StoreError::corrupt(position, why.0))?;
        if let Some(row) = row {
            rows.insert(at.key.to_owned(), (row, position));
        }
    }
    Ok(rows.into_iter().map(|(key, (row, rev))| (key, (Arc::new(row) as AnyRow, rev))).collect())
}

fn fold(path: &Path, head: Position, info: tasklog_log::LogInfo) -> Result<Duration, Error> {
    let began = Instant::now();
    let mut view = MemoryView::new(info);
    let reached = catch_up(&PROJECTED, sqlite::pages(path, Position::ZERO, head, PAGE_EVENTS)?, &mut view, |_| {})?;
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
