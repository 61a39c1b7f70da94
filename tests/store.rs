//! The store as a whole: its schema version, its counts, and a health check that really touches the backend.
#![allow(clippy::unwrap_used, missing_docs)]

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use tasklog::{
    OpenOptions, TaskStore,
    command::CommandOptions,
    log::{Clock, Millis, SystemClock},
    tables::tasks::Register,
};

fn task(id: &str) -> Register {
    Register { miroir_id: Some(id.into()), ..Register::default() }
}

#[test]
fn a_fresh_store_ends_at_schema_version_3_and_counts_its_rows() {
    let folder = tempfile::tempdir().unwrap();
    for url in ["memory:".to_owned(), format!("sqlite:{}", folder.path().join("tasklog.db").display())] {
        let store = TaskStore::open(&url).unwrap();
        assert_eq!(store.schema_version().unwrap(), 3, "{url}");
        store.run_blocking(task("a"), CommandOptions::default()).unwrap();
        store.run_blocking(task("b"), CommandOptions::default()).unwrap();
        let counts = store.counts().unwrap();
        assert_eq!(counts.len(), 14);
        assert_eq!(counts[0], ("tasks", 2), "{url}");
        assert_eq!(store.health().unwrap().0, 2, "{url}");
    }
}

#[test]
fn the_health_check_fails_when_log_and_tables_disagree_or_the_file_is_damaged() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tasklog.db");
    let store = TaskStore::open(&format!("sqlite:{}", path.display())).unwrap();
    store.run_blocking(task("a"), CommandOptions::default()).unwrap();
    let hand = rusqlite::Connection::open(&path).unwrap();
    hand.execute("UPDATE _heads SET position = 7 WHERE name = 'tables'", []).unwrap();
    assert_eq!(store.health().unwrap_err().kind(), "diverged");
    hand.execute("DELETE FROM _heads", []).unwrap();
    assert_eq!(store.health().unwrap_err().kind(), "corrupt");
}

/// A clock that panics once, on the committer's thread.
#[derive(Clone, Default)]
struct Broken(Arc<AtomicBool>);

impl Clock for Broken {
    fn now(&self) -> Millis {
        let writes = thread::current().name() == Some("tasklog-committer");
        assert!(!(writes && self.0.swap(false, Ordering::AcqRel)), "on purpose");
        SystemClock.now()
    }
}

/// The committer's thread ended with it: from then on every command was told that the store is closed, until somebody
/// restarted a process that said of itself that it was ready.
#[test]
fn a_panic_ends_its_batch_and_not_the_store() {
    let folder = tempfile::tempdir().unwrap();
    for url in ["memory:".to_owned(), format!("sqlite:{}", folder.path().join("tasklog.db").display())] {
        let clock = Broken::default();
        let options = OpenOptions { clock: Arc::new(clock.clone()), ..OpenOptions::default() };
        let store = TaskStore::open_with(&url.parse().unwrap(), options).unwrap();
        for round in 0..3 {
            store.run_blocking(task(&format!("before{round}")), CommandOptions::default()).unwrap();
            clock.0.store(true, Ordering::Release);
            let lost = store.run_blocking(task(&format!("lost{round}")), CommandOptions::default()).unwrap_err();
            assert_eq!(lost.kind(), "unavailable", "{url}");
            assert!(lost.to_string().contains("not known"), "{lost}");
        }
        store.run_blocking(task("after"), CommandOptions::default()).unwrap();
        assert_eq!(store.counts().unwrap()[0], ("tasks", 4), "{url}");
        assert_eq!(store.verify(|_| {}).unwrap().findings, []);
    }
}
