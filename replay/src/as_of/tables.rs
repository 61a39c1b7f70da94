//! Whole tables at a moment: folded from a snapshot at or before it, or from the log's start.

use tasklog_log::{Checkpoint, Millis, StoreError, read_checked_but};
use tasklog_projections::{TableDef, View};

use super::{Moment, Past};
use crate::{Folder, snapshot::Snapshot};

/// Events in a page of a fold.
const PAGE_EVENTS: usize = 4_000;
/// Dead rows removed from one table at once.
const SWEEP_ROWS_MAX: usize = 2_000;

impl Past<'_> {
    /// Folds `tables` through a moment into a fresh `view`. Answers whether it is done: beyond `rows_max` rows it gives up,
    /// and the view is of no use.
    ///
    /// # Errors
    /// `corrupt` or `schema_ahead`, naming the position; the log's and the view's.
    pub fn tables(
        &self,
        tables: &[&'static TableDef],
        moment: &Moment,
        view: &mut dyn View,
        rows_max: u64,
    ) -> Result<bool, StoreError> {
        let mut rows = 0_u64;
        let mut folder = match self.snapshot(moment.at.position)? {
            Some(snapshot) => {
                rows = rows_of(&snapshot, tables);
                if rows > rows_max {
                    return Ok(false);
                }
                let at = snapshot.load(tables, view)?;
                Folder::on(tables, view)?.after_snapshot(at.position)
            }
            None => {
                self.require_beginning(moment.at.position)?;
                Folder::new(tables)
            }
        }
        .passing_over(self.passed_over.iter().copied());
        let mut at = view.checkpoint()?;
        let mut flush = |folder: &mut Folder, view: &mut dyn View, to: &Checkpoint| -> Result<bool, StoreError> {
            let changes = folder.changes();
            for change in &changes {
                match (&change.before, &change.after) {
                    (None, Some(_)) => rows += 1,
                    (Some(_), None) => rows = rows.saturating_sub(1),
                    _ => {}
                }
            }
            let from = view.checkpoint()?;
            view.apply(&changes, &from, to)?;
            Ok(rows <= rows_max)
        };
        while at.position < moment.at.position {
            let page = read_checked_but(self.log, at.position, PAGE_EVENTS, &|position| self.passes_over(position))?;
            if page.is_empty() {
                return Err(StoreError::corrupt(at.position.next(), "missing from the log"));
            }
            for commit in page.iter().take_while(|commit| commit.first() <= moment.at.position) {
                for event in commit.events.iter().filter(|event| event.position <= moment.at.position) {
                    folder.fold_event(event, commit.recorded_at, view)?;
                }
                at.position = commit.last();
                at.commit = commit.meta.id;
                at.recorded_at = commit.recorded_at;
            }
            if folder.is_full() && at.position < moment.at.position && !flush(&mut folder, view, &at)? {
                return Ok(false);
            }
        }
        flush(&mut folder, view, &moment.at)
    }
}

fn rows_of(snapshot: &Snapshot, tables: &[&'static TableDef]) -> u64 {
    let counted = snapshot.contents().tables;
    let wanted = counted.iter().filter(|counted| tables.iter().any(|table| table.name == counted.name));
    wanted.map(|counted| counted.rows).sum()
}

/// Removes from `view` the rows that had died by `now`.
///
/// # Errors
/// The view's.
pub fn bury_dead(tables: &[&'static TableDef], view: &mut dyn View, now: Millis) -> Result<(), StoreError> {
    for table in tables.iter().filter(|table| table.dies_at.is_some()) {
        while view.sweep(table, now, Millis::MIN, SWEEP_ROWS_MAX)?.len() == SWEEP_ROWS_MAX {}
    }
    Ok(())
}
