use std::io;

use serde_json::{Value, json};

use super::{
    actor::{Actor, Day},
    canaries,
    cursors::SINKS,
    indexes::PAGES,
    lifecycle,
    line::{Lease, Line},
    world::INDEXES,
};
use crate::rejection::RejectionKind::{self, AlreadyExists, Conflict, Invalid, LeaseLost, NotFound, NotPermitted};

/// How often somebody asks for what cannot be, in ms.
const MISTAKE_MS: u64 = 200_000;

/// An admin session that is not older is still there for sure.
const ADMIN_SESSION_SAFE_MS: u64 = 3_000_000;

/// People and programs that ask for what the store must refuse, one thing after another.
#[derive(Default)]
pub(super) struct Mistakes {
    made: usize,
}

/// A line that is refused with this kind; none while the world does not have what it takes.
type Mistake = (RejectionKind, fn(&mut Day<'_>) -> Option<Line>);

impl Actor for Mistakes {
    fn act(&mut self, day: &mut Day<'_>) -> io::Result<Option<u64>> {
        let (kind, make) = MISTAKES[self.made % MISTAKES.len()];
        self.made += 1;
        if let Some(line) = make(day) {
            day.misspeak(kind, &line)?;
        }
        let interval = day.pace(MISTAKE_MS);
        Ok(Some(day.dice.about(interval)))
    }
}

fn one(command: &'static str, args: Value) -> Option<Line> {
    Some(Line::one(command, args))
}

const MISTAKES: [Mistake; 33] = [
    // tasks
    (AlreadyExists, |day| {
        let id = day.world.succeeded.back()?;
        one("tasks.register", json!({"miroir_id": id, "node_tasks": {"meili-0": 1}, "index_uid": "elsewhere"}))
    }),
    (NotFound, |day| {
        let reports = json!([{"node_id": "meili-0", "status": "succeeded"}]);
        one("tasks.report_node_statuses", json!({"miroir_id": unknown_task(day), "reports": reports}))
    }),
    (NotFound, |day| {
        let id = day.world.succeeded.back()?;
        let reports = json!([{"node_id": "meili-9", "status": "succeeded"}]);
        one("tasks.report_node_statuses", json!({"miroir_id": id, "reports": reports}))
    }),
    (Invalid, |day| {
        let id = day.world.succeeded.back()?;
        one("tasks.set_status", json!({"miroir_id": id, "status": "processing"}))
    }),
    (Invalid, |day| {
        let id = day.world.succeeded.back()?;
        one("tasks.cancel", json!({"miroir_id": id}))
    }),
    // node_settings_version
    (NotPermitted, |day| {
        let args =
            json!({"index_uid": "users", "version": 99, "node_ids": ["meili-0"], "fingerprint": day.dice.hex(64)});
        one("node_settings_version.commit", args)
    }),
    (NotFound, |_| {
        let args = json!({"index_uid": "drafts", "node_id": "meili-0", "version": 1, "cause": "drift_repair"});
        one("node_settings_version.advance", args)
    }),
    (Invalid, |day| {
        let (index, version) = day.world.settings.first_key_value()?;
        let args = json!({"index_uid": index, "node_id": "meili-0", "version": version + 5, "cause": "late_join"});
        one("node_settings_version.advance", args)
    }),
    // aliases
    (AlreadyExists, |_| one("aliases.create", json!({"name": "shop", "target": "garden", "target_verified": true}))),
    (Invalid, |_| one("aliases.create", json!({"name": "garden", "target": "plants"}))),
    (Conflict, |day| {
        let version = day.world.aliases.get("shop")?;
        let args =
            json!({"name": "shop", "expected_version": version + 7, "target": "plants", "target_verified": true});
        one("aliases.flip", args)
    }),
    (NotPermitted, |_| {
        let args = json!({"name": "logs-read", "expected_version": 1, "target": "plants", "target_verified": true});
        Some(Line::one("aliases.flip", args).by("bob"))
    }),
    (NotFound, |_| one("aliases.delete", json!({"name": "garden"}))),
    // sessions
    (NotFound, |day| one("sessions.touch", json!({"session_id": day.dice.hex(16)}))),
    // idempotency_cache
    (Conflict, |day| {
        let key = day.world.keys.back()?.key.clone();
        one("idempotency_cache.release", json!({"key": key, "miroir_task_id": unknown_task(day), "why": "wrong task"}))
    }),
    (Conflict, |day| {
        let key = day.world.keys.back()?.key.clone();
        let args = json!({"key": key, "body_sha256": day.dice.hex(64), "miroir_task_id": unknown_task(day)});
        one("idempotency_cache.check_or_record", args)
    }),
    // jobs
    (LeaseLost, |day| {
        let (id, token) = day.world.lost_claim.clone()?;
        one("jobs.complete", json!({"id": id, "token": token}))
    }),
    (NotFound, |day| one("jobs.heartbeat", json!({"id": format!("job-{}", day.dice.hex(8)), "token": 1}))),
    // leader_lease
    (LeaseLost, |_| one("leader_lease.renew", json!({"scope": "ilm", "holder": "pod-9", "term": 1}))),
    (NotFound, |_| one("leader_lease.clear", json!({"scope": "rebalance"}))),
    (LeaseLost, |day| {
        let lease = Lease { scope: "rebalance".into(), holder: String::new(), term: day.world.ilm_term };
        Some(Line::one("tasks.prune", json!({})).under(&lease))
    }),
    // canaries and their runs
    (AlreadyExists, |day| {
        let id = day.dice.uuid();
        Some(canaries::define(day, 0, &id))
    }),
    (NotFound, |day| one("canaries.set_enabled", json!({"id": day.dice.uuid(), "enabled": false}))),
    (NotFound, |day| {
        let args = json!({"canary_id": day.dice.uuid(), "ran_at": 1_000, "status": "pass", "latency_ms": 9});
        one("canary_runs.record", args)
    }),
    // cdc_cursors
    (Conflict, |day| {
        let (sink, index) = (SINKS[1], INDEXES[0]);
        let stored = *day.world.cursors.get(&(sink, index))?;
        let args = json!({"sink_name": sink, "index_uid": index, "expected_seq": null, "new_seq": stored + 1});
        one("cdc_cursors.advance", args)
    }),
    (NotFound, |_| one("cdc_cursors.reset", json!({"sink_name": "fax", "index_uid": "users", "to_seq": 0}))),
    // tenant_map
    (NotFound, |day| one("tenant_map.unmap", json!({"api_key_hash": day.dice.hex(64)}))),
    // rollover_policies
    (AlreadyExists, |_| {
        let mut line = lifecycle::arguments("copy");
        line["write_alias"] = "logs-write".into();
        one("rollover_policies.define", line)
    }),
    (Invalid, |_| one("rollover_policies.delete", json!({"name": "logs"}))),
    // search_ui_config
    (Conflict, |_| {
        let args = json!({"index_uid": PAGES[0], "config_json": {"title": "Mine"}, "expected_rev": 1});
        one("search_ui_config.set", args)
    }),
    (NotFound, |_| one("search_ui_config.delete", json!({"index_uid": "drafts"}))),
    // admin_sessions
    (NotFound, |day| one("admin_sessions.revoke", json!({"session_id": day.dice.hex(32), "why": "logout"}))),
    (AlreadyExists, |day| {
        let opened = day.world.admin_session.take();
        let (_, mut args) = opened.filter(|(at, _)| day.now - at < ADMIN_SESSION_SAFE_MS)?;
        args["csrf_token"] = day.dice.hex(16).into();
        one("admin_sessions.open", args)
    }),
];

fn unknown_task(day: &mut Day<'_>) -> String {
    format!("mtask-{}", day.dice.hex(10))
}
