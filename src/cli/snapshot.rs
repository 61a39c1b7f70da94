use std::time::Instant;

use clap::Args;
use serde_json::json;
use tasklog_replay::snapshot::{Contents, SnapshotInfo, Snapshots};

use super::{
    Context, Ended,
    output::{self, BAD, number},
};
use crate::Error;

/// Make a snapshot of all rows as they are now, while readers and writers go on.
///
/// It is made from the snapshot before it and the log's events since then, into the store's own place: a folder named like
/// the file with `.snapshots` at its end, or keys beside those of a store in Redis. A store that is open for commands makes
/// one by itself every 100,000 events. Older ones are thinned out: the newest three stay, and beyond them the distances
/// double.
#[derive(Args)]
pub(crate) struct Snapshot {}

/// List the snapshots, the newest first, and whether each of them can be used.
#[derive(Args)]
pub(crate) struct List {}

impl Snapshot {
    pub(crate) fn run(self, context: &Context) -> Result<Ended, Error> {
        let store = context.open_to_read()?;
        let began = Instant::now();
        let bar = output::progress(Some(store.head()?.0), "events");
        let info = store.snapshot(|position| bar.set_position(position.0))?;
        bar.finish_and_clear();
        let seconds = began.elapsed().as_secs_f64();
        let snapshots = store.snapshots()?;
        let (rows, tombstones) = match snapshots.contents(&info)? {
            Ok(contents) => (contents.rows(), contents.tombstones()),
            Err(why) => return Err(tasklog_log::StoreError::corrupt_store(format!("{}: {why}", info.name)).into()),
        };
        if context.out.json {
            let value = json!({
                "position": info.position, "name": info.name, "place": snapshots.place(), "rows": rows,
                "tombstones": tombstones, "bytes": info.bytes, "digest": info.digest, "seconds": seconds,
            });
            context.out.line(value.to_string())?;
        } else {
            context.out.line(format!(
                "snapshot at event {}: {} rows and {} tombstones in {} bytes, in {seconds:.1} s ({} in {})",
                number(info.position.0),
                number(rows),
                number(tombstones),
                number(info.bytes),
                info.name,
                snapshots.place(),
            ))?;
        }
        Ok(Ended::Well)
    }
}

/// One snapshot of the list.
struct Listed {
    info: SnapshotInfo,
    contents: Option<Contents>,
    /// Why it cannot be used.
    why_not: Option<String>,
}

impl List {
    pub(crate) fn run(self, context: &Context) -> Result<Ended, Error> {
        let store = context.open_to_read()?;
        let snapshots = store.snapshots()?;
        let listed = store.read(|log, _| {
            snapshots
                .list()?
                .into_iter()
                .map(|info| Ok(look(&snapshots, log, info)?))
                .collect::<Result<Vec<_>, Error>>()
        })?;
        let out = context.out;
        if out.json {
            for one in &listed {
                out.line(told(one).to_string())?;
            }
            return Ok(Ended::Well);
        }
        let rows: Vec<_> = listed.iter().map(shown).collect();
        out.table(&["position", "time", "rows", "bytes", "digest", "usable"], &rows)?;
        for Listed { info, why_not, .. } in &listed {
            if let Some(why) = why_not {
                out.line(format!("{}✗{} {}: {why}", BAD.render(), BAD.render_reset(), info.name))?;
            }
        }
        Ok(Ended::Well)
    }
}

fn look(
    snapshots: &Snapshots,
    log: &dyn tasklog_log::Log,
    info: SnapshotInfo,
) -> Result<Listed, tasklog_log::StoreError> {
    let why_not = snapshots.open(log, &info)?.err();
    let contents = snapshots.contents(&info)?.ok();
    Ok(Listed { info, contents, why_not })
}

fn told(one: &Listed) -> serde_json::Value {
    let Listed { info, contents, why_not } = one;
    let mut value = json!({
        "position": info.position, "name": info.name, "bytes": info.bytes, "digest": info.digest,
        "usable": why_not.is_none(), "why_not": why_not,
    });
    if let Some(contents) = contents {
        let tables: Vec<_> = contents
            .tables
            .iter()
            .map(|table| {
                json!({
                    "table": table.name, "projection_version": table.projection_version, "rows": table.rows,
                    "tombstones": table.tombstones,
                })
            })
            .collect();
        value["digest"] = contents.digest.clone().into();
        value["commit_id"] = json!(contents.checkpoint.commit);
        value["epoch"] = contents.checkpoint.log.epoch.into();
        value["recorded_at"] = contents.checkpoint.recorded_at.into();
        value["rows"] = contents.rows().into();
        value["tombstones"] = contents.tombstones().into();
        value["passed_over"] = json!(contents.passed_over);
        value["tables"] = tables.into();
    }
    value
}

fn shown(one: &Listed) -> Vec<String> {
    let Listed { info, contents, why_not } = one;
    let (time, rows) = match contents {
        Some(contents) => (output::time(contents.checkpoint.recorded_at), number(contents.rows())),
        None => ("?".into(), "?".into()),
    };
    let usable = if why_not.is_none() { "yes" } else { "no" };
    vec![number(info.position.0), time, rows, number(info.bytes), info.digest.clone(), usable.into()]
}
