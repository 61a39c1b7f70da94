//! No query and no decision looks at every row: each scan they make walks an index in its order, by SQLite's own plan.
#![allow(clippy::unwrap_used, missing_docs)]

use std::{
    collections::BTreeSet,
    path::Path,
    sync::{Arc, Mutex},
};

use serde_json::{Value, json};
use tasklog::{
    Config, TaskStore,
    backend::{Backend, MemoryBackend},
    engine::Engine,
    log::{
        Checkpoint, CommitId, Event, ManualClock, Millis, NewCommit, Outcome, Position, Revs, StoreError, Stored,
        sqlite::connection::{self, Access},
    },
    projections::{AnyRow, Held, RowChange, Scan, TableDef, View, sqlite::scan_sql},
    query::Reader,
    rows::Below,
    tables::SIDES,
    wire,
};

/// A scan or a count that was made: the table, the index and the statement.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Seen {
    by: &'static str,
    table: &'static str,
    index: String,
    sql: String,
}

#[derive(Clone, Default)]
struct Notes {
    seen: Arc<Mutex<BTreeSet<Seen>>>,
    by: Arc<Mutex<&'static str>>,
}

impl Notes {
    fn note(&self, table: &'static TableDef, scan: &Scan<'_>, count: bool) {
        let mut sql = scan_sql(table, scan).unwrap();
        if count {
            // A count walks the same range, in no order and without a limit.
            let from = sql.find(" FROM ").unwrap();
            let end = sql.find(" ORDER BY ").or_else(|| sql.find(" LIMIT ")).unwrap();
            sql = format!("SELECT count(*){}", &sql[from..end]);
        }
        let by = *self.by.lock().unwrap();
        self.seen.lock().unwrap().insert(Seen { by, table: table.name, index: scan.index.to_owned(), sql });
    }
}

/// A view that notes what is asked of it.
struct Recording<V>(V, Notes);

impl<V: View> View for Recording<V> {
    fn get(&self, table: &'static TableDef, key: &str) -> Result<Option<Held>, StoreError> {
        self.0.get(table, key)
    }
    fn tombstone(&self, table: &'static TableDef, key: &str) -> Result<Option<Position>, StoreError> {
        self.0.tombstone(table, key)
    }
    fn any_tombstone(&self, table: &'static TableDef) -> Result<bool, StoreError> {
        self.0.any_tombstone(table)
    }
    fn scan(&self, table: &'static TableDef, scan: &Scan<'_>) -> Result<Vec<Held>, StoreError> {
        self.1.note(table, scan, false);
        self.0.scan(table, scan)
    }
    fn count(&self, table: &'static TableDef, scan: &Scan<'_>) -> Result<u64, StoreError> {
        self.1.note(table, scan, true);
        self.0.count(table, scan)
    }
    fn checkpoint(&self) -> Result<Checkpoint, StoreError> {
        self.0.checkpoint()
    }
    fn write(&mut self, changes: &[RowChange]) -> Result<(), StoreError> {
        self.0.write(changes)
    }
    fn apply(&mut self, changes: &[RowChange], from: &Checkpoint, to: &Checkpoint) -> Result<(), StoreError> {
        self.0.apply(changes, from, to)
    }
    fn sweep(
        &mut self,
        table: &'static TableDef,
        now: Millis,
        tombstones_before: Millis,
        limit: usize,
    ) -> Result<Vec<AnyRow>, StoreError> {
        self.0.sweep(table, now, tombstones_before, limit)
    }
}

/// A backend whose view notes what decisions ask of it.
struct Watched(MemoryBackend, Notes);

impl Below for Watched {
    fn view(&mut self) -> Box<dyn View + '_> {
        Box::new(Recording(Boxed(self.0.view()), self.1.clone()))
    }
    fn event(&mut self, position: Position, checked: bool) -> Result<Event, StoreError> {
        self.0.event(position, checked)
    }
}

