//! What only a file can show: pragmas, damage, and transactions shared with the caller.
#![allow(clippy::unwrap_used)]

mod common;

use std::{
    fs,
    path::Path,
    sync::{Arc, Barrier},
    thread,
};

use common::{Sqlite, Writer, answered, commit, places, positions};
use proptest::{collection::vec, prelude::*};
use rusqlite::{Connection, params, types::Value};
use tasklog_log::{
    Checkpoint, CommitId, Log, ManualClock, Position, StoreError, StoreErrorKind,
    archive::ArchivedLog,
    memory::{MemoryLog, MemoryRevs},
    read_checked,
    sqlite::{
        Head, SqliteLog,
        connection::{self, Access},
        write_head,
    },
};
use uuid::Uuid;

/// `[1] [2 3 4] [5 6]`, with a reason and a request id.
fn three_commits() -> Writer<Sqlite> {
    let mut writer = Writer::<Sqlite>::open();
    let mut batch = [commit(&[("a", 0)]), commit(&[("b", 0), ("c", 0), ("d", 0)]), commit(&[("e", 0), ("f", 0)])];
    for new in &mut batch {
        new.meta.reason = Some("because".into());
        new.meta.request_id = Some("r-1".into());
    }
    writer.append(&batch);
    writer
}

fn log(conn: &Connection) -> SqliteLog<'_> {
    SqliteLog::new(conn, Arc::new(ManualClock::at(1_000)))
}

#[test]
fn a_log_begins_after_a_commit_of_another_and_takes_what_follows_it() {
    let writer = three_commits();
    let source = log(&writer.harness.conn);
    let all = source.read(Position::ZERO, usize::MAX).unwrap();
    let second = &all[1];
    let at = Checkpoint {
        log: source.info().unwrap(),
        position: second.last(),
        commit: second.meta.id,
        recorded_at: second.recorded_at,
    };
    let conn = Connection::open_in_memory().unwrap();
    SqliteLog::create(&conn).unwrap();
    let mut in_file = log(&conn);
    assert_eq!(in_file.beginning().unwrap(), None);
    in_file.begin_after(&at).unwrap();
    let mut in_memory = MemoryLog::new(Arc::new(ManualClock::at(1_000)));
    in_memory.begin_after(at).unwrap();
    assert_eq!((in_file.beginning().unwrap(), in_memory.beginning()), (Some(at), Some(at)));
    for log in [&mut in_file as &mut dyn Log, &mut in_memory] {
        assert_eq!((log.head().unwrap(), log.first().unwrap()), (at, Position(5)));
        assert_eq!(log.read(Position::ZERO, 10).unwrap(), []);
        assert!(log.adopt(&all[1..]).is_err(), "what it begins after is not taken again");
        log.adopt(&all[2..]).unwrap();
        assert_eq!((log.head().unwrap(), log.first().unwrap()), (source.head().unwrap(), Position(5)));
        assert_eq!(read_checked(&*log, at.position, 10).unwrap(), all[2..]);
        // Nobody has what was before; that is not taken for damage where an archive could have it.
        assert_eq!(log.event(Position(4)).unwrap_err().kind(), StoreErrorKind::Corrupt);
        let asked = ArchivedLog::new(&*log, None).event(Position(4)).unwrap_err();
        assert_eq!(asked.kind(), StoreErrorKind::Unavailable);
        assert!(asked.to_string().contains("event 4: the log here begins at event 5"), "{asked}");
    }
    assert_eq!(in_file.begin_after(&at).unwrap_err().kind(), StoreErrorKind::Corrupt, "it is not empty");
    assert_eq!(in_memory.begin_after(at).unwrap_err().kind(), StoreErrorKind::Corrupt);
}

/// Reads everything page by page, as whoever folds does.
fn read_all(conn: &Connection, page: usize) -> Result<Vec<u64>, StoreError> {
    let log = log(conn);
    let mut seen = Vec::new();
    let mut after = Position::ZERO;
    loop {
        let commits = read_checked(&log, after, page)?;
        let Some(last) = commits.last() else { return Ok(seen) };
        after = last.last();
        seen.extend(positions(&commits).concat());
    }
}

/// The position that an error names.
fn corrupt_at(error: StoreError) -> Option<u64> {
    match error {
        StoreError::Corrupt { position, .. } => position.map(|position| position.0),
        other => panic!("expected corrupt, found {other}"),
    }
}

