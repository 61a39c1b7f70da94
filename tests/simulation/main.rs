//! The master property, by simulation: whatever happens to a store, in whatever order, its rows are those that its log
//! gives, by every way to come to them, and its log has every acknowledged commit once.
//!
//! A seed makes a history of steps ([`step::Step`]): commands over all tables, alone, together and as transacts; clock
//! jumps; crashes with torn ends; batches that fail; snapshots, archives, trims, rebuilds, lost tables, followers,
//! quarantines, restored backups. Every few steps, and at the end, everything is compared ([`check`]). A history that
//! fails is made smaller until no step of it can be left out, and printed with its seed.
//!
//! `TASKLOG_SEEDS` is the number of seeds, `TASKLOG_FIRST_SEED` the first one; `TASKLOG_SEED` runs one alone.
#![allow(clippy::unwrap_used, missing_docs)]

mod act;
mod check;
#[path = "../properties/commands.rs"]
#[allow(dead_code)]
mod commands;
mod dump;
mod image;
mod quiet;
mod run;
mod shrink;
mod step;
#[path = "../properties/store.rs"]
#[allow(dead_code)]
mod store;
mod tests;
mod world;

use std::{
    sync::atomic::{AtomicU64, Ordering},
    thread,
};

use run::report;
use step::Plan;
use world::Kind;

/// Seeds in memory and on SQLite.
const SEEDS: u64 = 100;
/// Seeds on a server.
const SEEDS_ON_REDIS: u64 = 4;
/// A nightly run has so many times as many seeds in memory and on SQLite as on a server.
const SEEDS_PER_SEED_ON_REDIS: u64 = SEEDS / SEEDS_ON_REDIS;
/// Histories at once.
const THREADS_MAX: usize = 2;

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text}: expected a number")))
}

/// Runs the histories of many seeds, or of the one that is asked for.
fn simulate(count: u64, kind: impl Fn(u64) -> Kind + Sync) {
    let (first, count) = match number("TASKLOG_SEED") {
        Some(seed) => (seed, 1),
        None => (number("TASKLOG_FIRST_SEED").unwrap_or(1), count),
    };
    let next = AtomicU64::new(first);
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= first + count {
                return;
            }
            if let Some(report) = report(&Plan::of(seed, kind(seed))) {
                next.store(first + count, Ordering::Relaxed);
                panic!("{report}");
            }
        }
    };
    thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS_MAX).map(|_| scope.spawn(work)).collect();
        let failed = threads.into_iter().filter_map(|thread| thread.join().err()).next();
        if let Some(panic) = failed {
            std::panic::resume_unwind(panic);
        }
    });
}

#[test]
fn whatever_happens_rows_are_what_the_log_says_and_nothing_acknowledged_is_lost() {
    let kind = |seed| if seed % 3 == 0 { Kind::Memory } else { Kind::Sqlite };
    simulate(number("TASKLOG_SEEDS").unwrap_or(SEEDS), kind);
}

#[test]
fn so_it_is_on_a_server() {
    let seeds = number("TASKLOG_SEEDS").map(|seeds| seeds.div_ceil(SEEDS_PER_SEED_ON_REDIS));
    simulate(seeds.unwrap_or(SEEDS_ON_REDIS), |_| Kind::Redis);
}
