//! The numbered invariants of the tables, each a check over the rows and the whole history of a store.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::store::{Event, KEYS_MAX, RUNS_MAX, Rows, SESSIONS_MAX, Store};

pub struct World<'a> {
    pub store: &'a Store,
    pub rows: Rows,
    pub events: Vec<Event>,
}

const DAY_MS: i64 = 86_400_000;
const SESSION_TTL_MS: i64 = 900_000;

impl<'a> World<'a> {
    pub fn of(store: &'a Store) -> Self {
        Self { store, rows: store.rows(), events: store.events() }
    }

    fn table(&self, table: &str) -> impl Iterator<Item = &Event> {
        self.events.iter().filter(move |event| event.table == table)
    }

    /// The events of a table, by row.
    fn chains(&self, table: &str) -> BTreeMap<&str, Vec<&Event>> {
        let mut chains = BTreeMap::<&str, Vec<&Event>>::new();
        self.table(table).for_each(|event| chains.entry(&event.key).or_default().push(event));
        chains
    }

    /// The newest event of a row that has this name.
    fn last(&self, table: &str, key: &str, name: &str) -> Option<&Event> {
        self.events.iter().rev().find(|event| event.table == table && event.key == key && event.name == name)
    }

    /// The events of a row since this one of its names, that one included.
    fn since(&self, table: &str, key: &str, names: &[&str]) -> Vec<&Event> {
        let chain: Vec<_> = self.table(table).filter(|event| event.key == key).collect();
        let born = chain.iter().rposition(|event| names.contains(&&*event.name)).expect("a row has a creation");
        chain[born..].to_vec()
    }

    fn ask(&self, name: &str, args: Value) -> Value {
        self.store.ask(name, &args.to_string()).unwrap()
    }
}

fn int(value: &Value) -> i64 {
    value.as_i64().unwrap_or_else(|| panic!("{value} is no integer"))
}

fn terminal(status: &Value) -> bool {
    ["succeeded", "failed", "canceled", "completed"].contains(&status.as_str().unwrap())
}

