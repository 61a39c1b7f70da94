//! Tables are rebuilt beside commands, go on after an interruption, and pass over what an operator has quarantined.
#![allow(clippy::unwrap_used)]

mod support;

use std::{
    collections::BTreeSet,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use serde_json::json;
use support::{
    program::{Store, run, tasklog},
    registry::on,
};
use tasklog::{
    OpenOptions, TaskStore,
    command::CommandOptions,
    log::{CommitId, Log, ManualClock, Position, SystemClock, checksum, sqlite::SqliteLog},
    projections::{PROJECTED, tables::tasks::TaskStatus},
    store::Keep,
    tables::{aliases, leader_lease, sessions, tasks},
};
use tasklog_testing::RedisServer;

/// Events of a log that takes a rebuild several slices.
const EVENTS: usize = 6_000;

fn register(id: &str) -> String {
    json!({"command": "tasks.register", "args": {"miroir_id": id, "node_tasks": {"n": 1}}}).to_string()
}

fn report(id: &str, status: &str) -> String {
    let reports = json!([{"node_id": "n", "status": status}]);
    json!({"command": "tasks.report_node_statuses", "args": {"miroir_id": id, "reports": reports}}).to_string()
}

fn filled() -> Store {
    let ids: Vec<_> = (0..EVENTS / 3).map(|id| format!("t{id}")).collect();
    let lines: Vec<_> = ids.iter().map(|id| register(id)).chain(ids.iter().map(|id| report(id, "succeeded"))).collect();
    Store::with(&lines)
}

fn open(store: &Store) -> TaskStore {
    TaskStore::open(&store.url()).unwrap()
}

#[test]
fn commands_and_queries_go_on_while_tables_are_rebuilt() {
    let file = filled();
    file.by_hand("UPDATE tasks SET status = 'failed' WHERE miroir_id = 't7'; DELETE FROM tasks WHERE miroir_id = 't8'");
    let store = open(&file);
    let over = AtomicBool::new(false);
    let written = thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut written = 0;
            while !over.load(Ordering::Acquire) {
                let command = tasks::Register { miroir_id: Some(format!("new{written}")), ..Default::default() };
                assert!(store.run_blocking(command, CommandOptions::default()).unwrap().changed);
                let get = tasks::Get { miroir_id: "t1".into() };
                assert_eq!(store.ask(&get).unwrap().unwrap().status.to_string(), "succeeded");
                written += 1;
            }
            written
        });
        let mut positions = Vec::new();
        let rebuilt = store.rebuild(&PROJECTED, |position| positions.push(position)).unwrap();
        over.store(true, Ordering::Release);
        assert!(positions.len() > 3 && positions.is_sorted(), "{positions:?}");
        assert!(rebuilt.position >= Position(EVENTS as u64));
        writer.join().unwrap()
    });
    assert!(written > 0, "no command was answered during the rebuild");
    let report = store.verify(|_| {}).unwrap();
    assert_eq!(report.findings, []);
    // Decisions see the new rows: the one that was gone can be reported about again.
    let reports = vec![tasks::NodeReport { node_id: "n".into(), status: TaskStatus::Failed, error: None }];
    let again = tasks::ReportNodeStatuses { miroir_id: "t8".into(), reports };
    assert!(!store.run_blocking(again, CommandOptions::default()).unwrap().changed, "its node was final before");
    drop(store);
    let left = file.shell();
    let left = left.query_row(
        "SELECT count(*) FROM sqlite_schema WHERE name GLOB '_old_*' OR name GLOB '_shadow_*'",
        [],
        |row| row.get::<_, i64>(0),
    );
    assert_eq!(left.unwrap(), 0, "leftovers");
}

