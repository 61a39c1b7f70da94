use std::sync::mpsc::sync_channel;

use rusqlite::Connection;
use tasklog_log::{StoreError, sqlite::connection};

use super::{ReadSide, TaskStore};
use crate::{
    committer::{Connected, Job, Jobs},
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
        Ok(exclusively(&self.committer()?.jobs()?, touches, job)?)
    }

    /// What this handle's writers have read of rows before counts no more: they were changed without an event of their own.
    ///
    /// # Errors
    /// `read_only`; `unavailable` if the store is being closed.
    pub(super) fn forget_rows(&self) -> Result<(), Error> {
        for jobs in self.committer()?.all_jobs()? {
            let (answer, answered) = sync_channel(1);
            // It is told before they are forgotten, and forgets them before it looks at the next command.
            let run = move |_: Result<&Connection, StoreError>| {
                // Whoever waited for it may be gone.
                let _ = answer.send(());
                Connected::Fit
            };
            jobs.send(Job { changes_rows: true, run: Box::new(run) })?;
            answered
                .recv()
                .map_err(|_| StoreError::unavailable("the store was closed before its rows were forgotten"))?;
        }
        Ok(())
    }
}

/// Sends a job that runs in a transaction of its own, and waits for what it has come to.
pub(super) fn exclusively<T: Send + 'static>(
    jobs: &Jobs,
    touches: Touches,
    job: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    let (answer, answered) = sync_channel(1);
    let run = move |conn: Result<&Connection, StoreError>| {
        let (done, connected) = conn.map_or_else(|error| (Err(error), Connected::Fit), |conn| transact(conn, job));
        // Whoever waited for it may be gone.
        let _ = answer.send(done);
        connected
    };
    jobs.send(Job { changes_rows: touches == Touches::Rows, run: Box::new(run) })?;
    answered.recv().unwrap_or_else(|_| Err(StoreError::unavailable("the store was closed before the work was done")))
}

/// Says also whether the connection can be written through as before: not after a transaction that did not begin or could not
/// be committed, or that SQLite has rolled back by itself, which it does when the file cannot be written.
fn transact<T>(
    conn: &Connection,
    job: impl FnOnce(&Connection) -> Result<T, StoreError>,
) -> (Result<T, StoreError>, Connected) {
    let transaction = match connection::begin(conn) {
        Ok(transaction) => transaction,
        Err(error) => return (Err(error), Connected::GiveUp),
    };
    match job(conn) {
        Err(error) if conn.is_autocommit() => (Err(error), Connected::GiveUp),
        Err(error) => match transaction.rollback() {
            Ok(()) => (Err(error), Connected::Fit),
            Err(_) => (Err(error), Connected::GiveUp),
        },
        Ok(done) => match transaction.commit() {
            Ok(()) => (Ok(done), Connected::Fit),
            Err(error) => (Err(error.into()), Connected::GiveUp),
        },
    }
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

    fn is_the_same_connection(store: &TaskStore) -> bool {
        store
            .exclusive(Touches::NoRows, |conn| {
                Ok(conn
                    .query_row("SELECT count(*) FROM temp.sqlite_schema WHERE name = 'mark'", [], |row| row.get(0))?)
            })
            .unwrap()
    }

    /// The next batch went on through a connection that could not commit.
    #[test]
    fn a_connection_that_could_not_commit_a_job_is_given_up() {
        let folder = tempfile::tempdir().unwrap();
        let store = store(&folder);
        store.exclusive(Touches::NoRows, |conn| Ok(conn.execute_batch("CREATE TEMP TABLE mark (a)")?)).unwrap();
        store.exclusive(Touches::NoRows, |_| Err::<(), _>(StoreError::unavailable("on purpose"))).unwrap_err();
        assert!(is_the_same_connection(&store), "its own failure is nobody else's");
        let failed = store.exclusive(Touches::NoRows, |conn| {
            Ok(conn.execute_batch(
                "CREATE TABLE parent (a INTEGER PRIMARY KEY);
                 CREATE TABLE child (a REFERENCES parent DEFERRABLE INITIALLY DEFERRED);
                 INSERT INTO child VALUES (1)",
            )?)
        });
        assert_eq!(failed.unwrap_err().kind(), "unavailable");
        assert!(!is_the_same_connection(&store));
        assert!(!store.with_connection(|conn| Ok(tasklog_projections::sqlite::table_exists(conn, "child")?)).unwrap());
        store.run_blocking(tasks::Register::default(), CommandOptions::default()).unwrap();
    }

    /// A lone caller takes the writer directly; a job must neither wait for it for ever nor keep it waiting.
    #[test]
    fn jobs_have_their_turn_beside_a_lone_caller_that_never_pauses() {
        let folder = tempfile::tempdir().unwrap();
        let store = store(&folder);
        let done = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(std::sync::atomic::Ordering::Acquire) {
                    store.run_blocking(tasks::Register::default(), CommandOptions::default()).unwrap();
                }
            });
            for number in 0..100 {
                assert_eq!(store.exclusive(Touches::NoRows, move |_| Ok(number)).unwrap(), number);
            }
            done.store(true, std::sync::atomic::Ordering::Release);
        });
    }

    /// Between the look whether a later event needs the one that is to be passed over, and the decision, the row went on:
    /// then it did, and neither `verify` nor a rebuild nor a follower got past it any more.
    #[test]
    fn a_quarantine_looks_again_at_a_row_that_has_gone_on_meanwhile() {
        let folder = tempfile::tempdir().unwrap();
        let store = store(&folder);
        let status = |status: &str| {
            let args = format!(r#"{{"miroir_id":"t","status":"{status}"}}"#);
            crate::wire::parse(&format!(r#"{{"command":"tasks.set_status","args":{args}}}"#)).unwrap().request
        };
        let register = tasks::Register { miroir_id: Some("t".into()), ..Default::default() };
        store.run_blocking(register, CommandOptions::default()).unwrap();
        store.send_blocking(status("processing")).map(drop).unwrap();
        let busy = |count| {
            while store.committer().unwrap().busy() < count {
                std::thread::yield_now();
            }
        };
        let (go, gone) = sync_channel::<()>(0);
        let refused = std::thread::scope(|scope| {
            let store = &store;
            scope.spawn(move || {
                let blocked = store.exclusive(Touches::NoRows, move |_| {
                    gone.recv().unwrap();
                    Ok(())
                });
                blocked.unwrap();
            });
            busy(1);
            let ended = store.queue(status("succeeded")).unwrap();
            let quarantine = scope.spawn(|| {
                store.quarantine(tasklog_log::Position(2), "on purpose", CommandOptions::default()).map(drop)
            });
            // It has looked, and its decision stands behind the command.
            busy(3);
            go.send(()).unwrap();
            ended.wait().map(drop).unwrap();
            quarantine.join().unwrap().unwrap_err()
        });
        assert!(
            refused.kind() == "invalid" && refused.to_string().contains("event 3 could not be folded"),
            "{refused}"
        );
        assert_eq!(store.verify(|_| {}).unwrap().findings, []);
        store.quarantine(tasklog_log::Position(3), "on purpose", CommandOptions::default()).unwrap();
        // The row is what it is without the event as soon as the decision stands.
        store.send_blocking(status("failed")).map(drop).unwrap();
        assert_eq!(store.verify(|_| {}).unwrap().findings, []);
    }
}
