//! `tasklog size`: scratch stores are filled by commands, weighed, and removed.
#![allow(clippy::unwrap_used, missing_docs)]
#![cfg(unix)]

mod support;

use std::path::Path;

use serde_json::Value;
use support::program::{Ended, run, tasklog};
use tasklog_testing::RedisServer;

const SMALL: [&str; 16] = [
    "--tasks",
    "60",
    "--sessions",
    "20",
    "--jobs",
    "10",
    "--canary-runs",
    "30",
    "--indexes",
    "4",
    "--canaries",
    "3",
    "--admin-sessions",
    "5",
    "--leases",
    "2",
];

fn size(folder: &Path, more: &[&str]) -> Ended {
    let mut command = tasklog();
    command.current_dir(folder).arg("size").args(SMALL).args(more);
    run(command, b"")
}

fn rows(weights: &Value) -> Vec<(String, u64)> {
    let tables = weights["tables"].as_array().unwrap().iter();
    tables.map(|table| (table["table"].as_str().unwrap().to_owned(), table["rows"].as_u64().unwrap())).collect()
}

#[test]
fn every_table_is_filled_and_weighed_on_both_and_nothing_is_left_behind() {
    let (folder, server) = (tempfile::tempdir().unwrap(), RedisServer::start());
    let told = size(folder.path(), &["--json", "--redis", &server.url()]).with(0).json().remove(0);
    // Settings: five nodes and one committed row an index. Aliases: one an index, one a policy.
    let expected = [60, 24, 7, 20, 60, 10, 2, 3, 30, 4, 4, 3, 4, 5];
    for store in ["sqlite", "redis"] {
        let rows = rows(&told[store]);
        assert_eq!(rows.iter().map(|(_, rows)| *rows).collect::<Vec<_>>(), expected, "{store}: {rows:?}");
        for table in told[store]["tables"].as_array().unwrap() {
            let (bytes, indexes) = (table["bytes"].as_u64().unwrap(), table["index_bytes"].as_u64().unwrap());
            assert!(bytes > 0 && indexes < bytes, "{store}: {table}");
        }
        assert_eq!(told[store]["events_per_write"], 7.0, "key, task, session, and two reports that move the status");
        assert!(told[store]["bytes_per_event"].as_f64().unwrap() > 100.0);
    }
    assert_eq!(told["sqlite"]["events"], told["redis"]["events"]);
    assert!(told["redis"]["used_memory_more"].as_u64().unwrap() > 0);
    assert_eq!(server.run::<u64>(&["DBSIZE"]), 0, "its keys are removed");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "its file is removed");
}

#[test]
fn more_memory_keeps_more_hours_and_tables_that_do_not_fit_are_said_so() {
    let (folder, server) = (tempfile::tempdir().unwrap(), RedisServer::start());
    let told = size(folder.path(), &["--json", "--redis", &server.url()]).with(0).json().remove(0);
    let deployments = told["redis_deployments"].as_array().unwrap();
    let hours = |at: usize, rate: usize| deployments[at]["forecasts"][rate]["log_hours"].as_f64();
    let slow: Vec<_> = (0..deployments.len()).map(|at| hours(at, 0)).collect();
    assert!(slow.is_sorted() && slow.last().unwrap().is_some(), "{slow:?}");
    assert_eq!(hours(0, 4), None, "a week of 1,000 tasks a second is no matter of 256 MiB");
    let kept = size(folder.path(), &["--task-hours", "1", "--redis", &server.url()]).with(0);
    let week = size(folder.path(), &["--redis", &server.url()]).with(0);
    let misfits = |text: &str| text.matches("tables too large").count();
    assert!(misfits(&kept.out) < misfits(&week.out), "tasks that are kept for less time take less");
}

#[test]
fn a_store_that_is_no_redis_is_refused_with_what_was_expected() {
    let folder = tempfile::tempdir().unwrap();
    let refused = size(folder.path(), &["--redis", "sqlite:x.db"]).with(2);
    assert!(refused.err.contains("expected redis://HOST:PORT/DB"), "{}", refused.err);
}
