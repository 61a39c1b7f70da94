//! Moving house between SQLite and Redis: every byte of the log arrives, the tables follow from it, and a copy that is
//! killed goes on.
#![allow(clippy::unwrap_used, missing_docs)]
#![cfg(unix)]

mod support;

use std::{thread, time::Duration};

use support::{
    program::{Ended, Running, Store, run, tasklog},
    registry::{dump, json, on, open, register},
};
use tasklog_testing::RedisServer;

fn at(server: &RedisServer, prefix: &str) -> String {
    format!("{}?prefix={prefix}", server.url())
}

fn copy(from: &str, to: &str) -> Ended {
    let mut command = tasklog();
    command.args(["copy", "--from", from, "--to", to, "--json"]);
    run(command, b"")
}

#[track_caller]
fn assert_copied(from: &str, to: &str) {
    let copied = copy(from, to).with(0).json().remove(0);
    assert_eq!(copied["ok"], true, "{copied}");
    assert_eq!(copied["compared"].as_array().unwrap().len(), 16, "the log, 14 tables, and the facts about the log");
    on(to, &["verify"]).with(0);
    let ids = |url: &str| {
        let info = json(url, &["info"]).remove(0);
        [&info["log_id"], &info["epoch"], &info["head"], &info["head_commit_id"], &info["recording_from"]]
            .map(Clone::clone)
    };
    assert_eq!(ids(from), ids(to));
}

#[test]
fn a_recorded_day_moves_in_every_direction() {
    let server = RedisServer::start();
    let (first, last) = (Store::new(), Store::new());
    run(first.command(["apply", "examples/day.ndjson"]), b"");
    let (a, b) = (at(&server, "a"), at(&server, "b"));
    assert_copied(&first.url(), &a);
    assert_copied(&a, &b);
    assert_copied(&b, &last.url());
    assert_eq!(dump(&last.url()), dump(&first.url()));
    assert_eq!(dump(&b), dump(&first.url()));
    // The entries are the same bytes on both sides.
    let entries = |prefix: &str| server.run::<redis::Value>(&["XRANGE", &format!("{prefix}:log"), "-", "+"]);
    assert_eq!(entries("a"), entries("b"));
    // Again there is nothing to do.
    assert_eq!(copy(&first.url(), &b).with(0).json()[0]["events"], 0);
}

/// How often a copy is killed.
const KILLS: usize = 4;

const SESSIONS: [&str; 3] = [
    r#"{"command":"sessions.record_write","args":{"session_id":"s-1","mtask_id":"t-1"}}"#,
    r#"{"command":"sessions.record_write","args":{"session_id":"s-1","mtask_id":"t-2"}}"#,
    r#"{"command":"sessions.record_write","args":{"session_id":"s-2","mtask_id":"t-1"}}"#,
];

#[test]
fn rows_that_die_get_their_end_when_the_copy_has_caught_up_and_are_folded_again_if_they_went() {
    let server = RedisServer::start();
    let to = at(&server, "to");
    let source = Store::with(&SESSIONS);
    assert_copied(&source.url(), &to);
    for session in ["s-1", "s-2"] {
        let left: i64 = server.run(&["PTTL", &format!("to:session:{session}")]);
        assert!(left > 0, "{left}");
    }
    // What Redis does when their time has come; then the source turns out to have extended them.
    server.run::<()>(&["DEL", "to:session:s-1"]);
    source.apply(&SESSIONS[..1]).with(0);
    assert_copied(&source.url(), &to);
    assert!(server.run::<i64>(&["PTTL", "to:session:s-1"]) > 0);
    assert_eq!(dump(&to), dump(&source.url()));
}

#[test]
fn a_right_that_ends_is_left_to_redis_too() {
    let server = RedisServer::start();
    let to = at(&server, "to");
    let acquire = r#"{"command":"leader_lease.acquire","args":{"scope":"ilm","holder":"pod-1"}}"#;
    assert_copied(&Store::with(&[acquire]).url(), &to);
    let left: i64 = server.run(&["PTTL", "to:lease:ilm"]);
    // Over already, or still running; it never stays for good.
    assert_ne!(left, -1);
}

#[test]
fn repeated_commands_get_their_first_outcome_from_the_copy() {
    let server = RedisServer::start();
    let to = at(&server, "to");
    let named = r#"{"command":"tasks.register","command_id":"0198c5a2-7a3c-7f4e-8a11-223344556677","args":{"node_tasks":{"n1":7}}}"#;
    let source = Store::with(&[named]);
    let first = json(&source.url(), &["list", "tasks"]);
    assert_copied(&source.url(), &to);
    let mut command = tasklog();
    command.args(["--store", &to, "apply"]);
    let answer = run(command, named.as_bytes()).with(0).json().remove(0);
    assert_eq!(answer["reply"]["repeated"], true, "{answer}");
    assert_eq!(json(&to, &["list", "tasks"]), first);
}

#[test]
fn a_copy_that_is_killed_again_and_again_goes_on_to_the_end() {
    let server = RedisServer::start();
    let to = at(&server, "to");
    let source = Store::new();
    let mut day = tasklog();
    day.args(["generate", "--seed", "11", "--commands", "6000"]);
    run(source.command(["apply"]), run(day, b"").with(0).out.as_bytes());
    let head = || server.run::<Option<u64>>(&["HGET", "to:_head", "position"]).unwrap_or(0);
    let mut killed_within = 0;
    for _ in 0..KILLS {
        let before = head();
        let mut running = Running::start(&["copy", "--from", &source.url(), "--to", &to]);
        // Killed as soon as it has got anywhere, and perhaps in the middle of the next page.
        while head() == before && running.0.try_wait().unwrap().is_none() {
            thread::sleep(Duration::from_millis(1));
        }
        let _ = running.0.kill();
        killed_within += usize::from(!running.0.wait().unwrap().success());
        let head = head();
        let last: Option<String> = server
            .run::<Vec<(String, redis::Value)>>(&["XREVRANGE", "to:log", "+", "-", "COUNT", "1"])
            .pop()
            .map(|(id, _)| id);
        assert_eq!(last, Some(format!("{head}-0")));
        on(&to, &["verify"]).with(0);
    }
    assert!(killed_within > 0, "no copy was killed in the middle");
    assert_copied(&source.url(), &to);
    assert_eq!(dump(&to), dump(&source.url()));
}

#[test]
fn a_destination_with_something_else_is_refused_and_one_that_is_written_to_is_noticed() {
    let server = RedisServer::start();
    let (from, to) = (at(&server, "from"), at(&server, "to"));
    let source = open(&from);
    register(&source, "a").unwrap();
    register(&open(&to), "other").unwrap();
    copy(&from, &to).with(1).says(&["holds another log"]);
    let moved = at(&server, "moved");
    assert_copied(&from, &moved);
    // It is a store of its own from now on, and goes its own way.
    register(&open(&moved), "b").unwrap();
    copy(&from, &moved).with(1).says(&["no prefix of the source"]);
    // A store that keeps a recording's time is not mixed with one that keeps the server's.
    let recorded = Store::new();
    run(recorded.command(["apply", "examples/day.ndjson"]), b"");
    let born = at(&server, "born");
    drop(open(&born));
    copy(&recorded.url(), &born).with(1).says(&["another prefix"]);
}
