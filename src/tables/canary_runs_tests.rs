#![allow(clippy::unwrap_used)]
use std::collections::BTreeSet;

use proptest::prelude::*;
use tasklog_log::ManualClock;
use tasklog_projections::tables::canary_runs::CanaryRunRecorded;

use super::*;
use crate::{
    Config, OpenOptions, StoreUrl, TaskStore,
    backend::MemoryBackend,
    command::{AnyCommand, CommandOptions},
    engine::{Answers, Decided, Engine, Request},
    tables::{
        Nothing,
        canaries::{Define, Delete},
    },
};

fn config(canary_history: u32) -> Config {
    Config { canary_history, ..Config::default() }
}

fn open(url: &StoreUrl, canary_history: u32) -> TaskStore {
    TaskStore::open_with(url, OpenOptions { config: config(canary_history), ..OpenOptions::default() }).unwrap()
}

fn define(id: &str) -> Define {
    let args = format!(
        r#"{{"id":"{id}","name":"{id}","index_uid":"p","interval_s":1,"query_json":{{}},"assertions_json":[]}}"#
    );
    serde_json::from_str(&args).unwrap()
}

fn run(canary_id: &str, ran_at: Millis) -> Record {
    let status = RunStatus::Pass;
    Record {
        canary_id: canary_id.into(),
        ran_at,
        status,
        latency_ms: 1,
        failed_assertions_json: None,
        runner_pod: None,
    }
}

fn ran_at(store: &TaskStore, canary_id: &str) -> Vec<Millis> {
    let runs = store.ask(&List { canary_id: canary_id.into(), limit: None }).unwrap();
    runs.iter().map(|run| run.ran_at).collect()
}

fn transact(store: &TaskStore, commands: Vec<Box<dyn AnyCommand>>) {
    let options = CommandOptions::default();
    let request = Request { commands, transact: true, options, at: None, earlier: None, ordered: false, stream: None };
    store.queue(request).unwrap().wait().unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn runs_in_any_order_leave_the_newest_ones(
        instants in prop::collection::btree_set(0_i64..50, 1..12).prop_map(Vec::from_iter).prop_shuffle(),
        limit in 0_u32..5,
    ) {
        let store = open(&StoreUrl::Memory, limit);
        store.run_blocking(define("c1"), CommandOptions::default()).unwrap();
        let mut recorded = BTreeSet::new();
        for at in instants {
            recorded.insert(at);
            let newest: Vec<_> = recorded.iter().rev().take(limit as usize).copied().collect();
            let reply = store.run_blocking(run("c1", at), CommandOptions::default()).unwrap();
            prop_assert_eq!(reply.answer.kept, newest.contains(&at));
            prop_assert_eq!(ran_at(&store, "c1"), newest);
        }
    }
}

#[test]
fn a_changed_limit_holds_from_the_next_run_on() {
    let folder = tempfile::tempdir().unwrap();
    let url = StoreUrl::Sqlite(folder.path().join("tasklog.db"));
    let record = |limit: u32, at: Millis| {
        let store = open(&url, limit);
        let reply = store.run_blocking(run("c1", at), CommandOptions::default()).unwrap();
        (reply.answer.kept, reply.answer.dropped, ran_at(&store, "c1"))
    };
    open(&url, 5).run_blocking(define("c1"), CommandOptions::default()).unwrap();
    for at in 1..=5 {
        record(5, at);
    }
    assert_eq!(record(3, 6), (true, 3, vec![6, 5, 4]));
    // Not kept, but the bound holds again all the same.
    assert_eq!(record(2, 1), (false, 1, vec![6, 5]));
    assert_eq!(record(4, 1), (true, 0, vec![6, 5, 1]));
    assert_eq!(record(0, 7), (false, 3, vec![]));
    assert_eq!(record(0, 8), (false, 0, vec![]));
}

