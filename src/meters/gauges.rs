//! Gauges: read from the store when somebody asks, by reads that are bounded.

use std::collections::{BTreeMap, BTreeSet};

use prometheus::{
    Gauge, GaugeVec, IntGauge, IntGaugeVec, Opts, Registry,
    proto::{Metric, MetricFamily, MetricType, Summary},
};
use tasklog_log::Position;
use tasklog_projections::{
    Cell, Found, PAGE_ROWS_MAX, Scan, TableDef,
    tables::{
        aliases::Aliases,
        idempotency_cache,
        leader_lease::{LeaderLease, LeaseRow},
        node_settings_version::{CLUSTER, NodeSettingsVersion},
        rollover_policies::RolloverPolicies,
        sessions, tasks as task_rows,
        tenant_map::TenantMap,
    },
};

use super::{PREFIX, made, names::bounded, seconds};
use crate::{
    Error, TaskStore,
    query::{Query, Reader},
    store::{FollowerReport, FollowerState},
    tables::{jobs, tasks},
};

/// Phases of a reshard, in order; the place counted from 1 is its number.
const RESHARD_PHASES: [&str; 5] = ["shadow", "backfill", "verify", "swap", "cleanup"];
/// Phases of a settings broadcast.
const BROADCAST_PHASES: [&str; 3] = ["propose", "verify", "commit"];

