//! Every route, asked as it wants to be asked.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::service::{Service, register};

const ID: &str = "018f4e9a-7b3c-7c1d-9e5f-0123456789ab";
const JSON: (&str, &str) = ("content-type", "application/json");
const HASH: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

/// The only node of a task reports that it is done.
fn finish(service: &Service, id: &str) {
    let report = json!({ "command": "tasks.report_node_statuses",
        "args": { "miroir_id": id, "reports": [{ "node_id": "n1", "status": "succeeded" }] } });
    service.post("/v1/commands", &report.to_string()).with(200);
}

#[test]
fn a_command_is_answered_with_its_reply_and_its_position() {
    let service = Service::new(&[]);
    let first = service.register("t1");
    let second = service.register("t2");
    assert_eq!((first.position(), second.position()), (1, 2));
    let reply = second.json();
    assert_eq!(reply["changed"], true);
    assert_eq!((&reply["position"], &reply["rev"], &reply["miroir_id"]), (&json!(2), &json!(2), &json!("t2")));
    let again = service.register("t2").json();
    assert_eq!(again["changed"], false);
}

#[test]
fn the_idempotency_key_is_the_command_id() {
    let service = Service::new(&[]);
    let body = register("t1");
    let first = service.post_with("/v1/commands", &body, &[JSON, ("idempotency-key", ID)]).with(200).json();
    assert_eq!(first["commit_id"], ID);
    // In quotes it is the same key, and in the body it may stand as well.
    let quoted = format!("\"{ID}\"");
    let again = service.post_with("/v1/commands", &body, &[JSON, ("idempotency-key", &quoted)]).with(200).json();
    assert_eq!((&again["repeated"], &again["position"]), (&json!(true), &first["position"]));
    let with_id = body.replacen('{', &format!("{{\"command_id\":\"{ID}\","), 1);
    let both = service.post_with("/v1/commands", &with_id, &[JSON, ("idempotency-key", ID)]).with(200).json();
    assert_eq!(both["repeated"], true);
    assert_eq!(service.get("/v1/info").json()["head"], 1);

    let other = [JSON, ("idempotency-key", "018f4e9a-7b3c-7c1d-9e5f-000000000000")];
    service.post_with("/v1/commands", &with_id, &other).problem(422, "invalid");
    let detail = service.post_with("/v1/commands", &body, &[JSON, ("idempotency-key", "k1")]).problem(400, "malformed");
    assert!(detail.contains("Idempotency-Key") && detail.contains("k1"), "{detail}");
}

#[test]
fn a_transaction_is_all_or_nothing() {
    let service = Service::new(&[]);
    let item = |id: &str| serde_json::from_str::<Value>(&register(id)).unwrap();
    let both = json!({ "transact": [item("t1"), item("t2")], "actor": "router" });
    let answered = service.post("/v1/transactions", &both.to_string()).with(200);
    assert_eq!(answered.position(), 2);
    assert_eq!(answered.json()["replies"].as_array().unwrap().len(), 2);
    let cancel = json!({ "command": "tasks.cancel", "args": { "miroir_id": "nobody" } });
    let refused = json!({ "transact": [item("t3"), cancel] });
    service.post("/v1/transactions", &refused.to_string()).problem(404, "not_found");
    service.get("/v1/tables/tasks/t3").problem(404, "not_found");
    // Each of the two paths takes its own.
    service.post("/v1/transactions", &register("t4")).problem(400, "malformed");
    service.post("/v1/commands", &both.to_string()).problem(400, "malformed");
}

