use std::{
    path::Path,
    time::{Duration, Instant},
};

use tasklog_log::redis::RedisUrl;
use tasklog_projections::{Json, tables};

use super::{Scratch, raw::Raw};
use crate::{
    Error, TaskStore,
    bench::{
        Figure, Latencies, Plan, ROUNDS, median, rate,
        workload::{Life, TASK_EVENTS, ids, record, record_commands},
        writes::{CALLERS, callers, runtime},
    },
    command::{AnyCommand, CommandOptions},
    engine::Request,
    tables::search_ui_config::Set,
};

/// Lives per round of one caller.
const SEQUENTIAL_LIVES: usize = 500;
/// Commands on one row, per round.
const HOT_COMMANDS: usize = 2_000;
/// Lives of each of many callers, per round.
const LIVES_PER_CALLER: usize = 30;

/// Rounds of baseline and store, as they are measured.
#[derive(Default)]
struct Rounds {
    ratios: Vec<f64>,
    ours: Vec<f64>,
    theirs: Vec<f64>,
}

impl Rounds {
    fn add(&mut self, count: u64, base: Duration, took: Duration) {
        self.ratios.push(base.as_secs_f64() / took.as_secs_f64());
        self.ours.push(rate(count, took));
        self.theirs.push(rate(count, base));
    }

    fn figures(self, name: &str, aim: f64, unit: &str, tell: &mut dyn FnMut(Figure)) {
        tell(Figure::at_least(&format!("{name}_ratio"), median(self.ratios), aim));
        tell(Figure::plain(format!("{name}_{unit}_per_s"), median(self.ours)));
        tell(Figure::plain(format!("{name}_raw_{unit}_per_s"), median(self.theirs)));
    }
}

/// One caller, one command per commit, every command on a row of its own life, against one raw script call per command.
pub(super) fn sequential(_: &Plan, server: &RedisUrl, _: &Path, tell: &mut dyn FnMut(Figure)) -> Result<(), Error> {
    let (scratch, base) = (Scratch::new(server, "seq"), Scratch::new(server, "raw"));
    let store = scratch.open()?;
    let mut raw = Raw::new(base.connect()?, base.url.prefix.clone());
    let all = ids(SEQUENTIAL_LIVES * ROUNDS);
    let written = record(&all, 1)?;
    let mut rounds = Rounds::default();
    let mut latencies = Latencies(Vec::new());
    for (round, ids) in all.chunks(SEQUENTIAL_LIVES).enumerate() {
        let size = SEQUENTIAL_LIVES * 4;
        let began = Instant::now();
        raw.write(&tables::tasks::DEF, &written[round * size..(round + 1) * size], 1)?;
        let base = began.elapsed();
        let commands = ids.iter().zip(0..).flat_map(|(id, number)| Life::new(id, number).commands());
        let took = one_by_one(&store, commands, &mut latencies)?;
        rounds.add(SEQUENTIAL_LIVES as u64 * TASK_EVENTS, base, took);
    }
    rounds.figures("sequential", 0.45, "events", tell);
    latencies.figures("sequential", tell);
    drop(store);
    Ok(())
}

/// One caller, one command per commit, all on one row.
pub(super) fn hot(_: &Plan, server: &RedisUrl, _: &Path, tell: &mut dyn FnMut(Figure)) -> Result<(), Error> {
    let (scratch, base) = (Scratch::new(server, "hot"), Scratch::new(server, "raw"));
    let store = scratch.open()?;
    let mut raw = Raw::new(base.connect()?, base.url.prefix.clone());
    let commands = || (0..HOT_COMMANDS * ROUNDS).map(|number| Box::new(set(number)) as Box<dyn AnyCommand>);
    let written = record_commands(&tables::search_ui_config::DEF, "products", commands())?;
    let mut rounds = Rounds::default();
    let mut latencies = Latencies(Vec::new());
    let mut commands = commands();
    for written in written.chunks(HOT_COMMANDS) {
        let began = Instant::now();
        raw.write(&tables::search_ui_config::DEF, written, 1)?;
        let base = began.elapsed();
        let took = one_by_one(&store, commands.by_ref().take(HOT_COMMANDS), &mut latencies)?;
        rounds.add(HOT_COMMANDS as u64, base, took);
    }
    rounds.figures("sequential_hot", 0.80, "events", tell);
    latencies.figures("sequential_hot", tell);
    Ok(())
}

fn set(number: usize) -> Set {
    let config = Json::from_value(&serde_json::json!({
        "title": "Products", "facets": ["brand", "price"], "page_size": 20 + number, "template": "card",
    }));
    Set { index_uid: "products".into(), config_json: config, expected_rev: None }
}

fn one_by_one(
    store: &TaskStore,
    commands: impl Iterator<Item = Box<dyn AnyCommand>>,
    latencies: &mut Latencies,
) -> Result<Duration, Error> {
    let began = Instant::now();
    for command in commands {
        let one = Instant::now();
        store.send_blocking(Request::one(command, CommandOptions::default()))?;
        latencies.0.push(one.elapsed());
    }
    Ok(began.elapsed())
}

/// 256 async callers, one command each, against raw script calls of 256 commands.
pub(super) fn concurrent(_: &Plan, server: &RedisUrl, _: &Path, tell: &mut dyn FnMut(Figure)) -> Result<(), Error> {
    let (scratch, base) = (Scratch::new(server, "many"), Scratch::new(server, "raw"));
    let store = scratch.open()?;
    let mut raw = Raw::new(base.connect()?, base.url.prefix.clone());
    let lives = CALLERS * LIVES_PER_CALLER;
    let all = ids(lives * ROUNDS);
    let written = record(&all, CALLERS)?;
    let runtime = runtime()?;
    let mut rounds = Rounds::default();
    let mut latencies = Latencies(Vec::new());
    for (round, ids) in all.chunks(lives).enumerate() {
        let began = Instant::now();
        raw.write(&tables::tasks::DEF, &written[round * lives * 4..(round + 1) * lives * 4], CALLERS)?;
        let base = began.elapsed();
        let began = Instant::now();
        latencies.0.extend(runtime.block_on(callers(&store, ids, CALLERS))?);
        rounds.add(lives as u64 * TASK_EVENTS, base, began.elapsed());
    }
    rounds.figures("concurrent", 0.60, "events", tell);
    latencies.figures("concurrent", tell);
    Ok(())
}
