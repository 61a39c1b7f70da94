use std::collections::VecDeque;

use serde_json::{Value, json};
use tasklog_log::Position;
use uuid::Uuid;

use crate::{Error, TaskStore, store::QueuedAnswer, wire};

/// Commands on their way at once.
const PENDING_MAX: usize = 512;
/// Nodes of the cluster.
const NODES: [&str; 5] = ["meili-0", "meili-1", "meili-2", "meili-3", "meili-4"];
/// Nodes that one write goes to: a replication factor of two.
const NODES_OF_A_WRITE: usize = 2;

/// How many rows of each table a store is filled with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counts {
    /// Client writes, each with a task, an idempotency key and a session.
    pub tasks: u64,
    /// Sessions that the writes belong to.
    pub sessions: u64,
    /// Jobs, half of them finished.
    pub jobs: u64,
    /// Runs, evenly over the canaries.
    pub canary_runs: u64,
    /// Indexes: each with settings on every node, an alias, a search page, a cursor and a tenant's key.
    pub indexes: u64,
    /// Canaries and rollover policies, each.
    pub canaries: u64,
    /// Sessions of the admin page.
    pub admin_sessions: u64,
    /// Leases that are held.
    pub leases: u64,
}

impl Default for Counts {
    fn default() -> Self {
        Self {
            tasks: 10_000,
            sessions: 1_000,
            jobs: 1_000,
            canary_runs: 5_000,
            indexes: 100,
            canaries: 50,
            admin_sessions: 100,
            leases: 10,
        }
    }
}

impl Counts {
    /// Commands that fill a store.
    #[must_use]
    pub fn commands(&self) -> u64 {
        self.tasks * 3
            + self.jobs * 2
            + self.canary_runs
            + self.indexes * 7
            + self.canaries * 3
            + self.admin_sessions
            + self.leases
    }
}

/// Fills a store, the client's writes last; answers the position before the first of them.
pub(super) fn fill(store: &TaskStore, counts: &Counts, note: &mut dyn FnMut()) -> Result<Position, Error> {
    let mut feed = Feed { store, pending: VecDeque::new(), note };
    indexes(&mut feed, counts)?;
    canaries(&mut feed, counts)?;
    jobs(&mut feed, counts)?;
    for number in 0..counts.admin_sessions {
        feed.send(json!({"command": "admin_sessions.open", "args": {
            "session_id": hex(16), "csrf_token": hex(16), "admin_key_hash": hex(32), "source_ip": format!("10.0.1.{}", number % 250),
            "user_agent": "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Safari/537.36",
        }}))?;
    }
    for number in 0..counts.leases {
        feed.send(json!({"command": "leader_lease.acquire", "args": {
            "scope": format!("reshard:index-{number:05}"), "holder": pod(number), "ttl_ms": 86_400_000,
        }}))?;
    }
    feed.drain()?;
    let before = store.head()?;
    writes(&mut feed, counts)?;
    Ok(before)
}

/// Sends lines as `apply` does, with a bounded number of them on their way.
struct Feed<'a> {
    store: &'a TaskStore,
    pending: VecDeque<QueuedAnswer>,
    note: &'a mut dyn FnMut(),
}

impl Feed<'_> {
    fn send(&mut self, line: Value) -> Result<(), Error> {
        if self.pending.len() >= PENDING_MAX {
            self.wait()?;
        }
        self.pending.push_back(self.store.queue(wire::parse(&line.to_string())?.request)?);
        Ok(())
    }

    /// Sends a line and waits for its answer.
    fn ask(&mut self, line: Value) -> Result<Value, Error> {
        self.drain()?;
        let reply = self.store.queue(wire::parse(&line.to_string())?.request)?.wait()?;
        (self.note)();
        serde_json::from_str(&wire::reply_json(&reply))
            .map_err(|error| crate::Rejection::invalid(error.to_string()).into())
    }

    fn wait(&mut self) -> Result<(), Error> {
        if let Some(answer) = self.pending.pop_front() {
            answer.wait()?;
            (self.note)();
        }
        Ok(())
    }

    fn drain(&mut self) -> Result<(), Error> {
        while !self.pending.is_empty() {
            self.wait()?;
        }
        Ok(())
    }
}

