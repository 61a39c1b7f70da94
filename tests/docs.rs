//! What the documentation shows is what the program prints.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::{path::Path, process::Command, sync::Arc};

use support::console::{assert_prints, project, run_blocks, steady};
use tasklog::{
    TaskStore,
    command::CommandOptions,
    log::{Log, Position, SystemClock, checksum, sqlite::SqliteLog},
    tables::tasks,
};

fn tasklog(args: &[&str]) -> Vec<u8> {
    let output = Command::new(env!("CARGO_BIN_EXE_tasklog")).args(args).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

#[test]
fn the_catalogue_in_the_docs_is_the_programs() {
    let page = std::fs::read_to_string(project("docs/catalogue.md")).unwrap();
    let made = String::from_utf8(tasklog(&["commands", "--markdown"])).unwrap();
    assert_eq!(page, made, "make it anew: tasklog commands --markdown > docs/catalogue.md");
}

#[test]
fn the_recorded_day_is_what_the_generator_makes() {
    let day = std::fs::read(project("examples/day.ndjson")).unwrap();
    let made = tasklog(&["generate", "--seed", "42", "--commands", "20000"]);
    assert!(day == made, "make it anew: tasklog generate --seed 42 --commands 20000 --out examples/day.ndjson");
}

#[test]
fn the_recorded_day_covers_every_table_and_stays_small() {
    let day = std::fs::read_to_string(project("examples/day.ndjson")).unwrap();
    assert!(day.len() < 4_000_000, "{} bytes", day.len());
    assert!(day.lines().count() >= 20_000);
    for side in tasklog::tables::SIDES {
        for command in side.commands {
            assert!(day.contains(&format!("\"{}\"", command.name)), "no {} in the recorded day", command.name);
        }
    }
}

/// The page walks through one incident with real output: `UPDATE_DOCS=1 cargo test --test docs` writes what the program
/// prints now.
#[test]
fn the_incident_in_the_docs_prints_what_the_page_says() {
    let file = project("docs/time-travel.md");
    let page = std::fs::read_to_string(&file).unwrap();
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("examples")).unwrap();
    let example = "examples/incident.ndjson";
    std::fs::copy(project(example), folder.path().join(example)).unwrap();
    let made = run_blocks(&page, folder.path(), str::to_owned);
    assert_prints(&file, &page, &made, str::to_owned);
    assert_eq!(page, made);
}

/// A store of one registered task, a second one, and a report on the first; then somebody does something to its file.
fn store_with(folder: &Path, name: &str, spoil: impl FnOnce(&rusqlite::Connection)) {
    let path = folder.join(name);
    let store = TaskStore::open(&format!("sqlite:{}", path.display())).unwrap();
    for task in ["mtask-1", "mtask-2"] {
        let node_tasks = std::iter::once(("meili-0".to_owned(), 7)).collect();
        let register = tasks::Register { miroir_id: Some(task.into()), node_tasks, ..Default::default() };
        store.run_blocking(register, CommandOptions::default()).unwrap();
    }
    let report = r#"{"miroir_id":"mtask-1","reports":[{"node_id":"meili-0","status":"processing"}]}"#;
    let report: tasks::ReportNodeStatuses = serde_json::from_str(report).unwrap();
    store.run_blocking(report, CommandOptions::default()).unwrap();
    drop(store);
    spoil(&rusqlite::Connection::open(path).unwrap());
}

/// Event 3 becomes one that cannot be folded; its checksum is right.
fn poison(conn: &rusqlite::Connection) {
    let (commit, index) = SqliteLog::new(conn, Arc::new(SystemClock)).event(Position(3)).unwrap().unwrap();
    let mut event = commit.events[index].clone();
    event.event_type = "task_pruned".into();
    event.checksum = checksum(&commit.meta, commit.recorded_at, &event);
    let set = "UPDATE events SET type = ?1, checksum = ?2 WHERE position = 3";
    conn.execute(set, rusqlite::params![&*event.event_type, event.checksum]).unwrap();
}

/// The procedures that need no server: `UPDATE_DOCS=1 cargo test --test docs` writes what the program prints now.
#[test]
fn the_procedures_in_the_docs_print_what_the_page_says() {
    let file = project("docs/operations.md");
    let page = std::fs::read_to_string(&file).unwrap();
    let folder = tempfile::tempdir().unwrap();
    store_with(folder.path(), "older.db", |conn| {
        conn.execute("UPDATE _projections SET version = 0 WHERE table_name = 'tasks'", []).unwrap();
    });
    store_with(folder.path(), "newer.db", |conn| {
        conn.execute("INSERT INTO schema_versions (version, applied_at) VALUES (99, 0)", []).unwrap();
    });
    store_with(folder.path(), "poisoned.db", poison);
    let made = run_blocks(&page, folder.path(), str::to_owned);
    assert_prints(&file, &page, &made, steady);
}

#[test]
fn what_differs_from_run_to_run_is_left_out_of_the_comparison_and_nothing_else() {
    let same = |one: &str, other: &str| steady(one) == steady(other);
    assert!(same(
        "restored 28,047 events, 1,175,552 bytes, in 0.2 s (commit 01a206bf-9b8c-72bc-a174-778a9121d79c)",
        "restored 28,047 events, 99 bytes, in 12.2 s (commit 01a2131a-f352-7450-927c-6e3b96d17782)",
    ));
    assert!(same("since 2026-11-25T14:27:55.477Z", "since 2026-11-26T01:00:00.000Z"));
    assert!(same(r#""created_at":1795616862623,"#, r#""created_at":1795616862624,"#));
    assert!(!same("restored 28,047 events", "restored 28,048 events"));
    assert!(!same("event 3 cannot be folded", "event 4 cannot be folded"));
    assert!(!same("status 3", "status 1"));
}
