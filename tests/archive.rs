//! Archive, trim and retention as an operator meets them, on a file and on a real server: what was trimmed is still read,
//! by everybody who reads a log; nothing is trimmed that is not covered; whoever is killed on the way leaves no harm.
#![allow(clippy::unwrap_used, missing_docs)]
#![cfg(unix)]

mod support;

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    sync::Arc,
    thread,
    time::Duration,
};

use proptest::{
    prelude::*,
    test_runner::{Config as ProptestConfig, TestRunner},
};
use rand::RngExt;
use serde_json::{Value, json};
use support::program::{Ended, names, run, tasklog};
use tasklog::{
    TaskStore,
    command::CommandOptions,
    facts::Trim,
    log::{Position, archive::Sealing},
    projections::TABLES,
    replay::snapshot::MakeOptions,
    store::{Bound, Keep},
    tables::tasks,
};
use tasklog_testing::RedisServer;
use tempfile::TempDir;
use uuid::Uuid;

/// Kills of one verb on its way.
const KILLS: usize = 24;
/// The latest moment of one: about as long as the verb takes.
const KILL_MAX: Duration = Duration::from_millis(250);

/// A store of either kind, and a folder that goes with it.
struct On {
    url: String,
    folder: TempDir,
    _server: Option<Arc<RedisServer>>,
}

impl On {
    fn file() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self { url: format!("sqlite:{}", folder.path().join("s.db").display()), folder, _server: None }
    }

    fn server() -> Self {
        let server = RedisServer::shared();
        let url = format!("{}?prefix=a{}", server.url(), Uuid::now_v7().simple());
        Self { url, folder: tempfile::tempdir().unwrap(), _server: Some(server) }
    }

    fn both() -> [Self; 2] {
        [Self::file(), Self::server()]
    }

    fn archive(&self) -> PathBuf {
        self.folder.path().join("archive")
    }

    fn to(&self) -> String {
        self.archive().display().to_string()
    }

    fn run(&self, args: &[&str]) -> Ended {
        let mut command = tasklog();
        command.arg("--store").arg(&self.url).args(args);
        run(command, b"")
    }

    #[track_caller]
    fn json(&self, args: &[&str]) -> Value {
        let mut args = args.to_vec();
        args.push("--json");
        self.run(&args).with(0).json().pop().unwrap()
    }

    fn apply(&self, lines: &[String]) {
        self.try_apply(lines).with(0);
    }

    fn try_apply(&self, lines: &[String]) -> Ended {
        let mut command = tasklog();
        command.arg("--store").arg(&self.url).arg("apply");
        run(command, (lines.join("\n") + "\n").as_bytes())
    }

    /// What an operator sees of log and tables, but for the log's facts about itself.
    fn dump(&self) -> String {
        let log = self.run(&["log", "--json", "--show-sensitive", "--limit", "1000000"]).with(0).out;
        let mut text: String =
            log.lines().filter(|line| !line.contains("\"table\":\"_log\"")).map(|line| format!("{line}\n")).collect();
        for table in TABLES {
            let rows = ["list", table.name, "--json", "--show-sensitive", "--limit", "1000000"];
            text.push_str(&self.run(&rows).with(0).out);
        }
        text
    }

    fn store(&self) -> TaskStore {
        TaskStore::open(&self.url).unwrap()
    }

    fn snapshot(&self, through: Option<u64>) -> Position {
        snapshot(&self.store(), through)
    }

    /// The first position that the store itself still has.
    fn hot_first(&self) -> u64 {
        match self.url.strip_prefix("sqlite:") {
            Some(path) => {
                let conn = rusqlite::Connection::open(path).unwrap();
                conn.query_row("SELECT min(position) FROM events", [], |row| row.get::<_, i64>(0)).unwrap() as u64
            }
            None => {
                let (server, prefix) = self.url.split_once("?prefix=").unwrap();
                let mut conn = redis::Client::open(server).unwrap().get_connection().unwrap();
                let entries: Vec<(String, Vec<redis::Value>)> = redis::cmd("XRANGE")
                    .arg(format!("{prefix}:log"))
                    .arg("-")
                    .arg("+")
                    .arg("COUNT")
                    .arg(1)
                    .query(&mut conn)
                    .unwrap();
                // The tests' first commits after a trim have one event.
                entries[0].0.strip_suffix("-0").unwrap().parse().unwrap()
            }
        }
    }
}