fn pragma(conn: &Connection, name: &str) -> Value {
    conn.query_row(&format!("PRAGMA {name}"), [], |row| row.get(0)).unwrap()
}

// -- connections --------------------------------------------------------------------------------------------------

#[test]
fn every_kind_of_connection_reports_its_pragmas() {
    let mut writer = three_commits();
    let path = writer.harness.path.clone();
    for access in [Access::Write, Access::Read] {
        let conn = connection::open(&path, access).unwrap();
        connection::check(&conn, access).unwrap();
        for expected in connection::expected(access) {
            assert_eq!(
                pragma(&conn, expected.name),
                Value::Integer(expected.value),
                "{} for {access:?}",
                expected.name
            );
        }
        assert_eq!(pragma(&conn, "journal_mode"), Value::Text("wal".into()), "{access:?}");
        assert_eq!(pragma(&conn, "busy_timeout"), Value::Integer(5_000), "{access:?}");
        assert_eq!(pragma(&conn, "synchronous"), Value::Integer(2), "{access:?}");
    }
    assert_eq!(writer.head(), 6);
    drop(writer);
}

#[test]
fn a_pragma_that_did_not_take_is_named() {
    let writer = three_commits();
    let conn = connection::open(&writer.harness.path, Access::Write).unwrap();
    conn.pragma_update(None, "synchronous", 1).unwrap();
    let error = connection::check(&conn, Access::Write).unwrap_err();
    assert_eq!(error.to_string(), "unavailable: pragma synchronous: asked for 2, got 1");
}

#[test]
fn a_reading_connection_cannot_write_and_sees_new_commits_at_once() {
    let mut writer = three_commits();
    let reader = connection::open(&writer.harness.path, Access::Read).unwrap();
    writer.append(&[commit(&[("g", 0)])]);
    assert_eq!(read_all(&reader, 100).unwrap(), [1, 2, 3, 4, 5, 6, 7]);
    let error = log(&reader).append(0, &[commit(&[("h", 0)])], &mut MemoryRevs::default()).unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::ReadOnly, "{error}");
}

#[test]
fn an_immutable_connection_reads_a_file_whose_name_needs_escaping() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("50% of é?#.db");
    let conn = connection::open(&path, Access::Write).unwrap();
    SqliteLog::create(&conn).unwrap();
    log(&conn).append(0, &[commit(&[("a", 0)])], &mut MemoryRevs::default()).unwrap();
    conn.close().unwrap();
    let conn = connection::open(&path, Access::Immutable).unwrap();
    connection::check(&conn, Access::Immutable).unwrap();
    assert_eq!(read_all(&conn, 100).unwrap(), [1]);
    assert!(!path.with_extension("db-shm").exists(), "an immutable connection makes no side files");
}

/// Commits that are only in the WAL would silently be missing from what an immutable connection reads.
#[test]
fn a_file_with_a_wal_is_not_opened_as_immutable() {
    let writer = three_commits();
    let error = connection::open(&writer.harness.path, Access::Immutable).unwrap_err();
    assert!(error.to_string().contains("log.db-wal is not empty"), "{error}");
}

#[test]
fn a_file_that_is_no_database_is_corrupt_and_a_missing_one_unavailable() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notes.txt");
    fs::write(&path, "no database, but long enough to hold the header of one: ".repeat(20)).unwrap();
    for access in [Access::Write, Access::Read, Access::Immutable] {
        let error = connection::open(&path, access).unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Corrupt, "{access:?}: {error}");
        assert!(error.to_string().contains("notes.txt"), "{error}");
    }
    for access in [Access::Read, Access::Immutable] {
        let error = connection::open(&folder.path().join("missing.db"), access).unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Unavailable, "{access:?}: {error}");
    }
    assert!(!folder.path().join("missing.db").exists());
}

// -- birth --------------------------------------------------------------------------------------------------------

/// Two processes that opened a new file at once each wrote a head row: the second one gave the log another id and, if
/// the first had already appended, put its head back to 0.
#[test]
fn a_log_that_is_created_by_many_at_once_is_born_once() {
    const CREATORS: usize = 8;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log.db");
    drop(connection::open(&path, Access::Write).unwrap());
    let start = Barrier::new(CREATORS);
    let births = thread::scope(|scope| {
        let creators: Vec<_> = (0..CREATORS).map(|_| scope.spawn(|| born(&path, &start))).collect();
        creators.into_iter().map(|creator| creator.join().unwrap()).collect::<Vec<_>>()
    });
    assert!(births.iter().all(|id| *id == births[0]), "{births:?}");
}

