//! The writer of a shared store, batch by batch: what a batch is decided on, and what its callers are told.
#![allow(clippy::unwrap_used, missing_docs)]

use std::{sync::Arc, time::Duration};

use serde_json::{Value, json};
use tasklog::{
    Config, Error, TaskStore,
    backend::{Fate, Newest, RedisBackend, RedisBackendOptions},
    engine::{AnyReply, Decided, Engine},
    log::{
        Position,
        redis::{Connector, Link, RedisUrl, Time},
    },
    wire,
};
use tasklog_testing::{Cut, CuttingProxy, RedisServer};

/// A shared store, and a handle on it that is another writer than the engine of the test.
struct Place {
    server: Arc<RedisServer>,
    prefix: String,
    other: TaskStore,
}

impl Place {
    fn new() -> Self {
        let (server, prefix) = (RedisServer::shared(), uuid::Uuid::now_v7().to_string());
        let other = TaskStore::open(&format!("{}?prefix={prefix}", server.url())).unwrap();
        Self { server, prefix, other }
    }

    fn engine(&self) -> Engine<RedisBackend> {
        self.engine_through(self.server.port())
    }

    fn engine_through(&self, port: u16) -> Engine<RedisBackend> {
        Engine::new(RedisBackend::open(self.options(port)).unwrap(), Config::default(), "engine".into()).unwrap()
    }

    fn options(&self, port: u16) -> RedisBackendOptions {
        let url: RedisUrl = format!("redis://127.0.0.1:{port}/0?prefix={}", self.prefix).parse().unwrap();
        RedisBackendOptions {
            link: Arc::new(Link::new(Connector::new(url.clone()))),
            prefix: url.prefix.clone(),
            time: Time::Server,
            durability: url.durability,
            resolve_max: url.timeout,
            answer_kept: Duration::from_secs(600),
            newest: Newest::default(),
        }
    }

    /// What the other writer does, acknowledged.
    fn meanwhile(&self, name: &str, args: Value) -> Value {
        let reply = self.other.queue(wire::parse(&line(name, args)).unwrap().request).unwrap().wait().unwrap();
        serde_json::from_str(&wire::reply_json(&reply)).unwrap()
    }

    fn ask(&self, name: &str, args: Value) -> Value {
        let query = tasklog::tables::query(name).unwrap();
        let args = serde_json::value::to_raw_value(&args).unwrap();
        serde_json::from_str(&self.other.read_tables(|read| (query.run)(&args, read)).unwrap()).unwrap()
    }

    fn assert_verified(&self) {
        let report = self.other.verify(|_| {}).unwrap();
        assert!(report.findings.is_empty(), "{:#?}", report.findings);
    }
}

fn line(name: &str, args: Value) -> String {
    json!({ "command": name, "args": args }).to_string()
}

/// Decides one request in the open batch, as the committer does, and says where it stands there.
fn decide(engine: &mut Engine<RedisBackend>, line: &str) -> (Result<Decided, Error>, Option<usize>) {
    let mut request = wire::parse(line).unwrap().request;
    loop {
        match engine.decide(&mut request) {
            Ok(Decided::Unsure) => engine.learn().unwrap(),
            decided => return (decided, engine.item()),
        }
    }
}

#[track_caller]
fn reply(decided: Result<Decided, Error>) -> AnyReply {
    match decided {
        Ok(Decided::Reply(reply)) => reply,
        Ok(_) => panic!("it has no reply yet"),
        Err(error) => panic!("{error}"),
    }
}

fn answer(reply: &AnyReply) -> Value {
    serde_json::from_str(&reply.answers.to_json()[0]).unwrap()
}

