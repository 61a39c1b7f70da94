use tasklog_log::{Checkpoint, Commit, Log, LogInfo, Position, StoreError};
use tasklog_projections::{PROJECTED, View, facts, memory::MemoryView};
use tasklog_replay::{
    Folder,
    follow::{FOLLOW_PAGE_EVENTS, Replica, take},
};

use crate::backend::MemoryBackend;

/// A log and tables in memory that take another log's commits. Readers see them move in step.
pub(crate) struct MemoryReplica {
    backend: MemoryBackend,
    folder: Option<Folder>,
}

impl MemoryReplica {
    pub(crate) fn on(backend: MemoryBackend) -> Self {
        Self { backend, folder: None }
    }

    fn taken(&mut self, commits: &[Commit], passed_over: &[Position]) -> Result<Checkpoint, StoreError> {
        let folder = self.folder.take();
        let MemoryBackend { log, view } = &mut self.backend;
        let begin =
            || Ok::<_, StoreError>(Folder::on_live(&PROJECTED, &*view)?.passing_over(passed_over.iter().copied()));
        let mut folder = folder.map_or_else(begin, Ok)?;
        // Nothing is written unless all of it can be, up to a quarantine: folding and adopting refuse before they write.
        let to = take(&mut folder, log, view, commits, passed_over)?;
        self.folder = Some(folder);
        Ok(to)
    }
}

impl Replica for MemoryReplica {
    fn log(&self) -> Box<dyn Log + '_> {
        Box::new(self.backend.log.clone())
    }

    fn belong_to(&mut self, log: LogInfo) -> Result<(), StoreError> {
        let MemoryBackend { log: mine, view } = &mut self.backend;
        let head = mine.head()?;
        if head.position > Position::ZERO && head.log.id != log.id {
            let theirs = Box::new(Checkpoint::start(log));
            return Err(StoreError::Diverged { checkpoint: Box::new(head), log: theirs });
        }
        view.begin();
        let adopted = if head.position == Position::ZERO {
            mine.adopt_identity(log)
        } else {
            mine.set_epoch(log.epoch);
            Ok(())
        };
        let moved = adopted.and_then(|()| view.apply(&[], &head, &Checkpoint { log, ..head }));
        view.commit();
        moved
    }

    fn take(&mut self, commits: &[Commit], passed_over: &[Position]) -> Result<Checkpoint, StoreError> {
        self.backend.view.begin();
        let taken = self.taken(commits, passed_over);
        self.backend.view.commit();
        taken
    }

    fn go_back(&mut self, to: &Checkpoint) -> Result<(), StoreError> {
        self.folder = None;
        let mut fresh = MemoryView::new(to.log);
        let quarantined = facts::quarantined(&self.backend.view)?;
        let mut folder = Folder::new(&PROJECTED).passing_over(quarantined);
        let mut at = Position::ZERO;
        while at < to.position {
            let mut page = self.backend.log.read(at, FOLLOW_PAGE_EVENTS)?;
            page.retain(|commit| commit.last() <= to.position);
            let Some(last) = page.last() else { break };
            at = last.last();
            for commit in &page {
                folder.fold(commit, &fresh)?;
            }
            let here = fresh.checkpoint()?;
            fresh.apply(&folder.changes(), &here, &here)?;
        }
        let here = fresh.checkpoint()?;
        fresh.apply(&[], &here, to)?;
        let MemoryBackend { log, view } = &mut self.backend;
        view.begin();
        log.cut_back(to.position, to.log);
        let replaced = view.replace(fresh);
        view.commit();
        replaced
    }
}