/// Rows were compared and what leads to them was not: an alias without its targets was found by nobody who asked for its index,
/// a deleted alias that was forgotten began again at version 1, and `verify` said that everything holds.
#[test]
fn what_leads_to_rows_is_verified_and_a_rebuild_mends_it() {
    let create = |name: &str| {
        let args = json!({ "name": name, "target": "products", "target_verified": true });
        json!({ "command": "aliases.create", "args": args }).to_string()
    };
    let delete = json!({ "command": "aliases.delete", "args": { "name": "gone" } }).to_string();
    let file = Store::with(&[create("shop"), create("gone"), delete, register("t1"), register("t2")]);
    file.by_hand(
        "DELETE FROM _tombstones;
         INSERT INTO _tombstones VALUES ('tasks', 'never', 4, 1), ('aliases', 'shop', 1, NULL);
         DELETE FROM _aliases_by_target;
         INSERT INTO _aliases_by_target VALUES ('other', 'shop'), ('other', 'nobody');",
    );
    let index: String = file
        .shell()
        .query_row("SELECT sql FROM sqlite_schema WHERE name = 'tasks_by_created'", [], |row| row.get(0))
        .unwrap();
    // An index that has lost its entries.
    file.by_hand(&format!("DROP INDEX tasks_by_created; {index} WHERE 0;"));
    file.by_hand(
        "PRAGMA writable_schema = ON;
         UPDATE sqlite_schema SET sql = replace(sql, ' WHERE 0', '') WHERE name = 'tasks_by_created';",
    );
    let store = open(&file);
    let found: BTreeSet<_> = store.verify(|_| {}).unwrap().findings.iter().map(|finding| finding.to_string()).collect();
    let stray = "but the log says it does not belong there";
    for expected in [
        "aliases/gone: its tombstone is missing; event 3 deleted the row".to_owned(),
        "aliases/shop: a tombstone with rev 1, but the log says there is to be none".to_owned(),
        "tasks/never: a tombstone with rev 4, but the log says there is to be none".to_owned(),
        "aliases/shop: missing from _aliases_by_target under \"products\"".to_owned(),
        format!("aliases/shop: in _aliases_by_target under \"other\", {stray}"),
        format!("aliases/nobody: in _aliases_by_target under \"other\", {stray}"),
    ] {
        assert!(found.contains(&expected), "{expected}: {found:#?}");
    }
    assert!(
        found.iter().any(|found| found.starts_with("table tasks: ") && found.contains("tasks_by_created")),
        "{found:#?}"
    );
    store.rebuild(&PROJECTED, |_| {}).unwrap();
    assert_eq!(store.verify(|_| {}).unwrap().findings, []);
    let target = aliases::ByTarget { uid: "products".into() };
    assert_eq!(store.ask(&target).unwrap().len(), 1);
    let again = aliases::Create { name: "gone".into(), target: "products".into(), target_verified: Some(true) };
    assert_eq!(store.run_blocking(again, CommandOptions::default()).unwrap().answer.version, 2);
}

/// Two commits under one id stood next to each other, which `verify` takes for one that was appended twice.
#[test]
fn an_id_whose_answer_is_forgotten_does_not_name_the_commit_after_its_own() {
    const HOUR_MS: i64 = 3_600_000;
    let file = Store::new();
    let clock = ManualClock::at(1_000_000_000);
    let options = OpenOptions { clock: Arc::new(clock.clone()), ..OpenOptions::default() };
    let store = TaskStore::open_with(&file.url().parse().unwrap(), options).unwrap();
    let acquire = || leader_lease::Acquire { scope: "ilm".into(), holder: "a".into(), ttl_ms: None };
    let named = CommandOptions { command_id: Some(CommitId::mint()), ..CommandOptions::default() };
    let first = store.run_blocking(acquire(), named.clone()).unwrap();
    clock.advance(23 * HOUR_MS);
    let repeat = store.run_blocking(acquire(), named.clone()).unwrap();
    assert!(repeat.repeated && repeat.answer.term == first.answer.term);
    clock.advance(2 * HOUR_MS);
    let refused = store.run_blocking(acquire(), named.clone()).unwrap_err();
    assert_eq!(refused.kind(), "invalid");
    assert!(refused.to_string().contains("the id of the newest commit, at event 1"), "{refused}");
    store.run_blocking(acquire(), CommandOptions::default()).unwrap();
    // By now it names another commit, as any other id would.
    assert!(!store.run_blocking(acquire(), named).unwrap().repeated);
    assert_eq!(store.verify(|_| {}).unwrap().findings, []);
}