fn born(path: &Path, start: &Barrier) -> Uuid {
    let conn = connection::open(path, Access::Write).unwrap();
    start.wait();
    SqliteLog::create(&conn).unwrap();
    log(&conn).info().unwrap().id
}

#[test]
fn creating_again_changes_nothing_inside_or_outside_of_a_transaction() {
    let mut writer = three_commits();
    let head = writer.log().head().unwrap();
    SqliteLog::create(&writer.harness.conn).unwrap();
    let transaction = connection::begin(&writer.harness.conn).unwrap();
    SqliteLog::create(&writer.harness.conn).unwrap();
    transaction.commit().unwrap();
    assert_eq!(writer.log().head().unwrap(), head);
}

#[test]
fn a_log_whose_creation_was_rolled_back_was_never_born() {
    let folder = tempfile::tempdir().unwrap();
    let conn = connection::open(&folder.path().join("log.db"), Access::Write).unwrap();
    let transaction = connection::begin(&conn).unwrap();
    SqliteLog::create(&conn).unwrap();
    transaction.rollback().unwrap();
    assert!(log(&conn).head().is_err());
    SqliteLog::create(&conn).unwrap();
    assert_eq!(log(&conn).head().unwrap().position, Position::ZERO);
}

#[test]
fn events_without_a_head_row_are_no_new_log() {
    let writer = three_commits();
    writer.harness.conn.execute("DELETE FROM _heads", []).unwrap();
    let error = SqliteLog::create(&writer.harness.conn).unwrap_err();
    assert_eq!(error.to_string(), "corrupt: the log has 6 events and no head row");
    assert_eq!(log(&writer.harness.conn).head().unwrap_err().kind(), StoreErrorKind::Corrupt);
}

// -- transactions of the caller -----------------------------------------------------------------------------------

#[test]
fn an_append_inside_a_transaction_is_undone_with_it() {
    let mut writer = three_commits();
    let conn = &writer.harness.conn;
    let transaction = connection::begin(conn).unwrap();
    let outcomes = log(conn).append(0, &[commit(&[("g", 0)])], &mut MemoryRevs::default()).unwrap();
    assert_eq!(places(&outcomes), [Some((7, 7))]);
    assert_eq!(log(conn).head().unwrap().position, Position(7), "readable through its own connection");
    let other = connection::open(&writer.harness.path, Access::Read).unwrap();
    assert_eq!(log(&other).head().unwrap().position, Position(6), "and through no other one");
    transaction.rollback().unwrap();
    assert_eq!(writer.head(), 6);
    assert_eq!(places(&writer.append(&[commit(&[("h", 0)])])), [Some((7, 7))]);
}

#[test]
fn an_append_inside_a_transaction_is_there_when_that_commits() {
    let writer = three_commits();
    let conn = &writer.harness.conn;
    let transaction = connection::begin(conn).unwrap();
    conn.execute_batch("CREATE TABLE rows (x); INSERT INTO rows VALUES (1);").unwrap();
    log(conn).append(0, &[answered(1, b"done", commit(&[("g", 0)]))], &mut MemoryRevs::default()).unwrap();
    transaction.commit().unwrap();
    let mut writer = writer.reopened();
    assert_eq!(writer.head(), 7);
    assert!(writer.log().find(CommitId(Uuid::from_u128(1))).unwrap().is_some());
}

/// An append that fails half-way inside the caller's transaction asks for its rollback, which leaves nothing.
#[test]
fn a_failed_append_and_the_rollback_it_asks_for_leave_nothing() {
    let mut writer = three_commits();
    let conn = &writer.harness.conn;
    // The second event of the batch meets a row that should not be there.
    conn.execute("INSERT INTO events SELECT 8, commit_id, recorded_at, actor, reason, request_id, table_name, key, type, type_version, prev, payload, checksum FROM events WHERE position = 6", []).unwrap();
    let transaction = connection::begin(conn).unwrap();
    conn.execute_batch("CREATE TABLE rows (x)").unwrap();
    let batch = [answered(1, b"done", commit(&[("g", 0)])), commit(&[("h", 0)])];
    let error = log(conn).append(0, &batch, &mut MemoryRevs::default()).unwrap_err();
    assert_eq!(error.to_string(), "corrupt: event 8: already in the log, above its head");
    transaction.rollback().unwrap();
    let count = |sql| conn.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap();
    assert_eq!(count("SELECT count(*) FROM sqlite_schema WHERE name = 'rows'"), 0);
    assert_eq!(count("SELECT count(*) FROM events WHERE position = 7"), 0);
    assert_eq!(count("SELECT count(*) FROM _answers"), 0);
    assert_eq!(writer.head(), 6);
}