/// The first round of a deletion looks once more for what others may have added. Its reply waited for that second round,
/// and was given the places of another batch than its own.
#[test]
fn a_command_of_several_rounds_reports_the_commit_of_its_own_round() {
    let place = Place::new();
    let canary =
        json!({ "id": "c", "name": "n", "index_uid": "i", "interval_s": 1, "query_json": {}, "assertions_json": [] });
    place.meanwhile("canaries.define", canary);
    for ran_at in 1..4 {
        let run = json!({ "canary_id": "c", "ran_at": ran_at, "status": "pass", "latency_ms": 1 });
        place.meanwhile("canary_runs.record", run);
    }
    let request = wire::parse(&line("canaries.delete", json!({ "id": "c" }))).unwrap().request;
    let reply = place.other.queue(request).unwrap().wait().unwrap();
    assert_eq!((reply.meta.first, reply.meta.position), (Some(Position(5)), Position(8)));
    place.assert_verified();
}

/// A page that was read before another row was asked for shows the queue as it was earlier than the row: a job that had
/// been claimed in between was taken for one whose claim is dead, and claimed once more.
#[test]
fn a_job_that_was_claimed_after_the_queue_was_read_is_not_claimed_again() {
    let place = Place::new();
    place.meanwhile("jobs.enqueue", json!({ "id": "j0", "type": "x", "params": {} }));
    place.meanwhile("jobs.enqueue", json!({ "id": "j1", "type": "y", "params": {} }));
    let mut engine = place.engine();
    engine.begin().unwrap();
    let first = decide(&mut engine, &line("jobs.claim_next", json!({ "pod": "engine" })));
    assert!(first.1.is_some());
    let claimed = place.meanwhile("jobs.claim_next", json!({ "pod": "other", "types": ["y"] }));
    assert_eq!(claimed["job"]["id"], "j1");
    // Nobody in this process has seen j1: the row is asked for.
    let (unknown, _) = decide(&mut engine, &line("jobs.complete", json!({ "id": "j1", "token": 1 })));
    assert!(matches!(unknown, Err(Error::Rejected(_))));
    let (second, _) = decide(&mut engine, &line("jobs.claim_next", json!({ "pod": "engine" })));
    assert_eq!(answer(&reply(second))["job"], Value::Null);
    let finished = engine.finish().unwrap();
    assert_eq!(finished.fate(first.1), Fate::Stands);
    let job = place.ask("jobs.get", json!({ "id": "j1" }));
    assert_eq!((&job["claimed_by"], &job["claim_token"]), (&json!("other"), &claimed["claim_token"]));
    place.assert_verified();
}

/// Requests join a batch while it is being decided. One that came after another writer's job was acknowledged was told
/// that the queue is empty, because the batch had looked at it before.
#[test]
fn a_request_that_joins_a_batch_sees_what_was_acknowledged_before_it_came() {
    let place = Place::new();
    let mut engine = place.engine();
    engine.begin().unwrap();
    let (early, _) = decide(&mut engine, &line("jobs.claim_next", json!({ "pod": "engine" })));
    assert_eq!(answer(&reply(early))["claim_token"], Value::Null);
    place.meanwhile("jobs.enqueue", json!({ "id": "j", "type": "x", "params": {} }));
    engine.admit();
    let (late, item) = decide(&mut engine, &line("jobs.claim_next", json!({ "pod": "engine" })));
    let mut late = reply(late);
    assert_eq!(engine.finish().unwrap().fate(item), Fate::Stands);
    engine.complete(&mut late, item).unwrap();
    assert_eq!((&answer(&late)["job"]["id"], &answer(&late)["claim_token"]), (&json!("j"), &json!(2)));
}

