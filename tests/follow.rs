//! Replicas: the same log and rows as their source, exactly once whatever happens on the way, readable all the time, and
//! never silently on another history.
#![allow(clippy::unwrap_used, missing_docs)]
#![cfg(unix)]

mod support;

use std::{
    io::Write,
    path::Path,
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use rusqlite::{Connection, OpenFlags, types::Value as Cell};
use serde_json::{Value, json};
use support::{
    program::{Ended, Running, Store, run, tasklog},
    registry::{PATIENCE, eventually},
};
use tasklog::{
    Error, OpenOptions, StoreUrl, TaskStore,
    follow::{FollowOptions, FollowState, Follower, OpenedSource, Source, open_source},
    log::{
        Checkpoint, Commit, CommitId, Log, LogInfo, Millis, NewCommit, Outcome, Position, Revs, StoreError, Stored,
        SystemClock, memory::MemoryLog,
    },
};

/// How often a follower is killed.
const KILLS: usize = 12;

fn register(id: impl std::fmt::Display) -> String {
    format!(r#"{{"command":"tasks.register","args":{{"miroir_id":"{id}","node_tasks":{{"n1":7}}}}}}"#)
}

fn registers(name: &str, count: usize) -> Vec<String> {
    (0..count).map(|at| register(format!("{name}{at}"))).collect()
}

fn follow(source: &Store, replica: &Store, more: &[&str]) -> Command {
    let mut command = tasklog();
    command.args(["follow", &source.url(), "--into", &replica.url()]).args(more);
    command
}

fn follow_once(source: &Store, replica: &Store) -> Ended {
    run(follow(source, replica, &["--once"]), b"")
}

/// Every column of every event, as stored.
fn stored_events(path: &Path) -> Vec<Vec<Cell>> {
    let conn = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    let mut select = conn.prepare("SELECT * FROM events ORDER BY position").unwrap();
    let columns = select.column_count();
    let rows = select.query_map([], |row| (0..columns).map(|at| row.get(at)).collect()).unwrap();
    rows.collect::<Result<_, _>>().unwrap()
}

#[track_caller]
fn assert_same(source: &Store, replica: &Store) {
    assert_eq!(stored_events(&replica.path()), stored_events(&source.path()));
    assert_eq!(replica.dump(), source.dump());
    replica.run(["verify"]).with(0);
    let ids = |store: &Store| {
        let info = store.json(["info"]).remove(0);
        (info["log_id"].clone(), info["epoch"].clone(), info["head_commit_id"].clone(), info["checkpoint"].clone())
    };
    assert_eq!(ids(replica), ids(source));
}

fn raise_epoch(store: &Store) {
    store.by_hand("UPDATE _heads SET epoch = epoch + 1");
}

// ---- the same log and rows

#[test]
fn a_replica_has_the_log_and_the_rows_of_its_source_byte_for_byte() {
    let (source, replica) = (Store::new(), Store::new());
    run(source.command(["apply", "examples/day.ndjson"]), b"");
    let said = follow_once(&source, &replica).with(0);
    assert!(said.out.contains("stopped: at event "), "{}", said.out);
    assert_same(&source, &replica);
    let info = replica.json(["info"]).remove(0);
    assert_eq!(info["follows"], json!(source.url()));
    assert_eq!(info["recording_from"], source.json(["info"])[0]["recording_from"]);
    // Nothing new: nothing happens.
    follow_once(&source, &replica).with(0);
    assert_same(&source, &replica);
    // Rows whose last events the replica had long before the newest ones: chains go on across sessions.
    source.apply(&[register("late"), r#"{"command":"tasks.cancel","args":{"miroir_id":"late"}}"#.into()]).with(0);
    follow_once(&source, &replica).with(0);
    assert_same(&source, &replica);
}

#[test]
fn a_replica_takes_no_commands_and_says_what_it_follows() {
    let (source, replica) = (Store::with(&[register("t1")]), Store::new());
    follow_once(&source, &replica).with(0);
    let refused = format!("read_only: {} is a replica of {} since ", replica.path().display(), source.url());
    replica.apply(&[register("t2")]).with(3).says(&[&refused]);
    let mut running = Running::of(follow(&source, &replica, &["--json"]));
    running.until(r#""state":"following""#);
    replica.apply(&[register("t2")]).with(3).says(&[&refused]);
    replica.run(["rebuild"]).with(3).says(&["is open for writing by process"]);
    assert_eq!(replica.json(["list", "tasks"]).len(), 1);
    drop(running);
    replica.run(["rebuild"]).with(0);
    follow_once(&source, &replica).with(0);
    assert_same(&source, &replica);
    let error = TaskStore::open(&replica.url()).err().unwrap();
    assert_eq!(error.kind(), "read_only");
}

#[test]
fn a_store_of_its_own_is_not_made_a_replica() {
    let (source, other) = (Store::with(&[register("t1")]), Store::with(&[register("t2")]));
    follow_once(&source, &other).with(1).says(&["is a store of its own with 1 events"]);
    other.apply(&[register("t3")]).with(0);
    // An empty one may become one.
    let empty = Store::with(&[] as &[&str]);
    follow_once(&source, &empty).with(0);
    assert_same(&source, &empty);
    let missing = Store::new();
    follow_once(&missing, &Store::new()).with(3).says(&["unavailable: no store at"]);
    follow_once(&source, &source).with(1).says(&["cannot follow itself"]);
    let mut into_memory = tasklog();
    into_memory.args(["follow", &source.url(), "--into", "memory:"]);
    run(into_memory, b"").with(1).says(&["programs use TaskStore::follow"]);
}

#[test]
fn signals_end_a_follower_between_two_transactions() {
    for signal in ["-INT", "-TERM"] {
        let (source, replica) = (Store::with(&registers("t", 50)), Store::new());
        let mut running = Running::of(follow(&source, &replica, &[]));
        running.until("following: at event 50 of 50, lag 0 events, 0 ms");
        running.signal(signal);
        assert_eq!(running.0.wait().unwrap().code(), Some(0));
        assert_same(&source, &replica);
    }
}

// ---- exactly once

#[test]
fn a_follower_that_is_killed_again_and_again_has_everything_exactly_once() {
    let (source, replica) = (Store::new(), Store::new());
    source.apply(&registers("first", 2_000)).with(0);
    let mut writer = source.command(["apply"]);
    let mut writer = writer.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let mut input = writer.stdin.take().unwrap();
    let writing = thread::spawn(move || {
        for (at, line) in registers("then", 4_000).into_iter().enumerate() {
            let cancel = format!(r#"{{"command":"tasks.cancel","args":{{"miroir_id":"first{}"}}}}"#, at % 2_000);
            writeln!(input, "{line}\n{cancel}").unwrap();
            if at % 100 == 0 {
                thread::sleep(Duration::from_millis(20));
            }
        }
    });
    for kill in 0..KILLS {
        let mut running = Running::of(follow(&source, &replica, &["--json"]));
        thread::sleep(Duration::from_millis(40 + 45 * (kill as u64 % 5)));
        running.signal("-KILL");
        running.0.wait().unwrap();
        if replica.path().exists() && kill > 2 {
            // What a reader sees is never between log and tables.
            replica.run(["query", "store.health"]).with(0);
        }
    }
    writing.join().unwrap();
    assert!(writer.wait().unwrap().success());
    follow_once(&source, &replica).with(0);
    assert_same(&source, &replica);
}

#[test]
fn others_read_a_replica_all_the_time_and_meet_log_and_rows_in_step() {
    let (source, replica) = (Store::with(&registers("a", 10)), Store::new());
    let mut running = Running::of(follow(&source, &replica, &["--json"]));
    running.until(r#""state":"following""#);
    let mut seen = 0;
    for round in 0..15 {
        source.apply(&registers(&format!("r{round}-"), 200)).with(0);
        let health = replica.run(["query", "store.health"]).with(0).out.trim().parse::<u64>().unwrap();
        assert!(health >= seen);
        seen = health;
    }
    let head = source.json(["info"])[0]["head"].as_u64().unwrap();
    replica.run(["query", "store.health", "--min-position", &head.to_string(), "--wait-ms", "60000"]).with(0);
    assert_same(&source, &replica);
}

// ---- read your writes

#[test]
fn a_read_waits_for_a_position_and_says_how_far_the_store_is_if_it_does_not_come() {
    let (source, replica) = (Store::with(&[register("t0")]), Store::new());
    let mut running = Running::of(follow(&source, &replica, &["--json"]));
    running.until(r#""state":"following""#);
    for at in 1..8 {
        let answer = source.apply(&[register(format!("t{at}"))]).with(0).json().remove(0);
        let position = answer["last"].as_u64().unwrap().to_string();
        let key = format!("t{at}");
        let wait = ["--min-position", &position, "--wait-ms", "60000"];
        let reads: [&[&str]; 6] = [
            &["get", "tasks", &key],
            &["list", "tasks"],
            &["query", "tasks.unfinished"],
            &["sql", "SELECT count(*) FROM tasks"],
            &["info"],
            &["history", "tasks", &key],
        ];
        replica.run(reads[at % 6].iter().chain(&wait)).with(0);
        replica.run(["get", "tasks", &key]).with(0);
    }
    let late = ["get", "tasks", "t0", "--min-position", "99", "--wait-ms", "30"];
    replica.run(late).with(3).says(&["unavailable: waiting 30 ms for event 99: the store is at event 8"]);
    source.run(late).with(3).says(&["the store is at event 8"]);
    source.run(["get", "tasks", "t0", "--wait-ms", "600001", "--min-position", "1"]).with(2);
}

// ---- divergence

/// A source that was restored to its first commits and then went another way, and a replica of what it was before.
fn diverged() -> (Store, Store) {
    let (source, replica) = (Store::with(&registers("common", 30)), Store::new());
    let backup = source.folder.path().join("backup.db");
    source.back_up(&backup);
    source.apply(&registers("lost", 7)).with(0);
    follow_once(&source, &replica).with(0);
    source.put_back(&backup);
    (source, replica)
}

#[test]
fn a_restored_source_that_is_behind_stops_its_followers_naming_both_commits() {
    let (source, replica) = diverged();
    let before = replica.dump();
    let commit = |store: &Store| store.json(["info"])[0]["head_commit_id"].as_str().unwrap().to_owned();
    let (mine, theirs) = (commit(&replica), commit(&source));
    follow_once(&source, &replica).with(3).says(&[
        "diverged: checkpoint (log ",
        &format!("position 37, commit {mine})"),
        &format!("position 30, commit {theirs})"),
        "tasklog epoch --accept",
    ]);
    assert_eq!(replica.dump(), before);
}

#[test]
fn a_source_that_went_another_way_is_noticed_and_a_higher_epoch_takes_followers_back() {
    let (source, replica) = diverged();
    // Longer than what the replica has: its position alone would look right.
    source.apply(&registers("other", 20)).with(0);
    follow_once(&source, &replica).with(3).says(&["diverged", "position 37"]);
    raise_epoch(&source);
    let told = run(follow(&source, &replica, &["--once", "--json"]), b"").with(0).json();
    let back = told.iter().find(|line| line["state"] == "went_back").unwrap();
    assert_eq!((&back["from"], &back["to"], &back["dropped_commits"]), (&json!(37), &json!(30), &json!(7)));
    assert_eq!((&back["epoch"], &back["dropped"][0]["first"]), (&json!(2), &json!(31)));
    assert_same(&source, &replica);
}

#[test]
fn a_follower_goes_back_at_once_if_it_is_told_to_accept_the_divergence() {
    let (source, replica) = diverged();
    source.apply(&registers("other", 3)).with(0);
    let said = run(follow(&source, &replica, &["--once", "--accept-divergence"]), b"").with(0);
    assert!(said.out.contains("went back from event 37 to event 30"), "{}", said.out);
    assert!(said.out.contains("  events 31 to 31: commit "), "{}", said.out);
    assert_same(&source, &replica);
}

#[test]
fn a_running_follower_notices_that_its_source_was_restored() {
    let (source, replica) = (Store::with(&registers("common", 30)), Store::new());
    let backup = source.folder.path().join("backup.db");
    source.back_up(&backup);
    source.apply(&registers("lost", 7)).with(0);
    let mut running = Running::of(follow(&source, &replica, &["--json"]));
    running.until(r#""position":37"#);
    source.put_back(&backup);
    raise_epoch(&source);
    source.apply(&registers("other", 9)).with(0);
    running.until(r#""state":"went_back""#);
    replica.run(["info", "--min-position", "39", "--wait-ms", "60000"]).with(0);
    assert_same(&source, &replica);
}

#[test]
fn a_replica_killed_on_its_way_back_is_whole() {
    let (source, replica) = (Store::with(&registers("common", 4_000)), Store::new());
    let backup = source.folder.path().join("backup.db");
    source.back_up(&backup);
    source.apply(&registers("lost", 500)).with(0);
    follow_once(&source, &replica).with(0);
    source.put_back(&backup);
    raise_epoch(&source);
    source.apply(&registers("other", 100)).with(0);
    for kill in 0..10 {
        let mut running = Running::of(follow(&source, &replica, &["--once"]));
        thread::sleep(Duration::from_millis(10 + 25 * kill));
        running.signal("-KILL");
        running.0.wait().unwrap();
        replica.run(["verify"]).with(0);
    }
    follow_once(&source, &replica).with(0);
    assert_same(&source, &replica);
}

#[test]
fn another_log_at_the_same_url_is_refused_whatever_is_accepted() {
    let (source, other, replica) = (Store::with(&registers("t", 5)), Store::with(&registers("o", 9)), Store::new());
    follow_once(&source, &replica).with(0);
    let before = replica.dump();
    run(follow(&other, &replica, &["--once", "--accept-divergence"]), b"").with(3).says(&["another log"]);
    assert_eq!(replica.dump(), before);
}

#[test]
fn a_raised_epoch_without_a_loss_is_taken_over() {
    let (source, replica) = (Store::with(&registers("t", 5)), Store::new());
    follow_once(&source, &replica).with(0);
    raise_epoch(&source);
    source.apply(&registers("u", 5)).with(0);
    follow_once(&source, &replica).with(0);
    assert_same(&source, &replica);
    // An older life of the source is not.
    source.by_hand("UPDATE _heads SET epoch = 1");
    follow_once(&source, &replica).with(3).says(&["diverged", "epoch 2"]);
}

// ---- the library

fn rows(store: &TaskStore) -> usize {
    store.counts().unwrap().iter().map(|(_, rows)| *rows as usize).sum()
}

async fn register_in(store: &TaskStore, id: String) -> Position {
    let command =
        tasklog::tables::tasks::Register { miroir_id: Some(id), ..tasklog::tables::tasks::Register::default() };
    store.run(command).await.unwrap().position
}

#[test]
fn a_store_in_memory_is_followed_into_memory_and_into_a_file() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let source = TaskStore::open("memory:").unwrap();
    let file = Store::new();
    let into: [StoreUrl; 2] = [StoreUrl::Memory, file.url().parse().unwrap()];
    let followers = into.map(|into| source.follow(&into, FollowOptions::default()).unwrap());
    for at in 0..50 {
        let position = runtime.block_on(register_in(&source, format!("t{at}")));
        for follower in &followers {
            follower.wait_for(position, PATIENCE).unwrap();
            assert_eq!(follower.store().wait_for(position, PATIENCE).unwrap(), position);
            assert_eq!(rows(follower.store()), at + 1);
            let read_only = runtime.block_on(follower.store().run(tasklog::tables::tasks::Register::default()));
            assert!(matches!(read_only, Err(Error::Store(StoreError::ReadOnly(_)))));
        }
    }
    for follower in followers {
        let status = follower.status();
        assert_eq!((status.position, status.lag_events, status.lag_ms), (Position(50), 0, 0));
        assert_eq!(status.state, FollowState::Following);
        assert_eq!(follower.store().verify(|_| {}).unwrap().found, 0);
        let late = follower.wait_for(Position(51), Duration::from_millis(10)).unwrap_err();
        assert!(late.to_string().contains("the replica is at 50 of 50"), "{late}");
        assert_eq!(follower.stop().unwrap(), Position(50));
    }
}

#[test]
fn a_replica_in_memory_goes_back_like_one_in_a_file() {
    let source = Store::with(&registers("common", 30));
    let backup = source.folder.path().join("backup.db");
    source.back_up(&backup);
    source.apply(&registers("lost", 7)).with(0);
    let url: StoreUrl = source.url().parse().unwrap();
    let follower = Follower::start(open_source(&url).unwrap(), &StoreUrl::Memory, FollowOptions::default()).unwrap();
    follower.wait_for(Position(37), PATIENCE).unwrap();
    source.put_back(&backup);
    raise_epoch(&source);
    source.apply(&registers("other", 20)).with(0);
    eventually("the replica goes back", || !follower.went_back().is_empty());
    follower.wait_for(Position(50), PATIENCE).unwrap();
    let went = follower.went_back().remove(0);
    assert_eq!((went.from.position, went.to.position, went.commits), (Position(37), Position(30), 7));
    assert_eq!(follower.store().verify(|_| {}).unwrap().found, 0);
    let theirs =
        TaskStore::open_with(&url, OpenOptions { access: tasklog::Access::Read, ..OpenOptions::default() }).unwrap();
    let all = |store: &TaskStore| store.read(|log, _| Ok(log.read(Position::ZERO, usize::MAX)?)).unwrap();
    assert_eq!(all(follower.store()), all(&theirs));
}

#[test]
fn a_follower_ends_with_the_divergence_that_it_must_not_accept() {
    let (source, replica) = diverged();
    let url: StoreUrl = source.url().parse().unwrap();
    let into: StoreUrl = replica.url().parse().unwrap();
    let follower = Follower::start(open_source(&url).unwrap(), &into, FollowOptions::default()).unwrap();
    let error = follower.wait_for(Position(38), PATIENCE).unwrap_err();
    assert_eq!(error.kind(), "diverged");
    assert_eq!(follower.status().state, FollowState::Failed);
    assert!(follower.stop().is_err());
}

/// A log in memory that can be trimmed and cut back while it is followed, through a session that is never renewed.
struct Changing {
    log: MemoryLog,
    first: AtomicU64,
}

impl Changing {
    fn with(commits: &[Commit], info: LogInfo) -> Arc<Self> {
        let mut log = MemoryLog::new(Arc::new(SystemClock));
        log.adopt_identity(info).unwrap();
        log.adopt(commits).unwrap();
        Arc::new(Self { log, first: AtomicU64::new(1) })
    }

    fn opened(self: &Arc<Self>) -> OpenedSource {
        let source: Arc<dyn Source> = Arc::new(Session(Arc::clone(self)));
        OpenedSource { source, name: "a log in memory".into(), recording_from: None }
    }
}

struct Session(Arc<Changing>);

impl Source for Session {
    fn session(&self, look: &mut dyn FnMut(&dyn Log) -> Result<(), StoreError>) -> Result<(), StoreError> {
        look(self)
    }
    fn session_idle_max(&self) -> Duration {
        PATIENCE * 10
    }
}

impl Log for Session {
    fn info(&self) -> Result<LogInfo, StoreError> {
        self.0.log.info()
    }
    fn now(&self) -> Result<Millis, StoreError> {
        self.0.log.now()
    }
    fn append(&mut self, _: Millis, _: &[NewCommit], _: &mut dyn Revs) -> Result<Vec<Outcome>, StoreError> {
        Err(StoreError::ReadOnly("a source is only read".into()))
    }
    fn adopt(&mut self, _: &[Commit]) -> Result<(), StoreError> {
        Err(StoreError::ReadOnly("a source is only read".into()))
    }
    fn adopt_identity(&mut self, _: LogInfo) -> Result<(), StoreError> {
        Err(StoreError::ReadOnly("a source is only read".into()))
    }
    fn read(&self, after: Position, limit: usize) -> Result<Vec<Commit>, StoreError> {
        let first = self.first()?;
        let mut commits = self.0.log.read(after.max(first.before()), limit)?;
        commits.retain(|commit| commit.first() >= first);
        Ok(commits)
    }
    fn head(&self) -> Result<Checkpoint, StoreError> {
        self.0.log.head()
    }
    fn first(&self) -> Result<Position, StoreError> {
        Ok(Position(self.0.first.load(Ordering::Acquire)))
    }
    fn find(&self, id: CommitId) -> Result<Option<Stored>, StoreError> {
        self.0.log.find(id)
    }
    fn wait(&self, after: Position, timeout: Duration) -> Result<Position, StoreError> {
        self.0.log.wait(after, timeout)
    }
}

fn commits(store: &Store) -> (Vec<Commit>, LogInfo) {
    let url: StoreUrl = store.url().parse().unwrap();
    let options = OpenOptions { access: tasklog::Access::Read, ..OpenOptions::default() };
    let store = TaskStore::open_with(&url, options).unwrap();
    store.read(|log, _| Ok((log.read(Position::ZERO, usize::MAX)?, log.info()?))).unwrap()
}

#[test]
fn a_source_trimmed_beyond_its_replica_is_refused_and_one_trimmed_up_to_it_is_followed() {
    let (all, info) = commits(&Store::with(&registers("t", 20)));
    let changing = Changing::with(&all[..10], info);
    let replica = Store::new();
    let into: StoreUrl = replica.url().parse().unwrap();
    let follower = Follower::start(changing.opened(), &into, FollowOptions::default()).unwrap();
    follower.wait_for(Position(10), PATIENCE).unwrap();
    // Trimmed under the session, up to what the replica has.
    changing.first.store(11, Ordering::Release);
    changing.log.clone().adopt(&all[10..15]).unwrap();
    follower.wait_for(Position(15), PATIENCE).unwrap();
    follower.stop().unwrap();
    changing.log.clone().adopt(&all[15..]).unwrap();
    changing.first.store(17, Ordering::Release);
    let follower = Follower::start(changing.opened(), &into, FollowOptions::default()).unwrap();
    let error = follower.wait_for(Position(20), PATIENCE).unwrap_err().to_string();
    assert!(error.contains("following from event 16: the source begins at event 17"), "{error}");
    drop(follower);
    changing.first.store(16, Ordering::Release);
    let follower = Follower::start(changing.opened(), &into, FollowOptions::default()).unwrap();
    follower.wait_for(Position(20), PATIENCE).unwrap();
    assert_eq!(follower.store().verify(|_| {}).unwrap().found, 0);
}

#[test]
fn a_log_replaced_under_an_open_session_is_noticed_before_anything_of_it_is_taken() {
    let store = Store::with(&registers("common", 30));
    let backup = store.folder.path().join("backup.db");
    store.back_up(&backup);
    store.apply(&registers("lost", 7)).with(0);
    let (lost, info) = commits(&store);
    store.put_back(&backup);
    store.apply(&registers("other", 40)).with(0);
    let (other, _) = commits(&store);
    for (accept_divergence, epoch) in [(true, 1), (false, 2), (false, 1)] {
        let changing = Changing::with(&lost, info);
        let options = FollowOptions { accept_divergence, ..FollowOptions::default() };
        let follower = Follower::start(changing.opened(), &StoreUrl::Memory, options).unwrap();
        follower.wait_for(Position(37), PATIENCE).unwrap();
        changing.log.clone().cut_back(Position(30), LogInfo { epoch, ..info });
        changing.log.clone().adopt(&other[30..]).unwrap();
        let ended = follower.wait_for(Position(70), PATIENCE);
        if !accept_divergence && epoch == 1 {
            assert_eq!(ended.unwrap_err().kind(), "diverged");
            assert_eq!(follower.status().position, Position(37));
            continue;
        }
        ended.unwrap();
        let went = follower.went_back();
        assert!(!went.is_empty() && went.iter().all(|went| went.to.position == Position(30)), "{went:?}");
        let taken = follower.store().read(|log, _| Ok(log.read(Position::ZERO, usize::MAX)?)).unwrap();
        assert_eq!(taken, other);
        assert_eq!(follower.store().verify(|_| {}).unwrap().found, 0);
    }
}

// ---- moving house

fn copy(from: &Store, to: &Store) -> Ended {
    let mut command = tasklog();
    command.args(["copy", "--from", &from.url(), "--to", &to.url(), "--json"]);
    run(command, b"")
}

#[test]
fn a_copy_is_an_ordinary_store_with_the_same_log_and_rows() {
    let (from, to) = (Store::new(), Store::new());
    run(from.command(["apply", "examples/day.ndjson"]), b"");
    let report = copy(&from, &to).with(0).json().remove(0);
    assert_eq!(report["ok"], json!(true));
    let compared = report["compared"].as_array().unwrap();
    assert_eq!(compared.len(), 16, "the log, 14 tables, and the facts about the log");
    assert!(compared.iter().all(|one| one["source"] == one["destination"] && one["source"] != Value::Null));
    assert_same(&from, &to);
    // A repeat finds nothing to do, and the copy takes commands.
    assert_eq!(copy(&from, &to).with(0).json()[0]["events"], json!(0));
    to.apply(&[register("new")]).with(0);
}

#[test]
fn a_copy_that_was_killed_goes_on() {
    let (from, to) = (Store::with(&registers("t", 9_000)), Store::new());
    for kill in 0..6 {
        let mut command = tasklog();
        command.args(["copy", "--from", &from.url(), "--to", &to.url()]);
        let mut running = Running::of(command);
        thread::sleep(Duration::from_millis(20 + 60 * kill));
        running.signal("-KILL");
        running.0.wait().unwrap();
    }
    copy(&from, &to).with(0);
    assert_same(&from, &to);
    from.apply(&registers("u", 5)).with(0);
    assert_eq!(copy(&from, &to).with(0).json()[0]["events"], json!(5));
    assert_same(&from, &to);
}

#[test]
fn a_destination_that_is_no_prefix_is_refused_naming_where_it_parts() {
    let (from, to) = (Store::with(&registers("t", 5)), Store::new());
    copy(&from, &to).with(0);
    to.apply(&[register("mine")]).with(0);
    copy(&from, &to).with(1).says(&["is no prefix of the source: event 6 is of commit ", " here, of nothing there"]);
    from.apply(&[register("theirs")]).with(0);
    copy(&from, &to).with(1).says(&["event 6 is of commit ", " here, of commit "]);
    copy(&Store::with(&registers("o", 9)), &to).with(1).says(&["holds another log"]);
    copy(&from, &from).with(1).says(&["cannot be copied to itself"]);
    let replica = Store::new();
    follow_once(&from, &replica).with(0);
    copy(&from, &replica).with(1).says(&["is a replica of"]);
}

#[test]
fn a_repeated_command_finds_its_first_outcome_in_the_copy() {
    let line = r#"{"command":"tasks.register","args":{"miroir_id":"t1","node_tasks":{}},"command_id":"01890000-0000-7000-8000-000000000001"}"#;
    let (from, to) = (Store::new(), Store::new());
    let first = from.apply(&[register("t0"), line.to_owned()]).with(0).json().remove(1);
    assert_eq!(copy(&from, &to).with(0).json()[0]["answers"], json!(1));
    let again = to.apply(&[line]).with(0).json().remove(0);
    assert_eq!((&again["first"], &again["reply"]["commit_id"]), (&first["first"], &first["reply"]["commit_id"]));
    assert_eq!(to.json(["log"]).len(), 2);
}