/// What was counted at a position where nobody keeps the number.
#[derive(Default)]
pub(super) struct Counted(BTreeMap<&'static str, (Position, u64)>);

/// One reading of the gauges.
struct Gauges {
    registry: Registry,
}

impl Gauges {
    fn int(&self, name: &str, help: &str, value: u64) {
        let gauge = made(&self.registry, IntGauge::new(format!("{PREFIX}{name}"), help));
        gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
    }

    fn real(&self, name: &str, help: &str, value: f64) {
        made(&self.registry, Gauge::new(format!("{PREFIX}{name}"), help)).set(value);
    }

    fn ints(&self, name: &str, help: &str, label: &str, values: impl IntoIterator<Item = (String, u64)>) {
        let gauges = made(&self.registry, IntGaugeVec::new(Opts::new(format!("{PREFIX}{name}"), help), &[label]));
        for (name, value) in by_name(values, |sum, value| sum + value) {
            gauges.with_label_values(&[&name]).set(i64::try_from(value).unwrap_or(i64::MAX));
        }
    }

    fn reals(&self, name: &str, help: &str, label: &str, values: impl IntoIterator<Item = (String, f64)>) {
        let gauges = made(&self.registry, GaugeVec::new(Opts::new(format!("{PREFIX}{name}"), help), &[label]));
        for (name, value) in by_name(values, f64::max) {
            gauges.with_label_values(&[&name]).set(value);
        }
    }
}

/// The values by name, as many as are told apart; the others are put together.
fn by_name<V: Copy>(values: impl IntoIterator<Item = (String, V)>, join: impl Fn(V, V) -> V) -> BTreeMap<String, V> {
    let mut known = BTreeSet::new();
    let mut joined = BTreeMap::new();
    for (name, value) in values {
        let name = bounded(&mut known, &name).to_owned();
        joined.entry(name).and_modify(|sum| *sum = join(*sum, value)).or_insert(value);
    }
    joined
}

/// Reads the gauges of a store. `pod` is the name under which this process, or the orchestrator beside it, holds leases.
pub(super) fn read(store: &TaskStore, pod: &str, counted: &mut Counted) -> Result<Vec<MetricFamily>, Error> {
    let gauges = Gauges { registry: Registry::new() };
    let (head, checkpoint) = store.read(|log, view| Ok((log.head()?.position, view.checkpoint()?.position)))?;
    let sessions = store.read_tables(|read| {
        of_tables(&gauges, read)?;
        of_leases(&gauges, read, pod)?;
        of_policies(&gauges, read)?;
        of_tenants(&gauges, read)?;
        let mut size = |table| live(store, read, table, head, counted);
        gauges.int("task_registry_size", "Tasks in the registry.", size(&task_rows::DEF)?);
        gauges.int("idempotency_cache_size", "Live idempotency keys.", size(&idempotency_cache::DEF)?);
        size(&sessions::DEF)
    })?;
    gauges.int("log_head_position", "The position of the log's last event.", head.0);
    let report = store.following()?.and_then(|following| following.report);
    let of_source = report.as_ref().and_then(|report| report.source);
    let lag = head.0.saturating_sub(checkpoint.0).max(of_source.map_or(0, |source| source.lag_events));
    gauges.ints(
        "projection_lag_events",
        "Events of the log, or of a replica's source as it was last seen, that the tables of a store do not show yet.",
        "store",
        [(store.kind().to_owned(), lag)],
    );
    if let Some(report) = report {
        of_follower(&gauges, &report);
    }
    if let Some(waiting) = store.waiting_commands() {
        gauges.int("log_queue_depth", "Commands that are accepted and not answered yet.", waiting as u64);
    }
    if let Some(bytes) = store.log_bytes()? {
        gauges.int(
            "log_bytes",
            "Bytes of the log: of the stream in Redis; of the whole file and its write-ahead log, tables included, in SQLite.",
            bytes,
        );
    }
    let newest = store.snapshots()?.list()?.first().map_or(Position::ZERO, |snapshot| snapshot.position);
    gauges.int("snapshot_position", "The position of the newest snapshot; 0 if there is none.", newest.0);
    let mut families = gauges.registry.gather();
    families.push(session_count(sessions));
    Ok(families)
}

/// Only a replica has these.
fn of_follower(gauges: &Gauges, report: &FollowerReport) {
    let FollowerReport { state, reported_at, source, .. } = report;
    gauges.ints(
        "follower_state",
        "What the follower of a replica was doing when it last reported: 1 for its state, 0 for the others.",
        "state",
        FollowerState::ALL.map(|known| (known.as_str().to_owned(), u64::from(known == *state))),
    );
    gauges.real(
        "follower_reported_timestamp_seconds",
        "When the follower of a replica last reported, since 1970.",
        seconds(*reported_at),
    );
    if let Some(source) = source {
        gauges.real(
            "follower_source_seen_timestamp_seconds",
            "When the follower of a replica last saw its source, since 1970.",
            seconds(source.seen_at),
        );
    }
}

/// The name that the specification gives this gauge ends with `_count`, which `promtool` takes for the count of a summary
/// and refuses elsewhere. So it is one: of a summary that observes nothing, whose `_sum` is 0.
fn session_count(sessions: u64) -> MetricFamily {
    let mut summary = Summary::default();
    summary.set_sample_count(sessions);
    let mut metric = Metric::default();
    metric.set_summary(summary);
    let mut family = MetricFamily::default();
    family.set_name(format!("{PREFIX}session_active"));
    family.set_help("Live sessions: the number is miroir_session_active_count, the sum says nothing.".into());
    family.set_field_type(MetricType::SUMMARY);
    family.set_metric(vec![metric]);
    family
}

fn of_tables(gauges: &Gauges, read: &Reader<'_>) -> Result<(), Error> {
    let oldest = tasks::OldestProcessing {}.answer(read)?;
    let age = oldest.map_or(0.0, |task| seconds(read.now() - task.started_at.unwrap_or(task.created_at)));
    gauges.real(
        "task_oldest_processing_seconds",
        "How long the oldest task that is processing has been so; 0 if none is.",
        age,
    );
    gauges.ints("background_queue_depth", "Jobs that wait, by type.", "job_type", jobs::Depth {}.answer(read)?);
    let committed = read.list::<NodeSettingsVersion>(
        Scan::equal("by_node", [Cell::from(CLUSTER)]).limit(PAGE_ROWS_MAX),
        Some(PAGE_ROWS_MAX),
    )?;
    let newest = committed.iter().map(|row| row.version).max().unwrap_or_default();
    gauges.int("settings_version", "The highest settings version that an index has committed.", newest.unsigned_abs());
    Ok(())
}

fn of_leases(gauges: &Gauges, read: &Reader<'_>, pod: &str) -> Result<(), Error> {
    let live = Scan::all("by_expiry").from(std::ops::Bound::Excluded(vec![Cell::Integer(read.now())]));
    let leases = read.list::<LeaderLease>(live, Some(PAGE_ROWS_MAX))?;
    let of_kind = |kind: &str| leases.iter().filter(move |lease| lease.scope.split(':').next() == Some(kind)).collect();
    let reshards: Vec<_> = of_kind("reshard");
    let broadcasts: Vec<_> = of_kind("settings_broadcast");
    let leads = leases.iter().any(|lease| lease.holder == pod);
    gauges.int("leader", "Whether this pod holds any lease.", leads.into());
    gauges.int("reshard_in_progress", "Whether a lease for a reshard is held.", u64::from(!reshards.is_empty()));
    gauges.int(
        "reshard_phase",
        "The furthest phase of the reshards in progress: 0 idle, 1 shadow, 2 backfill, 3 verify, 4 swap, 5 cleanup.",
        furthest(&reshards, &RESHARD_PHASES),
    );
    gauges.int(
        "settings_broadcast_phase",
        "The furthest phase of the settings broadcasts in progress: 0 idle, 1 propose, 2 verify, 3 commit.",
        furthest(&broadcasts, &BROADCAST_PHASES),
    );
    Ok(())
}

fn furthest(leases: &[&Found<LeaseRow>], phases: &[&str]) -> u64 {
    let number = |lease: &&Found<LeaseRow>| {
        let phase = lease.phase.as_ref()?.to_value().ok()?;
        let name = phase.get("name")?.as_str()?.to_owned();
        phases.iter().position(|known| *known == name).map(|at| at as u64 + 1)
    };
    leases.iter().filter_map(number).max().unwrap_or_default()
}

fn of_policies(gauges: &Gauges, read: &Reader<'_>) -> Result<(), Error> {
    let policies = read.list::<RolloverPolicies>(Scan::all("pk"), Some(PAGE_ROWS_MAX))?;
    let mut indexes = Vec::new();
    let mut ages = Vec::new();
    for policy in &policies {
        if let Some(alias) = read.get::<Aliases>(&policy.read_alias)? {
            let targets = alias.target_uids.as_ref().map_or(0, |targets| targets.len() as u64);
            indexes.push((policy.read_alias.clone(), targets));
        }
        let last = policy.last_rollover.as_ref().and_then(|last| last.to_value().ok()?.get("at")?.as_i64());
        if let Some(at) = last {
            ages.push((policy.name.clone(), seconds(read.now() - at)));
        }
    }
    gauges.ints("rollover_active_indexes", "Indexes that a read alias leads to.", "alias", indexes);
    gauges.reals("rollover_last_action_seconds", "How long ago a policy last rolled over.", "policy", ages);
    Ok(())
}

fn of_tenants(gauges: &Gauges, read: &Reader<'_>) -> Result<(), Error> {
    let keys = read.list::<TenantMap>(Scan::all("by_tenant"), Some(PAGE_ROWS_MAX))?;
    let mut groups: BTreeMap<String, BTreeSet<i64>> = BTreeMap::new();
    for key in &keys {
        groups.entry(key.tenant_id.clone()).or_default().extend(key.group_id);
    }
    let pinned = groups.into_iter().map(|(tenant, groups)| (tenant, groups.len() as u64));
    gauges.ints("tenant_pinned_groups", "Replica groups that keys of a tenant are pinned to.", "tenant", pinned);
    Ok(())
}

/// The live rows of a table that may have very many. Where nobody keeps their number they are counted, once per position.
fn live(
    store: &TaskStore,
    read: &Reader<'_>,
    table: &'static TableDef,
    head: Position,
    counted: &mut Counted,
) -> Result<u64, Error> {
    let kept = store.meters().and_then(|meters| meters.sizes.ask(table));
    let known = counted.0.get(table.name).filter(|(at, _)| *at == head).map(|(_, rows)| *rows);
    let rows = match kept.or(known) {
        Some(rows) => rows,
        None => {
            let rows = read.count_any(table, &Scan::all("pk"))?;
            counted.0.insert(table.name, (head, rows));
            rows
        }
    };
    Ok(rows.saturating_sub(read.count_dead(table)?))
}