/// After a batch was written, the rows that had changed under some of its decisions are asked for. When that failed, all
/// of the batch was reported as failed, also what was in the log.
#[test]
fn what_was_written_is_acknowledged_although_stale_rows_could_not_be_looked_up() {
    let place = Place::new();
    let proxy = CuttingProxy::start(place.server.port());
    let mut engine = place.engine_through(proxy.port());
    let flip = |version: u64, to: &str| {
        line("aliases.flip", json!({ "name": "a", "expected_version": version, "target": to, "target_verified": true }))
    };
    let create = line("aliases.create", json!({ "name": "a", "target": "i1", "target_verified": true }));
    engine.execute(wire::parse(&create).unwrap().request).unwrap();
    place.meanwhile(
        "aliases.flip",
        json!({ "name": "a", "expected_version": 1, "target": "i2", "target_verified": true }),
    );
    engine.begin().unwrap();
    let (_, fresh) = decide(&mut engine, &line("tasks.register", json!({ "miroir_id": "t", "node_tasks": {} })));
    let (_, stale) = decide(&mut engine, &flip(1, "i3"));
    // Asked for twice, because a question is repeated on a new connection.
    proxy.cut(Cut::Request, b"HGETALL", 2);
    let finished = engine.finish().unwrap();
    assert_eq!((finished.fate(fresh), finished.fate(stale)), (Fate::Stands, Fate::Stale));
    let decided_again = engine.execute(wire::parse(&flip(1, "i3")).unwrap().request);
    assert!(matches!(decided_again, Err(Error::Rejected(rejection)) if rejection.kind.as_str() == "conflict"));
    place.assert_verified();
}

/// A no-op that repeated another caller's enqueue of the same batch answered a number that stands for a place.
#[test]
fn a_no_op_waits_for_the_position_that_its_answer_tells() {
    let place = Place::new();
    let mut engine = place.engine();
    let enqueue = line("jobs.enqueue", json!({ "id": "j", "type": "x", "params": {} }));
    engine.begin().unwrap();
    let (first, item) = decide(&mut engine, &enqueue);
    let mut first = reply(first);
    assert!(matches!(decide(&mut engine, &enqueue).0, Ok(Decided::Later)));
    engine.finish().unwrap();
    engine.complete(&mut first, item).unwrap();
    assert_eq!(answer(&first)["enqueued_at_position"], 1);
    let again = engine.execute(wire::parse(&enqueue).unwrap().request).unwrap();
    assert_eq!((again.meta.changed, &answer(&again)["enqueued_at_position"]), (false, &json!(1)));
}

#[test]
fn a_no_op_of_a_transact_tells_the_position_of_its_own_commit() {
    let place = Place::new();
    let enqueue = json!({ "command": "jobs.enqueue", "args": { "id": "j", "type": "x", "params": {} } });
    let other = json!({ "command": "jobs.enqueue", "args": { "id": "i", "type": "x", "params": {} } });
    let id = uuid::Uuid::now_v7().to_string();
    let transact = json!({ "transact": [other, enqueue, enqueue], "command_id": id }).to_string();
    let places = |reply: &AnyReply| -> Vec<Value> {
        let answers = reply.answers.to_json();
        answers
            .iter()
            .map(|text| serde_json::from_str::<Value>(text).unwrap()["enqueued_at_position"].clone())
            .collect()
    };
    let first = place.other.queue(wire::parse(&transact).unwrap().request).unwrap().wait().unwrap();
    assert_eq!(places(&first), [1, 2, 2]);
    let repeated = place.engine().execute(wire::parse(&transact).unwrap().request).unwrap();
    assert!(repeated.meta.repeated);
    assert_eq!(places(&repeated), [1, 2, 2]);
}

