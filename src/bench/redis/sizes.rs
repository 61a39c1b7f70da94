use std::path::Path;

use tasklog_log::{StoreError, redis::RedisUrl};
use tasklog_projections::TABLES;

use super::{Scratch, raw::Raw};
use crate::{
    Error, OpenOptions, TaskStore,
    bench::{
        Figure, Plan,
        workload::{Life, TASK_EVENTS, ids, record},
    },
    command::CommandOptions,
    engine::Request,
    generate::generate,
    size::usage,
    store::RECORDING_FROM,
    wire,
};

/// Lives whose log is measured.
const LIVES: usize = 20_000;
/// Lines of the recorded day whose rows are measured.
const DAY_LINES: u64 = 20_000;
/// Commits of the baseline in one call.
const RAW_BATCH: usize = 256;

/// Bytes by MEMORY USAGE: of the log per event, against a stream with the same bytes, and of each table per row, with
/// its indexes and helpers.
pub(super) fn sizes(_: &Plan, server: &RedisUrl, _: &Path, tell: &mut dyn FnMut(Figure)) -> Result<(), Error> {
    let (scratch, base) = (Scratch::new(server, "size"), Scratch::new(server, "raw"));
    let ids = ids(LIVES);
    let store = scratch.open()?;
    let mut pending = Vec::new();
    for (id, number) in ids.iter().zip(0..) {
        for command in Life::new(id, number).commands() {
            pending.push(store.queue(Request::one(command, CommandOptions::default()))?);
        }
        if pending.len() >= RAW_BATCH * 4 {
            for answer in pending.drain(..) {
                answer.wait()?;
            }
        }
    }
    for answer in pending {
        answer.wait()?;
    }
    let mut raw = Raw::new(base.connect()?, base.url.prefix.clone());
    raw.write(&tasklog_projections::tables::tasks::DEF, &record(&ids, 1)?, RAW_BATCH)?;
    let events = LIVES as f64 * TASK_EVENTS as f64;
    let ours = usage(&scratch, &[format!("{}:log", scratch.url.prefix).into_bytes()])? as f64;
    let theirs = usage(&base, &[raw.stream().into_bytes()])? as f64;
    tell(Figure::plain("redis_bytes_per_event", ours / events));
    tell(Figure::plain("redis_raw_bytes_per_event", theirs / events));
    tell(Figure::at_most("redis_log_ratio", ours / theirs, 1.3));
    drop(store);
    rows(server, tell)
}

/// The rows that a recorded day leaves.
fn rows(server: &RedisUrl, tell: &mut dyn FnMut(Figure)) -> Result<(), Error> {
    let scratch = Scratch::new(server, "rows");
    let mut day = Vec::new();
    generate(42, DAY_LINES, &mut day).map_err(|error| StoreError::unavailable_because("making a day", error))?;
    let options = OpenOptions { recording_from: Some(RECORDING_FROM), ..OpenOptions::default() };
    let store = TaskStore::open_with(&scratch.store_url(), options)?;
    for line in String::from_utf8_lossy(&day).lines() {
        let mut parsed = wire::parse(line)?;
        parsed.request.at = parsed.at_ms.map(|at| RECORDING_FROM + at);
        match store.queue(parsed.request)?.wait() {
            // A day holds refused commands too.
            Ok(_) | Err(Error::Rejected(_)) => {}
            Err(error) => return Err(error),
        }
    }
    let counts = store.counts()?;
    let keys = scratch.keys()?;
    for (table, (_, rows)) in TABLES.iter().zip(counts) {
        let beginning = format!("{}:{}:", scratch.url.prefix, table.key_prefix).into_bytes();
        let own: Vec<_> = keys.iter().filter(|key| key.starts_with(&beginning)).cloned().collect();
        if rows > 0 {
            tell(Figure::plain(
                format!("redis_bytes_per_row_{}", table.name),
                usage(&scratch, &own)? as f64 / rows as f64,
            ));
        }
    }
    Ok(())
}
