use std::collections::HashMap;

use ahash::RandomState;
use tasklog_log::{Commit, Position, StoreError};
use tasklog_projections::{AnyRow, TableDef};

use crate::{Past, Step, changes};

/// Rows kept while stepping; beyond it they are forgotten and read again when they are needed.
const ROWS_KEPT_MAX: usize = 10_000;

/// Steps through the events of a log, with the row before and after each, in any order.
pub struct Steps<'a> {
    past: Past<'a>,
    /// The rows that events left, by the position of that event.
    rows: HashMap<Position, Option<AnyRow>, RandomState>,
}

impl<'a> Steps<'a> {
    /// Steps through `past`.
    #[must_use]
    pub fn new(past: Past<'a>) -> Self {
        Self { past, rows: HashMap::default() }
    }

    /// What one event did; `table` is its table.
    ///
    /// # Errors
    /// `corrupt`, naming the position of a link that is missing or an event that cannot be folded; the log's.
    pub fn step(&mut self, table: &'static TableDef, commit: &Commit, index: usize) -> Result<Step, StoreError> {
        let event = commit.events[index].clone();
        let quarantined = self.past.passes_over(event.position);
        if !quarantined {
            commit.check(&event)?;
        }
        let before = match event.prev {
            None => None,
            Some(prev) => match self.rows.get(&prev) {
                Some(row) => row.clone(),
                None => self.past.row_from(table, &event.key, prev, prev)?.row,
            },
        };
        let before = before.filter(|row| row.is_live(commit.recorded_at));
        let after =
            if quarantined { before.clone() } else { table.fold(before.clone(), &event, commit.recorded_at)? };
        if self.rows.len() >= ROWS_KEPT_MAX {
            self.rows.clear();
        }
        self.rows.insert(event.position, after.clone());
        let payload = match table.payload_json(&event) {
            // That it cannot be read may be why.
            Err(_) if quarantined => "null".into(),
            payload => payload.map_err(|error| StoreError::corrupt(event.position, error.to_string()))?,
        };
        Ok(Step {
            changes: changes(table, before.as_ref(), after.as_ref()),
            exists: after.is_some(),
            before,
            after,
            quarantined,
            recorded_at: commit.recorded_at,
            meta: commit.meta.clone(),
            event,
            payload,
        })
    }
}