#[test]
fn a_prune_beyond_one_commit_goes_on_in_further_ones() {
    let store = open(&StoreUrl::Memory, 900);
    for canary in ["a", "b", "c"] {
        store.run_blocking(define(canary), CommandOptions::default()).unwrap();
        let runs = (0..800).map(|at| Box::new(run(canary, at)) as Box<dyn AnyCommand>);
        transact(&store, runs.collect());
    }
    let prune = |cutoff_ms, limit| {
        let reply = store.run_blocking(Prune::new(cutoff_ms, limit), CommandOptions::default()).unwrap();
        (reply.answer.dropped, reply.answer.more)
    };
    assert_eq!(prune(700, Some(1_500)), (1_500, true));
    // 700 of the first, 700 of the second, 100 of the third.
    assert_eq!(ran_at(&store, "c").len(), 700);
    assert_eq!(prune(700, None), (600, false));
    assert_eq!(prune(700, None), (0, false));
    assert_eq!(ran_at(&store, "c"), (700..800).rev().collect::<Vec<_>>());
}

/// A run that another writer recorded before it could know of the deletion.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
struct SlipIn {
    canary_id: String,
}

impl Command for SlipIn {
    const NAME: &'static str = "test.slip_in";
    const ABOUT: &'static str = "Records a run without asking for the canary";
    type Answer = Nothing;

    fn decide(&mut self, cx: &mut Decision<'_>) -> Result<Nothing, Error> {
        let (status, latency_ms, history_limit) = (RunStatus::Pass, 1, 100);
        let event =
            CanaryRunRecorded { status, latency_ms, failed_assertions_json: None, history_limit, runner_pod: None };
        cx.emit::<CanaryRuns>(&tasklog_projections::pair(&self.canary_id, "1000"), event)?;
        Ok(Nothing {})
    }
}

fn round(engine: &mut Engine<MemoryBackend>, request: &mut Request) -> Decided {
    engine.begin().unwrap();
    let decided = engine.decide(request).unwrap();
    assert!(engine.finish().unwrap().all_stand());
    decided
}

fn request(command: impl Command) -> Request {
    Request::one(Box::new(command), CommandOptions::default())
}

#[test]
fn a_run_that_slips_in_while_its_canary_is_deleted_is_dropped_by_a_second_commit() {
    let backend = MemoryBackend::new(Arc::new(ManualClock::at(5_000))).unwrap();
    let mut engine = Engine::new(backend, config(100), "test".into()).unwrap();
    engine.execute(request(define("c1"))).unwrap();
    let mut delete = request(Delete::new("c1"));
    assert!(matches!(round(&mut engine, &mut delete), Decided::Again));
    engine.execute(request(SlipIn { canary_id: "c1".into() })).unwrap();
    assert!(matches!(round(&mut engine, &mut delete), Decided::Again));
    let Decided::Reply(reply) = round(&mut engine, &mut delete) else { panic!("nothing is left to drop") };
    let Answers::Fresh(_) = &reply.answers else { panic!("it was decided now") };
    assert_eq!(reply.answers.to_json(), [r#"{"runs_dropped":1}"#]);
    // define 1, deletion 2, slip-in 3, drop 4: the reply reports the last commit.
    assert_eq!((reply.meta.changed, reply.meta.position.0, reply.meta.rev), (true, 4, None));
}

#[test]
fn a_canary_defined_again_drops_what_an_interrupted_deletion_left() {
    let store = open(&StoreUrl::Memory, 100);
    let options = CommandOptions::default;
    store.run_blocking(SlipIn { canary_id: "c1".into() }, options()).unwrap();
    assert!(ran_at(&store, "c1").is_empty());
    assert_eq!(store.ask(&Counts { canary_id: "c1".into() }).unwrap(), StatusCounts::default());
    store.run_blocking(define("c1"), options()).unwrap();
    assert!(ran_at(&store, "c1").is_empty());
}

#[test]
fn a_round_that_a_clash_takes_back_leaves_no_trace_in_the_command() {
    let engine = || {
        let backend = MemoryBackend::new(Arc::new(ManualClock::at(5_000))).unwrap();
        let mut engine = Engine::new(backend, config(100), "test".into()).unwrap();
        engine.execute(request(define("c1"))).unwrap();
        engine
    };
    let mut delete = request(Delete::new("c1"));
    let before = delete.before_round().unwrap();
    let mut clashing = engine();
    clashing.begin().unwrap();
    assert!(matches!(clashing.decide(&mut delete).unwrap(), Decided::Again));
    // Its first round was never written: the canary is still there to be deleted.
    assert!(engine().execute(before).unwrap().meta.changed);
}
