use std::{
    cell::{Cell, OnceCell},
    time::Duration,
};

use super::Archive;
use crate::{
    Checkpoint, Commit, CommitId, Log, LogInfo, Millis, NewCommit, Outcome, Position, Revs, StoreError, Stored,
};

/// How often a page is read again because the log was trimmed meanwhile.
const TRIMMED_MAX: usize = 16;

/// A hot log and the archive of what was trimmed from it, as one log for reading. What the hot log has comes from there;
/// what is before it, from the archive; neither is asked for what the other one has. It takes no commits.
///
/// ```text
///   archive   [ 1 ...................... 300 ]
///   hot log                     [ 201 .......... 450 ]
///   read      1 ........... 200   201 .......... 450
/// ```
pub struct ArchivedLog<'l> {
    hot: &'l dyn Log,
    find: &'l dyn Fn() -> Result<Option<Archive>, StoreError>,
    archive: OnceCell<Option<Archive>>,
    /// The hot log's first position as far as is known: it can only be higher.
    hot_first: Cell<Position>,
}

impl<'l> ArchivedLog<'l> {
    /// A log and its archive; without one, the log as it is.
    #[must_use]
    pub fn new(hot: &'l dyn Log, archive: Option<&Archive>) -> Self {
        Self { archive: OnceCell::from(archive.cloned()), ..Self::lazily(hot, &|| Ok(None)) }
    }

    /// A log whose archive is looked for when something of it is wanted that the log no longer has.
    #[must_use]
    pub fn lazily(hot: &'l dyn Log, find: &'l dyn Fn() -> Result<Option<Archive>, StoreError>) -> Self {
        Self { hot, find, archive: OnceCell::new(), hot_first: Cell::new(Position(1)) }
    }

    fn archive(&self) -> Result<Option<&Archive>, StoreError> {
        if self.archive.get().is_none() {
            let found = (self.find)()?;
            return Ok(self.archive.get_or_init(|| found).as_ref());
        }
        Ok(self.archive.get().and_then(Option::as_ref))
    }

    fn look_first(&self) -> Result<Position, StoreError> {
        let first = self.hot.first()?.max(self.hot_first.get());
        self.hot_first.set(first);
        Ok(first)
    }

    /// What is at a position, in the hot log or else in the archive.
    fn look_up<T>(
        &self,
        position: Position,
        in_hot: impl Fn(&dyn Log) -> Result<Option<T>, StoreError>,
        archived: impl FnOnce((Commit, usize)) -> Option<T>,
    ) -> Result<Option<T>, StoreError> {
        if position >= self.hot_first.get() || position == Position::ZERO {
            let found = in_hot(self.hot);
            let missing = matches!(found, Err(StoreError::Corrupt { .. }));
            if !missing || self.look_first()? <= position {
                return found;
            }
        }
        let Some(archive) = self.archive()? else { return Err(before_beginning(position, self.hot_first.get())) };
        match archive.event(position)? {
            Some(found) => Ok(archived(found)),
            None => Err(self.lost(archive, position, self.hot_first.get())),
        }
    }

    /// What the archive must have, because the hot log begins beyond it.
    fn lost(&self, archive: &Archive, position: Position, first: Position) -> StoreError {
        StoreError::corrupt(
            position,
            format!(
                "missing from the log, which begins at {first}, and from its archive at {}",
                archive.blobs().place()
            ),
        )
    }
}

/// Nobody here has it. It is not lost: the log was begun with a snapshot, or its archive is known to another store.
fn before_beginning(position: Position, first: Position) -> StoreError {
    StoreError::unavailable(format!(
        "event {position}: the log here begins at event {first}, and no archive of it is known: ask a store that has what was \
         before, such as the source of a replica"
    ))
}

fn refused() -> StoreError {
    StoreError::ReadOnly("a log that is read together with its archive takes no commits".into())
}

impl Log for ArchivedLog<'_> {
    fn info(&self) -> Result<LogInfo, StoreError> {
        self.hot.info()
    }

    fn now(&self) -> Result<Millis, StoreError> {
        self.hot.now()
    }

    fn append(&mut self, _: Millis, _: &[NewCommit], _: &mut dyn Revs) -> Result<Vec<Outcome>, StoreError> {
        Err(refused())
    }

    fn adopt(&mut self, _: &[Commit]) -> Result<(), StoreError> {
        Err(refused())
    }

    fn adopt_identity(&mut self, _: LogInfo) -> Result<(), StoreError> {
        Err(refused())
    }

    fn read(&self, after: Position, limit: usize) -> Result<Vec<Commit>, StoreError> {
        let next = after.next();
        for _ in 0..TRIMMED_MAX {
            let known = self.hot_first.get();
            if next < known {
                let Some(archive) = self.archive()? else { return self.hot.read(after, limit) };
                let mut commits = archive.read(after, known, limit)?;
                let events: usize = commits.iter().map(|commit| commit.events.len()).sum();
                let Some(last) = commits.last().map(Commit::last) else {
                    return Err(self.lost(archive, next, known));
                };
                if events >= limit || last.next() < known {
                    return Ok(commits);
                }
                let rest = self.hot.read(last, limit - events)?;
                // Trimmed meanwhile: what is missing between the two is read by the next call.
                if rest.first().is_some_and(|commit| commit.first() == last.next()) {
                    commits.extend(rest);
                }
                return Ok(commits);
            }
            let read = self.hot.read(after, limit);
            let begins_late = match &read {
                Ok(commits) => commits.first().map_or(self.hot.head()?.position > after, |first| first.first() > next),
                Err(StoreError::Corrupt { .. }) => true,
                Err(_) => false,
            };
            if !begins_late || self.look_first()? <= next {
                return read;
            }
        }
        Err(StoreError::unavailable(format!("reading from event {next}: the log was trimmed meanwhile each time")))
    }

    fn head(&self) -> Result<Checkpoint, StoreError> {
        self.hot.head()
    }

    /// The first position that can be read: the archive's, if the hot log no longer begins at 1.
    fn first(&self) -> Result<Position, StoreError> {
        let hot = self.look_first()?;
        if hot <= Position(1) {
            return Ok(hot);
        }
        let manifest = self.archive().and_then(|archive| archive.map_or(Ok(None), Archive::manifest));
        match manifest {
            Ok(Some(manifest)) if manifest.last().next() >= hot => {
                Ok(manifest.first().map_or(hot, |first| first.min(hot)))
            }
            Ok(_) => Ok(hot),
            Err(error) => {
                // Whoever needs what is there will be told the same as an error.
                tracing::warn!(error = error.full(), "the log begins at event {hot}, and its archive cannot be read");
                Ok(hot)
            }
        }
    }

    fn find(&self, id: CommitId) -> Result<Option<Stored>, StoreError> {
        self.hot.find(id)
    }

    fn wait(&self, after: Position, timeout: Duration) -> Result<Position, StoreError> {
        self.hot.wait(after, timeout)
    }

    fn event(&self, position: Position) -> Result<Option<(Commit, usize)>, StoreError> {
        self.look_up(position, |hot| hot.event(position), Some)
    }

    fn event_alone(&self, position: Position) -> Result<Option<Commit>, StoreError> {
        self.look_up(
            position,
            |hot| hot.event_alone(position),
            |(mut commit, index)| {
                commit.events = vec![commit.events.swap_remove(index)];
                Some(commit)
            },
        )
    }
}
