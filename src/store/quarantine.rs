use tasklog_log::{Event, Log, Position, StoreError, sqlite::SqliteLog};
use tasklog_projections::{RowChange, Scan, View, facts, sqlite::SqliteView, table};
use tasklog_replay::{can_be_quarantined, refold};

use super::{ReadSide, TaskStore, archive, exclusive::Touches};
use crate::{
    command::{AnyCommand, CommandOptions, Reply},
    engine::{AnyReply, Request},
    facts::{Lift, Looked, Quarantine},
    rejection::{Error, Rejection, RejectionKind},
    tables::Nothing,
};

/// How often a row is looked at that goes on changing.
const LOOKS_MAX: usize = 16;

/// An event that replays pass over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quarantined {
    /// The event.
    pub position: Position,
    /// Why.
    pub why: String,
    /// The decision's own position.
    pub decided: Position,
}

impl TaskStore {
    /// Decides that replays pass over the event at `position`, as if it had left its row as it was; the row is brought to
    /// what it is without it. The decision is an event itself and can be taken back. For threads outside an async runtime.
    ///
    /// # Errors
    /// `not_found` if the log has no such event; `invalid` for a fact about the log, for an event that a later one needs
    /// (naming it), and for a store in memory; `read_only`; the store's.
    pub fn quarantine(
        &self,
        position: Position,
        why: impl Into<String>,
        options: CommandOptions,
    ) -> Result<Reply<Nothing>, Error> {
        let why = why.into();
        looking(|| {
            let (event, looked) = self.events_to_pass_over(&[position])?.swap_remove(0);
            let command = Quarantine { position: position.to_i64(), why: why.clone(), looked };
            let reply = self.run_blocking(command, options.clone())?;
            self.bring_in_line(&event)?;
            Ok(reply)
        })
    }

    /// [`TaskStore::quarantine`] of several events in one commit, for those of which none can be passed over as long as the
    /// others are not: one bad page of a disk leaves more than one damaged event in a row's chain.
    ///
    /// # Errors
    /// As [`TaskStore::quarantine`]; then nothing is decided.
    pub fn quarantine_all(
        &self,
        positions: &[Position],
        why: &str,
        options: CommandOptions,
    ) -> Result<AnyReply, Error> {
        looking(|| {
            let events = self.events_to_pass_over(positions)?;
            let command = |(event, looked): &(Event, Option<Looked>)| -> Box<dyn AnyCommand> {
                let position = event.position.to_i64();
                Box::new(Quarantine { position, why: why.into(), looked: looked.clone() })
            };
            let commands = events.iter().map(command).collect();
            let reply = self.queue(Request::transact(commands, options.clone()))?.wait()?;
            events.iter().try_for_each(|(event, _)| self.bring_in_line(event))?;
            Ok(reply)
        })
    }

    /// The events, once it is clear that replays can do without all of them, and what becomes of their rows then.
    fn events_to_pass_over(&self, positions: &[Position]) -> Result<Vec<(Event, Option<Looked>)>, Error> {
        self.check_file_or_redis()?;
        let events = positions.iter().map(|position| self.event_to_pass_over(*position));
        let events = events.collect::<Result<Vec<_>, _>>()?;
        self.read(|log, view| {
            let mut passing = facts::quarantined(view)?;
            passing.extend_from_slice(positions);
            let looked = events.into_iter().map(|event| {
                let looked = would_be(log, view, &event, &passing)?;
                Ok((event, looked))
            });
            looked.collect()
        })
    }

    /// Takes a quarantine back: replays fold the event again.
    ///
    /// # Errors
    /// `not_found` if it is not quarantined; `invalid` if the event cannot be folded; `read_only`; the store's.
    pub fn lift_quarantine(
        &self,
        position: Position,
        why: Option<String>,
        options: CommandOptions,
    ) -> Result<Reply<Nothing>, Error> {
        self.check_file_or_redis()?;
        let event = self.event_to_pass_over(position)?;
        looking(|| {
            let looked = self.read(|log, view| {
                let passing: Vec<_> =
                    facts::quarantined(view)?.into_iter().filter(|known| *known != position).collect();
                would_be(log, view, &event, &passing)
            })?;
            let command = Lift { position: position.to_i64(), why: why.clone(), looked };
            let reply = self.run_blocking(command, options.clone())?;
            self.bring_in_line(&event)?;
            Ok(reply)
        })
    }

