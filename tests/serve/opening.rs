//! A service whose store cannot be opened at once.

use serde_json::Value;
use tasklog_testing::RedisServer;

use crate::service::{Service, register};

/// Longer than any test.
const PATIENT: &[&str] = &["--wait-for-store", "100000"];

/// Why the store could not be opened, as the log tells it.
fn reasons(service: &Service) -> Vec<Value> {
    let log = service.log();
    let lines = log.lines().filter(|line| line.contains("it is tried again"));
    lines.map(|line| serde_json::from_str::<Value>(line).unwrap()["error"].clone()).collect()
}

/// Every route but that for the process's life is answered 503, soon to be asked again; `why` is in the detail.
#[track_caller]
fn is_not_open(service: &Service, why: &str) {
    let json = [("content-type", "application/json")];
    let tail = [("accept", "text/event-stream")];
    for answered in [
        service.get("/readyz"),
        service.get("/v1/info"),
        service.get("/v1/tables/tasks"),
        service.get("/v1/tables/tasks/t1"),
        service.get("/v1/events"),
        service.get_with("/v1/events", &tail),
        service.get("/tasks"),
        service.get_with("/v1/info", &[("tasklog-min-position", "1")]),
        service.post("/v1/commands", &register("t1")),
        service.post_with("/v1/queries/tasks.count", "{}", &json),
    ] {
        assert_eq!(answered.header("retry-after"), Some("1"), "{answered:?}");
        let detail = answered.problem(503, "unavailable");
        assert!(detail.starts_with("the store is not open yet: ") && detail.contains(why), "{detail}");
    }
    service.get("/healthz").with(200);
    service.get("/openapi.json").with(200);
    service.get("/metrics").with(200);
}

#[test]
fn a_server_in_redis_that_starts_later_is_waited_for() {
    let mut server = RedisServer::durable();
    server.kill();
    let service = Service::listening(Service::command(&server.url(), PATIENT));
    service.logs("it is tried again");
    is_not_open(&service, "connecting to Redis");
    server.restart();
    service.logs("\"message\":\"serving\"");
    assert_eq!(service.register("t1").position(), 1);
    service.get("/readyz").with(200);
    // A reason is told when it is new, not each time.
    let reasons = reasons(&service);
    assert!(reasons.windows(2).all(|two| two[0] != two[1]), "{reasons:?}");
}

#[test]
fn a_file_that_another_process_writes_to_is_waited_for() {
    let mut first = Service::new(&[]);
    first.register("t1");
    let second = Service::listening(Service::command(&first.url(), PATIENT));
    second.logs("it is tried again");
    is_not_open(&second, &format!("process {}", first.child.id()));
    assert_eq!(reasons(&second).len(), 1);
    assert_eq!(first.stop(), Some(0));
    second.logs("\"message\":\"serving\"");
    assert_eq!(second.register("t2").position(), 2);
    assert_eq!(reasons(&second).len(), 1);
}

#[test]
fn waiting_ends_when_the_service_is_told_to_stop() {
    let first = Service::new(&[]);
    let mut second = Service::listening(Service::command(&first.url(), PATIENT));
    second.logs("it is tried again");
    assert_eq!(second.stop(), Some(0));
    first.register("t1");
}

#[test]
fn waiting_ends_when_its_time_is_over() {
    let first = Service::new(&[]);
    for (seconds, warnings) in [("0", 0), ("1", 1)] {
        let mut second = Service::listening(Service::command(&first.url(), &["--wait-for-store", seconds]));
        assert_eq!(second.ended(), Some(3));
        second.logs("open for writing by process");
        assert_eq!(reasons(&second).len(), warnings);
    }
}

#[test]
fn a_store_that_somebody_has_to_repair_is_not_waited_for() {
    let mut first = Service::new(&[]);
    first.register("t1");
    assert_eq!(first.stop(), Some(0));
    let path = first.url().strip_prefix("sqlite:").unwrap().to_owned();
    let file = rusqlite::Connection::open(path).unwrap();
    file.execute("INSERT INTO schema_versions (version, applied_at) VALUES (99, 0)", []).unwrap();
    let mut second = Service::listening(Service::command(&first.url(), PATIENT));
    assert_eq!(second.ended(), Some(3));
    assert_eq!(reasons(&second), [Value::Null; 0]);
}

#[test]
fn requests_that_come_while_the_store_is_being_opened_are_told_so() {
    let server = RedisServer::start();
    server.pause();
    let service = Service::listening(Service::command(&server.url(), PATIENT));
    for answered in [service.get("/readyz"), service.get("/v1/info"), service.post("/v1/commands", &register("t1"))] {
        assert_eq!(answered.status, 503);
        let detail = answered.json()["detail"].as_str().unwrap().to_owned();
        // On a machine that stands still for a while, the first attempt may be over.
        let told = detail == "the store is being opened" || detail.starts_with("the store is not open yet");
        assert!(told, "{detail}");
    }
    service.get("/healthz").with(200);
    server.resume();
    service.logs("\"message\":\"serving\"");
    service.register("t1");
}