// -- damage -------------------------------------------------------------------------------------------------------

#[test]
fn deletion_of_the_newest_event_is_noticed_and_its_position_never_reused() {
    for page in [1, 2, 100] {
        let mut writer = three_commits();
        writer.harness.conn.execute("DELETE FROM events WHERE position = 6", []).unwrap();
        assert_eq!(corrupt_at(read_all(&writer.harness.conn, page).unwrap_err()), Some(6), "pages of {page}");
        assert_eq!(corrupt_at(log(&writer.harness.conn).event(Position(6)).unwrap_err()), Some(6));
        assert_eq!(places(&writer.append(&[commit(&[("g", 0)])])), [Some((7, 7))]);
        assert_eq!(corrupt_at(read_all(&writer.harness.conn, page).unwrap_err()), Some(6), "pages of {page}");
    }
}

/// A reader that asks for a page and gets all there is must not take the first half of a commit for the whole.
#[test]
fn a_lost_tail_is_noticed_before_the_half_commit_in_front_of_it_is_handed_out() {
    let writer = three_commits();
    writer.harness.conn.execute("DELETE FROM events WHERE position = 6", []).unwrap();
    let error = read_checked(&log(&writer.harness.conn), Position(4), 100).unwrap_err();
    assert_eq!(error.to_string(), "corrupt: event 6: missing from the log: its head is 6");
}

#[test]
fn a_log_that_lost_all_its_events_is_not_an_empty_one() {
    let writer = three_commits();
    writer.harness.conn.execute("DELETE FROM events", []).unwrap();
    assert_eq!(corrupt_at(read_all(&writer.harness.conn, 10).unwrap_err()), Some(1));
}

#[test]
fn a_gap_names_the_first_missing_position() {
    for gone in 1..=6_u64 {
        for page in [1, 3, 100] {
            let writer = three_commits();
            writer.harness.conn.execute("DELETE FROM events WHERE position = ?1", [gone as i64]).unwrap();
            let error = read_all(&writer.harness.conn, page).unwrap_err();
            assert_eq!(corrupt_at(error), Some(gone), "pages of {page}");
            let error = log(&writer.harness.conn).event(Position(gone)).unwrap_err();
            assert_eq!(error.to_string(), format!("corrupt: event {gone}: missing from the log"));
        }
    }
}

/// The rows of a commit repeat its id, actor, reason and instant. When only the first row's were looked at, a changed
/// one in a later row went unnoticed.
#[test]
fn a_changed_value_in_any_column_of_any_row_names_its_position() {
    let changes = [
        ("commit_id", "zeroblob(16)"),
        ("recorded_at", "recorded_at + 1"),
        ("actor", "actor || 'x'"),
        ("reason", "'other'"),
        ("reason", "NULL"),
        ("request_id", "'other'"),
        ("request_id", "NULL"),
        ("table_name", "'others'"),
        ("key", "key || 'x'"),
        ("type", "'thing_lost'"),
        ("type_version", "type_version + 1"),
        ("prev", "1"),
        ("payload", "x'81a16101'"),
        ("checksum", "checksum ^ 1"),
    ];
    for (column, value) in changes {
        // SQLite has no operator for exclusive or.
        let value = value.replace("checksum ^ 1", "(checksum | 1) - (checksum & 1)");
        for at in 1..=6_u64 {
            let writer = three_commits();
            writer
                .harness
                .conn
                .execute(&format!("UPDATE events SET {column} = {value} WHERE position = ?1"), [at as i64])
                .unwrap();
            let error = read_all(&writer.harness.conn, 100).unwrap_err();
            assert_eq!(corrupt_at(error), Some(at), "{column} of event {at}");
        }
    }
}

