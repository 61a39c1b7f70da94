//! What the process counts: metrics in Prometheus' text format.
//!
//! Counters follow the outcomes of commands. A command says what it is worth counting while it is decided
//! (`Count`); the engine counts it when the decision stands, so that a rejection, a no-op, a repeat under the same
//! `command_id` and a decision that is made again count nothing, and a rebuild counts nothing twice. Gauges are read from
//! the store when somebody asks for them ([`Exposition`]).
//!
//! ```text
//! decide ──count()──► batch ──stands──► Meters (atomics) ─┐
//! committer ──accepted, durable, group size──► Meters ────┼─► Exposition::text ─► /metrics
//! tables, log, snapshots ──bounded reads, kept a second───┘
//! ```
//! Architecture invariant: nothing here changes what a command does, and a meter that fails costs no command anything.

mod gauges;
mod names;
mod rebuilds;
mod sizes;
mod text;

use std::time::Duration;

use prometheus::{Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, Opts, Registry, core::Collector};
use tasklog_projections::{
    Json,
    tables::{canary_runs::RunStatus, tasks::TaskStatus},
};

use self::names::Names;
pub use self::{names::NAMES_MAX, text::Exposition};
pub(crate) use self::{rebuilds::Rebuilding, sizes::Sizes};

/// What every metric's name begins with.
pub const PREFIX: &str = "miroir_";

/// Something that a command has done, or found out, and that is counted.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Count {
    /// A task has come to its end.
    TaskEnded {
        /// How.
        status: TaskStatus,
        /// ms: how long it was processed; none if it never was.
        processed_ms: Option<i64>,
    },
    /// A drifted node has the settings again.
    DriftRepaired,
    /// An alias has other targets.
    AliasFlipped(String),
    /// An idempotency key was looked up.
    Key(KeyHit),
    /// A canary has run.
    CanaryRan {
        /// Its name.
        canary: String,
        /// How.
        result: RunStatus,
        /// ms
        latency_ms: i64,
        /// What did not hold.
        failed: Option<Json>,
    },
    /// A policy has rolled over.
    RolledOver(String),
    /// Somebody has logged in to the admin page.
    AdminSessionOpened,
}

/// What an idempotency key turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KeyHit {
    /// New.
    Miss,
    /// That of an equal request.
    Dedup,
    /// That of another request.
    Conflict,
}

impl Count {
    /// Whether it counts although nothing was written: the answer itself is the outcome.
    pub(crate) fn needs_no_event(&self) -> bool {
        matches!(self, Self::Key(KeyHit::Dedup | KeyHit::Conflict))
    }
}

/// What one writer has counted since it was opened.
pub struct Meters {
    registry: Registry,
    tasks: [IntCounter; 3],
    task_age: Histogram,
    drift_repairs: IntCounter,
    keys: [IntCounter; 3],
    alias_flips: Names<IntCounterVec>,
    canary_runs: Names<IntCounterVec>,
    canary_latency: Names<HistogramVec>,
    canary_failures: Names<IntCounterVec>,
    rollovers: Names<IntCounterVec>,
    admin_sessions: IntCounter,
    append: Histogram,
    group: Histogram,
    conflicts: IntCounter,
    /// How many rows the large tables have.
    pub(crate) sizes: Sizes,
}

/// Seconds, for what takes milliseconds.
const SHORT_S: &[f64] =
    &[0.0005, 0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.125, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
/// Seconds, for work that may take hours.
const LONG_S: &[f64] = &[0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3_600.0, 14_400.0, 86_400.0];
/// Commands of one group commit.
const GROUP: &[f64] = &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1_024.0];
/// ms, as canaries measure them.
const LATENCY_MS: &[f64] = &[1.0, 2.5, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1_000.0, 2_500.0, 5_000.0, 10_000.0];

impl Default for Meters {
    fn default() -> Self {
        Self::new()
    }
}

impl Meters {
    /// All at zero.
    #[must_use]
    pub fn new() -> Self {
        let registry = Registry::new();
        let tasks =
            made(&registry, counters("tasks_total", "Tasks that have come to their end, by status.", &["status"]));
        let keys = made(
            &registry,
            counters(
                "idempotency_hits_total",
                "Idempotency keys looked up, by what they turned out to be.",
                &["outcome"],
            ),
        );
        Self {
            tasks: ["succeeded", "failed", "canceled"].map(|status| tasks.with_label_values(&[status])),
            task_age: made(
                &registry,
                histogram(
                    "task_processing_age_seconds",
                    "How long a task was processed, observed when it comes to its end.",
                    LONG_S,
                ),
            ),
            drift_repairs: made(
                &registry,
                counter("settings_drift_repair_total", "Drifted nodes whose settings were put right."),
            ),
            keys: ["miss", "dedup", "conflict"].map(|outcome| keys.with_label_values(&[outcome])),
            alias_flips: Names::new(made(
                &registry,
                counters("alias_flips_total", "How often an alias was given other targets.", &["alias"]),
            )),
            canary_runs: Names::new(made(
                &registry,
                counters("canary_runs_total", "Canary runs recorded, by result.", &["canary", "result"]),
            )),
            canary_latency: Names::new(made(
                &registry,
                HistogramVec::new(
                    opts_of("canary_latency_ms", "Measured latency of canary runs, in milliseconds.", LATENCY_MS),
                    &["canary"],
                ),
            )),
            canary_failures: Names::new(made(
                &registry,
                counters(
                    "canary_assertion_failures_total",
                    "Assertions of canaries that did not hold, by type.",
                    &["canary", "assertion_type"],
                ),
            )),
            rollovers: Names::new(made(
                &registry,
                counters("rollover_events_total", "Rollovers executed.", &["policy"]),
            )),
            admin_sessions: made(&registry, counter("admin_ui_sessions_total", "Sessions of the admin page opened.")),
            append: made(
                &registry,
                histogram("log_append_seconds", "From a command's acceptance until its events are durable.", SHORT_S),
            ),
            group: made(&registry, histogram("log_group_commands", "Commands decided in one group commit.", GROUP)),
            conflicts: made(
                &registry,
                counter("log_conflicts_total", "Decisions whose rows had changed when they were to be written."),
            ),
            sizes: Sizes::default(),
            registry,
        }
    }

