//! The store as a whole: its schema version, its counts, and a health check that really touches the backend.
#![allow(clippy::unwrap_used, missing_docs)]

use tasklog::{TaskStore, command::CommandOptions, tables::tasks::Register};

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