#[test]
fn a_rebuild_that_was_interrupted_goes_on_and_is_not_taken_for_whole_before() {
    let file = filled();
    file.by_hand("UPDATE tasks SET status = 'failed' WHERE miroir_id = 't7'");
    let store = open(&file);
    let stop = Position(2_000);
    let interrupted = catch_unwind(AssertUnwindSafe(|| {
        store.rebuild(&PROJECTED, |position| assert!(position < stop, "interrupted on purpose")).unwrap();
    }));
    assert!(interrupted.is_err());
    assert_eq!(store.verify(|_| {}).unwrap().found, 1, "the old rows are still served");
    drop(store);
    let store = open(&file);
    let rebuilt = store.rebuild(&PROJECTED, |_| {}).unwrap();
    assert!(rebuilt.resumed > Position::ZERO && rebuilt.resumed < Position(EVENTS as u64), "{rebuilt:?}");
    assert_eq!(store.verify(|_| {}).unwrap().found, 0);
}

#[test]
fn another_rebuild_does_not_go_on_with_what_an_interrupted_one_has_left() {
    let file = filled();
    let store = open(&file);
    let interrupted = catch_unwind(AssertUnwindSafe(|| {
        store.rebuild(&PROJECTED, |_| panic!("interrupted on purpose")).unwrap();
    }));
    assert!(interrupted.is_err());
    let tasks = [tasklog::projections::table("tasks").unwrap()];
    assert_eq!(store.rebuild(&tasks, |_| {}).unwrap().resumed, Position::ZERO);
    assert_eq!(store.verify(|_| {}).unwrap().found, 0);
}

#[test]
fn only_the_tables_whose_projection_rose_are_rebuilt_and_the_log_says_so() {
    let file = Store::with(&[register("a"), report("a", "succeeded")]);
    file.by_hand("UPDATE _projections SET version = 0 WHERE table_name = 'tasks'");
    let before = generations(&file);
    file.run(["get", "tasks", "a"]).with(0);
    file.run(["get", "tasks", "a"]).with(0);
    let changed: Vec<_> =
        before.iter().zip(generations(&file)).filter(|(a, b)| **a != *b).map(|(a, _)| a.0.clone()).collect();
    assert_eq!(changed, ["tasks"]);
    let noted = file.json(["log", "--table", "_log"]);
    assert_eq!(noted.len(), 1, "{noted:?}");
    assert_eq!((&noted[0]["type"], &noted[0]["key"]), (&json!("table_rebuilt"), &json!("rebuild/tasks")));
    file.run(["verify"]).with(0);
}

fn generations(store: &Store) -> Vec<(String, i64)> {
    let file = store.shell();
    let mut select = file.prepare("SELECT table_name, generation FROM _projections ORDER BY 1").unwrap();
    let rows = select.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    rows.map(Result::unwrap).collect()
}

/// Makes of event 3, the first of a report, something that cannot be folded; its checksum is right.
fn with_poison() -> Store {
    let store = Store::with(&[register("a"), register("b"), report("a", "processing"), report("b", "succeeded")]);
    let conn = store.shell();
    let log = SqliteLog::new(&conn, Arc::new(SystemClock));
    let (commit, index) = log.event(Position(3)).unwrap().unwrap();
    let mut event = commit.events[index].clone();
    event.event_type = "task_pruned".into();
    event.checksum = checksum(&commit.meta, commit.recorded_at, &event);
    conn.execute(
        "UPDATE events SET type = ?1, checksum = ?2 WHERE position = 3",
        rusqlite::params![&*event.event_type, event.checksum],
    )
    .unwrap();
    store
}