/// A rejection that quoted a row of the same batch told its caller a number that stands for a place.
#[test]
fn a_rejection_quotes_real_positions() {
    let place = Place::new();
    place.meanwhile("jobs.enqueue", json!({ "id": "j", "type": "x", "params": {} }));
    let mut engine = place.engine();
    let complete = line("jobs.complete", json!({ "id": "j", "token": 1 }));
    engine.begin().unwrap();
    decide(&mut engine, &line("jobs.claim_next", json!({ "pod": "engine" }))).0.unwrap();
    assert!(matches!(decide(&mut engine, &complete).0, Ok(Decided::Later)));
    engine.finish().unwrap();
    let Err(Error::Rejected(rejection)) = engine.execute(wire::parse(&complete).unwrap().request) else {
        panic!("it is somebody else's claim");
    };
    assert!(rejection.message.contains("claim 2 until"), "{rejection}");
    // A transact that is refused because of what it did itself has no later batch to wait for.
    let claim = json!({ "command": "jobs.claim_next", "args": { "pod": "engine" } });
    let transact = json!({ "transact": [
        { "command": "jobs.enqueue", "args": { "id": "k", "type": "y", "params": {} } },
        claim,
        { "command": "jobs.complete", "args": { "id": "k", "token": 1 } },
    ] });
    let Err(Error::Rejected(rejection)) = engine.execute(wire::parse(&transact.to_string()).unwrap().request) else {
        panic!("it is no claim of anybody");
    };
    // As it would have been in a store that gives positions itself.
    assert!(rejection.message.contains("claim 4 until"), "{rejection}");
}

/// A decision that was not written forgot the rows it had changed, and learned those that had changed under it. Of two
/// rows that it changes, it knew one in every second attempt and the other one in the rest, and never came to an end.
#[test]
fn a_command_that_knows_one_of_its_rows_learns_the_other_and_forgets_none() {
    let place = Place::new();
    for session in ["s1", "s2"] {
        place.meanwhile("sessions.record_write", json!({ "session_id": session, "mtask_id": "t" }));
    }
    let mut engine = place.engine();
    let write = |session: &str, task: &str| json!({ "command": "sessions.record_write", "args": { "session_id": session, "mtask_id": task } });
    engine.execute(wire::parse(&write("s1", "t1").to_string()).unwrap().request).unwrap();
    let both = json!({ "transact": [write("s1", "t2"), write("s2", "t2")] }).to_string();
    let reply = engine.execute(wire::parse(&both).unwrap().request).unwrap();
    assert_eq!(reply.meta.position, Position(5));
    place.assert_verified();
}

/// Of two writers of one process, one had seen the commit that the server lost, and its caller had been told of it.
#[test]
fn a_writer_misses_what_another_one_of_its_process_has_acknowledged() {
    let place = Place::new();
    let register =
        |id: &str| wire::parse(&line("tasks.register", json!({ "miroir_id": id, "node_tasks": {} }))).unwrap();
    place.meanwhile("tasks.register", json!({ "miroir_id": "kept", "node_tasks": {} }));
    let options = place.options(place.server.port());
    let another = RedisBackend::open(options.another()).unwrap();
    let open = |backend| Engine::new(backend, Config::default(), "engine".into()).unwrap();
    let (mut one, mut another) = (open(RedisBackend::open(options).unwrap()), open(another));
    let key = format!("{}:_head", place.prefix);
    let head: Vec<String> = place.server.run(&["HMGET", &key, "position", "commit", "recorded_at"]);
    one.execute(register("lost").request).unwrap();
    let [position, commit, at] = &head[..] else { panic!("{head:?}") };
    let _: i64 = place.server.run(&["HSET", &key, "position", position, "commit", commit, "recorded_at", at]);
    let error = another.execute(register("new").request).err().unwrap();
    assert_eq!(error.kind(), "diverged");
}

/// The first look, which knew none of the rows, crossed them off the list; the second one found an empty list.
#[test]
fn a_command_with_a_list_of_rows_works_on_it_once_the_rows_are_known() {
    let place = Place::new();
    for id in ["a", "b"] {
        place.meanwhile("tasks.register", json!({ "miroir_id": id, "node_tasks": {} }));
        place.meanwhile("tasks.set_status", json!({ "miroir_id": id, "status": "succeeded" }));
    }
    let args = json!({ "miroir_ids": ["a", "b", "c"], "cutoff_ms": 9_007_199_254_740_991_i64 });
    let reply = place.engine().execute(wire::parse(&line("tasks.prune", args)).unwrap().request).unwrap();
    assert_eq!(reply.answers.to_json(), [r#"{"pruned":2,"more":false}"#]);
}
