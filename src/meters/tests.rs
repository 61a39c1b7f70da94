#![allow(clippy::unwrap_used)]

use tasklog_log::CommitId;
use tasklog_projections::{Hash32, tables::tasks::TaskStatus};

use super::*;
use crate::{
    Error, OpenOptions, StoreUrl, TaskStore,
    command::{AnyCommand, Command, CommandOptions},
    engine::Request,
    tables::{aliases, canaries, canary_runs, idempotency_cache, jobs, leader_lease, sessions, tasks},
};

fn store() -> TaskStore {
    TaskStore::open_with(&StoreUrl::Memory, OpenOptions::default()).unwrap()
}

fn run<C: Command>(store: &TaskStore, command: C) {
    store.run_blocking(command, CommandOptions::default()).unwrap();
}

fn refused<C: Command>(store: &TaskStore, command: C) {
    assert!(matches!(store.run_blocking(command, CommandOptions::default()), Err(Error::Rejected(_))));
}

/// The text as somebody sees it who has not looked for a second.
fn text(store: &TaskStore) -> String {
    Exposition::new("pod-1").text(Some(store))
}

/// The value of one series.
fn value(text: &str, series: &str) -> f64 {
    let line = text.lines().find(|line| line.rsplit_once(' ').is_some_and(|(name, _)| name == series));
    line.unwrap_or_else(|| panic!("no {series} in\n{text}")).rsplit_once(' ').unwrap().1.parse().unwrap()
}

fn register(miroir_id: &str) -> tasks::Register {
    tasks::Register { miroir_id: Some(miroir_id.into()), ..tasks::Register::default() }
}

fn set_status(miroir_id: &str, status: TaskStatus) -> tasks::SetStatus {
    tasks::SetStatus { miroir_id: miroir_id.into(), status, error: None }
}

fn check(key: &str, body: u8) -> idempotency_cache::CheckOrRecord {
    idempotency_cache::CheckOrRecord {
        key: key.into(),
        body_sha256: Hash32([body; 32]),
        miroir_task_id: "mtask-1".into(),
        source: None,
    }
}

fn transact(store: &TaskStore, commands: Vec<Box<dyn AnyCommand>>) -> Result<(), Error> {
    store.queue(Request::transact(commands, CommandOptions::default()))?.wait().map(|_| ())
}