#[test]
fn a_poison_event_stops_a_rebuild_with_its_position_until_it_is_quarantined() {
    let store = with_poison();
    store.run(["verify"]).with(1).prints(&["event 3"]);
    store.run(["rebuild"]).with(3).says(&["event 3"]);
    store.run(["quarantine", "3"]).with(2).says(&["--reason"]);
    store.run(["quarantine", "99", "--reason", "x"]).with(1).says(&["no event 99"]);
    store.run(["quarantine", "3", "--reason", "a program of last year"]).with(0).prints(&["event 3 is passed over"]);
    store.run(["verify"]).with(0).prints(&["event 3 is quarantined", "everything holds"]);
    store.run(["rebuild"]).with(0);
    store.run(["verify"]).with(0);
    let row = &store.json(["get", "tasks", "a"])[0];
    assert_eq!((&row["status"], &row["rev"]), (&json!("processing"), &json!(4)), "{row}");
    let listed = store.json(["quarantine"]);
    assert_eq!((&listed[0]["event"], &listed[0]["why"]), (&json!(3), &json!("a program of last year")));
    let steps = store.json(["history", "tasks", "a"]);
    assert_eq!(steps.iter().map(|step| step["quarantined"] == json!(true)).collect::<Vec<_>>(), [false, true, false]);
    store.run(["quarantine", "3", "--lift", "--reason", "it was right"]).with(1).says(&["event 3 could not be folded"]);
}

#[test]
fn a_quarantine_brings_the_row_in_line_and_can_be_taken_back() {
    let store = Store::with(&[register("a"), report("a", "processing")]);
    let whole = store.json(["get", "tasks", "a"]);
    store.run(["quarantine", "2", "--reason", "wrong node"]).with(0);
    assert_eq!(store.json(["get", "tasks", "a"])[0]["node_states"], json!({"n": "enqueued"}));
    store.run(["verify"]).with(0);
    store.run(["quarantine", "1", "--reason", "needed"]).with(1).says(&["could not be folded"]);
    store.run(["quarantine", "2", "--lift", "--reason", "right node"]).with(0);
    assert_eq!(store.json(["get", "tasks", "a"]), whole);
    store.run(["verify"]).with(0);
    store.run(["quarantine", "2", "--lift", "--reason", "again"]).with(1).says(&["is not quarantined"]);
    let fact = store.json(["log", "--table", "_log"]).last().unwrap()["position"].to_string();
    store.run(["quarantine", &fact, "--reason", "no"]).with(1).says(&["a fact about the log"]);
}

/// A quarantine of an alias's creation takes the alias away and leaves a tombstone that names no deletion. Creating it again
/// was answered with `corrupt: the tombstone names AliasCreated`, for ever; so were settings of an index.
#[test]
fn what_a_quarantine_has_taken_away_is_created_again_with_the_next_version() {
    let create =
        json!({"command": "aliases.create", "args": {"name": "shop", "target": "i1", "target_verified": true}});
    let acquire = json!({"command": "leader_lease.acquire",
        "args": {"scope": "settings_broadcast:i1", "holder": "pod", "ttl_ms": 600_000}});
    let store = Store::with(&[create.to_string(), acquire.to_string()]);
    let commit = |version: i64| {
        let args = json!({"index_uid": "i1", "version": version, "node_ids": ["n1"], "fingerprint": "0a".repeat(32)});
        let lease = json!({"scope": "settings_broadcast:i1", "term": 2});
        json!({"command": "node_settings_version.commit", "lease": lease, "args": args}).to_string()
    };
    store.apply(&[commit(1)]).with(0);
    for position in ["1", "3"] {
        store.run(["quarantine", position, "--reason", "never meant"]).with(0);
    }
    let again = store.apply(&[create.to_string(), commit(2)]).with(0).json();
    assert!(again.iter().all(|answer| answer["ok"] == true), "{again:?}");
    assert_eq!(store.json(["get", "aliases", "shop"])[0]["version"], 2);
    assert_eq!(store.json(["get", "node_settings_version", "i1/_cluster"])[0]["version"], 2);
    store.run(["verify"]).with(0).prints(&["everything holds"]);
}

