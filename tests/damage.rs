//! What `verify` finds in a file that was changed under the program, by bytes or by SQL, and what mends it.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::{fs, sync::Arc};

use support::program::{Store, run, tasklog};

use tasklog::log::{Log, Position, SystemClock, checksum, sqlite::SqliteLog};

fn register(id: &str) -> String {
    format!(r#"{{"command":"tasks.register","args":{{"miroir_id":"{id}","node_tasks":{{"n1":7}}}}}}"#)
}

fn alias(name: &str, target: &str) -> String {
    format!(r#"{{"command":"aliases.create","args":{{"name":"{name}","target":"{target}","target_verified":true}}}}"#)
}

/// Tasks t1 to t3 and two aliases.
fn filled() -> Store {
    let lines =
        ["t1", "t2", "t3"].map(register).into_iter().chain([alias("sale", "sale-v1"), alias("shop", "shop-v1")]);
    Store::with(&lines.collect::<Vec<_>>())
}

/// What verify finds, which it must.
#[track_caller]
fn findings(store: &Store) -> Vec<String> {
    let ended = run(store.command(["verify", "--json"]), b"").with(1);
    let mut lines = ended.json();
    let verdict = lines.pop().unwrap();
    assert_eq!(verdict["findings"], lines.len());
    assert!(!lines.is_empty(), "{}", ended.out);
    lines.iter().map(|line| line["finding"].as_str().unwrap().to_owned()).collect()
}

#[track_caller]
fn finds(store: &Store, expected: &[&str]) {
    assert_eq!(findings(store), expected);
}

/// Changes the first byte of a text, where it stands last on the first page of an index or a table.
fn flip(store: &Store, name: &str, text: &str) {
    let (root, size): (i64, i64) = store
        .shell()
        .query_row("SELECT rootpage, page_size FROM sqlite_schema, pragma_page_size WHERE name = ?1", [name], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })
        .unwrap();
    let (root, size) = (usize::try_from(root).unwrap(), usize::try_from(size).unwrap());
    let mut bytes = fs::read(store.path()).unwrap();
    let page = (root - 1) * size;
    let at = bytes[page..page + size].windows(text.len()).rposition(|found| found == text.as_bytes()).unwrap();
    bytes[page + at] ^= 32;
    fs::write(store.path(), bytes).unwrap();
}

/// One flipped bit in an index: rows were there and were not listed, and `verify` said that everything holds.
#[test]
fn a_flipped_bit_in_an_index_is_found_and_a_rebuild_repairs_it() {
    let store = filled();
    flip(&store, "tasks_by_status", "enqueued");
    let count = "SELECT count(*) FROM tasks WHERE status = 'enqueued'";
    assert_eq!(store.shell().query_row(count, [], |row| row.get::<_, i64>(0)).unwrap(), 2);
    let found = findings(&store);
    assert!(found[0].starts_with("table tasks: row "), "{found:?}");
    assert!(
        found[0].ends_with(" missing from index tasks_by_status; `tasklog rebuild tasks` writes it anew"),
        "{found:?}"
    );
    assert_eq!(store.json(["list", "tasks", "--where", "status=enqueued"]).len(), 2);
    store.run(["rebuild", "tasks"]).with(0);
    store.run(["verify"]).with(0);
    assert_eq!(store.json(["list", "tasks", "--where", "status=enqueued"]).len(), 3);
}

#[test]
fn a_store_made_of_a_backup_with_a_damaged_index_has_whole_ones() {
    let store = filled();
    flip(&store, "tasks_by_status", "enqueued");
    let (copy, restored) = (store.beside(".backup"), Store::new());
    store.run(["backup".as_ref(), "--to".as_ref(), copy.as_os_str()]).with(0);
    // Also one that was made by copying the file.
    fs::copy(store.path(), copy.with_extension("copied")).unwrap();
    for from in [copy.clone(), copy.with_extension("copied")] {
        let _ = fs::remove_file(restored.path());
        let mut restore = tasklog();
        restore.arg("restore").arg("--from").arg(&from).args(["--into", &restored.url()]);
        run(restore, b"").with(0).says(&["missing from index tasks_by_status", "indexes were made anew"]);
        assert_eq!(restored.json(["list", "tasks", "--where", "status=enqueued"]).len(), 3);
        restored.run(["verify"]).with(0);
    }
}

#[test]
fn indexes_that_are_not_those_of_the_program_are_found_and_a_rebuild_makes_them_so() {
    let cases = [
        (
            "DROP INDEX tasks_by_status",
            "table tasks: index tasks_by_status is missing; `tasklog rebuild tasks` makes it as it must be",
        ),
        (
            "DROP INDEX tasks_by_status; CREATE INDEX tasks_by_status ON tasks (miroir_id)",
            "table tasks: index tasks_by_status is another one: on miroir_id; `tasklog rebuild tasks` makes it as it must be",
        ),
        (
            "CREATE UNIQUE INDEX mine ON tasks (created_at, miroir_id)",
            "table tasks: unique index \"mine\" does not belong there: it refuses rows that the log has; `tasklog rebuild tasks` makes it as it must be",
        ),
        (
            "DROP INDEX _tombstones_by_age",
            "table _tombstones: index _tombstones_by_age is missing; `tasklog rebuild` makes it anew",
        ),
        (
            "DROP TABLE _aliases_by_target",
            "table aliases: side table _aliases_by_target is missing; `tasklog rebuild aliases` makes it as it must be",
        ),
    ];
    for (change, expected) in cases {
        let store = filled();
        store.by_hand(change);
        finds(&store, &[expected]);
        store.run(["rebuild"]).with(0);
        store.run(["verify"]).with(0);
    }
    let store = filled();
    store.by_hand("CREATE INDEX mine ON tasks (created_at)");
    store.run(["verify"]).with(0);
}

#[test]
fn a_trigger_is_found() {
    let store = filled();
    store.by_hand("CREATE TRIGGER mine AFTER INSERT ON events BEGIN DELETE FROM tasks; END");
    finds(
        &store,
        &["table events: trigger \"mine\" does not belong there: drop it while no process has the file open"],
    );
    store.by_hand("DROP TRIGGER mine");
    store.run(["verify"]).with(0);
}

#[test]
fn a_side_table_that_disagrees_with_its_rows_is_found_and_a_rebuild_repairs_it() {
    let store = filled();
    store.by_hand(
        "DELETE FROM _aliases_by_target WHERE _key = 'sale'; INSERT INTO _aliases_by_target VALUES ('zzz', 'shop')",
    );
    finds(
        &store,
        &[
            "aliases/sale: missing from _aliases_by_target under \"sale-v1\"",
            "aliases/shop: in _aliases_by_target under \"zzz\", but the log says it does not belong there",
        ],
    );
    store.run(["rebuild", "aliases"]).with(0);
    store.run(["verify"]).with(0);
}

fn cursor(to: u32) -> String {
    format!(
        r#"{{"command":"cdc_cursors.advance","args":{{"sink_name":"s","index_uid":"i","expected_seq":null,"new_seq":{to}}}}}"#
    )
}

const DROP: &str = r#"{"command":"cdc_cursors.drop","args":{"sink_name":"s","index_uid":"i"}}"#;

/// A cursor at event 2 that was deleted by event 3.
fn deleted() -> Store {
    Store::with(&[register("t1"), cursor(5), DROP.to_owned()])
}

/// A tombstone that named an event of another row made the next command append an event with a wrong link: from then on the
/// whole log could be neither verified nor rebuilt.
#[test]
fn a_wrong_tombstone_is_found_and_no_event_links_to_what_it_names() {
    let store = deleted();
    store.by_hand("UPDATE _tombstones SET rev = 1");
    finds(&store, &["cdc_cursors/s/i: its tombstone has rev 1, the log says 3"]);
    let refused = store.apply(&[cursor(6), register("t2")]).json();
    assert_eq!(refused[0]["error"]["kind"], "corrupt", "{refused:?}");
    let why = refused[0]["error"]["message"].as_str().unwrap();
    assert!(why.contains("cdc_cursors/s/i names event 1 as its last one, which is not about it"), "{why}");
    assert_eq!(
        store
            .shell()
            .query_row("SELECT count(*) FROM events WHERE table_name = 'cdc_cursors'", [], |row| row.get::<_, i64>(0))
            .unwrap(),
        2
    );
    store.run(["rebuild", "cdc_cursors"]).with(0);
    store.run(["verify"]).with(0);
    store.apply(&[cursor(6)]).with(0);
    store.run(["verify"]).with(0);
}

#[test]
fn a_row_that_names_an_event_of_another_row_is_not_written_on() {
    let store = filled();
    store.by_hand("UPDATE tasks SET _rev = 2 WHERE miroir_id = 't1'");
    let report = r#"{"command":"tasks.report_node_statuses","args":{"miroir_id":"t1","reports":[{"node_id":"n1","status":"processing"}]}}"#;
    let refused = store.apply(&[report]).json();
    assert_eq!(refused[0]["error"]["kind"], "corrupt", "{refused:?}");
    finds(&store, &["tasks/t1: column _rev holds 2, the log says 1 (event 1)"]);
    store.run(["rebuild", "tasks"]).with(0);
    store.apply(&[report]).with(0);
    store.run(["verify"]).with(0);
}

#[test]
fn tombstones_that_are_missing_or_belong_to_nothing_are_found_and_a_rebuild_repairs_them() {
    let store = deleted();
    store.by_hand("DELETE FROM _tombstones; INSERT INTO _tombstones VALUES ('tasks', 't1', 1, 5), ('cdc_cursors', 'x/y', 2, NULL)");
    finds(
        &store,
        &[
            "tasks/t1: a tombstone with rev 1, but the log says there is to be none",
            "cdc_cursors/s/i: its tombstone is missing; event 3 deleted the row",
            "cdc_cursors/x/y: a tombstone with rev 2, but the log says there is to be none",
        ],
    );
    store.run(["rebuild"]).with(0);
    store.run(["verify"]).with(0);
    store.by_hand("UPDATE _tombstones SET table_name = 'nonsense'");
    let found = findings(&store);
    assert!(found.contains(&"table _tombstones: \"nonsense\"/\"s/i\" is no row of a table: remove it while no process has the file open".to_owned()), "{found:?}");
}

/// An event of a row whose last tombstone was wrong, as a program wrote it that did not look.
#[test]
fn an_event_with_a_wrong_link_is_quarantined() {
    let store = deleted();
    store.apply(&[cursor(6)]).with(0);
    let conn = store.shell();
    let (commit, index) = SqliteLog::new(&conn, Arc::new(SystemClock)).event(Position(4)).unwrap().unwrap();
    let mut event = commit.events[index].clone();
    assert_eq!(event.prev, Some(Position(3)));
    event.prev = Some(Position(1));
    let sum = checksum(&commit.meta, commit.recorded_at, &event);
    conn.execute("UPDATE events SET prev = 1, checksum = ?1 WHERE position = 4", [sum]).unwrap();
    drop(conn);
    finds(&store, &["event 4: cdc_cursors/s/i: prev is 1, the entity's last event is 3"]);
    store.run(["rebuild"]).with(3).says(&["event 4"]);
    store.run(["history", "cdc_cursors", "s/i"]).with(3);
    store.run(["quarantine", "4", "--reason", "its link is wrong"]).with(0);
    store.run(["verify"]).with(0).prints(&["event 4 is quarantined"]);
    store.run(["rebuild"]).with(0);
    assert_eq!(store.json(["history", "cdc_cursors", "s/i"]).len(), 3);
    store.apply(&[cursor(7)]).with(0);
    store.run(["verify"]).with(0);
    store
        .run(["quarantine", "4", "--lift", "--reason", "no"])
        .with(1)
        .says(&["event 4 could not be folded then: ", "prev is 1"]);
}

/// The next command took its instant from it, for good.
#[test]
fn a_head_that_does_not_say_what_its_commit_says_is_found_and_not_written_behind() {
    for (change, what) in [
        (
            "UPDATE _heads SET recorded_at = 9999999999999",
            "it says that event 5 was recorded at 9999999999999, the event says ",
        ),
        (
            "UPDATE _heads SET commit_id = zeroblob(16)",
            "it says commit 00000000-0000-0000-0000-000000000000 at event 5, which is of commit ",
        ),
    ] {
        let store = filled();
        store.by_hand(change);
        let found = findings(&store);
        for head in ["log", "tables"] {
            let expected = format!("the head of the {head}: {what}");
            assert!(found.iter().any(|found| found.starts_with(&expected)), "{found:?}");
        }
        store.apply(&[register("new")]).with(3).says(&["corrupt", "the head of the log: it says"]);
    }
}

#[test]
fn a_head_of_another_epoch_than_the_one_accepted_last_is_found() {
    let store = filled();
    store.run(["epoch", "--accept", "--reason", "a test"]).with(0);
    store.run(["verify"]).with(0);
    store.by_hand("UPDATE _heads SET epoch = 7");
    finds(&store, &["the head of the log: it says epoch 7, the last one accepted is 2"]);
    store.by_hand("UPDATE _heads SET epoch = 2 WHERE name = 'log'");
    let found = findings(&store);
    assert!(found.iter().any(|found| found.starts_with("the head of the tables: it is of log ")), "{found:?}");
}

/// The first row that was none ended it with an error that did not say which.
#[test]
fn rows_and_events_that_cannot_be_read_are_findings_and_what_is_behind_them_is_looked_at() {
    let store = filled();
    store.by_hand(
        "UPDATE tasks SET status = 'zzz' WHERE miroir_id = 't1'; UPDATE tasks SET error = 'x' WHERE miroir_id = 't3';
         UPDATE events SET actor = CAST(X'ff' AS TEXT) WHERE position = 2; UPDATE aliases SET history = 'x'",
    );
    let found = findings(&store);
    let starts = [
        "event 2: column actor of its row is no UTF-8 text",
        "tasks/t1: the live row cannot be read: column status: expected one of",
        "tasks/t3: column error holds \"x\", the log says null (event 3)",
        "aliases/sale: the live row cannot be read: column history",
        "aliases/shop: the live row cannot be read: column history",
    ];
    assert_eq!(found.len(), starts.len(), "{found:?}");
    for (found, expected) in found.iter().zip(starts) {
        assert!(found.starts_with(expected), "{found} is not {expected}");
    }
}

#[test]
fn an_event_of_a_larger_commit_that_cannot_be_read_does_not_hide_the_others() {
    let prune = r#"{"transact":[{"command":"tasks.set_status","args":{"miroir_id":"t1","status":"failed"}},{"command":"tasks.set_status","args":{"miroir_id":"t2","status":"failed"}},{"command":"tasks.set_status","args":{"miroir_id":"t3","status":"failed"}}]}"#;
    let store = filled();
    store.apply(&[prune]).with(0);
    store.by_hand("UPDATE events SET key = CAST(X'ff' AS TEXT) WHERE position = 7");
    let ended = run(store.command(["verify", "--json"]), b"").with(1).json();
    let verdict = ended.last().unwrap();
    assert_eq!(
        (&verdict["events"], &verdict["commits"], &verdict["head"]),
        (&7.into(), &6.into(), &8.into()),
        "{ended:?}"
    );
    assert_eq!(ended[0]["finding"], "event 7: column key of its row is no UTF-8 text");
}

/// It repaired what it was to look at, appended an event about that, and said that everything holds.
#[test]
fn verify_writes_nothing_and_says_what_another_command_would_do() {
    for (change, expected) in [
        (
            "DROP TABLE tasks",
            "table tasks: it is missing: the next command makes it anew from the log, and so does `tasklog rebuild tasks`",
        ),
        (
            "UPDATE _projections SET version = 0 WHERE table_name = 'aliases'",
            "table aliases: projection 0 has built it, this program has 1: an upgrade is due, which the next command makes, or `tasklog rebuild aliases`; its rows were not compared",
        ),
        (
            "DELETE FROM schema_versions WHERE version = 3",
            "the schema: it is at version 2, this program knows 3: an upgrade is due, which the next command makes",
        ),
        (
            "DROP TABLE _log",
            "table _log: it is missing: the next command makes it anew from the log, and so does `tasklog rebuild`",
        ),
    ] {
        let store = filled();
        store.by_hand(change);
        let before = fs::read(store.path()).unwrap();
        for _ in 0..2 {
            finds(&store, &[expected]);
            assert!(fs::read(store.path()).unwrap() == before, "{change}: something was written");
        }
        store.run(["list", "tasks"]).with(0);
        store.run(["verify"]).with(0);
    }
}

/// A file of 0 bytes became a new store, of which `verify` said that everything holds.
#[test]
fn whoever_reads_makes_no_store_of_an_empty_file() {
    let store = filled();
    fs::write(store.path(), "").unwrap();
    for verb in [&["verify"][..], &["info"], &["list", "tasks"], &["log"], &["rebuild"], &["sql", "SELECT 1"]] {
        store.run(verb).with(3).says(&["no store at ", "tasklog.db: the file is empty"]);
        assert_eq!(fs::metadata(store.path()).unwrap().len(), 0, "{verb:?}");
    }
}

#[test]
fn a_store_without_events_has_none() {
    let store = Store::new();
    store.apply_bytes(b"").with(0);
    store.run(["info"]).with(0).prints(&["events       none\n", "newest       none\n"]);
    store.run(["verify"]).with(0);
}
