use tasklog_projections::TableDef;
use tasklog_replay::{Between, Counts, LogThrough, Moment, Past, RowDiff, diff, diff_row, history};

use super::{super::TaskStore, When};
use crate::rejection::{Error, Rejection};

/// What is compared.
#[derive(Clone, Copy, Debug)]
pub enum Scope<'a> {
    /// All rows of these tables.
    Tables(&'a [&'static TableDef]),
    /// One row.
    Row(&'static TableDef, &'a str),
}

/// Between which moments a comparison was made, and what it came to.
#[derive(Clone, Copy, Debug)]
pub struct Differed {
    /// The earlier one.
    pub from: Moment,
    /// The later one.
    pub to: Moment,
    /// How many rows differ.
    pub counts: Counts,
}

impl TaskStore {
    /// Tells `meet` which live rows differ between two moments, field by field, with the events responsible. Memory is
    /// bounded: only rows that events touched meanwhile can differ, and rows that died by time.
    ///
    /// # Errors
    /// `invalid` if there is no such moment, or `from` is later than `to`; `meet`'s; the store's.
    pub fn diff(
        &self,
        from: impl Into<When>,
        to: impl Into<When>,
        scope: Scope<'_>,
        meet: &mut dyn FnMut(RowDiff) -> Result<(), Error>,
    ) -> Result<Differed, Error> {
        let (from, to) = (from.into(), to.into());
        let (earlier, later) = (self.at(from)?, self.at(to)?);
        let (from, to) = match (earlier.moment(), later.moment()) {
            (Some(earlier), Some(later)) if earlier.at.position <= later.at.position && earlier.now <= later.now => {
                (earlier, later)
            }
            _ => {
                return Err(Rejection::invalid(format!("{from} is later than {to}: name the earlier one first")).into());
            }
        };
        let counts = match scope {
            Scope::Row(table, key) => {
                let row = |store: &Self| store.read(|_, view| Ok(view.get(table, key)?.map(|held| held.row)));
                let steps = later.read(|log, view| Ok(history(log, view, table, key)?))?;
                let (differs, counts) = diff_row((&from, &to), table, key, (row(&earlier)?, row(&later)?), &steps);
                differs.map_or(Ok(()), meet)?;
                counts
            }
            Scope::Tables(tables) => {
                let (passed_over, snapshots) = (self.passed_over()?, self.snapshots()?);
                earlier.read(|_, before| {
                    self.inner.read.with_log(|log| {
                        let log = LogThrough::new(log, to);
                        let past = Past { log: &log, passed_over: &passed_over, snapshots: Some(&snapshots) };
                        diff(&Between { past, from, to, before }, tables, meet)
                    })
                })?
            }
        };
        Ok(Differed { from, to, counts })
    }
}
