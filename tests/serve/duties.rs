//! Background duties of two processes on one store in Redis.

use serde_json::{Value, json};
use tasklog::{
    Access, OpenOptions, StoreUrl, TaskStore,
    log::{Log, Position, READ_EVENTS_MAX},
};
use tasklog_testing::RedisServer;

use crate::service::Service;

/// Looks for work each second.
const EAGER: &[&str] = &["--prune-interval-s", "1", "--requeue-interval-s", "1"];

/// A finished task that is older than any registry keeps it.
fn old_task(number: usize) -> Value {
    json!({ "command": "tasks.import", "args": {
        "miroir_id": format!("mtask-{number}"), "node_id": "meili-0", "task_uid": number, "status": "succeeded",
        "created_at": 1_000, "started_at": 1_000, "finished_at": 2_000,
    } })
}

/// Fills a store, before anybody serves it.
fn with_old_tasks(url: &str, tasks: usize) -> TaskStore {
    let store = TaskStore::open(url).unwrap();
    for first in (0..tasks).step_by(500) {
        let items: Vec<_> = (first..tasks.min(first + 500)).map(old_task).collect();
        let line = json!({ "transact": items }).to_string();
        let parsed = tasklog::wire::parse(&line).unwrap();
        store.queue(parsed.request).unwrap().wait().unwrap();
    }
    store
}

fn reader(url: &str) -> TaskStore {
    let options = OpenOptions { access: Access::Read, ..OpenOptions::default() };
    TaskStore::open_with(&url.parse::<StoreUrl>().unwrap(), options).unwrap()
}

/// One event of a lease, or of what is done under it.
#[derive(Debug)]
struct Entry {
    kind: String,
    actor: String,
    recorded_at: i64,
    expires_at: i64,
}

/// What the log says of a duty: its lease, and the tasks that were removed.
fn entries(store: &TaskStore) -> Vec<Entry> {
    let read = |log: &dyn Log| {
        let (mut found, mut at) = (Vec::new(), Position::ZERO);
        loop {
            let page = log.read(at, READ_EVENTS_MAX)?;
            let Some(last) = page.last() else { return Ok(found) };
            at = last.last();
            for commit in &page {
                for event in &commit.events {
                    let of_lease = *event.table == *"leader_lease" && *event.key == *"duty:prune";
                    if !of_lease && *event.event_type != *"task_pruned" {
                        continue;
                    }
                    let table = tasklog::projections::table(&event.table).unwrap();
                    let payload: Value = serde_json::from_str(&table.payload_json(event).unwrap()).unwrap();
                    found.push(Entry {
                        kind: event.event_type.to_string(),
                        actor: commit.meta.actor.to_string(),
                        recorded_at: commit.recorded_at,
                        expires_at: payload["expires_at"].as_i64().unwrap_or_default(),
                    });
                }
            }
        }
    };
    store.read(|log, _| read(log)).unwrap()
}

/// Waits until the log says so.
fn until(store: &TaskStore, said: impl Fn(&[Entry]) -> bool) -> Vec<Entry> {
    loop {
        let entries = entries(store);
        if said(&entries) {
            return entries;
        }
        let head = store.head().unwrap();
        store.wait(head, std::time::Duration::from_millis(500)).unwrap();
    }
}

fn pruned(entries: &[Entry]) -> usize {
    entries.iter().filter(|entry| entry.kind == "task_pruned").count()
}

/// Every removal was done by whoever held the lease, and nobody took a lease that had not ended.
#[track_caller]
fn one_at_a_time(entries: &[Entry]) {
    let mut held: Option<(String, i64)> = None;
    for entry in entries {
        match &*entry.kind {
            "lease_acquired" => {
                if let Some((holder, expires_at)) = &held {
                    assert!(*holder == entry.actor || entry.recorded_at >= *expires_at, "{entry:?} over {held:?}");
                }
                held = Some((entry.actor.clone(), entry.expires_at));
            }
            "lease_renewed" => held = Some((entry.actor.clone(), entry.expires_at)),
            "lease_released" => held = None,
            "task_pruned" => assert_eq!(held.as_ref().map(|(holder, _)| holder), Some(&entry.actor), "{entry:?}"),
            other => panic!("{other}"),
        }
    }
}

#[test]
fn a_duty_is_done_by_one_process_at_a_time_and_its_lease_is_given_back() {
    let server = RedisServer::start();
    drop(with_old_tasks(&server.url(), 2_500));
    let services = [Service::of(&server.url(), EAGER), Service::of(&server.url(), EAGER)];
    let store = reader(&server.url());
    let released = |entries: &[Entry]| entries.last().is_some_and(|entry| entry.kind == "lease_released");
    let entries = until(&store, |entries| pruned(entries) == 2_500 && released(entries));
    one_at_a_time(&entries);
    drop(services);
}

#[test]
fn a_duty_whose_process_was_killed_at_it_is_taken_over_when_its_lease_has_ended() {
    let server = RedisServer::start();
    let filled = with_old_tasks(&server.url(), 20_000);
    drop(filled);
    let store = reader(&server.url());
    let mut first = Service::of(&server.url(), EAGER);
    // It is at it: the first removals are in the log, the last ones are not.
    until(&store, |entries| pruned(entries) > 0);
    first.child.kill().unwrap();
    first.ended();
    let left = entries(&store);
    assert!(pruned(&left) < 20_000, "it was done before it was killed: fill the store with more");

    let second = Service::of(&server.url(), EAGER);
    let done = until(&store, |entries| pruned(entries) == 20_000);
    one_at_a_time(&done);
    let actors: std::collections::BTreeSet<_> = done.iter().map(|entry| &entry.actor).collect();
    assert_eq!(actors.len(), 2);
    drop(second);
}

#[test]
fn a_process_that_is_told_to_stop_gives_its_lease_back() {
    let server = RedisServer::start();
    drop(with_old_tasks(&server.url(), 20_000));
    let store = reader(&server.url());
    let mut service = Service::of(&server.url(), EAGER);
    until(&store, |entries| pruned(entries) > 0);
    assert_eq!(service.stop(), Some(0));
    assert_eq!(entries(&store).last().unwrap().kind, "lease_released");
}

#[test]
fn without_duties_nothing_is_removed() {
    let server = RedisServer::start();
    drop(with_old_tasks(&server.url(), 1));
    let service = Service::of(&server.url(), &[EAGER, &["--no-duties"]].concat());
    let other = Service::of(&server.url(), EAGER);
    let store = reader(&server.url());
    let done = until(&store, |entries| pruned(entries) == 1);
    let name = format!("-{}", service.child.id());
    assert!(done.iter().all(|entry| !entry.actor.ends_with(&name)), "{done:?}");
    drop(other);
}
