use std::{
    path::Path,
    time::{Duration, Instant},
};

use tasklog_log::StoreError;

use super::{
    Figure, Latencies, Plan, ROUNDS, median, rate,
    raw::Raw,
    workload::{Life, TASK_EVENTS, ids, record},
};
use crate::{Error, StoreUrl, TaskStore, command::CommandOptions, engine::Request};

/// Lives per round of one caller.
const SEQUENTIAL_LIVES: usize = 250;
/// Callers at once.
pub(super) const CALLERS: usize = 256;
/// Lives of each of them, per round.
const LIVES_PER_CALLER: usize = 20;
/// Lives in one transact: as many as fit a commit of 1,000 events.
const TRANSACT_LIVES: usize = 166;
/// Transacts per round.
const TRANSACTS: usize = 40;

pub(super) fn store(folder: &Path, name: &str) -> Result<TaskStore, Error> {
    TaskStore::open_with(&StoreUrl::Sqlite(folder.join(name)), crate::OpenOptions::default())
}

/// One caller, one command per commit, against one raw transaction per command.
pub(super) fn sequential(_: &Plan, folder: &Path, tell: &mut dyn FnMut(Figure)) -> Result<(), Error> {
    let store = store(folder, "store.db")?;
    let raw = Raw::create(&folder.join("raw.db"))?;
    let all = ids(SEQUENTIAL_LIVES * ROUNDS);
    let written = record(&all, 1)?;
    let events = SEQUENTIAL_LIVES as u64 * TASK_EVENTS;
    let (mut ratios, mut ours, mut theirs) = (Vec::new(), Vec::new(), Vec::new());
    let mut latencies = Latencies(Vec::new());
    for (round, ids) in all.chunks(SEQUENTIAL_LIVES).enumerate() {
        let began = Instant::now();
        let size = SEQUENTIAL_LIVES * 4;
        raw.write(&written[round * size..(round + 1) * size], 1)?;
        let base = began.elapsed();
        let began = Instant::now();
        for (id, number) in ids.iter().zip(0..) {
            for command in Life::new(id, number).commands() {
                let one = Instant::now();
                store.send_blocking(Request::one(command, CommandOptions::default()))?;
                latencies.0.push(one.elapsed());
            }
        }
        let took = began.elapsed();
        ratios.push(base.as_secs_f64() / took.as_secs_f64());
        ours.push(rate(events, took));
        theirs.push(rate(events, base));
    }
    tell(Figure::at_least("sequential_ratio", median(ratios), 0.80));
    tell(Figure::plain("sequential_events_per_s", median(ours)));
    tell(Figure::plain("sequential_raw_events_per_s", median(theirs)));
    latencies.figures("sequential", tell);
    Ok(())
}

/// 256 async callers, one command each, against raw transactions of 256 commands.
pub(super) fn concurrent(_: &Plan, folder: &Path, tell: &mut dyn FnMut(Figure)) -> Result<(), Error> {
    let store = store(folder, "store.db")?;
    let raw = Raw::create(&folder.join("raw.db"))?;
    let lives = CALLERS * LIVES_PER_CALLER;
    let all = ids(lives * ROUNDS);
    let written = record(&all, CALLERS)?;
    let events = lives as u64 * TASK_EVENTS;
    let runtime = runtime()?;
    let (mut ratios, mut ours, mut theirs) = (Vec::new(), Vec::new(), Vec::new());
    let mut latencies = Latencies(Vec::new());
    for (round, ids) in all.chunks(lives).enumerate() {
        let began = Instant::now();
        raw.write(&written[round * lives * 4..(round + 1) * lives * 4], CALLERS)?;
        let base = began.elapsed();
        let began = Instant::now();
        let measured = runtime.block_on(callers(&store, ids, CALLERS))?;
        let took = began.elapsed();
        latencies.0.extend(measured);
        ratios.push(base.as_secs_f64() / took.as_secs_f64());
        ours.push(rate(events, took));
        theirs.push(rate(events, base));
    }
    tell(Figure::at_least("concurrent_ratio", median(ratios), 0.65));
    tell(Figure::plain("concurrent_events_per_s", median(ours)));
    tell(Figure::plain("concurrent_raw_events_per_s", median(theirs)));
    latencies.figures("concurrent", tell);
    Ok(())
}

