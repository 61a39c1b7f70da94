use ::redis::RedisResult;
use tasklog_log::{
    StoreError,
    redis::{RedisUrl, to_store_error},
};
use tasklog_projections::TABLES;

use super::{Counts, Server, Weight, Weights, fill::fill};
use crate::{
    Error,
    bench::redis::{SCAN_KEYS, Scratch},
};

pub(super) fn weigh(counts: &Counts, server: &RedisUrl, note: &mut dyn FnMut()) -> Result<Weights, Error> {
    let scratch = Scratch::new(server, "size");
    let (used_before, _) = memory(&scratch)?;
    let store = scratch.open()?;
    let before = fill(&store, counts, note)?;
    let (used, fragmentation) = memory(&scratch)?;
    let prefix = &scratch.url.prefix;
    let mut keys = scratch.keys()?;
    let mut take = |beginning: &str| {
        let (own, rest): (Vec<_>, Vec<_>) =
            std::mem::take(&mut keys).into_iter().partition(|key| key.starts_with(beginning.as_bytes()));
        keys = rest;
        own
    };
    let log_bytes = usage(&scratch, &take(&format!("{prefix}:log")))?;
    let mut tables = Vec::new();
    for (table, (_, rows)) in TABLES.iter().zip(store.counts()?) {
        let beginning = format!("{prefix}:{}:", table.key_prefix);
        let helpers = format!("{beginning}_").into_bytes();
        let (helpers, own): (Vec<_>, Vec<_>) = take(&beginning).into_iter().partition(|key| key.starts_with(&helpers));
        let index_bytes = usage(&scratch, &helpers)?;
        let bytes = usage(&scratch, &own)? + index_bytes;
        tables.push(Weight { name: table.name, rows, bytes, index_bytes });
    }
    let head = store.head()?;
    Ok(Weights {
        tables,
        events: head.0,
        events_per_write: (head.0 - before.0) as f64 / counts.tasks.max(1) as f64,
        log_bytes,
        other_bytes: usage(&scratch, &keys)?,
        server: Some(Server { used_bytes: used.saturating_sub(used_before), fragmentation }),
    })
}

/// `used_memory`, and the resident memory for each byte of it.
fn memory(scratch: &Scratch) -> Result<(u64, f64), Error> {
    let mut conn = scratch.connect()?;
    let asked: RedisResult<String> = ::redis::cmd("INFO").arg("memory").query(&mut conn);
    let told = asked.map_err(|error| to_store_error("asking for the server's memory", error))?;
    let field = |name: &str| {
        let found =
            told.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')?.trim().parse::<u64>().ok());
        found.ok_or_else(|| StoreError::unavailable(format!("INFO memory has no {name}")))
    };
    let (used, resident) = (field("used_memory")?, field("used_memory_rss")?);
    Ok((used, resident as f64 / used.max(1) as f64))
}

/// Bytes of keys by MEMORY USAGE, whole and not sampled.
pub(crate) fn usage(scratch: &Scratch, keys: &[Vec<u8>]) -> Result<u64, Error> {
    let mut conn = scratch.connect()?;
    let mut sum = 0;
    for keys in keys.chunks(SCAN_KEYS) {
        let mut pipe = ::redis::pipe();
        for key in keys {
            pipe.cmd("MEMORY").arg("USAGE").arg(key).arg("SAMPLES").arg(0);
        }
        let found: RedisResult<Vec<Option<u64>>> = pipe.query(&mut conn);
        let found = found.map_err(|error| to_store_error("asking for the size of keys", error))?;
        sum += found.into_iter().flatten().sum::<u64>();
    }
    Ok(sum)
}
