//! Random commands over all tables: few keys, so that they collide; and values read from the rows, so that many succeed.

use proptest::prelude::*;
use serde_json::{Value, json};
use tasklog::tables::SIDES;

use crate::store::Rows;

/// A random choice of everything that a command leaves open. It becomes a command only when it is run, because that is
/// when the tokens, terms and versions are known.
#[derive(Clone, Copy, Debug)]
pub struct Pick {
    pub command: u8,
    pub a: u8,
    pub b: u8,
    pub c: u8,
    pub d: u8,
    pub lease: u8,
}

pub fn pick() -> impl Strategy<Value = Pick> {
    (any::<u8>(), 0_u8..12, 0_u8..12, 0_u8..12, 0_u8..12, 0_u8..12).prop_map(|(command, a, b, c, d, lease)| Pick {
        command,
        a,
        b,
        c,
        d,
        lease,
    })
}

/// Tables whose commands have something to do with each other.
pub const THEMES: [&[&str]; 16] = [
    &["tasks"],
    &["node_settings_version", "leader_lease"],
    &["aliases"],
    &["aliases", "rollover_policies", "leader_lease"],
    &["aliases", "rollover_policies"],
    &["sessions"],
    &["idempotency_cache"],
    &["idempotency_cache", "tasks", "sessions"],
    &["jobs"],
    &["jobs"],
    &["rollover_policies", "leader_lease"],
    &["leader_lease"],
    &["canaries", "canary_runs"],
    &["cdc_cursors", "tenant_map", "search_ui_config"],
    &["admin_sessions"],
    &[],
];

/// The names of the commands of a theme; the empty theme is all of them.
pub fn names(theme: &[&str]) -> Vec<&'static str> {
    let sides = SIDES.iter().filter(|side| theme.is_empty() || theme.contains(&side.table.name));
    sides.flat_map(|side| side.commands).map(|def| def.name).collect()
}

/// A command, and the lease it is called with.
#[derive(Clone, Debug)]
pub struct Call {
    pub name: &'static str,
    pub args: Value,
    pub lease: Option<Value>,
}

fn of<T: Copy>(values: &[T], pick: u8) -> T {
    values[usize::from(pick) % values.len()]
}

const NODES: [&str; 3] = ["meili-0", "meili-1", "n/%é"];
const INDEXES: [&str; 2] = ["products", "a/b"];
const STATUSES: [&str; 5] = ["enqueued", "processing", "succeeded", "failed", "canceled"];
const ALIASES: [&str; 3] = ["shop", "logs", "logs-read"];
const POLICIES: [&str; 2] = ["daily", "weekly"];
const SCOPES: [&str; 4] = ["ilm", "settings_broadcast:products", "settings_broadcast:a/b", "alias_flip:shop"];
const UIDS: [u64; 4] = [0, 7, 9_007_199_254_740_993, u64::MAX];

/// Sets a member unless there is nothing to set.
fn with(mut args: Value, name: &str, value: Option<impl Into<Value>>) -> Value {
    if let Some(value) = value {
        args[name] = value.into();
    }
    args
}

/// Mostly `right`, sometimes next to it.
fn near(right: i64, pick: u8) -> i64 {
    match pick % 6 {
        0 => right + 1,
        1 => right - 1,
        _ => right,
    }
}

fn number(rows: &Rows, table: &str, key: &str, column: &str) -> i64 {
    rows.get(table, key).and_then(|row| row.columns[column].as_i64()).unwrap_or(0)
}

fn rev(rows: &Rows, table: &str, key: &str) -> i64 {
    rows.get(table, key).map_or(0, |row| row.rev.0 as i64)
}

/// The lease that `scope` needs, mostly the right one.
fn lease(rows: &Rows, scope: &str, pick: u8) -> Option<Value> {
    match pick {
        0 => None,
        1 => Some(json!({ "scope": of(&SCOPES, pick), "term": 1 })),
        _ => Some(json!({ "scope": scope, "term": near(number(rows, "leader_lease", scope, "term"), pick) })),
    }
}

