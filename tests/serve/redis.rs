//! A store in Redis: several services on one store, and a server that goes and comes back.

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