fn snapshot(store: &TaskStore, through: Option<u64>) -> Position {
    let options = MakeOptions { through: through.map(Position), ..MakeOptions::default() };
    let snapshots = store.snapshots().unwrap();
    store.read(|log, _| Ok(snapshots.make(log, &options)?)).unwrap().position
}

/// Commands of single events, and an alias that is deleted: its tombstone stays.
fn lines(count: usize) -> Vec<String> {
    let mut lines = vec![
        r#"{"command":"aliases.create","args":{"name":"gone","target":"i1","target_verified":true}}"#.to_owned(),
        r#"{"command":"aliases.delete","args":{"name":"gone"}}"#.to_owned(),
    ];
    for at in 0..count {
        lines.push(format!(
            r#"{{"command":"tasks.register","args":{{"miroir_id":"t{at}","node_tasks":{{"n1":{at}}}}}}}"#
        ));
        let status = if at % 2 == 0 { "succeeded" } else { "processing" };
        lines.push(format!(
            r#"{{"command":"tasks.report_node_statuses","args":{{"miroir_id":"t{at}","reports":[{{"node_id":"n1","status":"{status}"}}]}}}}"#
        ));
    }
    lines
}

#[test]
fn everybody_who_reads_a_log_reads_on_into_its_archive_after_a_trim() {
    for on in On::both() {
        on.apply(&lines(60));
        let before = on.dump();
        on.run(&["archive", "--to", &on.to(), "--all", "--segment-events", "50"]).with(0);
        on.snapshot(None);
        let trimmed = on.json(&["trim", "--keep-events", "20"]);
        let first = trimmed["first"].as_u64().unwrap();
        assert!(first > 100 && on.hot_first() >= first && trimmed["bound"] == "keep_events", "{trimmed}");

        assert_eq!(on.dump(), before);
        on.run(&["verify"]).with(0).prints(&["everything holds"]);
        on.run(&["archive", "--verify"]).with(0).prints(&["everything holds"]);
        on.run(&["history", "tasks", "t0"]).with(0).prints(&["task_registered", "succeeded"]);
        on.run(&["rebuild"]).with(0);
        assert_eq!(on.dump(), before);
        // A kept tombstone names an event that only the archive has.
        on.apply(&[
            r#"{"command":"aliases.create","args":{"name":"gone","target":"i2","target_verified":true}}"#.into()
        ]);
        on.run(&["history", "aliases", "gone"]).with(0).prints(&["alias_deleted"]);

        let replica = On::file();
        let mut follow = tasklog();
        follow.args(["follow", &on.url, "--into", &replica.url, "--once"]);
        run(follow, b"").with(0);
        assert_eq!(replica.dump(), on.dump());
        let copy = On::file();
        let mut command = tasklog();
        command.args(["copy", "--from", &on.url, "--to", &copy.url]);
        run(command, b"").with(0).prints(&["both sides are equal"]);
        copy.run(&["verify"]).with(0);
    }
}