impl Backend for Watched {
    fn begin(&mut self) -> Result<bool, StoreError> {
        // Somebody else may have written: nothing is known of the rows, so that every decision looks.
        self.0.begin().map(|_| true)
    }
    fn now(&mut self) -> Result<Millis, StoreError> {
        self.0.now()
    }
    fn head(&mut self) -> Result<Checkpoint, StoreError> {
        self.0.head()
    }
    fn find(&mut self, id: CommitId) -> Result<Option<Stored>, StoreError> {
        self.0.find(id)
    }
    fn append(&mut self, now: Millis, batch: &[NewCommit], revs: &mut dyn Revs) -> Result<Vec<Outcome>, StoreError> {
        self.0.append(now, batch, revs)
    }
    fn forget_answers(&mut self, cutoff: Millis) -> Result<bool, StoreError> {
        self.0.forget_answers(cutoff)
    }
    fn commit(&mut self) -> Result<(), StoreError> {
        self.0.commit()
    }
    fn rollback(&mut self) {
        self.0.rollback();
    }
    fn reopen(&mut self) -> Result<(), StoreError> {
        self.0.reopen()
    }
}

struct Boxed<'v>(Box<dyn View + 'v>);

impl View for Boxed<'_> {
    fn get(&self, table: &'static TableDef, key: &str) -> Result<Option<Held>, StoreError> {
        self.0.get(table, key)
    }
    fn tombstone(&self, table: &'static TableDef, key: &str) -> Result<Option<Position>, StoreError> {
        self.0.tombstone(table, key)
    }
    fn any_tombstone(&self, table: &'static TableDef) -> Result<bool, StoreError> {
        self.0.any_tombstone(table)
    }
    fn scan(&self, table: &'static TableDef, scan: &Scan<'_>) -> Result<Vec<Held>, StoreError> {
        self.0.scan(table, scan)
    }
    fn count(&self, table: &'static TableDef, scan: &Scan<'_>) -> Result<u64, StoreError> {
        self.0.count(table, scan)
    }
    fn checkpoint(&self) -> Result<Checkpoint, StoreError> {
        self.0.checkpoint()
    }
    fn write(&mut self, changes: &[RowChange]) -> Result<(), StoreError> {
        self.0.write(changes)
    }
    fn apply(&mut self, changes: &[RowChange], from: &Checkpoint, to: &Checkpoint) -> Result<(), StoreError> {
        self.0.apply(changes, from, to)
    }
    fn sweep(
        &mut self,
        table: &'static TableDef,
        now: Millis,
        tombstones_before: Millis,
        limit: usize,
    ) -> Result<Vec<AnyRow>, StoreError> {
        self.0.sweep(table, now, tombstones_before, limit)
    }
}

/// Who may walk a whole index or table, and why that is right.
const WHOLE: [(&str, &str, &str); 9] = [
    // Lists that are asked for as a whole, in the order of an index.
    ("tasks.list", "tasks", "by_created"),
    ("tasks.count", "tasks", "pk"),
    ("aliases.list", "aliases", "pk"),
    ("canaries.list", "canaries", "by_name"),
    ("rollover_policies.enabled", "rollover_policies", "pk"),
    ("search_ui_config.list", "search_ui_config", "pk"),
    // From canary to canary: one row of each, by its key.
    ("canary_runs.prune", "canary_runs", "pk"),
    // The size of a bounded table, counted once for a process and kept.
    ("sessions", "sessions", "pk"),
    ("idempotency_cache", "idempotency_cache", "pk"),
];

fn may_walk_all(seen: &Seen) -> bool {
    WHOLE.iter().any(|(by, table, index)| {
        let same = seen.by == *by || seen.by.split('.').next() == Some(by);
        same && seen.table == *table && seen.index == *index
    })
}

/// Explains what was seen on an SQLite store, and finds fault with it.
fn faults(notes: &Notes) -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tasklog.db");
    drop(TaskStore::open(&format!("sqlite:{}", path.display())).unwrap());
    let conn = connection::open(&path, Access::Read).unwrap();
    let mut faults = Vec::new();
    for seen in notes.seen.lock().unwrap().iter() {
        let steps = plan(&conn, &seen.sql);
        let searched = steps.iter().all(|step| step.starts_with("SEARCH "));
        let in_order = steps.iter().all(|step| !step.contains("TEMP B-TREE") && !step.contains("AUTOMATIC"));
        let by_index = seen.index == "pk"
            || seen.sql.contains(&format!("_{}_{}", seen.table, seen.index))
            || steps.iter().any(|step| step.contains(&format!("INDEX {}_{}", seen.table, seen.index)));
        // A table without rowids is its primary key: a scan of it is in that order.
        if !(in_order && (searched && by_index || may_walk_all(seen))) {
            faults.push(format!("{}: {}\n    {}", seen.by, seen.sql, steps.join("\n    ")));
        }
    }
    faults
}

