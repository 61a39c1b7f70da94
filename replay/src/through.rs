use std::time::Duration;

use tasklog_log::{
    Checkpoint, Commit, CommitId, Log, LogInfo, Millis, NewCommit, Outcome, Position, Revs, StoreError, Stored,
};

use crate::Moment;

/// A log as it was at a moment: it ends there, its clock stands still, and it takes nothing. A commit that the moment
/// stands inside ends with it.
pub struct LogThrough<'l> {
    log: &'l dyn Log,
    moment: Moment,
}

impl<'l> LogThrough<'l> {
    /// `log` through `moment`.
    #[must_use]
    pub fn new(log: &'l dyn Log, moment: Moment) -> Self {
        Self { log, moment }
    }
}

fn takes_nothing() -> StoreError {
    StoreError::ReadOnly("the past takes no commands".into())
}

impl Log for LogThrough<'_> {
    fn info(&self) -> Result<LogInfo, StoreError> {
        Ok(self.moment.at.log)
    }

    fn now(&self) -> Result<Millis, StoreError> {
        Ok(self.moment.now)
    }

    fn append(&mut self, _: Millis, _: &[NewCommit], _: &mut dyn Revs) -> Result<Vec<Outcome>, StoreError> {
        Err(takes_nothing())
    }

    fn adopt(&mut self, _: &[Commit]) -> Result<(), StoreError> {
        Err(takes_nothing())
    }

    fn adopt_identity(&mut self, _: LogInfo) -> Result<(), StoreError> {
        Err(takes_nothing())
    }

    fn read(&self, after: Position, limit: usize) -> Result<Vec<Commit>, StoreError> {
        let end = self.moment.at.position;
        if after >= end {
            return Ok(Vec::new());
        }
        let mut page = self.log.read(after, limit)?;
        page.retain(|commit| commit.first() <= end);
        if let Some(last) = page.last_mut() {
            last.events.retain(|event| event.position <= end);
        }
        Ok(page)
    }

    fn positions_of(
        &self,
        table: &str,
        key: &str,
        after: Position,
        through: Position,
    ) -> Result<Vec<Position>, StoreError> {
        self.log.positions_of(table, key, after, through.min(self.moment.at.position))
    }

    fn event(&self, position: Position) -> Result<Option<(Commit, usize)>, StoreError> {
        let end = self.moment.at.position;
        if position > end {
            return Ok(None);
        }
        let mut found = self.log.event(position)?;
        if let Some((commit, _)) = &mut found {
            commit.events.retain(|event| event.position <= end);
        }
        Ok(found)
    }

    fn event_alone(&self, position: Position) -> Result<Option<Commit>, StoreError> {
        if position > self.moment.at.position { Ok(None) } else { self.log.event_alone(position) }
    }

    fn head(&self) -> Result<Checkpoint, StoreError> {
        Ok(self.moment.at)
    }

    fn first(&self) -> Result<Position, StoreError> {
        self.log.first()
    }

    fn find(&self, id: CommitId) -> Result<Option<Stored>, StoreError> {
        Ok(self.log.find(id)?.filter(|stored| stored.appended.last <= self.moment.at.position))
    }

    fn wait(&self, _: Position, _: Duration) -> Result<Position, StoreError> {
        Ok(self.moment.at.position)
    }
}
