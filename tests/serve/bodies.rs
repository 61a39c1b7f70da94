//! The room that all bodies share.

use std::{io::Write, net::TcpStream};

use serde_json::{Map, Value, json};

use crate::service::{Answered, Service};

const JSON: &[(&str, &str)] = &[("content-type", "application/json")];
/// Two steps beyond what every body may have.
const ROOM_BYTES: &str = "131072";
/// Takes both of them.
const LARGE_BYTES: usize = 150_000;

/// A command of somewhat more than so many bytes.
fn large() -> String {
    let nodes: Map<String, Value> = (0..LARGE_BYTES / 36).map(|at| (format!("node-{at:026}"), at.into())).collect();
    let command =
        json!({ "command": "tasks.register", "args": { "miroir_id": "large", "node_tasks": nodes } }).to_string();
    assert!((LARGE_BYTES..LARGE_BYTES + 40_000).contains(&command.len()), "{}", command.len());
    command
}

/// Asks again and again until the answer has this status.
fn until(service: &Service, body: &str, status: u16) -> Answered {
    loop {
        // A body that is refused may find the connection closed before all of it is sent.
        match service.try_post("/v1/commands", body.as_bytes(), JSON) {
            Ok(answered) if answered.status == status => return answered,
            _ => std::thread::yield_now(),
        }
    }
}

/// A client that sends most of a body and then nothing more.
fn stalled(service: &Service, path: &str, media: &str) -> TcpStream {
    let mut stream = service.connect();
    let head = format!("POST {path} HTTP/1.1\r\nhost: x\r\ncontent-type: {media}\r\n");
    let length = format!("content-length: {}\r\n\r\n", LARGE_BYTES + 40_000);
    let part = " ".repeat(LARGE_BYTES);
    stream.write_all([head, length, part].concat().as_bytes()).unwrap();
    stream
}

/// Stalls clients until another body is refused. One alone may lose the race for the room against the body that looks
/// whether there is some, and is gone then.
fn holding(service: &Service, path: &str, media: &str, body: &str) -> (Vec<TcpStream>, Answered) {
    let mut holders = Vec::new();
    loop {
        assert!(holders.len() < 1000, "bodies of {LARGE_BYTES} bytes leave room for more");
        holders.push(stalled(service, path, media));
        if let Ok(answered) = service.try_post("/v1/commands", body.as_bytes(), JSON)
            && answered.status == 503
        {
            return (holders, answered);
        }
    }
}

#[test]
fn large_bodies_that_are_being_read_leave_no_room_for_more_of_them_but_for_small_ones() {
    let patient = ["--request-ms", "3600000", "--stream-idle-ms", "3600000"];
    let service = Service::new(&[&["--bodies-bytes-max", ROOM_BYTES], &patient[..]].concat());
    let large = large();
    until(&service, &large, 200);
    for (path, media) in [
        ("/v1/commands", "application/json"),
        ("/v1/transactions", "application/json"),
        ("/v1/queries/tasks.get", "application/json"),
        ("/v1/commands", "application/x-ndjson"),
    ] {
        let (holders, refused) = holding(&service, path, media, &large);
        assert_eq!(refused.header("retry-after"), Some("1"));
        assert_eq!(refused.problem(503, "busy"), "too many large bodies are being read");
        service.register("small");
        service.get("/readyz").with(200);
        // Whoever goes away gives back what it had.
        drop(holders);
        until(&service, &large, 200);
    }
}
