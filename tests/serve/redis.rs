//! A store in Redis: several services on one store, and a server that goes and comes back.

use serde_json::{Value, json};
use tasklog_testing::RedisServer;

use crate::service::{Service, Tail, register};

#[test]
fn what_one_service_writes_another_one_reads_at_the_position_it_was_told() {
    let server = RedisServer::start();
    let (one, two) = (Service::of(&server.url(), &[]), Service::of(&server.url(), &[]));
    let mut tail = Tail::open(&two, "/v1/events", "");
    for number in 1..=20 {
        let id = format!("t{number}");
        let position = one.register(&id).position().to_string();
        two.get_with(&format!("/v1/tables/tasks/{id}"), &[("tasklog-min-position", &position)]).with(200);
    }
    assert_eq!(tail.ids(20), (1..=20).collect::<Vec<_>>());
}

#[test]
fn while_the_server_is_gone_requests_are_told_so_and_afterwards_everything_goes_on() {
    let mut server = RedisServer::durable();
    let service = Service::of(&server.url(), &["--heartbeat-ms", "100"]);
    service.register("t1");
    let mut tail = Tail::open(&service, "/v1/events", "");
    assert_eq!(tail.ids(1), [1]);
    server.kill();
    let refused = service.post("/v1/commands", &register("t2"));
    assert_eq!(refused.header("retry-after"), Some("1"));
    refused.problem(503, "unavailable");
    service.get("/v1/tables/tasks/t1").problem(503, "unavailable");
    service.get("/readyz").problem(503, "unavailable");
    service.get("/healthz").with(200);
    server.restart();
    while service.get("/readyz").status != 200 {
        std::thread::yield_now();
    }
    while service.post("/v1/commands", &register("t3")).status != 200 {
        std::thread::yield_now();
    }
    service.get("/v1/tables/tasks/t1").with(200);
    service.get("/v1/tables/tasks/t3").with(200);
    // The tail has lived through it.
    let told = tail.event().unwrap();
    assert!(told.data.contains("\"t3\"") || told.data.contains("\"t2\""), "{told:?}");
}

#[test]
fn a_server_that_hangs_costs_no_more_than_the_time_of_a_request() {
    let server = RedisServer::start();
    let service = Service::of(&server.url(), &["--request-ms", "300"]);
    service.register("t1");
    server.pause();
    service.get("/v1/tables/tasks/t1").problem(503, "unavailable");
    service.post("/v1/commands", &register("t2")).problem(503, "unavailable");
    service.get("/healthz").with(200);
    server.resume();
    while service.get("/v1/tables/tasks/t1").status != 200 {
        std::thread::yield_now();
    }
    while service.post("/v1/commands", &register("t3")).status != 200 {
        std::thread::yield_now();
    }
}

const JSON: (&str, &str) = ("content-type", "application/json");

#[test]
fn a_command_with_the_same_key_is_done_once_whichever_service_it_is_sent_to() {
    let server = RedisServer::start();
    let (one, two) = (Service::of(&server.url(), &[]), Service::of(&server.url(), &[]));
    let key = ("idempotency-key", "019b76da-ac00-7000-8000-000000000001");
    let first = one.post_with("/v1/commands", &register("t1"), &[JSON, key]).with(200).json();
    assert_eq!((&first["commit_id"], &first["repeated"]), (&key.1.into(), &Value::Null));
    for service in [&one, &two, &one] {
        let again = service.post_with("/v1/commands", &register("t1"), &[JSON, key]).with(200).json();
        assert_eq!(again["repeated"], true);
        for same in ["position", "rev", "created_at"] {
            assert_eq!(again[same], first[same], "{same}");
        }
    }
    // Under the same key the command is the first one, whatever its arguments say.
    let other = two.post_with("/v1/commands", &register("t2"), &[JSON, key]).with(200).json();
    assert_eq!((&other["repeated"], &other["miroir_id"]), (&true.into(), &"t1".into()));
    two.get("/v1/tables/tasks/t2").problem(404, "not_found");
    // Another command under it would be told that it was done.
    let cancel = r#"{"command":"tasks.cancel","args":{"miroir_id":"t1"}}"#;
    let why = two.post_with("/v1/commands", cancel, &[JSON, key]).problem(422, "invalid");
    assert!(why.contains("is that of tasks.register") && why.contains("not of tasks.cancel"), "{why}");
    assert_eq!(one.get("/v1/info").json()["head"], 1);
    // Without a key it is decided anew, and finds that nothing is left to do.
    let anew = two.register("t1").json();
    assert_eq!((&anew["changed"], &anew["repeated"]), (&false.into(), &Value::Null));
}

#[test]
fn conflicts_say_what_was_expected_and_what_another_service_has_left() {
    let server = RedisServer::start();
    let (one, two) = (Service::of(&server.url(), &[]), Service::of(&server.url(), &[]));
    let advance = |expected: Value, new: u64| {
        let args = json!({ "sink_name": "hook", "index_uid": "i", "expected_seq": expected, "new_seq": new });
        json!({ "command": "cdc_cursors.advance", "args": args }).to_string()
    };
    one.post("/v1/commands", &advance(Value::Null, 1)).with(200);
    two.post("/v1/commands", &advance(1.into(), 7)).with(200);
    let refused = one.post("/v1/commands", &advance(1.into(), 2));
    let body = refused.json();
    refused.problem(409, "conflict");
    assert_eq!((&body["expected"], &body["actual"]), (&"1".into(), &"7".into()), "{body}");
    // Nothing of a transaction is done if a part of it is refused.
    let transact = format!("{{\"transact\":[{},{}]}}", register("t1"), advance(1.into(), 2));
    two.post("/v1/transactions", &transact).problem(409, "conflict");
    two.get("/v1/tables/tasks/t1").problem(404, "not_found");
    one.post("/v1/commands", &advance(7.into(), 8)).with(200);
}

#[test]
fn counts_are_the_same_at_every_service() {
    let server = RedisServer::start();
    let (one, two) = (Service::of(&server.url(), &[]), Service::of(&server.url(), &[]));
    for number in 0..7 {
        one.register(&format!("t{number}"));
    }
    let cancel = json!({ "command": "tasks.cancel", "args": { "miroir_id": "t0" } }).to_string();
    two.post("/v1/commands", &cancel).with(200);
    let prune = json!({ "command": "tasks.prune", "args": { "miroir_ids": ["t1"], "cutoff_ms": 0 } }).to_string();
    assert_eq!(two.post("/v1/commands", &prune).with(200).json()["pruned"], 0);
    let enqueue = json!({ "command": "jobs.enqueue", "args": { "id": "j", "type": "dump_import", "params": {} } });
    let position = two.post("/v1/commands", &enqueue.to_string()).with(200).position().to_string();
    let min = ("tasklog-min-position", &*position);
    for service in [&one, &two] {
        assert_eq!(service.post_with("/v1/queries/tasks.count", "{}", &[JSON, min]).with(200).text, "7");
        let counts = service.get("/v1/queries/store.counts").with(200).json();
        assert_eq!((&counts["tasks"], &counts["jobs"]), (&7.into(), &1.into()));
        assert_eq!(service.get("/v1/queries/jobs.depth").with(200).json(), json!({ "dump_import": 1 }));
        assert_eq!(service.get("/tasks?limit=2").with(200).json()["total"], 7);
        assert_eq!(service.get("/tasks?limit=2&statuses=enqueued").with(200).json()["total"], 7);
    }
}
