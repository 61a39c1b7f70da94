#![allow(clippy::unwrap_used)]

use tasklog_projections::tables::tasks::TaskStatus;

use super::*;
use crate::{OpenOptions, StoreUrl};

/// A store with finished tasks that are older than any registry keeps them.
fn with_old_tasks(tasks: u64) -> TaskStore {
    let store = TaskStore::open_with(&StoreUrl::Memory, OpenOptions::default()).unwrap();
    for number in 0..tasks {
        let task = tasks::Import {
            miroir_id: format!("mtask-{number}"),
            node_id: "meili-0".into(),
            task_uid: number,
            status: TaskStatus::Succeeded,
            created_at: 1_000,
            error: None,
            index_uid: None,
            task_type: None,
            started_at: Some(1_000),
            finished_at: Some(2_000),
        };
        store.run_blocking(task, CommandOptions::default()).unwrap();
    }
    store
}

fn worker(store: &TaskStore, duty: Duty, holder: &str) -> Worker {
    let stop = Arc::new(Stop::default());
    Worker { duty, store: store.clone(), settings: DutySettings::new(holder), stop }
}

fn leases(store: &TaskStore) -> usize {
    store.ask(&leader_lease::List {}).unwrap().len()
}

#[test]
fn a_duty_with_nothing_to_do_writes_nothing() {
    let store = with_old_tasks(0);
    let head = store.head().unwrap();
    for duty in Duty::ALL {
        assert_eq!(worker(&store, duty, "a").round().unwrap(), Round::Done);
    }
    assert_eq!(store.head().unwrap(), head);
}

#[test]
fn a_round_prunes_what_is_old_under_its_lease_and_gives_the_lease_back() {
    let store = with_old_tasks(3);
    assert_eq!(worker(&store, Duty::PruneTasks, "a").round().unwrap(), Round::Done);
    assert_eq!(store.ask(&tasks::Count {}).unwrap(), 0);
    assert_eq!(leases(&store), 0);
}

#[test]
fn a_duty_that_somebody_else_is_at_is_left_alone() {
    let store = with_old_tasks(3);
    let other = leader_lease::Acquire { scope: "duty:prune".into(), holder: "b".into(), ttl_ms: None };
    store.run_blocking(other, CommandOptions::default()).unwrap();
    let head = store.head().unwrap();
    assert_eq!(worker(&store, Duty::PruneTasks, "a").round().unwrap(), Round::Held);
    assert_eq!(store.head().unwrap(), head);
    assert_eq!(store.ask(&tasks::Count {}).unwrap(), 3);
}

#[test]
fn a_worker_whose_lease_was_taken_over_stops_and_prunes_nothing() {
    let store = with_old_tasks(3);
    let acquire = leader_lease::Acquire { scope: "duty:prune".into(), holder: "a".into(), ttl_ms: None };
    let first = store.run_blocking(acquire.clone(), CommandOptions::default()).unwrap().answer.term.unwrap();
    // The same name once more, as after a restart: a new term.
    store.run_blocking(acquire, CommandOptions::default()).unwrap();
    assert_eq!(worker(&store, Duty::PruneTasks, "a").work(first).unwrap(), Round::Lost);
    assert_eq!(store.ask(&tasks::Count {}).unwrap(), 3);
}

#[test]
fn threads_end_when_they_are_dropped() {
    let store = with_old_tasks(0);
    let duties = Duties::start(&store, &DutySettings::new("a")).unwrap();
    assert_eq!(duties.threads.len(), Duty::ALL.len());
    drop(duties);
}
