//! A crowd of callers in one process: two writers share the work, and nobody can tell.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use serde_json::{Value, json};
use support::shared::{Shared, ask, assert_verified, line, run};
use tasklog::{TaskStore, wire};

/// More than make a crowd.
const CALLERS: usize = 256;
/// Tasks that all callers change.
const SHARED: usize = 8;
/// What each caller does, one after the other.
const STEPS: usize = 4;

fn writers(place: &Shared) -> usize {
    let fields: Vec<String> = place.server.run(&["HKEYS", &format!("{}:_head", place.prefix)]);
    fields.iter().filter(|field| field.starts_with("w:")).count()
}

async fn send(store: &TaskStore, line: Value) -> Value {
    let reply = store.send(wire::parse(&line.to_string()).unwrap().request).await.unwrap();
    serde_json::from_str(&wire::reply_json(&reply)).unwrap()
}

fn attach(task: &str, node: &str, uid: usize) -> Value {
    line("tasks.attach_node_task", json!({ "miroir_id": task, "node_id": node, "task_uid": uid }))
}

/// All callers go on until the second writer, which is opened beside them, has written.
async fn crowd(store: &TaskStore, number: usize, two: &AtomicBool) {
    let mut tasks = 0;
    while !two.load(Ordering::Acquire) {
        let id = format!("crowd-{number}-{tasks}");
        send(store, line("tasks.register", json!({ "miroir_id": id, "node_tasks": {} }))).await;
        tasks += 1;
    }
}

/// Each caller has a task of its own, and changes one that others change as well: by itself, and in a transact that
/// begins with its own, which goes where its own task goes.
async fn caller(store: TaskStore, number: usize, two: Arc<AtomicBool>) {
    crowd(&store, number, &two).await;
    let own = format!("own-{number}");
    let shared = format!("shared-{}", number % SHARED);
    send(&store, line("tasks.register", json!({ "miroir_id": own, "node_tasks": {} }))).await;
    for step in 0..STEPS {
        let node = format!("n-{number}-{step}");
        let first = attach(&shared, &node, step);
        assert_eq!(send(&store, first.clone()).await["changed"], true);
        // What was acknowledged is seen by whoever decides next.
        let both = json!({ "transact": [attach(&own, "n", 1), first] });
        assert_eq!(send(&store, both).await["changed"], step == 0);
    }
}

#[test]
fn a_crowd_has_two_writers_and_every_acknowledged_command_is_seen_by_the_next() {
    let place = Shared::alone();
    let store = place.open();
    for number in 0..SHARED {
        run(&store, "tasks.register", json!({ "miroir_id": format!("shared-{number}"), "node_tasks": {} }));
    }
    assert_eq!(writers(&place), 1, "one is enough for a lone caller");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    let two = Arc::new(AtomicBool::new(false));
    let callers: Vec<_> =
        (0..CALLERS).map(|number| runtime.spawn(caller(store.clone(), number, Arc::clone(&two)))).collect();
    while writers(&place) < 2 {
        assert!(!callers.iter().any(tokio::task::JoinHandle::is_finished), "a caller has failed");
    }
    two.store(true, Ordering::Release);
    for caller in callers {
        runtime.block_on(caller).unwrap();
    }
    assert_eq!(writers(&place), 2);
    for number in 0..SHARED {
        let task = ask(&store, "tasks.get", json!({ "miroir_id": format!("shared-{number}") }));
        let found = task["node_tasks"].as_object().or_else(|| task["row"]["node_tasks"].as_object()).unwrap().len();
        assert_eq!(found, CALLERS / SHARED * STEPS);
    }
    assert_verified(&store);
}
