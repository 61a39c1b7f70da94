use std::{
    hint::black_box,
    path::Path,
    time::{Duration, Instant},
};

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use tasklog_log::{
    Position, StoreError,
    sqlite::{connection, connection::Access},
};
use tasklog_projections::{
    Scan, pair,
    tables::{cdc_cursors, tasks},
};
use tasklog_replay::history;

use super::{
    Figure, ROUNDS, by_hand, median,
    past::{CURSOR_EVENTS, CURSORS, Filled},
};
use crate::{Error, tables::tasks::Get};

/// Rows looked at, each at a moment of its own.
const ROWS: usize = 4_000;
/// Moments at which rows that there never were are looked for, and at which SQL is asked.
const MOMENTS: usize = 9;
/// Times that each history is read.
const HISTORY_ROUNDS: usize = 20;
const AGGREGATE: &str = "SELECT count(*), sum(length(node_tasks)), max(created_at) FROM tasks GROUP BY status";

/// One row at a random position: a task that is alive today, or was pruned, or did not exist yet.
pub(super) fn rows(filled: &Filled, rng: &mut ChaCha8Rng, tell: &mut dyn FnMut(Figure)) -> Result<(), Error> {
    let head = filled.store.head()?.0;
    let mut found = 0;
    let mut took = Vec::with_capacity(ROWS);
    for _ in 0..ROWS {
        let position = Position(rng.random_range(1..=head));
        let miroir_id = filled.ids[rng.random_range(0..filled.ids.len())].clone();
        let began = Instant::now();
        let row = filled.store.at(position)?.ask(&Get { miroir_id });
        took.push(began.elapsed());
        found += usize::from(matches!(row, Ok(Some(_))));
    }
    tell(Figure::plain("as_of_row_ms_p50", part(&mut took, 0.50)));
    tell(Figure::at_most("as_of_row_ms_p99", part(&mut took, 0.99), 5.0));
    tell(Figure::plain("as_of_rows_found", found as f64 / ROWS as f64));
    Ok(())
}

/// All events of an entity that has fifty, with what each of them changed.
pub(super) fn histories(filled: &Filled, rng: &mut ChaCha8Rng, tell: &mut dyn FnMut(Figure)) -> Result<(), Error> {
    let mut took = Vec::new();
    for _ in 0..CURSORS * HISTORY_ROUNDS {
        let (sink, index) = Filled::cursor(rng.random_range(0..CURSORS));
        let began = Instant::now();
        let steps = filled.store.read(|log, view| Ok(history(log, view, &cdc_cursors::DEF, &pair(&sink, &index))?))?;
        took.push(began.elapsed());
        if steps.len() as u64 != CURSOR_EVENTS {
            return Err(StoreError::corrupt_store(format!("a history of {} events", steps.len())).into());
        }
    }
    tell(Figure::plain("history_ms_p50", part(&mut took, 0.50)));
    tell(Figure::at_most("history_ms_p99", part(&mut took, 0.99), 5.0));
    Ok(())
}

/// All tables at a random position, in memory, against decoding the same snapshot and folding the same tail by hand.
pub(super) fn tables(
    filled: &Filled,
    path: &Path,
    rng: &mut ChaCha8Rng,
    tell: &mut dyn FnMut(Figure),
) -> Result<(), Error> {
    let store = &filled.store;
    let head = store.head()?.0;
    let conn = connection::open(path, Access::Read)?;
    let snapshots = store.snapshots()?;
    let (mut ratios, mut ours, mut theirs) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let through = Position(rng.random_range(1..=head));
        let snapshot = store.read(|log, _| Ok(snapshots.newest(log, through)?))?;
        let began = Instant::now();
        let file = snapshot.map(|snapshot| {
            let mut folder = path.as_os_str().to_owned();
            folder.push(".snapshots");
            (Path::new(&folder).join(&snapshot.info().name), snapshot.checkpoint().position)
        });
        let rows = by_hand::tasks(&conn, file.as_ref().map(|(file, at)| (&**file, *at)), through)?;
        let base = began.elapsed();
        let expected = rows.len() as u64;
        drop(rows);
        let began = Instant::now();
        let at = store.at(through)?;
        let count = at.read(|_, view| Ok(view.count(&tasks::DEF, &Scan::all("pk"))?))?;
        let took = began.elapsed();
        if count != expected {
            let why = format!("{count} tasks as of event {through}, by hand {expected}");
            return Err(StoreError::corrupt_store(why).into());
        }
        ratios.push(took.as_secs_f64() / base.as_secs_f64());
        ours.push(took.as_secs_f64() * 1e3);
        theirs.push(base.as_secs_f64() * 1e3);
    }
    tell(Figure::at_most("as_of_table_ratio", median(ratios), 1.5));
    tell(Figure::plain("as_of_table_ms", median(ours)));
    tell(Figure::plain("as_of_table_raw_ms", median(theirs)));
    Ok(())
}

/// An aggregate at random positions at which the table of tasks was full.
pub(super) fn sql(filled: &Filled, rng: &mut ChaCha8Rng, tell: &mut dyn FnMut(Figure)) -> Result<(), Error> {
    let head = filled.store.head()?.0;
    let mut took = Vec::new();
    for _ in 0..MOMENTS {
        let position = Position(rng.random_range(filled.grown.min(head - 1) + 1..=head));
        let began = Instant::now();
        let at = filled.store.at(position)?;
        let counted: i64 = at.with_connection(|conn| {
            let mut select = conn.prepare(AGGREGATE).map_err(StoreError::from)?;
            let counts = select.query_map([], |row| row.get::<_, i64>(0)).map_err(StoreError::from)?;
            Ok(counts.sum::<rusqlite::Result<_>>().map_err(StoreError::from)?)
        })?;
        took.push(began.elapsed());
        black_box(counted);
    }
    tell(Figure::plain("as_of_sql_ms_p50", part(&mut took, 0.50)));
    Ok(())
}

fn part(took: &mut [Duration], part: f64) -> f64 {
    took.sort_unstable();
    let at = ((took.len() as f64 - 1.0) * part) as usize;
    took.get(at).map_or(f64::NAN, |took| took.as_secs_f64() * 1e3)
}
