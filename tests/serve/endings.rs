//! Told to stop, or killed, in the middle of work.

use std::{
    collections::BTreeSet,
    io::{Read, Write},
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use serde_json::Value;
use tasklog::{TaskStore, tables::tasks};
use tasklog_testing::RedisServer;

use crate::{
    service::{Service, register},
    support::program::{run, tasklog},
};

const CLIENTS: usize = 8;

/// Clients register tasks until the service is gone; `end` is called once so many are acknowledged.
fn under_load(service: &Service, enough: usize, end: impl FnOnce() + Send) -> BTreeSet<String> {
    let acknowledged = Mutex::new(BTreeSet::new());
    let count = AtomicUsize::new(0);
    thread::scope(|scope| {
        for client in 0..CLIENTS {
            let (acknowledged, count) = (&acknowledged, &count);
            scope.spawn(move || {
                for number in 0.. {
                    let id = format!("t-{client}-{number}");
                    let json = [("content-type", "application/json")];
                    let Ok(answered) = service.try_post("/v1/commands", register(&id).as_bytes(), &json) else {
                        return;
                    };
                    if answered.status != 200 {
                        return;
                    }
                    acknowledged.lock().unwrap().insert(id);
                    count.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
        while count.load(Ordering::SeqCst) < enough {
            thread::yield_now();
        }
        end();
    });
    acknowledged.into_inner().unwrap()
}

fn registered(url: &str) -> BTreeSet<String> {
    let store = TaskStore::open(url).unwrap();
    assert_eq!(store.verify(|_| {}).unwrap().found, 0);
    let rows = store.ask(&tasks::Unfinished { limit: None, after: None }).unwrap();
    rows.into_iter().map(|row| row.miroir_id.clone()).collect()
}

fn terminated(mut service: Service, url: &str) {
    let acknowledged = under_load(&service, 200, || service.signal("-TERM"));
    assert_eq!(service.ended(), Some(0));
    assert!(acknowledged.len() >= 200);
    // Nothing is done that nobody was told of.
    assert_eq!(registered(url), acknowledged);
}

fn killed(mut service: Service, url: &str) {
    let acknowledged = under_load(&service, 200, || service.signal("-KILL"));
    assert_eq!(service.ended(), None);
    let registered = registered(url);
    let lost: Vec<_> = acknowledged.difference(&registered).collect();
    assert!(lost.is_empty(), "{lost:?}");
    // Each client had at most one on its way.
    assert!(registered.len() <= acknowledged.len() + CLIENTS);
}

#[test]
fn terminated_under_load_everything_accepted_is_answered_and_durable() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}", folder.path().join("tasklog.db").display());
    terminated(Service::of(&url, &[]), &url);
}

#[test]
fn killed_under_load_everything_acknowledged_is_durable() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}", folder.path().join("tasklog.db").display());
    killed(Service::of(&url, &[]), &url);
}

#[test]
fn terminated_under_load_on_redis_everything_accepted_is_answered_and_durable() {
    let server = RedisServer::durable();
    terminated(Service::of(&server.url(), &[]), &server.url());
}

#[test]
fn killed_under_load_on_redis_everything_acknowledged_is_durable() {
    let server = RedisServer::durable();
    killed(Service::of(&server.url(), &[]), &server.url());
}

#[test]
fn a_stream_that_is_cut_by_the_end_answers_every_line_that_was_done() {
    let mut service = Service::new(&[]);
    let mut stream = service.connect();
    stream
        .write_all(
            b"POST /v1/commands HTTP/1.1\r\nhost: x\r\ncontent-type: application/x-ndjson\r\n\
              content-length: 100000000\r\nconnection: close\r\n\r\n",
        )
        .unwrap();
    let mut reading = stream.try_clone().unwrap();
    let text = thread::scope(|scope| {
        scope.spawn(|| {
            for number in 0.. {
                if stream.write_all((register(&format!("t{number}")) + "\n").as_bytes()).is_err() {
                    return;
                }
            }
        });
        let mut text = vec![0; 10_000];
        reading.read_exact(&mut text).unwrap();
        service.signal("-TERM");
        // Lines that were sent and not read any more may reset the connection once its last byte has been sent.
        let mut rest = [0; 4096];
        while let Ok(read @ 1..) = reading.read(&mut rest) {
            text.extend_from_slice(&rest[..read]);
        }
        reading.shutdown(std::net::Shutdown::Both).ok();
        String::from_utf8(text).unwrap()
    });
    assert_eq!(service.ended(), Some(0));
    let answers = text.lines().filter(|line| line.starts_with("{\"line\"")).count();
    let ended = text.lines().find(|line| line.starts_with("{\"ended\"")).expect("the last line says why");
    let ended: Value = serde_json::from_str(ended).unwrap();
    assert_eq!((&ended["ended"]["kind"], &ended["ended"]["after_line"]), (&"busy".into(), &answers.into()));
    assert_eq!(registered(&service.url()).len(), answers);
}

#[test]
fn a_second_signal_ends_at_once() {
    let mut service = Service::new(&["--shutdown-ms", "600000", "--request-ms", "600000"]);
    let mut holding = service.connect();
    let head = "POST /v1/commands HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\nexpect: 100-continue\r\n\
                content-length: 10\r\n\r\n";
    holding.write_all(head.as_bytes()).unwrap();
    let mut line = [0; 25];
    holding.read_exact(&mut line).unwrap();
    service.signal("-TERM");
    service.logs("stopping");
    service.signal("-INT");
    assert_eq!(service.ended(), Some(130));
}

#[test]
fn a_request_that_does_not_end_is_not_waited_for_for_ever() {
    let mut service = Service::new(&["--shutdown-ms", "100", "--request-ms", "600000"]);
    let mut holding = service.connect();
    let head = "POST /v1/commands HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\nexpect: 100-continue\r\n\
                content-length: 10\r\n\r\n";
    holding.write_all(head.as_bytes()).unwrap();
    let mut line = [0; 25];
    holding.read_exact(&mut line).unwrap();
    assert_eq!(service.stop(), Some(0));
}

#[test]
fn a_store_that_another_process_writes_to_is_not_served() {
    let service = Service::new(&[]);
    let mut command = tasklog();
    command.args(["--store", &service.url(), "serve", "--listen", "127.0.0.1:0"]);
    run(command, b"").with(3).says(&["is open for writing by process"]);
    // For reading it is.
    service.register("t1");
    let reading = Service::of(&service.url(), &["--read-only"]);
    reading.get("/v1/tables/tasks/t1").with(200);
    reading.post("/v1/commands", &register("t2")).problem(403, "read_only");
}