/// The row that an event was about had died by time and was removed, without a tombstone: nothing led to its events any more,
/// its creation was quarantined although its other events need it, and no rebuild or verification came past them again.
#[test]
fn an_event_that_a_later_one_needs_is_not_quarantined_when_its_row_is_long_gone() {
    let clock = ManualClock::at(1_700_000_000_000);
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}", folder.path().join("s.db").display()).parse().unwrap();
    let store =
        TaskStore::open_with(&url, OpenOptions { clock: Arc::new(clock.clone()), ..OpenOptions::default() }).unwrap();
    let raise = |session: &str, version: i64| {
        let command = sessions::RaiseFloor { session_id: session.into(), version };
        assert!(store.run_blocking(command, CommandOptions::default()).unwrap().changed);
    };
    raise("s1", 1);
    raise("s1", 2);
    clock.advance(604_800_000);
    // Housekeeping goes by the head's instant.
    raise("s2", 1);
    clock.advance(60_000);
    raise("s3", 1);
    let refused = store.quarantine(Position(1), "never meant", CommandOptions::default()).unwrap_err();
    assert!(refused.to_string().contains("could not be folded"), "{refused}");
    store.quarantine(Position(2), "never meant", CommandOptions::default()).unwrap();
    store.rebuild(&PROJECTED, |_| {}).unwrap();
    assert_eq!(store.verify(|_| {}).unwrap().found, 0);
}

/// The decision was noted, and then the row was not brought in line: `corrupt: event 1: missing from the log`, because what
/// the row began with was in the archive alone.
#[test]
fn an_event_that_is_in_the_archive_alone_is_quarantined_and_taken_back_like_any_other() {
    let file = Store::with(&[register("a"), register("b"), report("a", "succeeded")]);
    let to = file.folder.path().join("archive").display().to_string();
    file.run(["archive", "--to", &to, "--all"]).with(0);
    let store = open(&file);
    store.snapshot(|_| ()).unwrap();
    assert!(store.trim(&Keep::default()).unwrap().first > Position(2));
    for position in [4, 3, 1].map(Position) {
        store.quarantine(position, "never meant", CommandOptions::default()).unwrap();
        assert_eq!(store.verify(|_| {}).unwrap().found, 0);
    }
    for position in [1, 3, 4].map(Position) {
        store.lift_quarantine(position, None, CommandOptions::default()).unwrap();
        assert_eq!(store.verify(|_| {}).unwrap().found, 0);
    }
    drop(store);
    assert_eq!(file.json(["get", "tasks", "a"])[0]["status"], "succeeded");
}

#[test]
fn a_follower_passes_over_what_its_source_has_quarantined_before_and_after_it_came() {
    let source = with_poison();
    let folder = tempfile::tempdir().unwrap();
    let into = format!("sqlite:{}", folder.path().join("replica.db").display());
    let once = || {
        let mut command = tasklog();
        command.args(["follow", &source.url(), "--into", &into, "--once"]);
        run(command, b"")
    };
    once().with(3).says(&["event 3"]);
    source.run(["quarantine", "3", "--reason", "poison"]).with(0);
    once().with(0);
    source.run(["quarantine", "6", "--reason", "wrong"]).with(0);
    once().with(0);
    let rows = |url: &str| {
        let store = TaskStore::open_with(
            &url.parse().unwrap(),
            tasklog::OpenOptions { access: tasklog::Access::Read, ..Default::default() },
        );
        let store = store.unwrap();
        assert_eq!(store.verify(|_| {}).unwrap().findings, []);
        let all = ["a", "b"].map(|id| store.ask(&tasks::Get { miroir_id: id.into() }).unwrap().unwrap());
        format!("{all:?}")
    };
    assert_eq!(rows(&into), rows(&source.url()));
}

