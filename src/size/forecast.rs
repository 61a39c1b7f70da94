use super::Weights;
use crate::Config;

/// Of `maxmemory`, what is used before somebody is woken up.
pub const TOLERATED_PERCENT: u64 = 80;
/// Client writes a second that are forecast.
pub const WRITES_PER_S: [f64; 5] = [0.1, 1.0, 10.0, 100.0, 1_000.0];
/// MiB of the servers that are forecast, with what each is called.
const SERVERS: [(u64, &str); 9] = [
    (256, "development"),
    (512, "small"),
    (1_024, "small"),
    (2_048, "medium"),
    (4_096, "medium"),
    (8_192, "large"),
    (16_384, "large"),
    (32_768, "very large"),
    (65_536, "very large"),
];

/// A Redis server, and what fits it.
#[derive(Clone, Debug, PartialEq)]
pub struct Deployment {
    /// What it is called.
    pub name: &'static str,
    /// MiB of `maxmemory`.
    pub memory_mib: u64,
    /// One for each of [`WRITES_PER_S`].
    pub forecasts: Vec<Forecast>,
}

/// What a rate of writes leaves for the log.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Forecast {
    /// Bytes of the tables once as much dies as is written.
    pub table_bytes: u64,
    /// How long events may stay in the hot log; none if the tables alone are too large.
    pub log_hours: Option<f64>,
}

/// How a file grows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Growth {
    /// Client writes a second.
    pub writes_per_s: f64,
    /// Bytes of the tables once as much dies as is written.
    pub table_bytes: u64,
    /// Bytes that the log grows by in a day.
    pub log_bytes_a_day: u64,
}

/// What each size of server holds.
#[must_use]
pub fn deployments(weights: &Weights, config: &Config) -> Vec<Deployment> {
    let overhead = weights.overhead();
    SERVERS
        .iter()
        .map(|(memory_mib, name)| {
            let room = (memory_mib << 20) * TOLERATED_PERCENT / 100;
            let forecast = |rate: &f64| {
                let table_bytes = (steady_bytes(weights, config, *rate) as f64 * overhead) as u64;
                let left = room.checked_sub(table_bytes);
                let an_hour = log_bytes(weights, *rate, 3_600) * overhead;
                Forecast { table_bytes, log_hours: left.map(|left| left as f64 / an_hour) }
            };
            Deployment { name, memory_mib: *memory_mib, forecasts: WRITES_PER_S.iter().map(forecast).collect() }
        })
        .collect()
}

/// How a file grows at each rate.
#[must_use]
pub fn growth(weights: &Weights, config: &Config) -> Vec<Growth> {
    let grown = |rate: &f64| Growth {
        writes_per_s: *rate,
        table_bytes: steady_bytes(weights, config, *rate),
        log_bytes_a_day: log_bytes(weights, *rate, 86_400) as u64,
    };
    WRITES_PER_S.iter().map(grown).collect()
}

fn log_bytes(weights: &Weights, writes_per_s: f64, seconds: u64) -> f64 {
    writes_per_s * seconds as f64 * weights.events_per_write * weights.per_event()
}

/// Bytes of the tables once rows die as fast as they come: tasks after their retention, keys and sessions after their
/// lives or at their bounds. The other tables do not depend on the rate of writes.
fn steady_bytes(weights: &Weights, config: &Config, writes_per_s: f64) -> u64 {
    let lived = |life_ms: i64| (writes_per_s * life_ms as f64 / 1_000.0) as u64;
    let rows = |name: &str| match name {
        "tasks" => Some(lived(config.task_ttl_ms)),
        "idempotency_cache" => Some(lived(config.idempotency_ttl_ms).min(config.idempotency_keys_max)),
        "sessions" => Some(lived(config.session_ttl_ms).min(config.sessions_max)),
        _ => None,
    };
    let tables = weights.tables.iter();
    tables.map(|table| rows(table.name).map_or(table.bytes, |rows| (rows as f64 * table.per_row()) as u64)).sum()
}