#[test]
fn info_tells_what_is_kept_of_a_log_and_where() {
    for on in On::both() {
        on.apply(&lines(60));
        let before = on.json(&["info"]);
        assert_eq!((&before["hot_first"], &before["archive"]), (&json!(1), &Value::Null));
        assert_eq!(before["retention"], json!({ "on": false, "keep_events": null, "keep_hours": null }));
        assert_eq!((&before["snapshots"]["count"], &before["quarantined"]), (&json!(0), &json!([])));
        on.run(&["info"]).with(0).prints(&["nothing is trimmed", "archive      none", "everything stays"]);

        on.run(&["retention", "--archive", &on.to(), "--keep-events", "1000000", "--keep-hours", "48"]).with(0);
        on.run(&["info"]).with(0).prints(&[
            "nothing of this log",
            "the newest 1,000,000 events",
            "younger than 48 hours",
        ]);
        let archived = on.json(&["archive", "--all", "--segment-events", "50"])["archived"].clone();
        let snapshot = on.snapshot(None);
        let first = on.json(&["trim", "--keep-events", "20"])["first"].as_u64().unwrap();
        let info = on.json(&["info"]);
        assert_eq!((info["hot_first"].as_u64(), &info["first"]), (Some(first), &json!(1)));
        let archive = &info["archive"];
        assert_eq!((&archive["first"], &archive["last"], &archive["segments"]), (&json!(1), &archived, &json!(4)));
        assert!(archive["place"].as_str().unwrap().ends_with("archive") && archive["bytes"].as_u64() > Some(0));
        assert_eq!(archive["covers_trimmed"], json!(true));
        assert_eq!(info["retention"], json!({ "on": true, "keep_events": 1_000_000, "keep_hours": 48 }));
        assert_eq!((&info["snapshots"]["count"], &info["snapshots"]["newest"]), (&json!(1), &json!(snapshot)));
        let newest = format!("1, the newest of event {snapshot}");
        let hot = format!("events {first} to {}", info["head"]);
        let reach = format!("events 1 to {archived} in 4 segments");
        on.run(&["info"]).with(0).prints(&[&hot, &reach, &newest, "quarantined  none"]);

        // What is kept is told as of today: the past is read from there.
        let past = on.json(&["info", "--at", "20"]);
        assert_eq!((&past["head"], &past["archive"], &past["hot_first"]), (&json!(20), archive, &json!(first)));

        // What is kept elsewhere may be damaged or gone; what there is here is told all the same.
        let manifests = on.archive().join("manifests");
        std::fs::write(manifests.join(names(&manifests).last().unwrap()), "no manifest").unwrap();
        let info = on.json(&["info"]);
        assert!(info["archive"]["error"].is_string() && info["hot_first"] == json!(first), "{info}");
        on.run(&["info"]).with(0).prints(&["it cannot be read now"]);
        std::fs::remove_dir_all(on.archive()).unwrap();
        assert_eq!(on.json(&["info"])["archive"]["covers_trimmed"], json!(false));
        let missing = format!("events 1 to {}, which the store no longer has, are missing", first - 1);
        on.run(&["info"]).with(0).prints(&["nothing of this log", &missing]);
    }
}

#[test]
fn a_trim_without_cover_is_refused_with_what_is_missing() {
    for on in On::both() {
        on.apply(&lines(5));
        on.run(&["trim"]).with(1).says(&["nothing can be trimmed", "has no archive"]);
        on.run(&["archive"]).with(1).says(&["--to URL"]);
        on.run(&["archive", "--to", &on.to()]).with(0).prints(&["nothing is sealed yet"]);
        on.run(&["trim"]).with(1).says(&["has nothing of this log"]);
        on.run(&["archive", "--all"]).with(0);
        on.run(&["trim"]).with(1).says(&["no snapshot"]);
        assert_eq!(on.hot_first(), 1);
        on.snapshot(None);
        on.run(&["trim", "--keep-hours", "1"]).with(0).prints(&["0 events removed", "younger than 1 hours"]);
        on.run(&["trim"]).with(0).prints(&["the newest commit always stays"]);
        assert!(on.hot_first() > 1);
        // It goes on, and the archive stays needed.
        on.apply(&lines(6)[12..]);
        on.run(&["verify"]).with(0);
        let other = on.folder.path().join("other").display().to_string();
        on.run(&["archive", "--to", &other]).with(1).says(&["are in its archive alone"]);
    }
}

