use std::sync::Arc;

use tasklog_log::{Blobs, Checkpoint, Commit, Log, LogInfo, Position, StoreError};
use tasklog_projections::{PROJECTED, View, facts, memory::MemoryView};
use tasklog_replay::{
    Folder,
    follow::{Beginning, Decisions, FOLLOW_PAGE_EVENTS, Replica, take},
    snapshot::{Snapshot, Snapshots},
};

use crate::{backend::MemoryBackend, store::beginning::InMemory};

/// A log and tables in memory that take another log's commits. Readers see them move in step.
pub(crate) struct MemoryReplica {
    backend: MemoryBackend,
    /// Where the snapshot is kept that the log begins with.
    blobs: Arc<dyn Blobs>,
    folder: Option<Folder>,
}

impl MemoryReplica {
    pub(crate) fn on(backend: MemoryBackend, blobs: Arc<dyn Blobs>) -> Self {
        Self { backend, blobs, folder: None }
    }

    fn begun(&self) -> Option<InMemory> {
        let at = self.backend.log.beginning()?;
        Some(InMemory { snapshots: Snapshots::new(Arc::clone(&self.blobs)), log: self.backend.log.clone(), at })
    }

    fn taken(&mut self, commits: &[Commit], decisions: &Decisions) -> Result<Checkpoint, StoreError> {
        let folder = self.folder.take();
        let beginning = self.begun();
        let begins = beginning.as_ref().map_or(Position::ZERO, |beginning| beginning.at.position);
        let MemoryBackend { log, view } = &mut self.backend;
        let begin = || {
            let folder = Folder::on_live(&PROJECTED, &*view)?.passing_over(decisions.passed_over.iter().copied());
            Ok::<_, StoreError>(folder.after_snapshot(begins))
        };
        let mut folder = folder.map_or_else(begin, Ok)?;
        // Nothing is written unless all of it can be, up to a quarantine: folding and adopting refuse before they write.
        let beginning = beginning.as_ref().map(|beginning| beginning as &dyn Beginning);
        let to = take(&mut folder, log, view, commits, decisions, beginning)?;
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

    fn begin_with(
        &mut self,
        snapshot: &Snapshot,
        go_on: &mut dyn FnMut(u64) -> Result<(), StoreError>,
    ) -> Result<Checkpoint, StoreError> {
        self.folder = None;
        let kept = snapshot.keep_in(&self.blobs)?;
        let mut fresh = MemoryView::new(kept.checkpoint().log);
        let at = kept.load_while(&PROJECTED, &mut fresh, go_on)?;
        let MemoryBackend { log, view } = &mut self.backend;
        view.begin();
        let begun = log.begin_after(at).and_then(|()| view.replace(fresh));
        view.commit();
        begun.map(|()| at)
    }

    fn beginning(&self) -> Result<Option<Checkpoint>, StoreError> {
        Ok(self.backend.log.beginning())
    }

    fn take(&mut self, commits: &[Commit], decisions: &Decisions) -> Result<Checkpoint, StoreError> {
        self.backend.view.begin();
        let taken = self.taken(commits, decisions);
        self.backend.view.commit();
        taken
    }

    fn go_back(&mut self, to: &Checkpoint) -> Result<(), StoreError> {
        self.folder = None;
        let mut fresh = MemoryView::new(to.log);
        let quarantined = facts::quarantined(&self.backend.view)?;
        let (folder, mut at) = match self.begun() {
            Some(beginning) => {
                let at = beginning.snapshot()?.load(&PROJECTED, &mut fresh)?.position;
                (Folder::on(&PROJECTED, &fresh)?.after_snapshot(at), at)
            }
            None => (Folder::new(&PROJECTED), Position::ZERO),
        };
        let mut folder = folder.passing_over(quarantined);
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