#[test]
fn a_task_that_ends_is_counted_once_and_a_repeat_is_not() {
    let store = store();
    run(&store, register("mtask-1"));
    run(&store, set_status("mtask-1", TaskStatus::Processing));
    run(&store, set_status("mtask-1", TaskStatus::Succeeded));
    run(&store, set_status("mtask-1", TaskStatus::Succeeded));
    refused(&store, set_status("mtask-1", TaskStatus::Failed));

    let text = text(&store);
    assert_eq!(value(&text, r#"miroir_tasks_total{status="succeeded"}"#), 1.0);
    assert_eq!(value(&text, r#"miroir_tasks_total{status="failed"}"#), 0.0);
    assert_eq!(value(&text, "miroir_task_processing_age_seconds_count"), 1.0);
    assert_eq!(value(&text, "miroir_task_registry_size"), 1.0);
}

#[test]
fn a_repeat_under_the_same_command_id_counts_nothing() {
    let store = store();
    run(&store, register("mtask-1"));
    let options = CommandOptions { command_id: Some(CommitId::mint()), ..CommandOptions::default() };
    for repeated in [false, true] {
        let ended = store.run_blocking(set_status("mtask-1", TaskStatus::Canceled), options.clone()).unwrap();
        assert_eq!(ended.repeated, repeated);
    }
    let text = text(&store);
    assert_eq!(value(&text, r#"miroir_tasks_total{status="canceled"}"#), 1.0);
    // Never processed, so there is no such time.
    assert_eq!(value(&text, "miroir_task_processing_age_seconds_count"), 0.0);
    assert_eq!(value(&text, "miroir_log_append_seconds_count"), 2.0);
}

#[test]
fn a_refused_transact_leaves_no_count_of_what_it_would_have_done() {
    let store = store();
    run(&store, register("mtask-1"));
    let commands: Vec<Box<dyn AnyCommand>> = vec![
        Box::new(check("key-1", 1)),
        Box::new(set_status("mtask-1", TaskStatus::Succeeded)),
        Box::new(set_status("mtask-none", TaskStatus::Succeeded)),
    ];
    assert!(transact(&store, commands).is_err());
    let text = text(&store);
    assert_eq!(value(&text, r#"miroir_tasks_total{status="succeeded"}"#), 0.0);
    assert_eq!(value(&text, r#"miroir_idempotency_hits_total{outcome="miss"}"#), 0.0);
}

#[test]
fn a_key_is_counted_as_what_it_turned_out_to_be_alone_and_in_a_transact() {
    let store = store();
    run(&store, check("key-1", 1));
    run(&store, check("key-1", 1));
    refused(&store, check("key-1", 2));
    // It ends at the key: the task before it is not registered.
    transact(&store, vec![Box::new(register("mtask-2")), Box::new(check("key-1", 1))]).unwrap();
    assert!(transact(&store, vec![Box::new(register("mtask-2")), Box::new(check("key-1", 2))]).is_err());

    let text = text(&store);
    assert_eq!(value(&text, r#"miroir_idempotency_hits_total{outcome="miss"}"#), 1.0);
    assert_eq!(value(&text, r#"miroir_idempotency_hits_total{outcome="dedup"}"#), 2.0);
    assert_eq!(value(&text, r#"miroir_idempotency_hits_total{outcome="conflict"}"#), 2.0);
    assert_eq!(value(&text, "miroir_idempotency_cache_size"), 1.0);
    assert_eq!(value(&text, "miroir_task_registry_size"), 0.0);
}

#[test]
fn aliases_beyond_the_bound_are_counted_together() {
    let store = store();
    for number in 0..=NAMES_MAX {
        let name = format!("alias-{number}");
        let target = format!("index-{number}");
        run(&store, aliases::Create { name: name.clone(), target, target_verified: Some(true) });
        for version in 1..=2 {
            let flip = aliases::Flip {
                name: name.clone(),
                expected_version: version,
                target: format!("index-{number}-{version}"),
                why: None,
                target_verified: Some(true),
            };
            run(&store, flip);
        }
    }
    let text = text(&store);
    assert_eq!(value(&text, r#"miroir_alias_flips_total{alias="alias-0"}"#), 2.0);
    assert_eq!(value(&text, r#"miroir_alias_flips_total{alias="other"}"#), 2.0);
    let series = text.lines().filter(|line| line.starts_with("miroir_alias_flips_total{")).count();
    assert_eq!(series, NAMES_MAX + 1);
}

#[test]
fn a_canary_run_is_counted_by_the_canarys_name_and_a_repeated_one_is_not() {
    let store = store();
    let json = |text| Json::parse(text).unwrap();
    let canary = canaries::Define {
        id: Some("c1".into()),
        name: "front page".into(),
        index_uid: "products".into(),
        interval_s: 60,
        query_json: json("{}"),
        assertions_json: json(r#"[{"type":"min_hits"}]"#),
        enabled: None,
    };
    run(&store, canary);
    let failed = json(r#"[{"type":"min_hits","observed":0},{"type":"made_up"}]"#);
    let ran = canary_runs::Record {
        canary_id: "c1".into(),
        ran_at: 1_000,
        status: RunStatus::Fail,
        latency_ms: 40,
        failed_assertions_json: Some(failed),
        runner_pod: None,
    };
    run(&store, ran.clone());
    run(&store, ran);

    let text = text(&store);
    assert_eq!(value(&text, r#"miroir_canary_runs_total{canary="front page",result="fail"}"#), 1.0);
    assert_eq!(value(&text, r#"miroir_canary_latency_ms_sum{canary="front page"}"#), 40.0);
    let of = |kind| format!(r#"miroir_canary_assertion_failures_total{{assertion_type="{kind}",canary="front page"}}"#);
    assert_eq!(value(&text, &of("min_hits")), 1.0);
    assert_eq!(value(&text, &of("other")), 1.0);
}

#[test]
fn gauges_tell_the_live_rows_the_queue_and_the_leader() {
    let store = store();
    run(&store, sessions::RecordWrite { session_id: "s".into(), mtask_id: "mtask-1".into(), pinned_group: None });
    let job = |kind: &str| jobs::Enqueue {
        id: None,
        r#type: kind.into(),
        params: Json::parse("{}").unwrap(),
        max_attempts: None,
    };
    run(&store, job("dump_import"));
    run(&store, job("dump_import"));
    run(&store, job("reshard_backfill"));
    let before = text(&store);
    assert_eq!(value(&before, "miroir_leader"), 0.0);
    let lease =
        leader_lease::Acquire { scope: "reshard:products".into(), holder: "pod-1".into(), ttl_ms: Some(600_000) };
    let term = store.run_blocking(lease, CommandOptions::default()).unwrap().answer.term.unwrap();
    let phase = Json::parse(r#"{"name":"verify"}"#).unwrap();
    let scope = "reshard:products".to_owned();
    run(&store, leader_lease::CommitPhase { scope, holder: "pod-1".into(), term, phase });

    let text = text(&store);
    assert_eq!(value(&text, "miroir_session_active_count"), 1.0);
    assert_eq!(value(&text, r#"miroir_background_queue_depth{job_type="dump_import"}"#), 2.0);
    assert_eq!(value(&text, r#"miroir_background_queue_depth{job_type="reshard_backfill"}"#), 1.0);
    assert_eq!(value(&text, "miroir_leader"), 1.0);
    assert_eq!(value(&text, "miroir_reshard_in_progress"), 1.0);
    assert_eq!(value(&text, "miroir_reshard_phase"), 3.0);
    assert_eq!(value(&text, "miroir_log_head_position"), store.head().unwrap().0 as f64);
    assert_eq!(value(&text, r#"miroir_projection_lag_events{store="memory"}"#), 0.0);
}

#[test]
fn a_rebuild_counts_nothing_twice() {
    let folder = tempfile::tempdir().unwrap();
    let url = StoreUrl::Sqlite(folder.path().join("tasklog.db"));
    let store = TaskStore::open_with(&url, OpenOptions::default()).unwrap();
    run(&store, register("mtask-1"));
    run(&store, set_status("mtask-1", TaskStatus::Succeeded));
    let rebuilds = || value(&text(&store), "miroir_rebuild_seconds_count");
    let before = rebuilds();
    store.rebuild(&[&tasklog_projections::tables::tasks::DEF], |_| {}).unwrap();
    assert_eq!(value(&text(&store), r#"miroir_tasks_total{status="succeeded"}"#), 1.0);
    // Others of this process may rebuild as well.
    assert!(rebuilds() > before);
    assert!(value(&text(&store), "miroir_log_bytes") > 0.0);
}

#[test]
fn the_size_of_a_large_table_is_kept_by_its_writer_once_somebody_has_asked() {
    let folder = tempfile::tempdir().unwrap();
    let url = StoreUrl::Sqlite(folder.path().join("tasklog.db"));
    let store = TaskStore::open_with(&url, OpenOptions::default()).unwrap();
    let tasks = &tasklog_projections::tables::tasks::DEF;
    run(&store, register("mtask-1"));
    assert_eq!(store.meters().unwrap().sizes.ask(tasks), None);
    run(&store, register("mtask-2"));
    assert_eq!(store.meters().unwrap().sizes.ask(tasks), Some(2));
    run(&store, register("mtask-3"));
    assert_eq!(store.meters().unwrap().sizes.ask(tasks), Some(3));
    assert_eq!(value(&text(&store), "miroir_task_registry_size"), 3.0);
}

#[test]
fn requests_are_in_flight_until_they_are_answered_and_counted_by_route_and_status() {
    let exposition = Exposition::new("pod-1");
    let request = exposition.request();
    assert_eq!(value(&exposition.text(None), "miroir_requests_in_flight"), 1.0);
    request.answered("/v1/info", 200);
    drop(request);
    let text = exposition.text(None);
    assert_eq!(value(&text, "miroir_requests_in_flight"), 0.0);
    assert_eq!(value(&text, r#"miroir_http_request_seconds_count{route="/v1/info",status="200"}"#), 1.0);
}

#[test]
fn every_metric_is_told_with_help_and_type_and_begins_with_the_prefix() {
    let store = store();
    run(&store, register("mtask-1"));
    let text = text(&store);
    let helped: Vec<_> = text.lines().filter_map(|line| line.strip_prefix("# HELP ")).collect();
    assert!(helped.len() > 20, "{}", helped.len());
    for line in helped {
        let (name, help) = line.split_once(' ').unwrap();
        assert!(name.starts_with(PREFIX), "{name}");
        assert!(help.ends_with('.') || help.contains(':') || help.contains(';'), "{name}: {help}");
        assert!(text.contains(&format!("# TYPE {name} ")), "{name}");
    }
}
