//! Many at once: no update is lost, exactly one of many contestants wins, and each loser is told what its table says.
#![allow(clippy::unwrap_used, missing_docs)]

use std::{
    collections::BTreeSet,
    future::{Future, poll_fn},
    io::Write,
    path::Path,
    process::{Command, Output, Stdio},
    sync::{Arc, Barrier},
    task::Poll,
    thread,
};

use serde_json::{Value, json};
use tasklog::{Access, OpenOptions, TaskStore, command::CommandOptions, engine::Request, log::Position, wire};
use tasklog_testing::RedisServer;

/// Contestants in a race.
const RUNNERS: usize = 64;
/// Writers of one shared store, each with a committer and a connection of its own.
const WRITERS: usize = 4;
/// More callers than the committer's queue and one group commit have room for.
const CROWD: usize = 8_000;

fn request(name: &str, args: Value) -> Request {
    wire::parse(&json!({ "command": name, "args": args }).to_string()).unwrap().request
}

/// The reply as JSON, or the kind of the error.
async fn send(store: &TaskStore, name: &str, args: Value) -> Result<Value, String> {
    send_line(store, &json!({ "command": name, "args": args })).await
}

async fn send_line(store: &TaskStore, line: &Value) -> Result<Value, String> {
    match store.send(wire::parse(&line.to_string()).unwrap().request).await {
        Ok(reply) => Ok(serde_json::from_str(&wire::reply_json(&reply)).unwrap()),
        Err(error) => Err(error.kind().to_owned()),
    }
}

fn send_blocking(store: &TaskStore, name: &str, args: Value) -> Result<Value, String> {
    send_line_blocking(store, &json!({ "command": name, "args": args }))
}

fn send_line_blocking(store: &TaskStore, line: &Value) -> Result<Value, String> {
    let request = wire::parse(&line.to_string()).unwrap().request;
    match store.send_blocking(request) {
        Ok(reply) => Ok(serde_json::from_str(&wire::reply_json(&reply)).unwrap()),
        Err(error) => Err(error.kind().to_owned()),
    }
}

fn ask(store: &TaskStore, name: &str, args: Value) -> Value {
    let query = tasklog::tables::query(name).unwrap();
    let args = serde_json::value::to_raw_value(&args).unwrap();
    serde_json::from_str(&store.read_tables(|read| (query.run)(&args, read)).unwrap()).unwrap()
}

fn assert_verified(store: &TaskStore) {
    let report = store.verify(|_| {}).unwrap();
    assert!(report.findings.is_empty(), "{:#?}", report.findings);
}

/// Where a race is run.
struct Place {
    /// The writers; each runner has one of them.
    stores: Vec<TaskStore>,
    /// Where another handle is opened; none for a store in memory.
    url: Option<String>,
    folder: Option<tempfile::TempDir>,
    _server: Option<Arc<RedisServer>>,
}

impl Place {
    fn store(&self) -> &TaskStore {
        &self.stores[0]
    }

    /// The writer of a runner.
    fn of(&self, runner: usize) -> &TaskStore {
        &self.stores[runner % self.stores.len()]
    }
}

fn memory() -> Place {
    let store = TaskStore::open("memory:").unwrap();
    Place { stores: vec![store], url: None, folder: None, _server: None }
}

fn sqlite() -> Place {
    let folder = tempfile::tempdir().unwrap();
    Place { stores: vec![open(folder.path())], url: Some(url(folder.path())), folder: Some(folder), _server: None }
}

/// One writer of a shared store.
fn redis() -> Place {
    shared(1)
}

/// Several writers of a shared store, that know nothing of each other.
fn redis_writers() -> Place {
    shared(WRITERS)
}

fn shared(writers: usize) -> Place {
    let server = RedisServer::shared();
    let url = format!("{}?prefix={}", server.url(), uuid::Uuid::now_v7());
    let stores = (0..writers).map(|_| TaskStore::open(&url).unwrap()).collect();
    Place { stores, url: Some(url), folder: None, _server: Some(server) }
}

fn url(folder: &Path) -> String {
    format!("sqlite:{}", folder.join("tasklog.db").display())
}

fn open(folder: &Path) -> TaskStore {
    TaskStore::open(&url(folder)).unwrap()
}

