//! A replica is served for reading.

use crate::{
    service::{Service, register},
    support::program::{Ended, Running, Store, run, tasklog},
};

/// Events that a follower takes in several transactions.
const MANY: usize = 20_000;

/// A follower that runs until this is dropped.
fn following(store: &Store, replica: &str) -> Running {
    Running::start(&["follow", &store.url(), "--into", replica])
}

fn replica_of(store: &Store) -> (std::path::PathBuf, String) {
    let path = store.folder.path().join("replica.db");
    let url = format!("sqlite:{}", path.display());
    (path, url)
}

fn follow_once(store: &Store, replica: &str) -> Ended {
    let mut command = tasklog();
    command.args(["follow", &store.url(), "--into", replica, "--once"]);
    run(command, b"")
}

/// Asks until the answer is this one: whatever brings it about is under way.
fn until_ready(service: &Service) -> u64 {
    loop {
        let answered = service.get("/readyz");
        if answered.status == 200 {
            return answered.json()["lag_events"].as_u64().unwrap();
        }
        std::thread::yield_now();
    }
}

#[test]
fn a_replica_answers_reads_and_refuses_commands_with_a_hint() {
    let store = Store::with(&[register("t1"), register("t2")]);
    let (_, replica) = replica_of(&store);
    follow_once(&store, &replica).with(0);
    let service = Service::of(&replica, &[]);
    assert_eq!(service.get("/v1/tables/tasks/t2").with(200).position(), 2);
    assert!(service.get("/v1/info").json()["follows"].as_str().unwrap().contains("tasklog.db"));
    service.get("/readyz").with(200);
    let detail = service.post("/v1/commands", &register("t3")).problem(403, "read_only");
    assert!(detail.contains("the store that it follows"), "{detail}");
    let stream = [("content-type", "application/x-ndjson")];
    service.post_with("/v1/commands", &register("t3"), &stream).problem(403, "read_only");

    // It is followed further while it is served; a read waits for what was written to the source.
    store.apply(&[register("t3")]).with(0);
    std::thread::scope(|scope| {
        let reading = scope.spawn(|| service.get_with("/v1/tables/tasks/t3", &[("tasklog-min-position", "3")]));
        follow_once(&store, &replica).with(0);
        assert_eq!(reading.join().unwrap().with(200).position(), 3);
    });
}

#[test]
fn a_replica_that_catches_up_is_not_ready_until_it_is_close_to_its_source() {
    let store = Store::with(&[register("t0")]);
    let (path, replica) = replica_of(&store);
    follow_once(&store, &replica).with(0);
    let service = Service::of(&replica, &["--replica-lag-max", "100"]);
    let ready = service.get("/readyz").with(200).json();
    assert_eq!((&ready["position"], &ready["lag_events"]), (&1.into(), &0.into()));

    let lines: String = (1..=MANY).map(|n| register(&format!("t{n}")) + "\n").collect();
    store.apply_bytes(lines.as_bytes()).with(0);
    let follower = following(&store, &replica);
    let shell = rusqlite::Connection::open(&path).unwrap();
    let seen = || shell.query_row("SELECT source_position FROM _follower", [], |row| row.get::<_, i64>(0)).unwrap();
    // The first thing that it does is to say how far its source is.
    while seen() == 1 {
        std::thread::yield_now();
    }
    follower.signal("-STOP");
    let why = service.get("/readyz").problem(503, "busy");
    assert!(why.contains("catching up") && why.contains("--replica-lag-max"), "{why}");
    let told = service.get("/v1/info").json()["follower"].clone();
    assert_eq!((&told["state"], &told["source_head"]), (&"following".into(), &(MANY as u64 + 1).into()));
    assert!(told["lag_events"].as_u64().unwrap() > 100, "{told}");
    let lag = format!("miroir_projection_lag_events{{store=\"sqlite\"}} {}", told["lag_events"]);
    let metrics = service.get("/metrics").text;
    assert!(metrics.contains(&lag), "{lag}: {metrics}");
    assert!(metrics.contains("miroir_follower_state{state=\"following\"} 1"), "{metrics}");
    for name in ["reported", "source_seen"] {
        let stamp = format!("\nmiroir_follower_{name}_timestamp_seconds 1");
        assert!(metrics.contains(&stamp), "{stamp}: {metrics}");
    }

    follower.signal("-CONT");
    assert!(until_ready(&service) <= 100);
}

#[test]
fn a_replica_whose_follower_says_nothing_any_more_is_not_ready() {
    let store = Store::with(&[register("t0")]);
    let (_, replica) = replica_of(&store);
    follow_once(&store, &replica).with(0);
    let follower = following(&store, &replica);
    let service = Service::of(&replica, &["--replica-silence-ms", "0"]);
    service.get("/readyz").with(200);
    // Long before it reports by itself that nothing has changed.
    let strict = Service::of(&replica, &["--replica-silence-ms", "1"]);
    follower.signal("-STOP");
    let why = loop {
        let answered = strict.get("/readyz");
        if answered.status == 503 {
            break answered.problem(503, "busy");
        }
    };
    assert!(why.contains("has said nothing for"), "{why}");
    service.get("/readyz").with(200);
}

#[test]
fn a_replica_whose_follower_ended_with_an_error_is_not_ready_and_says_why() {
    let store = Store::with(&[register("t0"), register("t1")]);
    let (_, replica) = replica_of(&store);
    follow_once(&store, &replica).with(0);
    let service = Service::of(&replica, &["--replica-silence-ms", "0"]);
    service.get("/readyz").with(200);
    let other = Store::with(&[register("t0")]);
    std::fs::rename(other.path(), store.path()).unwrap();
    follow_once(&store, &replica).with(3);
    let why = service.get("/readyz").problem(503, "busy");
    assert!(why.contains("ended with an error") && why.contains("diverged"), "{why}");
    // It goes on reading.
    service.get("/v1/tables/tasks/t1").with(200);
    let info = run_info(&replica);
    assert!(info.contains("follower     failed, lag 0 events"), "{info}");
}

fn run_info(replica: &str) -> String {
    let mut command = tasklog();
    command.args(["--store", replica, "info"]);
    run(command, b"").with(0).out
}
