use std::{
    collections::HashMap,
    path::Path,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use ahash::RandomState;
use tasklog_log::{
    Log, Position, READ_EVENTS_MAX, StoreError,
    redis::{Connector, Link, RedisLog, RedisUrl, Time},
};
use tasklog_projections::{
    At, PROJECTED, Table, TableEvent,
    tables::tasks::{TaskEvent, TaskRow, Tasks},
};

use super::Scratch;
use crate::{
    Error, StoreUrl,
    bench::{
        Figure, Latencies, Plan, median, rate,
        reads::fill,
        workload::{Life, TASK_EVENTS, ids},
    },
    command::{AnyCommand, CommandOptions},
    engine::Request,
    follow::FollowOptions,
};

/// Rounds of a catch-up: each is seconds long.
const CATCH_UP_ROUNDS: usize = 3;
/// Events a second while the lag is measured.
const PACE_EVENTS_PER_S: u64 = 5_000;
/// How long the lag is measured.
const PACE_FOR: Duration = Duration::from_secs(8);
/// How often the follower's position is looked at.
const LOOK_EVERY: Duration = Duration::from_micros(200);

/// Rebuild of a log of many events against a raw loop (XRANGE, decode, fold in a HashMap), and a follower's catch-up into
/// a new SQLite file.
pub(super) fn catch_up(
    plan: &Plan,
    server: &RedisUrl,
    folder: &Path,
    tell: &mut dyn FnMut(Figure),
) -> Result<(), Error> {
    let scratch = Scratch::new(server, "log");
    let store = scratch.open()?;
    fill(&store, &ids((plan.events / TASK_EVENTS) as usize))?;
    let head = store.head()?;
    let (mut ratios, mut rebuilds, mut raws, mut follows) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for round in 0..CATCH_UP_ROUNDS {
        let base = raw_fold(&scratch, head)?;
        let began = Instant::now();
        store.repair(&PROJECTED, |_| {})?;
        let took = began.elapsed();
        ratios.push(base.as_secs_f64() / took.as_secs_f64());
        rebuilds.push(rate(head.0, took));
        raws.push(rate(head.0, base));
        let into = StoreUrl::Sqlite(folder.join(format!("replica-{round}.db")));
        let began = Instant::now();
        let follower = store.follow(&into, FollowOptions { once: true, ..FollowOptions::default() })?;
        follower.wait_for(head, Duration::from_secs(600))?;
        follows.push(rate(head.0, began.elapsed()));
        follower.stop()?;
    }
    tell(Figure::at_least("rebuild_ratio", median(ratios), 0.60));
    tell(Figure::plain("rebuild_events_per_s", median(rebuilds)));
    tell(Figure::plain("rebuild_raw_events_per_s", median(raws)));
    tell(Figure::at_least("follow_events_per_s", median(follows), 100_000.0));
    tell(Figure::plain("replayed_events", head.0 as f64));
    Ok(())
}

/// XRANGE, decode, fold in a HashMap; nothing is checked or compared.
fn raw_fold(scratch: &Scratch, head: Position) -> Result<Duration, Error> {
    let link = Arc::new(Link::new(Connector::new(scratch.url.clone())));
    let log = RedisLog::open(link, Time::Server)?;
    let began = Instant::now();
    let mut rows: HashMap<String, TaskRow, RandomState> = HashMap::default();
    let mut after = Position::ZERO;
    while after < head {
        let page = log.read(after, READ_EVENTS_MAX)?;
        let Some(last) = page.last() else { break };
        after = last.last();
        for commit in &page {
            for event in &commit.events {
                let decoded = TaskEvent::decode(&event.event_type, event.type_version, &event.payload)
                    .map_err(|error| StoreError::corrupt_store(error.to_string()))?;
                let at = At { position: event.position, recorded_at: commit.recorded_at, key: &event.key };
                let row = Tasks::evolve(rows.remove(&*event.key), decoded, &at);
                if let Some(row) = row.map_err(|why| StoreError::corrupt(event.position, why.0))? {
                    rows.insert(event.key.to_string(), row);
                }
            }
        }
    }
    std::hint::black_box(rows.len());
    Ok(began.elapsed())
}

/// How long a commit takes from its caller's answer to a follower's rows, at a steady pace.
pub(super) fn lag(_: &Plan, server: &RedisUrl, folder: &Path, tell: &mut dyn FnMut(Figure)) -> Result<(), Error> {
    let scratch = Scratch::new(server, "lag");
    let store = scratch.open()?;
    let follower = store.follow(&StoreUrl::Sqlite(folder.join("lag.db")), FollowOptions::default())?;
    let (answered, answers) = std::sync::mpsc::channel::<(Position, Instant)>();
    let lives = (PACE_EVENTS_PER_S * PACE_FOR.as_secs() / TASK_EVENTS) as usize;
    let writer = {
        let store = store.clone();
        thread::spawn(move || -> Result<(), Error> {
            let began = Instant::now();
            for (number, id) in (0_u64..).zip(ids(lives)) {
                let due = Duration::from_secs_f64((number * TASK_EVENTS) as f64 / PACE_EVENTS_PER_S as f64);
                thread::sleep(due.saturating_sub(began.elapsed()));
                let commands: Vec<Box<dyn AnyCommand>> = Life::new(&id, number).commands();
                let reply = store.queue(Request::transact(commands, CommandOptions::default()))?.wait()?;
                let _ = answered.send((reply.meta.position, Instant::now()));
            }
            Ok(())
        })
    };
    let mut lags = Vec::new();
    for (position, at) in answers {
        while follower.status().position < position {
            thread::sleep(LOOK_EVERY);
        }
        lags.push(at.elapsed());
    }
    writer.join().map_err(|_| StoreError::unavailable("the writer of the bench panicked"))??;
    follower.stop()?;
    tell(Figure::plain("follow_lag_events_per_s", PACE_EVENTS_PER_S as f64));
    let mut lags = Latencies(lags);
    lags.0.sort_unstable();
    for (name, part) in [("p50", 0.50), ("p99", 0.99)] {
        let at = ((lags.0.len() as f64 - 1.0) * part) as usize;
        if let Some(lag) = lags.0.get(at) {
            tell(Figure::plain(format!("follow_lag_ms_{name}"), lag.as_secs_f64() * 1e3));
        }
    }
    Ok(())
}
