//! A source with a story, and what its replicas are compared by.

use std::{path::PathBuf, process::Command};

use serde_json::json;
use tasklog::{
    Access, OpenOptions, TaskStore,
    log::{Commit, Position},
    projections::{PROJECTED, TABLES, cell_json},
};

use crate::support::{
    program::{Ended, Store, names, run, tasklog},
    registry::on,
};

pub fn line(id: impl std::fmt::Display) -> String {
    format!(r#"{{"command":"tasks.register","args":{{"miroir_id":"{id}","node_tasks":{{"n1":7}}}}}}"#)
}

pub fn cancel(id: impl std::fmt::Display) -> String {
    format!(r#"{{"command":"tasks.cancel","args":{{"miroir_id":"{id}"}}}}"#)
}

pub fn lines(name: &str, count: usize) -> Vec<String> {
    (0..count).map(|at| line(format!("{name}{at}"))).collect()
}

/// Tasks a0 to aN, of which a0 has ended, and one deleted alias.
pub fn source(tasks: usize) -> Store {
    let mut all = lines("a", tasks);
    // No node has it, so that canceling it ends it.
    all[0] = r#"{"command":"tasks.register","args":{"miroir_id":"a0","node_tasks":{}}}"#.into();
    all.push(cancel("a0"));
    all.push(r#"{"command":"aliases.create","args":{"name":"gone","target":"i","target_verified":true}}"#.into());
    all.push(r#"{"command":"aliases.delete","args":{"name":"gone"}}"#.into());
    Store::with(&all)
}

/// What goes on about rows of before: chains that reach back, and a tombstone.
pub fn tail() -> Vec<String> {
    let mut all = lines("b", 5);
    all.extend([cancel("a1"), cancel("b0")]);
    all.push(r#"{"command":"aliases.create","args":{"name":"gone","target":"j","target_verified":true}}"#.into());
    all
}

pub fn follow(from: &str, into: &Store, more: &[&str]) -> Command {
    let mut command = tasklog();
    command.args(["follow", from, "--into", &into.url()]).args(more);
    command
}

pub fn begin(from: &str, into: &Store) -> Ended {
    run(follow(from, into, &["--once", "--from-snapshot"]), b"")
}

/// Every row of every table, as text.
pub fn rows(url: &str) -> String {
    let mut text = String::new();
    for table in TABLES {
        let list = ["list", table.name, "--json", "--show-sensitive", "--limit", "1000000"];
        text.push_str(&format!("{}\n{}", table.name, on(url, &list).with(0).out));
    }
    text
}

/// The same, and the facts about the log, without a program between.
pub fn all_rows(store: &TaskStore) -> String {
    let dumped = store.read(|log, view| {
        let (mut text, now) = (String::new(), log.head()?.recorded_at);
        for table in PROJECTED {
            tasklog::replay::live_rows(table, view, now, |held| {
                let cells = held.row.cells();
                let cells = table.columns.iter().zip(&cells).map(|(column, cell)| cell_json(column, cell).unwrap());
                let cells: Vec<_> = cells.collect();
                text.push_str(&format!("{}/{} {} {cells:?}\n", table.name, held.row.key(), held.rev));
                Ok(())
            })?;
        }
        Ok(text)
    });
    dumped.unwrap()
}

pub fn reading(url: &str) -> TaskStore {
    let options = OpenOptions { access: Access::Read, ..OpenOptions::default() };
    TaskStore::open_with(&url.parse().unwrap(), options).unwrap()
}

pub fn commits(store: &TaskStore, after: Position) -> Vec<Commit> {
    store.read(|log, _| Ok(log.read(after, usize::MAX)?)).unwrap()
}

/// The rows of a replica that began with the snapshot of event `began` are its source's, its log is the source's from there,
/// and it verifies.
#[track_caller]
pub fn assert_begun(from: &str, replica: &Store, began: u64) {
    assert_eq!(rows(&replica.url()), rows(from));
    let (theirs, mine) = (reading(from), reading(&replica.url()));
    assert_eq!(all_rows(&mine), all_rows(&theirs));
    let after = Position(began);
    assert_eq!(commits(&mine, Position::ZERO), commits(&theirs, after));
    let info = &replica.json(["info"])[0];
    assert_eq!((&info["began_with_snapshot"], &info["first"]), (&json!(began), &json!(began + 1)));
    replica.run(["verify"]).with(0).prints(&[
        &format!("the log begins at event {}: verified from the snapshot of event {began}", began + 1),
        "everything holds",
    ]);
}

pub fn snapshot(store: &Store) -> u64 {
    store.json(["snapshot"])[0]["position"].as_u64().unwrap()
}

pub fn snapshot_files(store: &Store) -> Vec<PathBuf> {
    let folder = store.beside(".snapshots").join("snapshots");
    names(&folder).iter().map(|name| folder.join(name)).collect()
}

/// A source, its replica from a snapshot, and the position of that.
pub fn begun() -> (Store, Store, u64) {
    let (primary, replica) = (source(100), Store::new());
    let at = snapshot(&primary);
    primary.apply(&tail()).with(0);
    begin(&primary.url(), &replica).with(0);
    (primary, replica, at)
}
