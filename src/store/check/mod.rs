//! What `verify` looks at in a store.
//!
//! ```text
//! pages.rs    the file's pages and indexes, as SQLite checks them
//! schema.rs   the tables, their indexes, and what does not belong there
//! events.rs   events one by one, where they cannot all be read
//! (here)      events, links and rows, against a replay
//! sides.rs    side tables, against the rows; what is remembered of deleted rows, against the replay
//! heads.rs    what the file says of its newest commit, against that commit
//! ```
//! Nothing is written, and one finding does not end it.

mod events;
mod heads;
mod pages;
mod schema;
mod sides;

use std::{path::Path, sync::Arc};

use rusqlite::Connection;
use tasklog_log::{
    Log, Millis, Position, StoreError, archive::ArchivedLog, merkle::Kept as KeptTree, sqlite::SqliteLog,
};
use tasklog_projections::{PROJECTED, View, facts, memory::MemoryView, sqlite::SqliteView};
use tasklog_replay::{Finding, Report, Verifier, snapshot::Snapshot};

use super::{
    archive,
    beginning::snapshot_of,
    scratch::Scratch,
    snapshots::{self, Kept},
    sqlite::VERIFY_PAGE_EVENTS,
    tree::kept_in_file,
};
use crate::backend::MemoryBackend;

pub(super) use heads::mismatch;
pub(super) use pages::damage;
use schema::Found;
use sides::Remembered;

/// So few events behind the head, the rest is read and compared under one snapshot.
const VERIFY_TAIL_EVENTS: u64 = 50_000;

/// Verifies the store behind a read-only connection. Short tombstones may be gone of rows that were deleted before `since`.
///
/// # Errors
/// The store's.
pub(super) fn verify(
    path: &Path,
    conn: &Connection,
    since: Millis,
    note: impl FnMut(Position),
) -> Result<Report, StoreError> {
    // Before anything that holds a state for long: the writer goes on.
    let mut report = Report::default();
    pages::check(conn, &mut report)?;
    let found = schema::check(conn, &mut report)?;
    if !found.log {
        return Ok(report);
    }
    let log = SqliteLog::new(conn, Arc::new(tasklog_log::SystemClock));
    let beginning = log.beginning()?.map(|at| snapshot_of(&snapshots::of_file(path, []), &log, &at)).transpose()?;
    archive::joined(&log, &SqliteView::live(conn), |log| {
        verify_joined(conn, log, beginning.as_ref(), report, &found, since, note)
    })
}

fn verify_joined(
    conn: &Connection,
    log: &ArchivedLog<'_>,
    beginning: Option<&Snapshot>,
    report: Report,
    found: &Found,
    since: Millis,
    mut note: impl FnMut(Position),
) -> Result<Report, StoreError> {
    let scratch = Scratch::new()?;
    let mut view = scratch.view(log)?;
    let mut report = report;
    let mut told = |what: &str, error| match error {
        StoreError::Corrupt { why, .. } => {
            report.add(Finding::Store { what: what.to_owned(), why });
            Ok(())
        }
        error => Err(error),
    };
    let quarantined = match facts::quarantined(&SqliteView::live(conn)) {
        _ if !found.has(&facts::DEF) => Vec::new(),
        Ok(quarantined) => quarantined,
        Err(error) => told("what is quarantined", error).map(|()| Vec::new())?,
    };
    let kept = match kept_in_file(conn) {
        Ok(kept) => kept,
        Err(error) => told("the Merkle tree", error).map(|()| KeptTree::default())?,
    };
    let remembered = Remembered {
        since,
        began: beginning.map_or(Position::ZERO, |snapshot| snapshot.checkpoint().position),
        passed_over: quarantined.clone(),
    };
    let verifier = match beginning {
        Some(snapshot) => after(snapshot, &mut view, quarantined)?,
        // What is before the log's beginning must be in its archive.
        None => Verifier::new(Position(1), quarantined).with_tree(kept),
    };
    let mut verifier = verifier.with_findings(report);
    let mut step = |verifier: &mut Verifier, view: &mut SqliteView<'_>, leave: u64| -> Result<(), StoreError> {
        loop {
            let at = verifier.position();
            if at.0 + leave >= log.head()?.position.0 {
                return Ok(());
            }
            let page = events::page(conn, log, verifier, VERIFY_PAGE_EVENTS)?;
            if page.is_empty() && verifier.position() == at {
                return Ok(());
            }
            verifier.page(&page, view)?;
            note(verifier.position());
        }
    };
    step(&mut verifier, &mut view, VERIFY_TAIL_EVENTS)?;
    let snapshot = conn.unchecked_transaction()?;
    step(&mut verifier, &mut view, 0)?;
    verifier.compare(&found.tables, log, &SqliteView::live(conn), &mut view)?;
    sides::values(conn, &found.tables, verifier.report())?;
    if found.tombstones {
        match sides::tombstones(conn, &found.tables, &view, &remembered, &mut verifier) {
            Err(StoreError::Corrupt { why, .. }) => verifier.store("table _tombstones", why),
            compared => compared?,
        }
    }
    heads::check(conn, log, verifier.report())?;
    snapshot.commit()?;
    Ok(verifier.into_report())
}

fn after(snapshot: &Snapshot, fresh: &mut dyn View, quarantined: Vec<Position>) -> Result<Verifier, StoreError> {
    let at = snapshot.load(&PROJECTED, fresh)?;
    Verifier::after_snapshot(at.position, fresh, quarantined)
}

/// Verifies a log and tables in memory, whose snapshots are kept there.
///
/// # Errors
/// The store's.
pub(super) fn verify_memory(
    backend: &MemoryBackend,
    kept: &Kept,
    mut note: impl FnMut(Position),
) -> Result<Report, StoreError> {
    let (log, live): (&dyn Log, &dyn View) = (&backend.log, &backend.view);
    let mut fresh = MemoryView::new(log.info()?);
    let quarantined = facts::quarantined(live)?;
    let mut verifier = match backend.log.beginning() {
        Some(at) => after(&snapshot_of(kept.all(), log, &at)?, &mut fresh, quarantined)?,
        None => Verifier::new(log.first()?, quarantined),
    };
    loop {
        let page = log.read(verifier.position(), VERIFY_PAGE_EVENTS)?;
        if page.is_empty() {
            return verifier.finish(log, live, &mut fresh);
        }
        verifier.page(&page, &mut fresh)?;
        note(verifier.position());
    }
}