#[test]
fn a_trim_never_removes_more_than_archive_and_snapshot_have_nor_what_is_to_be_kept() {
    let case = (1_usize..12, 0_u64..40, proptest::option::of(0_u64..45), 0_u64..3);
    let config = ProptestConfig { cases: 24, ..ProptestConfig::default() };
    TestRunner::new(config)
        .run(&case, |(segment_events, snapshot_at, keep_events, more)| {
            let on = On::file();
            let store = on.store();
            let register = |id: u64| {
                let command = tasks::Register { miroir_id: Some(format!("t{id}")), ..tasks::Register::default() };
                store.run_blocking(command, CommandOptions::default()).unwrap();
            };
            (0..30).for_each(register);
            store.set_archive(Some(&on.to())).unwrap();
            let how = Sealing { segment_events, ..Sealing::default() };
            let archived = store.archive(&on.to(), &how, &mut |_| {}).unwrap().last();
            let at = snapshot(&store, Some(snapshot_at.clamp(1, 31)));
            (100..100 + more).for_each(register);
            let head = store.head().unwrap();
            let trimmed = store.trim(&Keep { events: keep_events, age_ms: None });
            if archived == Position::ZERO {
                prop_assert!(trimmed.is_err());
                return Ok(());
            }
            let trimmed = trimmed.unwrap();
            let kept = keep_events.map_or(head, |events| Position(head.0.saturating_sub(events) + 1));
            let expected = archived.next().min(at.next()).min(kept).min(head);
            prop_assert_eq!(trimmed.first, expected.max(Position(1)));
            prop_assert_eq!(on.hot_first(), trimmed.first.0);
            prop_assert_eq!(store.verify(|_| {}).unwrap().found, 0);
            prop_assert!(store.read(|log, _| Ok(log.head()?.position)).unwrap() >= head);
            // Another one finds nothing more, but for what it has written itself.
            let again = store.trim(&Keep { events: keep_events, age_ms: None }).unwrap();
            prop_assert!(again.first <= archived.next() && again.first <= at.next());
            Ok(())
        })
        .unwrap();
}

#[test]
fn a_damaged_or_missing_segment_is_named_stops_a_trim_and_leaves_the_rest_alone() {
    for on in On::both() {
        on.apply(&lines(60));
        on.run(&["archive", "--to", &on.to(), "--all", "--segment-events", "50"]).with(0);
        on.snapshot(None);
        let segments = on.archive().join("segments");
        let second = segments.join(&names(&segments)[1]);
        let whole = std::fs::read(&second).unwrap();
        let mut damaged = whole.clone();
        damaged[whole.len() / 2] ^= 1;
        std::fs::write(&second, &damaged).unwrap();
        on.run(&["trim"]).with(3).says(&[second.file_name().unwrap().to_str().unwrap(), "are lost"]);
        assert_eq!(on.hot_first(), 1);
        std::fs::write(&second, &whole).unwrap();
        on.run(&["trim", "--keep-events", "10"]).with(0);

        std::fs::remove_file(&second).unwrap();
        let name = second.file_name().unwrap().to_str().unwrap();
        on.run(&["archive", "--verify"]).with(1).prints(&[name, "it is missing", "1 damaged segments"]);
        // Of the segment that is gone: an error. Of the others, and of the rows: as ever.
        on.run(&["history", "tasks", "t20"]).with(3).says(&[name, "it is missing", "are lost"]);
        on.run(&["history", "tasks", "t0"]).with(0).prints(&["task_registered"]);
        on.run(&["get", "tasks", "t20"]).with(0);
        on.run(&["verify"]).with(3).says(&[name]);
        on.apply(&lines(61)[122..]);
        on.run(&["get", "tasks", "t60"]).with(0);
    }
}

/// Runs a verb and kills it at a random moment; answers whether it had ended before.
fn killed(on: &On, args: &[&str]) -> bool {
    let mut command = tasklog();
    command.arg("--store").arg(&on.url).args(args).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    thread::sleep(KILL_MAX.mul_f64(rand::rng().random::<f64>()));
    let ended = child.try_wait().unwrap().is_some_and(|status| status.success());
    child.kill().unwrap();
    child.wait().unwrap();
    ended
}