#[test]
fn a_quarantine_holds_on_a_store_in_redis_too() {
    let server = RedisServer::start();
    let url = server.url();
    let lines = [register("a"), report("a", "processing"), register("b")].join("\n");
    let mut apply = tasklog();
    apply.args(["--store", &url, "apply"]);
    run(apply, lines.as_bytes()).with(0);
    let row = |url: &str| on(url, &["get", "tasks", "a", "--json"]).with(0).json().remove(0);
    let before = row(&url);
    on(&url, &["quarantine", "2", "--reason", "wrong node"]).with(0);
    assert_eq!(row(&url)["node_states"], json!({"n": "enqueued"}));
    on(&url, &["verify"]).with(0).prints(&["event 2 is quarantined", "everything holds"]);
    // A copy takes the decision over.
    let copy = format!("{url}?prefix=copy");
    let mut command = tasklog();
    command.args(["copy", "--from", &url, "--to", &copy]);
    run(command, b"").with(0);
    assert_eq!(row(&copy), row(&url));
    on(&copy, &["verify"]).with(0);
    on(&url, &["quarantine", "2", "--lift", "--reason", "right node"]).with(0);
    assert_eq!(row(&url), before);
    on(&url, &["verify"]).with(0);
}

/// The row came back under a name that another one had taken meanwhile: the decision was in the log, and no replay could
/// follow it.
#[test]
fn an_event_that_gave_up_a_unique_value_is_not_quarantined_once_another_row_has_it() {
    let define = |id: &str, name: &str| {
        let args = json!({"id": id, "name": name, "index_uid": "i", "interval_s": 60, "query_json": {}, "assertions_json": []});
        json!({"command": "canaries.define", "args": args}).to_string()
    };
    let delete = json!({"command": "canaries.delete", "args": {"id": "a"}}).to_string();
    let store = Store::with(&[define("a", "same"), delete, define("b", "same")]);
    store
        .run(["quarantine", "2", "--reason", "a mistake"])
        .with(1)
        .says(&["canaries/a would have the name that b has"]);
    store.run(["verify"]).with(0);
    assert_eq!(store.json(["quarantine"]).len(), 0);
}

/// Changes one byte of a payload, as a disk does.
fn damage(store: &Store, position: i64, byte: u8) {
    let conn = store.shell();
    let mut payload: Vec<u8> =
        conn.query_row("SELECT payload FROM events WHERE position = ?1", [position], |row| row.get(0)).unwrap();
    *payload.last_mut().unwrap() ^= byte;
    conn.execute("UPDATE events SET payload = ?1 WHERE position = ?2", rusqlite::params![payload, position]).unwrap();
}

/// Quarantine was for events that cannot be folded: one whose checksum was wrong went on stopping snapshots, rebuilds,
/// archives, and whoever folded a table of the past.
#[test]
fn a_damaged_event_stops_whoever_folds_until_it_is_quarantined() {
    let store = Store::with(&[register("a"), report("a", "processing"), register("b"), report("b", "succeeded")]);
    damage(&store, 2, 1);
    let to = store.folder.path().join("archive").display().to_string();
    let folding: [&[&str]; 5] = [
        &["snapshot"],
        &["list", "tasks", "--at", "3"],
        &["sql", "SELECT count(*) FROM tasks", "--at", "3"],
        &["rebuild"],
        &["archive", "--to", &to, "--all"],
    ];
    store.run(["verify"]).with(1).prints(&["event 2", "checksum"]);
    for verb in folding {
        store.run(verb.iter().copied()).with(3).says(&["event 2"]);
    }
    store.run(["quarantine", "2", "--reason", "a bad page"]).with(0);
    store.run(["verify"]).with(0).prints(&["event 2 is quarantined", "its checksum is wrong", "everything holds"]);
    assert_eq!(store.json(["verify"])[0]["damaged"], json!([2]));
    for verb in folding {
        store.run(verb.iter().copied()).with(0);
    }
    assert_eq!(store.json(["get", "tasks", "a"])[0]["node_states"], json!({"n": "enqueued"}));
    assert_eq!(store.json(["list", "tasks", "--at", "3"])[0]["node_states"], json!({"n": "enqueued"}));
    // It stays in the archive as it stood, and is told there, too.
    store.run(["archive", "--verify"]).with(0).prints(&["event 2 was sealed as it stood", "everything holds"]);
    store.run(["trim"]).with(0);
    store.run(["verify"]).with(0).prints(&["event 2 is quarantined", "its checksum is wrong", "everything holds"]);
    store.run(["rebuild"]).with(0);
    store.run(["rebuild", "--from-snapshot"]).with(0);
    store.run(["history", "tasks", "a"]).with(0);
}

