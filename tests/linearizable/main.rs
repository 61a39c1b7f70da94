//! Leases, queues, cursors, idempotency keys and aliases of a shared store behave as if one command ran after the other,
//! each at one moment between its call and its return: four processes record what they call and what they are told, some
//! are killed at random, and stateright's tester looks for an order that explains it all.
//!
//! `TASKLOG_TEST_SEED` repeats the choices of a run; what the machine does with them is its own affair.
#![allow(clippy::unwrap_used, missing_docs)]
#![cfg(unix)]

mod history;
mod spec;
mod worker;

use std::{
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use history::{Line, check, entries};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use spec::{Op, Ret};
use tasklog::TaskStore;
use tasklog_testing::RedisServer;

/// Processes that call at the same time.
const PROCESSES: usize = 4;
/// Calls of all of them.
const STEPS: u64 = 10_000;
/// The longest pause before the next kill.
const KILL_PAUSE_MS_MAX: u64 = 250;

fn seed() -> u64 {
    let seed = std::env::var("TASKLOG_TEST_SEED").map_or_else(|_| rand::random(), |seed| seed.parse().unwrap());
    // Shown when the test fails.
    println!("TASKLOG_TEST_SEED={seed}");
    seed
}

/// The test program itself, as a process that only calls.
struct Caller {
    child: Child,
}

impl Caller {
    fn start(url: &str, history: &std::path::Path, name: u64, seed: u64) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "calls_until_it_is_killed", "--nocapture"]);
        command.env(worker::STORE, url).env(worker::HISTORY, history);
        command.env(worker::NAME, name.to_string()).env(worker::SEED, (seed ^ name).to_string());
        command.env(worker::STEPS, STEPS.to_string());
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::inherit()).spawn().unwrap();
        Self { child }
    }

    /// Whether it has come to its end.
    fn has_ended(&mut self) -> bool {
        match self.child.try_wait().unwrap() {
            Some(status) => {
                assert!(status.success(), "a caller failed: {status}");
                true
            }
            None => false,
        }
    }

    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// Not a test: the process that the test below starts many of.
#[test]
fn calls_until_it_is_killed() {
    worker::run_if_asked();
}

#[test]
fn histories_of_four_processes_with_kills_have_an_order() {
    let mut rng = ChaCha8Rng::seed_from_u64(seed());
    let server = RedisServer::start();
    let folder = tempfile::tempdir().unwrap();
    let (url, history) = (server.url(), folder.path().join("history"));
    let store = TaskStore::open(&url).unwrap();
    let run_seed = rng.random();
    let mut names = 0..;
    let mut start = || Caller::start(&url, &history, names.next().unwrap(), run_seed);
    let mut callers: Vec<_> = (0..PROCESSES).map(|_| start()).collect();
    let mut kills = 0;
    while !callers.iter_mut().all(Caller::has_ended) {
        thread::sleep(Duration::from_millis(rng.random_range(0..KILL_PAUSE_MS_MAX)));
        let victim = rng.random_range(0..PROCESSES);
        if !callers[victim].has_ended() {
            callers[victim].kill();
            callers[victim] = start();
            kills += 1;
        }
    }
    let lines: Vec<Line> = entries(&std::fs::read_to_string(&history).unwrap());
    let calls = lines.iter().filter(|line| matches!(line, Line::Call { .. })).count();
    let returns = lines.iter().filter(|line| matches!(line, Line::Return { .. })).count();
    println!("{calls} calls, {returns} returns, {kills} kills");
    assert!(kills > 0 && returns as u64 > STEPS / 2, "{kills} kills, {returns} returns of {calls} calls");
    assert_eq!(check(&lines), Vec::<String>::new());
    let report = store.verify(|_| {}).unwrap();
    assert!(report.findings.is_empty(), "{:#?}", report.findings);

    // The same history with one answer that belongs to nobody's order.
    let mut wrong = lines;
    let dedup = wrong.iter_mut().find_map(|line| match line {
        Line::Return { ret: Ret::Dedup(task), .. } => Some(task),
        _ => None,
    });
    "another".clone_into(dedup.unwrap());
    assert_eq!(check(&wrong).len(), 1, "a forged answer is noticed");
}

/// `(caller, call or return)`; every call is returned unless it is pending.
enum Step {
    Call(u32, Op),
    Return(u32, Ret),
}

fn lines(object: &str, steps: Vec<Step>) -> Vec<Line> {
    let line = |step| match step {
        Step::Call(caller, op) => Line::Call { caller, object: object.into(), op },
        Step::Return(caller, ret) => Line::Return { caller, ret },
    };
    steps.into_iter().map(line).collect()
}

