use std::sync::Arc;

use tasklog_log::{
    Checkpoint, Clock, CommitId, Event, Log, Millis, NewCommit, Outcome, Position, Revs, StoreError, Stored,
    memory::MemoryLog,
};
use tasklog_projections::{View, memory::MemoryView};

use super::Backend;
use crate::rows::Below;

/// Log and tables in this process's memory. Clones share them.
#[derive(Clone)]
pub struct MemoryBackend {
    pub(crate) log: MemoryLog,
    pub(crate) view: MemoryView,
}

impl MemoryBackend {
    /// An empty store.
    ///
    /// # Errors
    /// None in practice; the log's contract allows them.
    pub fn new(clock: Arc<dyn Clock>) -> Result<Self, StoreError> {
        let log = MemoryLog::new(clock);
        let view = MemoryView::new(log.info()?);
        Ok(Self { log, view })
    }
}

impl Below for MemoryBackend {
    fn view(&mut self) -> Box<dyn View + '_> {
        Box::new(&mut self.view)
    }

    fn event(&mut self, position: Position, checked: bool) -> Result<Event, StoreError> {
        super::event_at(&self.log, position, checked)
    }
}

impl Backend for MemoryBackend {
    fn begin(&mut self) -> Result<bool, StoreError> {
        self.view.begin();
        Ok(false)
    }

    fn now(&mut self) -> Result<Millis, StoreError> {
        self.log.now()
    }

    fn head(&mut self) -> Result<Checkpoint, StoreError> {
        self.log.head()
    }

    fn find(&mut self, id: CommitId) -> Result<Option<Stored>, StoreError> {
        self.log.find(id)
    }

    fn append(&mut self, now: Millis, batch: &[NewCommit], revs: &mut dyn Revs) -> Result<Vec<Outcome>, StoreError> {
        self.log.append(now, batch, revs)
    }

    fn forget_answers(&mut self, cutoff: Millis) -> Result<bool, StoreError> {
        self.log.forget_answers(cutoff);
        Ok(true)
    }

    fn commit(&mut self) -> Result<(), StoreError> {
        self.view.commit();
        Ok(())
    }

    fn rollback(&mut self) {
        // Nothing in memory fails between the first write and the commit; rows that a rejected command had flushed are
        // written back by the writer itself.
        self.view.commit();
    }

    fn reopen(&mut self) -> Result<(), StoreError> {
        Ok(())
    }
}
