//! Speed and size, measured against a raw baseline in the same run.
//!
//! Each figure runs the store and the baseline in turn, several rounds of each, and takes the median of the ratios: the
//! machine's mood changes from second to second, and both sides should share it.

mod archive;
mod as_of;
mod by_hand;
#[cfg(feature = "serve")]
pub(crate) mod http;
mod jobs;
mod past;
mod raw;
mod reads;
pub(crate) mod redis;
mod replay;
mod tree;
mod upkeep;
mod workload;
mod writes;

use std::{path::Path, time::Duration};

use crate::Error;

/// Rounds of store and baseline whose median ratio is printed.
const ROUNDS: usize = 5;

/// What to measure.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Events in the log that is read: by rebuild and fold, of the archive, of the past.
    pub events: u64,
    /// Only figures whose name contains this.
    pub only: Option<String>,
}

/// One figure: a flat field of `bench --json`.
#[derive(Clone, Debug)]
pub struct Figure {
    /// The field.
    pub name: String,
    /// Its value.
    pub value: f64,
    /// The aim, if the figure has one.
    pub aim: Option<Aim>,
}

/// What a figure is held against.
#[derive(Clone, Copy, Debug)]
pub enum Aim {
    /// It should be at least this.
    AtLeast(f64),
    /// It should be at most this.
    AtMost(f64),
}

impl Figure {
    fn plain(name: impl Into<String>, value: f64) -> Self {
        Self { name: name.into(), value, aim: None }
    }

    fn at_least(name: &str, value: f64, aim: f64) -> Self {
        Self { name: name.into(), value, aim: Some(Aim::AtLeast(aim)) }
    }

    fn at_most(name: &str, value: f64, aim: f64) -> Self {
        Self { name: name.into(), value, aim: Some(Aim::AtMost(aim)) }
    }

    /// Whether the aim is met; true without one.
    #[must_use]
    pub fn is_met(&self) -> bool {
        match self.aim {
            None => true,
            Some(Aim::AtLeast(aim)) => self.value >= aim,
            Some(Aim::AtMost(aim)) => self.value <= aim,
        }
    }
}

/// Measures everything in the plan, in folders under `scratch`, telling each figure as it is known.
///
/// # Errors
/// The store's.
pub fn run(plan: &Plan, scratch: &Path, mut tell: impl FnMut(Figure)) -> Result<(), Error> {
    type Group = fn(&Plan, &Path, &mut dyn FnMut(Figure)) -> Result<(), Error>;
    let groups: [(&[&str], Group); 10] = [
        (&["sequential_ratio"], writes::sequential),
        (&["concurrent_ratio"], writes::concurrent),
        (&["transact_ratio", "bytes_per_event"], writes::transact),
        (&["read_ratio", "list_ratio"], reads::reads),
        (&["merkle_overhead_ratio"], tree::overhead),
        (&["jobs_per_s"], jobs::throughput),
        (&["jobs_backlog_ratio"], jobs::backlog),
        (&["rebuild_ratio", "fold_ratio", "rebuild_rss_mb"], replay::replay),
        (&["archive_bytes_per_event", "archive_events_per_s"], archive::archive),
        (
            &[
                "as_of_row_ms_p99",
                "as_of_table_ratio",
                "as_of_sql_ms_p50",
                "history_ms_p99",
                "snapshot_rows_per_s",
                "append_during_snapshot_ratio",
                "verify_events_per_s",
                "open_ms",
            ],
            past::past,
        ),
    ];
    for (names, group) in groups {
        let wanted = plan.only.as_ref().is_none_or(|only| names.iter().any(|name| name.contains(&**only)));
        if wanted {
            let folder = scratch.join(names[0]);
            std::fs::create_dir_all(&folder)
                .map_err(|error| tasklog_log::StoreError::unavailable_because("making a scratch folder", error))?;
            group(plan, &folder, &mut tell)?;
        }
    }
    Ok(())
}

/// Measured durations, one per operation.
struct Latencies(Vec<Duration>);

impl Latencies {
    fn figures(mut self, name: &str, tell: &mut dyn FnMut(Figure)) {
        self.0.sort_unstable();
        for (label, part) in [("p50", 0.50), ("p99", 0.99)] {
            let at = ((self.0.len() as f64 - 1.0) * part) as usize;
            if let Some(duration) = self.0.get(at) {
                tell(Figure::plain(format!("{name}_{label}_us"), duration.as_secs_f64() * 1e6));
            }
        }
    }
}

/// The middle one of a few numbers.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

fn rate(count: u64, took: Duration) -> f64 {
    count as f64 / took.as_secs_f64().max(1e-9)
}