#[test]
fn archive_and_trim_go_on_after_they_were_killed_at_any_moment() {
    for on in On::both() {
        on.apply(&lines(1_500));
        let before = on.dump();
        let to = on.to();
        let archive = ["archive", "--to", &to, "--all", "--segment-events", "40"];
        let ended = (0..KILLS).filter(|_| killed(&on, &archive)).count();
        assert!(ended < KILLS, "no kill came early enough");
        on.run(&archive).with(0);
        on.run(&["archive", "--verify"]).with(0);
        on.snapshot(None);
        // Each trim goes a little further, and is killed somewhere on its way.
        for step in (0..KILLS).rev() {
            killed(&on, &["trim", "--keep-events", &(step * 120 + 20).to_string()]);
            on.run(&["get", "tasks", "t0"]).with(0);
        }
        on.run(&["trim", "--keep-events", "20"]).with(0);
        assert!(on.hot_first() > 3_000);
        assert_eq!(on.dump(), before);
        on.run(&["verify"]).with(0);
    }
}

#[test]
fn segments_so_small_that_their_list_outgrows_them_are_refused() {
    let on = On::file();
    on.apply(&lines(1_050));
    for size in ["0", "1", "2", "3"] {
        let archive = ["archive", "--to", &on.to(), "--all", "--segment-events", size];
        on.run(&archive).with(1).says(&["events would become", "at most 1,000 are made at once: say 4 or more"]);
    }
    assert_eq!(on.json(&["info"])["archive"], Value::Null);
    on.run(&["archive", "--to", &on.to(), "--all", "--segment-events", "4"]).with(0);
}

#[test]
fn a_file_is_archived_beside_its_writer_and_whoever_would_trim_is_told_what_to_do() {
    let on = On::file();
    on.apply(&lines(20));
    let writer = on.store();
    let archive = ["archive", "--to", &on.to(), "--segment-events", "10"];
    on.run(&archive).with(0).says(&["the place is not remembered", "is open for writing by process"]);
    assert_eq!(on.json(&archive)["remembered"], json!(false));
    assert_eq!(on.json(&["info"])["archive"], Value::Null);
    // The writer has not been disturbed, and what was sealed is whole.
    let register = tasks::Register { miroir_id: Some("beside".into()), ..tasks::Register::default() };
    assert!(writer.run_blocking(register, CommandOptions::default()).unwrap().changed);
    let sealed = on.json(&["archive", "--to", &on.to(), "--verify"]);
    assert_eq!((&sealed["ok"], sealed["events"].as_u64().is_some_and(|events| events >= 50)), (&json!(true), true));
    on.run(&["trim"]).with(3).says(&["is open for writing by process", "tasklog retention --archive URL"]);
    on.run(&["retention", "--keep-events", "10"]).with(3).says(&["stop it, say this again"]);
    drop(writer);

    let again = on.json(&archive);
    assert!(again["remembered"] == json!(true) && again["segments"].as_u64() < Some(2), "{again}");
    assert!(again["archived"].as_u64() >= sealed["last"].as_u64(), "{again}");
    on.run(&["retention", "--keep-events", "10"]).with(0);
    let writer = on.store();
    on.run(&archive).with(0);
    on.run(&["trim"]).with(3).says(&["it trims by itself"]);
    drop(writer);
}