#[test]
fn pages_of_rows_lose_none_and_repeat_none_while_rows_come_and_go() {
    let service = Service::new(&[]);
    let lines: String = (0..250).map(|at| register(&format!("t{at:03}")) + "\n").collect();
    service.post_with("/v1/commands", &lines, &[("content-type", "application/x-ndjson")]).with(200);
    for filter in ["", "&status=enqueued"] {
        let mut seen = BTreeSet::new();
        let mut cursor = String::new();
        let mut pages = 0;
        loop {
            let page = service.get(&format!("/v1/tables/tasks?limit=100{filter}{cursor}")).with(200).json();
            for row in page["rows"].as_array().unwrap() {
                assert!(seen.insert(row["miroir_id"].as_str().unwrap().to_owned()), "{row} came twice");
            }
            pages += 1;
            let Some(next) = page["next"].as_str() else { break };
            cursor = format!("&cursor={next}");
            // The row at the border goes: the cursor does not need it.
            let last = page["rows"].as_array().unwrap().last().unwrap()["miroir_id"].as_str().unwrap().to_owned();
            finish(&service, &last);
        }
        assert_eq!(pages, 3);
        assert!(seen.len() >= 248, "{}", seen.len());
    }
    let finished = service.get("/v1/tables/tasks?status=succeeded").json();
    assert!(!finished["rows"].as_array().unwrap().is_empty());
    assert_eq!(finished["next"], Value::Null);
    let page = service.get("/v1/tables/tasks?limit=10").json();
    let next = page["next"].as_str().unwrap();
    let detail = service.get(&format!("/v1/tables/tasks?status=enqueued&cursor={next}")).problem(400, "malformed");
    assert!(detail.contains("cursor"), "{detail}");
    // Its key would be a place in another table, too.
    let detail = service.get(&format!("/v1/tables/aliases?cursor={next}")).problem(400, "malformed");
    assert!(detail.contains("of another table"), "{detail}");
    for wrong in ["x", "cHt9", "%21", &format!("{next}A")] {
        service.get(&format!("/v1/tables/tasks?cursor={wrong}")).problem(400, "malformed");
    }
}

#[test]
fn keys_may_have_any_character() {
    let service = Service::new(&[]);
    for key in ["a/b c%?#ü&=+;", "..", "{key}", "日本"] {
        service.register(key);
        let path: String = key.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let row = service.get(&format!("/v1/tables/tasks/{path}")).with(200).json();
        assert_eq!(row["miroir_id"], key);
        let steps = service.get(&format!("/v1/history/tasks/{path}")).with(200).json();
        assert_eq!(steps["steps"][0]["key"], key);
        let events = service.get(&format!("/v1/events?key={path}")).with(200).json();
        assert_eq!(events["events"].as_array().unwrap().len(), 1, "{key}");
    }
}

#[test]
fn a_key_of_two_parts_is_written_as_on_the_command_line() {
    let service = Service::new(&[]);
    let advance = json!({ "command": "cdc_cursors.advance",
        "args": { "sink_name": "s", "index_uid": "i", "expected_seq": null, "new_seq": 5 } });
    service.post("/v1/commands", &advance.to_string()).with(200);
    for path in ["/v1/tables/cdc_cursors/s/i", "/v1/tables/cdc_cursors/s%2Fi"] {
        assert_eq!(service.get(path).with(200).json()["last_event_seq"], 5);
    }
}

#[test]
fn earlier_moments_are_read_with_at() {
    let service = Service::new(&[]);
    service.register("t1");
    service.register("t2");
    finish(&service, "t1");
    let now = service.get("/v1/tables/tasks/t1").with(200);
    assert_eq!(now.json()["status"], "succeeded");
    let then = service.get("/v1/tables/tasks/t1?at=1").with(200);
    assert_eq!((then.json()["status"].clone(), then.position()), (json!("enqueued"), 1));
    service.get("/v1/tables/tasks/t2?at=1").problem(404, "not_found");
    for _ in 0..2 {
        assert_eq!(service.get("/v1/tables/tasks?at=1").with(200).json()["rows"].as_array().unwrap().len(), 1);
    }
    assert_eq!(service.get("/v1/queries/tasks.unfinished?at=2&args={}").with(200).json().as_array().unwrap().len(), 2);
    assert_eq!(service.get("/v1/history/tasks/t1?at=2").with(200).json()["steps"].as_array().unwrap().len(), 1);
    service.get("/v1/tables/tasks/t1?at=99").problem(422, "invalid");
    service.get("/v1/tables/tasks/t1?at=yesterday").problem(400, "malformed");
    // Whoever reads the past does not make the present older.
    assert!(service.get("/v1/tables/tasks/t1").position() > 1);
}

