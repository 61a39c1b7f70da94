//! Snapshots of whole stores: made by the way, on demand, and what they are good for when something is lost.
#![allow(clippy::unwrap_used, missing_docs)]
#![cfg(unix)]

mod support;

use std::{
    fs,
    path::PathBuf,
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use serde_json::json;
use support::{
    program::{Store, names, run, tasklog},
    registry::register,
    shared::{Shared, assert_verified},
};
use tasklog::{
    Access, OpenOptions, TaskStore,
    log::{Position, StoreErrorKind},
    replay::snapshot::{SnapshotInfo, Snapshots},
};

/// More commands than any of these tests needs before a snapshot is there.
const COMMANDS_MAX: usize = 200_000;

fn line(id: usize) -> String {
    format!(r#"{{"command":"tasks.register","args":{{"miroir_id":"t{id}","node_tasks":{{"n1":7}}}}}}"#)
}

/// Tasks t1 to tN, some of which have ended, and one deleted alias.
fn store(tasks: usize) -> Store {
    let mut lines: Vec<_> = (1..=tasks).map(line).collect();
    lines.push(r#"{"command":"aliases.create","args":{"name":"a","target":"i","target_verified":true}}"#.into());
    lines.push(r#"{"command":"aliases.delete","args":{"name":"a"}}"#.into());
    Store::with(&lines)
}

impl Store {
    fn snapshots_folder(&self) -> PathBuf {
        self.beside(".snapshots").join("snapshots")
    }

    fn open_with_snapshots(&self, every: u64) -> TaskStore {
        let options = OpenOptions { snapshot_every: every, ..OpenOptions::default() };
        TaskStore::open_with(&self.url().parse().unwrap(), options).unwrap()
    }
}

fn list(store: &TaskStore) -> Vec<SnapshotInfo> {
    store.snapshots().unwrap().list().unwrap()
}

/// Runs commands until there is a snapshot; answers how many.
fn work_until_there_is_a_snapshot(store: &TaskStore) -> usize {
    for at in 0..COMMANDS_MAX {
        register(store, format!("w{at}")).unwrap();
        if !list(store).is_empty() {
            return at + 1;
        }
    }
    panic!("no snapshot after {COMMANDS_MAX} commands");
}

#[test]
fn a_store_that_is_written_to_makes_snapshots_by_the_way() {
    let file = Store::new();
    let redis = Shared::new();
    let options = || OpenOptions { snapshot_every: 50, ..OpenOptions::default() };
    let memory = TaskStore::open_with(&"memory:".parse().unwrap(), options()).unwrap();
    for store in [memory, file.open_with_snapshots(50), redis.open_with(options())] {
        work_until_there_is_a_snapshot(&store);
        let made = list(&store)[0].clone();
        assert_eq!(made.position.0 % 50, 0, "one event a commit: every process comes to the same position");
        let newest = |store: &TaskStore| {
            let snapshots = store.snapshots().unwrap();
            let newest = store.read(|log, _| Ok(snapshots.newest(log, log.head()?.position)?)).unwrap();
            newest.unwrap().checkpoint().position
        };
        assert!(newest(&store) >= made.position);
        assert_verified(&store);
    }
}

#[test]
fn a_store_opened_with_0_makes_none_and_one_on_demand_is_made_once() {
    let file = store(30);
    let store = file.open_with_snapshots(0);
    assert!(list(&store).is_empty());
    let made = store.snapshot(|_| ()).unwrap();
    assert_eq!(made.position, store.head().unwrap());
    assert_eq!(store.snapshot(|_| ()).unwrap(), made);
    assert_eq!(list(&store), [made]);
    assert_eq!(names(&file.snapshots_folder()).len(), 1);
}

#[test]
fn a_reading_process_makes_a_snapshot_beside_the_writing_one() {
    let file = store(30);
    let writer = file.open_with_snapshots(0);
    let reader = OpenOptions { access: Access::Read, ..OpenOptions::default() };
    let reader = TaskStore::open_with(&file.url().parse().unwrap(), reader).unwrap();
    let made = reader.snapshot(|_| ()).unwrap();
    register(&writer, "x").unwrap();
    assert_eq!(list(&writer), [made]);
}

#[test]
fn writers_go_on_while_one_is_made() {
    let file = store(2_000);
    let store = file.open_with_snapshots(0);
    let answered = std::cell::Cell::new(0);
    let made = store.snapshot(|_| {
        // Whoever makes it waits here: the command is answered all the same.
        register(&store, format!("w{}", answered.get())).unwrap();
        answered.set(answered.get() + 1);
    });
    assert!(answered.get() > 0);
    assert!(made.unwrap().position < store.head().unwrap());
    assert_verified(&store);
}

/// The first event is damaged, so that only a snapshot can give the rows.
fn lose_tables_and_the_first_event(file: &Store) {
    file.by_hand(
        "DROP TABLE tasks; DROP TABLE aliases; DELETE FROM _tombstones; UPDATE events SET checksum = 1 WHERE position = 1;",
    );
}

#[test]
fn lost_tables_come_back_from_a_snapshot_and_the_tail() {
    let file = store(300);
    file.json(["snapshot"]);
    file.apply(&[line(1_000), line(1_001)]).with(0);
    let rows = file.run(["list", "tasks", "--json", "--limit", "1000000"]).with(0).out;
    lose_tables_and_the_first_event(&file);
    let again = file.run(["list", "tasks", "--json", "--limit", "1000000"]).with(0).says(&["began with a snapshot"]);
    assert_eq!(again.out, rows);
    let created =
        file.apply(&[r#"{"command":"aliases.create","args":{"name":"a","target":"j","target_verified":true}}"#]);
    created.with(0);
    let version = file.shell().query_row("SELECT version FROM aliases", [], |row| row.get::<_, i64>(0)).unwrap();
    assert!(version > 1, "the tombstone of the deleted alias came back too: {version}");
}

#[test]
fn without_a_usable_snapshot_lost_tables_come_back_from_the_first_event() {
    let file = store(300);
    file.json(["snapshot"]);
    let rows = file.dump();
    let path = file.snapshots_folder().join(&names(&file.snapshots_folder())[0]);
    let mut bytes = fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&path, bytes).unwrap();
    file.by_hand("DROP TABLE tasks");
    let listed = file.run(["list", "tasks"]).with(0);
    let listed = listed.says(&["passing over a snapshot", "its digest does not match"]);
    assert!(!listed.err.contains("began with a snapshot"), "{}", listed.err);
    assert_eq!(file.dump(), rows);
}

#[test]
fn a_damaged_snapshot_is_passed_over_for_the_next_older_one() {
    let file = store(100);
    let older = &file.json(["snapshot"])[0];
    file.apply(&[line(1_000)]).with(0);
    let newer = &file.json(["snapshot"])[0];
    let path = file.beside(".snapshots").join(newer["name"].as_str().unwrap());
    fs::write(&path, &fs::read(&path).unwrap()[..200]).unwrap();
    let listed = file.json(["snapshots"]);
    assert_eq!(listed.len(), 2);
    assert_eq!((&listed[0]["position"], &listed[0]["usable"]), (&newer["position"], &json!(false)));
    assert_eq!((&listed[1]["position"], &listed[1]["usable"]), (&older["position"], &json!(true)));
    file.run(["snapshots"]).with(0).prints(&["position", "yes", "no", "its digest does not match"]);
    lose_tables_and_the_first_event(&file);
    file.run(["list", "tasks"]).with(0).says(&["passing over a snapshot", "began with a snapshot"]);
    assert!(file.snapshots_folder().is_dir());
}

#[test]
fn rebuild_begins_at_the_first_event_unless_told_to_begin_with_a_snapshot() {
    let file = store(100);
    let made = file.json(["snapshot"])[0]["position"].clone();
    file.apply(&[line(1_000)]).with(0);
    let whole = &file.json(["rebuild"])[0];
    assert_eq!((&whole["snapshot"], &whole["events"]), (&json!(0), &json!(103)));
    let rest = &file.json(["rebuild", "--from-snapshot"])[0];
    assert_eq!((&rest["snapshot"], &rest["events"]), (&made, &json!(1)));
    file.run(["verify"]).with(0);
}

#[test]
fn the_program_tells_what_it_made() {
    let file = store(100);
    let made = &file.json(["snapshot"])[0];
    assert_eq!((&made["position"], &made["rows"], &made["tombstones"]), (&json!(102), &json!(100), &json!(1)));
    let listed = &file.json(["snapshots"])[0];
    assert_eq!(listed["bytes"], made["bytes"]);
    assert!(listed["digest"].as_str().unwrap().starts_with(made["digest"].as_str().unwrap()));
    assert_eq!(listed["tables"][0]["table"], "tasks");
    file.run(["snapshot"]).with(0).prints(&["snapshot at event 102: 100 rows and 1 tombstones"]);
    let digest = run(digest_of(&file, made["name"].as_str().unwrap()), b"").with(0);
    assert!(digest.out.starts_with(listed["digest"].as_str().unwrap()), "{}", digest.out);
}

/// What the documentation says: the digest is that of all bytes but the last 32.
fn digest_of(file: &Store, name: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", "head -c -32 \"$0\" | sha256sum"]).arg(file.beside(".snapshots").join(name));
    command
}

#[test]
fn a_place_that_is_read_only_is_named_and_the_store_goes_on() {
    let file = store(10);
    let folder = file.beside(".snapshots");
    fs::create_dir(&folder).unwrap();
    let mut permissions = fs::metadata(&folder).unwrap().permissions();
    permissions.set_readonly(true);
    fs::set_permissions(&folder, permissions).unwrap();
    let store = file.open_with_snapshots(5);
    let error = store.snapshot(|_| ()).unwrap_err();
    let tasklog::Error::Store(error) = error else { panic!("{error}") };
    assert_eq!(error.kind(), StoreErrorKind::ReadOnly);
    assert!(error.to_string().contains(&*folder.display().to_string()), "{error}");
    register(&store, "x").unwrap();
}

/// Each is killed a little later than the one before.
#[test]
fn one_that_is_killed_while_it_writes_leaves_nothing_that_looks_whole() {
    let file = store(3_000);
    let mut whole = 0;
    for ms in 0..40 {
        let mut command = file.command(["snapshot"]);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        thread::sleep(Duration::from_millis(ms));
        let _ = child.kill();
        child.wait().unwrap();
        let listed = file.json(["snapshots"]);
        assert!(listed.iter().all(|one| one["usable"] == true), "{listed:?}");
        whole += listed.len();
        let _ = fs::remove_dir_all(file.snapshots_folder());
    }
    assert!(whole < 40, "some were killed before they were whole");
    file.json(["snapshot"]);
    assert_eq!(file.json(["snapshots"]).len(), 1);
}

#[test]
fn snapshots_in_redis_are_no_strays_and_repair_begins_with_one() {
    let place = Shared::new();
    let store = place.open();
    for id in 0..200 {
        register(&store, id).unwrap();
    }
    let made = store.snapshot(|_| ()).unwrap();
    register(&store, "x").unwrap();
    assert_verified(&store);
    assert_eq!(list(&place.open()), std::slice::from_ref(&made), "whoever has the URL has the snapshots");
    // The first event is gone, so that only the snapshot can give the rows; and so are two rows.
    let _: i64 = place.server.run(&["XTRIM", &format!("{}:log", place.prefix), "MINID", "2"]);
    let _: i64 = place.server.run(&["DEL", &format!("{}:tasks:5", place.prefix), &format!("{}:tasks:x", place.prefix)]);
    let program = |args: &[&str]| {
        let mut command = tasklog();
        command.args(["--store", &place.url(), "--json"]).args(args);
        run(command, b"")
    };
    let repaired = program(&["rebuild", "--from-snapshot"]).with(0).says(&["began with a snapshot"]).json();
    assert_eq!((&repaired[0]["repaired"], &repaired[0]["events"]), (&json!(2), &json!(201)));
    assert_eq!(program(&["get", "tasks", "5"]).with(0).json().len(), 1);
    let listed = program(&["snapshots"]).with(0).json();
    assert_eq!(listed[0]["position"], made.position.0);
}

#[test]
fn of_two_writers_of_one_store_one_makes_each_snapshot() {
    let place = Shared::new();
    let options = || OpenOptions { snapshot_every: 40, ..OpenOptions::default() };
    let (one, other) = (place.open_with(options()), place.open_with(options()));
    thread::scope(|scope| {
        let writing = scope.spawn(|| work_until_there_is_a_snapshot(&one));
        work_until_there_is_a_snapshot(&TaskStore::clone(&other));
        writing.join().unwrap();
    });
    drop((one, other));
    let store = place.open();
    let positions: Vec<_> = list(&store).iter().map(|info| info.position).collect();
    let mut once = positions.clone();
    once.dedup();
    assert_eq!(positions, once);
    let uploads: i64 = place.server.run(&["EXISTS", &format!("{}:_blob_uploads", place.prefix)]);
    assert_eq!(uploads, 0, "nothing half written is left behind");
}

#[test]
fn a_snapshot_of_another_log_is_not_used() {
    let (mine, theirs) = (store(20), store(30));
    theirs.json(["snapshot"]);
    fs::rename(theirs.beside(".snapshots"), mine.beside(".snapshots")).unwrap();
    let listed = mine.json(["snapshots"]);
    assert!(listed[0]["why_not"].as_str().unwrap().contains("it is of log"), "{listed:?}");
    let store = mine.open_with_snapshots(0);
    let snapshots: Snapshots = store.snapshots().unwrap();
    assert!(store.read(|log, _| Ok(snapshots.newest(log, Position(u64::MAX))?)).unwrap().is_none());
    assert_eq!(store.snapshot(|_| ()).unwrap().position, store.head().unwrap());
}