fn indexes(feed: &mut Feed<'_>, counts: &Counts) -> Result<(), Error> {
    for number in 0..counts.indexes {
        let index = index(number);
        let scope = format!("settings_broadcast:{index}");
        let lease = json!({"scope": scope, "holder": pod(number)});
        let granted = feed.ask(json!({"command": "leader_lease.acquire", "args": lease}))?;
        let term = &granted["term"];
        feed.send(
            json!({"command": "node_settings_version.commit", "lease": {"scope": scope, "term": term}, "args": {
                "index_uid": index, "node_ids": NODES, "version": 1, "fingerprint": hex(32),
            }}),
        )?;
        feed.send(
            json!({"command": "leader_lease.release", "args": {"scope": scope, "holder": pod(number), "term": term}}),
        )?;
        feed.send(json!({"command": "aliases.create", "args": {
            "name": format!("{index}-live"), "target": index, "target_verified": true,
        }}))?;
        feed.send(json!({"command": "search_ui_config.set", "args": {"index_uid": index, "config_json": search_page(&index)}}))?;
        feed.send(json!({"command": "cdc_cursors.advance", "args": {
            "index_uid": index, "sink_name": "warehouse", "expected_seq": null, "new_seq": 4_711 + number,
        }}))?;
        feed.send(json!({"command": "tenant_map.map", "args": {
            "api_key_hash": hex(32), "tenant_id": format!("tenant-{number:05}"), "group_id": number % 4,
        }}))?;
    }
    Ok(())
}

fn canaries(feed: &mut Feed<'_>, counts: &Counts) -> Result<(), Error> {
    let ids: Vec<_> = (0..counts.canaries).map(|_| Uuid::now_v7().to_string()).collect();
    for (id, number) in ids.iter().zip(0..) {
        feed.send(json!({"command": "canaries.define", "args": {
            "id": id, "name": format!("top products {number}"), "index_uid": index(number), "interval_s": 300,
            "query_json": {"q": "running shoes", "limit": 20, "filter": "brand = acme AND price < 100"},
            "assertions_json": [{"type": "min_hits", "value": 10}, {"type": "max_p95_ms", "value": 200}],
        }}))?;
        feed.send(json!({"command": "aliases.create", "args": {"name": format!("logs-{number}-write"), "target": format!("logs-{number}-000001"), "target_verified": true}}))?;
        feed.send(json!({"command": "rollover_policies.define", "args": {
            "name": format!("logs-{number}"), "write_alias": format!("logs-{number}-write"), "read_alias": format!("logs-{number}-read"),
            "pattern": format!("logs-{number}-{{YYYY-MM-DD}}"), "retention_json": {"keep_indexes": 30},
            "triggers_json": {"max_docs": 10_000_000, "max_age": "7d", "max_size_gb": 50},
            "template_json": {"primary_key": "id", "settings_ref": "logs-settings"},
        }}))?;
    }
    for (number, id) in (0..counts.canary_runs).zip(ids.iter().cycle()) {
        let failed = (number % 20 == 0).then(|| json!([{"type": "max_p95_ms", "expected": 200, "actual": 312}]));
        let mut args = json!({
            "canary_id": id, "ran_at": 1_767_225_600_000 + number * 1_000, "latency_ms": 27, "runner_pod": pod(number),
            "status": if failed.is_some() { "fail" } else { "pass" },
        });
        if let Some(failed) = failed {
            args["failed_assertions_json"] = failed;
        }
        feed.send(json!({"command": "canary_runs.record", "args": args}))?;
    }
    Ok(())
}

