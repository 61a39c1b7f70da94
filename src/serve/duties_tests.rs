#![allow(clippy::unwrap_used)]

use tasklog_projections::{
    Json,
    tables::{jobs::JobState, tasks::TaskStatus},
};

use super::*;
use crate::{
    Config, OpenOptions, StoreUrl,
    command::{AnyCommand, Command},
    engine::Request,
};

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
    Worker { duty, store: store.clone(), settings: DutySettings::new(holder), stop, place: None }
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

// ---- jobs

/// A clock that goes on by a millisecond whenever somebody looks at it.
#[derive(Default)]
struct Ticking(std::sync::atomic::AtomicI64);

impl tasklog_log::Clock for Ticking {
    fn now(&self) -> tasklog_log::Millis {
        self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed)
    }
}

/// A store whose jobs are old as soon as they have finished, and whose claims do not end.
fn with_short_lived_jobs() -> TaskStore {
    let config = Config { job_ttl_ms: 0, job_claim_ms: 3_600_000, ..Config::default() };
    let clock = Arc::new(Ticking::default());
    TaskStore::open_with(&StoreUrl::Memory, OpenOptions { config, clock, ..OpenOptions::default() }).unwrap()
}

fn run<C: Command>(store: &TaskStore, command: C) -> C::Answer {
    store.run_blocking(command, CommandOptions::default()).unwrap().answer
}

/// Runs commands, a thousand to a commit.
fn all<C: Command>(store: &TaskStore, commands: impl Iterator<Item = C>) {
    let boxed: Vec<Box<dyn AnyCommand>> = commands.map(|command| Box::new(command) as Box<dyn AnyCommand>).collect();
    let mut boxed = boxed.into_iter().peekable();
    while boxed.peek().is_some() {
        let some = boxed.by_ref().take(1_000).collect();
        store.send_blocking(Request::transact(some, CommandOptions::default())).unwrap();
    }
}

fn enqueue(store: &TaskStore, id: &str) {
    let params = Json::parse("{}").unwrap();
    run(store, jobs::Enqueue { id: Some(id.into()), r#type: "x".into(), params, max_attempts: None });
}

/// Claims the job that is next in the queue; answers its token.
fn claim(store: &TaskStore) -> i64 {
    run(store, jobs::ClaimNext { pod: "pod".into(), types: None }).claim_token.unwrap()
}

/// Claims everything in the queue, and completes what is claimed.
fn work_off(store: &TaskStore) {
    let queued = depth(store);
    all(store, (0..queued).map(|_| jobs::ClaimNext { pod: "pod".into(), types: None }));
    let claimed = jobs::List { state: Some(JobState::InProgress), ..jobs::List::default() };
    let claimed = store.ask(&claimed).unwrap();
    let mine = claimed.iter().filter(|job| job.claimed_by.is_some());
    all(store, mine.map(|job| jobs::Complete { id: job.id.clone(), token: job.claim_token.unwrap(), progress: None }));
}

fn depth(store: &TaskStore) -> u64 {
    store.ask(&jobs::Depth {}).unwrap().values().sum()
}

/// A job of so many chunks, all of which have ended; the job itself has not.
fn with_ended_chunks(store: &TaskStore, id: &str, chunks: i64) {
    enqueue(store, id);
    let token = claim(store);
    // As many as a split may name.
    let step = jobs::CHUNKS_MAX as i64;
    for first_chunk in (0..chunks).step_by(jobs::CHUNKS_MAX) {
        let count = step.min(chunks - first_chunk);
        let params = (0..count).map(|_| Json::parse("{}").unwrap()).collect();
        let last = first_chunk + count == chunks;
        let split = jobs::Split { id: id.into(), token, chunks: params, first_chunk, total_chunks: chunks, last };
        run(store, split);
    }
    work_off(store);
}

fn finished(store: &TaskStore) -> Vec<String> {
    let list = jobs::List { state: Some(JobState::Completed), ..jobs::List::default() };
    store.ask(&list).unwrap().iter().map(|job| job.id.clone()).collect()
}

/// A finished chunk whose parent had not ended made the duty due for ever: it took its lease, purged nothing, and gave the
/// lease back, two events each time.
#[test]
fn finished_chunks_of_a_job_that_has_not_ended_are_nothing_to_purge() {
    let store = with_short_lived_jobs();
    with_ended_chunks(&store, "p", 2);
    let head = store.head().unwrap();
    let mut purger = worker(&store, Duty::PurgeJobs, "a");
    for _ in 0..3 {
        assert_eq!(purger.round().unwrap(), Round::Done);
    }
    assert_eq!(store.head().unwrap(), head);

    run(&store, jobs::SettleParent { id: "p".into() });
    assert_eq!(purger.round().unwrap(), Round::Done);
    assert_eq!(finished(&store), [""; 0]);
}

#[test]
fn what_may_go_is_purged_behind_more_chunks_than_one_look_meets() {
    let store = with_short_lived_jobs();
    with_ended_chunks(&store, "p", 5_500);
    let (mut first, mut second) = (worker(&store, Duty::PurgeJobs, "a"), worker(&store, Duty::PurgeJobs, "a"));
    let head = store.head().unwrap();
    assert_eq!(first.round().unwrap(), Round::Done);
    assert_eq!(store.head().unwrap(), head, "nothing that may go is met");

    enqueue(&store, "j");
    work_off(&store);
    assert!(finished(&store).contains(&"j".into()));
    first.round().unwrap();
    assert_eq!(finished(&store).len(), 5_500);
    assert!(!finished(&store).contains(&"j".into()));

    // One that begins in front needs a further round, and a command goes on by itself.
    enqueue(&store, "k");
    work_off(&store);
    second.round().unwrap();
    assert!(finished(&store).contains(&"k".into()));
    let purged = run(&store, jobs::Purge::default());
    assert_eq!((purged.purged, purged.more), (1, false));
    // What it has passed by is looked at again once the end was met.
    run(&store, jobs::SettleParent { id: "p".into() });
    second.round().unwrap();
    first.round().unwrap();
    second.round().unwrap();
    assert_eq!(finished(&store), [""; 0]);
}

/// Jobs in progress were looked at up to the first thousand: behind so many, no delegated job was ever settled.
#[test]
fn a_delegated_job_is_settled_behind_more_claimed_jobs_than_one_look_meets() {
    let store = with_short_lived_jobs();
    let params = || Json::parse("{}").unwrap();
    let busy = |at: usize| jobs::Enqueue {
        id: Some(format!("j{at}")),
        r#type: "x".into(),
        params: params(),
        max_attempts: None,
    };
    all(&store, (0..1_100).map(busy));
    all(&store, (0..1_100).map(|_| jobs::ClaimNext { pod: "pod".into(), types: None }));
    enqueue(&store, "p");
    let token = claim(&store);
    run(
        &store,
        jobs::Split { id: "p".into(), token, chunks: vec![params()], first_chunk: 0, total_chunks: 1, last: true },
    );
    let token = claim(&store);
    run(&store, jobs::Complete { id: "p-c0000".into(), token, progress: None });

    let head = store.head().unwrap();
    let mut requeuer = worker(&store, Duty::RequeueJobs, "a");
    requeuer.round().unwrap();
    assert_eq!(store.head().unwrap(), head, "the first thousand have nothing for it");
    requeuer.round().unwrap();
    assert_eq!(finished(&store), ["p-c0000", "p"]);
}