#[test]
fn the_quarantine_of_a_damaged_event_is_lifted_only_once_its_bytes_are_right() {
    let store = Store::with(&[register("a"), report("a", "processing")]);
    let whole = store.json(["get", "tasks", "a"]);
    damage(&store, 2, 1);
    store.run(["quarantine", "2", "--reason", "a bad page"]).with(0);
    store.run(["snapshot"]).with(0);
    store
        .run(["quarantine", "2", "--lift", "--reason", "hope"])
        .with(1)
        .says(&["event 2 could not be folded", "checksum"]);
    damage(&store, 2, 1);
    store.run(["quarantine", "2", "--lift", "--reason", "restored"]).with(0);
    assert_eq!(store.json(["get", "tasks", "a"]), whole);
    store.run(["verify"]).with(0);
    // It is folded again, and so a wrong checksum stops again.
    damage(&store, 2, 1);
    store.run(["snapshot"]).with(3).says(&["event 2"]);
    store.run(["rebuild"]).with(3).says(&["event 2"]);
}

#[test]
fn damaged_events_of_one_row_are_quarantined_together() {
    let store = Store::with(&[register("a"), report("a", "processing"), register("b"), report("a", "succeeded")]);
    let events = store.json(["history", "tasks", "a"]);
    let positions: Vec<String> = events[1..].iter().map(|event| event["position"].to_string()).collect();
    assert!(positions.len() >= 2, "{positions:?}");
    for position in &positions {
        damage(&store, position.parse().unwrap(), 1);
    }
    store.run(["quarantine", &positions[0], "--reason", "a bad page"]).with(1).says(&["could not be folded"]);
    assert_eq!(store.json(["quarantine"]).len(), 0);
    let mut all = vec!["quarantine", "--reason", "a bad page"];
    all.extend(positions.iter().map(String::as_str));
    store.run(all).with(0).prints(&["is passed over by replays"]);
    assert_eq!(store.json(["quarantine"]).len(), positions.len());
    assert_eq!(store.json(["get", "tasks", "a"])[0]["status"], "enqueued");
    store.run(["verify"]).with(0);
    store.run(["rebuild"]).with(0);
}

/// The deletion or creation that a tombstone named could not be read any more, and so the name could not be taken again: the
/// next version is one more than the last one that can be read.
#[test]
fn a_name_whose_last_event_cannot_be_read_is_free_again_once_that_is_quarantined() {
    let create = |target: &str| {
        let args = json!({"name": "shop", "target": target, "target_verified": true});
        json!({"command": "aliases.create", "args": args}).to_string()
    };
    let delete = json!({"command": "aliases.delete", "args": {"name": "shop"}}).to_string();
    let store = Store::with(&[create("i1"), delete.clone(), create("i2"), delete]);
    assert_eq!(store.json(["history", "aliases", "shop"]).len(), 4);
    let conn = store.shell();
    // The row must be gone without it too, so both ends of its second life are passed over.
    for position in [3, 4] {
        conn.execute("UPDATE events SET payload = x'c1' WHERE position = ?1", [position]).unwrap();
    }
    drop(conn);
    store.apply(&[create("i3")]).with(3);
    store.run(["quarantine", "3", "4", "--reason", "a bad page"]).with(0);
    let answer = store.apply(&[create("i3")]).with(0).json().remove(0);
    assert_eq!(answer["ok"], json!(true), "{answer}");
    assert_eq!(store.json(["get", "aliases", "shop"])[0]["version"], 2);
    store.run(["verify"]).with(0);
    store.run(["rebuild"]).with(0);
}
