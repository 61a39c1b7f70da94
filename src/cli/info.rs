mod keeping;

use clap::Args;
use serde_json::json;
use tasklog_log::StoreError;
use tasklog_projections::{TABLES, sqlite::read_built};

use self::keeping::Keeping;
use super::{
    Context, Ended,
    at::AsOf,
    output::{self, number},
};
use crate::{Error, StoreUrl};

/// Show what the store is and holds.
#[derive(Args)]
pub(crate) struct Info {
    #[command(flatten)]
    as_of: AsOf,
}

impl Info {
    pub(crate) fn run(self, context: &Context) -> Result<Ended, Error> {
        let store = self.as_of.open(context)?;
        let (info, head, first, checkpoint) =
            store.read(|log, view| Ok((log.info()?, log.head()?, log.first()?, view.checkpoint()?)))?;
        let counts = store.counts()?;
        let built: Vec<_> = match &context.url {
            // What tells of earlier moments is this program's fold.
            _ if store.moment().is_some() => TABLES.iter().map(|table| Some(table.projection_version)).collect(),
            StoreUrl::Sqlite(_) => store.with_connection(|conn| {
                let built = TABLES.iter().map(|table| Ok(read_built(conn, table)?.map(|built| built.version)));
                built.collect::<Result<Vec<_>, Error>>()
            })?,
            StoreUrl::Memory => TABLES.iter().map(|_| None).collect(),
            StoreUrl::Redis(_) => {
                let built = store.built_projections()?;
                TABLES.iter().map(|table| built.get(table.name).copied()).collect()
            }
        };
        let following = store.following()?;
        let began = store.beginning()?.map(|at| at.position);
        let sizes = sizes(&context.url)?;
        let keeping = Keeping::of(&store)?;
        let durability = match &context.url {
            StoreUrl::Sqlite(_) => {
                "every commit is synced to disk before it is answered (WAL, synchronous=FULL)".to_owned()
            }
            StoreUrl::Memory => "none: the store ends with the process".to_owned(),
            StoreUrl::Redis(_) => store.redis_promise().unwrap_or_default(),
        };
        if context.out.json {
            let tables: Vec<_> = counts
                .iter()
                .zip(&built)
                .map(|((name, rows), built)| json!({ "table": name, "rows": rows, "projection_version": built }))
                .collect();
            let mut value = json!({
                "store": context.url.to_string(), "log_id": info.id, "epoch": info.epoch,
                "head": head.position, "first": first, "began_with_snapshot": began, "head_commit_id": head.commit, "head_recorded_at": head.recorded_at,
                "checkpoint": checkpoint.position, "recording_from": store.recording().map(|recording| recording.from),
                "bytes": sizes.0, "wal_bytes": sizes.1, "durability": durability,
                "follows": following.as_ref().map(|following| &following.source),
                "follows_since": following.as_ref().map(|following| following.since),
                "schema_version": store.schema_version()?, "sqlite_version": rusqlite::version(), "tables": tables,
            });
            keeping.tell(&mut value);
            context.out.line(value.to_string())?;
            return Ok(Ended::Well);
        }
        let line = |name: &str, value: String| context.out.line(format!("{name:<12} {value}"));
        line("store", context.url.to_string())?;
        if let Some(following) = &following {
            let since = output::time(following.since);
            line("replica of", format!("{}, since {since}; it takes no commands", following.source))?;
        }
        line("log id", format!("{}, epoch {}", info.id, info.epoch))?;
        line("events", format!("{} to {}", first, head.position))?;
        if let Some(began) = began {
            line("began with", format!("the snapshot of event {began}; what was before is in its source"))?;
        }
        line("newest", format!("{} ({})", output::time(head.recorded_at), head.commit))?;
        line("tables at", format!("event {}", checkpoint.position))?;
        if matches!(context.url, StoreUrl::Sqlite(_)) && store.moment().is_none() {
            line("size", format!("{} bytes, and {} in the write-ahead log", number(sizes.0), number(sizes.1)))?;
        }
        for (name, value) in keeping.lines() {
            line(name, value)?;
        }
        line("durability", durability)?;
        if let Some(recording) = store.recording() {
            line(
                "clock",
                format!("a recording's, from {}; it stands still between commands", output::time(recording.from)),
            )?;
        }
        let rows: Vec<Vec<String>> = counts
            .iter()
            .zip(&built)
            .map(|((name, rows), built)| {
                vec![(*name).to_owned(), number(*rows), built.map_or("-".into(), |built| built.to_string())]
            })
            .collect();
        context.out.line("")?;
        context.out.table(&["table", "rows", "projection"], &rows)?;
        Ok(Ended::Well)
    }
}

/// Bytes of the file and of its write-ahead log.
fn sizes(url: &StoreUrl) -> Result<(u64, u64), Error> {
    let StoreUrl::Sqlite(path) = url else { return Ok((0, 0)) };
    let bytes = |path: &std::path::Path| match path.metadata() {
        Ok(metadata) => Ok(metadata.len()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(0),
        Err(error) => Err(StoreError::unavailable_because(format!("looking at {}", path.display()), error)),
    };
    let mut wal = path.as_os_str().to_owned();
    wal.push("-wal");
    Ok((bytes(path)?, bytes(std::path::Path::new(&wal))?))
}
