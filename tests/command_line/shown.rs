//! Whoever may write a command chooses texts that an operator reads later. `log` printed them as they were: an actor with a
//! line end began a line of the audit trail that nobody had written, and an escape sequence cleared the screen.

use std::process::Stdio;

use serde_json::{Value, json};
use tasklog::{Access, OpenOptions, TaskStore, log::checksum};

use crate::{
    register,
    support::program::{Ended, Store, run, tasklog},
};

const FORGED: &str = "eve\n       2  2026-01-01T00:00:00.000Z  task_registered  tasks/forged  by root";
const CLEARS: &str = "why\u{1b}]0;owned\u{7}\u{1b}[2J\u{9b}2J\u{202e}\u{2028}";

/// A store as an earlier version left it: it refused no control characters in actors and reasons.
fn written_earlier() -> Store {
    let error = json!("went\u{1b}[1A\u{1b}[2Kwrong\nas root");
    let store = Store::with(&[
        register("m-1"),
        r#"{"command":"tasks.attach_node_task","args":{"miroir_id":"m-1","node_id":"n2","task_uid":8}}"#.into(),
        format!(
            r#"{{"command":"tasks.report_node_statuses","args":{{"miroir_id":"m-1","reports":[{{"node_id":"n1","status":"failed","error":{error}}}]}}}}"#
        ),
    ]);
    let url = store.url();
    let read = OpenOptions { access: Access::Read, ..OpenOptions::default() };
    let read = TaskStore::open_with(&url.parse().unwrap(), read).unwrap();
    let commits = read.read(|log, _| Ok(log.read(tasklog::log::Position(0), 100)?)).unwrap();
    drop(read);
    let shell = store.shell();
    for mut commit in commits {
        commit.meta.actor = FORGED.into();
        commit.meta.reason = Some(CLEARS.into());
        for event in &commit.events {
            let checksum = checksum(&commit.meta, commit.recorded_at, event);
            shell
                .execute(
                    "UPDATE events SET actor = ?2, reason = ?3, checksum = ?4 WHERE position = ?1",
                    (event.position.0 as i64, FORGED, CLEARS, checksum),
                )
                .unwrap();
        }
    }
    store
}

/// Nothing in it but lines of the program's own.
fn is_safe(what: &[&str], ended: &Ended) {
    for text in [&ended.out, &ended.err] {
        let obeyed = text
            .chars()
            .find(|c| c.is_control() && *c != '\n' || matches!(c, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}'));
        assert_eq!(obeyed, None, "{what:?}: {text:?}");
        for line in text.lines() {
            let forged = line.starts_with("       2  2026-01-01") || line.starts_with("as root");
            assert!(!forged, "{what:?}: {text}");
        }
    }
}

#[test]
fn no_stored_text_begins_a_line_or_talks_to_the_terminal() {
    let store = written_earlier();
    for verb in [
        &["log"][..],
        &["log", "--reverse"],
        &["history", "tasks", "m-1"],
        &["replay"],
        &["blame", "tasks", "m-1"],
        &["diff", "0", "4"],
        &["get", "tasks", "m-1"],
        &["list", "tasks"],
        &["query", "tasks.get", r#"{"miroir_id":"m-1"}"#],
        &["sql", "SELECT actor, reason, payload FROM events"],
        &["sql", "SELECT 1 AS \"a\nb\u{1b}[2J\""],
        &["prove", "2"],
        &["get", "tasks", "no\n\u{1b}[2Jwhere"],
        &["get", "tasks", "\u{202e}"],
    ] {
        let mut machine = store.command(verb);
        machine.arg("--json");
        for command in [store.command(verb), machine] {
            is_safe(verb, &run(command, b""));
        }
    }
    // Shown, not swallowed; and a log of an earlier version is whole.
    let log = store.run(["log"]).with(0);
    assert_eq!(log.out.lines().count(), 4, "{}", log.out);
    log.prints(&[
        r"by eve\n       2  2026-01-01T00:00:00.000Z",
        r"(why\u{1b}]0;owned\u{7}\u{1b}[2J\u{9b}2J\u{202e}\u{2028})",
    ]);
    store.run(["verify"]).with(0);
    // A program gets the text itself.
    assert_eq!(store.json(["log"])[0]["reason"], Value::from(CLEARS));
}

#[test]
fn only_the_programs_own_styles_reach_a_terminal() {
    let store = written_earlier();
    let mut command = store.command(["log", "--limit", "1"]);
    command.env("CLICOLOR_FORCE", "1");
    let shown = run(command, b"").with(0).out;
    assert!(shown.contains("\u{1b}[1mtask_registered\u{1b}[0m"), "{shown:?}");
    let left = ["\u{1b}[1m", "\u{1b}[2m", "\u{1b}[0m"].iter().fold(shown, |text, style| text.replace(style, ""));
    is_safe(&["log"], &Ended { status: Some(0), out: left, err: String::new() });
}

#[test]
fn an_actor_a_reason_and_a_request_id_have_no_control_characters() {
    let store = Store::new();
    for field in ["actor", "reason", "request_id"] {
        let line = json!({
            "command": "tasks.register", "args": { "miroir_id": "m-1", "node_tasks": {} }, field: "a\nb",
        });
        let answer = store.apply(&[line.to_string()]).with(1).json().remove(0);
        let message = format!("{field}: no control characters, this one has U+000A");
        assert_eq!(answer["error"], json!({ "kind": "invalid", "message": message }));
    }
    store
        .apply(&[json!({
            "command": "tasks.register", "args": { "miroir_id": "m-1", "node_tasks": {} }, "actor": "Zoë 👩‍🚀",
        })
        .to_string()])
        .with(0);
    let mut epoch = store.command(["epoch", "--accept", "--reason", "a\u{1b}b"]);
    epoch.args(["--actor", "me"]);
    run(epoch, b"").with(1).says(&["reason: no control characters, this one has U+001B"]);
}

#[test]
fn a_reader_that_has_seen_enough_of_a_completion_script_is_no_failure() {
    for shell in ["bash", "zsh", "fish"] {
        let mut child =
            tasklog().args(["completions", shell]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        // Closed before anything is read.
        drop(child.stdout.take());
        let ended: Ended = child.wait_with_output().unwrap().into();
        assert_eq!((ended.status, &*ended.err), (Some(0), ""), "{shell}");
    }
}