pub(super) fn runtime() -> Result<tokio::runtime::Runtime, Error> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build();
    runtime.map_err(|error| StoreError::unavailable_because("starting an async runtime", error).into())
}

/// Lives of `ids`, dealt out to `count` callers.
pub(super) async fn callers(store: &TaskStore, ids: &[String], count: usize) -> Result<Vec<Duration>, Error> {
    // Ids in the order in which they were minted, as the baseline has them: tasks of one moment are neighbours.
    let tasks: Vec<_> = (0..count)
        .map(|caller| {
            let ids: Vec<String> = ids.iter().skip(caller).step_by(count).cloned().collect();
            let store = store.clone();
            tokio::spawn(async move {
                let mut latencies = Vec::with_capacity(ids.len() * 4);
                for (id, number) in ids.iter().zip(0..) {
                    for command in Life::new(id, number).commands() {
                        let one = Instant::now();
                        store.send(Request::one(command, CommandOptions::default())).await?;
                        latencies.push(one.elapsed());
                    }
                }
                Ok::<_, Error>(latencies)
            })
        })
        .collect();
    let mut all = Vec::new();
    for task in tasks {
        let joined = task.await.map_err(|error| StoreError::unavailable_because("a caller", error))?;
        all.extend(joined?);
    }
    Ok(all)
}

/// `transact` filled to the bound of a commit, against raw transactions of the same size; and what an event costs in the
/// file.
pub(super) fn transact(_: &Plan, folder: &Path, tell: &mut dyn FnMut(Figure)) -> Result<(), Error> {
    let store = store(folder, "store.db")?;
    let raw = Raw::create(&folder.join("raw.db"))?;
    let lives = TRANSACT_LIVES * TRANSACTS;
    let all = ids(lives * ROUNDS);
    let written = record(&all, 1)?;
    let events = lives as u64 * TASK_EVENTS;
    let (mut ratios, mut ours, mut theirs) = (Vec::new(), Vec::new(), Vec::new());
    let mut latencies = Latencies(Vec::new());
    for (round, ids) in all.chunks(lives).enumerate() {
        let began = Instant::now();
        raw.write(&written[round * lives * 4..(round + 1) * lives * 4], TRANSACT_LIVES * 4)?;
        let base = began.elapsed();
        let began = Instant::now();
        for ids in ids.chunks(TRANSACT_LIVES) {
            let one = Instant::now();
            let commands = ids.iter().zip(0..).flat_map(|(id, number)| Life::new(id, number).commands()).collect();
            let request = Request::transact(commands, CommandOptions::default());
            store.queue(request)?.wait()?;
            latencies.0.push(one.elapsed());
        }
        let took = began.elapsed();
        ratios.push(base.as_secs_f64() / took.as_secs_f64());
        ours.push(rate(events, took));
        theirs.push(rate(events, base));
    }
    tell(Figure::at_least("transact_ratio", median(ratios), 0.60));
    tell(Figure::plain("transact_events_per_s", median(ours)));
    tell(Figure::plain("transact_raw_events_per_s", median(theirs)));
    latencies.figures("transact", tell);
    let bytes: i64 = store.with_connection(|conn| {
        let bytes = conn.query_row("SELECT sum(pgsize) FROM dbstat WHERE name = 'events'", [], |row| row.get(0));
        Ok(bytes.map_err(StoreError::from)?)
    })?;
    let head = store.head()?;
    tell(Figure::at_most("bytes_per_event", bytes as f64 / head.0 as f64, 220.0));
    Ok(())
}
