//! Every status of the table of errors, each for its own reason.

use serde_json::json;

use crate::service::{Service, register};

const JSON: (&str, &str) = ("content-type", "application/json");

#[test]
fn what_makes_no_sense_is_refused_with_its_place() {
    let service = Service::new(&[]);
    for (body, told) in [
        ("", "column 1"),
        ("{", "column 1"),
        ("[]", "expected"),
        (r#"{"command":"tasks.register","args":{},"extra":1}"#, "extra"),
        ("{\"command\":\n\"tasks.register\" x}", "line 2, column 18"),
        (r#"{"command":"tasks.regster","args":{}}"#, "tasks.register"),
        (r#"{"command":"tasks.register","args":{"node_tasks":7}}"#, "expected a map"),
        (r#"{"command":"tasks.register","args":{"node_tasks":{}},"command_id":"7"}"#, "column"),
        (r#"{"transact":[]}"#, "at least one"),
    ] {
        let answered = service.post("/v1/commands", body);
        assert_eq!(answered.status, 400, "{body}: {answered:?}");
        let detail = answered.problem(400, "invalid");
        assert!(detail.contains(told), "{body}: {detail}");
    }
    let deep = "[".repeat(100_000);
    service.post("/v1/commands", &deep).problem(400, "invalid");
    for path in ["/v1/tables/tasks?limit=0", "/v1/tables/tasks?limit=x", "/v1/tables/tasks?limit=1001"] {
        service.get(path).problem(400, "malformed");
    }
    for path in [
        "/v1/tables/tasks?nothing=1",
        "/v1/tables/tasks?status=a&status=b",
        "/v1/tables/tasks?created_at=early",
        "/v1/tables/tasks/%FF",
        "/v1/tables/tasks?status=%FF",
        "/v1/tables/tasks?status=%zz",
        "/v1/tables/tasks/t1?limit=1",
        "/v1/events?after=-1",
        "/v1/events?after=99999999999999999999",
        "/v1/info?verbose=1",
    ] {
        service.get(path).problem(400, "malformed");
    }
}

#[test]
fn bytes_that_are_no_text_are_refused_with_their_place() {
    let service = Service::new(&[]);
    let answered = service.try_post("/v1/commands", b"{\"command\":\"\xff\"}", &[JSON]).unwrap();
    let detail = answered.problem(400, "malformed");
    assert!(detail.contains("byte 13: not UTF-8"), "{detail}");
}

#[test]
fn rejections_have_the_status_of_their_kind() {
    let service = Service::new(&[]);
    let command = |name: &str, args: serde_json::Value| {
        service.post("/v1/commands", &json!({ "command": name, "args": args }).to_string())
    };
    command("tasks.cancel", json!({ "miroir_id": "nobody" })).problem(404, "not_found");
    service.register("t1");
    command("tasks.register", json!({ "miroir_id": "t1", "node_tasks": { "n2": 1 } })).problem(409, "already_exists");
    command("aliases.create", json!({ "name": "a", "target": "i1", "target_verified": true })).with(200);
    let flip = json!({ "name": "a", "target": "i2", "expected_version": 9, "target_verified": true });
    let answered = command("aliases.flip", flip);
    let body = answered.json();
    answered.problem(409, "conflict");
    assert_eq!((&body["expected"], &body["actual"]), (&json!("9"), &json!("1")));
    command("tasks.register", json!({ "miroir_id": "", "node_tasks": {} })).problem(422, "invalid");
    let policy = json!({ "name": "m", "policy": "p", "targets": ["i1"] });
    command("aliases.create_multi", policy).problem(403, "not_permitted");
    let renew = json!({ "scope": "s", "holder": "h", "term": 1 });
    command("leader_lease.renew", renew).problem(409, "lease_lost");
    // A rejection tells a position, so that whoever reads after it sees at least what it saw.
    assert!(command("tasks.cancel", json!({ "miroir_id": "nobody" })).position() >= 2);
}

#[test]
fn nothing_is_served_elsewhere_or_with_other_methods() {
    let service = Service::new(&[]);
    for path in ["/", "/v1", "/v1/tables", "/v1/tables/tasks/", "/v1/tables/nothing", "/v1/tables/nothing/k"] {
        service.get(path).problem(404, "not_found");
    }
    for route in tasklog::serve::routes::routes() {
        let path = route.path.replace("{table}", "tasks").replace("{*key}", "k").replace("{name}", "tasks.get");
        let raw = format!("DELETE {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        let answered = service.raw(raw.as_bytes());
        assert!(answered.starts_with("HTTP/1.1 405"), "{path}: {answered}");
        let allow = answered.lines().filter(|line| line.to_ascii_lowercase().starts_with("allow:")).collect::<Vec<_>>();
        assert_eq!(allow.len(), 1, "{answered}");
        assert!(allow[0].contains(route.method), "{answered}");
        assert!(answered.contains("method_not_allowed"), "{answered}");
    }
}

#[test]
fn bodies_of_another_kind_are_refused() {
    let service = Service::new(&[]);
    let body = register("t1");
    for other in ["text/plain", "application/x-www-form-urlencoded", ""] {
        service.post_with("/v1/commands", &body, &[("content-type", other)]).problem(415, "media_type");
    }
    let encoded = [JSON, ("content-encoding", "gzip")];
    service.post_with("/v1/commands", &body, &encoded).problem(415, "media_type");
    let lines = [("content-type", "application/x-ndjson")];
    service.post_with("/v1/transactions", &body, &lines).problem(415, "media_type");
    service.post_with("/v1/commands", &body, &[("content-type", "Application/JSON; charset=utf-8")]).with(200);
}

#[test]
fn what_is_too_large_is_refused_before_it_is_read() {
    let service = Service::new(&["--command-bytes-max", "1000"]);
    let long = register(&"k".repeat(1000));
    service.post("/v1/commands", &long).problem(413, "too_large");
    // A body that only says that it is a gigabyte long.
    let head = "POST /v1/commands HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n\
                content-length: 1073741824\r\n\r\n{";
    let answered = service.raw(head.as_bytes());
    assert!(answered.starts_with("HTTP/1.1 413") && answered.contains("too_large"), "{answered}");
    // One that does not say how long it is, and goes on.
    let chunk = format!("{:x}\r\n{}\r\n", 600, "x".repeat(600));
    let head = "POST /v1/commands HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n\
                transfer-encoding: chunked\r\n\r\n";
    let answered = service.raw(format!("{head}{chunk}{chunk}").as_bytes());
    assert!(answered.starts_with("HTTP/1.1 413"), "{answered}");
    service.register("t1");
}

#[test]
fn a_service_that_is_busy_says_when_to_come_back_and_stays_alive() {
    use std::io::Write;
    let service = Service::new(&["--requests-max", "1", "--request-ms", "600000"]);
    // A request that is being answered: its body has not come yet.
    let mut holding = service.connect();
    let body = register("t1");
    let head = format!(
        "POST /v1/commands HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\nexpect: 100-continue\r\n\
         content-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    );
    holding.write_all(head.as_bytes()).unwrap();
    let mut line = [0; 25];
    std::io::Read::read_exact(&mut holding, &mut line).unwrap();
    assert_eq!(&line, b"HTTP/1.1 100 Continue\r\n\r\n");
    let refused = service.get("/v1/info");
    assert_eq!(refused.header("retry-after"), Some("1"));
    refused.problem(503, "busy");
    service.get("/healthz").with(200);
    service.get("/readyz").with(200);
    holding.write_all(body.as_bytes()).unwrap();
    let mut answered = String::new();
    std::io::Read::read_to_string(&mut holding, &mut answered).unwrap();
    assert!(answered.starts_with("HTTP/1.1 200"), "{answered}");
    service.get("/v1/tables/tasks/t1").with(200);
}

#[test]
fn a_body_that_does_not_come_is_not_waited_for() {
    let service = Service::new(&["--request-ms", "200"]);
    let head = "POST /v1/commands HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 10\r\n\r\n{";
    let answered = service.raw(head.as_bytes());
    assert!(answered.starts_with("HTTP/1.1 408") && answered.contains("\"timeout\""), "{answered}");
}