    /// What is quarantined, by position.
    ///
    /// # Errors
    /// The store's.
    pub fn quarantined(&self) -> Result<Vec<Quarantined>, Error> {
        self.read(|_, view| {
            let mut all = Vec::new();
            for position in facts::quarantined(view)? {
                let key = tasklog_projections::pair(facts::QUARANTINE, &position.to_string());
                let decided = view.get(&facts::DEF, &key)?.map(|held| held.rev).unwrap_or_default();
                let fact = facts::get(view, facts::QUARANTINE, &position.to_string())?;
                let why = fact.and_then(|fact| fact.text.clone()).unwrap_or_default();
                all.push(Quarantined { position, why, decided });
            }
            Ok(all)
        })
    }

    fn check_file_or_redis(&self) -> Result<(), Error> {
        self.committer()?;
        if matches!(self.inner.read, ReadSide::Memory(_)) {
            return Err(Rejection::invalid("a store in memory has no past to be repaired").into());
        }
        Ok(())
    }

    fn event_to_pass_over(&self, position: Position) -> Result<Event, Error> {
        let found = self.read(|log, _| Ok(log.event(position)?))?;
        let Some((mut commit, index)) = found else {
            let head = self.head()?;
            return Err(Rejection::not_found(format!("no event {position}: the log ends at {head}")).into());
        };
        let event = commit.events.swap_remove(index);
        if table(&event.table).is_some_and(|table| !can_be_quarantined(table)) {
            let why = format!("event {position} is a fact about the log ({}): take it back instead", event.event_type);
            return Err(Rejection::invalid(why).into());
        }
        Ok(event)
    }

    /// The row of a decision that was just made: what a replay gives now.
    fn bring_in_line(&self, event: &Event) -> Result<(), Error> {
        match &self.inner.read {
            // Neither gets here: nothing can be decided there.
            ReadSide::Memory(_) | ReadSide::At(_) => Ok(()),
            ReadSide::Redis(_) => {
                let table = table(&event.table).into_iter().collect::<Vec<_>>();
                self.repair(&table, |_| {})?;
                self.forget_rows()
            }
            ReadSide::Sqlite(pool) => {
                let (event, clock) = (event.clone(), pool.clock());
                self.exclusive(Touches::Rows, move |conn| {
                    let (log, mut view) = (SqliteLog::new(conn, clock), SqliteView::live(conn));
                    let passing = facts::quarantined(&view)?;
                    // What the row began with may be in the archive alone.
                    let change = archive::joined(&log, &view, |log| refold(log, &view, &event, &passing, None))?;
                    view.write(&change.into_iter().collect::<Vec<_>>())
                })
            }
        }
    }
}

/// Decides on what was looked at, and looks again if the row has gone on meanwhile: a later event may need the one that is to
/// be passed over.
fn looking<T>(mut decide: impl FnMut() -> Result<T, Error>) -> Result<T, Error> {
    let mut decided = decide();
    for _ in 1..LOOKS_MAX {
        match &decided {
            Err(Error::Rejected(rejection)) if rejection.kind == RejectionKind::Conflict => decided = decide(),
            _ => break,
        }
    }
    decided
}

/// Whether the row can be what it would be then: an event of its chain that cannot be folded, or a unique value that
/// another row has by now, is a reason not to decide so. None if there is no such table.
fn would_be(log: &dyn Log, view: &dyn View, event: &Event, passing: &[Position]) -> Result<Option<Looked>, Error> {
    let mut passing = passing.to_vec();
    passing.sort_unstable();
    let change = refold(log, view, event, &passing, None).map_err(|error| match error {
        StoreError::Corrupt { position: Some(later), why } => {
            Rejection::invalid(format!("event {later} could not be folded then: {why}")).into()
        }
        error => Error::from(error),
    })?;
    let Some(about) = table(&event.table) else { return Ok(None) };
    let rev = match view.get(about, &event.key)? {
        Some(held) => held.rev,
        None => view.tombstone(about, &event.key)?.unwrap_or_default(),
    };
    let becomes = change.as_ref().map(|change| change.after.clone());
    let looked = Some(Looked { table: about, key: event.key.to_string(), rev, becomes });
    let Some(RowChange { table, key, after: Some(row), .. }) = change else { return Ok(looked) };
    for index in table.indexes.iter().filter(|index| index.unique) {
        let columns = index.columns.iter().filter_map(|name| table.column(name));
        let scan = Scan::equal(index.name, columns.map(|at| row.cell(at).into_owned())).limit(2);
        let other = view.scan(table, &scan)?.into_iter().map(|held| held.row.key()).find(|other| **other != *key);
        if let Some(other) = other {
            let why =
                format!("{}/{key} would have the {} that {other} has by now", table.name, index.columns.join(", "));
            return Err(Rejection::invalid(why).into());
        }
    }
    Ok(looked)
}
