//! A store whose log begins in an archive.

use serde_json::Value;

use crate::{
    service::Service,
    support::program::{run, tasklog},
};

const TASKS: u64 = 60;

/// Runs the program on the store that a service has left.
fn told(service: &Service, args: &[&str]) {
    let mut command = tasklog();
    command.args(["--store", &service.url()]).args(args);
    run(command, b"").with(0);
}

fn uids(page: &Value) -> Vec<u64> {
    page["results"].as_array().unwrap().iter().map(|task| task["uid"].as_u64().unwrap()).collect()
}

#[test]
fn tasks_keep_their_uids_when_the_events_that_registered_them_are_in_the_archive() {
    let mut first = Service::new(&[]);
    for number in 1..=TASKS {
        assert_eq!(first.register(&format!("t{number}")).position(), number);
    }
    assert_eq!(first.stop(), Some(0));
    let archive = tempfile::tempdir().unwrap();
    let place = archive.path().display().to_string();
    told(&first, &["archive", "--to", &place, "--all", "--segment-events", "10"]);
    told(&first, &["snapshot"]);
    told(&first, &["trim", "--keep-events", "5"]);

    // A process that has seen none of them.
    let second = Service::of(&first.url(), &[]);
    let hot_first = second.get("/v1/info").json()["hot_first"].as_u64().unwrap();
    assert!(hot_first > 50, "{hot_first}");
    let one = second.get("/tasks/1").with(200).json();
    assert_eq!((&one["uid"], &one["miroirId"]), (&1.into(), &"t1".into()));
    let same = second.get("/tasks/t1").with(200).json();
    assert_eq!(same, one);
    let all = second.get("/tasks?limit=100").with(200).json();
    assert_eq!(all["total"], TASKS);
    assert_eq!(uids(&all), (1..=TASKS).rev().collect::<Vec<_>>());
    let page = second.get("/tasks?from=30&limit=3").with(200).json();
    assert_eq!(uids(&page), [30, 29, 28]);
    assert_eq!(page["next"], 27);
    assert_eq!(uids(&second.get("/tasks?uids=2,59").with(200).json()), [59, 2]);
    // The events of archive and trim have positions as well, and are no tasks.
    let head = second.get("/v1/info").json()["head"].as_u64().unwrap();
    assert!(head > TASKS);
    assert_eq!(second.get(&format!("/tasks/{head}")).status, 404);
}