/// Killed after the note and before the first removal.
#[test]
fn a_trim_that_was_only_noted_is_carried_out_by_the_next() {
    for on in On::both() {
        on.apply(&lines(60));
        let before = on.dump();
        on.run(&["archive", "--to", &on.to(), "--all"]).with(0);
        let covered = on.snapshot(None);
        let noted = Trim { first: 100, instant: 1, snapshot: covered.to_i64(), archived: covered.to_i64() };
        on.store().run_blocking(noted.clone(), CommandOptions::default()).unwrap();
        assert_eq!(on.hot_first(), 1);
        assert_eq!(on.json(&["trim", "--keep-events", "1000"])["first"], 100);
        assert!(on.hot_first() >= 100);
        assert_eq!(on.dump(), before);
        on.run(&["verify"]).with(0);
        // What is not covered cannot even be noted, and nothing goes back.
        let beyond = Trim { first: covered.to_i64() + 2, ..noted.clone() };
        assert!(on.store().run_blocking(beyond, CommandOptions::default()).is_err());
        let back = Trim { first: 50, ..noted };
        assert!(!on.store().run_blocking(back, CommandOptions::default()).unwrap().changed);
    }
}

/// A file whose tables were lost has nothing but its log to say where the archive is.
#[test]
fn tables_that_are_lost_after_a_trim_come_back_from_log_and_archive() {
    let on = On::file();
    on.apply(&lines(60));
    on.run(&["archive", "--to", &on.to(), "--all"]).with(0);
    on.snapshot(None);
    on.run(&["trim", "--keep-events", "5"]).with(0);
    let before = on.dump();
    let path = on.url.strip_prefix("sqlite:").unwrap();
    for snapshots in [true, false] {
        if !snapshots {
            std::fs::remove_dir_all(format!("{path}.snapshots")).unwrap();
        }
        let conn = rusqlite::Connection::open(path).unwrap();
        conn.execute_batch("DROP TABLE tasks; DROP TABLE _log; DROP TABLE aliases").unwrap();
        drop(conn);
        on.try_apply(&[r#"{"command":"tasks.cancel","args":{"miroir_id":"nothing"}}"#.into()]).with(1);
        assert_eq!(on.dump(), before);
        on.run(&["verify"]).with(0);
    }
}

#[test]
fn retention_archives_makes_snapshots_and_trims_as_the_facts_say() {
    for on in On::both() {
        on.apply(&lines(100));
        let before = on.dump();
        on.run(&["retention"]).with(0).prints(&["none", "nothing is trimmed"]);
        on.run(&["retention", "--archive", &on.to(), "--keep-events", "30"])
            .with(0)
            .prints(&["the newest 30", "archives and trims"]);
        let store = on.store();
        let retained = store.retain(Some(50)).unwrap().unwrap();
        assert!(retained.segments > 1 && retained.archived.0 >= 100);
        let trimmed = retained.trimmed.unwrap();
        assert!(trimmed.first.0 > 100 && matches!(trimmed.bound, Bound::Archive | Bound::Events));
        // Nothing further until there are further segments.
        assert_eq!(store.retain(Some(1_000)).unwrap().unwrap().trimmed, None);
        drop(store);
        assert!(on.hot_first() >= trimmed.first.0);
        assert_eq!(on.dump(), before);
        on.run(&["verify"]).with(0);
        // The archive has the snapshot too.
        assert_eq!(names(&on.archive().join("snapshots")).len(), 1);
        on.run(&["retention", "--off"]).with(0).prints(&["nothing is trimmed"]);
        assert_eq!(on.store().retain(Some(10)).unwrap(), None);
    }
}

#[test]
fn an_exported_log_comes_back_as_it_was() {
    for on in On::both() {
        on.apply(&lines(40));
        on.run(&["archive", "--to", &on.to(), "--all", "--segment-events", "25"]).with(0);
        on.snapshot(None);
        on.run(&["trim", "--keep-events", "5"]).with(0);
        let file = on.folder.path().join("log.ndjson").display().to_string();
        on.run(&["--show-sensitive", "export", "--out", &file]).with(0);
        let piped = on.run(&["--show-sensitive", "export"]).with(0).out;
        assert_eq!(std::fs::read_to_string(&file).unwrap(), piped);
        let import = |file: &str, into: &On| {
            let mut command = tasklog();
            command.args(["import", "log", file, "--into", &into.url]);
            run(command, b"")
        };
        for into in On::both() {
            import(&file, &into).with(0);
            assert_eq!(into.dump(), on.dump());
            import(&file, &into).with(0).prints(&["0 events imported"]);
            assert_eq!(into.run(&["--show-sensitive", "export"]).with(0).out, piped);
            // No longer a prefix.
            into.apply(&lines(41)[82..]);
            import(&file, &into).with(1);
        }
        // A part is taken by whoever has what is before it.
        let part = on.folder.path().join("part.ndjson").display().to_string();
        on.run(&["--show-sensitive", "export", "--to", "30", "--out", &part]).with(0);
        let rest = on.folder.path().join("rest.ndjson").display().to_string();
        let last: Value =
            serde_json::from_str(std::fs::read_to_string(&part).unwrap().lines().last().unwrap()).unwrap();
        let next = (last["last"].as_u64().unwrap() + 1).to_string();
        on.run(&["--show-sensitive", "export", "--from", &next, "--out", &rest]).with(0);
        let into = On::file();
        import(&rest, &into).with(1).says(&["begins at event"]);
        import(&part, &into).with(0);
        import(&rest, &into).with(0);
        assert_eq!(into.dump(), on.dump());
        // What is masked, changed or cut is refused.
        let masked = on.run(&["export"]).with(0).out;
        assert!(masked.contains("\"masked\":true") && !masked.contains("payload_base64"));
        let changed = piped.replacen("tasklog", "tasklug", 2);
        let cut = &piped[..piped.len() - 20];
        for (text, why) in [(&*masked, "masked"), (&changed, ""), (cut, ""), ("{}\n", "first line")] {
            let file = on.folder.path().join("bad.ndjson");
            std::fs::write(&file, text).unwrap();
            let ended = import(&file.display().to_string(), &On::file());
            assert_ne!(ended.status, Some(0), "{why}");
            assert!(ended.err.contains(why), "{}", ended.err);
        }
    }
}

#[test]
fn a_backup_taken_while_commands_go_on_is_a_whole_store_that_goes_on_in_a_new_epoch() {
    let on = On::file();
    on.apply(&lines(200));
    let to = |n: usize| on.folder.path().join(format!("backup-{n}.db")).display().to_string();
    thread::scope(|scope| {
        scope.spawn(|| on.apply(&lines(1_200)[402..]));
        for n in 0..4 {
            on.run(&["backup", "--to", &to(n)]).with(0);
        }
    });
    on.run(&["backup", "--to", &to(0)]).with(1).says(&["is there already"]);
    for n in 0..4 {
        let restored = On::file();
        let restore = |from: &str| {
            let mut command = tasklog();
            command.args(["restore", "--from", from, "--into", &restored.url]);
            run(command, b"")
        };
        restore(&to(n)).with(0).prints(&["epoch 2"]);
        restore(&to(n)).with(1).says(&["is there already"]);
        restored.run(&["verify"]).with(0);
        restored.apply(&lines(1_201)[2_402..]);
        assert_eq!(restored.json(&["epoch"])["epoch"], 2);
    }
    assert_eq!(leftovers(on.folder.path()), Vec::<String>::new());
    // No store, and a damaged one.
    let broken = on.folder.path().join("broken.db");
    let mut bytes = std::fs::read(to(0)).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle..middle + 4_096].fill(0x5a);
    std::fs::write(&broken, bytes).unwrap();
    for from in [broken, on.folder.path().join("nothing.db")] {
        let restored = On::file();
        let mut command = tasklog();
        command.args(["restore", "--from", &from.display().to_string(), "--into", &restored.url]);
        assert_ne!(run(command, b"").status, Some(0));
        assert!(!Path::new(restored.url.strip_prefix("sqlite:").unwrap()).exists());
    }
}

fn leftovers(folder: &Path) -> Vec<String> {
    names(folder).into_iter().filter(|name| name.starts_with(".incomplete")).collect()
}
