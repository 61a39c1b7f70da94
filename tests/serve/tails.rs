//! Live tails.

use std::{
    io::{BufRead, Write},
    thread,
};

use serde_json::{Value, json};
use tasklog_testing::RedisServer;

use crate::{
    service::{Service, Sse, Tail, register},
    support::program::{run, tasklog},
};

fn write(service: &Service, ids: std::ops::Range<usize>) {
    let body: String = ids.map(|at| register(&format!("t{at}")) + "\n").collect();
    service.post_with("/v1/commands", &body, &[("content-type", "application/x-ndjson")]).with(200);
}

#[test]
fn a_tail_tells_what_was_and_what_comes_and_a_new_one_goes_on_where_it_was_cut() {
    let service = Service::new(&[]);
    write(&service, 0..30);
    let mut tail = Tail::open(&service, "/v1/events", "");
    assert_eq!(tail.ids(20), (1..=20).collect::<Vec<_>>());
    drop(tail);
    write(&service, 30..60);
    let mut tail = Tail::open(&service, "/v1/events", "last-event-id: 20\r\n");
    assert_eq!(tail.ids(40), (21..=60).collect::<Vec<_>>());
    thread::scope(|scope| {
        scope.spawn(|| write(&service, 60..1_060));
        assert_eq!(tail.ids(1_000), (61..=1_060).collect::<Vec<_>>());
    });
    // The header goes before the parameter, and what is told is what a page tells.
    let mut tail = Tail::open(&service, "/v1/events?after=3", "last-event-id: 1058\r\n");
    let told: Value = serde_json::from_str(&tail.event().unwrap().data).unwrap();
    let page = service.get("/v1/events?after=1058&limit=1").json();
    assert_eq!(told, page["events"][0]);
}

#[test]
fn many_tails_hear_the_same() {
    let service = Service::new(&[]);
    let mut tails: Vec<_> = (0..50).map(|_| Tail::open(&service, "/v1/events", "")).collect();
    thread::scope(|scope| {
        for tail in &mut tails {
            scope.spawn(|| assert_eq!(tail.ids(500), (1..=500).collect::<Vec<_>>()));
        }
        write(&service, 0..500);
    });
}

#[test]
fn a_tail_filters_and_says_how_far_it_is_when_nothing_comes() {
    let service = Service::new(&["--heartbeat-ms", "50"]);
    let mut tail = Tail::open(&service, "/v1/events?key=t7", "");
    write(&service, 0..10);
    assert_eq!(tail.ids(1), [8]);
    let heard = tail.next().unwrap();
    assert_eq!(heard, Sse { id: Some(10), ..Sse::default() });
    service.get("/v1/events?table=nothing").problem(400, "malformed");
}

#[test]
fn a_tail_masks_what_its_reader_does_not_see() {
    let service = Service::new(&[]);
    service.register("t1");
    let pin =
        json!({ "command": "sessions.record_write", "args": { "session_id": "secret-session", "mtask_id": "t1" } });
    service.post("/v1/commands", &pin.to_string()).with(200);
    let told = Tail::open(&service, "/v1/events?after=1", "").event().unwrap();
    assert!(!told.data.contains("secret") && told.data.contains("***1"), "{told:?}");
}

#[test]
fn a_tail_after_what_the_log_does_not_have_is_refused() {
    let service = Service::new(&["--min-position-wait-ms", "20"]);
    service.register("t1");
    let tail = [("accept", "text/event-stream")];
    let refused = service.get_with("/v1/events?after=99", &tail);
    let body = refused.json();
    refused.problem(409, "conflict");
    assert_eq!((&body["expected"], &body["actual"]), (&json!("99"), &json!("1")));
    service.get("/v1/events?after=99").problem(409, "conflict");
    let from = [("accept", "text/event-stream"), ("last-event-id", "x")];
    service.get_with("/v1/events", &from).problem(400, "malformed");
}

#[test]
fn a_reader_that_takes_nothing_is_cut_off_with_a_reason_and_loses_nothing() {
    let service = Service::new(&["--tail-stall-ms", "200", "--write-stall-ms", "600000"]);
    // More than the buffers of both sides hold.
    let nodes: serde_json::Map<String, Value> = (0..2_000).map(|at| (format!("node-{at:026}"), at.into())).collect();
    let body: String = (0..400)
        .map(|at| {
            let args = json!({ "miroir_id": format!("t{at}"), "node_tasks": nodes });
            json!({ "command": "tasks.register", "args": args }).to_string() + "\n"
        })
        .collect();
    service.post_with("/v1/commands", &body, &[("content-type", "application/x-ndjson")]).with(200);
    let mut slow = service.connect();
    slow.write_all(b"GET /v1/events HTTP/1.1\r\nhost: x\r\naccept: text/event-stream\r\n\r\n").unwrap();
    service.logs("\"reason\":\"slow\"");
    let mut tail = Tail::read(slow);
    let mut last = 0;
    let end = loop {
        let sse = tail.event().unwrap();
        match sse.id {
            Some(id) => {
                assert_eq!(id, last + 1);
                last = id;
            }
            None => break sse,
        }
    };
    assert_eq!(end.event.as_deref(), Some("end"));
    assert_eq!(serde_json::from_str::<Value>(&end.data).unwrap()["reason"], "slow");
    assert!(last < 400, "it was not slow");
    let mut again = Tail::open(&service, "/v1/events", &format!("last-event-id: {last}\r\n"));
    assert_eq!(again.ids(400 - last as usize), (last + 1..=400).collect::<Vec<_>>());
}

