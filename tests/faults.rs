//! Whatever is done to a store's file or its surroundings ends in the documented error or in a finding that names the
//! place, and never in rows that look right.
#![allow(clippy::unwrap_used, missing_docs)]
#![cfg(unix)]

mod support;

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    os::unix::{
        fs::{MetadataExt, PermissionsExt},
        process::CommandExt,
    },
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use serde_json::Value;
use support::program::{Ended, Store, names, run, tasklog};
use tasklog::projections::TABLES;

const HASH: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

fn register(id: &str) -> String {
    format!(r#"{{"command":"tasks.register","args":{{"miroir_id":"{id}","node_tasks":{{"n1":7}}}}}}"#)
}

/// Tasks t1 to t9 at events 1 to 9, and a commit of two events about t3 at 10 and 11.
fn tasks() -> Store {
    let mut lines: Vec<_> = (1..=9).map(|at| register(&format!("t{at}"))).collect();
    lines.push(
        r#"{"command":"tasks.report_node_statuses","args":{"miroir_id":"t3","reports":[{"node_id":"n1","status":"processing"}]}}"#
            .into(),
    );
    Store::with(&lines)
}

/// A process that applies what it is told, line by line.
struct Writer {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl Writer {
    fn start(mut command: Command) -> Self {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (stdin, stdout) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        Self { child, stdin, stdout }
    }

    /// The answer to a line; none if the process has ended.
    fn ask(&mut self, line: &str) -> Option<Value> {
        writeln!(self.stdin, "{line}").ok()?;
        let mut answer = String::new();
        self.stdout.read_line(&mut answer).unwrap();
        (!answer.is_empty()).then(|| serde_json::from_str(&answer).unwrap())
    }

    fn end(self) -> Ended {
        let Self { child, stdin, stdout } = self;
        drop(stdin);
        drop(stdout);
        child.wait_with_output().unwrap().into()
    }
}

/// The program, allowed to write files of so many KiB at most.
fn with_room(store: &Store, kib: u32) -> Command {
    let program = store.command(["apply"]);
    let mut shell = Command::new("bash");
    shell.args(["-c", &format!("trap '' XFSZ; ulimit -f {kib}; exec \"$0\" \"$@\"")]);
    shell.arg(program.get_program()).args(program.get_args());
    shell
}

#[test]
fn a_full_disk_loses_nothing_that_was_acknowledged_and_can_be_left_behind() {
    for kib in [200, 300, 1_200, 3_000] {
        let store = Store::new();
        let mut writer = Writer::start(with_room(&store, kib));
        let pad = "x".repeat(3_000);
        let line = |at: u32| {
            format!(r#"{{"command":"jobs.enqueue","args":{{"id":"j{at}","type":"x","params":{{"pad":"{pad}"}}}}}}"#)
        };
        let mut told = 0;
        for at in 1..2_000 {
            match writer.ask(&line(at)) {
                Some(answer) if answer["ok"] == true => {
                    told += 1;
                    assert_eq!(answer["last"], told);
                }
                Some(answer) => {
                    assert_eq!(answer["error"]["kind"], "unavailable", "{answer}");
                    break;
                }
                None => break,
            }
        }
        let ended = writer.end().with(3).says(&["error: unavailable: "]);
        assert!(!ended.err.contains("unavailable: unavailable"), "{}", ended.err);
        assert!(kib < 1_200 || told > 10, "{kib} KiB: {told}");
        // Room again.
        if told > 0 {
            store.run(["verify"]).with(0).prints(&[&format!("{told} events in {told} commits")]);
        }
        let lines: Vec<_> = (1..=told + 5).map(|at| line(u32::try_from(at).unwrap())).collect();
        let again = store.apply(&lines).with(0).json();
        for (at, answer) in again.iter().enumerate() {
            let expected = if (at as u64) < told { Value::Null } else { (at + 1).into() };
            assert_eq!(answer["first"], expected, "{kib} KiB, {told} told: {answer}");
        }
        store.run(["verify"]).with(0).prints(&[&format!("{} events", told + 5)]);
    }
}

#[test]
fn behind_a_line_that_the_store_could_not_write_no_line_of_the_stream_is_done() {
    const LINES: usize = 30_000;
    for kib in [2_000, 3_000, 4_000] {
        let store = Store::new();
        let lines: String = (1..=LINES).map(|at| register(&format!("t{at}")) + "\n").collect();
        let ended = run(with_room(&store, kib), lines.as_bytes()).with(3);
        let acknowledged = ended.json().iter().filter(|answer| answer["ok"] == true).count();
        let mut done: Vec<usize> = store
            .json(["list", "tasks", "--limit", "1000000"])
            .iter()
            .map(|task| task["miroir_id"].as_str().unwrap()[1..].parse().unwrap())
            .collect();
        done.sort_unstable();
        assert!(done.len() >= acknowledged && done.len() < LINES, "{kib} KiB: {acknowledged} of {}", done.len());
        assert_eq!(done, (1..=done.len()).collect::<Vec<_>>(), "{kib} KiB: a hole");
    }
}

#[test]
fn a_file_that_may_not_be_written_answers_queries_and_takes_no_commands() {
    let store = tasks();
    fs::set_permissions(store.path(), fs::Permissions::from_mode(0o444)).unwrap();
    let refused = store.apply(&[register("new")]).with(3);
    assert_eq!(refused.json()[0]["error"]["kind"], "read_only");
    refused.says(&["read_only", "tasklog.db: the file is not writable"]);
    store.run(["rebuild"]).with(3).says(&["read_only", "the file is not writable"]);
    assert_eq!(store.json(["get", "tasks", "t3"])[0]["status"], "processing");
    assert_eq!(store.json(["query", "tasks.count"])[0], 9);
    store.run(["verify"]).with(0);
    fs::set_permissions(store.path(), fs::Permissions::from_mode(0o644)).unwrap();
    store.apply(&[register("new")]).with(0);
}

#[test]
fn a_store_in_a_folder_that_may_not_be_written_is_read_without_side_files() {
    let store = tasks();
    let folder = store.folder.path();
    // Permissions mean nothing to root: then somebody else reads, with a program in a place that they can reach.
    let root = fs::metadata(folder).unwrap().uid() == 0;
    let mut program = tasklog().get_program().to_owned();
    if root {
        let copy = folder.join("tasklog");
        fs::copy(&program, &copy).unwrap();
        program = copy.into();
    }
    for side in ["-lock", "-wal", "-shm"] {
        let _ = fs::remove_file(store.beside(side));
    }
    fs::set_permissions(store.path(), fs::Permissions::from_mode(0o444)).unwrap();
    fs::set_permissions(folder, fs::Permissions::from_mode(0o555)).unwrap();
    let reader = |verb: &[&str]| {
        let mut command = Command::new(&program);
        command.args(["--store", &store.url()]).args(verb);
        if root {
            command.uid(65_534).gid(65_534);
        }
        run(command, b"")
    };
    let before = names(folder);
    reader(&["get", "tasks", "t3"]).with(0).prints(&["processing"]);
    reader(&["log", "--json", "--reverse", "--limit", "1"]).with(0).prints(&["\"position\":11"]);
    reader(&["sql", "SELECT count(*) FROM tasks"]).with(0).prints(&["9"]);
    reader(&["verify"]).with(0);
    reader(&["rebuild"]).with(3).says(&["read_only"]);
    assert_eq!(names(folder), before);
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).unwrap();
}

/// The readers' connections were closed after the writer's, which left every commit in the write-ahead log: a copy of
/// the file alone was an empty database, and opening it made a new store of it.
#[test]
fn after_a_clean_end_the_file_alone_is_the_whole_store() {
    let store = tasks();
    let copy = Store::new();
    fs::copy(store.path(), copy.path()).unwrap();
    copy.run(["verify"]).with(0).prints(&["11 events"]);
    assert_eq!(copy.dump(), store.dump());
}

#[test]
fn a_file_that_is_no_store_is_refused_and_left_alone() {
    let store = Store::new();
    let refused = |why: &str| {
        let before = fs::read(store.path()).unwrap();
        store.run(["info"]).with(3).says(&["error: corrupt: ", "tasklog.db", why]);
        store.run(["rebuild"]).with(3).says(&["corrupt", why]);
        store.apply(&[register("t1")]).with(3).says(&["corrupt", why]);
        assert!(fs::read(store.path()).unwrap() == before, "the file was changed");
    };
    fs::write(store.path(), "a text, and no database at all\n".repeat(400)).unwrap();
    refused("not a database");
    fs::write(store.path(), "short").unwrap();
    refused("not a database");
    fs::remove_file(store.path()).unwrap();
    store.by_hand("PRAGMA journal_mode = WAL; CREATE TABLE other (a); INSERT INTO other VALUES (1);");
    refused("a database of something else");
}

#[test]
fn a_place_without_a_store_is_unavailable_to_readers_and_to_writers_if_it_cannot_hold_one() {
    let store = Store::new();
    store.run(["get", "tasks", "t1"]).with(3).says(&["unavailable: no store at", "a command creates it"]);
    assert_eq!(names(store.folder.path()), [""; 0]);
    fs::create_dir(store.path()).unwrap();
    store.run(["info"]).with(3).says(&["unavailable"]);
    store.apply(&[register("t1")]).with(3).says(&["unavailable"]);
    let nowhere = format!("sqlite:{}", store.folder.path().join("no/such/folder.db").display());
    let mut apply = tasklog();
    apply.args(["--store", &nowhere, "apply"]);
    run(apply, register("t1").as_bytes()).with(3).says(&["unavailable", "No such file"]);
}

#[test]
fn an_empty_file_becomes_a_store() {
    let store = Store::new();
    fs::write(store.path(), "").unwrap();
    store.apply(&[register("t1")]).with(0);
    store.run(["verify"]).with(0).prints(&["1 events"]);
}

#[test]
fn a_file_cut_short_is_corrupt() {
    let store = tasks();
    let file = fs::OpenOptions::new().write(true).open(store.path()).unwrap();
    file.set_len(file.metadata().unwrap().len() / 2).unwrap();
    store.run(["verify"]).with(3).says(&["corrupt"]);
    store.apply(&[register("new")]).with(3).says(&["corrupt"]);
}

/// What verify finds, which it must, as machines and people read it.
#[track_caller]
fn findings(store: &Store, expected: &[&str]) {
    let people = store.run(["verify"]).with(1);
    assert!(people.out.contains(&format!("{} findings", expected.len())), "{}", people.out);
    let machines = run(store.command(["verify", "--json"]), b"").with(1).json();
    let (verdict, found) = machines.split_last().unwrap();
    assert_eq!((&verdict["ok"], &verdict["findings"]), (&Value::from(false), &Value::from(expected.len())));
    let found: Vec<_> = found.iter().map(|line| line["finding"].as_str().unwrap()).collect();
    assert_eq!(found, expected);
    for finding in found {
        assert!(people.out.contains(finding), "{finding} is not in {}", people.out);
    }
}

fn flip_payload_byte(store: &Store, position: u32) {
    let file = store.shell();
    let mut payload: Vec<u8> =
        file.query_row("SELECT payload FROM events WHERE position = ?1", [position], |row| row.get(0)).unwrap();
    *payload.last_mut().unwrap() ^= 1;
    file.execute("UPDATE events SET payload = ?1 WHERE position = ?2", (payload, position)).unwrap();
}

#[test]
fn a_flipped_byte_in_an_event_is_found_and_stops_a_rebuild() {
    let store = tasks();
    let rows = store.run(["list", "tasks", "--json"]).with(0).out;
    flip_payload_byte(&store, 4);
    let found = run(store.command(["verify", "--json"]), b"").with(1).json();
    let found: Vec<_> = found.iter().filter_map(|line| line["finding"].as_str()).collect();
    assert!(found[0].starts_with("event 4: ") && found[0].contains("checksum"), "{found:?}");
    store.run(["rebuild"]).with(3).says(&["corrupt: event 4: ", "checksum"]);
    store.run(["history", "tasks", "t4"]).with(3).says(&["corrupt: event 4: "]);
    assert_eq!(store.run(["list", "tasks", "--json"]).with(0).out, rows, "the rows of before the rebuild");
}

/// A dropped table was created empty and noted as built before the rebuild that was to fill it. When the rebuild failed,
/// or the process died in it, the next open took the empty table for the whole one.
#[test]
fn a_table_that_the_log_cannot_give_back_is_never_served_empty() {
    let store = tasks();
    flip_payload_byte(&store, 4);
    store.by_hand("DROP TABLE tasks");
    for _ in 0..2 {
        store.run(["list", "tasks"]).with(3).says(&["corrupt: event 4: "]);
        store.apply(&[register("new")]).with(3).says(&["corrupt: event 4: "]);
    }
    flip_payload_byte(&store, 4);
    assert_eq!(store.json(["list", "tasks"]).len(), 9);
    store.run(["verify"]).with(0);
}

#[test]
fn every_column_of_an_event_is_covered_by_its_checksum() {
    for change in [
        "recorded_at = recorded_at + 1",
        "actor = 'somebody'",
        "reason = 'because'",
        "request_id = ''",
        "key = 't5x'",
        "type_version = 2",
        "prev = 1",
        "commit_id = randomblob(16)",
        "checksum = checksum + 1",
    ] {
        let store = tasks();
        store.by_hand(&format!("UPDATE events SET {change} WHERE position = 5"));
        let ended = store.run(["verify"]).with(1);
        assert!(ended.out.contains("event 5: "), "{change}: {}", ended.out);
    }
}

#[test]
fn an_event_deleted_from_the_middle_is_found() {
    let store = tasks();
    store.by_hand("DELETE FROM events WHERE position = 5");
    findings(
        &store,
        &["event 5: missing from the log", "tasks/t5: in the live table at rev 5, but the log says it does not exist"],
    );
    store.run(["rebuild"]).with(3).says(&["corrupt", "event 5"]);
    store.run(["history", "tasks", "t5"]).with(3).says(&["corrupt: event 5: "]);
}

#[test]
fn the_newest_event_deleted_is_found_and_its_position_is_never_given_out_again() {
    let store = tasks();
    store.by_hand("DELETE FROM events WHERE position = 11");
    let ended = store.run(["verify"]).with(1).prints(&["event 11: missing from the log"]);
    ended.prints(&["tasks/t3: column status holds \"processing\", the log says \"enqueued\" (event 10)"]);
    store.run(["rebuild"]).with(3).says(&["corrupt: event 11: missing from the log"]);
    let answer = &store.apply(&[register("new")]).with(0).json()[0];
    assert_eq!(answer["first"], 12);
    store.run(["verify"]).with(1).prints(&["event 11: missing from the log"]);
}

#[test]
fn a_row_edited_by_hand_is_found() {
    let store = tasks();
    store.by_hand("UPDATE tasks SET status = 'failed', started_at = 1 WHERE miroir_id = 't2'");
    findings(
        &store,
        &[
            "tasks/t2: column status holds \"failed\", the log says \"enqueued\" (event 2)",
            "tasks/t2: column started_at holds 1, the log says null (event 2)",
        ],
    );
    store.run(["rebuild", "tasks"]).with(0);
    store.run(["verify"]).with(0);
}

#[test]
fn a_row_deleted_by_hand_is_found() {
    let store = tasks();
    store.by_hand("DELETE FROM tasks WHERE miroir_id = 't3'");
    findings(&store, &["tasks/t3: missing from the live table; event 11 says it exists"]);
    store.run(["rebuild", "tasks"]).with(0);
    store.run(["verify"]).with(0);
}

#[test]
fn a_stray_row_is_found() {
    let store = tasks();
    store.by_hand("CREATE TEMP TABLE stray AS SELECT * FROM tasks WHERE miroir_id = 't4'; UPDATE stray SET miroir_id = 't4a'; INSERT INTO tasks SELECT * FROM stray");
    findings(&store, &["tasks/t4a: in the live table at rev 4, but the log says it does not exist"]);
    store.run(["rebuild"]).with(0);
    store.run(["verify"]).with(0);
}

/// A finding about a row whose key or column is sensitive told it in the clear.
#[test]
fn findings_are_masked_like_everything_else() {
    let store = Store::with(&[format!(
        r#"{{"command":"admin_sessions.open","args":{{"session_id":"secret-id","csrf_token":"secret-token","admin_key_hash":"{HASH}"}}}}"#
    )]);
    store.by_hand("UPDATE admin_sessions SET csrf_token = 'secret-other', revoked = 1");
    findings(
        &store,
        &[
            "admin_sessions/***1: column csrf_token holds \"***2\", the log says \"***3\" (event 1)",
            "admin_sessions/***1: column revoked holds 1, the log says 0 (event 1)",
        ],
    );
    let shown = store.run(["verify", "--show-sensitive"]).with(1);
    shown
        .prints(&["admin_sessions/secret-id: column csrf_token holds \"secret-other\", the log says \"secret-token\""]);
}

#[test]
fn tables_that_do_not_reflect_the_log_are_diverged() {
    let store = tasks();
    store.by_hand("UPDATE _heads SET position = 9 WHERE name = 'tables'");
    store.apply(&[register("new")]).with(3).says(&["diverged: checkpoint ", " and log "]);
    let store = tasks();
    store.by_hand("UPDATE _heads SET position = 9");
    store
        .apply(&[register("new")])
        .with(3)
        .says(&["corrupt: the head of the log: it says commit ", " at event 9, which is of commit "]);
}

#[test]
fn dropped_tables_come_back_from_the_log() {
    let store = tasks();
    let before = store.dump();
    for opened in [&["list", "tasks"][..], &["info"], &["apply"]] {
        store.by_hand("DROP TABLE tasks");
        store.run(opened).with(0);
        assert_eq!(store.dump(), before, "after {opened:?}");
    }
    store.by_hand(&TABLES.iter().map(|table| format!("DROP TABLE {};", table.name)).collect::<String>());
    assert_eq!(store.dump(), before);
    store.run(["verify"]).with(0);
}

#[test]
fn a_table_of_an_older_projection_is_rebuilt_with_its_indexes() {
    let store = tasks();
    let before = store.dump();
    let indexes = |store: &Store| -> Vec<String> {
        let file = store.shell();
        let mut select =
            file.prepare("SELECT il.name FROM pragma_index_list('tasks') il WHERE il.origin = 'c' ORDER BY 1").unwrap();
        let names = select.query_map([], |row| row.get::<_, String>(0)).unwrap();
        names.map(|name| name.unwrap().split("_g").next().unwrap().to_owned()).collect()
    };
    let had = indexes(&store);
    assert!(!had.is_empty());
    for name in store
        .shell()
        .prepare("SELECT name FROM pragma_index_list('tasks') WHERE origin = 'c'")
        .unwrap()
        .query_map([], |row| row.get::<_, String>(0))
        .unwrap()
    {
        store.by_hand(&format!("DROP INDEX {}", name.unwrap()));
    }
    store.by_hand("UPDATE tasks SET status = 'failed'; UPDATE _projections SET version = 0 WHERE table_name = 'tasks'");
    assert_eq!(store.dump(), before);
    assert_eq!(indexes(&store), had);
    store.run(["verify"]).with(0);
}

/// The schema, the ledger and the heads, byte for byte.
fn schema(store: &Store) -> Vec<String> {
    let file = store.shell();
    let mut all = Vec::new();
    for query in [
        "SELECT type || name || tbl_name || rootpage || coalesce(sql, '') FROM sqlite_schema ORDER BY rowid",
        "SELECT version || ' ' || applied_at FROM schema_versions",
        "SELECT table_name || version || ' ' || generation FROM _projections",
        "SELECT name || hex(log_id) || epoch || ' ' || position || hex(commit_id) || recorded_at FROM _heads",
        "SELECT name || value FROM _settings",
    ] {
        let mut select = file.prepare(query).unwrap();
        all.extend(select.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap));
    }
    all
}

#[test]
fn a_newer_store_is_refused_and_left_alone() {
    let newer_projection = "UPDATE _projections SET version = 99 WHERE table_name = 'aliases'";
    let cases = [
        ("INSERT INTO schema_versions VALUES (4, 0)", "the store is at schema version 4, this program knows 3"),
        (newer_projection, "the store is at projection aliases version 99, this program knows"),
    ];
    for (change, why) in cases {
        let store = tasks();
        store.by_hand(change);
        let before = schema(&store);
        for verb in [&["get", "tasks", "t1"][..], &["info"], &["verify"], &["rebuild"], &["sql", "SELECT 1"], &["log"]]
        {
            store.run(verb).with(3).says(&["schema_ahead", why]);
        }
        store.apply(&[register("new")]).with(3).says(&["schema_ahead", why]);
        assert_eq!(schema(&store), before);
    }
}

#[test]
fn a_crash_between_two_migrations_is_made_up_for() {
    for gone in [&[3][..], &[2, 3]] {
        let store = tasks();
        let before = store.dump();
        let had = schema(&store).len();
        for version in gone {
            store.by_hand(&format!("DELETE FROM schema_versions WHERE version = {version}"));
            for table in TABLES.iter().filter(|table| table.schema_version == *version) {
                store
                    .by_hand(&format!("DROP TABLE {0}; DELETE FROM _projections WHERE table_name = '{0}'", table.name));
            }
        }
        assert_eq!(store.dump(), before);
        let found = schema(&store);
        assert_eq!(found.len(), had);
        store.run(["verify"]).with(0);
    }
}

#[test]
fn a_second_start_changes_nothing() {
    let store = tasks();
    let before = schema(&store);
    for verb in [&["apply"][..], &["info"], &["apply"], &["list", "tasks"]] {
        store.run(verb).with(0);
        assert_eq!(schema(&store), before, "after {verb:?}");
    }
    let bytes = fs::read(store.path()).unwrap();
    store.run(["apply"]).with(0);
    assert!(fs::read(store.path()).unwrap() == bytes, "the file's bytes have changed");
}

#[test]
fn one_process_writes_and_others_read() {
    let store = tasks();
    let mut writer = Writer::start(store.command(["apply"]));
    assert_eq!(writer.ask(&register("a")).unwrap()["first"], 12);
    let holder = format!("is open for writing by process {} since 20", writer.child.id());
    store.apply(&[register("b")]).with(3).says(&[
        "unavailable",
        &holder,
        "stop that process, or open the store for reading",
    ]);
    store.run(["rebuild"]).with(3).says(&["unavailable", &holder]);
    // Readers see what was acknowledged at once, also in the middle of the writer's life.
    assert_eq!(store.json(["get", "tasks", "a"])[0]["rev"], 12);
    assert_eq!(writer.ask(&register("c")).unwrap()["first"], 13);
    assert_eq!(store.json(["query", "tasks.count"])[0], 11);
    assert_eq!(store.json(["log", "--reverse", "--limit", "1"])[0]["key"], "c");
    store.run(["verify"]).with(0).prints(&["13 events"]);
    writer.end().with(0);
    store.apply(&[register("b")]).with(0);
}

#[test]
fn a_killed_writer_leaves_no_lock() {
    let store = tasks();
    let mut writer = Writer::start(store.command(["apply"]));
    assert_eq!(writer.ask(&register("a")).unwrap()["first"], 12);
    writer.child.kill().unwrap();
    writer.child.wait().unwrap();
    assert_eq!(store.apply(&[register("b")]).with(0).json()[0]["first"], 13);
    store.run(["verify"]).with(0);
}

#[test]
fn a_clean_open_does_not_read_the_log() {
    let store = tasks();
    store.by_hand("DELETE FROM events");
    assert_eq!(store.json(["get", "tasks", "t3"])[0]["rev"], 11);
    assert_eq!(store.json(["list", "tasks", "--where", "status=enqueued"]).len(), 8);
    let answers = store.apply(&[register("new"), register("t1")]).with(0).json();
    assert_eq!((&answers[0]["first"], &answers[1]["first"]), (&12.into(), &Value::Null));
    store.run(["verify"]).with(1).prints(&["events 1 to 11: missing from the log"]);
}
