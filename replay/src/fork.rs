//! What if: the log up to a moment as another log, with some of its events left out.
//!
//! ```text
//!   source   1  2  3  4  5  6         events 2 and 5 are left out
//!   fork     1  -  2  3  -  4         dense again; prev links and positions in payloads follow
//! ```
//! A commit keeps its id, actor, reason and instant; one that loses all its events is left out. An event whose `prev` was
//! left out links to the entity's last event that was not. Payloads that name positions (claim tokens, lease terms) name
//! the new ones, so that the fold compares what belongs together; a position that was left out becomes 0, which is no
//! claim's token and no lease's term.

mod payload;

use std::collections::{BTreeSet, HashMap};

use tasklog_log::{Commit, Event, Position, StoreError, checksum};
use tasklog_projections::{TABLES, table};

/// Makes the commits of a fork, one after the other.
#[derive(Default)]
pub struct Forker {
    /// To be left out, as asked.
    skip: BTreeSet<Position>,
    /// To be left out because replays pass over them, ascending.
    passed_over: Vec<Position>,
    /// Left out so far, ascending, each with the new position of its entity's last event that was not.
    left_out: Vec<(Position, Option<Position>)>,
    /// What was left out of each entity.
    of_entity: HashMap<(String, String), Vec<Position>>,
}

impl Forker {
    /// Leaves out `skip`, the facts about the log itself, and `passed_over`: nothing that would pass over the latter comes
    /// along.
    #[must_use]
    pub fn new(skip: BTreeSet<Position>, passed_over: Vec<Position>) -> Self {
        Self { skip, passed_over, ..Self::default() }
    }

    /// How many events were left out.
    #[must_use]
    pub fn left_out(&self) -> u64 {
        self.left_out.len() as u64
    }

    /// The commit as the fork has it; none if all of it is left out. Commits come in order, from the log's first one.
    ///
    /// # Errors
    /// `corrupt`, naming the position of an event whose stored bytes cannot be right.
    pub fn commit(&mut self, commit: &Commit) -> Result<Option<Commit>, StoreError> {
        let mut events = Vec::with_capacity(commit.events.len());
        for event in &commit.events {
            if self.is_left_out(event) {
                let last = event.prev.and_then(|prev| self.linked(prev));
                self.left_out.push((event.position, last));
                let entity = (event.table.to_string(), event.key.to_string());
                self.of_entity.entry(entity).or_default().push(event.position);
            } else {
                commit.check(event)?;
                events.push(self.event(event)?);
            }
        }
        if events.is_empty() {
            return Ok(None);
        }
        let mut forked = Commit { meta: commit.meta.clone(), recorded_at: commit.recorded_at, events };
        for event in &mut forked.events {
            event.checksum = checksum(&forked.meta, forked.recorded_at, event);
        }
        Ok(Some(forked))
    }

    fn is_left_out(&self, event: &Event) -> bool {
        let fact = !TABLES.iter().any(|table| *table.name == *event.table) && table(&event.table).is_some();
        fact || self.skip.contains(&event.position) || self.passed_over.binary_search(&event.position).is_ok()
    }

    fn event(&self, event: &Event) -> Result<Event, StoreError> {
        let mut forked = event.clone();
        if self.left_out.is_empty() {
            return Ok(forked);
        }
        forked.position = self.place(event.position);
        forked.prev = event.prev.and_then(|prev| self.linked(prev));
        let names = table(&event.table).map_or(&[][..], |table| table.payload_positions);
        if !names.is_empty() {
            let moved = |old| self.moved(old).unwrap_or_default();
            forked.payload = payload::with_positions(&event.payload, names, &moved)
                .map_err(|why| StoreError::corrupt(event.position, why))?;
        }
        Ok(forked)
    }

    /// Where an event went that was not left out.
    fn place(&self, position: Position) -> Position {
        let before = self.left_out.partition_point(|(left_out, _)| *left_out < position);
        Position(position.0 - before as u64)
    }

    /// Where an event went; none if it was left out.
    #[must_use]
    pub fn moved(&self, position: Position) -> Option<Position> {
        let left_out = self.left_out.binary_search_by_key(&position, |(left_out, _)| *left_out).is_ok();
        (!left_out && position > Position::ZERO).then(|| self.place(position))
    }

    /// The event that one with this `prev` links to.
    fn linked(&self, prev: Position) -> Option<Position> {
        match self.left_out.binary_search_by_key(&prev, |(left_out, _)| *left_out) {
            Ok(at) => self.left_out[at].1,
            Err(_) => Some(self.place(prev)),
        }
    }

    /// What an event stands for that has this position in the fork.
    #[must_use]
    pub fn origin(&self, forked: Position) -> Position {
        // Each one that was left out at or before it moves it on by one.
        let mut origin = forked.0;
        for (left_out, _) in &self.left_out {
            if left_out.0 > origin {
                break;
            }
            origin += 1;
        }
        Position(origin)
    }

    /// What was left out of an entity, ascending.
    #[must_use]
    pub fn left_out_of(&self, table: &str, key: &str) -> &[Position] {
        self.of_entity.get(&(table.to_owned(), key.to_owned())).map_or(&[], Vec::as_slice)
    }
}

#[cfg(test)]
#[path = "fork/tests.rs"]
mod tests;
