//! Jobs and cursors beyond the size of one commit, and the plans by which the hot ones are found.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::ops::Bound;

use support::script::{Single, Subject};
use tasklog::projections::{Cell, Scan, sqlite, tables::jobs};

/// The reply or rejection of a line, without the events it made.
fn reply(store: &mut Single, line: &str) -> String {
    store.line(line).lines().next().unwrap_or_default().to_owned()
}

fn command(store: &mut Single, name: &str, args: &str) -> String {
    reply(store, &format!(r#"{{"command":"{name}","args":{args}}}"#))
}

/// Runs `count` commands, a thousand to a commit.
fn many(store: &mut Single, count: usize, name: &str, args: impl Fn(usize) -> String) {
    let commands: Vec<_> = (0..count).map(|at| format!(r#"{{"command":"{name}","args":{}}}"#, args(at))).collect();
    for commands in commands.chunks(1_000) {
        let answer = reply(store, &format!(r#"{{"transact":[{}]}}"#, commands.join(",")));
        assert!(answer.starts_with("ok"), "{answer}");
    }
}

fn claimed_jobs(store: &mut Single, count: usize) {
    many(store, count, "jobs.enqueue", |at| format!(r#"{{"id":"j{at:05}","type":"a","params":{{}}}}"#));
    many(store, count, "jobs.claim_next", |_| r#"{"pod":"pod-a"}"#.into());
}

#[test]
fn a_requeue_goes_on_in_further_commits_until_its_limit() {
    for mut store in [Single::memory(), Single::sqlite()] {
        claimed_jobs(&mut store, 2_500);
        store.now(31_000);
        let some = command(&mut store, "jobs.requeue_expired", r#"{"limit":1200}"#);
        assert_eq!(some, r#"ok rev=- {"requeued":1200,"failed":0,"more":true}"#);
        let rest = command(&mut store, "jobs.requeue_expired", "{}");
        assert_eq!(rest, r#"ok rev=- {"requeued":1300,"failed":0,"more":false}"#);
        assert_eq!(store.query("jobs.depth", "{}"), "{\"a\":2500}\n");
    }
}

#[test]
fn a_purge_passes_by_the_chunks_of_an_open_parent() {
    for mut store in [Single::memory(), Single::sqlite()] {
        // 1,100 chunks that have ended before their parent, then 1,500 jobs that may go.
        command(&mut store, "jobs.enqueue", r#"{"id":"p","type":"p","params":{}}"#);
        command(&mut store, "jobs.claim_next", r#"{"pod":"pod-a"}"#);
        for (first, count) in [(0, 999), (999, 101)] {
            let (chunks, last) = (vec!["{}"; count].join(","), first > 0);
            let split = command(
                &mut store,
                "jobs.split",
                &format!(
                    r#"{{"id":"p","token":2,"chunks":[{chunks}],"first_chunk":{first},"total_chunks":1100,"last":{last}}}"#
                ),
            );
            assert!(split.starts_with("ok"), "{split}");
        }
        many(&mut store, 1_500, "jobs.enqueue", |at| format!(r#"{{"id":"j{at:05}","type":"a","params":{{}}}}"#));
        many(&mut store, 2_600, "jobs.claim_next", |_| r#"{"pod":"pod-a"}"#.into());
        let claimed = store.query("jobs.list", r#"{"state":"in_progress"}"#);
        let claimed: Vec<serde_json::Value> = serde_json::from_str(&claimed).unwrap();
        let ends: Vec<_> = claimed
            .iter()
            .filter(|job| job["id"] != "p")
            .map(|job| format!(r#"{{"id":{},"token":{}}}"#, job["id"], job["claim_token"]))
            .collect();
        assert_eq!(ends.len(), 2_600);
        many(&mut store, 2_600, "jobs.complete", |at| ends[at].clone());
        let purged = command(&mut store, "jobs.purge", r#"{"cutoff_ms":1001}"#);
        assert_eq!(purged, r#"ok rev=- {"purged":1500,"more":false}"#);
        let settled = command(&mut store, "jobs.settle_parent", r#"{"id":"p"}"#);
        assert!(settled.ends_with(r#"{"settled":true,"remaining":0}"#), "{settled}");
        let purged = command(&mut store, "jobs.purge", r#"{"cutoff_ms":1001}"#);
        assert_eq!(purged, r#"ok rev=- {"purged":1101,"more":false}"#);
    }
}

#[test]
fn a_claim_looks_at_no_more_than_100_candidates() {
    let mut store = Single::memory();
    // 100 dead claims that may not be claimed again hide the one behind them, until they are requeued.
    many(&mut store, 100, "jobs.enqueue", |at| {
        format!(r#"{{"id":"j{at}","type":"a","params":{{}},"max_attempts":1}}"#)
    });
    command(&mut store, "jobs.enqueue", r#"{"id":"k","type":"a","params":{}}"#);
    many(&mut store, 101, "jobs.claim_next", |_| r#"{"pod":"pod-a"}"#.into());
    store.now(31_000);
    assert!(command(&mut store, "jobs.claim_next", r#"{"pod":"pod-b"}"#).contains(r#""job":null"#));
    let requeued = command(&mut store, "jobs.requeue_expired", "{}");
    assert_eq!(requeued, r#"ok rev=- {"requeued":1,"failed":100,"more":false}"#);
    assert!(command(&mut store, "jobs.claim_next", r#"{"pod":"pod-b"}"#).contains(r#""id":"k""#));
}

#[test]
fn a_drop_goes_on_in_further_commits() {
    for mut store in [Single::memory(), Single::sqlite()] {
        many(&mut store, 2_300, "cdc_cursors.advance", |at| {
            format!(r#"{{"sink_name":"hook","index_uid":"i{at}","expected_seq":null,"new_seq":1}}"#)
        });
        let dropped = command(&mut store, "cdc_cursors.drop", r#"{"sink_name":"hook"}"#);
        assert_eq!(dropped, r#"ok rev=- {"dropped":2300,"more":false}"#);
    }
}

#[test]
fn claims_depth_and_expiry_walk_an_index() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tasklog.db");
    drop(tasklog::TaskStore::open(&format!("sqlite:{}", path.display())).unwrap());
    let file = rusqlite::Connection::open(&path).unwrap();
    let queued = || Cell::from("queued");
    let dead = || Scan::all("by_claim_expiry").to(Bound::Included(vec![Cell::Integer(5)]));
    for scan in [
        Scan::equal("by_state", [queued()]).limit(1),
        Scan::equal("by_type", [queued(), Cell::from("a")]).limit(1),
        Scan::equal("by_type", [queued()]).from(Bound::Excluded(vec![Cell::from("a")])).limit(1),
        dead().limit(99),
        dead().after(vec![Cell::Integer(3), Cell::from("j")]),
        Scan::equal("by_parent", [Cell::from("p"), Cell::from("failed")]).limit(1),
        Scan::all("by_finished").to(Bound::Excluded(vec![Cell::Integer(5)])),
    ] {
        let sql = sqlite::scan_sql(&jobs::DEF, &scan).unwrap();
        let mut explain = file.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
        let plan: Vec<String> = explain.raw_query().mapped(|row| row.get(3)).collect::<Result<_, _>>().unwrap();
        let plan = plan.join("; ");
        assert!(plan.contains(&format!("SEARCH jobs USING INDEX jobs_{}", scan.index)), "{sql}\n{plan}");
        assert!(!plan.contains("TEMP B-TREE"), "{sql}\n{plan}");
    }
}