#[test]
fn queries_are_asked_by_name() {
    let service = Service::new(&[]);
    service.register("t1");
    let unfinished = service.post("/v1/queries/tasks.unfinished", r#"{"limit":10}"#).with(200);
    assert_eq!(unfinished.json()[0]["miroir_id"], "t1");
    assert_eq!(unfinished.position(), 1);
    let same = service.get("/v1/queries/tasks.unfinished?args=%7B%22limit%22:10%7D").with(200);
    assert_eq!(same.text, unfinished.text);
    assert_eq!(service.get("/v1/queries/store.counts").with(200).json()["tasks"], 1);
    service.get("/v1/queries/tasks.nothing").problem(404, "not_found");
    service.post("/v1/queries/tasks.unfinished", "{").problem(400, "malformed");
    service.post("/v1/queries/tasks.unfinished", r#"{"limit":"many"}"#).problem(422, "invalid");
}

#[test]
fn history_and_events_come_in_pages() {
    let service = Service::new(&[]);
    service.register("t1");
    service.register("t2");
    for (uid, node) in ["n2", "n3", "n4"].iter().enumerate() {
        let attach = json!({ "command": "tasks.attach_node_task",
            "args": { "miroir_id": "t1", "node_id": node, "task_uid": uid }, "actor": "poller" });
        service.post("/v1/commands", &attach.to_string()).with(200);
    }
    let first = service.get("/v1/history/tasks/t1?limit=3").with(200).json();
    assert_eq!(first["steps"].as_array().unwrap().len(), 3);
    let rest = service.get(&format!("/v1/history/tasks/t1?limit=3&after={}", first["next_after"])).with(200).json();
    assert_eq!((rest["steps"].as_array().unwrap().len(), &rest["next_after"]), (1, &Value::Null));
    service.get("/v1/history/tasks/nobody").problem(404, "not_found");

    let mut positions = Vec::new();
    let mut after = json!(0);
    while positions.len() < 5 {
        let page = service.get(&format!("/v1/events?limit=2&after={after}")).with(200).json();
        positions.extend(page["events"].as_array().unwrap().iter().map(|event| event["position"].as_u64().unwrap()));
        after = page["next_after"].clone();
        assert_eq!(page["head"], 5);
    }
    assert_eq!(positions, [1, 2, 3, 4, 5]);
    let of = |filter: &str| {
        let page = service.get(&format!("/v1/events?{filter}")).with(200).json();
        page["events"].as_array().unwrap().len()
    };
    assert_eq!((of("actor=poller"), of("type=task_registered"), of("table=jobs"), of("key=t2")), (3, 2, 0, 1));
    assert_eq!(of("actor=poller&key=t2"), 0);
    service.get("/v1/events?table=nothing").problem(400, "malformed");
}

#[test]
fn sensitive_columns_are_masked_and_do_not_show_in_cursors() {
    let service = Service::new(&[]);
    let open = |service: &Service, id: &str| {
        let open = json!({ "command": "admin_sessions.open",
            "args": { "session_id": id, "csrf_token": "secret-csrf", "admin_key_hash": HASH } });
        service.post("/v1/commands", &open.to_string()).with(200);
    };
    for at in 0..5 {
        open(&service, &format!("secret-session-{at}"));
    }
    let mut all = String::new();
    let mut cursor = String::new();
    let mut rows = 0;
    loop {
        let page = service.get(&format!("/v1/tables/admin_sessions?limit=2{cursor}")).with(200);
        rows += page.json()["rows"].as_array().unwrap().len();
        all.push_str(&page.text);
        let Some(next) = page.json()["next"].as_str().map(str::to_owned) else { break };
        use base64::Engine;
        let raw = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(&next).unwrap();
        all.push_str(&String::from_utf8_lossy(&raw));
        cursor = format!("&cursor={next}");
    }
    assert_eq!(rows, 5);
    for path in
        ["/v1/tables/admin_sessions/secret-session-1", "/v1/history/admin_sessions/secret-session-1", "/v1/events"]
    {
        all.push_str(&service.get(path).with(200).text);
    }
    assert!(!all.contains("secret") && !all.contains(HASH), "{all}");
    let detail = service.get(&format!("/v1/tables/admin_sessions?admin_key_hash={HASH}")).problem(403, "not_permitted");
    assert!(detail.contains("admin_key_hash"), "{detail}");

    let showing = Service::new(&["--show-sensitive"]);
    open(&showing, "secret-session");
    for path in ["/v1/tables/admin_sessions", "/v1/events"] {
        assert!(showing.get(path).with(200).text.contains("secret-session"));
    }
}

#[test]
fn info_and_health_touch_the_store() {
    let service = Service::new(&[]);
    service.register("t1");
    let info = service.get("/v1/info").with(200);
    assert_eq!((info.position(), &info.json()["head"]), (1, &json!(1)));
    assert_eq!(service.get("/readyz").with(200).position(), 1);
    assert_eq!(service.get("/healthz").with(200).json()["alive"], true);
}

#[test]
fn the_listener_for_metrics_answers_health_and_nothing_else() {
    let service = Service::new(&["--metrics-listen", "127.0.0.1:0"]);
    let line: Value = serde_json::from_str(&service.logs("listening for metrics")).unwrap();
    let place = line["url"].as_str().unwrap().strip_prefix("http://").unwrap().to_owned();
    let status = |path: &str| {
        use std::io::{Read, Write};
        let mut stream = std::net::TcpStream::connect(&place).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text.split(' ').nth(1).unwrap().to_owned()
    };
    assert_eq!((status("/healthz"), status("/readyz")), ("200".into(), "200".into()));
    assert_eq!((status("/v1/info"), status("/v1/tables/tasks")), ("404".into(), "404".into()));
}

#[test]
fn a_read_waits_for_the_position_that_it_is_told() {
    let service = Service::new(&["--min-position-wait-ms", "600000"]);
    service.register("t1");
    std::thread::scope(|scope| {
        let reading = scope.spawn(|| service.get_with("/v1/tables/tasks/t3", &[("tasklog-min-position", "3")]));
        service.register("t2");
        service.register("t3");
        let read = reading.join().unwrap().with(200);
        assert!(read.position() >= 3);
    });
    let hasty = Service::new(&["--min-position-wait-ms", "20"]);
    hasty.register("t1");
    let missed = hasty.get_with("/v1/tables/tasks/t1", &[("tasklog-min-position", "99")]);
    assert_eq!((missed.position(), missed.header("retry-after")), (1, Some("1")));
    let detail = missed.problem(503, "unavailable");
    assert!(detail.contains("99") && detail.contains("event 1"), "{detail}");
    for wrong in ["x", "-1", "1.5", "99999999999999999999"] {
        hasty.get_with("/v1/tables/tasks/t1", &[("tasklog-min-position", wrong)]).problem(400, "malformed");
    }
}

#[test]
fn requests_are_logged_without_keys_and_bodies() {
    let service = Service::new(&[]);
    service.register("secret-key");
    service.get("/v1/tables/tasks/secret-key").with(200);
    service.logs("/v1/tables/{table}/{*key}");
    let log = service.log();
    assert!(!log.contains("secret-key"), "{log}");
    let line: Value = serde_json::from_str(&service.logs("\"POST\"")).unwrap();
    assert_eq!((&line["route"], &line["status"], &line["position"]), (&json!("/v1/commands"), &json!(200), &json!(1)));
    assert!(line["ms"].is_u64() && line["timestamp"].is_string(), "{line}");
}