macro_rules! races {
    ($($case:ident)*) => {
        mod memory { $(#[test] fn $case() { super::$case(super::memory()); })* }
        mod sqlite { $(#[test] fn $case() { super::$case(super::sqlite()); })* }
        mod redis { $(#[test] fn $case() { super::$case(super::redis()); })* }
        mod redis_writers { $(#[test] fn $case() { super::$case(super::redis_writers()); })* }
    };
}

races! {
    reports_of_sixteen_nodes_at_once_are_all_kept
    of_many_registrations_of_one_task_one_creates_it
    exactly_one_of_many_tasks_wins_each_contest
    exactly_one_of_two_threads_wins_each_round
    a_caller_that_goes_away_disturbs_nobody
    more_callers_than_the_queue_holds_are_all_answered
    handles_write_to_one_store
    a_repeat_of_one_command_id_by_many_at_once_is_one_commit
}

/// 16 concurrent node reports on one task lost 2,961 of 3,200 updates in a store that read and then wrote without a
/// condition.
fn reports_of_sixteen_nodes_at_once_are_all_kept(place: Place) {
    const NODES: usize = 16;
    runtime().block_on(async {
        for round in 0..8 {
            let task = format!("t{round}");
            let nodes: serde_json::Map<_, _> = (0..NODES).map(|node| (format!("n{node}"), json!(node))).collect();
            send(place.store(), "tasks.register", json!({ "miroir_id": task, "node_tasks": nodes })).await.unwrap();
            for status in ["processing", "succeeded"] {
                let reports = (0..NODES).map(|node| {
                    let (store, task) = (place.of(node).clone(), task.clone());
                    tokio::spawn(async move {
                        let report = json!({ "node_id": format!("n{node}"), "status": status });
                        send(&store, "tasks.report_node_statuses", json!({ "miroir_id": task, "reports": [report] }))
                            .await
                    })
                });
                for report in reports.collect::<Vec<_>>() {
                    assert_eq!(report.await.unwrap().unwrap()["moved"], 1);
                }
                let row = ask(place.store(), "tasks.get", json!({ "miroir_id": task }));
                let states = row["node_states"].as_object().unwrap();
                assert_eq!(states.len(), NODES);
                assert!(states.values().all(|state| state == status), "{row}");
                assert_eq!(row["status"], status);
            }
        }
    });
    assert_verified(place.store());
}

/// TA6, in whatever group commits the registrations fall.
fn of_many_registrations_of_one_task_one_creates_it(place: Place) {
    let answers = runtime().block_on(race(&place, |runner| {
        // Half of each writer's runners.
        let index = format!("i{}", runner / place.stores.len() % 2);
        line("tasks.register", json!({ "miroir_id": "t", "node_tasks": {}, "index_uid": index }))
    }));
    let created = answers.iter().filter(|answer| answer.as_ref().is_ok_and(|reply| reply["changed"] == true)).count();
    let same = answers.iter().filter(|answer| answer.as_ref().is_ok_and(|reply| reply["changed"] == false)).count();
    let refused = answers.iter().filter(|answer| **answer == Err("already_exists".into())).count();
    assert_eq!((created, same, refused), (1, RUNNERS / 2 - 1, RUNNERS / 2));
    assert_eq!(place.store().head().unwrap(), Position(1));
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_all().build().unwrap()
}

/// Sends every runner's command at once.
async fn race(place: &Place, command: impl Fn(usize) -> Value) -> Vec<Result<Value, String>> {
    let start = Arc::new(tokio::sync::Barrier::new(RUNNERS));
    let runners = (0..RUNNERS).map(|runner| {
        let (line, store, start) = (command(runner), place.of(runner).clone(), Arc::clone(&start));
        tokio::spawn(async move {
            start.wait().await;
            send_line(&store, &line).await
        })
    });
    let mut answers = Vec::new();
    for runner in runners.collect::<Vec<_>>() {
        answers.push(runner.await.unwrap());
    }
    answers
}

/// What a contest is about, as far as only its preparation knows.
struct Prize {
    /// Of a row that may be changed once at this rev.
    rev: Value,
    /// Of the lease that settings are committed under.
    term: Value,
}

/// The things to be won; `round` keeps the rounds apart.
fn prepare(store: &TaskStore, round: usize) -> Prize {
    for (name, args) in [
        ("jobs.enqueue", json!({ "id": format!("j{round}"), "type": format!("type{round}"), "params": {} })),
        ("aliases.create", json!({ "name": format!("a{round}"), "target": "i", "target_verified": true })),
        (
            "cdc_cursors.advance",
            json!({ "sink_name": "s", "index_uid": format!("i{round}"), "expected_seq": null, "new_seq": 1 }),
        ),
    ] {
        send_blocking(store, name, args).unwrap();
    }
    let page = json!({ "index_uid": format!("r{round}"), "config_json": {} });
    let lease = json!({ "scope": format!("settings_broadcast:i{round}"), "holder": "pod", "ttl_ms": 600_000 });
    Prize {
        rev: send_blocking(store, "search_ui_config.set", page).unwrap()["rev"].take(),
        term: send_blocking(store, "leader_lease.acquire", lease).unwrap()["term"].take(),
    }
}

const CONTESTS: [&str; 10] = ["job", "lease", "key", "flip", "cursor", "name", "version", "rev", "settings", "alias"];

fn line(name: &str, args: Value) -> Value {
    json!({ "command": name, "args": args })
}

fn entry(contest: &str, round: usize, runner: usize, prize: &Prize) -> Value {
    match contest {
        "job" => line("jobs.claim_next", json!({ "pod": format!("pod-{runner}"), "types": [format!("type{round}")] })),
        "lease" => line(
            "leader_lease.acquire",
            json!({ "scope": format!("reshard:{round}"), "holder": format!("pod-{runner}"), "ttl_ms": 600_000 }),
        ),
        "key" => line(
            "idempotency_cache.check_or_record",
            json!({ "key": format!("k{round}"), "body_sha256": "ab".repeat(32), "miroir_task_id": format!("t{runner}") }),
        ),
        "flip" => line(
            "aliases.flip",
            json!({ "name": format!("a{round}"), "expected_version": 1, "target": format!("i{runner}"), "target_verified": true }),
        ),
        "cursor" => line(
            "cdc_cursors.advance",
            json!({ "sink_name": "s", "index_uid": format!("i{round}"), "expected_seq": 1, "new_seq": runner + 2 }),
        ),
        "name" => line(
            "canaries.define",
            json!({ "id": format!("c{round}-{runner}"), "name": format!("n{round}"), "index_uid": "i", "interval_s": 1, "query_json": {}, "assertions_json": [] }),
        ),
        "version" => line(
            "search_ui_config.set",
            json!({ "index_uid": format!("i{round}"), "config_json": { "by": runner }, "expected_rev": null }),
        ),
        "rev" => line(
            "search_ui_config.set",
            json!({ "index_uid": format!("r{round}"), "config_json": { "by": runner }, "expected_rev": prize.rev }),
        ),
        "settings" => json!({
            "command": "node_settings_version.commit",
            "args": { "index_uid": format!("i{round}"), "version": 1, "node_ids": [format!("n{runner}")], "fingerprint": "ab".repeat(32) },
            "lease": { "scope": format!("settings_broadcast:i{round}"), "term": prize.term },
        }),
        // Half of them read through what the others write through.
        "alias" => {
            let (shared, own) = (format!("x{round}"), format!("own{round}-{runner}"));
            let (write, read) = if runner.is_multiple_of(2) { (&own, &shared) } else { (&shared, &own) };
            line(
                "rollover_policies.define",
                json!({
                    "name": own, "write_alias": write, "read_alias": read, "pattern": "i-{YYYY}",
                    "triggers_json": { "max_docs": 1 }, "retention_json": { "keep_indexes": 1 },
                    "template_json": { "primary_key": "id" },
                }),
            )
        }
        other => panic!("{other}"),
    }
}

/// Whether the runner won; a loser must have been told what its table says.
fn won(contest: &str, answer: &Result<Value, String>) -> bool {
    match (contest, answer) {
        ("job", Ok(reply)) => !reply["job"].is_null(),
        ("lease", Ok(reply)) => {
            assert!(reply["granted"] == true || reply["holder"].is_string(), "{reply}");
            reply["granted"] == true
        }
        ("key", Ok(reply)) => {
            assert!(reply["outcome"] == "miss" || reply["outcome"] == "dedup", "{reply}");
            reply["outcome"] == "miss"
        }
        ("flip" | "cursor" | "version" | "rev" | "settings", Err(kind)) if kind == "conflict" => false,
        ("name" | "alias", Err(kind)) if kind == "already_exists" => false,
        ("flip" | "cursor" | "version" | "rev" | "settings" | "name" | "alias", Ok(reply)) => reply["changed"] == true,
        (contest, answer) => panic!("{contest}: {answer:?}"),
    }
}

fn judge(contest: &str, answers: &[Result<Value, String>]) {
    assert_eq!(answers.iter().filter(|answer| won(contest, answer)).count(), 1, "{contest}: {answers:?}");
    if contest == "key" {
        // ID4: everybody is answered the winner's task.
        let tasks: BTreeSet<_> =
            answers.iter().map(|answer| answer.as_ref().unwrap()["miroir_task_id"].to_string()).collect();
        assert_eq!(tasks.len(), 1, "{tasks:?}");
    }
}

fn exactly_one_of_many_tasks_wins_each_contest(place: Place) {
    let runtime = runtime();
    for round in 0..3 {
        let prize = prepare(place.store(), round);
        for contest in CONTESTS {
            let answers = runtime.block_on(race(&place, |runner| entry(contest, round, runner, &prize)));
            judge(contest, &answers);
        }
    }
    assert_verified(place.store());
}

fn exactly_one_of_two_threads_wins_each_round(place: Place) {
    for round in 0..10 {
        let prize = prepare(place.store(), round);
        for contest in CONTESTS {
            let start = Arc::new(Barrier::new(2));
            let runners = [0, 1].map(|runner| {
                let line = entry(contest, round, runner, &prize);
                let (store, start) = (place.of(runner).clone(), Arc::clone(&start));
                thread::spawn(move || {
                    start.wait();
                    send_line_blocking(&store, &line)
                })
            });
            judge(contest, &runners.map(|runner| runner.join().unwrap()));
        }
    }
    assert_verified(place.store());
}

fn a_caller_that_goes_away_disturbs_nobody(place: Place) {
    let store = place.store();
    runtime().block_on(async {
        for round in 0..50 {
            let register = |id: String| send(store, "tasks.register", json!({ "miroir_id": id, "node_tasks": {} }));
            let mut leaving: Vec<_> = (0..4).map(|at| Box::pin(register(format!("gone{round}-{at}")))).collect();
            // Each is queued by its first poll, and dropped without its answer.
            for future in &mut leaving {
                poll_fn(|context| {
                    let _whether_answered = future.as_mut().poll(context).is_ready();
                    Poll::Ready(())
                })
                .await;
            }
            let staying = register(format!("here{round}"));
            drop(leaving);
            assert_eq!(staying.await.unwrap()["changed"], true);
        }
    });
    // What was queued was run, whether or not somebody waited: this answer comes after theirs.
    let row = |id: String| ask(store, "tasks.get", json!({ "miroir_id": id }));
    for round in 0..50 {
        assert!(!row(format!("here{round}")).is_null());
        for at in 0..4 {
            assert!(!row(format!("gone{round}-{at}")).is_null(), "gone{round}-{at}");
        }
    }
    assert_verified(store);
}

fn more_callers_than_the_queue_holds_are_all_answered(place: Place) {
    let answers: BTreeSet<u64> = runtime().block_on(async {
        let callers = (0..CROWD).map(|caller| {
            let store = place.of(caller).clone();
            tokio::spawn(async move {
                let args = json!({ "sink_name": "s", "index_uid": format!("i{caller}"), "expected_seq": null, "new_seq": caller });
                send(&store, "cdc_cursors.advance", args).await.unwrap()["position"].as_u64().unwrap()
            })
        });
        let mut positions = BTreeSet::new();
        for caller in callers.collect::<Vec<_>>() {
            positions.insert(caller.await.unwrap());
        }
        positions
    });
    // One event each: every answer names a position of its own.
    assert_eq!(answers.len(), CROWD);
    assert_eq!(place.store().head().unwrap(), Position(CROWD as u64));
}

/// Where many may write, each has a committer of its own and the server brings them together.
fn handles_write_to_one_store(place: Place) {
    let Some(url) = &place.url else {
        // A store in memory is known by its handle alone; its clones share it.
        let other = place.store().clone();
        send_blocking(&other, "tasks.register", json!({ "miroir_id": "t", "node_tasks": {} })).unwrap();
        drop(other);
        assert_eq!(place.store().head().unwrap(), Position(1));
        return;
    };
    let handles: Vec<_> = (0..8)
        .map(|at| {
            let url = url.clone();
            thread::spawn(move || {
                let store = TaskStore::open(&url).unwrap();
                for task in 0..20 {
                    let args = json!({ "miroir_id": format!("t{at}-{task}"), "node_tasks": {} });
                    send_blocking(&store, "tasks.register", args).unwrap();
                }
                store
            })
        })
        .collect();
    let mut handles: Vec<_> = handles.into_iter().map(|handle| handle.join().unwrap()).collect();
    assert!(handles.iter().all(|handle| handle.read_only().is_none() && handle.head().unwrap() == Position(160)));
    // The last handle writes on when all others are gone.
    let last = handles.pop().unwrap();
    drop(handles);
    send_blocking(&last, "tasks.register", json!({ "miroir_id": "last", "node_tasks": {} })).unwrap();
    assert_eq!(place.store().head().unwrap(), Position(161));
    assert_verified(&last);
}

// ---- several openers and several processes, on SQLite

/// A handle opened while the last other one was being closed was refused: its own process still held the file's lock.
#[test]
fn a_handle_opened_while_another_is_being_closed_waits_for_it() {
    let folder = tempfile::tempdir().unwrap();
    let openers = [0, 1, 2].map(|opener| {
        let path = folder.path().to_owned();
        thread::spawn(move || {
            for task in 0..20 {
                let args = json!({ "miroir_id": format!("t{opener}-{task}"), "node_tasks": {} });
                send_blocking(&open(&path), "tasks.register", args).unwrap();
            }
        })
    });
    for opener in openers {
        opener.join().unwrap();
    }
    assert_eq!(open(folder.path()).head().unwrap(), Position(60));
}

#[test]
fn handles_opened_at_once_neither_deadlock_nor_migrate_twice() {
    for _ in 0..5 {
        let folder = tempfile::tempdir().unwrap();
        let line = Arc::new(Barrier::new(8));
        let openers: Vec<_> = (0..8)
            .map(|_| {
                let (path, line) = (folder.path().to_owned(), Arc::clone(&line));
                thread::spawn(move || {
                    line.wait();
                    let store = open(&path);
                    store.read(|log, _| Ok(log.info()?)).unwrap()
                })
            })
            .collect();
        let logs: Vec<_> = openers.into_iter().map(|opener| opener.join().unwrap()).collect();
        assert!(logs.windows(2).all(|pair| pair[0] == pair[1]), "{logs:?}");
        let store = open(folder.path());
        let versions: Vec<i64> = store
            .with_connection(|conn| {
                let mut select = conn.prepare("SELECT version FROM schema_versions ORDER BY version").unwrap();
                Ok(select.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect())
            })
            .unwrap();
        assert_eq!(versions, [1, 2, 3]);
    }
}

/// Starts `tasklog apply` on the store and gives it its lines.
fn apply(url: &str, lines: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_tasklog"))
        .args(["--json", "--store", url, "apply"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A process that was refused the store does not read its lines.
    let _ = child.stdin.take().unwrap().write_all(lines.as_bytes());
    child.wait_with_output().unwrap()
}

#[test]
fn a_second_writing_process_is_refused_and_told_who_writes() {
    let Place { mut stores, folder, .. } = sqlite();
    let (store, folder) = (stores.remove(0), folder.unwrap());
    let line = json!({ "command": "tasks.register", "args": { "miroir_id": "t", "node_tasks": {} } }).to_string();
    let refused = apply(&url(folder.path()), &line);
    assert_eq!(refused.status.code(), Some(3), "{refused:?}");
    let said = String::from_utf8(refused.stderr).unwrap();
    assert!(said.contains("unavailable") && said.contains(&format!("process {}", std::process::id())), "{said}");
    assert!(refused.stdout.is_empty());
    assert_eq!(store.head().unwrap(), Position::ZERO);
    // A reader is welcome meanwhile, in this process as in another one.
    let options = OpenOptions { access: Access::Read, ..OpenOptions::default() };
    let reader = TaskStore::open_with(&url(folder.path()).parse().unwrap(), options).unwrap();
    send_blocking(&store, "tasks.register", json!({ "miroir_id": "t", "node_tasks": {} })).unwrap();
    assert_eq!(reader.head().unwrap(), Position(1));
    assert_eq!(send_blocking(&reader, "tasks.prune", json!({})), Err("read_only".into()));
    // The right ends with its holder.
    drop((store, reader));
    let accepted = apply(&url(folder.path()), &line);
    assert_eq!(accepted.status.code(), Some(0), "{accepted:?}");
}

#[test]
fn exactly_one_of_many_processes_wins_each_contest() {
    let Place { stores, folder, .. } = sqlite();
    let prize = prepare(&stores[0], 0);
    drop(stores);
    let folder = folder.unwrap();
    contend(&url(folder.path()), &prize);
    assert_verified(&open(folder.path()));
}

#[test]
fn exactly_one_of_many_processes_that_write_at_once_wins_each_contest() {
    let place = redis();
    let prize = prepare(place.store(), 0);
    contend(place.url.as_ref().unwrap(), &prize);
    assert_verified(place.store());
}

/// Processes that each enter every contest many times. Where only one may write at a time, they take turns.
fn contend(url: &str, prize: &Prize) {
    const PROCESSES: usize = 8;
    let start = Barrier::new(PROCESSES);
    let run = |process: usize| {
        let runners = RUNNERS / PROCESSES * process..RUNNERS / PROCESSES * (process + 1);
        let entries: Vec<_> = CONTESTS
            .iter()
            .flat_map(|contest| runners.clone().map(|runner| (*contest, entry(contest, 0, runner, prize))))
            .collect();
        let lines: String = entries.iter().map(|(_, line)| format!("{line}\n")).collect();
        start.wait();
        let output = loop {
            let output = apply(url, &lines);
            if output.status.code() != Some(3) {
                break output;
            }
            // Only the refusal of the store may be tried again; then nothing was run.
            assert!(String::from_utf8_lossy(&output.stderr).contains("is open for writing by"), "{output:?}");
            assert!(output.stdout.is_empty());
            thread::yield_now();
        };
        let answers = String::from_utf8(output.stdout).unwrap();
        let answers = answers.lines().map(|line| {
            let answer: Value = serde_json::from_str(line).unwrap();
            match answer["ok"] == true {
                true => Ok(answer["reply"].clone()),
                false => Err(answer["error"]["kind"].as_str().unwrap().to_owned()),
            }
        });
        let answers: Vec<_> = entries.iter().map(|(contest, _)| *contest).zip(answers).collect();
        assert_eq!(answers.len(), entries.len());
        answers
    };
    let run = &run;
    let answers: Vec<_> = thread::scope(|scope| {
        let processes: Vec<_> = (0..PROCESSES).map(|process| scope.spawn(move || run(process))).collect();
        processes.into_iter().flat_map(|process| process.join().unwrap()).collect()
    });
    for contest in CONTESTS {
        let of_contest: Vec<_> =
            answers.iter().filter(|(name, _)| *name == contest).map(|(_, answer)| answer.clone()).collect();
        assert_eq!(of_contest.len(), RUNNERS);
        judge(contest, &of_contest);
    }
}

fn a_repeat_of_one_command_id_by_many_at_once_is_one_commit(place: Place) {
    let options = CommandOptions {
        command_id: Some(tasklog::log::CommitId(uuid::Uuid::from_u128(7))),
        ..CommandOptions::default()
    };
    let replies = runtime().block_on(async {
        let callers = (0..RUNNERS).map(|runner| {
            let (store, options) = (place.of(runner).clone(), options.clone());
            tokio::spawn(async move {
                let mut request = request("tasks.register", json!({ "node_tasks": {} }));
                request.options = options;
                store.send(request).await.unwrap()
            })
        });
        let mut replies = Vec::new();
        for caller in callers.collect::<Vec<_>>() {
            replies.push(caller.await.unwrap());
        }
        replies
    });
    let minted: BTreeSet<_> = replies.iter().map(|reply| reply.answers.to_json()).collect();
    assert_eq!(minted.len(), 1, "{minted:?}");
    assert_eq!(replies.iter().filter(|reply| !reply.meta.repeated).count(), 1);
    assert_eq!(place.store().head().unwrap(), Position(1));
}

/// Answers of a batch once went through a task in the caller's runtime, whatever its kind. A runtime that is entered but
/// not driven never ran it, and its callers waited for ever.
#[test]
fn callers_in_a_runtime_that_nobody_drives_get_their_answers() {
    let store = tasklog::TaskStore::open("memory:").unwrap();
    let idle = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let _entered = idle.enter();
    let register = |id: String| tasklog::tables::tasks::Register { miroir_id: Some(id), ..Default::default() };
    let mut calls: Vec<_> = (0..64).map(|task| Box::pin(store.run(register(format!("idle{task}"))))).collect();
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    for _ in 0..30_000 {
        calls.retain_mut(|call| call.as_mut().poll(&mut context).is_pending());
        if calls.is_empty() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    panic!("{} callers have no answer", calls.len());
}
