//! The command line keeps its word: exit statuses, one answer a line in order, one JSON value a line with `--json`, and
//! no sensitive value in any output unless it is asked for.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::{
    collections::BTreeSet,
    fs,
    io::{BufRead, BufReader, Write},
    process::Stdio,
};

use serde_json::{Value, json};
use support::program::{Ended, Store, names, run, tasklog};
use tasklog::projections::TABLES;

fn register(id: &str) -> String {
    format!(r#"{{"command":"tasks.register","args":{{"miroir_id":"{id}","node_tasks":{{"n1":7}}}}}}"#)
}

fn cursor(sink: &str, index: &str) -> String {
    format!(
        r#"{{"command":"cdc_cursors.advance","args":{{"sink_name":"{sink}","index_uid":"{index}","expected_seq":null,"new_seq":3}}}}"#
    )
}

// ---- apply

#[test]
fn answers_come_in_order_and_a_bad_line_does_not_stop_the_others() {
    let store = Store::new();
    let lines = [
        register("t1").into_bytes(),
        b"no json".to_vec(),
        b"".to_vec(),
        br#"{"command":"tasks.nope","args":{}}"#.to_vec(),
        br#"{"command":"tasks.register","args":{"node_tasks":{},"color":1}}"#.to_vec(),
        b"{\"command\":\"\xff\"}".to_vec(),
        register("t1").into_bytes(),
        br#"{"command":"tasks.cancel","args":{"miroir_id":"nobody"}}"#.to_vec(),
        br#"{"transact":[]}"#.to_vec(),
        br#"{"command":"tasks.register","transact":[]}"#.to_vec(),
        [register("t2").as_bytes(), b"\r"].concat(),
        format!("  {}", register("t3")).into_bytes(),
    ];
    // The last line has no end.
    let ended = store.apply_bytes(&lines.join(&b'\n')).with(1);
    let answers = ended.json();
    let numbers: Vec<_> = answers.iter().map(|answer| answer["line"].as_u64().unwrap()).collect();
    assert_eq!(numbers, [1, 2, 4, 5, 6, 7, 8, 9, 10, 11, 12]);
    let answer = |line: u64| answers.iter().find(|answer| answer["line"] == line).unwrap();
    assert_eq!((&answer(1)["ok"], &answer(1)["first"], &answer(1)["last"]), (&json!(true), &json!(1), &json!(1)));
    assert_eq!((&answer(11)["first"], &answer(12)["first"]), (&json!(2), &json!(3)));
    for (line, kind, message) in [
        (2, "invalid", "line 2: column 2: expected ident"),
        (4, "invalid", r#"line 4: no command "tasks.nope"; did you mean"#),
        (5, "invalid", "unknown field `color`"),
        (6, "invalid", "line 6: column 13: not UTF-8"),
        (8, "not_found", "nobody"),
        (9, "invalid", "line 9: transact: expected at least one command"),
        (10, "invalid", "line 10: expected {"),
    ] {
        let error = &answer(line)["error"];
        assert_eq!((&answer(line)["ok"], &error["kind"]), (&json!(false), &json!(kind)), "{error}");
        assert!(error["message"].as_str().unwrap().contains(message), "{error}");
    }
    // A command with nothing to do succeeds without an event.
    let idle = answer(7);
    assert_eq!((&idle["ok"], &idle["first"], &idle["last"]), (&json!(true), &Value::Null, &Value::Null));
    assert_eq!((&idle["reply"]["changed"], &idle["reply"]["commit_id"]), (&json!(false), &Value::Null));
    ended.says(&["6  lines were no commands", "1  rejected, without a trace in the tables: 1 not_found"]);
}

#[test]
fn strict_stops_at_the_first_line_that_is_no_command() {
    let store = Store::new();
    let input = [
        register("t1"),
        r#"{"command":"tasks.cancel","args":{"miroir_id":"nobody"}}"#.into(),
        "oops".into(),
        register("t2"),
    ];
    let ended = run(store.command(["apply", "--strict"]), input.join("\n").as_bytes()).with(1);
    assert_eq!(ended.json().len(), 3, "a rejection is an answer, not a reason to stop");
    assert_eq!(store.json(["list", "tasks"]).len(), 1);
}

#[test]
fn plain_and_compressed_files_and_standard_input_are_the_same_input() {
    let text = [register("t1"), register("t2")].join("\n") + "\n";
    let gzip = |text: &str| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(text.as_bytes()).unwrap();
        encoder.finish().unwrap()
    };
    // A file that was appended to has several members.
    let members = [gzip(&register("t1")), gzip("\n"), gzip(&register("t2"))].concat();
    let zstd = zstd::encode_all(text.as_bytes(), 0).unwrap();
    for input in [text.clone().into_bytes(), gzip(&text), members, zstd] {
        let store = Store::new();
        let file = store.folder.path().join("input");
        fs::write(&file, &input).unwrap();
        assert_eq!(store.run(["apply".as_ref(), file.as_os_str()]).with(0).json().len(), 2);
        let store = Store::new();
        assert_eq!(run(store.command(["apply", "-"]), &input).with(0).json().len(), 2);
        assert_eq!(store.json(["list", "tasks"]).len(), 2);
    }
    let store = Store::new();
    store.run(["apply", "/no/such/file"]).with(2).says(&["reading /no/such/file"]);
    let cut = zstd::encode_all(text.as_bytes(), 0).unwrap();
    run(store.command(["apply"]), &cut[..cut.len() - 3]).with(3).says(&["unavailable: reading the input"]);
}

#[test]
fn a_transact_is_one_commit_or_nothing() {
    let store = Store::new();
    let good = r#"{"transact":[{"command":"tasks.register","args":{"miroir_id":"a","node_tasks":{}}},{"command":"sessions.record_write","args":{"session_id":"s","mtask_id":"a"}}],"actor":"me","reason":"why","request_id":"r1"}"#;
    let bad = r#"{"transact":[{"command":"tasks.register","args":{"miroir_id":"b","node_tasks":{}}},{"command":"tasks.cancel","args":{"miroir_id":"nobody"}}]}"#;
    let answers = store.apply(&[good, bad]).with(1).json();
    assert_eq!((&answers[0]["first"], &answers[0]["last"]), (&json!(1), &json!(2)));
    assert_eq!(answers[0]["reply"]["replies"].as_array().unwrap().len(), 2);
    assert_eq!(answers[1]["error"]["kind"], "not_found");
    assert!(answers[1]["error"]["message"].as_str().unwrap().contains("command 2 of the transact, tasks.cancel"));
    let log = store.json(["log"]);
    assert_eq!(log.len(), 2);
    for event in &log {
        assert_eq!(event["commit_id"], answers[0]["reply"]["commit_id"]);
        assert_eq!(
            (&event["actor"], &event["reason"], &event["request_id"]),
            (&json!("me"), &json!("why"), &json!("r1"))
        );
    }
    store.run(["get", "tasks", "b"]).with(1);
}

#[test]
fn a_command_id_answers_a_repeat_with_the_first_outcome() {
    let store = Store::new();
    let line =
        r#"{"command":"tasks.register","args":{"node_tasks":{}},"command_id":"01990000-0000-7000-8000-000000000001"}"#;
    let first = store.apply(&[line, &register("t2")]).with(0).json();
    let again = store.apply(&[line]).with(0).says(&["1  were known by their command_id"]).json();
    assert_eq!(again[0]["reply"]["repeated"], true);
    for field in ["commit_id", "position", "miroir_id"] {
        assert_eq!(again[0]["reply"][field], first[0]["reply"][field]);
    }
    assert_eq!((&again[0]["first"], &again[0]["last"]), (&first[0]["first"], &first[0]["last"]));
    assert_eq!(store.json(["log"]).len(), 2);
}

/// Its caller was told that it was done, with an answer of another shape.
#[test]
fn another_command_under_a_command_id_that_was_used_is_refused() {
    let id = r#""command_id":"01990000-0000-7000-8000-000000000001""#;
    let register = format!(r#"{{"command":"tasks.register","args":{{"miroir_id":"t1","node_tasks":{{}}}},{id}}}"#);
    let cancel = format!(r#"{{"command":"tasks.cancel","args":{{"miroir_id":"t1"}},{id}}}"#);
    let both = format!(
        r#"{{"transact":[{{"command":"tasks.register","args":{{"node_tasks":{{}}}}}},{{"command":"tasks.cancel","args":{{"miroir_id":"t1"}}}}],{id}}}"#
    );
    let store = Store::new();
    // In one batch and in a later process.
    for lines in [vec![register.clone(), cancel.clone()], vec![cancel, both, register.clone()]] {
        let answers = store.apply(&lines).with(1).json();
        for answer in answers.iter().filter(|answer| answer["ok"] == false) {
            assert_eq!(answer["error"]["kind"], "invalid", "{answer}");
            let why = answer["error"]["message"].as_str().unwrap();
            assert!(why.contains("is that of tasks.register, already done, and not of "), "{why}");
        }
        let told: Vec<_> = answers.iter().map(|answer| answer["ok"] == true).collect();
        assert_eq!(told, lines.iter().map(|line| *line == register).collect::<Vec<_>>());
    }
    assert_eq!(store.json(["log"]).len(), 1);
}

/// Answers that were kept before they had the names of their commands are given as before.
#[test]
fn an_answer_that_was_kept_without_names_is_given_to_a_repeat() {
    let id = r#""command_id":"01990000-0000-7000-8000-000000000001""#;
    let register = format!(r#"{{"command":"tasks.register","args":{{"miroir_id":"t1","node_tasks":{{}}}},{id}}}"#);
    let store = Store::with(&[&register]);
    let names = r#"replace(CAST(answer AS TEXT), ',"of":["tasks.register"]', '')"#;
    let shell = store.shell();
    let changed = format!("UPDATE _answers SET answer = CAST({names} AS BLOB) WHERE answer <> CAST({names} AS BLOB)");
    assert_eq!(shell.execute(&changed, []).unwrap(), 1);
    drop(shell);
    assert_eq!(store.apply(&[&register]).with(0).json()[0]["reply"]["repeated"], true);
}

fn at(ms: u64, line: &str) -> String {
    format!(r#"{},"at_ms":{ms}}}"#, line.strip_suffix('}').unwrap())
}

/// A blank line before the first command hid that the input was a recording.
#[test]
fn a_new_store_keeps_the_time_of_a_recording_and_says_so() {
    for before in ["", "\n\n"] {
        let store = Store::new();
        let input = format!("{before}{}\n{}\n", at(5, &register("t1")), at(70_000, &register("t2")));
        let ended = store.apply_bytes(input.as_bytes()).with(0);
        assert_eq!(ended.json()[0]["line"], before.len() + 1);
        ended.says(&["new store: its clock is the recording's (\"at_ms\"), counted from 2026-01-01T00:00:00.000Z"]);
        let log = store.json(["log"]);
        assert_eq!(
            (&log[0]["recorded_at"], &log[1]["recorded_at"]),
            (&json!(1_767_225_600_005_i64), &json!(1_767_225_670_000_i64))
        );
        assert_eq!(store.json(["info"])[0]["recording_from"], 1_767_225_600_000_i64);
        store.apply(&[at(80_000, &register("t3"))]).with(0).says(&["store of a recording: its clock"]);
        assert_eq!(store.json(["log", "--after", "2"])[0]["recorded_at"], 1_767_225_680_000_i64);
        // Time never goes back, and stands still for a command that brings none.
        store.apply(&[at(1, &register("t4")), register("t5")]).with(0);
        for event in store.json(["log", "--after", "3"]) {
            assert_eq!(event["recorded_at"], 1_767_225_680_000_i64);
        }
    }
}

#[test]
fn a_store_with_its_own_clock_ignores_a_recordings_time_and_says_so() {
    let store = Store::with(&[register("t1")]);
    store
        .apply(&[at(5, &register("t2"))])
        .with(0)
        .says(&["\"at_ms\" is ignored: this store was not created for a recording"]);
    assert_eq!(store.json(["info"])[0]["recording_from"], Value::Null);
    let log = store.json(["log"]);
    assert!(log[1]["recorded_at"].as_i64() >= log[0]["recorded_at"].as_i64());
    assert!(log[1]["recorded_at"].as_i64().unwrap() > 1_767_225_600_005);
}

// ---- exit statuses, where the store is

#[test]
fn the_exit_status_says_who_has_to_act() {
    let store = Store::with(&[register("t1")]);
    store.run(["get", "tasks", "t1"]).with(0);
    for refused in [
        &["get", "tasks", "t9"][..],
        &["list", "tasks", "--where", "color=red"],
        &["list", "tasks", "--where", "status"],
        &["list", "tasks", "--where", "created_at=soon"],
        &["list", "tasks", "--after", "t9"],
        &["history", "tasks", "t9"],
        &["query", "tasks.nope"],
        &["query", "tasks.get", "{"],
        &["query", "tasks.get", r#"{"nope":1}"#],
        &["sql", "SELECT nope"],
        &["commands", "nope"],
    ] {
        let ended = store.run(refused).with(1).says(&["error: "]);
        assert_eq!(ended.out, "", "{refused:?}");
        let mut machine = store.command(refused);
        machine.arg("--json");
        let error: Value = serde_json::from_str(&run(machine, b"").with(1).err).unwrap();
        assert!(error["error"]["kind"].is_string() && error["error"]["message"].is_string(), "{error}");
    }
    for usage in [
        &["nope"][..],
        &[],
        &["get", "tasks"],
        &["get", "nope", "k"],
        &["--store", "nope:x", "info"],
        &["log", "--follow", "--reverse"],
        &["log", "--after", "x"],
        &["list", "nope"],
    ] {
        let mut command = tasklog();
        command.args(usage);
        run(command, b"").with(2);
    }
    let absent = Store::new();
    absent.run(["list", "tasks"]).with(3);
}

#[test]
fn the_store_comes_from_the_environment_and_an_argument_wins() {
    let (one, two) = (Store::with(&[register("one")]), Store::with(&[register("two")]));
    let list = |args: &[&str]| {
        let mut command = tasklog();
        command.env("TASKLOG_STORE", one.url()).args(args);
        run(command, b"").with(0).json()[0]["miroir_id"].clone()
    };
    assert_eq!(list(&["list", "tasks", "--json"]), "one");
    assert_eq!(list(&["list", "tasks", "--json", "--store", &two.url()]), "two");
    let mut apply = tasklog();
    apply.current_dir(two.folder.path()).args(["get", "tasks", "two"]);
    run(apply, b"").with(0);
    let mut memory = tasklog();
    memory.args(["--store", "memory:", "apply"]);
    run(memory, register("t").as_bytes()).with(0);
}

// ---- reading rows

/// The keys of the pages of a listing.
fn pages(store: &Store, table: &str, conditions: &[&str], limit: usize) -> Vec<Vec<String>> {
    let table = tasklog::projections::table(table).unwrap();
    let mut pages = Vec::new();
    let mut after: Option<String> = None;
    loop {
        let limit_text = limit.to_string();
        let mut args = vec!["list", table.name, "--json", "--show-sensitive", "--limit", &limit_text];
        args.extend(conditions.iter().flat_map(|condition| ["--where", condition]));
        args.extend(after.iter().flat_map(|key| ["--after", key]));
        let ended = store.run(args).with(0);
        let key = |row: &Value| {
            let part = |name: &str| row[name].as_str().unwrap().replace('%', "%25").replace('/', "%2F");
            let parts: Vec<_> = table.key_columns().map(|column| part(column.name)).collect();
            if parts.len() == 1 {
                row[table.key_columns().next().unwrap().name].as_str().unwrap().to_owned()
            } else {
                parts.join("/")
            }
        };
        let page: Vec<String> = ended.json().iter().map(key).collect();
        after = page.last().cloned();
        let more = ended.err.contains("there is more: --after ");
        pages.push(page);
        if !more {
            return pages;
        }
    }
}

#[test]
fn the_pages_of_a_listing_meet_every_row_exactly_once() {
    let mut lines: Vec<_> = (1..=24).map(|at| register(&format!("t{at}"))).collect();
    for at in (1..=24).step_by(3) {
        lines.push(format!(r#"{{"command":"tasks.cancel","args":{{"miroir_id":"t{at}"}}}}"#));
    }
    lines.extend((0..5).flat_map(|sink| (0..5).map(move |index| cursor(&format!("a/{sink}%"), &format!("i/{index}")))));
    lines.extend((1..=10).map(|at| {
        format!(r#"{{"command":"sessions.record_write","args":{{"session_id":"s{at}","mtask_id":"t{}"}}}}"#, at % 2)
    }));
    let store = Store::with(&lines);
    let cancelled = store.json(["list", "tasks", "--where", "cancel_requested_at=null"]);
    assert!(!cancelled.is_empty() && cancelled.len() < 24, "{}", cancelled.len());
    for (table, conditions) in [
        ("tasks", &[][..]),
        ("tasks", &["status=enqueued"]),
        ("tasks", &["cancel_requested_at=null"]),
        ("tasks", &["status=enqueued", "cancel_requested_at=null"]),
        ("tasks", &["status=failed"]),
        ("cdc_cursors", &[]),
        ("cdc_cursors", &["index_uid=i/3"]),
        ("cdc_cursors", &["sink_name=a/2%"]),
        ("cdc_cursors", &["last_event_seq=3"]),
        ("sessions", &[]),
        ("sessions", &["last_write_mtask_id=t1"]),
    ] {
        let whole = pages(&store, table, conditions, 1_000);
        assert_eq!(whole.len(), 1);
        let whole = &whole[0];
        assert_eq!(whole.iter().collect::<BTreeSet<_>>().len(), whole.len());
        for limit in [1, 2, 5, 8, 24, 25] {
            let pages = pages(&store, table, conditions, limit);
            assert!(pages.iter().rev().skip(1).all(|page| page.len() == limit));
            assert_eq!(pages.concat(), *whole, "{table} {conditions:?} by {limit}");
        }
    }
    assert_eq!(pages(&store, "cdc_cursors", &["index_uid=i/3"], 9)[0].len(), 5);
    // People get the same rows.
    let people = store.run(["list", "tasks", "--limit", "3"]).with(0).says(&["there is more: --after"]);
    assert_eq!(people.out.trim_end().lines().count(), 4, "a header and three rows: {}", people.out);
}

#[test]
fn a_row_is_shown_with_all_its_columns_and_its_rev() {
    let store = Store::with(&[register("t1"), cursor("a/b", "c%")]);
    let row = &store.json(["get", "tasks", "t1"])[0];
    let table = tasklog::projections::table("tasks").unwrap();
    for column in table.columns {
        assert!(row.get(column.name).is_some(), "{}: {row}", column.name);
    }
    assert_eq!((&row["rev"], &row["node_tasks"]), (&json!(1), &json!({ "n1": 7 })));
    store.run(["get", "tasks", "t1"]).with(0).prints(&["miroir_id              t1\n", "error                  -\n"]);
    assert_eq!(store.json(["get", "cdc_cursors", "a%2Fb/c%25"])[0]["sink_name"], "a/b");
    assert_eq!(
        store.json(["query", "cdc_cursors.get", r#"{"sink_name":"a/b","index_uid":"c%"}"#])[0]["last_event_seq"],
        3
    );
    assert_eq!(store.json(["query", "tasks.get", r#"{"miroir_id":"nobody"}"#])[0], Value::Null);
}

// ---- reading the log

/// Positions of a `log` call.
fn positions(store: &Store, args: &[&str]) -> Vec<u64> {
    let log = store.json([&["log"], args].concat());
    log.iter().map(|event| event["position"].as_u64().unwrap()).collect()
}

#[test]
fn the_log_is_filtered_bounded_and_reversed() {
    let lines = [
        register("t1"),
        cursor("a", "i"),
        register("t2"),
        cursor("b", "i"),
        r#"{"command":"tasks.cancel","args":{"miroir_id":"t1"},"actor":"someone"}"#.into(),
        r#"{"transact":[{"command":"cdc_cursors.reset","args":{"sink_name":"a","index_uid":"i","to_seq":1}},{"command":"cdc_cursors.reset","args":{"sink_name":"b","index_uid":"i","to_seq":1}}],"actor":"someone"}"#.into(),
    ];
    let store = Store::with(&lines);
    for (args, expected) in [
        (&[][..], &[1, 2, 3, 4, 5, 6, 7][..]),
        (&["--reverse"], &[7, 6, 5, 4, 3, 2, 1]),
        (&["--after", "5"], &[6, 7]),
        // Within a commit.
        (&["--after", "6"], &[7]),
        (&["--after", "7"], &[]),
        (&["--after", "99"], &[]),
        (&["--after", "3", "--reverse"], &[2, 1]),
        (&["--after", "99", "--reverse", "--limit", "1"], &[7]),
        (&["--limit", "2"], &[1, 2]),
        (&["--limit", "0"], &[]),
        (&["--limit", "6"], &[1, 2, 3, 4, 5, 6]),
        (&["--limit", "2", "--reverse"], &[7, 6]),
        (&["--table", "tasks"], &[1, 3, 5]),
        (&["--table", "tasks", "--limit", "1", "--after", "1"], &[3]),
        (&["--table", "tasks", "--key", "t1"], &[1, 5]),
        (&["--key", "a/i", "--reverse"], &[6, 2]),
        (&["--type", "task_registered"], &[1, 3]),
        (&["--actor", "someone"], &[5, 6, 7]),
        (&["--actor", "someone", "--table", "cdc_cursors", "--limit", "1"], &[6]),
        (&["--actor", "nobody"], &[]),
    ] {
        assert_eq!(positions(&store, args), expected, "{args:?}");
    }
    store.run(["log", "--actor", "someone", "--limit", "1"]).with(0).prints(&["       5  20", "tasks/t1", "someone"]);
}

#[test]
fn the_log_is_followed_while_another_process_writes() {
    let store = Store::with(&[register("t1"), cursor("a", "i")]);
    let mut command = store.command(["log", "--follow", "--json", "--table", "tasks"]);
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let mut next = || {
        let mut line = String::new();
        out.read_line(&mut line).unwrap();
        serde_json::from_str::<Value>(&line).unwrap()["position"].as_u64().unwrap()
    };
    assert_eq!(next(), 1);
    store.apply(&[register("t2"), cursor("b", "i"), register("t3")]).with(0);
    assert_eq!((next(), next()), (3, 5));
    store.apply(&[register("t4")]).with(0);
    assert_eq!(next(), 6);
    child.kill().unwrap();
    child.wait().unwrap();
    // It ends by itself once it has shown as many as it was asked for.
    assert_eq!(positions(&store, &["--follow", "--limit", "2"]), [1, 2]);
}

#[test]
fn a_history_tells_every_change_also_of_a_row_that_is_gone() {
    let store = Store::with(&[
        cursor("a", "i"),
        cursor("b", "i"),
        r#"{"command":"cdc_cursors.reset","args":{"sink_name":"a","index_uid":"i","to_seq":1},"reason":"again"}"#
            .into(),
        r#"{"command":"cdc_cursors.drop","args":{"sink_name":"a"}}"#.into(),
    ]);
    store.run(["get", "cdc_cursors", "a/i"]).with(1);
    let steps = store.json(["history", "cdc_cursors", "a/i"]);
    let of = |name: &str| steps.iter().map(|step| step[name].clone()).collect::<Vec<_>>();
    assert_eq!(of("position"), [1, 3, 4]);
    assert_eq!(of("prev"), [Value::Null, json!(1), json!(3)]);
    assert_eq!(of("exists"), [true, true, false]);
    assert_eq!(steps[1]["changes"]["last_event_seq"], json!({ "old": 3, "new": 1 }));
    assert_eq!(steps[2]["changes"]["last_event_seq"], json!({ "old": 1, "new": null }));
    let people = store.run(["history", "cdc_cursors", "a/i"]).with(0);
    people.prints(&["#3 cdc_cursor_reset", "because again", "3 → 1", "the row is gone"]);
}

// ---- SQL

#[test]
fn sql_reads_rows_and_payloads_and_changes_nothing() {
    let store = Store::with(&[register("t1"), register("t2"), cursor("a", "i")]);
    let before = store.dump();
    let one = |sql: &str| store.json(["sql", sql])[0].clone();
    assert_eq!(one("SELECT count(*) AS n FROM tasks"), json!({ "n": 2 }));
    assert_eq!(one("SELECT _rev FROM tasks WHERE miroir_id = 't2'"), json!({ "_rev": 2 }));
    assert_eq!(
        one("SELECT json_extract(payload, '$.node_tasks.n1') AS uid FROM events WHERE key = 't1'"),
        json!({ "uid": 7 })
    );
    assert_eq!(
        one("SELECT payload ->> '$.to_seq' AS seq FROM events WHERE type = 'cdc_cursor_advanced'"),
        json!({ "seq": 3 })
    );
    assert_eq!(one("SELECT length(commit_id) AS n, prev FROM events"), json!({ "n": 36, "prev": null }));
    assert_eq!(store.json(["sql", "SELECT 1 WHERE 0"]), [Value::Null; 0]);
    store.run(["sql", "SELECT miroir_id, error FROM tasks"]).with(0).prints(&["miroir_id", "t1"]);
    for show in [&[][..], &["--show-sensitive"]] {
        for statement in [
            "INSERT INTO tasks SELECT * FROM tasks",
            "INSERT INTO main.tasks SELECT * FROM main.tasks",
            "DELETE FROM main.events",
            "UPDATE main.tasks SET status = 'failed'",
            "DROP TABLE main.tasks",
            "CREATE TABLE t (a)",
            "CREATE TEMP TABLE t (a)",
            "ATTACH 'other.db' AS other",
            "DETACH temp",
            "VACUUM",
            "VACUUM INTO 'copy.db'",
            "PRAGMA user_version = 5",
            "PRAGMA query_only = 0",
            "PRAGMA journal_mode = DELETE",
            "PRAGMA writable_schema = 1",
            "REINDEX",
            "DELETE FROM main.events; SELECT 1",
            "SELECT 1; DELETE FROM main.events",
            "",
        ] {
            let mut command = store.command([&["sql", statement], show].concat());
            command.current_dir(store.folder.path());
            run(command, b"").with(1).says(&["error: invalid: sql: "]);
        }
    }
    assert!(!names(store.folder.path()).iter().any(|name| name.starts_with("other") || name.starts_with("copy")));
    assert_eq!(store.dump(), before);
    let mut memory = tasklog();
    memory.args(["--store", "memory:", "sql", "SELECT 1"]);
    run(memory, b"").with(1).says(&["a store in memory has no SQL"]);
}

// ---- sensitive values

const KEY_HASH: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
const ADMIN_HASH: &str = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";

/// A store whose sensitive values all have `secret` in them, or are one of the two hashes.
fn secrets() -> Store {
    let mut lines = Vec::new();
    for at in [1, 2] {
        lines.push(format!(
            r#"{{"command":"sessions.record_write","args":{{"session_id":"secret-session-{at}","mtask_id":"t1"}}}}"#
        ));
        lines.push(format!(
            r#"{{"command":"admin_sessions.open","args":{{"session_id":"secret-admin-{at}","csrf_token":"secret-token-{at}","admin_key_hash":"{ADMIN_HASH}","user_agent":"secret-agent","source_ip":"secret-ip"}}}}"#
        ));
    }
    let canary = |query: &str| {
        format!(
            r#""args":{{"id":"c1","name":"c","index_uid":"i","interval_s":60,"query_json":{query},"assertions_json":[]}}"#
        )
    };
    lines.extend([
        r#"{"command":"sessions.raise_floor","args":{"session_id":"secret-session-1","version":4}}"#.into(),
        format!(r#"{{"command":"tenant_map.map","args":{{"api_key_hash":"{KEY_HASH}","tenant_id":"acme"}}}}"#),
        format!(r#"{{"command":"tenant_map.map","args":{{"api_key_hash":"{ADMIN_HASH}","tenant_id":"acme"}}}}"#),
        format!(r#"{{"command":"tenant_map.unmap","args":{{"api_key_hash":"{ADMIN_HASH}"}}}}"#),
        format!(r#"{{"command":"canaries.define",{}}}"#, canary(r#"{"q":"secret-query"}"#)),
        r#"{"command":"canaries.revise","args":{"id":"c1","changes":{"query_json":{"q":"secret-other","deep":[{"csrf_token":1}]}}}}"#.into(),
        r#"{"command":"admin_sessions.revoke","args":{"session_id":"secret-admin-2","why":"logout"}}"#.into(),
    ]);
    Store::with(&lines)
}

#[track_caller]
fn hides(what: &str, ended: &Ended) {
    for text in [&ended.out, &ended.err] {
        // A part of a hash is too much.
        let hashes = [&KEY_HASH[..12], &ADMIN_HASH[..12], "AAAAAAAAAAAA", "BBBBBBBBBBBB"];
        for secret in ["secret", &hex::encode("secret"), &hex::encode_upper("secret")].into_iter().chain(hashes) {
            assert!(!text.contains(secret), "{what} shows {secret}: {text}");
        }
    }
}

#[test]
fn no_verb_shows_a_sensitive_value_unless_it_is_asked_to() {
    let store = secrets();
    let mut verbs: Vec<Vec<&str>> = vec![
        vec!["log"],
        vec!["log", "--reverse"],
        vec!["log", "--key", "secret-session-1"],
        vec!["get", "sessions", "secret-session-1"],
        vec!["get", "admin_sessions", "secret-admin-2"],
        vec!["get", "tenant_map", KEY_HASH],
        vec!["get", "canaries", "c1"],
        vec!["list", "sessions", "--limit", "1"],
        vec!["list", "admin_sessions", "--where", "source_ip=secret-ip"],
        vec!["history", "sessions", "secret-session-1"],
        vec!["history", "admin_sessions", "secret-admin-2"],
        vec!["history", "tenant_map", ADMIN_HASH],
        vec!["history", "canaries", "c1"],
        vec!["query", "sessions.get", r#"{"session_id":"secret-session-1"}"#],
        vec!["query", "tenant_map.by_tenant", r#"{"tenant_id":"acme"}"#],
        vec!["query", "canaries.list"],
        vec!["query", "canaries.get", r#"{"id":"c1"}"#],
        vec!["sql", "SELECT * FROM events"],
        vec!["sql", "SELECT e.key || '/' || e.payload AS everything FROM events AS e"],
        vec!["sql", "SELECT * FROM (SELECT payload FROM (SELECT * FROM temp.events))"],
        vec!["info"],
        vec!["verify"],
    ];
    verbs.extend(TABLES.iter().map(|table| vec!["list", table.name]));
    let selects: Vec<_> = TABLES.iter().map(|table| format!("SELECT * FROM {}", table.name)).collect();
    verbs.extend(selects.iter().map(|select| vec!["sql", select]));
    for verb in verbs {
        let people = store.run(&verb).with(0);
        assert!(!people.out.is_empty() || verb[0] == "list" || verb[0] == "sql", "{verb:?}");
        hides(&format!("{verb:?}"), &people);
        let mut machine = store.command(&verb);
        machine.arg("--json");
        let machine = run(machine, b"").with(0);
        machine.json();
        hides(&format!("{verb:?} --json"), &machine);
    }
}

/// SQLite names the view on whose behalf a column is read, and a WITH table of the query in the same way: what was let
/// pass for the masking views was let pass for `WITH x AS (SELECT session_id FROM main.sessions) SELECT * FROM x`.
#[test]
fn no_query_reads_past_the_masks() {
    let store = secrets();
    for query in [
        "SELECT * FROM main.sessions",
        "SELECT session_id FROM main.sessions",
        "SELECT s.session_id FROM main.sessions AS s",
        "SELECT hex(api_key_hash) FROM main.tenant_map",
        "SELECT (SELECT session_id FROM main.sessions LIMIT 1)",
        "SELECT * FROM (SELECT session_id FROM main.sessions)",
        "SELECT * FROM (SELECT session_id FROM main.sessions) AS x",
        "WITH x AS (SELECT session_id FROM main.sessions) SELECT * FROM x",
        "WITH sessions AS (SELECT session_id FROM main.sessions) SELECT * FROM sessions",
        "WITH events AS (SELECT key, hex(payload) FROM main.events) SELECT * FROM events",
        "WITH RECURSIVE x(a) AS (SELECT csrf_token FROM main.admin_sessions UNION SELECT a FROM x) SELECT a FROM x",
        "WITH x AS MATERIALIZED (SELECT query_json FROM main.canaries) SELECT * FROM x",
        "SELECT 1 FROM main.sessions WHERE session_id > 'a'",
        "SELECT max(session_id) FROM main.sessions",
        "SELECT 1 FROM main.sessions ORDER BY session_id",
        "SELECT a.status FROM tasks a JOIN main.sessions b ON b.session_id = a.miroir_id",
        "SELECT key FROM main.events",
        "SELECT hex(payload) FROM main.events",
        "SELECT group_concat(payload) FROM main.events",
        "SELECT key FROM _tombstones",
        "SELECT answer FROM _answers",
        "EXPLAIN SELECT session_id FROM main.sessions",
        "SELECT 1 UNION SELECT session_id FROM main.sessions",
        "SELECT * FROM tasks WHERE EXISTS (SELECT 1 FROM main.sessions WHERE session_id LIKE 's%')",
        "VALUES ((SELECT source_ip FROM main.admin_sessions))",
    ] {
        let ended = store.run(["sql", query]).with(1);
        hides(query, &ended);
        store.run(["sql", query, "--show-sensitive"]).with(0);
    }
    // What is not sensitive can be read in any way.
    assert_eq!(store.json(["sql", "SELECT count(*) AS n FROM main.sessions"])[0]["n"], 2);
    store.run(["sql", "WITH x AS (SELECT last_write_mtask_id FROM main.sessions) SELECT * FROM x"]).with(0);
    // A mask is all there is to compare with.
    assert_eq!(store.json(["sql", "SELECT 1 FROM sessions WHERE session_id LIKE '%secret%'"]), [Value::Null; 0]);
}

#[test]
fn equal_values_have_one_mask_within_an_output() {
    let store = secrets();
    let rows = store.json(["list", "admin_sessions"]);
    for same in ["admin_key_hash", "user_agent", "source_ip"] {
        assert_eq!(rows[0][same], rows[1][same]);
        assert!(rows[0][same].as_str().unwrap().starts_with("***"));
    }
    for other in ["session_id", "csrf_token"] {
        assert_ne!(rows[0][other], rows[1][other]);
    }
    let masks: BTreeSet<_> = ["session_id", "csrf_token", "admin_key_hash", "user_agent", "source_ip"]
        .map(|name| rows[0][name].to_string())
        .into();
    assert_eq!(masks.len(), 5, "different values, different masks");
    // A row key in the log, and the hash of a key in two tables.
    let log = store.json(["log"]);
    let keys = |table: &str| {
        log.iter().filter(|event| event["table"] == table).map(|event| event["key"].clone()).collect::<Vec<_>>()
    };
    let sessions = keys("sessions");
    assert_eq!(sessions[0], sessions[2]);
    assert_ne!(sessions[0], sessions[1]);
    let opened = log.iter().find(|event| event["type"] == "admin_session_opened").unwrap();
    assert_eq!(opened["payload"]["admin_key_hash"], keys("tenant_map")[1]);
    let joined = store
        .json(["sql", "SELECT s.session_id AS a, e.key AS b FROM sessions s JOIN events e ON e.key = s.session_id"]);
    assert_eq!(joined.len(), 3, "{joined:?}");
    assert!(joined.iter().all(|row| row["a"] == row["b"]));
}

#[test]
fn sensitive_values_are_shown_on_request() {
    let store = secrets();
    for (verb, text) in [
        (&["get", "sessions", "secret-session-1"][..], "secret-session-1"),
        (&["list", "admin_sessions"], "secret-token-2"),
        (&["log"], "secret-query"),
        (&["history", "canaries", "c1"], "secret-other"),
        (&["sql", "SELECT api_key_hash FROM tenant_map"], KEY_HASH),
        (&["sql", "SELECT payload ->> '$.user_agent' FROM events"], "secret-agent"),
        (&["query", "tenant_map.by_tenant", r#"{"tenant_id":"acme"}"#], KEY_HASH),
    ] {
        for json in [&[][..], &["--json"]] {
            let ended = store.run([verb, json, &["--show-sensitive"]].concat()).with(0);
            assert!(ended.out.contains(text) && !ended.out.contains("***"), "{verb:?}: {}", ended.out);
        }
    }
}

// ---- the rest

#[test]
fn info_verify_and_rebuild_say_what_there_is() {
    let store = Store::with(&[register("t1"), cursor("a", "i")]);
    let info = &store.json(["info"])[0];
    assert_eq!(
        (&info["head"], &info["checkpoint"], &info["first"], &info["epoch"]),
        (&json!(2), &json!(2), &json!(1), &json!(1))
    );
    let tables = info["tables"].as_array().unwrap();
    assert_eq!(tables.len(), TABLES.len());
    for table in tables {
        let expected = u64::from(table["table"] == "tasks" || table["table"] == "cdc_cursors");
        assert_eq!(table["rows"], expected, "{table}");
    }
    store.run(["info"]).with(0).prints(&["1 to 2", "epoch 1", "every commit is synced to disk"]);
    let verified = store.json(["verify"]);
    assert_eq!(verified.len(), 1);
    assert_eq!(
        (&verified[0]["ok"], &verified[0]["events"], &verified[0]["rows"]),
        (&json!(true), &json!(2), &json!(2))
    );
    store.run(["verify"]).with(0).prints(&["everything holds: 2 events in 2 commits"]);
    let before = store.dump();
    assert_eq!(store.json(["rebuild"])[0]["tables"].as_array().unwrap().len(), TABLES.len());
    assert_eq!(store.json(["rebuild", "tasks", "aliases"])[0]["tables"], json!(["tasks", "aliases"]));
    store.run(["rebuild", "tasks"]).with(0).prints(&["1 tables rebuilt from 2 events"]);
    assert_eq!(store.dump(), before);
    store.run(["verify"]).with(0);
}

#[test]
fn the_catalogue_names_everything_with_its_schema() {
    let catalogue = |args: &[&str]| {
        let mut command = tasklog();
        command.args(["commands", "--json"]).args(args);
        run(command, b"").with(0).json()
    };
    let all = catalogue(&[]);
    for kind in ["command", "query", "event"] {
        assert!(all.iter().filter(|entry| entry.get(kind).is_some()).count() > 30, "{kind}");
    }
    for entry in &all {
        assert!(!entry["about"].as_str().unwrap().is_empty(), "{entry}");
        let name = ["command", "query", "event"].iter().find_map(|kind| entry[kind].as_str()).unwrap();
        assert!(!name.is_empty());
    }
    let one = catalogue(&["tasks.register"]);
    assert_eq!(one.len(), 1);
    assert_eq!(one[0]["args"]["required"], json!(["node_tasks"]));
    assert_eq!(catalogue(&["task_registered"])[0]["table"], "tasks");
    assert!(catalogue(&["aliases"]).len() > 8);
    let mut people = tasklog();
    people.arg("commands");
    run(people, b"").with(0).prints(&["tasks.register", "Registers a client write as a task"]);
}

#[test]
fn completions_and_man_pages_are_made_from_the_command_line_itself() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let mut command = tasklog();
        command.args(["completions", shell]);
        run(command, b"").with(0).prints(&["tasklog", "rebuild", "show-sensitive"]);
    }
    let store = Store::new();
    let folder = store.folder.path().join("man");
    store.run(["man".as_ref(), folder.as_os_str()]).with(0);
    let pages = names(&folder);
    for page in ["tasklog.1", "tasklog-apply.1", "tasklog-log.1"] {
        assert!(pages.iter().any(|name| name == page), "{page} is not in {pages:?}");
        assert!(fs::read_to_string(folder.join(page)).unwrap().contains(".TH"));
    }
    fs::write(store.path(), "").unwrap();
    store.run(["man".as_ref(), store.path().join("x").as_os_str()]).with(3);
    let mut help = tasklog();
    help.arg("--help");
    run(help, b"").with(0).prints(&["apply", "verify", "TASKLOG_STORE"]);
    let mut version = tasklog();
    version.arg("--version");
    run(version, b"").with(0).prints(&[env!("CARGO_PKG_VERSION")]);
}
