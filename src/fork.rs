//! What if: a store of its own with the log of another one up to a moment, some events left out. See
//! [`tasklog_replay::fork`].

use std::{
    collections::BTreeSet,
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
};

use tasklog_log::{Commit, Event, Position, StoreError};
use tasklog_projections::table;
use tasklog_replay::{
    follow::{Decisions, FOLLOW_PAGE_EVENTS, Replica},
    fork::Forker,
};

use crate::{
    beside::Beside,
    rejection::{Error, Rejection},
    store::{Role, SqliteReplica, StoreUrl, TaskStore, When},
};

/// Positions of events to be left out, as they are written on the command line: `5,7-9`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Skip(pub BTreeSet<Position>);

/// Events that one fork leaves out at most.
const SKIPPED_MAX: u64 = 1_000_000;
/// Left out events that a message names.
const NAMED_MAX: usize = 3;

impl std::str::FromStr for Skip {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let number = |text: &str| text.trim().parse::<u64>().ok().filter(|at| (1..=i64::MAX as u64).contains(at));
        let mut all = BTreeSet::new();
        for part in text.split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (Some(first), Some(last)) = (number(first), number(last)) else {
                return Err(format!("{part:?}: expected a position or a range of them, such as 5,7-9"));
            };
            if first > last || last - first >= SKIPPED_MAX || all.len() as u64 + (last - first) >= SKIPPED_MAX {
                return Err(format!(
                    "{part:?}: expected an ascending range, and at most {SKIPPED_MAX} positions in all"
                ));
            }
            all.extend((first..=last).map(Position));
        }
        Ok(Self(all))
    }
}

/// What a fork has become.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Forked {
    /// The last position of the source that was looked at.
    pub through: Position,
    /// The fork's head.
    pub head: Position,
    /// Events that were left out, those that nobody asked for included: facts about the log, and quarantined ones.
    pub left_out: u64,
}

/// Makes a store in a new file: the log of `store` through `at` without `skip`. It has a log id of its own, and commits keep
/// their ids, actors and instants. A store that keeps a recording's time gives it on. Answers kept for a `command_id`
/// are not: a repeated command is a new one there.
///
/// The file appears whole or not at all: an error, or `stop` being set, leaves nothing. What was killed on the way is a folder
/// `.<file>.incomplete-…` beside it, which the next fork into that file removes.
///
/// # Errors
/// `invalid` if the file is there already, is none, or if an event needs one that is left out (naming both); `unavailable` if it
/// was stopped; the stores'.
pub fn fork(
    store: &TaskStore,
    at: Option<When>,
    skip: &Skip,
    into: &StoreUrl,
    stop: &AtomicBool,
    note: &mut dyn FnMut(Position),
) -> Result<Forked, Error> {
    let StoreUrl::Sqlite(path) = into else {
        return Err(Rejection::invalid(format!("{into}: a fork is a file of its own, sqlite:PATH")).into());
    };
    if path.symlink_metadata().is_ok() {
        return Err(Rejection::invalid(format!("{}: there is a file already", path.display())).into());
    }
    store.require_first_event("a fork")?;
    let store = store.at(at.unwrap_or(When::Ago(0)))?;
    let through = store.head()?;
    if let Some(beyond) = skip.0.last().filter(|last| **last > through) {
        let why = format!("--skip {beyond}: the fork ends at event {through}");
        return Err(Rejection::invalid(why).into());
    }
    let passed_over = store.passed_over()?;
    let beside = Beside::begin(path)?;
    let forked = fill(&store, through, skip, passed_over, &beside.file(), stop, note)?;
    beside.place()?;
    Ok(forked)
}

fn fill(
    store: &TaskStore,
    through: Position,
    skip: &Skip,
    passed_over: Vec<Position>,
    file: &Path,
    stop: &AtomicBool,
    note: &mut dyn FnMut(Position),
) -> Result<Forked, Error> {
    let mut replica = SqliteReplica::open(file, Role::Copy, store.recording().map(|recording| recording.from))?;
    let mut forker = Forker::new(skip.0.clone(), passed_over);
    let mut at = Position::ZERO;
    while at < through {
        if stop.load(Ordering::Acquire) {
            return Err(StoreError::unavailable("the fork was stopped: nothing of it is left").into());
        }
        let page = store.read(|log, _| Ok(tasklog_log::read_checked(log, at, FOLLOW_PAGE_EVENTS)?))?;
        let Some(last) = page.last() else { break };
        at = last.last();
        let forked: Vec<Commit> =
            page.iter().filter_map(|commit| forker.commit(commit).transpose()).collect::<Result<_, StoreError>>()?;
        match replica.take(&forked, &Decisions::default()) {
            Ok(_) => note(at),
            Err(error) => return Err(explain(store, &forker, error)?),
        }
    }
    let head = replica.log().head()?.position;
    Ok(Forked { through, head, left_out: forker.left_out() })
}

/// What the fork's log refuses in terms of the source's.
fn explain(store: &TaskStore, forker: &Forker, error: StoreError) -> Result<Error, Error> {
    let StoreError::Corrupt { position: Some(position), why } = &error else { return Ok(error.into()) };
    let origin = forker.origin(*position);
    let found = store.read(|log, _| Ok(log.event(origin)?))?;
    let Some(event) = found.map(|(mut commit, index)| commit.events.swap_remove(index)) else {
        return Ok(error.into());
    };
    let left_out: Vec<_> =
        forker.left_out_of(&event.table, &event.key).iter().filter(|left_out| **left_out < origin).collect();
    if left_out.is_empty() {
        return Ok(error.into());
    }
    let of = entity(&event);
    let why = why.strip_prefix(&format!("{}/{}: ", event.table, event.key)).unwrap_or(why);
    let further = left_out.len().saturating_sub(NAMED_MAX);
    let mut named: Vec<_> = left_out.iter().rev().take(NAMED_MAX).map(ToString::to_string).collect();
    named.reverse();
    let further = if further > 0 { format!(" and {further} earlier ones") } else { String::new() };
    let (noun, is) = if left_out.len() == 1 { ("event", "is") } else { ("events", "are") };
    let needed = named.join(", ");
    Ok(Rejection::invalid(format!(
        "event {origin}, {} of {of}, needs {noun} {needed}{further}, which {is} left out: {why}. Leave out event {origin} as \
         well, or keep {needed}",
        event.event_type
    ))
    .into())
}

/// A sensitive key does not belong into a message; the position leads to it.
fn entity(event: &Event) -> String {
    let sensitive = table(&event.table)
        .is_some_and(|table| table.key_columns().any(|column| table.sensitive.contains(&column.name)));
    if sensitive { format!("a row of {}", event.table) } else { format!("{}/{}", event.table, event.key) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn positions_to_leave_out_are_numbers_and_ranges() {
        let parsed =
            |text: &str| text.parse::<Skip>().map(|skip| skip.0.into_iter().map(|at| at.0).collect::<Vec<_>>());
        assert_eq!(parsed("5,7-9, 8").unwrap(), [5, 7, 8, 9]);
        for wrong in ["", "0", "5,", "9-7", "a", "-3", "1-99999999999", "5-"] {
            assert!(parsed(wrong).is_err(), "{wrong}");
        }
    }
}
