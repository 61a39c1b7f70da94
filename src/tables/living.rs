//! What the tables whose rows die by time have in common: counting the living, and making room among them.

use std::{ops::Bound, sync::Arc};

use tasklog_log::Millis;
use tasklog_projections::{Cell, PAGE_ROWS_MAX, Scan, Table};

use crate::{decision::Decision, rejection::Error};

/// The rows that are live at `now`, in the order of their deaths. `by_death` is the index on the instant of death.
pub(crate) fn scan(by_death: &'static str, now: Millis) -> Scan<'static> {
    Scan::all(by_death).from(Bound::Excluded(vec![Cell::Integer(now)]))
}

/// The rows that must go so that one more row fits within `bound`: those that would die first.
///
/// At most half of what the commit has room for, because a transact that creates a row of this table goes on with other
/// commands; if that is not enough, the next creation goes on.
pub(crate) fn victims<T: Table>(
    cx: &mut Decision<'_>,
    by_death: &'static str,
    bound: u64,
) -> Result<Vec<Arc<T::Row>>, Error> {
    if !cx.may_have::<T>(bound)? {
        return Ok(Vec::new());
    }
    let excess = (cx.count_live::<T>(Some(by_death))? + 1).saturating_sub(bound);
    let limit = usize::try_from(excess).unwrap_or(usize::MAX).min(cx.room() / 2).min(PAGE_ROWS_MAX);
    if limit == 0 {
        return Ok(Vec::new());
    }
    cx.scan::<T>(&scan(by_death, cx.now()).limit(limit))
}

#[cfg(test)]
#[path = "living_tests.rs"]
mod tests;
