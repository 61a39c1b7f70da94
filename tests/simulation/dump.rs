//! Rows as text: the same text, the same rows.

use std::fmt::Write;

use tasklog::{
    log::{Checkpoint, Commit, Log, Millis, Position, READ_EVENTS_MAX, StoreError, read_checked},
    projections::{PROJECTED, View, cell_json, facts, memory::MemoryView},
    replay::{FOLD_ROWS_MAX, Folder, catch_up_with, live_rows, snapshot::Snapshot},
};

/// The rows that are alive at `now`, table by table in key order, one a line with its rev.
pub fn dump(view: &dyn View, now: Millis) -> Result<String, StoreError> {
    let mut text = String::new();
    for table in PROJECTED {
        live_rows(table, view, now, |held| {
            write!(text, "{}/{} rev={}", table.name, held.row.key(), held.rev).expect("a string has room");
            for (column, cell) in table.columns.iter().zip(held.row.cells()) {
                let json = cell_json(column, &cell).map_err(StoreError::corrupt_store)?;
                write!(text, " {}={json}", column.name).expect("a string has room");
            }
            text.push('\n');
            Ok(())
        })?;
    }
    Ok(text)
}

/// The rows that a store has now, by its log's clock.
pub fn live(log: &dyn Log, view: &dyn View) -> Result<String, StoreError> {
    dump(view, log.head()?.recorded_at)
}

/// All commits after a position.
pub fn commits(log: &dyn Log, after: Position) -> Result<Vec<Commit>, StoreError> {
    let (mut all, mut after) = (Vec::new(), after);
    loop {
        let page = read_checked(log, after, READ_EVENTS_MAX)?;
        let Some(last) = page.last() else { return Ok(all) };
        after = last.last();
        all.extend(page);
    }
}

/// The rows that `commits` give, from nothing or on a snapshot, without what the live tables say is quarantined.
pub fn folded(
    commits: &[Commit],
    from: Option<&Snapshot>,
    log: &dyn Log,
    live: &dyn View,
) -> Result<String, StoreError> {
    let mut view = MemoryView::new(log.info()?);
    let start = Checkpoint::start(log.info()?);
    let at = from.map_or(Ok(start), |snapshot| snapshot.load(&PROJECTED, &mut view))?;
    let mut folder = Folder::on(&PROJECTED, &view)?.passing_over(facts::quarantined(live)?);
    if from.is_some() {
        folder = folder.after_snapshot(at.position);
    }
    let tail: Vec<Commit> = commits.iter().filter(|commit| commit.first() > at.position).cloned().collect();
    let now = tail.last().map_or(at.recorded_at, |commit| commit.recorded_at);
    let pages = (!tail.is_empty()).then_some(Ok(tail));
    catch_up_with(&mut folder, FOLD_ROWS_MAX, pages.into_iter(), &mut view, |_| ())?;
    dump(&view, now)
}