#[test]
fn every_flipped_bit_of_a_payload_is_noticed() {
    let mut writer = Writer::<Sqlite>::open();
    let mut new = commit(&[("a", 0)]);
    let payload = b"\x82\xa1a\x01\xa1b\xc3".to_vec();
    new.events[0].payload.clone_from(&payload);
    writer.append(&[new]);
    for bit in 0..payload.len() * 8 {
        let mut flipped = payload.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        writer.harness.conn.execute("UPDATE events SET payload = ?1", [flipped]).unwrap();
        assert_eq!(corrupt_at(read_all(&writer.harness.conn, 100).unwrap_err()), Some(1), "bit {bit}");
    }
    writer.harness.conn.execute("UPDATE events SET payload = ?1", [payload]).unwrap();
    assert_eq!(read_all(&writer.harness.conn, 100).unwrap(), [1]);
}

#[test]
fn an_event_beside_a_damaged_one_is_still_found() {
    let writer = three_commits();
    writer.harness.conn.execute("UPDATE events SET actor = 'x' WHERE position = 3", []).unwrap();
    let log = log(&writer.harness.conn);
    for position in 1..=6 {
        let (commit, index) = log.event(Position(position)).unwrap().unwrap();
        assert_eq!(commit.events[index].position, Position(position));
        assert_eq!(commit.check(&commit.events[index]).is_err(), position == 3, "event {position}");
    }
}

#[test]
fn a_head_that_was_put_back_does_not_overwrite_what_is_above_it() {
    let mut writer = three_commits();
    let mut head = writer.log().head().unwrap();
    head.position = Position(4);
    write_head(&writer.harness.conn, Head::Log, &head).unwrap();
    let error = writer.try_append(&[commit(&[("g", 0)])]).unwrap_err();
    assert_eq!(error.to_string(), "corrupt: event 5: already in the log, above its head");
    assert_eq!(read_all(&writer.harness.conn, 100).unwrap(), [1, 2, 3, 4, 5, 6]);
}

// -- answers ------------------------------------------------------------------------------------------------------

#[test]
fn old_answers_are_forgotten_and_their_commits_stay() {
    let mut writer = Writer::<Sqlite>::open();
    for n in 1..=4_u64 {
        writer.clock.set(1_000 * n.cast_signed());
        writer.append(&[answered(n.into(), b"done", commit(&[("a", n - 1)]))]);
    }
    let conn = &writer.harness.conn;
    assert_eq!(log(conn).forget_answers(3_000).unwrap(), 2, "those before the cutoff, not the one at it");
    assert_eq!(log(conn).forget_answers(3_000).unwrap(), 0);
    let kept = (1..=4).map(|n| log(conn).find(CommitId(Uuid::from_u128(n))).unwrap().is_some());
    assert_eq!(kept.collect::<Vec<_>>(), [false, false, true, true]);
    assert_eq!(read_all(conn, 100).unwrap(), [1, 2, 3, 4]);
}

/// In a quiet store a command that comes again after its answer was forgotten stands right behind its first commit,
/// under the same id. The two were read as one commit.
#[test]
fn two_neighbouring_commits_of_one_id_stay_two() {
    let mut writer = Writer::<Sqlite>::open();
    writer.append(&[answered(1, b"done", commit(&[("a", 0)]))]);
    writer.clock.advance(86_400_001);
    log(&writer.harness.conn).forget_answers(86_400_000).unwrap();
    writer.append(&[answered(1, b"done", commit(&[("a", 1)]))]);
    assert_eq!(positions(&writer.all()), [vec![1], vec![2]]);
    assert_eq!(positions(&writer.log().read(Position(1), 10).unwrap()), [vec![2]]);
}

// -- speed that must not depend on the size of the log --------------------------------------------------------------

#[test]
fn the_logs_statements_use_an_index() {
    let writer = three_commits();
    for sql in [
        "SELECT * FROM events WHERE position > 3 ORDER BY position",
        "SELECT commit_id FROM events WHERE position = 3",
        "SELECT * FROM _answers WHERE commit_id = x'00'",
        "SELECT * FROM _heads WHERE name = 'log'",
        "SELECT max(position) FROM events",
    ] {
        let mut explain = writer.harness.conn.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
        let plan: Vec<String> = explain.query_map([], |row| row.get(3)).unwrap().map(Result::unwrap).collect();
        let plan = plan.join("; ");
        assert!(plan.starts_with("SEARCH") && !plan.contains("SCAN") && !plan.contains("TEMP"), "{sql}: {plan}");
    }
}

// -- anything at all ----------------------------------------------------------------------------------------------