    /// Counts what a command has done that stands.
    pub(crate) fn count(&self, count: &Count) {
        match count {
            Count::TaskEnded { status, processed_ms } => {
                let at = match status {
                    TaskStatus::Succeeded => 0,
                    TaskStatus::Failed => 1,
                    TaskStatus::Canceled => 2,
                    TaskStatus::Enqueued | TaskStatus::Processing => return,
                };
                self.tasks[at].inc();
                if let Some(ms) = processed_ms {
                    self.task_age.observe(seconds(*ms));
                }
            }
            Count::DriftRepaired => self.drift_repairs.inc(),
            Count::AliasFlipped(alias) => self.alias_flips.of(alias, |counters, alias| {
                counters.with_label_values(&[alias]).inc();
            }),
            Count::Key(hit) => self.keys[*hit as usize].inc(),
            Count::CanaryRan { canary, result, latency_ms, failed } => {
                self.canary_runs.of(canary, |counters, canary| {
                    counters.with_label_values(&[canary, result.as_str()]).inc();
                });
                self.canary_latency.of(canary, |histograms, canary| {
                    histograms.with_label_values(&[canary]).observe(*latency_ms as f64);
                });
                self.canary_failures.of(canary, |counters, canary| {
                    for kind in failed.iter().flat_map(assertion_types) {
                        counters.with_label_values(&[canary, kind]).inc();
                    }
                });
            }
            Count::RolledOver(policy) => self.rollovers.of(policy, |counters, policy| {
                counters.with_label_values(&[policy]).inc();
            }),
            Count::AdminSessionOpened => self.admin_sessions.inc(),
        }
    }

    /// A command's events are durable, so long after it was accepted.
    pub(crate) fn appended(&self, took: Duration) {
        self.append.observe(took.as_secs_f64());
    }

    /// So many commands were decided in one group commit.
    pub(crate) fn group(&self, commands: usize) {
        self.group.observe(commands as f64);
    }

    /// So many decisions are to be made again.
    pub(crate) fn conflicts(&self, decisions: usize) {
        if decisions > 0 {
            self.conflicts.inc_by(decisions as u64);
        }
    }
}

/// The types that assertions may have; others count as `other`.
const ASSERTION_TYPES: [&str; 6] =
    ["top_hit_id", "top_k_contains", "min_hits", "max_p95_ms", "settings_version_at_least", "must_not_contain_id"];

fn assertion_types(failed: &Json) -> Vec<&'static str> {
    let Ok(serde_json::Value::Array(items)) = failed.to_value() else { return Vec::new() };
    let kind = |item: &serde_json::Value| {
        let named = item.get("type").and_then(serde_json::Value::as_str);
        ASSERTION_TYPES.into_iter().find(|kind| named == Some(kind)).unwrap_or(names::OTHER)
    };
    items.iter().map(kind).collect()
}

fn seconds(ms: i64) -> f64 {
    ms.max(0) as f64 / 1_000.0
}

fn opts_of(name: &str, help: &str, buckets: &[f64]) -> HistogramOpts {
    HistogramOpts::new(format!("{PREFIX}{name}"), help).buckets(buckets.to_vec())
}

fn histogram(name: &str, help: &str, buckets: &[f64]) -> prometheus::Result<Histogram> {
    Histogram::with_opts(opts_of(name, help, buckets))
}

fn counter(name: &str, help: &str) -> prometheus::Result<IntCounter> {
    IntCounter::new(format!("{PREFIX}{name}"), help)
}

fn counters(name: &str, help: &str, labels: &[&str]) -> prometheus::Result<IntCounterVec> {
    IntCounterVec::new(Opts::new(format!("{PREFIX}{name}"), help), labels)
}

/// A metric of this file, which is well named and registered once: a test makes them all.
fn made<M: Collector + Clone + 'static>(registry: &Registry, metric: prometheus::Result<M>) -> M {
    #[allow(clippy::expect_used, reason = "names and labels are constants of this file")]
    let metric = metric.expect("a well-named metric");
    if let Err(error) = registry.register(Box::new(metric.clone())) {
        tracing::error!(%error, "a metric is not exposed");
    }
    metric
}

#[cfg(test)]
mod tests;
