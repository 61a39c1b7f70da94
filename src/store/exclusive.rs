use std::sync::mpsc::sync_channel;

use rusqlite::Connection;
use tasklog_log::{StoreError, sqlite::connection};

use super::{ReadSide, TaskStore};
use crate::{
    committer::Job,
    rejection::{Error, Rejection},
};

/// What a job does to the rows that the writer knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Touches {
    /// None of the tables that decisions read.
    NoRows,
    /// Whatever was read before counts no more.
    Rows,
}

impl TaskStore {
    /// Runs `job` on the writing connection of a store in a file, between two group commits, in a transaction of its own
    /// that is rolled back if it fails. Commands wait meanwhile, so it does a bounded piece of work. For threads outside
    /// an async runtime.
    ///
    /// # Errors
    /// `read_only`; `invalid` for a store that is no file; `job`'s; `unavailable` if the transaction cannot be committed.
    pub(crate) fn exclusive<T: Send + 'static>(
        &self,
        touches: Touches,
        job: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, Error> {
        if !matches!(self.inner.read, ReadSide::Sqlite(_)) {
            return Err(Rejection::invalid("only a store in a file has a writing connection").into());
        }
        let committer = self.committer()?;
        Ok(exclusively(|job| committer.send_job(job), touches, job)?)
    }

    /// What this handle's writer has read of rows before counts no more: they were changed without an event of their own.
    ///
    /// # Errors
    /// `read_only`; `unavailable` if the store is being closed.
    pub(super) fn forget_rows(&self) -> Result<(), Error> {
        let (answer, answered) = sync_channel(1);
        // It is told before they are forgotten, and forgets them before it looks at the next command.
        let run = move |_: Result<&Connection, StoreError>| {
            // Whoever waited for it may be gone.
            let _ = answer.send(());
        };
        self.committer()?.send_job(Job { changes_rows: true, run: Box::new(run) })?;
        Ok(answered
            .recv()
            .map_err(|_| StoreError::unavailable("the store was closed before its rows were forgotten"))?)
    }
}

/// Sends a job that runs in a transaction of its own, and waits for what it has come to.
pub(super) fn exclusively<T: Send + 'static>(
    send: impl FnOnce(Job) -> Result<(), StoreError>,
    touches: Touches,
    job: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    let (answer, answered) = sync_channel(1);
    let run = move |conn: Result<&Connection, StoreError>| {
        let done = conn.and_then(|conn| {
            let transaction = connection::begin(conn)?;
            let done = job(conn)?;
            transaction.commit()?;
            Ok(done)
        });
        // Whoever waited for it may be gone.
        let _ = answer.send(done);
    };
    send(Job { changes_rows: touches == Touches::Rows, run: Box::new(run) })?;
    answered.recv().unwrap_or_else(|_| Err(StoreError::unavailable("the store was closed before the work was done")))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::{command::CommandOptions, tables::tasks};

    fn store(folder: &tempfile::TempDir) -> TaskStore {
        TaskStore::open(&format!("sqlite:{}", folder.path().join("s.db").display())).unwrap()
    }

    #[test]
    fn a_job_works_between_two_commits_and_commands_see_what_it_did() {
        let folder = tempfile::tempdir().unwrap();
        let store = store(&folder);
        let register = |id: &str| tasks::Register { miroir_id: Some(id.into()), ..Default::default() };
        store.run_blocking(register("a"), CommandOptions::default()).unwrap();
        let changed = store.exclusive(Touches::Rows, |conn| {
            Ok(conn.execute("UPDATE tasks SET index_uid = 'seen' WHERE miroir_id = 'a'", [])?)
        });
        assert_eq!(changed.unwrap(), 1);
        // Identical to the row as the job has left it: a no-op, which an older row would not allow.
        let same = tasks::Register { index_uid: Some("seen".into()), ..register("a") };
        assert!(!store.run_blocking(same, CommandOptions::default()).unwrap().changed);
    }

    #[test]
    fn a_job_that_fails_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let store = store(&folder);
        let failed = store.exclusive(Touches::NoRows, |conn| {
            conn.execute_batch("CREATE TABLE half (a INTEGER)")?;
            Err::<(), _>(StoreError::unavailable("on purpose"))
        });
        assert!(failed.unwrap_err().to_string().contains("on purpose"));
        assert!(!store.with_connection(|conn| Ok(tasklog_projections::sqlite::table_exists(conn, "half")?)).unwrap());
    }
}
