//! Stores in Redis, through the library and through the program.

use std::{
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;
use tasklog::{
    Error, TaskStore,
    command::CommandOptions,
    log::{Checkpoint, Position, StoreError},
    projections::TABLES,
    tables::tasks,
};

use super::program::{Ended, run, tasklog};

/// Longer than anything here takes; a test that hangs ends.
pub const PATIENCE: Duration = Duration::from_secs(120);

pub fn open(url: &str) -> TaskStore {
    TaskStore::open(url).unwrap_or_else(|error| panic!("{url}: {error}"))
}

/// Registers a task; answers its position.
pub fn register(store: &TaskStore, id: impl ToString) -> Result<Position, Error> {
    let command = tasks::Register {
        miroir_id: Some(id.to_string()),
        node_tasks: [("n1".to_owned(), 7)].into(),
        ..Default::default()
    };
    Ok(store.run_blocking(command, CommandOptions::default())?.position)
}

pub fn head(store: &TaskStore) -> Checkpoint {
    store.read(|log, _| Ok(log.head()?)).unwrap()
}

/// What a writer or a follower that had seen other commits says: what it knew, and what the log has.
#[track_caller]
pub fn diverged<T>(result: Result<T, Error>) -> (Checkpoint, Checkpoint) {
    match result.map(|_| ()) {
        Err(Error::Store(StoreError::Diverged { checkpoint, log })) => (*checkpoint, *log),
        other => panic!("expected diverged, found {other:?}"),
    }
}

#[track_caller]
pub fn unavailable<T>(result: Result<T, Error>) -> String {
    match result.map(|_| ()) {
        Err(Error::Store(error @ StoreError::Unavailable { .. })) => error.full(),
        other => panic!("expected unavailable, found {other:?}"),
    }
}

/// The program on a store.
pub fn on(url: &str, args: &[&str]) -> Ended {
    let mut command = tasklog();
    command.args(["--store", url]).args(args);
    run(command, b"")
}

#[track_caller]
pub fn json(url: &str, args: &[&str]) -> Vec<Value> {
    on(url, &[args, &["--json"]].concat()).with(0).json()
}

/// Everything in the log and in the tables, as text.
#[track_caller]
pub fn dump(url: &str) -> String {
    let mut text = on(url, &["log", "--json", "--show-sensitive"]).with(0).out;
    for table in TABLES {
        let rows = ["list", table.name, "--json", "--show-sensitive", "--limit", "1000000"];
        text.push_str(&format!("{}\n{}", table.name, on(url, &rows).with(0).out));
    }
    text
}

pub fn eventually(what: &str, mut look: impl FnMut() -> bool) {
    let began = Instant::now();
    while !look() {
        assert!(began.elapsed() < PATIENCE, "{what}");
        thread::sleep(Duration::from_millis(20));
    }
}