fn is_live(rows: &Rows, scope: &str) -> bool {
    rows.of("leader_lease").get(scope).is_some_and(|row| row["expires_at"].as_i64() > Some(rows.now))
}

/// The command that a pick stands for among `names`, given what the rows are now.
pub fn call(names: &[&'static str], pick: Pick, rows: &Rows) -> Call {
    let name = names[usize::from(pick.command) % names.len()];
    let scope = match name {
        "node_settings_version.commit" => Some(format!("settings_broadcast:{}", of(&INDEXES, pick.a))),
        "aliases.create_multi" | "aliases.set_targets" | "rollover_policies.execute" => Some("ilm".to_owned()),
        "aliases.delete" if pick.b > 5 => Some("ilm".to_owned()),
        _ => None,
    };
    match scope {
        Some(scope) if !is_live(rows, &scope) && pick.lease > 3 => {
            let args = json!({ "scope": scope, "holder": "pod-a", "ttl_ms": 600_000 });
            Call { name: "leader_lease.acquire", args, lease: None }
        }
        Some(scope) => {
            let name = if pick.d > 2 { ready(name, pick, rows) } else { name };
            Call { name, args: args(name, pick, rows), lease: lease(rows, &scope, pick.lease) }
        }
        None => {
            let lease = (pick.lease == 1).then(|| lease(rows, of(&SCOPES, pick.a), pick.b)).flatten();
            Call { name, args: args(name, pick, rows), lease }
        }
    }
}

/// A rollover, or what it needs first.
fn ready(name: &'static str, pick: Pick, rows: &Rows) -> &'static str {
    let policy = rows.get("rollover_policies", of(&POLICIES, pick.a));
    match name {
        "rollover_policies.execute" | "aliases.create_multi" if policy.is_none() => "rollover_policies.define",
        "rollover_policies.execute" => {
            let write = policy.and_then(|policy| policy.columns["write_alias"].as_str()).unwrap_or_default();
            // The alias that `args` would create.
            if rows.get("aliases", write).is_none() && of(&ALIASES, pick.a) == write { "aliases.create" } else { name }
        }
        other => other,
    }
}

fn args(name: &'static str, Pick { a, b, c, d, .. }: Pick, rows: &Rows) -> Value {
    let (task, node, index) = (of(&["t1", "t2", "t/3"], a), of(&NODES, b), of(&INDEXES, a));
    // Mostly a job that somebody works on: the others can only refuse.
    let claimed = rows.of("jobs").into_iter().find(|(_, row)| !row["claimed_by"].is_null()).map(|(id, _)| id);
    let job = match name {
        "jobs.enqueue" => None,
        _ => claimed.filter(|_| d > 2),
    };
    let job = job.unwrap_or_else(|| of(&["j1", "j2", "j1", "j1-c0000"], a));
    let token = near(number(rows, "jobs", job, "claim_token"), b);
    let progress = (c % 3 == 0).then(|| json!({ "docs_routed": d }));
    let session = of(&["s1", "s2", "s3", "s4"], a);
    let key = of(&["k1", "k2", "k3", "k4"], a);
    let hash = of(&["0a", "ff"], b).repeat(32);
    let (scope, holder) = (of(&SCOPES, a), of(&["pod-a", "pod-b"], b));
    let term = near(number(rows, "leader_lease", scope, "term"), c);
    let (canary, label) = (of(&["c1", "c2"], a), of(&["one", "two"], b));
    let sink = of(&["hook", "nats"], b);
    let multi = rows.of("aliases").into_iter().find(|(_, row)| row["kind"] == "multi").map(|(alias, _)| alias);
    let alias = multi.filter(|_| name == "aliases.set_targets" && d > 2).unwrap_or_else(|| of(&ALIASES, a));
    let version = near(number(rows, "aliases", alias, "version"), c);
    let uid = of(&["i1", "i2", "i3", "logs"], d);
    let policy = of(&POLICIES, a);
    let after = |delta: i64| rows.now + delta;
    match name {
        "tasks.register" => {
            let tasks = match c % 3 {
                0 => json!({}),
                1 => json!({ node: of(&UIDS, d) }),
                _ => json!({ "meili-0": 1, "meili-1": of(&UIDS, d) }),
            };
            with(json!({ "miroir_id": task, "node_tasks": tasks }), "index_uid", (d % 2 == 0).then_some(index))
        }
        "tasks.attach_node_task" => json!({ "miroir_id": task, "node_id": node, "task_uid": of(&UIDS, c) }),
        "tasks.replace_node_task" => {
            json!({ "miroir_id": task, "node_id": node, "old_uid": of(&UIDS, c), "new_uid": of(&UIDS, d), "why": "lost" })
        }
        "tasks.report_node_statuses" => {
            let known = rows.get("tasks", task).and_then(|row| row.columns["node_tasks"].as_object().cloned());
            let known: Vec<String> = known.into_iter().flatten().map(|(node, _)| node).collect();
            let node = known.get(usize::from(b) % known.len().max(1)).map_or(node, |node| node);
            let mut reports = vec![json!({ "node_id": node, "status": of(&STATUSES, c), "error": "boom" })];
            if d % 3 == 0 {
                reports.push(json!({ "node_id": of(&NODES, d), "status": of(&STATUSES, b) }));
            }
            json!({ "miroir_id": task, "reports": reports })
        }
        "tasks.set_status" => with(
            json!({ "miroir_id": task, "status": of(&STATUSES, b) }),
            "error",
            (c % 3 == 0).then_some("set directly"),
        ),
        "tasks.cancel" => with(json!({ "miroir_id": task }), "error", (c % 2 == 0).then_some("not wanted")),
        "tasks.prune" => {
            let args = with(json!({}), "cutoff_ms", (b % 3 > 0).then(|| after(i64::from(c) - 4)));
            let args = with(args, "limit", (d % 3 == 0).then_some(d / 3));
            with(args, "miroir_ids", (a % 2 == 0).then(|| json!([task, "t2"])))
        }
        "tasks.import" => {
            let status = of(&STATUSES, c);
            let ended = c % 5 > 1;
            let args = json!({ "miroir_id": task, "node_id": node, "task_uid": of(&UIDS, d), "status": status,
                "created_at": d });
            let args = with(args, "finished_at", ended.then_some(i64::from(d) + 1));
            with(args, "error", (status == "failed").then_some("boom"))
        }
        "node_settings_version.commit" => {
            let next = number(rows, "node_settings_version", &format!("{}/_cluster", escaped(index)), "version") + 1;
            let nodes = if b % 2 == 0 { json!([node]) } else { json!(NODES) };
            json!({ "index_uid": index, "version": near(next, c), "node_ids": nodes,
                "fingerprint": of(&["aa", "bb"], d).repeat(32) })
        }
        "node_settings_version.advance" => {
            let committed = number(rows, "node_settings_version", &format!("{}/_cluster", escaped(index)), "version");
            json!({ "index_uid": index, "node_id": node, "version": near(committed, c),
                "cause": of(&["drift_repair", "late_join"], d) })
        }
        "node_settings_version.forget_node" => json!({ "node_id": node }),
        "node_settings_version.forget_index" => json!({ "index_uid": index }),
        "aliases.create" => {
            with(json!({ "name": alias, "target": uid }), "target_verified", (b % 6 > 0).then_some(true))
        }
        "aliases.create_multi" => json!({ "name": alias, "targets": [uid, "i9"], "policy": of(&POLICIES, b),
            "target_verified": true }),
        "aliases.flip" => {
            let args = json!({ "name": alias, "expected_version": version, "target": uid, "target_verified": true });
            with(args, "why", (b % 3 == 0).then_some("reshard"))
        }
        "aliases.set_targets" => json!({ "name": alias, "expected_version": version, "targets": [uid, "i9"] }),
        "aliases.delete" => with(json!({ "name": alias }), "expected_version", (b % 2 == 0).then_some(version)),
        "sessions.record_write" => with(
            json!({ "session_id": session, "mtask_id": of(&["t1", "t2"], b) }),
            "pinned_group",
            (c % 2 == 0).then_some(d % 3),
        ),
        "sessions.raise_floor" => json!({ "session_id": session, "version": d }),
        "sessions.touch" | "sessions.close" => json!({ "session_id": session }),
        "sessions.clear_pin" => json!({ "session_id": session, "mtask_id": of(&["t1", "t2"], b),
            "why": of(&["group_failed", "write_settled"], c) }),
        "idempotency_cache.check_or_record" => {
            json!({ "key": key, "body_sha256": hash, "miroir_task_id": of(&["t1", "t2", "t/3"], c) })
        }
        "idempotency_cache.release" => {
            json!({ "key": key, "miroir_task_id": of(&["t1", "t2", "t/3"], c), "why": "no node saw it" })
        }
        "jobs.enqueue" => with(
            json!({ "id": job, "type": of(&["dump_import", "reshard_backfill"], b), "params": { "n": c % 2 } }),
            "max_attempts",
            (d % 3 == 0).then_some(d / 3),
        ),
        "jobs.claim_next" => {
            with(json!({ "pod": of(&["pod-a", "pod-b"], a) }), "types", (b % 3 == 0).then(|| json!(["dump_import"])))
        }
        "jobs.heartbeat" | "jobs.complete" | "jobs.release" => {
            with(json!({ "id": job, "token": token }), "progress", progress)
        }
        "jobs.save_progress" => json!({ "id": job, "token": token, "progress": { "docs_routed": d } }),
        "jobs.fail" => with(json!({ "id": job, "token": token, "error": "disk full" }), "progress", progress),
        "jobs.requeue_expired" => with(json!({}), "limit", (b % 3 == 0).then_some(c)),
        "jobs.split" => {
            let id = claimed.unwrap_or("j1");
            let token = near(number(rows, "jobs", id, "claim_token"), b);
            let (first, chunks, last) = of(&[(0, 2, true), (0, 1, false), (1, 1, true)], c);
            json!({ "id": id, "token": token, "chunks": vec![json!({}); chunks], "first_chunk": first,
                "total_chunks": 2, "last": last })
        }
        "jobs.settle_parent" => {
            let delegated = rows.of("jobs").into_iter().find(|(_, row)| row["progress"]["delegated"] == true);
            json!({ "id": delegated.map_or("j1", |(id, _)| id) })
        }
        "jobs.purge" => {
            let args = with(json!({}), "cutoff_ms", (b % 3 > 0).then(|| after(i64::from(c) - 4)));
            with(args, "limit", (d % 3 == 0).then_some(d / 3))
        }
        "leader_lease.acquire" => {
            with(json!({ "scope": scope, "holder": holder }), "ttl_ms", (c % 3 == 0).then_some(60_000))
        }
        "leader_lease.renew" | "leader_lease.release" => json!({ "scope": scope, "holder": holder, "term": term }),
        "leader_lease.commit_phase" => {
            json!({ "scope": scope, "holder": holder, "term": term, "phase": { "name": of(&["verify", "commit"], d) } })
        }
        "leader_lease.clear" => json!({ "scope": scope }),
        "canaries.define" => with(
            with(
                json!({ "name": label, "index_uid": "i", "interval_s": i64::from(c % 2) + 1, "query_json": {},
                    "assertions_json": [] }),
                "id",
                Some(canary),
            ),
            "enabled",
            (d % 3 == 0).then_some(d % 2 == 0),
        ),
        "canaries.revise" => {
            let changes = with(json!({ "interval_s": i64::from(c % 3) + 1 }), "name", (d % 2 == 0).then_some(label));
            with(
                json!({ "id": canary, "changes": changes }),
                "expected_rev",
                (d % 3 == 0).then(|| near(rev(rows, "canaries", canary), b)),
            )
        }
        "canaries.set_enabled" => json!({ "id": canary, "enabled": b % 2 == 0 }),
        "canaries.delete" => json!({ "id": canary }),
        "canary_runs.record" => {
            let status = of(&["pass", "fail", "error"], c);
            with(
                json!({ "canary_id": canary, "ran_at": d, "status": status, "latency_ms": b }),
                "failed_assertions_json",
                (status == "fail").then(|| json!([{ "type": "min_hits" }])),
            )
        }
        "canary_runs.prune" => with(json!({ "cutoff_ms": d }), "limit", (b % 3 == 0).then_some(c)),
        "cdc_cursors.advance" => {
            let at = rows.get("cdc_cursors", &format!("{sink}/{}", escaped(index)));
            let expected = at.map(|row| near(row.columns["last_event_seq"].as_i64().unwrap(), c));
            json!({ "sink_name": sink, "index_uid": index, "expected_seq": expected, "new_seq": d })
        }
        "cdc_cursors.reset" => json!({ "sink_name": sink, "index_uid": index, "to_seq": d }),
        "cdc_cursors.drop" => {
            let args = with(json!({}), "sink_name", (c % 3 > 0).then_some(sink));
            with(args, "index_uid", (d % 3 > 0).then_some(index))
        }
        "tenant_map.map" => with(
            json!({ "api_key_hash": hash, "tenant_id": of(&["acme", "évil"], a) }),
            "group_id",
            (c % 3 > 0).then(|| c % 3 - 1),
        ),
        "tenant_map.unmap" => json!({ "api_key_hash": hash }),
        "rollover_policies.define" => {
            let (write, read) = of(&[("logs", "logs-read"), ("shop", "logs-read"), ("logs", "shop")], b);
            json!({ "name": policy, "write_alias": write, "read_alias": read, "pattern": "logs-{YYYY-MM-DD}",
                "triggers_json": { "max_docs": c + 1 }, "retention_json": { "keep_indexes": 3 },
                "template_json": { "primary_key": "id" } })
        }
        "rollover_policies.revise" => {
            let changes = match c % 3 {
                0 => json!({ "read_alias": of(&ALIASES, d) }),
                1 => json!({ "write_alias": of(&ALIASES, d) }),
                _ => json!({ "retention_json": { "keep_indexes": d + 1 } }),
            };
            json!({ "name": policy, "changes": changes })
        }
        "rollover_policies.set_enabled" => json!({ "name": policy, "enabled": b % 3 > 0 }),
        "rollover_policies.execute" => json!({ "name": policy, "trigger": "max_docs", "observed": { "docs": d },
            "new_index": uid, "read_targets": [uid, "i9"] }),
        "rollover_policies.delete" => with(json!({ "name": policy }), "drop_read_alias", (b % 3 > 0).then_some(true)),
        "search_ui_config.set" => {
            let args = json!({ "index_uid": index, "config_json": { "title": of(&["é", "b"], c), "facets": [d % 2] } });
            let rev = near(rev(rows, "search_ui_config", index), b);
            let rev = if rev == 0 { Value::Null } else { rev.into() };
            with(args, "expected_rev", (d % 3 == 0).then_some(rev))
        }
        "search_ui_config.delete" => json!({ "index_uid": index }),
        "admin_sessions.open" => json!({ "session_id": session.repeat(16), "csrf_token": "token-".repeat(8),
            "admin_key_hash": hash, "user_agent": "browser", "source_ip": "::1" }),
        "admin_sessions.revoke" => json!({ "session_id": session.repeat(16), "why": of(&["logout", "operator"], b) }),
        "admin_sessions.revoke_all" => with(
            json!({ "why": of(&["key_rotated", "operator"], a) }),
            "keep_admin_key_hash",
            (c % 2 == 0).then_some(hash),
        ),
        other => panic!("{other} has no random arguments yet: add them"),
    }
}

fn escaped(part: &str) -> String {
    part.replace('%', "%25").replace('/', "%2F")
}
