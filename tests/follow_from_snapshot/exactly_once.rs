//! Killed while it loads, and killed afterwards: nothing is there twice, and nothing is missing.

use std::{fs, io::Write, process::Stdio, thread, time::Duration};

use rusqlite::{Connection, OpenFlags};

use crate::{
    support::{
        program::{Running, Store, run},
        registry::eventually,
    },
    world::*,
};

/// Attempts to kill a follower while it loads.
const KILLS_MAX: usize = 40;

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
