//! Verifying and repairing a store in Redis in place: whatever a hand has done to its keys is found and put right, beside
//! writers, and nothing that writers do is mistaken for damage.
#![allow(clippy::unwrap_used, missing_docs)]
#![cfg(unix)]

mod support;

use std::{
    io::{BufRead, BufReader, Write},
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use support::program::{Ended, run, tasklog};
use tasklog::{
    Access, OpenOptions, TaskStore,
    command::CommandOptions,
    log::Position,
    projections::{Scan, TABLES, cell_json},
    wire,
};
use tasklog_testing::RedisServer;

/// A store under a prefix of its own.
struct Place {
    server: Arc<RedisServer>,
    prefix: String,
}

impl Place {
    fn new() -> Self {
        Self { server: RedisServer::shared(), prefix: uuid::Uuid::now_v7().to_string() }
    }

    /// A place with some rows of every kind.
    fn filled() -> Self {
        let place = Self::new();
        let store = place.open();
        LINES.iter().for_each(|line| send(&store, line));
        place.verified();
        place
    }

    fn url(&self) -> String {
        format!("{}?prefix={}", self.server.url(), self.prefix)
    }

    fn open(&self) -> TaskStore {
        TaskStore::open(&self.url()).unwrap()
    }

    fn reader(&self) -> TaskStore {
        let options = OpenOptions { access: Access::Read, ..OpenOptions::default() };
        TaskStore::open_with(&self.url().parse().unwrap(), options).unwrap()
    }

    fn key(&self, rest: &str) -> String {
        format!("{}:{rest}", self.prefix)
    }

    /// Runs a command on one of the store's keys.
    fn hand(&self, command: &str, key: &str, rest: &[&str]) {
        let key = self.key(key);
        let words: Vec<&str> = [command, &key].into_iter().chain(rest.iter().copied()).collect();
        let _: redis::Value = self.server.run(&words);
    }

    fn keys(&self, pattern: &str) -> Vec<String> {
        self.server.run(&["KEYS", &self.key(pattern)])
    }

    fn findings(&self) -> Vec<String> {
        let report = self.reader().verify(|_| {}).unwrap();
        report.findings.iter().map(ToString::to_string).collect()
    }

    #[track_caller]
    fn verified(&self) {
        assert_eq!(self.findings(), Vec::<String>::new());
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = tasklog();
        command.arg("--store").arg(self.url()).args(args);
        command
    }

    fn run(&self, args: &[&str]) -> Ended {
        run(self.command(args), b"")
    }

    /// Everything under the prefix but what is of one process, or kept in the background, as text.
    fn contents(&self) -> String {
        let mut keys = self.keys("*");
        let passing = ["_writer:", "_rebuilding", "_turns", "_tree", "_blob", "_retaining", "_snapshotting"]
            .map(|name| self.key(name));
        keys.retain(|key| !passing.iter().any(|name| key.starts_with(name)));
        keys.sort();
        let mut text = String::new();
        for key in keys {
            let kind: String = self.server.run(&["TYPE", &key]);
            let mut lines: Vec<String> = match &*kind {
                // How often a hand was at it is no content.
                "hash" => {
                    let mut fields = pairs(self.server.run(&["HGETALL", &key]));
                    fields.retain(|field| !field.starts_with("repairs="));
                    fields
                }
                "zset" => pairs(self.server.run(&["ZRANGE", &key, "0", "-1", "WITHSCORES"])),
                "set" => self.server.run::<Vec<Vec<u8>>>(&["SMEMBERS", &key]).iter().map(|m| shown(m)).collect(),
                "string" => vec![shown(&self.server.run::<Vec<u8>>(&["GET", &key]))],
                _ => vec![kind.clone()],
            };
            lines.sort();
            let ends: i64 = self.server.run(&["PEXPIRETIME", &key]);
            text.push_str(&format!("{key} {kind} {ends} {lines:?}\n"));
        }
        text
    }
}

fn shown(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn pairs(words: Vec<Vec<u8>>) -> Vec<String> {
    words.chunks(2).map(|pair| format!("{}={}", shown(&pair[0]), shown(&pair[1]))).collect()
}

fn send(store: &TaskStore, line: &str) {
    changes(store, line);
}

/// Whether the command has changed something.
fn changes(store: &TaskStore, line: &str) -> bool {
    let request = wire::parse(line).unwrap().request;
    let reply = store.queue(request).and_then(|answer| answer.wait());
    reply.unwrap_or_else(|error| panic!("{line}: {error:?}")).meta.changed
}

/// Every live row of every table.
fn rows(store: &TaskStore) -> String {
    let mut text = String::new();
    for table in TABLES {
        store
            .read_tables(|read| {
                read.walk_any(table, Scan::all("pk"), |row, rev| {
                    text.push_str(&format!("{} {} rev={rev}", table.name, row.key()));
                    for (column, cell) in table.columns.iter().zip(row.cells()) {
                        text.push_str(&format!(" {}={}", column.name, cell_json(column, &cell).unwrap()));
                    }
                    text.push('\n');
                    Ok(std::ops::ControlFlow::Continue(()))
                })
            })
            .unwrap();
    }
    text
}

const LINES: &[&str] = &[
    r#"{"command":"tasks.register","args":{"miroir_id":"t1","node_tasks":{"n1":1}}}"#,
    r#"{"command":"tasks.register","args":{"miroir_id":"t:2","node_tasks":{"n1":2,"n2":3}}}"#,
    r#"{"command":"tasks.report_node_statuses","args":{"miroir_id":"t1","reports":[{"node_id":"n1","status":"processing"}]}}"#,
    r#"{"command":"aliases.create","args":{"name":"a","target":"i1","target_verified":true}}"#,
    r#"{"command":"aliases.flip","args":{"name":"a","expected_version":1,"target":"i2","target_verified":true}}"#,
    r#"{"command":"aliases.delete","args":{"name":"a","expected_version":2}}"#,
    r#"{"command":"aliases.create","args":{"name":"_b","target":"i1","target_verified":true}}"#,
    r#"{"command":"sessions.record_write","args":{"session_id":"s1","mtask_id":"t1"}}"#,
    r#"{"command":"idempotency_cache.check_or_record","args":{"key":"k1","body_sha256":"0000000000000000000000000000000000000000000000000000000000000001","miroir_task_id":"t1","source":"client"}}"#,
    r#"{"command":"jobs.enqueue","args":{"id":"j1","type":"reindex","params":{"a":1}}}"#,
    r#"{"command":"jobs.enqueue","args":{"id":"j2","type":"reindex","params":{"a":2}}}"#,
    r#"{"command":"leader_lease.acquire","args":{"scope":"ilm","holder":"pod-1","ttl_ms":300000}}"#,
];

#[test]
fn what_a_hand_has_damaged_is_found_and_repaired() {
    let place = Place::filled();
    let whole = place.contents();
    type Damage<'d> = (&'d str, &'d dyn Fn(&Place), &'d [&'d str]);
    let damages: &[Damage<'_>] = &[
        ("a field", &|p| p.hand("HSET", "tasks:t1", &["status", "failed"]), &["tasks/t1: column status"]),
        ("a rev", &|p| p.hand("HSET", "tasks:t1", &["_rev", "999999"]), &["tasks/t1: column _rev"]),
        ("a rev that is none", &|p| p.hand("HSET", "tasks:t1", &["_rev", "x"]), &["tasks/t1: column _rev"]),
        ("a field too many", &|p| p.hand("HSET", "tasks:t1", &["colour", "red"]), &["tasks/t1: in its field colour"]),
        ("a row", &|p| p.hand("DEL", "tasks:t%3A2", &[]), &["tasks/t:2: missing from the live table"]),
        (
            "a stray row",
            &|p| p.hand("HSET", "aliases:zz", &["_rev", "3", "version", "1"]),
            &["aliases/zz: in the live table at rev 3"],
        ),
        (
            "a row that was deleted",
            &|p| p.hand("HSET", "aliases:a", &["_rev", "5", "version", "1"]),
            &["aliases/a: in the live table at rev 5"],
        ),
        (
            "a stray index entry",
            &|p| p.hand("ZADD", "tasks:_by_created", &["0", "1100000000000000000012t1\0\u{1}"]),
            &["tasks/t1: in tasks:_by_created"],
        ),
        ("an index", &|p| p.hand("DEL", "jobs:_by_state", &[]), &["jobs/j1: missing from jobs:_by_state"]),
        (
            "set members",
            &|p| {
                p.hand("SREM", "jobs:_queued", &["j1"]);
                p.hand("SADD", "jobs:_queued", &["j9"]);
                p.hand("SADD", "jobs:_index", &["100%"]);
                p.hand("ZADD", "jobs:_queue:reindex", &["17", "j2"]);
                p.hand("ZADD", "jobs:_claims", &["17", "j2"]);
            },
            &[
                "jobs/j1: missing from jobs:_queued",
                "jobs/j9: in jobs:_queued",
                "jobs/100%: in jobs:_index",
                "jobs/j2: jobs:_queue:reindex does not hold",
                "jobs/j2: in jobs:_claims",
            ],
        ),
        (
            "a tombstone",
            &|p| p.hand("HDEL", "_tombstones:aliases", &["a"]),
            &["aliases/a: missing from _tombstones:aliases"],
        ),
        (
            "a tombstone too many",
            &|p| p.hand("HSET", "_tombstones:aliases", &["_b", "1"]),
            &["aliases/_b: in _tombstones:aliases"],
        ),
        ("an expiry", &|p| p.hand("PERSIST", "session:s1", &[]), &["sessions/s1: missing from the expiry of its key"]),
        ("an expiry too many", &|p| p.hand("EXPIRE", "jobs:j1", &["1000"]), &["jobs/j1: in the expiry of its key"]),
        (
            "a lease's string",
            &|p| p.hand("SET", "lease:ilm", &["pod-9", "KEEPTTL"]),
            &["leader_lease/ilm: lease:ilm does not"],
        ),
        ("a use", &|p| p.hand("ZREM", "session:_lru", &["s1"]), &["sessions/s1: missing from session:_lru"]),
    ];
    for (what, damage, expected) in damages {
        damage(&place);
        let findings = place.findings();
        for text in *expected {
            assert!(findings.iter().any(|finding| finding.starts_with(text)), "{what}: no {text:?} in {findings:#?}");
        }
        let repairs = place.reader().repair(&TABLES, |_| {}).unwrap();
        assert!(repairs.repaired > 0 && repairs.in_the_way.is_empty(), "{what}: {repairs:?}");
        assert_eq!(place.contents(), whole, "{what}");
        place.verified();
    }
}

#[test]
fn a_version_counter_goes_on_after_its_tombstone_was_repaired() {
    let place = Place::filled();
    place.hand("DEL", "_tombstones:aliases", &[]);
    place.run(&["rebuild", "aliases"]).with(0).prints(&["1 entities repaired"]);
    let store = place.open();
    send(&store, r#"{"command":"aliases.create","args":{"name":"a","target":"i9","target_verified":true}}"#);
    let version: i64 = place.server.run(&["HGET", &place.key("aliases:a"), "version"]);
    assert_eq!(version, 3);
    place.verified();
}

#[test]
fn a_key_of_a_wrong_type_is_reported_and_left_alone() {
    let place = Place::filled();
    for (key, command, rest) in [
        ("tasks:t1", "RPUSH", "x"),
        ("jobs:_queued", "SET", "x"),
        ("lease:ilm", "RPUSH", "x"),
        ("tasks:u", "RPUSH", "x"),
    ] {
        place.hand("DEL", key, &[]);
        place.hand(command, key, &[rest]);
        let findings = place.findings();
        assert!(findings.iter().any(|finding| finding.contains(&format!("{key} is of a wrong type"))), "{findings:#?}");
        place.run(&["rebuild"]).with(1).prints(&[key, "wrong type"]);
        let kind: String = place.server.run(&["TYPE", &place.key(key)]);
        assert_eq!(kind, if command == "SET" { "string" } else { "list" });
        place.hand("DEL", key, &[]);
        place.run(&["rebuild"]).with(0);
        place.verified();
    }
}

#[test]
fn lost_tables_come_back_byte_for_byte() {
    let place = Place::filled();
    let (whole, live) = (place.contents(), rows(&place.reader()));
    // One helper of a table: noticed when the store is opened.
    place.hand("DEL", "jobs:_by_state", &[]);
    drop(place.open());
    assert_eq!(place.contents(), whole);
    // A table with all its keys.
    place.keys("tasks:*").iter().for_each(|key| place.server.run(&["DEL", key]));
    assert!(place.findings().iter().any(|finding| finding.starts_with("tasks/t1: missing")));
    place.run(&["rebuild", "tasks"]).with(0);
    assert_eq!(place.contents(), whole);
    // Everything but the log.
    let kept = ["log", "_head", "_log"].map(|name| place.key(name));
    for key in place.keys("*").iter().filter(|key| !kept.contains(key)) {
        let _: i64 = place.server.run(&["DEL", key]);
    }
    assert_eq!(rows(&place.open()), live);
    assert_eq!(place.contents(), whole);
    place.verified();
}

#[test]
fn a_table_of_an_older_projection_is_repaired_by_one_of_two_that_open_at_once() {
    let place = Place::filled();
    let whole = place.contents();
    for version in ["0", ""] {
        place.hand("HSET", "tasks:t1", &["status", "failed"]);
        match version {
            "" => place.hand("HDEL", "_projections", &["tasks"]),
            version => place.hand("HSET", "_projections", &["tasks", version]),
        }
        place.run(&["verify"]).with(3).says(&["table tasks is to be rebuilt"]);
        let opening = || place.command(&["apply"]).stdin(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let mut both: [Child; 2] = [opening(), opening()];
        both.iter_mut().for_each(|child| assert!(child.wait().unwrap().success()));
        assert_eq!(place.contents(), whole);
    }
    place.hand("HSET", "_projections", &["tasks", "99"]);
    place.run(&["apply"]).with(3).says(&["schema_ahead"]);
    place.run(&["rebuild"]).with(3).says(&["schema_ahead"]);
}

/// Stops the writers when it goes.
struct Stop<'s>(&'s AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn verify_and_rebuild_beside_writers_see_only_what_is_wrong() {
    let place = Place::filled();
    let stop = AtomicBool::new(false);
    let written: Vec<u64> = thread::scope(|scope| {
        let writers: Vec<_> = (0..2)
            .map(|writer| {
                let store = place.open();
                let stop = &stop;
                scope.spawn(move || {
                    let mut written = 0;
                    while !stop.load(Ordering::Relaxed) {
                        let (id, n) = (format!("w{writer}-{}", written % 40), written);
                        let cycle = [
                            format!(r#"{{"command":"jobs.enqueue","args":{{"id":"{id}-{n}","type":"t{writer}","params":{{}}}}}}"#),
                            format!(r#"{{"command":"cdc_cursors.advance","args":{{"sink_name":"s","index_uid":"i{writer}","expected_seq":{n},"new_seq":{}}}}}"#, n + 1),
                            format!(r#"{{"command":"sessions.record_write","args":{{"session_id":"{id}","mtask_id":"t{n}"}}}}"#),
                        ];
                        for line in &cycle[..] {
                            let request = wire::parse(line).unwrap().request;
                            if let Err(error) = store.queue(request).and_then(|answer| answer.wait()) {
                                assert!(line.contains("cdc_cursors"), "{line}: {error:?}");
                            }
                        }
                        written += 1;
                        // The log is replayed twice a round: it need not be long.
                        thread::sleep(Duration::from_millis(20));
                    }
                    written
                })
            })
            .collect();
        // Also when an assertion fails: the writers would go on for ever.
        let ended = Stop(&stop);
        let mut rng = ChaCha8Rng::seed_from_u64(7);
        for round in 0..4 {
            place.verified();
            // Rows that nobody writes to are damaged while others are written.
            place.hand("HSET", "tasks:t1", &["status", "failed"]);
            place.hand("ZADD", "jobs:_by_type", &["0", &format!("stray{round}")]);
            place.hand("SADD", "jobs:_queued", &[&format!("stray{}", rng.random_range(0..9))]);
            assert_eq!(place.findings().len(), 3, "{:#?}", place.findings());
            let repairs = place.reader().repair(&TABLES, |_| {}).unwrap();
            assert_eq!((repairs.repaired, repairs.in_the_way.len()), (3, 0));
        }
        drop(ended);
        writers.into_iter().map(|writer| writer.join().unwrap()).collect()
    });
    place.verified();
    assert!(written.iter().all(|written| *written > 0), "{written:?}");
    for (writer, written) in written.iter().enumerate() {
        let jobs: u64 = place.server.run(&["ZCARD", &place.key(&format!("jobs:_queue:t{writer}"))]);
        assert_eq!(jobs, *written, "every job of writer {writer} is there");
    }
}

#[test]
fn a_killed_rebuild_leaves_a_store_that_the_next_one_finishes() {
    let place = Place::new();
    place.run(&["apply", "examples/day.ndjson"]);
    let (whole, live) = (place.contents(), rows(&place.reader()));
    // The whole day, on both backends: the same positions and the same rows.
    let folder = tempfile::tempdir().unwrap();
    let file = format!("sqlite:{}", folder.path().join("day.db").display());
    let mut other = tasklog();
    other.arg("--store").arg(&file).args(["apply", "examples/day.ndjson"]);
    run(other, b"");
    let file = TaskStore::open(&file).unwrap();
    assert_eq!(file.head().unwrap(), place.reader().head().unwrap());
    assert_eq!(rows(&file), live);
    place.verified();

    let mut rng = ChaCha8Rng::seed_from_u64(11);
    let mut lost = place.keys("jobs:*");
    lost.extend(place.keys("tasks:*"));
    lost.extend(place.keys("canary_runs:*"));
    lost.sort();
    lost.iter().for_each(|key| place.server.run(&["DEL", key]));
    let mut finished = 0;
    for _ in 0..6 {
        let mut child = place.command(&["rebuild"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        thread::sleep(Duration::from_millis(rng.random_range(0..4_000)));
        child.kill().unwrap();
        finished += usize::from(child.wait().unwrap().success());
        // Its turn would end by itself.
        place.hand("DEL", "_rebuilding", &[]);
    }
    println!("{finished} rebuilds were faster than their kill");
    place.run(&["rebuild"]).with(0);
    place.verified();
    assert_eq!(rows(&place.reader()), live);
    assert_eq!(place.contents(), whole);
}

/// Rows of a table in a store that is larger than any page that is asked for at once.
const MANY: usize = 1_100;

#[test]
fn every_kind_of_damage_in_a_store_of_many_pages_is_found_and_repaired_beside_writers() {
    let place = Place::filled();
    let store = place.open();
    let answers: Vec<_> = (0..MANY)
        .flat_map(|n| {
            [
                format!(r#"{{"command":"tasks.register","args":{{"miroir_id":"m{n}","node_tasks":{{"n1":{n}}}}}}}"#),
                format!(r#"{{"command":"jobs.enqueue","args":{{"id":"k{n}","type":"reindex","params":{{}}}}}}"#),
                format!(r#"{{"command":"aliases.create","args":{{"name":"x{n}","target":"i{n}","target_verified":true}}}}"#),
                format!(r#"{{"command":"cdc_cursors.advance","args":{{"sink_name":"s","index_uid":"i{n}","expected_seq":null,"new_seq":1}}}}"#),
            ]
        })
        .chain((0..20).flat_map(|n| {
            [
                format!(r#"{{"command":"aliases.delete","args":{{"name":"x{n}","expected_version":1}}}}"#),
                format!(r#"{{"command":"canaries.define","args":{{"id":"c{n}","name":"name {n}","index_uid":"p","interval_s":60,"query_json":{{}},"assertions_json":[]}}}}"#),
            ]
        }))
        .map(|line| store.queue(wire::parse(&line).unwrap().request).unwrap())
        .collect();
    answers.into_iter().for_each(|answer| drop(answer.wait().unwrap()));
    place.verified();
    let whole = place.contents();
    type Damage<'d> = (&'d str, &'d [(&'d str, &'d str, &'d [&'d str])], &'d str);
    let damages: &[Damage<'_>] = &[
        ("a field", &[("HSET", "tasks:m700", &["status", "failed"])], "tasks/m700: column status"),
        ("a field that is gone", &[("HDEL", "tasks:m701", &["created_at"])], "tasks/m701: column created_at"),
        ("a row", &[("DEL", "tasks:m702", &[])], "tasks/m702: missing from the live table"),
        ("a stray row", &[("HSET", "jobs:zz", &["_rev", "3", "state", "queued"])], "jobs/zz: in the live table"),
        ("a row of a deleted one", &[("HSET", "aliases:x3", &["_rev", "3"])], "aliases/x3: in the live table"),
        ("an index entry", &[("ZREM", "tasks:_by_pk", &["2m703\0\u{1}"])], "tasks/m703: missing from tasks:_by_pk"),
        ("a stray index entry", &[("ZADD", "tasks:_by_pk", &["0", "2ghost\0\u{1}"])], "tasks/ghost: in tasks:_by_pk"),
        ("an entry of nothing", &[("ZADD", "jobs:_by_type", &["0", "nothing"])], "jobs/nothing: in jobs:_by_type"),
        (
            "an index entry with a score",
            &[("ZADD", "tasks:_by_pk", &["5", "2m704\0\u{1}"])],
            "tasks/m704: tasks:_by_pk does not hold",
        ),
        ("a member", &[("SREM", "jobs:_queued", &["k705"])], "jobs/k705: missing from jobs:_queued"),
        ("a stray member", &[("SADD", "tasks:_index", &["ghost"])], "tasks/ghost: in tasks:_index"),
        (
            "one member for another",
            &[("SREM", "tasks:_index", &["m706"]), ("SADD", "tasks:_index", &["m706x"])],
            "tasks/m706: missing from tasks:_index",
        ),
        (
            "a score",
            &[("ZADD", "jobs:_queue:reindex", &["17", "k707"])],
            "jobs/k707: jobs:_queue:reindex does not hold",
        ),
        ("a scored member", &[("ZREM", "jobs:_queue:reindex", &["k708"])], "jobs/k708: missing from jobs:_queue"),
        ("a unique value", &[("HDEL", "canary:_by_name", &["name 7"])], "canaries/c7: missing from canary:_by_name"),
        (
            "a wrong owner",
            &[("HSET", "canary:_by_name", &["name 8", "c9"])],
            "canaries/c8: canary:_by_name does not hold",
        ),
        ("a stray value", &[("HSET", "canary:_by_name", &["x", "c9"])], "canaries/c9: in canary:_by_name"),
        (
            "a second part",
            &[("SREM", "cdc_cursor:_index:s", &["i709"])],
            "cdc_cursors/s/i709: missing from cdc_cursor:_index:s",
        ),
        ("a string", &[("SET", "cdc_cursor:s:i710", &["9"])], "cdc_cursors/s/i710: column last_event_seq"),
        ("a tombstone", &[("HDEL", "_tombstones:aliases", &["x4"])], "aliases/x4: missing from _tombstones:aliases"),
        (
            "a tombstone's rev",
            &[("HSET", "_tombstones:aliases", &["x5", "1"])],
            "aliases/x5: _tombstones:aliases does not",
        ),
        ("a stray tombstone", &[("HSET", "_tombstones:tasks", &["m711", "1"])], "tasks/m711: in _tombstones:tasks"),
        (
            "half a tombstone",
            &[("ZADD", "_tombstones_at:tasks", &["99999999999999", "m712"])],
            "tasks/m712: in _tombstones_at:tasks",
        ),
        ("an expiry", &[("EXPIRE", "tasks:m713", &["100000"])], "tasks/m713: in the expiry of its key"),
    ];
    // One by one: a kind of damage must not be found only because another one made somebody look closely.
    for (what, commands, expected) in damages {
        commands.iter().for_each(|(command, key, rest)| place.hand(command, key, rest));
        let found = place.findings();
        assert!(found.iter().any(|finding| finding.starts_with(expected)), "{what}: no {expected:?} in {found:#?}");
        let repairs = place.reader().repair(&TABLES, |_| {}).unwrap();
        assert!(repairs.repaired > 0 && repairs.in_the_way.is_empty(), "{what}: {repairs:?}");
    }
    assert_eq!(place.contents(), whole);
    // All of them while others write into the same helpers.
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let ended = Stop(&stop);
        let writer = scope.spawn(|| {
            let mut written = 0;
            while !stop.load(Ordering::Relaxed) {
                let id = format!("w{written}");
                send(
                    &store,
                    &format!(r#"{{"command":"tasks.register","args":{{"miroir_id":"{id}","node_tasks":{{}}}}}}"#),
                );
                send(
                    &store,
                    &format!(r#"{{"command":"jobs.enqueue","args":{{"id":"{id}","type":"reindex","params":{{}}}}}}"#),
                );
                send(
                    &store,
                    &format!(
                        r#"{{"command":"aliases.create","args":{{"name":"{id}","target":"i","target_verified":true}}}}"#
                    ),
                );
                send(
                    &store,
                    &format!(r#"{{"command":"aliases.delete","args":{{"name":"{id}","expected_version":1}}}}"#),
                );
                written += 1;
                // The log is replayed several times: it need not be long.
                thread::sleep(Duration::from_millis(20));
            }
            written
        });
        for (_, commands, _) in damages {
            commands.iter().for_each(|(command, key, rest)| place.hand(command, key, rest));
        }
        let found = place.findings();
        assert!(found.len() >= damages.len(), "{found:#?}");
        for (what, _, expected) in damages {
            assert!(found.iter().any(|finding| finding.starts_with(expected)), "{what}: no {expected:?} in {found:#?}");
        }
        let repairs = place.reader().repair(&TABLES, |_| {}).unwrap();
        assert!(repairs.in_the_way.is_empty(), "{repairs:?}");
        place.verified();
        drop(ended);
        assert!(writer.join().unwrap() > 0);
    });
    place.verified();
    // A key of a wrong type among many.
    place.hand("DEL", "tasks:m714", &[]);
    place.hand("RPUSH", "tasks:m714", &["x"]);
    assert!(place.findings().iter().any(|finding| finding.contains("tasks:m714 is of a wrong type")));
    assert_eq!(place.reader().repair(&TABLES, |_| {}).unwrap().in_the_way.len(), 1);
    place.hand("DEL", "tasks:m714", &[]);
    place.reader().repair(&TABLES, |_| {}).unwrap();
    place.verified();
}

/// The writer of the process that quarantined went on deciding on the row as it had read it before: the rev is the same. Its
/// next event replaced a mapping that no replay had any more, and neither verification nor a follower came past it.
#[test]
fn commands_after_a_quarantine_see_the_row_as_it_is_without_the_event() {
    let place = Place::new();
    let store = place.open();
    let map = |tenant: &str| {
        let hash = "0a".repeat(32);
        send(
            &store,
            &format!(r#"{{"command":"tenant_map.map","args":{{"api_key_hash":"{hash}","tenant_id":"{tenant}"}}}}"#),
        );
    };
    map("acme");
    store.quarantine(Position(1), "the wrong key", CommandOptions::default()).unwrap();
    map("other");
    place.verified();
}

/// Writers of other processes went on deciding on the row as they had read it before, because its rev was the same: the next
/// event of one of them was decided on a mapping that no replay had any more.
#[test]
fn other_writers_see_a_row_as_it_is_after_a_quarantine_and_after_its_lift() {
    let place = Place::new();
    let (other, store) = (place.open(), place.open());
    let hash = "0a".repeat(32);
    let map = |tenant: &str| {
        format!(r#"{{"command":"tenant_map.map","args":{{"api_key_hash":"{hash}","tenant_id":"{tenant}"}}}}"#)
    };
    send(&other, &map("acme"));
    send(&other, &map("wrong"));
    store.quarantine(Position(2), "the wrong tenant", CommandOptions::default()).unwrap();
    // On the row as it had read it, either command would do the opposite.
    assert!(!changes(&other, &map("acme")));
    store.lift_quarantine(Position(2), None, CommandOptions::default()).unwrap();
    assert!(!changes(&other, &map("wrong")));
    place.verified();
    store.quarantine(Position(2), "the wrong tenant, really", CommandOptions::default()).unwrap();
    assert!(changes(&other, &map("wrong")));
    place.verified();
}

#[test]
fn a_writer_in_another_process_decides_on_the_row_as_it_is_without_a_quarantined_event() {
    let place = Place::new();
    let hash = "0a".repeat(32);
    let line = |tenant: &str| {
        format!(r#"{{"command":"tenant_map.map","args":{{"api_key_hash":"{hash}","tenant_id":"{tenant}"}}}}"#)
    };
    let mut command = tasklog();
    command.args(["--store", &place.url(), "apply", "--json"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let (mut to, mut from) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()).lines());
    let mut ask = move |tenant: &str| -> serde_json::Value {
        writeln!(to, "{}", line(tenant)).unwrap();
        to.flush().unwrap();
        serde_json::from_str(&from.next().unwrap().unwrap()).unwrap()
    };
    ask("acme");
    let answer = ask("wrong");
    assert_eq!(answer["reply"]["changed"], true, "{answer}");
    let quarantine = ["quarantine", "2", "--reason", "the wrong tenant"];
    let mut command = tasklog();
    command.args(["--store", &place.url()]).args(quarantine);
    run(command, b"").with(0);
    let answer = ask("wrong");
    drop(ask);
    assert!(child.wait().unwrap().success());
    assert_eq!(answer["reply"]["changed"], true, "{answer}");
    place.verified();
}