fn plan(conn: &rusqlite::Connection, sql: &str) -> Vec<String> {
    let mut explain = conn.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
    explain.raw_query().mapped(|row| row.get(3)).collect::<Result<_, _>>().unwrap()
}

fn raw(args: &Value) -> Box<serde_json::value::RawValue> {
    serde_json::value::to_raw_value(args).unwrap()
}

/// Every member that some query of the catalogue takes.
fn arguments() -> Value {
    json!({ "miroir_id": "t", "session_id": "s", "key": "k", "name": "a", "uid": "i", "scope": "ilm", "canary_id": "c",
        "sink_name": "s", "index_uid": "i", "node_id": "n", "parent_id": "j", "tenant_id": "t", "alias": "a", "id": "j",
        "limit": 5, "offset": 1, "cutoff_ms": 5, "status": "failed", "state": "queued", "type": "dump_import",
        "floor": 1, "after": "t", "api_key_hash": "0a".repeat(32), "admin_key_hash": "0a".repeat(32),
        "csrf_token": "x" })
}

#[test]
fn every_query_walks_an_index() {
    let notes = Notes::default();
    let store = TaskStore::open("memory:").unwrap();
    // Rows of two kinds, so that queries that go from one to the next do so.
    for line in lines().iter().filter(|line| line["args"]["token"] != "claim") {
        let _ = store.queue(wire::parse(&line.to_string()).unwrap().request).and_then(|answer| answer.wait());
    }
    let mut asked = 0;
    for query in SIDES.iter().flat_map(|side| side.queries) {
        *notes.by.lock().unwrap() = query.name;
        let schema = serde_json::to_value((query.args)()).unwrap();
        let required: Vec<String> = serde_json::from_value(schema["required"].clone()).unwrap_or_default();
        let known = schema["properties"].as_object().cloned().unwrap_or_default();
        let given = arguments();
        // Every optional argument is left out and given: the choice decides the index.
        let optional: Vec<&String> = known.keys().filter(|name| !required.contains(name)).collect();
        for chosen in 0..1_usize << optional.len() {
            let optional = optional.iter().enumerate().filter(|(at, _)| chosen >> at & 1 == 1).map(|(_, name)| *name);
            let args: serde_json::Map<_, _> =
                required.iter().chain(optional).map(|name| (name.clone(), given[name].clone())).collect();
            store
                .read(|log, view| {
                    let view = Recording(Reading(view), notes.clone());
                    let config = Config::default();
                    let reader = Reader::new(&view, 1_000, &config).with_log(log);
                    (query.run)(&raw(&args.clone().into()), &reader)
                })
                .unwrap_or_else(|why| panic!("{} {args:?}: {why}", query.name));
            asked += 1;
        }
    }
    assert!(asked > 40 && notes.seen.lock().unwrap().len() > 20, "{:#?}", notes.seen);
    let faults = faults(&notes);
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// A borrowed view that nobody writes to.
struct Reading<'v>(&'v dyn View);

impl View for Reading<'_> {
    fn get(&self, table: &'static TableDef, key: &str) -> Result<Option<Held>, StoreError> {
        self.0.get(table, key)
    }
    fn tombstone(&self, table: &'static TableDef, key: &str) -> Result<Option<Position>, StoreError> {
        self.0.tombstone(table, key)
    }
    fn any_tombstone(&self, table: &'static TableDef) -> Result<bool, StoreError> {
        self.0.any_tombstone(table)
    }
    fn scan(&self, table: &'static TableDef, scan: &Scan<'_>) -> Result<Vec<Held>, StoreError> {
        self.0.scan(table, scan)
    }
    fn count(&self, table: &'static TableDef, scan: &Scan<'_>) -> Result<u64, StoreError> {
        self.0.count(table, scan)
    }
    fn checkpoint(&self) -> Result<Checkpoint, StoreError> {
        self.0.checkpoint()
    }
    fn write(&mut self, _: &[RowChange]) -> Result<(), StoreError> {
        Err(StoreError::ReadOnly("a query".into()))
    }
    fn apply(&mut self, _: &[RowChange], _: &Checkpoint, _: &Checkpoint) -> Result<(), StoreError> {
        Err(StoreError::ReadOnly("a query".into()))
    }
    fn sweep(&mut self, _: &'static TableDef, _: Millis, _: Millis, _: usize) -> Result<Vec<AnyRow>, StoreError> {
        Err(StoreError::ReadOnly("a query".into()))
    }
}