fn explains(object: &str, steps: Vec<Step>) -> bool {
    check(&lines(object, steps)).is_empty()
}

#[test]
fn two_leaders_have_no_order() {
    use Step::{Call, Return};
    let acquire = |caller: u32| Op::Acquire { holder: format!("pod-{caller}") };
    let race =
        |first: Ret, second: Ret| vec![Call(1, acquire(1)), Call(2, acquire(2)), Return(1, first), Return(2, second)];
    let refused = |holder: u32| Ret::Refused { holder: format!("pod-{holder}") };
    assert!(explains("lease/a", race(Ret::Granted { term: 7 }, refused(1))));
    assert!(explains("lease/a", race(refused(2), Ret::Granted { term: 7 })));
    assert!(!explains("lease/a", race(Ret::Granted { term: 7 }, Ret::Granted { term: 8 })));
    assert!(!explains("lease/a", race(refused(2), refused(1))));
    // A term that is not higher than an earlier one fences nobody off.
    let again = |term: i64| {
        vec![
            Call(1, acquire(1)),
            Return(1, Ret::Granted { term: 7 }),
            Call(1, Op::ReleaseLease { holder: "pod-1".into(), term: 7 }),
            Return(1, Ret::Released(true)),
            Call(2, acquire(2)),
            Return(2, Ret::Granted { term }),
        ]
    };
    assert!(explains("lease/a", again(9)) && !explains("lease/a", again(6)));
}

#[test]
fn two_claimants_and_a_queue_jumper_have_no_order() {
    use Step::{Call, Return};
    let claimed = |id: &str, token: i64| Ret::Claimed { id: id.into(), token };
    let queue = |first: Ret, second: Ret| {
        vec![
            Call(1, Op::Enqueue { id: "a".into() }),
            Return(1, Ret::Ok),
            Call(1, Op::Enqueue { id: "b".into() }),
            Return(1, Ret::Ok),
            Call(1, Op::Claim),
            Return(1, first),
            Call(2, Op::Claim),
            Return(2, second),
        ]
    };
    assert!(explains("queue/a", queue(claimed("a", 3), claimed("b", 4))));
    assert!(!explains("queue/a", queue(claimed("a", 3), claimed("a", 4))));
    assert!(!explains("queue/a", queue(claimed("b", 3), claimed("a", 4))));
    assert!(!explains("queue/a", queue(claimed("a", 3), Ret::Nothing)));
}

#[test]
fn a_stale_read_and_a_lost_update_have_no_order() {
    use Step::{Call, Return};
    let advance = |from: Option<i64>, to: i64| Op::Advance { from, to };
    let cursor = |second: Ret, read: Option<i64>| {
        vec![
            Call(1, advance(None, 1)),
            Return(1, Ret::Ok),
            Call(1, advance(Some(1), 5)),
            Call(2, advance(Some(1), 9)),
            Return(1, Ret::Ok),
            Return(2, second),
            Call(3, Op::Cursor),
            Return(3, Ret::At(read)),
        ]
    };
    assert!(explains("cursor/a", cursor(Ret::Conflict, Some(5))));
    assert!(!explains("cursor/a", cursor(Ret::Ok, Some(9))), "two advances from one place");
    assert!(!explains("cursor/a", cursor(Ret::Conflict, Some(1))), "a read of what was over");
    let flip = |version, to: &str| Op::Flip { version, to: to.into() };
    let alias =
        |second: Ret| vec![Call(1, flip(1, "b")), Return(1, Ret::Version(2)), Call(2, flip(1, "c")), Return(2, second)];
    assert!(explains("alias/a", alias(Ret::Conflict)) && !explains("alias/a", alias(Ret::Version(2))));
}

#[test]
fn the_call_of_a_killed_process_may_have_happened_or_not() {
    use Step::{Call, Return};
    let record = |task: &str| Op::Record { task: task.into() };
    let key = |ret: Ret| vec![Call(1, record("t1")), Call(2, record("t2")), Return(2, ret)];
    assert!(explains("key/a", key(Ret::Dedup("t1".into()))));
    assert!(explains("key/a", key(Ret::Miss)));
    assert!(!explains("key/a", key(Ret::Dedup("t3".into()))));
    // But not first one and then the other.
    let mut both = key(Ret::Miss);
    both.extend([Call(2, record("t2")), Return(2, Ret::Dedup("t1".into()))]);
    assert!(!explains("key/a", both));
}