fn jobs(feed: &mut Feed<'_>, counts: &Counts) -> Result<(), Error> {
    for number in 0..counts.jobs {
        feed.send(json!({"command": "jobs.enqueue", "args": {
            "id": Uuid::now_v7().to_string(), "type": "dump_import", "max_attempts": 3,
            "params": {"dump": format!("s3://dumps/2026/11/{number:08}.dump"), "index_uid": index(number), "batch_size": 1_000},
        }}))?;
    }
    for number in 0..counts.jobs / 2 {
        let claimed = feed.ask(json!({"command": "jobs.claim_next", "args": {"pod": pod(number)}}))?;
        feed.send(json!({"command": "jobs.complete", "args": {
            "id": claimed["job"]["id"], "token": claimed["claim_token"], "progress": {"docs_routed": 14_004, "bytes_read": 73_400_320},
        }}))?;
    }
    Ok(())
}

/// A client's write from its acceptance to its end.
fn writes(feed: &mut Feed<'_>, counts: &Counts) -> Result<(), Error> {
    for number in 0..counts.tasks {
        let task = format!("mtask-{}", Uuid::now_v7());
        let nodes: Vec<_> =
            NODES.iter().cycle().skip(number as usize % NODES.len()).take(NODES_OF_A_WRITE).zip(0..).collect();
        let uids: serde_json::Map<_, _> =
            nodes.iter().map(|(node, at)| ((**node).to_owned(), json!(100_000 + number * 2 + at))).collect();
        let report = |status: &str| {
            let reports: Vec<_> = nodes.iter().map(|(node, _)| json!({"node_id": node, "status": status})).collect();
            json!({"command": "tasks.report_node_statuses", "args": {"miroir_id": task, "reports": reports}})
        };
        let key = Uuid::new_v4().to_string();
        feed.send(json!({"transact": [
            {"command": "idempotency_cache.check_or_record", "args": {"key": key, "body_sha256": hex(32), "miroir_task_id": task}},
            {"command": "tasks.register", "args": {
                "miroir_id": task, "node_tasks": uids, "index_uid": index(number % counts.indexes.max(1)),
                "task_type": "documentAdditionOrUpdate", "idempotency_key": key,
            }},
            {"command": "sessions.record_write", "args": {
                "session_id": format!("session-{:012x}", number % counts.sessions.max(1)), "mtask_id": task,
            }},
        ]}))?;
        feed.send(report("processing"))?;
        feed.send(report("succeeded"))?;
    }
    feed.drain()
}

/// A search page as somebody has set it up: about 2 KB.
fn search_page(index: &str) -> Value {
    let facets: Vec<_> = (0..12)
        .map(|number| json!({"attribute": format!("attribute_{number}"), "label": format!("Attribute number {number}"), "type": "terms", "limit": 20}))
        .collect();
    let sorts: Vec<_> = ["price:asc", "price:desc", "rating:desc", "created_at:desc"]
        .iter()
        .map(|sort| json!({"value": sort, "label": format!("By {sort}")}))
        .collect();
    json!({
        "title": format!("Search {index}"), "template": "grid", "page_size": 24, "accent": "#1f6feb", "logo": "https://cdn.example.com/logo.svg",
        "facets": facets, "sorts": sorts, "languages": ["en", "de", "fr", "es", "it"],
        "card": {"image": "image_url", "title": "name", "subtitle": "brand", "badges": ["is_new", "on_sale"], "price": "price"},
        "empty": {"text": "Nothing was found. Try fewer words, or remove a filter.", "suggestions": ["shoes", "shirts", "jackets"]},
    })
}

fn index(number: u64) -> String {
    format!("index-{number:05}")
}

fn pod(number: u64) -> String {
    format!("miroir-{}", number % 4)
}

/// Random bytes in hex.
fn hex(bytes: usize) -> String {
    let mut text = String::new();
    while text.len() < bytes * 2 {
        text.push_str(&Uuid::new_v4().simple().to_string());
    }
    text.truncate(bytes * 2);
    text
}
