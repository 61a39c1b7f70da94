use std::{
    sync::{
        atomic::{AtomicBool, Ordering},
        mpsc::SyncSender,
    },
    time::Instant,
};

use tasklog_log::{Checkpoint, Commit, Log, StoreError, read_checked};

use super::{FOLLOW_PAGE_EVENTS, FOLLOW_WAIT, Source, checkpoint};

/// What the reader has for the fold.
pub(super) enum Read {
    /// Commits that follow each other densely, checked, and the source's head when they were read.
    Page { commits: Vec<Commit>, head: Checkpoint },
    /// There is nothing after what was read.
    AtHead(Checkpoint),
    /// The source could not be read.
    Failed(StoreError),
}

/// Reads a source on a thread of its own, so that reading and checking go on while the replica folds and writes.
pub(super) struct Ahead<'a> {
    pub(super) source: &'a dyn Source,
    pub(super) from: Checkpoint,
    pub(super) stop: [&'a AtomicBool; 2],
    pub(super) sender: SyncSender<Read>,
}

impl Ahead<'_> {
    /// Reads until it is told to stop, the session is over, or the source no longer ends what it has given: then the two
    /// logs are to be compared again.
    pub(super) fn run(self) {
        if let Err(error) = self.source.session(&mut |log| self.read(log)) {
            // Whoever folds may have stopped.
            let _ = self.sender.send(Read::Failed(error));
        }
    }

    fn stopped(&self) -> bool {
        self.stop.iter().any(|stop| stop.load(Ordering::Acquire))
    }

    fn read(&self, log: &dyn Log) -> Result<(), StoreError> {
        let mut at = self.from;
        // The commit that the replica ends with is read again with every page, unless it was trimmed: it must still be
        // what the source has there.
        let mut overlaps = at.position.0 > 0 && log.first()? <= at.position;
        let mut idle_since = Instant::now();
        while !self.stopped() {
            let head = log.head()?;
            if head.log != at.log || head.position < at.position {
                return Ok(());
            }
            let after = if overlaps { at.position.before() } else { at.position };
            let mut commits = match read_checked(log, after, FOLLOW_PAGE_EVENTS) {
                Ok(commits) => commits,
                // Trimmed or cut back meanwhile: comparing the two logs again tells which.
                Err(StoreError::Corrupt { .. }) if log.first()? > after || log.head()?.position < at.position => {
                    return Ok(());
                }
                Err(error) => return Err(error),
            };
            if overlaps {
                if commits.first().is_none_or(|known| checkpoint(at.log, known) != at) {
                    return Ok(());
                }
                commits.remove(0);
            }
            let Some(last) = commits.last() else {
                if self.sender.send(Read::AtHead(head)).is_err()
                    || idle_since.elapsed() > self.source.session_idle_max()
                {
                    return Ok(());
                }
                log.wait(at.position, FOLLOW_WAIT)?;
                continue;
            };
            if commits.first().is_some_and(|commit| commit.first() != at.position.next()) {
                return Ok(());
            }
            at = checkpoint(at.log, last);
            overlaps = true;
            idle_since = Instant::now();
            if self.sender.send(Read::Page { commits, head }).is_err() {
                return Ok(());
            }
        }
        Ok(())
    }
}