fn any_value() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<i64>().prop_map(Value::Integer),
        any::<f64>().prop_map(Value::Real),
        "\\PC{0,8}".prop_map(Value::Text),
        vec(any::<u8>(), 0..20).prop_map(Value::Blob),
        vec(any::<u8>(), 16).prop_map(Value::Blob),
    ]
}

fn any_position() -> impl Strategy<Value = i64> {
    prop_oneof![8 => 0..12_i64, 1 => any::<i64>(), 1 => Just(i64::MAX), 1 => Just(i64::MIN)]
}

/// The log's tables without the checks that keep wrong types out of them, as a damaged file may be.
fn lax_tables() -> Connection {
    let conn = Connection::open_in_memory().unwrap();
    conn.execute_batch(
        "CREATE TABLE events (position INTEGER PRIMARY KEY, commit_id, recorded_at, actor, reason, request_id,
           table_name, key, type, type_version, prev, payload, checksum);
         CREATE TABLE _heads (name PRIMARY KEY, log_id, epoch, position, commit_id, recorded_at);
         CREATE TABLE _answers (first, last, recorded_at, commit_id, answer);",
    )
    .unwrap();
    conn
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn reading_arbitrary_stored_values_never_panics(
        rows in vec((any_position(), vec((any::<u8>(), any_value()), 12)), 0..8),
        head in vec(any_value(), 5),
        positions in vec(any::<u64>(), 4),
    ) {
        let conn = lax_tables();
        conn.execute(
            "INSERT INTO _heads VALUES ('log', ?1, ?2, ?3, ?4, ?5)",
            rusqlite::params_from_iter(&head),
        ).unwrap();
        // Most values are right, so that the wrong one is met late.
        let right: [Value; 12] = [
            Value::Blob(vec![7; 16]), 1_000_i64.into(), "tester".to_owned().into(), Value::Null, Value::Null,
            "things".to_owned().into(), "a".to_owned().into(), "thing_changed".to_owned().into(), 1_i64.into(),
            Value::Null, Value::Blob(b"\x80".to_vec()), 0_i64.into(),
        ];
        for (position, values) in rows {
            let values = values.into_iter().zip(&right).map(|((chance, any), right)| {
                if chance < 30 { any } else { right.clone() }
            });
            let cells: Vec<Value> = std::iter::once(position.into()).chain(values).collect();
            conn.execute(
                "INSERT OR REPLACE INTO events VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)",
                rusqlite::params_from_iter(cells),
            ).unwrap();
        }
        for with_head in [false, true] {
            if with_head {
                conn.execute(
                    "REPLACE INTO _heads VALUES ('log', ?1, 1, ?2, ?1, 5)",
                    params![vec![7_u8; 16], i64::MAX],
                ).unwrap();
            }
            let mut log = log(&conn);
            for position in positions.iter().copied().chain(0..12).map(Position) {
                for limit in [0, 3, usize::MAX] {
                    let _ = log.read(position, limit);
                    let _ = read_checked(&log, position, limit);
                }
                let _ = log.event(position);
            }
            let _ = log.head();
            let _ = log.append(0, &[commit(&[("a", 0)])], &mut MemoryRevs::default());
        }
    }

    #[test]
    fn finding_arbitrary_answers_never_panics(cells in vec(any_value(), 4)) {
        let conn = lax_tables();
        let id = CommitId(Uuid::from_u128(1));
        let (first, rest) = cells.split_first().unwrap();
        conn.execute(
            "INSERT INTO _answers VALUES (?1, ?2, ?3, ?5, ?4)",
            params![first, rest[0], rest[1], rest[2], id.0.as_bytes().as_slice()],
        ).unwrap();
        if let Err(error) = log(&conn).find(id) {
            prop_assert_eq!(error.kind(), StoreErrorKind::Corrupt, "{}", error);
        }
    }

    #[test]
    fn a_summed_leaf_is_the_checksum_whatever_its_size(
        key in "\\PC{0,300}",
        payload in vec(any::<u8>(), 0..1_200),
        reason in proptest::option::of("\\PC{0,40}"),
    ) {
        let mut writer = Writer::<Sqlite>::open();
        let mut new = commit(&[(key.as_str(), 0)]);
        new.meta.reason = reason.map(Into::into);
        new.events[0].payload = payload;
        writer.append(&[new]);
        let stored = writer.all().remove(0);
        let leaf = tasklog_log::leaf(&stored.meta, stored.recorded_at, &stored.events[0]);
        prop_assert_eq!(crc32c::crc32c(&leaf), stored.events[0].checksum);
    }
}
