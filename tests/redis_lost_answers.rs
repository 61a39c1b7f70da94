//! Answers that are lost: a proxy cuts requests and answers at random while several writers work, and connections are
//! killed. Whatever was acknowledged is in the log exactly once, whatever was not is there at most once.
//!
//! `TASKLOG_TEST_SEED` repeats the choices of a run.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::Duration,
};

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};
use support::shared::{Event, Shared, assert_verified, events, line, send};
use tasklog::{TaskStore, log::CommitId};
use tasklog_testing::{Cut, CuttingProxy};
use uuid::Uuid;

const WRITERS: usize = 3;
/// Threads that share a writer, so that batches have several commands.
const CALLERS: usize = 4;
/// Commands of each of them.
const COMMANDS: usize = 60;

fn seed() -> u64 {
    let seed = std::env::var("TASKLOG_TEST_SEED").map_or_else(|_| rand::random(), |seed| seed.parse().unwrap());
    // Shown when the test fails.
    println!("TASKLOG_TEST_SEED={seed}");
    seed
}

/// What a caller knows of one of its commands.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Known {
    Acknowledged,
    /// An error of the store.
    Unknown,
}

/// A command that makes something new whenever it is carried out; its `request_id` tells it from all others. Every other
/// one turns on rows that all callers change.
fn command(rng: &mut ChaCha8Rng, name: &str) -> Value {
    let mut line = match rng.random_range(0..4) {
        0 => line("jobs.enqueue", json!({ "type": "x", "params": {} })),
        1 => json!({ "transact": [
            line("tasks.register", json!({ "node_tasks": {} })),
            line("sessions.record_write", json!({ "session_id": "hot", "mtask_id": name })),
        ] }),
        2 => line("tasks.register", json!({ "node_tasks": {} })),
        _ => line(
            "sessions.record_write",
            json!({ "session_id": format!("s{}", rng.random_range(0..3)), "mtask_id": name }),
        ),
    };
    line["request_id"] = name.into();
    line
}

/// One caller's commands, each known afterwards. Every third has an id and is repeated until it is acknowledged.
fn call(
    store: &TaskStore,
    mut rng: ChaCha8Rng,
    name: &str,
    mut disturb: impl FnMut(&mut ChaCha8Rng),
) -> BTreeMap<String, Known> {
    let mut known = BTreeMap::new();
    for at in 0..COMMANDS {
        let name = format!("{name}-{at}");
        let mut line = command(&mut rng, &name);
        let with_id = at % 3 == 0;
        if with_id {
            line["command_id"] = CommitId::mint().to_string().into();
        }
        disturb(&mut rng);
        let said = loop {
            match send(store, &line) {
                Ok(reply) => {
                    assert!(reply["changed"] == true, "{line} {reply}");
                    break Known::Acknowledged;
                }
                Err(kind) => {
                    assert!(["unavailable", "not_confirmed"].contains(&&*kind), "{kind}: {line}");
                    if !with_id {
                        break Known::Unknown;
                    }
                }
            }
        };
        known.insert(name, said);
    }
    known
}

/// The commits that each command has made.
fn commits(events: &[Event]) -> BTreeMap<&str, BTreeSet<Uuid>> {
    let mut commits: BTreeMap<&str, BTreeSet<Uuid>> = BTreeMap::new();
    for event in events {
        if let Some(name) = event.request_id.as_deref() {
            commits.entry(name).or_default().insert(event.commit);
        }
    }
    commits
}

fn check(place: &Shared, known: &BTreeMap<String, Known>) {
    let store = place.open();
    let log = events(&store);
    let commits = commits(&log);
    for (name, known) in known {
        let found = commits.get(&**name).map_or(0, BTreeSet::len);
        match known {
            Known::Acknowledged => assert_eq!(found, 1, "{name} was acknowledged"),
            Known::Unknown => assert!(found <= 1, "{name} is there {found} times"),
        }
    }
    assert!(commits.keys().all(|name| known.contains_key(*name)));
    assert_verified(&store);
}

#[test]
fn commands_are_done_once_although_requests_and_answers_are_cut_at_random() {
    let seed = seed();
    let place = Shared::new();
    let cuts = AtomicUsize::new(0);
    let known = thread::scope(|scope| {
        let (place, cuts) = (&place, &cuts);
        let mut callers = Vec::new();
        for writer in 0..WRITERS {
            let proxy = std::sync::Arc::new(CuttingProxy::start(place.server.port()));
            let store = TaskStore::open(&place.url_through(proxy.port())).unwrap();
            for caller in 0..CALLERS {
                let (proxy, store) = (std::sync::Arc::clone(&proxy), store.clone());
                callers.push(scope.spawn(move || {
                    let rng = ChaCha8Rng::seed_from_u64(seed ^ (writer * CALLERS + caller) as u64);
                    call(&store, rng, &format!("c{writer}-{caller}"), |rng| {
                        if rng.random_range(0..4) > 0 {
                            return;
                        }
                        let cut = if rng.random() { Cut::Request } else { Cut::Answer };
                        // Any call, or one that finds out what became of a lost one.
                        let needle: &[u8] = if rng.random_range(0..4) > 0 { b"EVALSHA" } else { b"HGETALL" };
                        proxy.cut(cut, needle, rng.random_range(1..3));
                        cuts.fetch_add(1, Ordering::Relaxed);
                    })
                }));
            }
        }
        callers.into_iter().flat_map(|caller| caller.join().unwrap()).collect()
    });
    assert!(cuts.load(Ordering::Relaxed) > 50);
    check(&place, &known);
}

#[test]
fn commands_are_done_once_although_connections_are_killed_at_random() {
    let seed = seed();
    let place = Shared::alone();
    let running = AtomicUsize::new(WRITERS * CALLERS);
    let stores: Vec<_> = (0..WRITERS).map(|_| place.open()).collect();
    let (known, kills) = thread::scope(|scope| {
        let (place, running, stores) = (&place, &running, &stores);
        let killer = scope.spawn(move || {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            let mut kills = 0_u64;
            while running.load(Ordering::Acquire) > 0 {
                thread::sleep(Duration::from_millis(rng.random_range(1..20)));
                let killed: u64 = place.server.run(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]);
                kills += killed;
            }
            kills
        });
        let callers: Vec<_> = (0..WRITERS * CALLERS)
            .map(|caller| {
                scope.spawn(move || {
                    let rng = ChaCha8Rng::seed_from_u64(seed ^ caller as u64);
                    let known = call(&stores[caller % WRITERS], rng, &format!("c{caller}"), |_| {});
                    running.fetch_sub(1, Ordering::AcqRel);
                    known
                })
            })
            .collect();
        let known: BTreeMap<_, _> = callers.into_iter().flat_map(|caller| caller.join().unwrap()).collect();
        (known, killer.join().unwrap())
    });
    assert!(kills > 0);
    check(&place, &known);
}
