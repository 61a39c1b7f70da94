use std::{collections::BTreeMap, sync::Arc};

use tasklog_log::{
    Position, StoreError,
    redis::{Connector, Keys, Link, RedisUrl, Time},
};
use tasklog_projections::{TableDef, facts, redis::Names};
use tasklog_replay::snapshot::Snapshots;

use super::{
    Reader,
    audit::{Audit, Bounds, Mode},
    notice::broken_tables,
    recording,
    turn::Turn,
};
use crate::{
    blobs::RedisBlobs,
    store::{Begin, migrate, scratch::LazyScratch},
};

/// What a repair in place has done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Repairs {
    /// The log was replayed through this position at least.
    pub position: Position,
    /// Entities that were put right.
    pub repaired: u64,
    /// Keys of a wrong type that are in the way, and what is wrong with them. They were left alone.
    pub in_the_way: BTreeMap<String, String>,
}

/// Repairs tables of the store at `url` while its writers go on.
///
/// # Errors
/// `corrupt`, naming the event that cannot be folded; `schema_ahead`; `unavailable`.
pub(crate) fn rebuild(
    url: &RedisUrl,
    tables: &[&'static TableDef],
    begin: Begin,
    mut note: impl FnMut(Position),
) -> Result<Repairs, StoreError> {
    let link = Arc::new(Link::new(Connector::new(url.clone())));
    let (keys, names) = (Keys::new(&url.prefix), Names::new(&url.prefix));
    let found: Option<u32> = link.ask(|conn| redis::cmd("GET").arg(keys.schema_version()).query(conn))?;
    migrate::check(found)?;
    let born: bool = link.ask(|conn| redis::cmd("EXISTS").arg(keys.identity()).query(conn))?;
    if !born {
        return Err(StoreError::unavailable(format!("no store at {url}: a command creates it")));
    }
    super::apply_migrations(&link, &keys, &names, found.unwrap_or(0))?;
    // A newer program's table is not touched.
    broken_tables(&link, &names)?;
    let time = match recording(&link, &keys)? {
        None => Time::Server,
        Some(recording) => Time::Given(Arc::new(tasklog_log::ManualClock::at(recording.from))),
    };
    let turn = Turn::take(&link, &url.prefix, &mut || Ok(false))?;
    repair(&link, &time, tables, begin, turn, &mut note)
}

/// Repairs what an open has noticed, or waits until another process has.
///
/// # Errors
/// As [`rebuild`]; `corrupt` if a key of a wrong type is in the way.
pub(super) fn at_open(link: &Arc<Link>, prefix: &str, time: &Time) -> Result<(), StoreError> {
    let names = Names::new(prefix);
    let Some(turn) = Turn::take(link, prefix, &mut || Ok(broken_tables(link, &names)?.is_empty()))? else {
        return Ok(());
    };
    let tables = broken_tables(link, &names)?;
    let listed: Vec<_> = tables.iter().map(|table| table.name).collect();
    tracing::info!(tables = listed.join(", "), "repairing from the log");
    let repairs = repair(link, time, &tables, Begin::WithSnapshot, Some(turn), &mut |_| {})?;
    match repairs.in_the_way.into_iter().next() {
        None => Ok(()),
        Some((key, why)) => Err(StoreError::corrupt_store(format!("{key} is in the way of a rebuild: {why}"))),
    }
}

fn repair(
    link: &Arc<Link>,
    time: &Time,
    tables: &[&'static TableDef],
    begin: Begin,
    turn: Option<Turn>,
    note: &mut dyn FnMut(Position),
) -> Result<Repairs, StoreError> {
    let url = link.connector().url();
    let prefix = &url.prefix;
    let reader = Reader::open(link, prefix, time)?;
    let scratch = LazyScratch::default();
    let mut audit = Audit::new(&reader.log, &reader.view, &scratch, tables, Mode::Repair(turn), Bounds::default())?;
    if begin == Begin::WithSnapshot {
        let quarantined = facts::quarantined(&reader.view)?;
        audit.begin_with(&Snapshots::new(Arc::new(RedisBlobs::new(url))).passing_over(quarantined), &scratch)?;
    }
    audit.run(note)?;
    let repairs = audit.repairs();
    if repairs.in_the_way.is_empty() {
        let versions: Vec<_> =
            tables.iter().flat_map(|table| [table.name.to_owned(), table.projection_version.to_string()]).collect();
        let key = Names::new(prefix).projections();
        link.call(|conn| redis::cmd("HSET").arg(&key).arg(&versions).exec(conn))?;
    }
    // The turn ends only now, so that whoever waited for it finds the versions.
    drop(audit);
    Ok(repairs)
}
