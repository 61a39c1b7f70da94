//! Replicas that begin with a snapshot of their source: the rows are those of a replica that began with the first event, and
//! of the source; the log goes on from there, exactly once; and what was before is never made up.
#![allow(clippy::unwrap_used, missing_docs)]
#![cfg(unix)]

mod support;

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use rusqlite::{Connection, OpenFlags};
use serde_json::json;
use sha2::{Digest, Sha256};
use support::{
    program::{Ended, Running, Store, names, run, tasklog},
    registry::{PATIENCE, eventually, on, register},
    shared::Shared,
};
use tasklog::{
    Access, OpenOptions, StoreUrl, TaskStore,
    command::CommandOptions,
    config::Config,
    follow::{FollowOptions, Follower, open_source},
    log::{Clock, Commit, ManualClock, Position},
    projections::{PROJECTED, TABLES, cell_json},
    tables::tasks,
};

/// Attempts to kill a follower while it loads.
const KILLS_MAX: usize = 40;

fn line(id: impl std::fmt::Display) -> String {
    format!(r#"{{"command":"tasks.register","args":{{"miroir_id":"{id}","node_tasks":{{"n1":7}}}}}}"#)
}

fn cancel(id: impl std::fmt::Display) -> String {
    format!(r#"{{"command":"tasks.cancel","args":{{"miroir_id":"{id}"}}}}"#)
}

fn lines(name: &str, count: usize) -> Vec<String> {
    (0..count).map(|at| line(format!("{name}{at}"))).collect()
}

/// Tasks a0 to aN, of which a0 has ended, and one deleted alias.
fn source(tasks: usize) -> Store {
    let mut all = lines("a", tasks);
    // No node has it, so that canceling it ends it.
    all[0] = r#"{"command":"tasks.register","args":{"miroir_id":"a0","node_tasks":{}}}"#.into();
    all.push(cancel("a0"));
    all.push(r#"{"command":"aliases.create","args":{"name":"gone","target":"i","target_verified":true}}"#.into());
    all.push(r#"{"command":"aliases.delete","args":{"name":"gone"}}"#.into());
    Store::with(&all)
}

/// What goes on about rows of before: chains that reach back, and a tombstone.
fn tail() -> Vec<String> {
    let mut all = lines("b", 5);
    all.extend([cancel("a1"), cancel("b0")]);
    all.push(r#"{"command":"aliases.create","args":{"name":"gone","target":"j","target_verified":true}}"#.into());
    all
}

fn follow(from: &str, into: &Store, more: &[&str]) -> Command {
    let mut command = tasklog();
    command.args(["follow", from, "--into", &into.url()]).args(more);
    command
}

fn begin(from: &str, into: &Store) -> Ended {
    run(follow(from, into, &["--once", "--from-snapshot"]), b"")
}

/// Every row of every table, as text.
fn rows(url: &str) -> String {
    let mut text = String::new();
    for table in TABLES {
        let list = ["list", table.name, "--json", "--show-sensitive", "--limit", "1000000"];
        text.push_str(&format!("{}\n{}", table.name, on(url, &list).with(0).out));
    }
    text
}

/// The same, and the facts about the log, without a program between.
fn all_rows(store: &TaskStore) -> String {
    let dumped = store.read(|log, view| {
        let (mut text, now) = (String::new(), log.head()?.recorded_at);
        for table in PROJECTED {
            tasklog::replay::live_rows(table, view, now, |held| {
                let cells = held.row.cells();
                let cells = table.columns.iter().zip(&cells).map(|(column, cell)| cell_json(column, cell).unwrap());
                let cells: Vec<_> = cells.collect();
                text.push_str(&format!("{}/{} {} {cells:?}\n", table.name, held.row.key(), held.rev));
                Ok(())
            })?;
        }
        Ok(text)
    });
    dumped.unwrap()
}

fn reading(url: &str) -> TaskStore {
    let options = OpenOptions { access: Access::Read, ..OpenOptions::default() };
    TaskStore::open_with(&url.parse().unwrap(), options).unwrap()
}

fn commits(store: &TaskStore, after: Position) -> Vec<Commit> {
    store.read(|log, _| Ok(log.read(after, usize::MAX)?)).unwrap()
}

/// The rows of a replica that began with the snapshot of event `began` are its source's, its log is the source's from there,
/// and it verifies.
#[track_caller]
fn assert_begun(from: &str, replica: &Store, began: u64) {
    assert_eq!(rows(&replica.url()), rows(from));
    let (theirs, mine) = (reading(from), reading(&replica.url()));
    assert_eq!(all_rows(&mine), all_rows(&theirs));
    let after = Position(began);
    assert_eq!(commits(&mine, Position::ZERO), commits(&theirs, after));
    let info = &replica.json(["info"])[0];
    assert_eq!((&info["began_with_snapshot"], &info["first"]), (&json!(began), &json!(began + 1)));
    replica.run(["verify"]).with(0).prints(&[
        &format!("the log begins at event {}: verified from the snapshot of event {began}", began + 1),
        "everything holds",
    ]);
}

fn snapshot(store: &Store) -> u64 {
    store.json(["snapshot"])[0]["position"].as_u64().unwrap()
}

fn snapshot_files(store: &Store) -> Vec<PathBuf> {
    let folder = store.beside(".snapshots").join("snapshots");
    names(&folder).iter().map(|name| folder.join(name)).collect()
}

// ---- the same rows

#[test]
fn a_follower_from_a_snapshot_has_the_rows_of_a_full_one_and_of_its_source() {
    let (primary, full, begun) = (Store::new(), Store::new(), Store::new());
    run(primary.command(["apply", "examples/day.ndjson"]), b"");
    primary.apply(&[line("a1"), line("a2")]).with(0);
    let at = snapshot(&primary);
    primary.apply(&tail()).with(0);
    run(follow(&primary.url(), &full, &["--once"]), b"").with(0);
    begin(&primary.url(), &begun)
        .with(0)
        .prints(&["began with the snapshot of event ", "the log here begins at event "]);
    assert_begun(&primary.url(), &begun, at);
    assert_eq!(rows(&begun.url()), rows(&full.url()));
    let infos = [&begun, &full].map(|store| store.json(["info"]).remove(0));
    for name in ["log_id", "epoch", "head", "head_commit_id", "checkpoint", "recording_from"] {
        assert_eq!(infos[0][name], infos[1][name], "{name}");
    }
    // It goes on as any other does; the flag makes no difference any more.
    primary.apply(&[line("later"), cancel("a2"), cancel("later")]).with(0);
    let again = begin(&primary.url(), &begun).with(0);
    assert!(!again.out.contains("began with"), "{}", again.out);
    assert_begun(&primary.url(), &begun, at);
    // A replica of the replica begins with what that one keeps.
    let second = Store::new();
    begin(&begun.url(), &second).with(0);
    assert_begun(&begun.url(), &second, at);
    begun.apply(&[line("mine")]).with(3).says(&["is a replica of"]);
}

#[test]
fn a_source_in_redis_is_begun_with_its_snapshot_as_well() {
    let place = Shared::new();
    let store = place.open();
    for id in 0..120 {
        register(&store, id).unwrap();
    }
    let at = store.snapshot(|_| ()).unwrap().position;
    for id in 120..140 {
        register(&store, id).unwrap();
    }
    let cancelled = tasks::Cancel { miroir_id: "3".into(), error: None };
    store.run_blocking(cancelled, CommandOptions::default()).unwrap();
    let (begun, full) = (Store::new(), Store::new());
    begin(&place.url(), &begun).with(0).prints(&["began with the snapshot of event 120 "]);
    run(follow(&place.url(), &full, &["--once"]), b"").with(0);
    assert_begun(&place.url(), &begun, at.0);
    assert_eq!(rows(&begun.url()), rows(&full.url()));
}

#[test]
fn replicas_in_memory_begin_with_a_snapshot_of_a_file_and_of_a_store_in_memory() {
    let file = source(200);
    let options = || OpenOptions { snapshot_every: 0, ..OpenOptions::default() };
    let in_file = TaskStore::open_with(&file.url().parse().unwrap(), options()).unwrap();
    let in_memory = TaskStore::open_with(&StoreUrl::Memory, options()).unwrap();
    for id in 0..200 {
        register(&in_memory, format!("a{id}")).unwrap();
    }
    for source in [in_file, in_memory] {
        let at = source.snapshot(|_| ()).unwrap().position;
        let options = FollowOptions { from_snapshot: true, ..FollowOptions::default() };
        let follower = source.follow(&StoreUrl::Memory, options).unwrap();
        let mut head = at;
        for id in 0..30 {
            head = register(&source, format!("b{id}")).unwrap();
            follower.wait_for(head, PATIENCE).unwrap();
            let cancelled = tasks::Cancel { miroir_id: format!("a{}", id + 1), error: None };
            head = source.run_blocking(cancelled, CommandOptions::default()).unwrap().position.max(head);
        }
        follower.wait_for(head, PATIENCE).unwrap();
        let replica = follower.store();
        assert_eq!(all_rows(replica), all_rows(&source));
        assert_eq!(commits(replica, Position::ZERO), commits(&source, at));
        assert_eq!(replica.beginning().unwrap().unwrap().position, at);
        let report = replica.verify(|_| {}).unwrap();
        assert_eq!((report.found, report.began), (0, at));
        let error = replica.at(at).map(drop).unwrap_err().to_string();
        assert!(error.contains(&format!("the log here begins at event {}", at.next())), "{error}");
        assert_eq!(all_rows(&replica.at(head).unwrap()), all_rows(replica));
    }
}

#[test]
fn a_row_whose_tombstone_the_snapshot_has_forgotten_is_created_again() {
    let file = Store::new();
    let clock = ManualClock::at(1_700_000_000_000);
    let day = Duration::from_secs(86_400);
    let config = Config { tombstone_retention: day * 30, ..Config::default() };
    let options =
        OpenOptions { config, clock: std::sync::Arc::new(clock.clone()), snapshot_every: 0, ..OpenOptions::default() };
    let store = TaskStore::open_with(&file.url().parse().unwrap(), options).unwrap();
    let gone = || tasks::Register { miroir_id: Some("gone".into()), ..tasks::Register::default() };
    store.run_blocking(gone(), CommandOptions::default()).unwrap();
    register(&store, "stays").unwrap();
    store.run_blocking(tasks::Cancel { miroir_id: "gone".into(), error: None }, CommandOptions::default()).unwrap();
    clock.advance(86_400_000);
    let prune = tasks::Prune { cutoff_ms: Some(clock.now()), ..tasks::Prune::default() };
    assert_eq!(store.run_blocking(prune, CommandOptions::default()).unwrap().answer.pruned, 1);
    clock.advance(3 * 86_400_000);
    register(&store, "between").unwrap();
    let made = store.snapshot(|_| ()).unwrap().position;
    assert_eq!(store.read(|_, view| Ok(view.tombstone(tasks_table(), "gone")?)).unwrap(), Some(Position(5)));
    let follower = |into: &StoreUrl| {
        let options = FollowOptions { from_snapshot: true, ..FollowOptions::default() };
        store.follow(into, options).unwrap()
    };
    let replica = Store::new();
    let followers = [follower(&StoreUrl::Memory), follower(&replica.url().parse().unwrap())];
    for follower in &followers {
        follower.wait_for(made, PATIENCE).unwrap();
    }
    let head = store.run_blocking(gone(), CommandOptions::default()).unwrap().position;
    let linked = store.read(|log, _| Ok(log.event(head)?)).unwrap().unwrap().0.events[0].prev;
    assert_eq!(linked, Some(Position(5)), "the writer still knew the tombstone");
    for follower in followers {
        follower.wait_for(head, PATIENCE).unwrap();
        assert_eq!(all_rows(follower.store()), all_rows(&store));
        assert_eq!(follower.store().verify(|_| {}).unwrap().found, 0);
    }
}

fn tasks_table() -> &'static tasklog::projections::TableDef {
    tasklog::projections::table("tasks").unwrap()
}

// ---- which snapshot

#[test]
fn without_a_snapshot_and_without_the_flag_a_follower_begins_with_the_first_event() {
    let primary = source(20);
    let (one, other) = (Store::new(), Store::new());
    begin(&primary.url(), &one).with(0).says(&["no snapshot of the source can be used"]);
    snapshot(&primary);
    run(follow(&primary.url(), &other, &["--once"]), b"").with(0);
    for replica in [&one, &other] {
        assert_eq!(replica.dump(), primary.dump());
        assert_eq!(replica.json(["info"])[0]["began_with_snapshot"], json!(null));
    }
}

#[test]
fn a_damaged_snapshot_is_passed_over_for_the_next_older_one_with_a_warning() {
    let primary = source(100);
    let older = snapshot(&primary);
    primary.apply(&tail()).with(0);
    snapshot(&primary);
    let newest = snapshot_files(&primary).pop().unwrap();
    let mut bytes = fs::read(&newest).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&newest, bytes).unwrap();
    let replica = Store::new();
    begin(&primary.url(), &replica).with(0).says(&["passing over a snapshot", "its digest does not match"]);
    assert_begun(&primary.url(), &replica, older);
}

/// What a program with other tables would have made: complete, with a digest that is right.
fn of_another_projection(path: &Path) {
    let bytes = fs::read(path).unwrap();
    let trailer = bytes.len() - 48;
    let number = |at: usize, count: usize| bytes[at..at + count].iter().fold(0, |n, byte| n << 8 | usize::from(*byte));
    let (place, compressed, raw) = (number(trailer, 8), number(trailer + 8, 4), number(trailer + 12, 4));
    let mut directory = zstd::bulk::decompress(&bytes[place..place + compressed], raw).unwrap();
    let name = b"projection_version";
    let at = directory.windows(name.len()).position(|window| window == name).unwrap() + name.len();
    directory[at] += 1;
    let packed = zstd::bulk::compress(&directory, 3).unwrap();
    let mut changed = bytes[..place].to_vec();
    changed.extend(&packed);
    changed.extend((place as u64).to_be_bytes());
    changed.extend((packed.len() as u32).to_be_bytes());
    changed.extend((directory.len() as u32).to_be_bytes());
    let digest = Sha256::digest(&changed);
    changed.extend(digest);
    let position = path.file_name().unwrap().to_str().unwrap().split_once('-').unwrap().0.to_owned();
    let name = format!("{position}-{}.tls", &hex::encode(digest)[..16]);
    fs::remove_file(path).unwrap();
    fs::write(path.with_file_name(name), changed).unwrap();
}

#[test]
fn a_snapshot_of_another_projection_version_is_not_begun_with() {
    let primary = source(100);
    let older = snapshot(&primary);
    primary.apply(&tail()).with(0);
    snapshot(&primary);
    of_another_projection(&snapshot_files(&primary).pop().unwrap());
    let replica = Store::new();
    begin(&primary.url(), &replica)
        .with(0)
        .says(&["passing over a snapshot", "is of projection 2, this program's is 1"]);
    assert_begun(&primary.url(), &replica, older);
}

// ---- trimmed sources

/// A source whose log begins late, and whose archive is somewhere else by now.
fn trimmed() -> (Store, u64) {
    let primary = source(100);
    let archive = primary.folder.path().join("archive");
    primary.run(["archive", "--to", archive.to_str().unwrap(), "--all", "--segment-events", "20"]).with(0);
    let at = snapshot(&primary);
    primary.run(["trim", "--keep-events", "10"]).with(0);
    primary.apply(&tail()).with(0);
    (primary, at)
}

#[test]
fn a_trimmed_source_whose_archive_is_out_of_reach_is_followed_from_a_snapshot_only() {
    let (primary, at) = trimmed();
    let archive = primary.folder.path().join("archive");
    let elsewhere = primary.folder.path().join("elsewhere");
    fs::rename(&archive, &elsewhere).unwrap();
    let replica = Store::new();
    let refused = run(follow(&primary.url(), &replica, &["--once"]), b"");
    refused.with(3).says(&["following from event 1: the source begins at event ", "--from-snapshot"]);
    begin(&primary.url(), &replica).with(0).prints(&["began with the snapshot"]);
    let verified = replica.run(["verify"]).with(0);
    assert!(verified.out.contains("everything holds"), "{}", verified.out);
    assert_eq!(rows(&replica.url()), rows(&primary.url()));
    replica.run(["history", "tasks", "a1"]).with(3).says(&["archive"]);
    // Where the archive is to be found, the replica reads on into it, as its source does.
    fs::rename(&elsewhere, &archive).unwrap();
    let told = |store: &Store| store.run(["history", "tasks", "a1"]).with(0).out;
    assert_eq!(told(&replica), told(&primary));
    replica.run(["get", "tasks", "a1", "--at", "50"]).with(0);
    assert_eq!(replica.json(["info"])[0]["began_with_snapshot"], json!(at));
    // And one that begins with the first event reads it from there.
    let full = Store::new();
    run(follow(&primary.url(), &full, &["--once"]), b"").with(0);
    assert_eq!(full.dump(), primary.dump());
}

#[test]
fn a_replica_that_a_trimmed_source_has_left_behind_is_told_to_begin_again() {
    let primary = source(100);
    let replica = Store::new();
    run(follow(&primary.url(), &replica, &["--once"]), b"").with(0);
    primary.apply(&lines("c", 50)).with(0);
    let archive = primary.folder.path().join("archive");
    primary.run(["archive", "--to", archive.to_str().unwrap(), "--all", "--segment-events", "20"]).with(0);
    snapshot(&primary);
    primary.run(["trim", "--keep-events", "10"]).with(0);
    fs::remove_dir_all(&archive).unwrap();
    begin(&primary.url(), &replica).with(3).says(&["begin a new replica in another file", "--from-snapshot"]);
}

// ---- exactly once

fn open_beside(store: &Store) -> Option<Connection> {
    Connection::open_with_flags(store.path(), OpenFlags::SQLITE_OPEN_READ_ONLY).ok()
}

/// Whether rows of a snapshot are there that are no table's yet.
fn is_loading(store: &Store) -> bool {
    let Some(conn) = open_beside(store) else { return false };
    conn.query_row("SELECT count(*) FROM _shadow_tasks", [], |row| row.get::<_, i64>(0)).is_ok_and(|rows| rows > 0)
}

#[test]
fn a_follower_killed_while_it_loads_has_nothing_and_begins_again() {
    let primary = Store::with(&lines("a", 15_000));
    let at = snapshot(&primary);
    primary.apply(&tail_without_alias()).with(0);
    let replica = Store::new();
    let mut killed = 0;
    for _ in 0..KILLS_MAX {
        let mut running = Running(
            follow(&primary.url(), &replica, &["--once", "--from-snapshot"])
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap(),
        );
        eventually("it loads or ends", || is_loading(&replica) || running.0.try_wait().unwrap().is_some());
        running.0.kill().unwrap();
        running.0.wait().unwrap();
        let head = replica.json(["info"])[0]["head"].as_u64().unwrap();
        if head == 0 {
            killed += 1;
            assert_eq!(replica.json(["list", "tasks"]).len(), 0, "rows are there before it has begun");
            if killed == 1 {
                begins_with_the_first_event_after_all(&primary, &replica);
            }
        } else {
            assert!(head >= at, "{head}");
            assert_eq!(replica.run(["query", "store.health"]).with(0).out.trim(), head.to_string());
            for beside in ["", "-wal", "-shm", ".snapshots"] {
                let path = replica.beside(beside);
                let _ = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
            }
        }
        if killed == 3 {
            break;
        }
    }
    assert!(killed > 0, "no kill came while it was loading");
    begin(&primary.url(), &replica).with(0).prints(&["began with the snapshot of event 15,000 "]);
    assert_begun(&primary.url(), &replica, at);
    assert_eq!(shadows(&replica), 0);
}

fn shadows(store: &Store) -> i64 {
    let count = "SELECT count(*) FROM sqlite_schema WHERE name LIKE '\\_shadow%' ESCAPE '\\'";
    open_beside(store).unwrap().query_row(count, [], |row| row.get(0)).unwrap()
}

/// What a killed load has left is in nobody's way.
#[track_caller]
fn begins_with_the_first_event_after_all(primary: &Store, left: &Store) {
    let replica = Store::new();
    for beside in ["", "-wal"] {
        fs::copy(left.beside(beside), replica.beside(beside)).unwrap();
    }
    assert!(shadows(&replica) > 0);
    run(follow(&primary.url(), &replica, &["--once"]), b"").with(0);
    assert_eq!(shadows(&replica), 0);
    assert_eq!(rows(&replica.url()), rows(&primary.url()));
    replica.run(["verify"]).with(0);
}

fn tail_without_alias() -> Vec<String> {
    let mut all = lines("b", 5);
    all.extend([cancel("a1"), cancel("b0")]);
    all
}

#[test]
fn a_begun_follower_that_is_killed_again_and_again_has_the_rest_exactly_once() {
    let primary = source(2_000);
    let at = snapshot(&primary);
    let replica = Store::new();
    let mut writer = primary.command(["apply"]);
    let mut writer = writer.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let mut input = writer.stdin.take().unwrap();
    let writing = thread::spawn(move || {
        for (at, line) in lines("then", 1_990).into_iter().enumerate() {
            writeln!(input, "{line}\n{}", cancel(format!("a{}", at + 1))).unwrap();
            if at % 100 == 0 {
                thread::sleep(Duration::from_millis(20));
            }
        }
    });
    for kill in 0..10 {
        let mut running = Running::start(&["follow", &primary.url(), "--into", &replica.url(), "--from-snapshot"]);
        thread::sleep(Duration::from_millis(60 + 45 * (kill % 5)));
        running.0.kill().unwrap();
        running.0.wait().unwrap();
        if replica.path().exists() && kill > 2 {
            replica.run(["query", "store.health"]).with(0);
        }
    }
    writing.join().unwrap();
    assert!(writer.wait().unwrap().success());
    begin(&primary.url(), &replica).with(0);
    assert_begun(&primary.url(), &replica, replica.json(["info"])[0]["began_with_snapshot"].as_u64().unwrap());
    assert!(replica.json(["info"])[0]["began_with_snapshot"].as_u64().unwrap() >= at);
}

// ---- what it is good for

/// A source, its replica from a snapshot, and the position of that.
fn begun() -> (Store, Store, u64) {
    let (primary, replica) = (source(100), Store::new());
    let at = snapshot(&primary);
    primary.apply(&tail()).with(0);
    begin(&primary.url(), &replica).with(0);
    (primary, replica, at)
}

#[test]
fn verify_notices_a_changed_row_a_changed_event_and_a_snapshot_that_is_gone() {
    let (_primary, replica, _) = begun();
    replica.by_hand("UPDATE tasks SET error = 'by hand' WHERE miroir_id IN ('a5', 'b1')");
    replica.run(["verify"]).with(1).prints(&["tasks/a5", "tasks/b1", "2 findings"]);
    replica
        .run(["rebuild"])
        .with(0)
        .prints(&["rebuilt from the snapshot at event ", "2 rows were not what the log says"]);
    replica.run(["verify"]).with(0);
    let last = replica.json(["info"])[0]["head"].as_u64().unwrap();
    replica.by_hand(&format!("UPDATE events SET payload = x'80' WHERE position = {last}"));
    replica.run(["verify"]).with(1).prints(&[&format!("event {last}: ")]);
    fs::remove_dir_all(replica.beside(".snapshots")).unwrap();
    let told = replica.run(["verify"]).with(3);
    told.says(&["this replica began with the snapshot of event 104, which cannot be used", "begin the replica again"]);
}

#[test]
fn tables_that_were_lost_come_back_from_its_own_snapshot_and_the_tail() {
    let (primary, replica, at) = begun();
    replica.by_hand("DROP TABLE tasks; DROP TABLE aliases; DELETE FROM _tombstones;");
    primary.apply(&[cancel("a3")]).with(0);
    begin(&primary.url(), &replica).with(0);
    assert_begun(&primary.url(), &replica, at);
    replica.by_hand("DROP TABLE tasks;");
    fs::remove_dir_all(replica.beside(".snapshots")).unwrap();
    begin(&primary.url(), &replica).with(3).says(&["began with the snapshot of event 104, which cannot be used"]);
}

#[test]
fn moments_since_the_beginning_are_seen_and_those_before_it_are_refused_with_what_to_do() {
    let (primary, replica, at) = begun();
    let head = replica.json(["info"])[0]["head"].as_u64().unwrap();
    for position in at + 1..=head {
        let moment = position.to_string();
        for key in ["a1", "a7", "b0", "b4"] {
            let get = ["get", "tasks", key, "--at", &moment, "--json"];
            let (mine, theirs) = (replica.run(get), primary.run(get));
            assert_eq!((mine.status, mine.out), (theirs.status, theirs.out), "{key} at {position}");
        }
        let list = ["list", "tasks", "--limit", "1000", "--json", "--at", &moment];
        assert_eq!(replica.run(list).with(0).out, primary.run(list).with(0).out, "at {position}");
    }
    let (before, first) = (at.to_string(), format!("begins at event {}", at + 1));
    replica.run(["get", "tasks", "a1", "--at", &before]).with(3).says(&[&first, "the source of a replica"]);
    replica.run(["list", "tasks", "--at", "2020-01-01T00:00:00Z"]).with(1).says(&[&first, "the source of a replica"]);
    replica.run(["history", "tasks", "b0"]).with(0).prints(&["task_registered"]);
    replica.run(["history", "tasks", "a1"]).with(3).says(&[&first, "the source of a replica"]);
    replica.run(["checkpoint"]).with(3).says(&["needs the whole log", "ask its source"]);
    replica.run(["fork", "--into", "sqlite:fork.db"]).with(3).says(&["needs the whole log"]);
    assert_eq!(replica.json(["log"]).len() as u64, head - at);
}

// ---- divergence

/// Copies a store that nobody writes to, or puts a copy in its place.
fn back_up(store: &Store, to: &Path) {
    Connection::open(store.path()).unwrap().execute("VACUUM INTO ?1", [to.to_str().unwrap()]).unwrap();
}

fn restore(store: &Store, from: &Path) {
    for suffix in ["-wal", "-shm"] {
        let _ = fs::remove_file(store.beside(suffix));
    }
    let beside = store.folder.path().join("restored.db");
    fs::copy(from, &beside).unwrap();
    fs::rename(&beside, store.path()).unwrap();
}

/// A source that was restored to where it was `after` commands since its snapshot, and a replica that has more.
fn diverged(after: usize) -> (Store, Store, u64) {
    let (primary, replica) = (source(50), Store::new());
    let at = snapshot(&primary);
    primary.apply(&lines("kept", after)).with(0);
    let backup = primary.folder.path().join("backup.db");
    back_up(&primary, &backup);
    primary.apply(&lines("lost", 7)).with(0);
    begin(&primary.url(), &replica).with(0);
    restore(&primary, &backup);
    primary.apply(&lines("other", 3)).with(0);
    (primary, replica, at)
}

#[test]
fn a_begun_replica_goes_back_to_a_common_point_and_even_to_its_beginning() {
    for kept in [4, 0] {
        let (primary, replica, at) = diverged(kept);
        begin(&primary.url(), &replica).with(3).says(&["diverged", "--accept-divergence"]);
        let said = run(follow(&primary.url(), &replica, &["--once", "--accept-divergence"]), b"").with(0);
        assert!(said.out.contains(&format!("to event {}", at + kept as u64)), "{}", said.out);
        assert_begun(&primary.url(), &replica, at);
    }
}

#[test]
fn a_begun_replica_in_memory_goes_back_as_well() {
    for kept in [4, 0] {
        let primary = source(50);
        let at = snapshot(&primary);
        primary.apply(&lines("kept", kept + 1)).with(0);
        primary.by_hand(&format!("DELETE FROM events WHERE position > {}", at + kept as u64));
        let head = "UPDATE _heads SET (position, commit_id, recorded_at) =
            (SELECT position, commit_id, recorded_at FROM events ORDER BY position DESC LIMIT 1)";
        primary.by_hand(head);
        primary.by_hand("DELETE FROM tasks WHERE _rev > (SELECT max(position) FROM events)");
        let backup = primary.folder.path().join("backup.db");
        back_up(&primary, &backup);
        primary.apply(&lines("lost", 7)).with(0);
        let url: StoreUrl = primary.url().parse().unwrap();
        let options = FollowOptions { from_snapshot: true, ..FollowOptions::default() };
        let follower = Follower::start(open_source(&url).unwrap(), &StoreUrl::Memory, options).unwrap();
        follower.wait_for(Position(at + kept as u64 + 7), PATIENCE).unwrap();
        restore(&primary, &backup);
        primary.by_hand("UPDATE _heads SET epoch = epoch + 1");
        primary.apply(&lines("other", 20)).with(0);
        eventually("the replica goes back", || !follower.went_back().is_empty());
        follower.wait_for(Position(at + kept as u64 + 20), PATIENCE).unwrap();
        assert_eq!(follower.went_back()[0].to.position, Position(at + kept as u64));
        assert_eq!(all_rows(follower.store()), all_rows(&reading(&primary.url())));
        assert_eq!(follower.store().verify(|_| {}).unwrap().found, 0);
    }
}

#[test]
fn a_replica_whose_beginning_was_lost_says_that_it_cannot_go_back_and_what_to_do() {
    let (primary, replica) = (source(50), Store::new());
    let backup = primary.folder.path().join("backup.db");
    back_up(&primary, &backup);
    primary.apply(&lines("lost", 7)).with(0);
    let at = snapshot(&primary);
    begin(&primary.url(), &replica).with(0);
    let before = rows(&replica.url());
    restore(&primary, &backup);
    primary.apply(&lines("other", 20)).with(0);
    let said = run(follow(&primary.url(), &replica, &["--once", "--accept-divergence"]), b"").with(3);
    said.says(&[
        &format!("began with the snapshot of event {at} and has events {} on: it cannot go back", at + 1),
        "Begin the replica again, in a new file",
        "diverged",
    ]);
    assert_eq!(rows(&replica.url()), before);
    let again = Store::new();
    // The snapshot of what was lost is of no use.
    begin(&primary.url(), &again).with(0).says(&["passing over a snapshot"]);
    assert_eq!(rows(&again.url()), rows(&primary.url()));
}

// ---- quarantines

#[test]
fn a_quarantine_is_followed_where_the_replica_has_the_event_and_otherwise_it_says_what_to_do() {
    let (primary, replica, at) = begun();
    let log = replica.json(["log"]);
    let of = |key: &str| {
        let found = log.iter().find(|event| event["key"] == key).unwrap();
        found["position"].as_u64().unwrap().to_string()
    };
    // The first event of this row is older than the replica.
    primary.run(["quarantine", &of("a1"), "--reason", "x"]).with(0);
    begin(&primary.url(), &replica).with(0);
    assert_begun(&primary.url(), &replica, at);
    primary.run(["quarantine", &of("a1"), "--lift", "--reason", "y"]).with(0);
    begin(&primary.url(), &replica).with(0);
    assert_begun(&primary.url(), &replica, at);
    let before = rows(&replica.url());
    let ended = primary.json(["history", "tasks", "a0"]).pop().unwrap();
    let position = ended["position"].as_u64().unwrap().to_string();
    primary.run(["quarantine", &position, "--reason", "z"]).with(0);
    let said = begin(&primary.url(), &replica).with(3);
    said.says(&[&format!("event {position} is quarantined in the source"), "begin the replica again"]);
    assert_eq!(rows(&replica.url()), before, "nothing of it was taken");
    // Nor can one begin with a snapshot that was made otherwise; with the first event it can.
    let full = Store::new();
    begin(&primary.url(), &full).with(0).says(&["no snapshot of the source can be used"]);
    assert_eq!(full.dump(), primary.dump());
    // One that begins after the decision has it.
    let made = snapshot(&primary);
    let again = Store::new();
    begin(&primary.url(), &again).with(0);
    assert_begun(&primary.url(), &again, made);
}

/// A decision that was taken back is met on the way, and the snapshot was made as it is in the end.
#[test]
fn a_quarantine_that_was_lifted_before_the_replica_began_does_not_stop_it() {
    let (primary, replica) = (source(50), Store::new());
    let at = snapshot(&primary);
    let ended = primary.json(["history", "tasks", "a0"]).pop().unwrap()["position"].as_u64().unwrap().to_string();
    primary.run(["quarantine", &ended, "--reason", "x"]).with(0);
    primary.run(["quarantine", &ended, "--lift", "--reason", "y"]).with(0);
    primary.apply(&tail()).with(0);
    begin(&primary.url(), &replica).with(0);
    assert_begun(&primary.url(), &replica, at);
}
