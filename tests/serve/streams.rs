//! Streams of commands, answered line by line.

use std::io::{BufRead, BufReader, Read, Write};

use serde_json::{Value, json};

use crate::service::{Service, register};

const NDJSON: (&str, &str) = ("content-type", "application/x-ndjson");

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
}

#[test]
fn every_line_is_answered_in_order_as_apply_does() {
    let service = Service::new(&["--command-bytes-max", "2000"]);
    let item: Value = serde_json::from_str(&register("t3")).unwrap();
    let transact = json!({ "transact": [item, { "command": "tasks.cancel", "args": { "miroir_id": "t1" } }] });
    let long = register(&"k".repeat(3000));
    let body = [
        register("t1"),
        String::new(),
        register("t1"),
        "no command".into(),
        json!({ "command": "tasks.cancel", "args": { "miroir_id": "nobody" } }).to_string(),
        long,
        transact.to_string(),
        register("t4"),
    ]
    .join("\r\n");
    let answered = service.post_with("/v1/commands", &body, &[NDJSON]).with(200);
    assert_eq!(answered.header("content-type"), Some("application/x-ndjson"));
    let answers = lines(&answered.text);
    let told: Vec<_> = answers
        .iter()
        .map(|answer| (answer["line"].as_u64().unwrap(), answer["error"]["kind"].as_str().unwrap_or("ok")))
        .collect();
    assert_eq!(told, [(1, "ok"), (3, "ok"), (4, "invalid"), (5, "not_found"), (6, "invalid"), (7, "ok"), (8, "ok")]);
    assert_eq!((&answers[5]["first"], &answers[5]["last"]), (&json!(2), &json!(3)));
    assert!(answers[4]["error"]["message"].as_str().unwrap().contains("longer than 2000 bytes"));
}

#[test]
fn answers_come_while_the_stream_is_still_being_sent() {
    let service = Service::new(&[]);
    let mut stream = service.connect();
    stream
        .write_all(
            b"POST /v1/commands HTTP/1.1\r\nhost: x\r\ncontent-type: application/x-ndjson\r\n\
              transfer-encoding: chunked\r\nconnection: close\r\n\r\n",
        )
        .unwrap();
    let mut reader = BufReader::new(stream.try_clone().unwrap()).lines();
    for number in 1..=20 {
        let line = register(&format!("t{number}")) + "\n";
        // A line in two chunks is one line.
        let (start, end) = line.split_at(10);
        for part in [start, end] {
            write!(stream, "{:x}\r\n{part}\r\n", part.len()).unwrap();
        }
        let answer = reader.find_map(|line| line.unwrap().starts_with("{\"line\"").then_some(())).map(|()| number);
        assert_eq!(answer, Some(number));
    }
    stream.write_all(b"0\r\n\r\n").unwrap();
    assert!(reader.all(|line| !line.unwrap().contains("ended")));
    assert_eq!(service.get("/v1/info").json()["head"], 20);
}

#[test]
fn a_long_stream_is_answered_to_its_last_line() {
    let service = Service::new(&[]);
    let body: String = (0..3_000).map(|at| register(&format!("t{at}")) + "\n").collect();
    let answers = lines(&service.post_with("/v1/commands", &body, &[NDJSON]).with(200).text);
    assert_eq!(answers.len(), 3_000);
    assert!(answers.iter().zip(1..).all(|(answer, number)| answer["line"] == number && answer["ok"] == true));
}

#[test]
fn a_stream_that_is_too_long_or_too_slow_ends_with_the_reason_and_the_last_answered_line() {
    let service = Service::new(&["--stream-bytes-max", "500", "--stream-idle-ms", "200"]);
    let body: String = (0..100).map(|at| register(&format!("t{at}")) + "\n").collect();
    let head = |length: usize| {
        format!(
            "POST /v1/commands HTTP/1.1\r\nhost: x\r\ncontent-type: application/x-ndjson\r\n\
             content-length: {length}\r\nconnection: close\r\n\r\n"
        )
    };
    for (said, sent, kind) in [(body.len(), &body[..], "too_large"), (400, &body[..200], "timeout")] {
        let mut stream = service.connect();
        stream.write_all(head(said).as_bytes()).unwrap();
        stream.write_all(sent.as_bytes()).unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        let answers: Vec<Value> =
            text.lines().filter(|line| line.starts_with('{')).map(|line| serde_json::from_str(line).unwrap()).collect();
        let (ended, answers) = answers.split_last().unwrap();
        assert_eq!(ended["ended"]["kind"], kind, "{text}");
        assert_eq!(ended["ended"]["after_line"], answers.len(), "{text}");
    }
}

#[test]
fn streams_are_counted_and_have_no_idempotency_key_of_their_own() {
    let service = Service::new(&["--streams-max", "0"]);
    service.post_with("/v1/commands", &register("t1"), &[NDJSON]).problem(503, "busy");
    let key = [NDJSON, ("idempotency-key", "018f4e9a-7b3c-7c1d-9e5f-0123456789ab")];
    service.post_with("/v1/commands", &register("t1"), &key).problem(400, "malformed");
}
