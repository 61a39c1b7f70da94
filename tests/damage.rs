//! What `verify` finds in a file that was changed under the program, by bytes or by SQL, and what mends it.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::fs;

use support::program::{Store, run, tasklog};

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

/// Changes the first byte of a text on the first page of an index or a table.
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
    let at = bytes[page..page + size].windows(text.len()).position(|found| found == text.as_bytes()).unwrap();
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
    fs::copy(store.path(), &copy.with_extension("copied")).unwrap();
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