/// Every command of the catalogue, in an order in which most of them have something to do.
fn lines() -> Vec<Value> {
    let hash = "0a".repeat(32);
    let line = |name: &str, args: Value| json!({ "command": name, "args": args });
    let under = |scope: &str, term: u64, name: &str, args: Value| json!({ "command": name, "args": args, "lease": { "scope": scope, "term": term } });
    let policy = json!({ "name": "p", "write_alias": "a", "read_alias": "r", "pattern": "l-{YYYY}", "triggers_json":
        { "max_docs": 1 }, "retention_json": { "keep_indexes": 1 }, "template_json": { "primary_key": "id" } });
    vec![
        // The first two events are the terms of the leases below.
        line("leader_lease.acquire", json!({ "scope": "ilm", "holder": "pod" })),
        line("leader_lease.acquire", json!({ "scope": "settings_broadcast:i", "holder": "pod" })),
        line("leader_lease.renew", json!({ "scope": "ilm", "holder": "pod", "term": 1 })),
        line(
            "leader_lease.commit_phase",
            json!({ "scope": "ilm", "holder": "pod", "term": 1, "phase": { "name": "x" } }),
        ),
        line("tasks.register", json!({ "miroir_id": "t", "node_tasks": { "n": 1 } })),
        line("tasks.attach_node_task", json!({ "miroir_id": "t", "node_id": "m", "task_uid": 1 })),
        line(
            "tasks.replace_node_task",
            json!({ "miroir_id": "t", "node_id": "m", "old_uid": 1, "new_uid": 2, "why": "w" }),
        ),
        line(
            "tasks.report_node_statuses",
            json!({ "miroir_id": "t", "reports": [{ "node_id": "n", "status": "failed" }] }),
        ),
        line("tasks.register", json!({ "miroir_id": "u", "node_tasks": {} })),
        line("tasks.set_status", json!({ "miroir_id": "u", "status": "processing" })),
        line("tasks.cancel", json!({ "miroir_id": "u" })),
        line(
            "tasks.import",
            json!({ "miroir_id": "v", "node_id": "n", "task_uid": 1, "status": "enqueued", "created_at": 1 }),
        ),
        line("tasks.prune", json!({ "cutoff_ms": 2_000 })),
        line("tasks.prune", json!({ "miroir_ids": ["u"] })),
        under(
            "settings_broadcast:i",
            2,
            "node_settings_version.commit",
            json!({ "index_uid": "i", "version": 1, "node_ids": ["n", "m"], "fingerprint": hash }),
        ),
        line(
            "node_settings_version.advance",
            json!({ "index_uid": "i", "node_id": "o", "version": 1, "cause": "late_join" }),
        ),
        line("aliases.create", json!({ "name": "a", "target": "i", "target_verified": true })),
        line("rollover_policies.define", policy),
        under(
            "ilm",
            1,
            "aliases.create_multi",
            json!({ "name": "r", "targets": ["i"], "policy": "p", "target_verified": true }),
        ),
        line("aliases.flip", json!({ "name": "a", "expected_version": 1, "target": "j", "target_verified": true })),
        under("ilm", 1, "aliases.set_targets", json!({ "name": "r", "expected_version": 1, "targets": ["j"] })),
        line("rollover_policies.revise", json!({ "name": "p", "changes": { "write_alias": "a2" } })),
        line("rollover_policies.revise", json!({ "name": "p", "changes": { "write_alias": "a" } })),
        line("rollover_policies.set_enabled", json!({ "name": "p", "enabled": false })),
        line("rollover_policies.set_enabled", json!({ "name": "p", "enabled": true })),
        under(
            "ilm",
            1,
            "rollover_policies.execute",
            json!({ "name": "p", "trigger": "max_docs", "observed": {},
            "new_index": "k", "read_targets": ["k"] }),
        ),
        line("rollover_policies.delete", json!({ "name": "p", "drop_read_alias": true })),
        line("aliases.delete", json!({ "name": "a" })),
        line("aliases.create", json!({ "name": "a", "target": "i", "target_verified": true })),
        line("sessions.record_write", json!({ "session_id": "s", "mtask_id": "t", "pinned_group": 0 })),
        line("sessions.clear_pin", json!({ "session_id": "s", "mtask_id": "t", "why": "write_settled" })),
        line("sessions.close", json!({ "session_id": "s" })),
        line("sessions.record_write", json!({ "session_id": "s2", "mtask_id": "t" })),
        line("sessions.raise_floor", json!({ "session_id": "s3", "version": 1 })),
        line("sessions.touch", json!({ "session_id": "s3" })),
        line("idempotency_cache.check_or_record", json!({ "key": "k", "body_sha256": hash, "miroir_task_id": "t" })),
        line("idempotency_cache.check_or_record", json!({ "key": "k2", "body_sha256": hash, "miroir_task_id": "t" })),
        line("idempotency_cache.release", json!({ "key": "k2", "miroir_task_id": "t", "why": "w" })),
        line("jobs.enqueue", json!({ "id": "j", "type": "a", "params": {} })),
        line("jobs.claim_next", json!({ "pod": "pod" })),
        line(
            "jobs.split",
            json!({ "id": "j", "token": "claim", "chunks": [{}, {}], "first_chunk": 0, "total_chunks": 2,
            "last": true }),
        ),
        line("jobs.claim_next", json!({ "pod": "pod", "types": ["a", "b"] })),
        line("jobs.heartbeat", json!({ "id": "j-c0000", "token": "claim" })),
        line("jobs.save_progress", json!({ "id": "j-c0000", "token": "claim", "progress": { "a": 1 } })),
        line("jobs.release", json!({ "id": "j-c0000", "token": "claim" })),
        line("jobs.claim_next", json!({ "pod": "pod" })),
        line("jobs.fail", json!({ "id": "j-c0000", "token": "claim", "error": "e" })),
        line("jobs.claim_next", json!({ "pod": "pod" })),
        line("jobs.complete", json!({ "id": "j-c0001", "token": "claim" })),
        line("jobs.settle_parent", json!({ "id": "j" })),
        line("jobs.enqueue", json!({ "id": "j2", "type": "b", "params": {} })),
        line("jobs.requeue_expired", json!({})),
        line("jobs.purge", json!({ "cutoff_ms": 5_000 })),
        line("jobs.enqueue", json!({ "id": "j3", "type": "c", "params": {} })),
        line(
            "canaries.define",
            json!({ "id": "c", "name": "n", "index_uid": "i", "interval_s": 1, "query_json": {},
            "assertions_json": [] }),
        ),
        line(
            "canaries.define",
            json!({ "name": "n", "index_uid": "i", "interval_s": 1, "query_json": {},
            "assertions_json": [] }),
        ),
        line("canaries.revise", json!({ "id": "c", "changes": { "name": "n2" } })),
        line("canaries.set_enabled", json!({ "id": "c", "enabled": false })),
        line("canary_runs.record", json!({ "canary_id": "c", "ran_at": 1, "status": "pass", "latency_ms": 1 })),
        line("canary_runs.record", json!({ "canary_id": "c", "ran_at": 9, "status": "pass", "latency_ms": 1 })),
        line("canary_runs.prune", json!({ "cutoff_ms": 50 })),
        line("canaries.delete", json!({ "id": "c" })),
        line("cdc_cursors.advance", json!({ "sink_name": "s", "index_uid": "i", "expected_seq": null, "new_seq": 1 })),
        line("cdc_cursors.reset", json!({ "sink_name": "s", "index_uid": "i", "to_seq": 0 })),
        line("cdc_cursors.drop", json!({ "sink_name": "s" })),
        line("cdc_cursors.drop", json!({ "index_uid": "i" })),
        line("cdc_cursors.drop", json!({ "sink_name": "s", "index_uid": "i" })),
        line("tenant_map.map", json!({ "api_key_hash": hash, "tenant_id": "t" })),
        line("tenant_map.unmap", json!({ "api_key_hash": hash })),
        line("search_ui_config.set", json!({ "index_uid": "i", "config_json": {} })),
        line("search_ui_config.delete", json!({ "index_uid": "i" })),
        line(
            "admin_sessions.open",
            json!({ "session_id": "s".repeat(32), "csrf_token": "c".repeat(32),
            "admin_key_hash": hash }),
        ),
        line("admin_sessions.revoke", json!({ "session_id": "s".repeat(32), "why": "logout" })),
        line(
            "admin_sessions.open",
            json!({ "session_id": "u".repeat(32), "csrf_token": "c".repeat(32),
            "admin_key_hash": hash }),
        ),
        line("admin_sessions.revoke_all", json!({ "why": "operator" })),
        line("node_settings_version.forget_node", json!({ "node_id": "n" })),
        line("node_settings_version.forget_index", json!({ "index_uid": "i" })),
        line("leader_lease.release", json!({ "scope": "ilm", "holder": "pod", "term": 1 })),
        line("leader_lease.clear", json!({ "scope": "settings_broadcast:i" })),
    ]
}