#[test]
fn a_tail_ends_with_a_reason_when_the_service_stops() {
    let mut service = Service::new(&[]);
    service.register("t1");
    let mut tail = Tail::open(&service, "/v1/events", "");
    assert_eq!(tail.ids(1), [1]);
    service.signal("-TERM");
    let end = tail.event().unwrap();
    assert_eq!(end.event.as_deref(), Some("end"));
    assert_eq!(serde_json::from_str::<Value>(&end.data).unwrap()["reason"], "stopping");
    assert_eq!(service.ended(), Some(0));
}

#[test]
fn tails_are_counted() {
    let service = Service::new(&["--tails-max", "1"]);
    let _first = Tail::open(&service, "/v1/events", "");
    service.get_with("/v1/events", &[("accept", "text/event-stream")]).problem(503, "busy");
    // A page is no tail.
    service.get("/v1/events").with(200);
}

#[test]
fn a_tail_is_a_body_in_chunks_that_proxies_do_not_keep() {
    let service = Service::new(&[]);
    let mut stream = service.connect();
    stream.write_all(b"GET /v1/events HTTP/1.1\r\nhost: x\r\naccept: text/event-stream\r\n\r\n").unwrap();
    let head: Vec<String> =
        std::io::BufReader::new(stream).lines().map(Result::unwrap).take_while(|line| !line.is_empty()).collect();
    for line in ["content-type: text/event-stream", "cache-control: no-store", "transfer-encoding: chunked"] {
        assert!(head.iter().any(|had| had.eq_ignore_ascii_case(line)), "{line}: {head:?}");
    }
}

/// What a tail is told when it ends.
#[track_caller]
fn ended(tail: &mut Tail) -> Value {
    let end = loop {
        let sse = tail.event().expect("a reason");
        if sse.event.is_some() {
            break sse;
        }
    };
    assert_eq!(end.event.as_deref(), Some("end"));
    assert_eq!(tail.event(), None, "something stands behind the end");
    serde_json::from_str(&end.data).unwrap()
}

#[test]
fn a_tail_is_told_that_the_log_was_cut_back_behind_it() {
    let mut server = RedisServer::start();
    let service = Service::of(&server.url(), &["--heartbeat-ms", "100", "--no-duties"]);
    for id in ["t1", "t2", "t3"] {
        service.register(id);
    }
    // What it is started with again.
    let _: String = server.run(&["SAVE"]);
    service.register("t4");
    service.register("t5");
    let mut tail = Tail::open(&service, "/v1/events?after=2", "");
    assert_eq!(tail.ids(3), [3, 4, 5]);
    server.kill();
    server.restart();
    let told = ended(&mut tail);
    assert_eq!(told["reason"], "diverged", "{told}");
    let detail = told["detail"].as_str().unwrap();
    assert!(detail.contains("event 3") && detail.contains("event 5"), "{detail}");
}

#[test]
fn a_tail_is_told_that_the_log_cannot_be_read_without_repair() {
    let mut first = Service::new(&[]);
    write(&first, 0..4);
    assert_eq!(first.stop(), Some(0));
    let file = rusqlite::Connection::open(first.url().strip_prefix("sqlite:").unwrap()).unwrap();
    file.execute("UPDATE events SET checksum = -1 WHERE position = 3", []).unwrap();
    drop(file);
    let service = Service::of(&first.url(), &[]);
    let told = ended(&mut Tail::open(&service, "/v1/events", ""));
    assert_eq!(told["reason"], "failed", "{told}");
    assert!(told["detail"].as_str().unwrap().contains("event 3"), "{told}");
    // Whoever stands behind it hears what comes.
    let mut tail = Tail::open(&service, "/v1/events?after=3", "");
    assert_eq!(tail.ids(1), [4]);
}

#[test]
fn an_event_whose_bytes_have_changed_is_told_to_nobody_unless_it_is_quarantined() {
    let mut first = Service::new(&[]);
    write(&first, 0..4);
    assert_eq!(first.stop(), Some(0));
    let path = first.url();
    let path = path.strip_prefix("sqlite:").unwrap();
    let flip =
        "UPDATE events SET payload = CAST(replace(payload, 'node_tasks', 'node_taskx') AS BLOB) WHERE position = 2";
    assert_eq!(rusqlite::Connection::open(path).unwrap().execute(flip, []).unwrap(), 1);
    let mut service = Service::of(&first.url(), &[]);
    let mut tail = Tail::open(&service, "/v1/events?after=0", "");
    let told = ended(&mut tail);
    assert!(told["detail"].as_str().unwrap().contains("event 2"), "{told}");
    assert_eq!(told["reason"], "failed");
    let why = service.get("/v1/events").problem(503, "corrupt");
    assert!(why.contains("event 2: checksum of its stored bytes"), "{why}");
    // Those before and behind it are told.
    assert_eq!(service.get("/v1/events?limit=1").with(200).json()["next_after"], 1);
    assert_eq!(service.get("/v1/events?after=2").with(200).json()["events"].as_array().unwrap().len(), 2);

    assert_eq!(service.stop(), Some(0));
    let mut quarantine = tasklog();
    quarantine.args(["--store", &first.url(), "quarantine", "2", "--reason", "a flipped bit"]);
    run(quarantine, b"").with(0);
    let service = Service::of(&first.url(), &[]);
    let events = service.get("/v1/events").with(200).json()["events"].clone();
    assert_eq!(events.as_array().unwrap().len(), 5);
}
