use clap::Args;
use serde_json::{Value, json};
use tasklog_log::redis::RedisUrl;

use super::{
    Context, Ended,
    output::{self, number},
};
use crate::{
    Config, Error, StoreUrl,
    config::HOUR_MS,
    size::{self, Counts, Deployment, Growth, TOLERATED_PERCENT, WRITES_PER_S, Weights},
};

const MIB: f64 = (1_u64 << 20) as f64;

/// Measure what a registry of some size takes, and forecast deployments.
///
/// Fills scratch stores with rows of realistic size, by the commands that make such rows, and weighs them: an SQLite file by
/// its pages, and with --redis a server by MEMORY USAGE and INFO. Nothing else should use that server meanwhile. Everything
/// is removed afterwards.
#[derive(Args)]
pub(crate) struct Size {
    /// Client writes: a task, an idempotency key and a session pin each
    #[arg(long, value_name = "N", default_value_t = Counts::default().tasks)]
    tasks: u64,
    /// Sessions that the writes belong to
    #[arg(long, value_name = "N", default_value_t = Counts::default().sessions)]
    sessions: u64,
    /// Jobs, half of them finished
    #[arg(long, value_name = "N", default_value_t = Counts::default().jobs)]
    jobs: u64,
    /// Canary runs
    #[arg(long, value_name = "N", default_value_t = Counts::default().canary_runs)]
    canary_runs: u64,
    /// Indexes: each has settings on 5 nodes, an alias, a search page, a cursor and a tenant's key
    #[arg(long, value_name = "N", default_value_t = Counts::default().indexes)]
    indexes: u64,
    /// Canaries and rollover policies, each
    #[arg(long, value_name = "N", default_value_t = Counts::default().canaries, value_parser = clap::value_parser!(u64).range(1..))]
    canaries: u64,
    /// Sessions of the admin page
    #[arg(long, value_name = "N", default_value_t = Counts::default().admin_sessions)]
    admin_sessions: u64,
    /// Leases that are held
    #[arg(long, value_name = "N", default_value_t = Counts::default().leases)]
    leases: u64,
    /// Hours that finished tasks are kept, for the forecast
    #[arg(long, value_name = "HOURS", default_value_t = Config::default().task_ttl_ms / HOUR_MS, value_parser = clap::value_parser!(i64).range(1..=87_600))]
    task_hours: i64,
    /// Weigh on this server, too: redis://[USER[:PASSWORD]@]HOST:PORT/DB
    #[arg(long, value_name = "URL", value_parser = redis_url)]
    redis: Option<RedisUrl>,
    /// Where to write the file; a temporary folder of the present one by default
    #[arg(long, value_name = "FOLDER")]
    folder: Option<std::path::PathBuf>,
}

fn redis_url(text: &str) -> Result<RedisUrl, String> {
    match text.parse() {
        Ok(StoreUrl::Redis(url)) => Ok(*url),
        Ok(other) => Err(format!("expected redis://HOST:PORT/DB, found {other}")),
        Err(error) => Err(error.to_string()),
    }
}

impl Size {
    pub(crate) fn run(self, context: &Context) -> Result<Ended, Error> {
        let counts = self.counts();
        let parent = self.folder.unwrap_or_else(|| ".".into());
        let scratch = tempfile::Builder::new()
            .prefix("tasklog-size-")
            .tempdir_in(parent)
            .map_err(|error| output::io("making a scratch folder", error))?;
        let passes = 1 + u64::from(self.redis.is_some());
        let bar = output::progress(Some(counts.commands() * passes), "commands");
        let mut note = || bar.inc(1);
        let file = size::weigh_sqlite(&counts, scratch.path(), &mut note)?;
        let redis = self.redis.map(|server| size::weigh_redis(&counts, &server, &mut note)).transpose()?;
        bar.finish_and_clear();
        let config = Config { task_ttl_ms: self.task_hours * HOUR_MS, ..Config::default() };
        let growth = size::growth(&file, &config);
        let deployments = redis.as_ref().map(|redis| size::deployments(redis, &config));
        if context.out.json {
            let value = json!({
                "sqlite": as_json(&file), "redis": redis.as_ref().map(as_json),
                "sqlite_growth": growth.iter().map(growth_json).collect::<Vec<_>>(),
                "redis_deployments": deployments.iter().flatten().map(deployment_json).collect::<Vec<_>>(),
            });
            context.out.line(value.to_string())?;
            return Ok(Ended::Well);
        }
        let out = context.out;
        tables(context, &file, redis.as_ref())?;
        out.line("")?;
        logs(context, &file, redis.as_ref())?;
        let kept = format!("finished tasks kept for {} h", self.task_hours);
        out.lines(&format!("\nAn SQLite file, by client writes a second, {kept}:"))?;
        let mib = |bytes: u64| number((bytes as f64 / MIB).ceil() as u64);
        let rows: Vec<_> = growth
            .iter()
            .map(|grown| vec![grown.writes_per_s.to_string(), mib(grown.table_bytes), mib(grown.log_bytes_a_day)])
            .collect();
        out.table(&["writes/s", "tables MiB", "log MiB a day"], &rows)?;
        let Some(deployments) = deployments else {
            return out.lines("\nRedis was not measured: give a server with --redis URL.").map(|()| Ended::Well);
        };
        out.lines(&format!(
            "\nHours of log that fit {TOLERATED_PERCENT} % of maxmemory beside the tables, by client writes a second, {kept}:"
        ))?;
        let rates: Vec<_> = WRITES_PER_S.iter().map(|rate| format!("{rate}/s")).collect();
        let header: Vec<_> = ["deployment", "maxmemory"].into_iter().chain(rates.iter().map(String::as_str)).collect();
        out.table(&header, &deployments.iter().map(deployment).collect::<Vec<_>>())?;
        Ok(Ended::Well)
    }

