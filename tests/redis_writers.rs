//! Several writers of one store in Redis: nobody is starved, nothing is done twice, nothing grows with the backlog, and no
//! clock but the server's counts.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{BufRead, BufReader, Write},
    net::TcpStream,
    sync::{
        Arc, Barrier,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use serde_json::{Value, json};
use support::{
    program,
    shared::{Shared, ask, assert_verified, events, line, run, send},
};
use tasklog::{
    OpenOptions, TaskStore,
    log::{Clock, CommitId, ManualClock, Position, SystemClock},
    wire,
};

/// Writers, each with a committer and connections of its own.
const WRITERS: usize = 4;

// ---- hot rows

/// A writer that had been overtaken twice asked for a turn, but lost it when it was put off or found its rows changed once
/// more: of many writers of one row, some were overtaken eight times in a row and told `unavailable`.
#[test]
fn every_one_of_ten_writers_gets_a_hot_lease_again_and_again() {
    const WRITERS: usize = 10;
    const TERMS: usize = 30;
    let place = Shared::new();
    let stores: Vec<_> = (0..WRITERS).map(|_| place.open()).collect();
    thread::scope(|scope| {
        for (writer, store) in stores.iter().enumerate() {
            scope.spawn(move || {
                let holder = format!("pod-{writer}");
                for _ in 0..TERMS {
                    let term = loop {
                        let acquire = json!({ "scope": "reshard:hot", "holder": holder, "ttl_ms": 600_000 });
                        // An error of the store fails here: nobody is told `unavailable`.
                        let answer = run(store, "leader_lease.acquire", acquire);
                        if answer["granted"] == true {
                            break answer["term"].clone();
                        }
                    };
                    let held = json!({ "scope": "reshard:hot", "holder": holder, "term": term });
                    let mut phase = held.clone();
                    phase["phase"] = json!({ "name": "verify" });
                    run(store, "leader_lease.commit_phase", phase);
                    assert_eq!(run(store, "leader_lease.release", held)["released"], true);
                }
            });
        }
    });
    let events = events(&stores[0]);
    assert_eq!(events.len(), WRITERS * TERMS * 3);
    for (at, event) in events.iter().enumerate() {
        let kinds = ["lease_acquired", "lease_phase_committed", "lease_released"];
        assert_eq!(event.name, kinds[at % 3], "two leaders: {event:?}");
    }
    assert_verified(&stores[0]);
}

#[test]
fn a_hot_queue_is_emptied_in_order_by_four_writers_of_four_pods_each() {
    const JOBS: usize = 300;
    let place = Shared::new();
    let stores: Vec<_> = (0..WRITERS).map(|_| place.open()).collect();
    for job in 0..JOBS {
        run(&stores[job % WRITERS], "jobs.enqueue", json!({ "id": format!("j{job:04}"), "type": "x", "params": {} }));
    }
    let done: Vec<usize> = thread::scope(|scope| {
        let pods = (0..WRITERS * 4).map(|pod| {
            let store = &stores[pod % WRITERS];
            scope.spawn(move || {
                let mut done = 0;
                loop {
                    let claimed = run(store, "jobs.claim_next", json!({ "pod": format!("pod-{pod}") }));
                    let Some(id) = claimed["job"]["id"].as_str() else { return done };
                    run(store, "jobs.complete", json!({ "id": id, "token": claimed["claim_token"] }));
                    done += 1;
                }
            })
        });
        let pods: Vec<_> = pods.collect();
        pods.into_iter().map(|pod| pod.join().unwrap()).collect()
    });
    assert_eq!(done.iter().sum::<usize>(), JOBS);
    for writer in 0..WRITERS {
        let of_writer: usize = done.iter().skip(writer).step_by(WRITERS).sum();
        assert!(of_writer > 0, "writer {writer} got nothing: {done:?}");
    }
    let claimed: Vec<_> = events(&stores[0]).into_iter().filter(|event| event.name == "job_claimed").collect();
    let claimed: Vec<_> = claimed.into_iter().map(|event| event.key).collect();
    let in_order: Vec<_> = (0..JOBS).map(|job| format!("j{job:04}")).collect();
    assert_eq!(claimed, in_order);
    assert_verified(&stores[0]);
}

// ---- a large backlog

/// Calls of each command so far.
fn command_calls(place: &Shared) -> BTreeMap<String, u64> {
    let stats: String = place.server.run(&["INFO", "commandstats"]);
    let calls = stats.lines().filter_map(|line| {
        let (name, rest) = line.strip_prefix("cmdstat_")?.split_once(":calls=")?;
        Some((name.to_owned(), rest.split(',').next()?.parse().unwrap()))
    });
    calls.collect()
}

fn bytes_sent(place: &Shared) -> u64 {
    let stats: String = place.server.run(&["INFO", "stats"]);
    stats.lines().find_map(|line| line.strip_prefix("total_net_output_bytes:")).unwrap().trim().parse().unwrap()
}

/// What the server sent while `work` ran.
fn sent_during<T>(place: &Shared, work: impl FnOnce() -> T) -> (T, u64) {
    let before = bytes_sent(place);
    let result = work();
    (result, bytes_sent(place) - before)
}

#[test]
fn a_backlog_of_a_hundred_thousand_due_jobs_is_served_in_bounded_steps() {
    const JOBS: usize = 100_000;
    const STEP: usize = 32;
    let place = Shared::alone();
    let clock = ManualClock::at(1_000);
    let store = place.open_with(OpenOptions {
        recording_from: Some(0),
        recording_clock: Some(Arc::new(clock.clone())),
        ..OpenOptions::default()
    });
    let transact = |count: usize, item: &dyn Fn(usize) -> Value| {
        let items: Vec<_> = (0..count).map(item).collect();
        send(&store, &json!({ "transact": items })).unwrap();
    };
    for jobs in (0..JOBS).step_by(1_000) {
        // Every second one may be claimed once only.
        let enqueue = |job: usize| {
            let args = json!({ "id": format!("j{:06}", jobs + job), "type": "x", "params": {} });
            line("jobs.enqueue", if job.is_multiple_of(2) { args } else { with(args, "max_attempts", json!(1)) })
        };
        transact(1_000, &enqueue);
    }
    for _ in 0..JOBS / STEP {
        transact(STEP, &|_| line("jobs.claim_next", json!({ "pod": "gone" })));
    }
    clock.advance(3_600_000);
    assert_eq!(ask(&store, "jobs.expired_claims", json!({})).as_array().unwrap().len(), JOBS);

    let before = command_calls(&place);
    let (claimed, sent) = sent_during(&place, || run(&store, "jobs.claim_next", json!({ "pod": "p" })));
    assert_eq!(claimed["job"]["id"], "j000000");
    assert!(sent < 300_000, "one claim made the server send {sent} bytes");
    let (requeued, sent) = sent_during(&place, || run(&store, "jobs.requeue_expired", json!({})));
    assert_eq!((requeued["requeued"].as_u64(), requeued["failed"].as_u64()), (Some(5_000), Some(5_000)));
    assert_eq!(requeued["more"], true);
    assert!(sent < 20_000_000, "10,000 rows made the server send {sent} bytes");
    let next = run(&store, "jobs.claim_next", json!({ "pod": "p" }));
    assert_eq!(next["job"]["id"], "j000002", "the place in the queue is kept");
    clock.advance(604_800_000 + 1);
    let purged = run(&store, "jobs.purge", json!({}));
    assert_eq!((purged["purged"].as_u64(), purged["more"].as_bool()), (Some(5_000), Some(false)));

    let after = command_calls(&place);
    let called = |name: &str| after.get(name).unwrap_or(&0) - before.get(name).unwrap_or(&0);
    for unbounded in ["keys", "scan", "hscan", "sscan", "zscan", "smembers", "zrange", "hkeys", "hvals", "sort"] {
        assert_eq!(called(unbounded), 0, "{unbounded} was called");
    }
    assert!(called("evalsha") > 0, "{after:?}");
}

#[test]
fn a_purge_goes_on_behind_more_chunks_of_an_open_job_than_one_look_meets() {
    const CHUNKS: usize = 5_200;
    let place = Shared::new();
    let store = place.open_with(OpenOptions { recording_from: Some(0), ..OpenOptions::default() });
    run(&store, "jobs.enqueue", json!({ "id": "p", "type": "x", "params": {} }));
    let token = run(&store, "jobs.claim_next", json!({ "pod": "a" }))["claim_token"].clone();
    for first in (0..CHUNKS).step_by(900) {
        let count = 900.min(CHUNKS - first);
        run(
            &store,
            "jobs.split",
            json!({ "id": "p", "token": token, "chunks": vec![json!({}); count], "first_chunk": first,
                "total_chunks": CHUNKS, "last": first + count == CHUNKS }),
        );
    }
    run(&store, "jobs.enqueue", json!({ "id": "j", "type": "x", "params": {} }));
    let transact = |items: &[Value]| drop(send(&store, &json!({ "transact": items })).unwrap());
    for first in (0..=CHUNKS).step_by(32) {
        transact(&vec![line("jobs.claim_next", json!({ "pod": "a" })); 32.min(CHUNKS + 1 - first)]);
    }
    // The last one to end is the one that may go.
    let claimed = ask(&store, "jobs.list", json!({ "state": "in_progress" }));
    let mut ends: Vec<_> = claimed.as_array().unwrap().iter().filter(|job| job["id"] != "p").collect();
    ends.sort_by_key(|job| job["id"] == "j");
    let ends = ends.iter().map(|job| line("jobs.complete", json!({ "id": job["id"], "token": job["claim_token"] })));
    ends.collect::<Vec<_>>().chunks(500).for_each(transact);

    // The rows of a writer that has seen nothing yet come from the server.
    let fresh = place.open();
    let purged = run(&fresh, "jobs.purge", json!({ "cutoff_ms": i64::MAX }));
    assert_eq!((purged["purged"].as_u64(), purged["more"].as_bool()), (Some(1), Some(false)));
    run(&store, "jobs.settle_parent", json!({ "id": "p" }));
    let purged = run(&fresh, "jobs.purge", json!({ "cutoff_ms": i64::MAX }));
    assert_eq!((purged["purged"].as_u64(), purged["more"].as_bool()), (Some(CHUNKS as u64 + 1), Some(false)));
    assert_verified(&store);
}

fn with(mut args: Value, name: &str, value: Value) -> Value {
    args[name] = value;
    args
}

/// The commands that the server got while `work` ran, scripts' own included.
fn monitored(place: &Shared, work: impl FnOnce()) -> Vec<String> {
    let mut monitor = TcpStream::connect(("127.0.0.1", place.server.port())).unwrap();
    monitor.write_all(b"MONITOR\r\n").unwrap();
    let mut lines = BufReader::new(monitor).lines().map(Result::unwrap);
    assert_eq!(lines.next().unwrap(), "+OK");
    work();
    let _: String = place.server.run(&["ECHO", "the-end-of-it"]);
    lines.take_while(|line| !line.contains("the-end-of-it")).collect()
}

#[test]
fn what_one_command_asks_of_the_server_does_not_grow_with_the_table() {
    let count = |jobs: usize| {
        let place = Shared::alone();
        let store = place.open();
        for first in (0..jobs).step_by(1_000) {
            let enqueue = |job| line("jobs.enqueue", json!({ "id": format!("j{job}"), "type": "x", "params": {} }));
            let items: Vec<_> = (first..first + 1_000).map(enqueue).collect();
            send(&store, &json!({ "transact": items })).unwrap();
        }
        let fresh = place.open();
        run(&fresh, "jobs.claim_next", json!({ "pod": "p" }));
        let lines = monitored(&place, || {
            let claimed = run(&fresh, "jobs.claim_next", json!({ "pod": "p" }));
            run(&fresh, "jobs.heartbeat", json!({ "id": claimed["job"]["id"], "token": claimed["claim_token"] }));
            run(&fresh, "jobs.complete", json!({ "id": claimed["job"]["id"], "token": claimed["claim_token"] }));
        });
        let whole: Vec<_> =
            lines.iter().filter(|line| line.to_lowercase().contains("hgetall\" \"") && line.contains(":_")).collect();
        assert!(whole.is_empty(), "helpers are read as a whole: {whole:?}");
        lines.len()
    };
    let (few, many) = (count(1_000), count(8_000));
    // The sweeper may have its turn in one of them and not in the other.
    assert!(many < few + 200, "{few} commands with 1,000 jobs, {many} with 8,000");
}

// ---- the same command again, elsewhere

fn without_repeated(mut reply: Value) -> Value {
    reply.as_object_mut().unwrap().remove("repeated");
    reply
}

/// Lines whose answers tell positions.
fn telling(round: usize) -> Vec<Value> {
    let enqueue = |id: String| line("jobs.enqueue", json!({ "id": id, "type": format!("x{round}"), "params": {} }));
    let claim = line("jobs.claim_next", json!({ "pod": "pod-a", "types": [format!("x{round}")] }));
    let acquire =
        |scope: String| line("leader_lease.acquire", json!({ "scope": scope, "holder": "pod-a", "ttl_ms": 600_000 }));
    let mut lines = vec![
        enqueue(format!("a{round}")),
        line("jobs.enqueue", json!({ "type": format!("x{round}"), "params": {} })),
        claim.clone(),
        acquire(format!("reshard:{round}")),
        line("tasks.register", json!({ "node_tasks": {} })),
        json!({ "transact": [enqueue(format!("b{round}")), claim.clone(), acquire(format!("ilm:{round}")), claim] }),
    ];
    for line in &mut lines {
        line["command_id"] = CommitId::mint().to_string().into();
    }
    lines
}

fn apply(place: &Shared, line: &Value) -> Value {
    let mut command = program::tasklog();
    command.args(["--json", "--store", &place.url(), "apply"]);
    let answers = program::run(command, format!("{line}\n").as_bytes()).with(0).json();
    answers[0]["reply"].clone()
}

#[test]
fn a_command_repeated_by_another_writer_or_process_gets_the_first_answer() {
    let place = Shared::new();
    let (first, second) = (place.open(), place.open());
    for line in telling(0) {
        let answer = send(&first, &line).unwrap();
        assert_eq!(answer.get("repeated"), None, "{answer}");
        let head = first.head().unwrap();
        for again in [send(&first, &line).unwrap(), send(&second, &line).unwrap(), apply(&place, &line)] {
            assert_eq!(again["repeated"], true, "{again}");
            assert_eq!(without_repeated(again), answer, "{line}");
        }
        assert_eq!(first.head().unwrap(), head);
    }
    assert_verified(&first);
}

#[test]
fn a_command_sent_by_many_writers_and_processes_at_once_is_done_once() {
    let place = Shared::new();
    let stores: Vec<_> = (0..WRITERS).map(|_| place.open()).collect();
    for round in 0..6 {
        for line in telling(round) {
            let start = Barrier::new(WRITERS * 2 + usize::from(round == 0));
            let answers: Vec<Value> = thread::scope(|scope| {
                let (start, line, place) = (&start, &line, &place);
                let mut callers = Vec::new();
                for store in stores.iter().chain(&stores) {
                    callers.push(scope.spawn(move || {
                        start.wait();
                        send(store, line).unwrap()
                    }));
                }
                if round == 0 {
                    callers.push(scope.spawn(move || {
                        start.wait();
                        apply(place, line)
                    }));
                }
                callers.into_iter().map(|caller| caller.join().unwrap()).collect()
            });
            let fresh = answers.iter().filter(|answer| answer.get("repeated").is_none()).count();
            assert_eq!(fresh, 1, "{answers:?}");
            let said: BTreeSet<_> = answers.iter().map(|answer| without_repeated(answer.clone()).to_string()).collect();
            assert_eq!(said.len(), 1, "{said:?}");
        }
    }
    assert_verified(&stores[0]);
}

/// Each repeat of a command took a call of its own, one after the other, because the first of them took the kept answer
/// away.
#[test]
fn one_call_finds_the_first_outcome_for_all_repeats_of_a_batch() {
    const CALLERS: usize = 64;
    let place = Shared::alone();
    let mut register = line("tasks.register", json!({ "node_tasks": {} }));
    register["command_id"] = CommitId::mint().to_string().into();
    let first = send(&place.open(), &register).unwrap();
    let store = place.open();
    let before = command_calls(&place)["evalsha"];
    let queued: Vec<_> =
        (0..CALLERS).map(|_| store.queue(wire::parse(&register.to_string()).unwrap().request).unwrap()).collect();
    for answer in queued {
        let answer: Value = serde_json::from_str(&wire::reply_json(&answer.wait().unwrap())).unwrap();
        assert_eq!(without_repeated(answer), first);
    }
    let calls = command_calls(&place)["evalsha"] - before;
    assert!(calls < CALLERS as u64 / 2, "{calls} calls for {CALLERS} repeats");
}

/// A cursor's number stands beside its row: a reader that asked for one after the other met the number of one commit with
/// the rev of another.
#[test]
fn a_cursor_is_read_as_one_commit_left_it() {
    const STEPS: u64 = 1_500;
    let place = Shared::new();
    let (writer, reader) = (place.open(), place.open());
    let ended = AtomicBool::new(false);
    thread::scope(|scope| {
        let ended = &ended;
        scope.spawn(move || {
            for step in 1..=STEPS {
                let expected = (step > 1).then_some(step - 1);
                let args = json!({ "sink_name": "s", "index_uid": "i", "expected_seq": expected, "new_seq": step });
                assert_eq!(run(&writer, "cdc_cursors.advance", args)["position"], step);
            }
            ended.store(true, Ordering::Release);
        });
        while !ended.load(Ordering::Acquire) {
            let row = ask(&reader, "cdc_cursors.get", json!({ "sink_name": "s", "index_uid": "i" }));
            assert_eq!(row["rev"], row["last_event_seq"], "{row}");
        }
    });
}

/// How many of its chunks had not ended was the sum of two counts, between which one chunk went from one to the other: the
/// parent completed while nobody had done the chunk.
#[test]
fn a_parent_stays_open_while_a_chunk_goes_to_and_fro() {
    const LOOKS: usize = 2_000;
    let place = Shared::new();
    let (worker, timer) = (place.open(), place.open());
    let enqueue = json!({ "id": "p", "type": "x", "params": {} });
    run(&worker, "jobs.enqueue", enqueue);
    let token = run(&worker, "jobs.claim_next", json!({ "pod": "a" }))["claim_token"].clone();
    let split = json!({ "id": "p", "token": token, "chunks": [{}], "first_chunk": 0, "total_chunks": 1, "last": true });
    run(&worker, "jobs.split", split);
    let ended = AtomicBool::new(false);
    thread::scope(|scope| {
        let (worker, ended) = (&worker, &ended);
        scope.spawn(move || {
            while !ended.load(Ordering::Acquire) {
                let token = run(worker, "jobs.claim_next", json!({ "pod": "a" }))["claim_token"].clone();
                run(worker, "jobs.release", json!({ "id": "p-c0000", "token": token }));
            }
        });
        let mut looks = (0..LOOKS).map(|_| run(&timer, "jobs.settle_parent", json!({ "id": "p" })));
        let settled = looks.find(|look| look["settled"] == true || look["remaining"] != 1);
        ended.store(true, Ordering::Release);
        assert_eq!(settled, None);
    });
    let token = run(&worker, "jobs.claim_next", json!({ "pod": "a" }))["claim_token"].clone();
    run(&worker, "jobs.complete", json!({ "id": "p-c0000", "token": token }));
    assert_eq!(run(&timer, "jobs.settle_parent", json!({ "id": "p" }))["settled"], true);
    assert_verified(&timer);
}

// ---- clocks

/// ms: how far clocks are off.
const OFF_MS: i64 = 600_000;
/// ms: how far a decision's instant may be behind the append's.
const DECIDED_BEFORE_MS_MAX: i64 = 1_000;

/// Writers whose own clocks are right, ahead and behind.
fn with_clocks(place: &Shared) -> Vec<TaskStore> {
    let open = |off: i64| {
        let clock = Arc::new(ManualClock::at(SystemClock.now() + off));
        place.open_with(OpenOptions { clock, ..OpenOptions::default() })
    };
    [0, OFF_MS, -OFF_MS].into_iter().map(open).collect()
}

fn server_ms(place: &Shared) -> i64 {
    let (seconds, micros): (i64, i64) = place.server.run(&["TIME"]);
    seconds * 1_000 + micros / 1_000
}

#[test]
fn clocks_of_replicas_that_are_minutes_off_change_nothing() {
    let place = Shared::new();
    let stores = with_clocks(&place);
    for (at, store) in stores.iter().enumerate() {
        let scope = format!("reshard:{at}");
        let began = server_ms(&place);
        let granted = run(store, "leader_lease.acquire", json!({ "scope": scope, "holder": "me", "ttl_ms": 60_000 }));
        let session = json!({ "session_id": format!("s{at}"), "mtask_id": "t" });
        let session = run(store, "sessions.record_write", session);
        let key = json!({ "key": format!("k{at}"), "body_sha256": "ab".repeat(32), "miroir_task_id": "t" });
        let recorded = run(store, "idempotency_cache.check_or_record", key.clone());
        run(store, "jobs.enqueue", json!({ "id": format!("j{at}"), "type": format!("x{at}"), "params": {} }));
        let claim = json!({ "pod": "me", "types": [format!("x{at}")] });
        let claimed = run(store, "jobs.claim_next", claim.clone());
        let ended = server_ms(&place);
        // By the server's clock, and by no other; a decision is made shortly before it is written.
        let earliest = began - DECIDED_BEFORE_MS_MAX;
        let during = |end: &Value, lasts: i64| (earliest + lasts..=ended + lasts).contains(&end.as_i64().unwrap());
        assert!(during(&granted["expires_at"], 60_000), "{granted}");
        assert!(during(&session["ttl"], 1_200_000), "{session}");
        assert!(during(&recorded["expires_at"], 86_400_000), "{recorded}");
        assert!(during(&claimed["claim_expires_at"], 30_000), "{claimed}");
        for other in &stores {
            let acquire = json!({ "scope": scope, "holder": "another", "ttl_ms": 60_000 });
            assert_eq!(run(other, "leader_lease.acquire", acquire)["granted"], false, "two leaders");
            assert_eq!(run(other, "jobs.claim_next", claim.clone())["job"], Value::Null, "two claimants");
            assert_eq!(run(other, "jobs.requeue_expired", json!({}))["requeued"], 0);
            assert_eq!(run(other, "idempotency_cache.check_or_record", key.clone())["outcome"], "dedup");
            assert_eq!(ask(other, "sessions.get", json!({ "session_id": format!("s{at}") }))["rev"], session["rev"]);
            assert_eq!(ask(other, "jobs.expired_claims", json!({})), json!([]));
        }
    }
    let events = events(&stores[0]);
    assert!(events.windows(2).all(|pair| pair[0].at <= pair[1].at), "recorded_at decreased");
    assert!((server_ms(&place) - events.last().unwrap().at).abs() < 60_000);
    assert_verified(&stores[0]);
}

#[test]
fn a_right_ends_for_all_clocks_at_the_same_instant_and_one_takes_it_over() {
    let place = Shared::new();
    let stores = with_clocks(&place);
    for (at, store) in stores.iter().enumerate() {
        let scope = format!("reshard:{at}");
        let granted = run(store, "leader_lease.acquire", json!({ "scope": scope, "holder": "me", "ttl_ms": 100 }));
        let end = granted["expires_at"].as_i64().unwrap();
        let taken: Vec<bool> = thread::scope(|threads| {
            let contenders: Vec<_> = stores
                .iter()
                .enumerate()
                .map(|(who, store)| {
                    let (place, scope) = (&place, &scope);
                    threads.spawn(move || {
                        let holder = format!("contender-{who}");
                        loop {
                            let acquire = json!({ "scope": scope, "holder": holder, "ttl_ms": 600_000 });
                            let answer = run(store, "leader_lease.acquire", acquire);
                            let now = server_ms(place);
                            if answer["granted"] == true {
                                assert!(now >= end, "granted at {now}, before {end}");
                                return true;
                            }
                            if answer["holder"] != "me" {
                                return false;
                            }
                            thread::sleep(Duration::from_millis(1));
                        }
                    })
                })
                .collect();
            contenders.into_iter().map(|contender| contender.join().unwrap()).collect()
        });
        assert_eq!(taken.iter().filter(|taken| **taken).count(), 1, "{taken:?}");
    }
}

/// As after the promotion of a replica on a machine whose clock is behind. (The server's clock itself cannot be moved
/// here: the log is moved ahead of it.)
#[test]
fn time_stands_still_until_a_server_whose_clock_is_behind_its_log_has_caught_up() {
    let place = Shared::new();
    run(&place.open(), "tasks.register", json!({ "miroir_id": "t", "node_tasks": {} }));
    let ahead = server_ms(&place) + OFF_MS;
    let _: u64 = place.server.run(&["HSET", &format!("{}:_head", place.prefix), "recorded_at", &ahead.to_string()]);
    let stores: Vec<_> = (0..WRITERS).map(|_| place.open()).collect();
    let mut end = 0;
    for round in 0..20 {
        let store = &stores[round % WRITERS];
        let acquire = json!({ "scope": "reshard:x", "holder": "me", "ttl_ms": 50 });
        end = run(store, "leader_lease.acquire", acquire)["expires_at"].as_i64().unwrap();
        let other = json!({ "scope": "reshard:x", "holder": "another", "ttl_ms": 50 });
        assert_eq!(run(store, "leader_lease.acquire", other)["granted"], false);
    }
    assert_eq!(end, ahead + 50);
    let events = events(&stores[0]);
    assert!(events.windows(2).all(|pair| pair[0].at <= pair[1].at), "recorded_at decreased");
    assert_eq!(events.last().unwrap().at, ahead);
}

/// Log and tables were read by two calls, and whatever was committed between them looked like a difference: a service under
/// load was told not to be ready.
#[test]
fn a_store_is_healthy_while_it_is_written_to() {
    const LOOKS: usize = 300;
    let place = Shared::new();
    let (busy, other) = (place.open(), place.open());
    run(&busy, "tasks.register", json!({ "miroir_id": "first", "node_tasks": {} }));
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        for writer in 0..4 {
            let (busy, stop) = (&busy, &stop);
            scope.spawn(move || {
                let mut number = 0;
                while !stop.load(Ordering::Acquire) {
                    let id = format!("t-{writer}-{number}");
                    run(busy, "tasks.register", json!({ "miroir_id": id, "node_tasks": {} }));
                    number += 1;
                }
            });
        }
        let healthy: Vec<_> = (0..LOOKS).map(|_| (busy.health(), other.health())).collect();
        stop.store(true, Ordering::Release);
        for (busy, other) in healthy {
            assert!(busy.unwrap() >= Position(1));
            assert!(other.unwrap() >= Position(1));
        }
    });
}