pub const ALL: &[fn(&World<'_>)] = &[
    ta1_a_terminal_status_is_final,
    ta2_succeeded_implies_that_every_node_succeeded_or_that_it_was_set_directly,
    ta3_an_error_is_set_only_with_failed_or_canceled,
    ta4_rows_are_registered_minus_pruned,
    ta5_a_list_is_the_sorted_filtered_set_of_gets,
    ta7_prune_never_removes_an_unfinished_row_nor_one_at_or_after_the_cutoff,
    ta8_states_and_errors_are_of_nodes_with_a_task,
    ns1_a_pairs_version_never_falls_while_its_row_lives,
    ns2_no_pair_is_above_the_last_committed_version,
    ns3_committed_versions_have_no_gaps,
    ns4_one_commit_moves_all_its_nodes,
    al1_exactly_one_target_column_is_set_and_matches_the_kind,
    al2_version_is_the_first_version_plus_the_number_of_changes,
    al3_history_versions_strictly_increase_up_to_version_minus_one,
    al4_history_is_no_longer_than_the_retention_of_the_last_change,
    al6_no_two_changes_leave_the_same_version,
    se1_a_pin_implies_a_last_write,
    se2_live_rows_are_within_the_bound_after_every_creation,
    se3_and_se6_floor_and_ttl_never_fall_within_one_life,
    se4_and_id3_dead_rows_are_invisible,
    se5_a_session_is_given_at_least_its_ttl,
    id1_per_key_and_life_there_is_one_task,
    id5_the_end_of_a_record_is_set_once,
    id_live_records_are_within_the_bound_after_every_creation,
    jo1_claim_columns_go_together_and_only_with_in_progress,
    jo2_there_is_at_most_one_live_claim_per_job,
    jo3_no_token_is_issued_twice,
    jo4_completed_and_failed_are_final,
    jo5_the_depths_are_the_queued_rows,
    jo6_progress_is_an_object,
    jo7_a_completed_parent_has_only_completed_children,
    jo8_no_job_is_lost,
    jo9_attempt_is_the_number_of_claims,
    le1_and_le4_a_grant_over_a_live_lease_goes_to_its_own_holder,
    le2_terms_strictly_increase,
    le3_only_holder_and_term_extend_or_end_a_lease,
    le5_an_expired_lease_is_never_answered_as_live,
    le6_a_phase_is_lost_only_by_release_or_clear,
    ca1_names_are_unique,
    ca2_no_run_is_left_without_its_canary,
    ca3_created_at_is_constant,
    ca4_a_canary_defined_again_starts_with_no_runs,
    cr1_and_cr2_runs_are_the_newest_since_the_definition,
    cr4_pass_implies_null_and_fail_a_non_empty_array,
    cc1_and_cc4_a_cursor_strictly_increases_from_where_it_was,
    cc3_absent_differs_from_zero,
    tm1_and_tm2_a_key_has_the_tenant_and_group_it_was_given_last,
    rp1_no_two_policies_share_an_alias,
    rp2_every_multi_alias_belongs_to_a_living_policy,
    rp3_a_rollover_is_whole,
    rp4_a_rollover_leaves_its_policy_as_it_was_but_for_the_last_rollover,
    su1_the_stored_text_is_an_object,
    su3_updated_at_is_the_instant_of_the_last_change_of_content,
    as1_and_as2_revoked_is_final_and_expires_at_constant,
    as3_a_revoked_session_is_not_valid,
    as4_every_session_that_was_opened_and_has_not_died_is_there,
    instants_of_events_never_decrease_and_positions_are_dense,
];

fn instants_of_events_never_decrease_and_positions_are_dense(world: &World<'_>) {
    assert!(world.events.is_sorted_by_key(|event| event.at));
    assert!(world.events.iter().zip(1..).all(|(event, position)| event.position == position));
}

fn ta1_a_terminal_status_is_final(world: &World<'_>) {
    for (key, chain) in world.chains("tasks") {
        let mut ended = false;
        for event in chain {
            match &*event.name {
                "task_pruned" | "task_registered" => ended = false,
                "task_imported" => ended = terminal(&event.payload["status"]),
                "task_status_changed" => {
                    assert!(!ended, "{key}: {event:?}");
                    ended = terminal(&event.payload["to"]);
                }
                _ => {}
            }
        }
        if let Some(row) = world.rows.of("tasks").get(key) {
            assert_eq!(terminal(&row["status"]), ended, "{key}");
            assert_eq!(row["finished_at"].is_null(), !ended, "{key}");
        }
    }
}

fn ta2_succeeded_implies_that_every_node_succeeded_or_that_it_was_set_directly(world: &World<'_>) {
    for (key, row) in world.rows.of("tasks") {
        let last = world.last("tasks", key, "task_status_changed");
        let by_nodes = last.is_some_and(|event| event.payload["deciding_nodes"] != json!([]));
        let imported = world.since("tasks", key, &["task_registered", "task_imported"])[0].name == "task_imported";
        if row["status"] != "succeeded" || imported || !by_nodes {
            continue;
        }
        let nodes = row["node_tasks"].as_object().unwrap();
        assert!(!nodes.is_empty(), "{key}");
        assert!(nodes.keys().all(|node| row["node_states"][node] == "succeeded"), "{key}: {row}");
    }
}

fn ta3_an_error_is_set_only_with_failed_or_canceled(world: &World<'_>) {
    for (key, row) in world.rows.of("tasks") {
        let may = row["status"] == "failed" || row["status"] == "canceled";
        assert!(row["error"].is_null() || may, "{key}: {row}");
    }
}

fn ta4_rows_are_registered_minus_pruned(world: &World<'_>) {
    let mut expected = BTreeSet::new();
    for event in world.table("tasks") {
        match &*event.name {
            "task_registered" | "task_imported" => assert!(expected.insert(&*event.key), "{event:?}"),
            "task_pruned" => assert!(expected.remove(&*event.key), "{event:?}"),
            _ => {}
        }
    }
    let found: BTreeSet<_> = world.rows.of("tasks").into_keys().collect();
    assert_eq!(found, expected);
    assert_eq!(world.ask("tasks.count", json!({})), json!(expected.len()));
}

fn ta5_a_list_is_the_sorted_filtered_set_of_gets(world: &World<'_>) {
    let rows = world.rows.of("tasks");
    let mut sorted: Vec<Value> = rows.keys().map(|key| world.ask("tasks.get", json!({ "miroir_id": key }))).collect();
    sorted.sort_by_key(|row| (int(&row["created_at"]), row["miroir_id"].as_str().unwrap().to_owned()));
    sorted.reverse();
    let list = |args: Value| world.ask("tasks.list", args).as_array().unwrap().clone();
    assert_eq!(list(json!({})), sorted);
    assert_eq!(list(json!({ "limit": 0 })), Vec::<Value>::new());
    assert_eq!(list(json!({ "limit": 1, "offset": 1 })), sorted.iter().skip(1).take(1).cloned().collect::<Vec<_>>());
    assert_eq!(list(json!({ "offset": 9 })), Vec::<Value>::new());
    for status in ["enqueued", "processing", "succeeded", "failed", "canceled"] {
        let filtered: Vec<_> = sorted.iter().filter(|row| row["status"] == status).cloned().collect();
        assert_eq!(list(json!({ "status": status })), filtered);
    }
    let on_node: Vec<_> = sorted.iter().filter(|row| row["node_tasks"].get("meili-1").is_some()).cloned().collect();
    assert_eq!(list(json!({ "node_id": "meili-1" })), on_node);
}

fn ta7_prune_never_removes_an_unfinished_row_nor_one_at_or_after_the_cutoff(world: &World<'_>) {
    for event in world.table("tasks").filter(|event| event.name == "task_pruned") {
        assert!(terminal(&event.payload["status"]), "{event:?}");
        assert!(int(&event.payload["created_at"]) < int(&event.payload["cutoff_ms"]), "{event:?}");
    }
}

fn ta8_states_and_errors_are_of_nodes_with_a_task(world: &World<'_>) {
    for (key, row) in world.rows.of("tasks") {
        for column in ["node_states", "node_errors"] {
            let mut nodes = row[column].as_object().unwrap().keys();
            assert!(nodes.all(|node| row["node_tasks"].get(node).is_some()), "{key}: {row}");
        }
    }
}

fn ns1_a_pairs_version_never_falls_while_its_row_lives(world: &World<'_>) {
    for (key, chain) in world.chains("node_settings_version") {
        let mut version = 0;
        for event in chain {
            if event.name == "node_settings_forgotten" {
                version = 0;
                continue;
            }
            assert!(int(&event.payload["version"]) > version, "{key}: {event:?}");
            version = int(&event.payload["version"]);
        }
    }
}

fn ns2_no_pair_is_above_the_last_committed_version(world: &World<'_>) {
    for (key, row) in world.rows.of("node_settings_version") {
        let index = row["index_uid"].as_str().unwrap();
        let committed = world.ask("node_settings_version.committed", json!({ "index_uid": index }));
        assert!(int(&row["version"]) <= int(&committed["version"]), "{key}: {row} above {committed}");
    }
}

fn ns3_committed_versions_have_no_gaps(world: &World<'_>) {
    for (key, chain) in world.chains("node_settings_version") {
        let committed: Vec<_> = chain.iter().filter(|event| event.name == "settings_committed").collect();
        assert!(committed.iter().zip(1..).all(|(event, version)| event.payload["version"] == version), "{key}");
        assert!(committed.iter().zip(0..).all(|(event, from)| event.payload["from_version"] == from), "{key}");
    }
}

fn ns4_one_commit_moves_all_its_nodes(world: &World<'_>) {
    for head in world.table("node_settings_version").filter(|event| event.name == "settings_committed") {
        let index = head.key.strip_suffix("_cluster").unwrap();
        let moved = world.events.iter().filter(|event| {
            event.commit == head.commit
                && event.name == "node_settings_verified"
                && event.key.starts_with(index)
                && event.payload["cause"] == "commit"
                && event.payload["version"] == head.payload["version"]
        });
        assert_eq!(json!(moved.count()), head.payload["node_count"], "{head:?}");
    }
}

fn al1_exactly_one_target_column_is_set_and_matches_the_kind(world: &World<'_>) {
    for (key, row) in world.rows.of("aliases") {
        let single = row["kind"] == "single";
        assert_eq!(row["current_uid"].is_null(), !single, "{key}");
        assert_eq!(row["target_uids"].is_null(), single, "{key}");
        assert_eq!(row["managed_by"].is_null(), single, "{key}");
    }
}

const ALIAS_CHANGES: [&str; 2] = ["alias_flipped", "alias_targets_changed"];

fn al2_version_is_the_first_version_plus_the_number_of_changes(world: &World<'_>) {
    for (key, row) in world.rows.of("aliases") {
        let life = world.since("aliases", key, &["alias_created"]);
        let first = int(&life[0].payload["version"]);
        let changes = life.iter().filter(|event| ALIAS_CHANGES.contains(&&*event.name)).count();
        assert_eq!(int(&row["version"]), first + changes as i64, "{key}");
    }
    for (key, chain) in world.chains("aliases") {
        // A name that is used again goes on counting, so that an old expected_version can never match.
        let mut next = 1;
        for event in chain {
            match &*event.name {
                "alias_created" => assert_eq!(event.payload["version"], next, "{key}"),
                "alias_deleted" => next = int(&event.payload["last_version"]) + 1,
                _ => {}
            }
        }
    }
}

fn al3_history_versions_strictly_increase_up_to_version_minus_one(world: &World<'_>) {
    for (key, row) in world.rows.of("aliases") {
        let versions: Vec<i64> =
            row["history"].as_array().unwrap().iter().map(|state| int(&state["version"])).collect();
        let newest = int(&row["version"]) - 1;
        let expected: Vec<i64> = (newest + 1 - versions.len() as i64..=newest).collect();
        assert_eq!(versions, expected, "{key}");
    }
}

fn al4_history_is_no_longer_than_the_retention_of_the_last_change(world: &World<'_>) {
    for (key, row) in world.rows.of("aliases") {
        let length = row["history"].as_array().unwrap().len() as i64;
        let life = world.since("aliases", key, &["alias_created"]);
        let changes: Vec<_> = life.iter().filter(|event| ALIAS_CHANGES.contains(&&*event.name)).collect();
        let retention = changes.last().map_or(0, |event| int(&event.payload["history_retention"]));
        assert_eq!(length, retention.min(changes.len() as i64), "{key}");
    }
}

fn al6_no_two_changes_leave_the_same_version(world: &World<'_>) {
    for (key, chain) in world.chains("aliases") {
        let left: Vec<_> = chain
            .iter()
            .filter(|event| ALIAS_CHANGES.contains(&&*event.name))
            .map(|event| int(&event.payload["from_version"]))
            .collect();
        assert!(left.windows(2).all(|pair| pair[0] < pair[1]), "{key}: {left:?}");
    }
}

fn se1_a_pin_implies_a_last_write(world: &World<'_>) {
    for (key, row) in world.rows.of("sessions") {
        assert!(row["pinned_group"].is_null() || !row["last_write_mtask_id"].is_null(), "{key}: {row}");
        assert_eq!(row["last_write_mtask_id"].is_null(), row["last_write_at"].is_null(), "{key}: {row}");
    }
}

/// Checks a table whose rows die by time against its bound, and every eviction against the order of death.
fn within_bound(world: &World<'_>, table: &str, bound: usize, column: &str, creations: &[&str], evicted: &str) {
    let mut ends = BTreeMap::<&str, i64>::new();
    for (at, event) in world.events.iter().enumerate() {
        if event.table != table {
            continue;
        }
        ends.retain(|_, end| event.at < *end);
        if event.name == evicted {
            let end = ends.remove(&*event.key).expect("dead rows are no victims");
            let first = ends.iter().map(|(key, end)| (*end, *key)).min();
            assert!(first.is_none_or(|first| (end, &*event.key) < first), "not the first to die: {event:?}");
        } else if let Some(end) = event.payload.get(column) {
            ends.insert(&event.key, int(end));
            let ends_commit = world.events.get(at + 1).is_none_or(|next| next.commit != event.commit);
            assert!(!creations.contains(&&*event.name) || !ends_commit || ends.len() <= bound, "{event:?}: {ends:?}");
        } else if event.name.ends_with("closed") || event.name.ends_with("released") {
            ends.remove(&*event.key);
        }
    }
}

fn se2_live_rows_are_within_the_bound_after_every_creation(world: &World<'_>) {
    let creations = ["session_write_recorded", "session_settings_floor_raised"];
    within_bound(world, "sessions", SESSIONS_MAX as usize, "ttl", &creations, "session_evicted");
}

fn id_live_records_are_within_the_bound_after_every_creation(world: &World<'_>) {
    let (table, creations) = ("idempotency_cache", ["idempotency_key_recorded"]);
    within_bound(world, table, KEYS_MAX as usize, "expires_at", &creations, "idempotency_key_evicted");
}

fn se3_and_se6_floor_and_ttl_never_fall_within_one_life(world: &World<'_>) {
    for (key, chain) in world.chains("sessions") {
        let mut life: Option<(i64, i64)> = None;
        for event in chain {
            life = life.filter(|(ttl, _)| event.at < *ttl);
            let payload = &event.payload;
            if let Some(new) = payload.get("new_life") {
                assert_eq!(*new, life.is_none(), "{key}: {event:?}");
            }
            let (ttl, floor) = life.unwrap_or((0, 0));
            let next = match &*event.name {
                "session_write_recorded" => (int(&payload["ttl"]), int(&payload["min_settings_version"])),
                "session_settings_floor_raised" => (int(&payload["ttl"]), int(&payload["to"])),
                "session_touched" => (int(&payload["ttl"]), floor),
                "session_pin_cleared" => (ttl, floor),
                _ => {
                    life = None;
                    continue;
                }
            };
            assert!(next.0 >= ttl && next.1 >= floor, "{key}: {event:?} after {life:?}");
            life = Some(next);
        }
        let row = world.rows.of("sessions").get(key).map(|row| (int(&row["ttl"]), int(&row["min_settings_version"])));
        assert_eq!(life.filter(|(ttl, _)| world.rows.now < *ttl), row, "{key}");
    }
}

fn se4_and_id3_dead_rows_are_invisible(world: &World<'_>) {
    for (table, key) in [("sessions", "session_id"), ("idempotency_cache", "key")] {
        let live = world.rows.of(table);
        assert_eq!(world.ask(&format!("{table}.count"), json!({})), json!(live.len()));
        for name in world.chains(table).keys() {
            let found = world.ask(&format!("{table}.get"), json!({ key: name }));
            assert_eq!(found.is_null(), !live.contains_key(name), "{table}/{name}");
        }
    }
    assert_eq!(world.ask("admin_sessions.count", json!({})), json!(world.rows.of("admin_sessions").len()));
}

fn se5_a_session_is_given_at_least_its_ttl(world: &World<'_>) {
    for event in world.table("sessions").filter(|event| event.name != "session_evicted") {
        let Some(ttl) = event.payload.get("ttl") else { continue };
        let left = int(ttl) - event.at;
        assert!((SESSION_TTL_MS..=SESSION_TTL_MS * 4 / 3 + 1_000).contains(&left), "{event:?}");
    }
}

fn id1_per_key_and_life_there_is_one_task(world: &World<'_>) {
    for (key, chain) in world.chains("idempotency_cache") {
        let mut end = 0;
        for event in chain {
            if event.name == "idempotency_key_recorded" {
                assert!(event.at >= end, "{key}: recorded over a live row: {event:?}");
                end = int(&event.payload["expires_at"]);
            } else {
                end = 0;
            }
        }
    }
}

fn id5_the_end_of_a_record_is_set_once(world: &World<'_>) {
    for (key, row) in world.rows.of("idempotency_cache") {
        let recorded = world.last("idempotency_cache", key, "idempotency_key_recorded").unwrap();
        assert_eq!(int(&row["expires_at"]), recorded.at + DAY_MS, "{key}");
        assert_eq!(row["miroir_task_id"], recorded.payload["miroir_task_id"], "{key}");
    }
}

fn jo1_claim_columns_go_together_and_only_with_in_progress(world: &World<'_>) {
    for (key, row) in world.rows.of("jobs") {
        assert_eq!(row["claimed_by"].is_null(), row["claim_expires_at"].is_null(), "{key}: {row}");
        let claimed = !row["claimed_by"].is_null();
        let delegated = row["progress"]["delegated"] == true;
        assert_eq!(row["state"] == "in_progress", claimed || (delegated && !terminal_job(row)), "{key}: {row}");
        assert_eq!(row["finished_at"].is_null(), !terminal_job(row), "{key}: {row}");
        assert!(row["error"].is_null() || row["state"] == "failed", "{key}: {row}");
    }
}

fn terminal_job(row: &Value) -> bool {
    row["state"] == "completed" || row["state"] == "failed"
}

fn jo2_there_is_at_most_one_live_claim_per_job(world: &World<'_>) {
    for (key, chain) in world.chains("jobs") {
        let mut end = None;
        for event in chain {
            match &*event.name {
                "job_claimed" => {
                    assert_eq!(end, None, "{key}: claimed while claimed: {event:?}");
                    end = Some(int(&event.payload["claim_expires_at"]));
                }
                "job_claim_extended" => {
                    assert!(end.is_some_and(|end| event.at < end), "{key}: a dead claim was extended: {event:?}");
                    end = Some(int(&event.payload["claim_expires_at"]));
                }
                "job_claim_expired" => {
                    assert!(end.is_some_and(|end| event.at >= end), "{key}: a live claim expired: {event:?}");
                    end = None;
                }
                "job_split" if event.payload["delegated"] == false => {}
                "job_progress_saved" => assert!(end.is_some_and(|end| event.at < end), "{key}: {event:?}"),
                _ => end = None,
            }
        }
    }
}

fn jo3_no_token_is_issued_twice(world: &World<'_>) {
    let mut tokens = BTreeSet::new();
    for (key, row) in world.rows.of("jobs") {
        let life = world.since("jobs", key, &["job_enqueued"]);
        let claimed = life.iter().rev().find(|event| event.name == "job_claimed");
        assert_eq!(row["claim_token"].as_i64(), claimed.map(|event| event.position), "{key}");
        assert_eq!(int(&row["enqueued_at_position"]), life[0].position, "{key}");
        assert!(row["claim_token"].is_null() || tokens.insert(int(&row["claim_token"])), "{key}");
    }
}

fn jo4_completed_and_failed_are_final(world: &World<'_>) {
    for (key, chain) in world.chains("jobs") {
        for pair in chain.windows(2) {
            let ended = ["job_completed", "job_failed"].contains(&&*pair[0].name);
            assert!(!ended || pair[1].name == "job_purged", "{key}: {:?}", pair[1]);
        }
    }
}

fn jo5_the_depths_are_the_queued_rows(world: &World<'_>) {
    let mut depths = BTreeMap::<&str, u64>::new();
    for row in world.rows.of("jobs").into_values().filter(|row| row["state"] == "queued") {
        *depths.entry(row["type"].as_str().unwrap()).or_default() += 1;
    }
    assert_eq!(world.ask("jobs.depth", json!({})), json!(depths));
}

fn jo6_progress_is_an_object(world: &World<'_>) {
    assert!(world.rows.of("jobs").values().all(|row| row["progress"].is_object() && row["params"].is_object()));
}

fn jo7_a_completed_parent_has_only_completed_children(world: &World<'_>) {
    let jobs = world.rows.of("jobs");
    for (key, child) in &jobs {
        let parent = child["parent_id"].as_str().and_then(|parent| jobs.get(parent));
        let delegated =
            parent.is_some_and(|parent| parent["state"] == "completed" && parent["progress"]["delegated"] == true);
        assert!(!delegated || child["state"] == "completed", "{key}: {child}");
    }
}

fn jo8_no_job_is_lost(world: &World<'_>) {
    let mut expected = BTreeSet::new();
    for event in world.table("jobs") {
        match &*event.name {
            "job_enqueued" => assert!(expected.insert(&*event.key), "{event:?}"),
            "job_purged" => assert!(expected.remove(&*event.key), "{event:?}"),
            _ => {}
        }
    }
    assert_eq!(world.rows.of("jobs").into_keys().collect::<BTreeSet<_>>(), expected);
}

fn jo9_attempt_is_the_number_of_claims(world: &World<'_>) {
    for (key, row) in world.rows.of("jobs") {
        let life = world.since("jobs", key, &["job_enqueued"]);
        let claims = life.iter().filter(|event| event.name == "job_claimed").count() as i64;
        assert_eq!(int(&row["attempt"]), claims, "{key}");
        assert!(row["max_attempts"].as_i64().is_none_or(|most| claims <= most.max(1)), "{key}: {row}");
    }
}

fn le1_and_le4_a_grant_over_a_live_lease_goes_to_its_own_holder(world: &World<'_>) {
    for (scope, chain) in world.chains("leader_lease") {
        let mut held: Option<(&Value, i64)> = None;
        for event in chain {
            match &*event.name {
                "lease_acquired" => {
                    let holder = &event.payload["holder"];
                    if let Some((other, end)) = held.filter(|(other, _)| *other != holder) {
                        assert!(event.at >= end, "{scope}: {event:?} over the live lease of {other}");
                    }
                    held = Some((holder, int(&event.payload["expires_at"])));
                }
                "lease_renewed" => {
                    let (holder, end) = held.expect("a renewal needs a lease");
                    assert!(event.at < end, "{scope}: an expired lease was renewed: {event:?}");
                    held = Some((holder, int(&event.payload["expires_at"])));
                }
                "lease_cleared" => {
                    assert!(held.is_some_and(|(_, end)| event.at >= end), "{scope}: {event:?}");
                    held = None;
                }
                "lease_released" => held = None,
                _ => {}
            }
        }
    }
}

fn le2_terms_strictly_increase(world: &World<'_>) {
    for (scope, row) in world.rows.of("leader_lease") {
        let granted = world.last("leader_lease", scope, "lease_acquired").unwrap();
        assert_eq!(int(&row["term"]), granted.position, "{scope}");
        assert_eq!(int(&row["acquired_at"]), granted.at, "{scope}");
    }
}

fn le3_only_holder_and_term_extend_or_end_a_lease(world: &World<'_>) {
    for (scope, chain) in world.chains("leader_lease") {
        let mut grant: Option<&Event> = None;
        for event in chain {
            if event.name == "lease_acquired" {
                grant = Some(event);
                continue;
            }
            let granted = grant.expect("no lease, no event");
            assert_eq!(int(&event.payload["term"]), granted.position, "{scope}: {event:?}");
            let holder = event.payload.get("holder");
            assert!(holder.is_none_or(|holder| *holder == granted.payload["holder"]), "{scope}: {event:?}");
        }
    }
}

fn le5_an_expired_lease_is_never_answered_as_live(world: &World<'_>) {
    let now = world.rows.now;
    let scopes = |rows: Value| -> BTreeSet<String> {
        rows.as_array().unwrap().iter().map(|row| row["scope"].as_str().unwrap().to_owned()).collect()
    };
    let (mut live, mut abandoned) = (BTreeSet::new(), BTreeSet::new());
    for (scope, row) in world.rows.of("leader_lease") {
        let lives = now < int(&row["expires_at"]);
        assert_eq!(world.ask("leader_lease.get", json!({ "scope": scope })).is_null(), !lives, "{scope}");
        assert_eq!(world.ask("leader_lease.phase", json!({ "scope": scope }))["live"], lives, "{scope}");
        if lives {
            live.insert(scope.to_owned());
        } else if !row["phase"].is_null() {
            abandoned.insert(scope.to_owned());
        }
    }
    assert_eq!(scopes(world.ask("leader_lease.list", json!({}))), live);
    assert_eq!(scopes(world.ask("leader_lease.abandoned", json!({}))), abandoned);
}

fn le6_a_phase_is_lost_only_by_release_or_clear(world: &World<'_>) {
    for (scope, row) in world.rows.of("leader_lease") {
        let mut phase = Value::Null;
        for event in world.table("leader_lease").filter(|event| event.key == scope) {
            match &*event.name {
                "lease_phase_committed" => phase = event.payload["phase"].clone(),
                "lease_released" | "lease_cleared" => phase = Value::Null,
                _ => {}
            }
        }
        assert_eq!(row["phase"], phase, "{scope}");
    }
}

fn ca1_names_are_unique(world: &World<'_>) {
    let rows = world.rows.of("canaries");
    let names: BTreeSet<_> = rows.values().map(|row| row["name"].as_str().unwrap()).collect();
    assert_eq!(names.len(), rows.len());
    for (id, row) in rows {
        assert_eq!(world.ask("canaries.by_name", json!({ "name": row["name"] }))["id"], id);
    }
}

fn ca2_no_run_is_left_without_its_canary(world: &World<'_>) {
    let canaries = world.rows.of("canaries");
    for (key, run) in world.rows.of("canary_runs") {
        assert!(canaries.contains_key(run["canary_id"].as_str().unwrap()), "{key}");
    }
}

fn ca3_created_at_is_constant(world: &World<'_>) {
    for (id, row) in world.rows.of("canaries") {
        let defined = world.since("canaries", id, &["canary_defined"])[0];
        assert_eq!(int(&row["created_at"]), defined.at, "{id}");
    }
}

fn ca4_a_canary_defined_again_starts_with_no_runs(world: &World<'_>) {
    for (key, run) in world.rows.of("canary_runs") {
        let defined = world.since("canaries", run["canary_id"].as_str().unwrap(), &["canary_defined"])[0].position;
        let recorded = world.last("canary_runs", key, "canary_run_recorded").unwrap().position;
        assert!(recorded > defined, "{key}");
    }
}

fn cr1_and_cr2_runs_are_the_newest_since_the_definition(world: &World<'_>) {
    for id in world.rows.of("canaries").into_keys() {
        let defined = world.since("canaries", id, &["canary_defined"])[0].position;
        let mine = |event: &&Event| event.position > defined && event.key.starts_with(&format!("{id}/"));
        let ran_at = |key: &str| key.rsplit('/').next().unwrap().parse::<i64>().unwrap();
        let mut expected = BTreeSet::new();
        let mut pruned = false;
        for event in world.table("canary_runs").filter(mine) {
            match &*event.name {
                "canary_run_recorded" => drop(expected.insert(ran_at(&event.key))),
                _ if event.payload["why"] == "age" => {
                    pruned = true;
                    expected.remove(&ran_at(&event.key));
                }
                _ => {}
            }
            while expected.len() > RUNS_MAX as usize {
                expected.pop_first();
            }
        }
        let runs: BTreeSet<i64> = world
            .rows
            .of("canary_runs")
            .into_keys()
            .filter(|key| key.starts_with(&format!("{id}/")))
            .map(ran_at)
            .collect();
        assert_eq!(runs, expected, "{id}, pruned: {pruned}");
        let list = world.ask("canary_runs.list", json!({ "canary_id": id }));
        let list: Vec<i64> = list.as_array().unwrap().iter().map(|run| int(&run["ran_at"])).collect();
        assert_eq!(list, expected.into_iter().rev().collect::<Vec<_>>(), "{id}");
    }
}

fn cr4_pass_implies_null_and_fail_a_non_empty_array(world: &World<'_>) {
    for (key, run) in world.rows.of("canary_runs") {
        let failed = &run["failed_assertions_json"];
        match run["status"].as_str().unwrap() {
            "pass" => assert!(failed.is_null(), "{key}"),
            "fail" => assert!(failed.as_array().is_some_and(|failed| !failed.is_empty()), "{key}"),
            _ => {}
        }
    }
}

fn cc1_and_cc4_a_cursor_strictly_increases_from_where_it_was(world: &World<'_>) {
    for (key, chain) in world.chains("cdc_cursors") {
        let mut at: Option<i64> = None;
        for event in chain {
            let payload = &event.payload;
            match &*event.name {
                "cdc_cursor_advanced" => {
                    assert_eq!(payload.get("from_seq").map(int), at, "{key}: {event:?}");
                    assert!(at.is_none_or(|at| int(&payload["to_seq"]) > at), "{key}: {event:?}");
                    at = Some(int(&payload["to_seq"]));
                }
                "cdc_cursor_reset" => {
                    assert_eq!(payload.get("from_seq").map(int), at, "{key}: {event:?}");
                    at = Some(int(&payload["to_seq"]));
                }
                _ => {
                    assert_eq!(Some(int(&payload["last_event_seq"])), at, "{key}: {event:?}");
                    at = None;
                }
            }
        }
        let row = world.rows.of("cdc_cursors").get(key).map(|row| int(&row["last_event_seq"]));
        assert_eq!(row, at, "{key}");
    }
}

fn cc3_absent_differs_from_zero(world: &World<'_>) {
    for sink in ["hook", "nats"] {
        for index in ["products", "a/b"] {
            let key = format!("{sink}/{}", index.replace('/', "%2F"));
            let found = world.ask("cdc_cursors.get", json!({ "sink_name": sink, "index_uid": index }));
            assert_eq!(found.is_null(), !world.rows.of("cdc_cursors").contains_key(&*key), "{key}");
        }
    }
}

fn tm1_and_tm2_a_key_has_the_tenant_and_group_it_was_given_last(world: &World<'_>) {
    for (key, row) in world.rows.of("tenant_map") {
        let mapped = &world.last("tenant_map", key, "tenant_mapped").unwrap().payload;
        assert_eq!(row["tenant_id"], mapped["tenant_id"], "{key}");
        assert_eq!(row["group_id"], mapped.get("group_id").cloned().unwrap_or_default(), "{key}");
    }
}

fn rp1_no_two_policies_share_an_alias(world: &World<'_>) {
    let rows = world.rows.of("rollover_policies");
    let aliases: Vec<_> = rows.values().flat_map(|row| [&row["write_alias"], &row["read_alias"]]).collect();
    let distinct: BTreeSet<_> = aliases.iter().map(|alias| alias.as_str().unwrap()).collect();
    assert_eq!(distinct.len(), aliases.len(), "{rows:?}");
}

fn rp2_every_multi_alias_belongs_to_a_living_policy(world: &World<'_>) {
    let policies = world.rows.of("rollover_policies");
    for (alias, row) in world.rows.of("aliases") {
        let Some(manager) = row["managed_by"].as_str() else { continue };
        let policy = manager.strip_prefix("ilm:").and_then(|policy| policies.get(policy));
        assert!(policy.is_some_and(|policy| policy["read_alias"] == alias), "{alias}: {row} under {policy:?}");
    }
}

fn rp3_a_rollover_is_whole(world: &World<'_>) {
    for rollover in world.table("rollover_policies").filter(|event| event.name == "rollover_executed") {
        let along: Vec<_> = world.table("aliases").filter(|event| event.commit == rollover.commit).collect();
        let flipped = along.iter().find(|event| event.name == "alias_flipped");
        let flipped = flipped.unwrap_or_else(|| panic!("the write alias stayed: {rollover:?}"));
        assert_eq!(flipped.payload["to_uid"], rollover.payload["new_index"]);
        assert_eq!(flipped.payload["from_uid"], rollover.payload["old_index"]);
        // The read alias either moved in the same commit or had the new index already.
        let read = along.iter().find_map(|event| match &*event.name {
            "alias_created" => event.payload.get("target_uids"),
            "alias_targets_changed" => event.payload.get("to_uids"),
            _ => None,
        });
        let has = |targets: &Value| targets.as_array().unwrap().contains(&rollover.payload["new_index"]);
        assert!(read.is_none_or(has), "{rollover:?}: {along:?}");
    }
}

fn rp4_a_rollover_leaves_its_policy_as_it_was_but_for_the_last_rollover(world: &World<'_>) {
    for (name, row) in world.rows.of("rollover_policies") {
        let life = world.since("rollover_policies", name, &["rollover_policy_defined"]);
        let last = life.iter().rev().find(|event| event.name == "rollover_executed").map(|event| &event.payload);
        let shown = &row["last_rollover"];
        assert_eq!(shown.is_null(), last.is_none(), "{name}");
        for member in ["at", "trigger", "old_index", "new_index"] {
            assert!(last.is_none_or(|last| last[member] == shown[member]), "{name}: {shown} after {last:?}");
        }
    }
}

fn su1_the_stored_text_is_an_object(world: &World<'_>) {
    assert!(world.rows.of("search_ui_config").values().all(|row| row["config_json"].is_object()));
}

fn su3_updated_at_is_the_instant_of_the_last_change_of_content(world: &World<'_>) {
    for (index, row) in world.rows.of("search_ui_config") {
        let set = world.last("search_ui_config", index, "search_ui_config_set").unwrap();
        assert_eq!(int(&row["updated_at"]), set.at, "{index}");
        let hashes = (set.payload.get("previous_sha256"), set.payload.get("config_sha256"));
        assert_ne!(hashes.0, hashes.1, "{index}: equal content was written again");
    }
}

fn as1_and_as2_revoked_is_final_and_expires_at_constant(world: &World<'_>) {
    for (id, row) in world.rows.of("admin_sessions") {
        let life = world.since("admin_sessions", id, &["admin_session_opened"]);
        let revoked = life.iter().filter(|event| event.name == "admin_session_revoked").count();
        assert!(revoked <= 1, "{id}");
        assert_eq!(int(&row["revoked"]), revoked as i64, "{id}");
        assert_eq!(row["expires_at"], life[0].payload["expires_at"], "{id}");
    }
}

fn as3_a_revoked_session_is_not_valid(world: &World<'_>) {
    for id in world.chains("admin_sessions").keys() {
        let row = world.rows.of("admin_sessions").get(id).copied();
        let opened = world.last("admin_sessions", id, "admin_session_opened").unwrap();
        let hash = &opened.payload["admin_key_hash"];
        let valid = world.ask("admin_sessions.validate", json!({ "session_id": id, "admin_key_hash": hash }));
        let wanted = row.is_some_and(|row| row["revoked"] == 0);
        assert!(valid == wanted || valid["valid"] == wanted, "{id}: {valid}");
        let other = json!({ "session_id": id, "admin_key_hash": "77".repeat(32) });
        let valid = world.ask("admin_sessions.validate", other);
        assert!(valid == false || valid["valid"] == false, "{id}: {valid}");
    }
}

fn as4_every_session_that_was_opened_and_has_not_died_is_there(world: &World<'_>) {
    let opened = world.table("admin_sessions").filter(|event| event.name == "admin_session_opened");
    let alive = opened.filter(|event| world.rows.now < int(&event.payload["expires_at"]));
    let alive: BTreeSet<_> = alive.map(|event| &*event.key).collect();
    assert_eq!(world.rows.of("admin_sessions").into_keys().collect::<BTreeSet<_>>(), alive);
}