    fn counts(&self) -> Counts {
        Counts {
            tasks: self.tasks,
            sessions: self.sessions,
            jobs: self.jobs,
            canary_runs: self.canary_runs,
            indexes: self.indexes,
            canaries: self.canaries,
            admin_sessions: self.admin_sessions,
            leases: self.leases,
        }
    }
}

fn tables(context: &Context, file: &Weights, redis: Option<&Weights>) -> Result<(), Error> {
    let mut rows = Vec::new();
    for table in &file.tables {
        let mut row = vec![table.name.to_owned(), number(table.rows), format!("{:.0}", table.per_row())];
        row.push(share(table));
        if let Some(table) = redis.and_then(|redis| redis.table(table.name)) {
            row.extend([format!("{:.0}", table.per_row()), share(table), number(table.bytes)]);
        }
        rows.push(row);
    }
    let mut sum = vec!["sum".to_owned(), String::new(), number(file.table_bytes()), String::new()];
    if let Some(redis) = redis {
        sum.extend([String::new(), String::new(), number(redis.table_bytes())]);
    }
    rows.push(sum);
    let mut header = vec!["table", "rows", "file B/row", "indexes"];
    if redis.is_some() {
        header.extend(["redis B/row", "indexes", "redis bytes"]);
    }
    context.out.table(&header, &rows)
}

fn share(table: &size::Weight) -> String {
    format!("{} %", (table.index_bytes * 100).checked_div(table.bytes).unwrap_or(0))
}

fn logs(context: &Context, file: &Weights, redis: Option<&Weights>) -> Result<(), Error> {
    let mut rows = Vec::new();
    let mut line = |name: &str, value: &dyn Fn(&Weights) -> String| {
        let mut row = vec![name.to_owned(), value(file)];
        row.extend(redis.map(value));
        rows.push(row);
    };
    line("events", &|weights| number(weights.events));
    line("events of a client write", &|weights| format!("{:.1}", weights.events_per_write));
    line("bytes of an event", &|weights| format!("{:.0}", weights.per_event()));
    line("bytes of the log", &|weights| number(weights.log_bytes));
    line("bytes of everything else", &|weights| number(weights.other_bytes));
    if let Some(server) = redis.and_then(|redis| redis.server) {
        line("used_memory more than before", &|weights| {
            weights.server.map_or_else(String::new, |server| number(server.used_bytes))
        });
        line("of that, for each byte told", &|weights| {
            weights.server.map_or_else(String::new, |_| format!("{:.2}", weights.overhead()))
        });
        line("resident for each byte used", &|weights| {
            weights.server.map_or_else(String::new, |_| format!("{:.2}", server.fragmentation))
        });
    }
    let header: &[&str] =
        if redis.is_some() { &["log and store", "file", "redis"] } else { &["log and store", "file"] };
    context.out.table(header, &rows)
}

fn deployment(deployment: &Deployment) -> Vec<String> {
    let memory = match deployment.memory_mib {
        mib if mib < 1_024 => format!("{mib} MiB"),
        mib => format!("{} GiB", mib / 1_024),
    };
    let hours = deployment.forecasts.iter().map(|forecast| match forecast.log_hours {
        None => "tables too large".to_owned(),
        Some(hours) if hours < 10.0 => format!("{hours:.1}"),
        Some(hours) => number(hours as u64),
    });
    [deployment.name.to_owned(), memory].into_iter().chain(hours).collect()
}

fn as_json(weights: &Weights) -> Value {
    let tables: Vec<_> = weights
        .tables
        .iter()
        .map(|table| {
            json!({
                "table": table.name, "rows": table.rows, "bytes": table.bytes, "index_bytes": table.index_bytes,
                "bytes_per_row": table.per_row(),
            })
        })
        .collect();
    json!({
        "tables": tables, "events": weights.events, "events_per_write": weights.events_per_write,
        "log_bytes": weights.log_bytes, "bytes_per_event": weights.per_event(), "other_bytes": weights.other_bytes,
        "used_memory_more": weights.server.map(|server| server.used_bytes), "overhead": weights.overhead(),
        "resident_per_used": weights.server.map(|server| server.fragmentation),
    })
}

fn growth_json(growth: &Growth) -> Value {
    json!({
        "writes_per_s": growth.writes_per_s, "table_bytes": growth.table_bytes, "log_bytes_a_day": growth.log_bytes_a_day,
    })
}

fn deployment_json(deployment: &Deployment) -> Value {
    let forecasts: Vec<_> = WRITES_PER_S
        .iter()
        .zip(&deployment.forecasts)
        .map(|(rate, forecast)| {
            json!({"writes_per_s": rate, "table_bytes": forecast.table_bytes, "log_hours": forecast.log_hours})
        })
        .collect();
    json!({"deployment": deployment.name, "maxmemory_mib": deployment.memory_mib, "forecasts": forecasts})
}
