use std::{hint::black_box, path::Path, time::Instant};

use rand::{RngExt, SeedableRng};
use rusqlite::Connection;
use tasklog_log::{
    StoreError,
    sqlite::{connection, connection::Access},
};
use tasklog_projections::tables::tasks::TaskStatus;

use super::{Figure, Latencies, Plan, ROUNDS, median, rate, workload::Life, workload::ids, writes::store};
use crate::{
    Error, TaskStore,
    command::CommandOptions,
    engine::Request,
    tables::tasks::{Get, List},
};

/// Tasks in the table.
const TASKS: usize = 100_000;
/// Tasks per commit of the preparation.
const FILL: usize = 160;
/// Reads per round.
const READS: usize = 30_000;
/// Lists per round.
const LISTS: usize = 2_000;
/// Rows of a list.
const LIST_ROWS: usize = 20;
const COLUMNS: &str = "miroir_id, created_at, status, node_tasks, error, node_states, node_errors, index_uid, task_type, \
                       started_at, finished_at, cancel_requested_at, _rev";

/// Current row by key, and newest 20 by status of 100,000 tasks, through the facade, against prepared selects.
pub(super) fn reads(_: &Plan, folder: &Path, tell: &mut dyn FnMut(Figure)) -> Result<(), Error> {
    let store = store(folder, "store.db")?;
    let ids = ids(TASKS);
    fill(&store, &ids)?;
    let conn = connection::open(&folder.join("store.db"), Access::Read)?;
    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(1);
    let (mut ratios, mut ours) = (Vec::new(), Vec::new());
    let mut latencies = Latencies(Vec::new());
    for _ in 0..ROUNDS {
        let keys: Vec<&String> = (0..READS).map(|_| &ids[rng.random_range(0..ids.len())]).collect();
        let began = Instant::now();
        for key in &keys {
            black_box(select(&conn, key).map_err(StoreError::from)?);
        }
        let base = began.elapsed();
        let began = Instant::now();
        for key in &keys {
            let one = Instant::now();
            black_box(store.ask(&Get { miroir_id: (*key).clone() })?);
            latencies.0.push(one.elapsed());
        }
        let took = began.elapsed();
        ratios.push(base.as_secs_f64() / took.as_secs_f64());
        ours.push(rate(READS as u64, took));
    }
    tell(Figure::at_least("read_ratio", median(ratios), 0.50));
    tell(Figure::plain("reads_per_s", median(ours)));
    latencies.figures("read", tell);
    lists(&store, &conn, tell)
}

fn lists(store: &TaskStore, conn: &Connection, tell: &mut dyn FnMut(Figure)) -> Result<(), Error> {
    let (mut ratios, mut ours) = (Vec::new(), Vec::new());
    let list = List { status: Some(TaskStatus::Succeeded), limit: Some(LIST_ROWS), ..List::default() };
    for _ in 0..ROUNDS {
        let began = Instant::now();
        for _ in 0..LISTS {
            black_box(select_list(conn).map_err(StoreError::from)?);
        }
        let base = began.elapsed();
        let began = Instant::now();
        for _ in 0..LISTS {
            black_box(store.ask(&list)?);
        }
        let took = began.elapsed();
        ratios.push(base.as_secs_f64() / took.as_secs_f64());
        ours.push(rate(LISTS as u64, took));
    }
    tell(Figure::at_least("list_ratio", median(ratios), 0.50));
    tell(Figure::plain("lists_per_s", median(ours)));
    Ok(())
}

pub(super) fn fill(store: &TaskStore, ids: &[String]) -> Result<(), Error> {
    for chunk in ids.chunks(FILL) {
        let commands = chunk.iter().zip(0..).flat_map(|(id, number)| Life::new(id, number).commands()).collect();
        let request = Request::transact(commands, CommandOptions::default());
        store.queue(request)?.wait()?;
    }
    Ok(())
}

/// What a program that reads the row by hand gets: every column as an owned value.
type Row = (
    (String, i64, String, String, Option<String>, String, String),
    (Option<String>, Option<String>, Option<i64>, Option<i64>, Option<i64>, i64),
);

fn row(row: &rusqlite::Row<'_>) -> rusqlite::Result<Row> {
    Ok((
        (row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?, row.get(5)?, row.get(6)?),
        (row.get(7)?, row.get(8)?, row.get(9)?, row.get(10)?, row.get(11)?, row.get(12)?),
    ))
}

fn select(conn: &Connection, key: &str) -> rusqlite::Result<Row> {
    conn.prepare_cached(&format!("SELECT {COLUMNS} FROM tasks WHERE miroir_id = ?1"))?.query_row([key], row)
}

fn select_list(conn: &Connection) -> rusqlite::Result<Vec<Row>> {
    let mut select = conn.prepare_cached(&format!(
        "SELECT {COLUMNS} FROM tasks WHERE status = ?1 ORDER BY created_at DESC, miroir_id DESC LIMIT {LIST_ROWS}"
    ))?;
    select.query_map([TaskStatus::Succeeded.as_str()], row)?.collect()
}