#[test]
fn every_decision_walks_an_index() {
    let notes = Notes::default();
    let clock = Arc::new(ManualClock::at(1_000));
    // Bounds of one, so that every creation looks for somebody to evict.
    let config = Config { sessions_max: 1, idempotency_keys_max: 1, canary_history: 1, ..Config::default() };
    let backend = Watched(MemoryBackend::new(clock.clone()).unwrap(), notes.clone());
    let mut engine = Engine::new(backend, config, "test".into()).unwrap();
    let (mut called, mut changed) = (BTreeSet::new(), BTreeSet::new());
    let mut claim = Value::Null;
    for mut line in lines() {
        if line["args"]["token"] == "claim" {
            line["args"]["token"] = claim.clone();
        }
        let request = wire::parse(&line.to_string()).unwrap().request;
        let name = request.commands[0].name();
        *notes.by.lock().unwrap() = name;
        called.insert(name);
        clock.advance(1);
        if let Ok(reply) = engine.execute(request) {
            let reply: Value = serde_json::from_str(&wire::reply_json(&reply)).unwrap();
            if let Some(token) = reply.get("claim_token").filter(|token| token.is_number()) {
                claim = token.clone();
            }
            if reply["changed"] == true {
                changed.insert(name);
            }
        }
    }
    let known: BTreeSet<_> = SIDES.iter().flat_map(|side| side.commands).map(|def| def.name).collect();
    assert_eq!(called, known, "every command of the catalogue is called");
    let idle: Vec<_> = known.difference(&changed).collect();
    // Nothing has expired, no lease may be cleared while it lives, and a fresh session needs no touch.
    assert_eq!(idle, [&"jobs.requeue_expired", &"leader_lease.clear", &"sessions.touch"]);
    assert!(notes.seen.lock().unwrap().len() > 20, "{:#?}", notes.seen);
    let faults = faults(&notes);
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// A pool once had `synchronous` right on one of its connections only.
#[test]
fn every_kind_of_connection_has_its_pragmas() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tasklog.db");
    let store = TaskStore::open(&format!("sqlite:{}", path.display())).unwrap();
    let pragma = |conn: &rusqlite::Connection, name: &str| -> String {
        let value: rusqlite::types::Value = conn.query_row(&format!("PRAGMA {name}"), [], |row| row.get(0)).unwrap();
        match value {
            rusqlite::types::Value::Integer(value) => value.to_string(),
            rusqlite::types::Value::Text(value) => value,
            other => panic!("{name}: {other:?}"),
        }
    };
    let common = |conn: &rusqlite::Connection| {
        for (name, value) in
            [("synchronous", "2"), ("busy_timeout", "5000"), ("temp_store", "2"), ("trusted_schema", "0")]
        {
            assert_eq!(pragma(conn, name), value, "{name}");
        }
    };
    let reader = |conn: &rusqlite::Connection| {
        common(conn);
        assert_eq!(pragma(conn, "query_only"), "1");
        assert!(conn.execute("DELETE FROM events", []).is_err());
    };
    // Several readers at once, so that the pool opens more than one.
    store
        .with_connection(|first| {
            store.with_connection(|second| {
                assert_eq!(
                    (pragma(first, "journal_mode"), pragma(second, "journal_mode")),
                    ("wal".into(), "wal".into())
                );
                reader(first);
                reader(second);
                Ok(())
            })
        })
        .unwrap();
    reader(&store.open_connection().unwrap());
    drop(store);
    let writer = connection::open(&path, Access::Write).unwrap();
    common(&writer);
    for (name, value) in
        [("journal_mode", "wal"), ("fullfsync", "1"), ("query_only", "0"), ("wal_autocheckpoint", "4000")]
    {
        assert_eq!(pragma(&writer, name), value, "{name}");
    }
    assert_eq!(pragma(&writer, "journal_size_limit"), (64 << 20).to_string());
    drop(writer);
    immutable(&path, &reader);
}

fn immutable(path: &Path, reader: &dyn Fn(&rusqlite::Connection)) {
    reader(&connection::open(path, Access::Immutable).unwrap());
}
