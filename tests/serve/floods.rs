//! Much of one thing: idle connections, bytes, patience, time.

use std::{
    io::{Read, Write},
    net::TcpStream,
};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::{Value, json};

use crate::{
    service::{Service, register},
    support::program::{run, tasklog},
};

const MIB: usize = 1 << 20;
const GIB: usize = 1 << 30;
/// What a service may have held at most while much came in.
const MEMORY_BYTES_MAX: usize = 256 * MIB;
const IDLE_CONNECTIONS: usize = 10_000;
/// Files that the other tests of this process may have open meanwhile.
const FILES_OF_OTHERS: usize = 500;

/// As many connections as the system lets one process open, but no more than are wanted.
fn idle_connections() -> usize {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).unwrap();
    let files = maximum.map_or(usize::MAX, |files| usize::try_from(files).unwrap());
    let connections = files.saturating_sub(FILES_OF_OTHERS).min(IDLE_CONNECTIONS);
    println!("{connections} connections");
    connections
}

/// The most bytes that a process has held.
fn memory_peak(service: &Service) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{}/status", service.child.id())).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    peak.trim().strip_suffix(" kB").unwrap().parse::<usize>().unwrap() * 1024
}

fn head(media: &str, length: &str) -> String {
    format!("POST /v1/commands HTTP/1.1\r\nhost: x\r\ncontent-type: {media}\r\n{length}\r\nconnection: close\r\n\r\n")
}

fn rest(mut stream: TcpStream) -> String {
    let mut text = Vec::new();
    // A connection that is cut while it is read has said what it said.
    let _ = stream.read_to_end(&mut text);
    String::from_utf8_lossy(&text).into_owned()
}

#[test]
fn ten_thousand_idle_connections_leave_room_for_requests() {
    let service = Service::new(&["--idle-ms", "3600000"]);
    let idle: Vec<_> = (0..idle_connections()).map(|_| service.connect()).collect();
    let body: String = (0..500).map(|at| register(&format!("t{at}")) + "\n").collect();
    let stream = [("content-type", "application/x-ndjson")];
    let answered = service.post_with("/v1/commands", &body, &stream).with(200);
    assert_eq!(answered.text.lines().count(), 500);
    assert_eq!(service.get("/v1/tables/tasks?limit=1000").with(200).json()["rows"].as_array().unwrap().len(), 500);
    // Each of them was kept, and is answered when it asks.
    for mut stream in idle {
        stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
        let answered = rest(stream);
        assert!(answered.starts_with("HTTP/1.1 200"), "{answered}");
    }
}

#[test]
fn a_gigabyte_that_is_no_command_is_refused_while_it_is_sent() {
    let service = Service::new(&[]);
    let json = "application/json";
    for (head, is_chunked) in
        [(head(json, "transfer-encoding: chunked"), true), (head(json, &format!("content-length: {GIB}")), false)]
    {
        let mut stream = service.connect();
        stream.write_all(head.as_bytes()).unwrap();
        let mut reading = stream.try_clone().unwrap();
        let part = if is_chunked { format!("{MIB:x}\r\n{}\r\n", " ".repeat(MIB)) } else { " ".repeat(MIB) };
        // The other side throws away what comes for half a second, so that the answer arrives, and then closes.
        let _ = (0..GIB / MIB).try_for_each(|_| stream.write_all(part.as_bytes()));
        let mut answered = Vec::new();
        let _ = reading.read_to_end(&mut answered);
        let answered = String::from_utf8_lossy(&answered);
        assert!(answered.is_empty() || answered.starts_with("HTTP/1.1 413"), "{answered}");
    }
    assert!(memory_peak(&service) < MEMORY_BYTES_MAX, "{}", memory_peak(&service));
    assert_eq!(service.get("/v1/info").json()["head"], 0);
}

#[test]
fn a_stream_of_a_gigabyte_is_read_to_its_last_line_without_being_kept() {
    let service = Service::new(&["--stream-bytes-max", "2000000000"]);
    let command = register("t1");
    let length = format!("content-length: {}", GIB + command.len());
    let mut stream = service.connect();
    stream.write_all(head("application/x-ndjson", &length).as_bytes()).unwrap();
    let line = " ".repeat(MIB - 1) + "\n";
    for _ in 0..GIB / MIB {
        stream.write_all(line.as_bytes()).unwrap();
    }
    stream.write_all(command.as_bytes()).unwrap();
    let answered = rest(stream);
    assert!(answered.contains(r#"{"line":1025,"ok":true"#), "{answered}");
    assert!(memory_peak(&service) < MEMORY_BYTES_MAX, "{}", memory_peak(&service));
}

#[test]
fn a_client_that_sends_byte_by_byte_is_answered() {
    let service = Service::new(&[]);
    let command = register("t1");
    let mut stream = service.connect();
    stream.set_nodelay(true).unwrap();
    for byte in (head("application/json", &format!("content-length: {}", command.len())) + &command).bytes() {
        stream.write_all(&[byte]).unwrap();
    }
    let answered = rest(stream);
    assert!(answered.starts_with("HTTP/1.1 200"), "{answered}");
}

#[test]
fn a_client_that_takes_nothing_of_its_answers_is_cut_off() {
    let service = Service::new(&["--write-stall-ms", "200"]);
    let nodes: serde_json::Map<_, _> = (0..50_000).map(|node| (format!("node-{node}"), Value::from(node))).collect();
    let command = json!({ "command": "tasks.register", "args": { "miroir_id": "t1", "node_tasks": nodes } });
    service.post("/v1/commands", &command.to_string()).with(200);
    let mut stream = service.connect();
    // Requests find no place either once answers do not; then the other side closes.
    while stream.write_all(b"GET /v1/tables/tasks/t1 HTTP/1.1\r\nhost: x\r\n\r\n").is_ok() {}
    service.register("t2");
}

#[test]
fn when_the_clock_jumps_commands_are_answered_and_time_in_the_log_does_not_go_back() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}", folder.path().join("tasklog.db").display());
    let at = |id: &str, at_ms: i64| {
        let args = json!({ "miroir_id": id, "node_tasks": {} });
        json!({ "command": "tasks.register", "args": args, "at_ms": at_ms }).to_string()
    };
    // The clock of a store that was created for a recording is what its commands say.
    let mut command = tasklog();
    command.args(["--store", &url, "apply"]);
    run(command, at("t0", 0).as_bytes()).with(0);
    let service = Service::of(&url, &[]);
    let year_ms = 365 * 86_400_000;
    for (id, at_ms) in [("t1", year_ms), ("t2", 0), ("t3", 2 * year_ms), ("t4", 1_000)] {
        service.post("/v1/commands", &at(id, at_ms)).with(200);
    }
    let page = service.get("/v1/events").with(200).json();
    let times: Vec<_> =
        page["events"].as_array().unwrap().iter().map(|event| event["recorded_at"].as_i64().unwrap()).collect();
    assert_eq!(times.len(), 5);
    assert!(times.is_sorted(), "{times:?}");
    assert!(times[4] - times[0] >= 2 * year_ms, "{times:?}");
    service.get("/readyz").with(200);
    assert_eq!(service.get("/tasks").with(200).json()["total"], 5);
}
