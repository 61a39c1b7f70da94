//! Proof: a checkpoint is a promise that whoever keeps it can hold the log to. Every way of changing history that checksums,
//! links and rows could be made to fit is noticed; every forged proof is refused with a reason.
#![allow(clippy::unwrap_used, missing_docs)]
#![cfg(unix)]

mod support;

use std::{fs, os::unix::fs::PermissionsExt, path::PathBuf, sync::Arc};

use rusqlite::Connection;
use serde_json::{Value, json};
use support::{
    program::{Ended, Store, run, tasklog},
    registry::{eventually, on, open, register},
};
use tasklog::{
    OpenOptions, TaskStore,
    log::{Log, Position, SystemClock, checksum, sqlite::SqliteLog},
};
use tasklog_testing::RedisServer;

/// Events of the stores here: two chunks and a part of the third.
const EVENTS: usize = 600;

fn task(number: usize) -> String {
    format!(
        r#"{{"command":"tasks.register","args":{{"miroir_id":"t{number}","node_tasks":{{"n1":{number}}}}},"actor":"a"}}"#
    )
}

/// A store with events, whose tree is kept.
fn kept() -> Store {
    let store = Store::with(&(0..EVENTS).map(task).collect::<Vec<_>>());
    open(&store.url()).keep_tree().unwrap();
    store
}

impl Store {
    fn file(&self, name: &str, text: &str) -> String {
        let path = self.folder.path().join(name);
        fs::write(&path, text).unwrap();
        path.display().to_string()
    }

    /// Writes a checkpoint of what the store has now.
    fn checkpoint(&self, name: &str) -> String {
        self.file(name, &self.run(["checkpoint"]).with(0).out)
    }

    /// Another store with a copy of the file.
    fn copy(&self) -> Self {
        let copy = Self::new();
        fs::copy(self.path(), copy.path()).unwrap();
        copy
    }
}

/// The program without any store: one that it would have to open is not there.
fn offline(args: &[&str]) -> Ended {
    let mut command = tasklog();
    command.args(["--store", "sqlite:/no/such/folder/store.db"]).args(args);
    run(command, b"")
}

// ---- the same tree everywhere

#[test]
fn a_log_has_the_same_root_on_every_backend_and_proofs_of_one_are_proofs_of_the_other() {
    let server = RedisServer::start();
    let (first, last) = (Store::new(), Store::new());
    run(first.command(["apply", "examples/day.ndjson"]), b"");
    let redis = format!("{}?prefix=p", server.url());
    for (from, to) in [(&first.url(), &redis), (&redis, &last.url())] {
        run(
            {
                let mut copy = tasklog();
                copy.args(["copy", "--from", from, "--to", to]);
                copy
            },
            b"",
        )
        .with(0);
    }
    let checkpoint = first.run(["checkpoint"]).with(0).out;
    assert_eq!(on(&redis, &["checkpoint"]).with(0).out, checkpoint);
    // Kept or computed, it is the same.
    open(&redis).keep_tree().unwrap();
    open(&last.url()).keep_tree().unwrap();
    assert_eq!(on(&redis, &["checkpoint"]).with(0).out, checkpoint);
    assert_eq!(last.run(["checkpoint"]).with(0).out, checkpoint);
    let chunks = |url: &str| on(url, &["verify", "--json"]).with(0).json()[0]["chunks"].as_u64().unwrap();
    assert_eq!(chunks(&redis), chunks(&last.url()));
    assert!(chunks(&redis) > 100);

    let file = first.file("checkpoint", &checkpoint);
    for position in ["1", "256", "257", "12345", "28044"] {
        let proof = on(&redis, &["prove", position]).with(0).out;
        assert_eq!(first.run(["prove", position, "--checkpoint", &file]).with(0).out, proof);
        offline(&["check", &first.file("proof", &proof), "--checkpoint", &file])
            .with(0)
            .prints(&[&format!("this is event {position} of the 28,044 events"), "not signed"]);
    }
    for url in [&first.url(), &redis, &last.url()] {
        on(url, &["verify", "--against", &file]).with(0).prints(&["unchanged: events 1 to 28,044"]);
    }
}

#[test]
fn a_store_that_is_open_keeps_its_tree_by_itself_unless_it_is_told_not_to() {
    let server = RedisServer::start();
    let (kept, none) = (Store::new(), Store::new());
    for url in [kept.url(), format!("{}?prefix=k", server.url())] {
        let store = open(&url);
        (0..300).for_each(|number| {
            register(&store, number).unwrap();
        });
        eventually("the tree is kept", || store.kept_tree().unwrap().chunks.len() == 1);
    }
    let url = none.url().parse().unwrap();
    let store = TaskStore::open_with(&url, OpenOptions { keep_tree: false, ..OpenOptions::default() }).unwrap();
    (0..300).for_each(|number| {
        register(&store, number).unwrap();
    });
    drop(store);
    let store = TaskStore::open_with(&url, OpenOptions { keep_tree: false, ..OpenOptions::default() }).unwrap();
    assert_eq!(store.kept_tree().unwrap().at, None);
    // Whoever only reads keeps nothing, and gets the same root.
    drop(store);
    none.run(["checkpoint"]).with(0);
    let reading = TaskStore::open_with(&url, OpenOptions { access: tasklog::Access::Read, ..OpenOptions::default() });
    assert_eq!(reading.unwrap().kept_tree().unwrap().at, None);
}

#[test]
fn an_empty_log_has_a_checkpoint_and_every_later_one_is_consistent_with_it() {
    let store = Store::new();
    drop(open(&store.url()));
    let empty = store.checkpoint("empty");
    assert!(fs::read_to_string(&empty).unwrap().contains("\n0\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n"));
    store.run(["verify", "--against", &empty]).with(0);
    store.run(["prove", "1"]).with(1).says(&["not_found: event 1: the tree has events 1 to 0"]);
    store.apply(&[task(1)]).with(0);
    let one = store.checkpoint("one");
    let proof = store.file("proof", &store.run(["prove", "--consistency", &empty]).with(0).out);
    offline(&["check", &proof, "--checkpoint", &one]).with(0);
}

// ---- history that was changed

/// The sealed event at a position gets a checksum that fits again.
fn reseal(conn: &Connection, position: i64) {
    let log = SqliteLog::new(conn, Arc::new(SystemClock));
    let commit = log.read(Position(position.cast_unsigned()).before(), 1).unwrap().swap_remove(0);
    let event = commit.events.iter().find(|event| event.position.to_i64() == position).unwrap();
    let right = checksum(&commit.meta, commit.recorded_at, event);
    conn.execute("UPDATE events SET checksum = ?1 WHERE position = ?2", (right, position)).unwrap();
}

fn last(conn: &Connection) -> i64 {
    conn.query_row("SELECT max(position) FROM events", [], |row| row.get(0)).unwrap()
}

fn set_heads(conn: &Connection) {
    conn.execute_batch(
        "UPDATE _heads SET (position, commit_id, recorded_at) =
           (SELECT position, commit_id, recorded_at FROM events ORDER BY position DESC LIMIT 1) WHERE name IN ('log', 'tables')",
    )
    .unwrap();
}

type Change = fn(&Connection);

/// Ways to change event 300, or what stands around it, so that the log is dense, sealed and linked afterwards.
const CHANGES: [(&str, Change); 5] = [
    ("edited", |conn| {
        conn.execute_batch("UPDATE events SET actor = 'b' WHERE position = 300").unwrap();
        reseal(conn, 300);
    }),
    ("deleted", |conn| {
        conn.execute_batch("DELETE FROM events WHERE position = 300").unwrap();
        for position in 301..=last(conn) {
            conn.execute("UPDATE events SET position = position - 1 WHERE position = ?1", [position]).unwrap();
            reseal(conn, position - 1);
        }
        set_heads(conn);
    }),
    ("inserted", |conn| {
        for position in (300..=last(conn)).rev() {
            conn.execute("UPDATE events SET position = position + 1 WHERE position = ?1", [position]).unwrap();
            reseal(conn, position + 1);
        }
        conn.execute_batch(
            "INSERT INTO events SELECT 300, randomblob(16), recorded_at, actor, reason, request_id, table_name, 'new', type,
               type_version, prev, payload, checksum FROM events WHERE position = 299",
        )
        .unwrap();
        reseal(conn, 300);
        set_heads(conn);
    }),
    ("swapped", |conn| {
        conn.execute_batch(
            "UPDATE events SET position = 0 WHERE position = 300;
             UPDATE events SET position = 300 WHERE position = 301;
             UPDATE events SET position = 301 WHERE position = 0;",
        )
        .unwrap();
        reseal(conn, 300);
        reseal(conn, 301);
    }),
    ("truncated", |conn| {
        conn.execute_batch("DELETE FROM events WHERE position >= 300").unwrap();
        set_heads(conn);
    }),
];

#[test]
fn history_that_was_changed_with_fitting_checksums_is_noticed() {
    let store = kept();
    let checkpoint = store.checkpoint("checkpoint");
    store.apply(&(EVENTS..EVENTS + 9).map(task).collect::<Vec<_>>()).with(0);
    for (how, change) in CHANGES {
        let changed = store.copy();
        change(&changed.shell());
        let against = changed.run(["verify", "--against", &checkpoint]).with(1);
        let told = if how == "truncated" {
            "the checkpoint covers 600 events, the log ends at event 299: events 300 to 600 were lost or cut off"
        } else {
            "the first events that are not what they were are among 257 to 512, by the kept tree"
        };
        assert!(against.out.contains(told), "{how}: {}", against.out);
        // The tree alone notices it, too, as long as nobody has kept it anew.
        let verified = changed.run(["verify"]).with(1);
        let told = if how == "truncated" { "events 300 to " } else { "events 257 to 512: at least one of them" };
        assert!(verified.out.contains(told), "{how}: {}", verified.out);
        // Without the hashes that were kept before, nothing is proved any more.
        let forgotten = changed.copy();
        forgotten.by_hand("DROP TABLE _tree");
        forgotten.run(["verify", "--against", &checkpoint]).with(1);
        forgotten.run(["prove", "--consistency", &checkpoint]).with(1);
        forgotten.run(["prove", "5", "--checkpoint", &checkpoint]).with(1);
    }
    store.run(["verify", "--against", &checkpoint]).with(0);
}

#[test]
fn an_edit_behind_the_last_chunk_is_noticed_and_looked_for_there() {
    let store = kept();
    let checkpoint = store.checkpoint("checkpoint");
    let shell = store.shell();
    shell.execute_batch("UPDATE events SET reason = 'because' WHERE position = 590").unwrap();
    reseal(&shell, 590);
    drop(shell);
    store.run(["verify", "--against", &checkpoint]).with(1).prints(&["look at events 513 to 600"]);
}

#[test]
fn an_event_that_is_missing_or_damaged_is_named() {
    let store = kept();
    let checkpoint = store.checkpoint("checkpoint");
    let gap = store.copy();
    gap.by_hand("DELETE FROM events WHERE position = 300");
    gap.run(["verify", "--against", &checkpoint]).with(1).prints(&["event 300: missing from the log"]);
    let damaged = store.copy();
    damaged.by_hand("UPDATE events SET commit_id = x'00' WHERE position = 300");
    damaged.run(["verify", "--against", &checkpoint]).with(1).prints(&["event 300: column commit_id"]);
}

#[test]
fn an_edited_event_cannot_be_proved() {
    let store = kept();
    let checkpoint = store.checkpoint("checkpoint");
    CHANGES[0].1(&store.shell());
    store
        .run(["prove", "300", "--checkpoint", &checkpoint])
        .with(3)
        .says(&["corrupt: event 300: it is not what it was when the Merkle tree was kept"]);
    store.run(["prove", "10", "--checkpoint", &checkpoint]).with(0);
}

#[test]
fn a_restored_older_log_is_noticed_and_its_tree_starts_over_where_both_agree() {
    let store = kept();
    let backup = store.copy();
    store.apply(&(EVENTS..2 * EVENTS).map(task).collect::<Vec<_>>()).with(0);
    open(&store.url()).keep_tree().unwrap();
    let checkpoint = store.checkpoint("checkpoint");
    // The log goes on after the backup was restored, with the tree of the time before.
    let tree = store.folder.path().join("tree.db");
    fs::copy(store.path(), &tree).unwrap();
    backup.by_hand(&format!(
        "ATTACH '{}' AS old; DELETE FROM _tree; INSERT INTO _tree SELECT * FROM old._tree;
         DELETE FROM _heads WHERE name = 'tree'; INSERT INTO _heads SELECT * FROM old._heads WHERE name = 'tree';",
        tree.display()
    ));
    backup.run(["verify", "--against", &checkpoint]).with(1).prints(&["the log ends at event 600"]);
    backup.apply(&(EVENTS..2 * EVENTS).map(task).collect::<Vec<_>>()).with(0);
    open(&backup.url()).keep_tree().unwrap();
    backup.run(["verify", "--against", &checkpoint]).with(1).prints(&["the root of the first 1200 events is"]);
    backup.run(["prove", "--consistency", &checkpoint]).with(1).prints(&["run tasklog verify --against it"]);
    assert_eq!(backup.run(["verify", "--json"]).with(0).json()[0]["chunks"], 4);
}

#[test]
fn what_was_trimmed_is_taken_from_the_kept_hashes_and_said_so() {
    let server = RedisServer::start();
    let store = kept();
    let url = format!("{}?prefix=t", server.url());
    run(
        {
            let mut copy = tasklog();
            copy.args(["copy", "--from", &store.url(), "--to", &url]);
            copy
        },
        b"",
    )
    .with(0);
    open(&url).keep_tree().unwrap();
    let checkpoint = store.checkpoint("checkpoint");
    let proof = store.run(["prove", "400", "--checkpoint", &checkpoint]).with(0).out;
    server.run::<i64>(&["XTRIM", "t:log", "MINID", "301-0"]);
    let verified = on(&url, &["verify", "--against", &checkpoint]).with(0);
    verified.prints(&[
        "unchanged: events 1 to 600",
        "events 1 to 512 are not all in the log: the hashes that were kept stand for them",
    ]);
    assert_eq!(on(&url, &["checkpoint"]).with(0).out, fs::read_to_string(&checkpoint).unwrap());
    // What is not there any more cannot be proved; nor what stands beside it, whose siblings are not kept.
    on(&url, &["prove", "10"]).with(3).says(&["missing from the log"]);
    assert_eq!(store.run(["prove", "400"]).with(0).out, proof);
    on(&url, &["prove", "590"]).with(0);
    server.run::<()>(&["DEL", "t:_tree"]);
    on(&url, &["verify", "--against", &checkpoint])
        .with(1)
        .prints(&["events 1 to 300 are not in the log any more and the hashes of their chunks are not kept"]);
}

// ---- proofs, checkpoints and signatures that were changed

type Forgery = fn(&mut Value);

#[test]
fn a_forged_proof_is_refused_with_a_reason() {
    let store = kept();
    let checkpoint = store.checkpoint("checkpoint");
    let text = store.run(["prove", "300", "--checkpoint", &checkpoint]).with(0).out;
    let proof: Value = serde_json::from_str(&text).unwrap();
    let check =
        |proof: &Value| offline(&["check", &store.file("forged", &proof.to_string()), "--checkpoint", &checkpoint]);
    check(&proof).with(0);
    let forgeries: [(&str, Forgery); 9] = [
        ("the proof leads to the root", |proof| proof["event"]["payload"] = json!("gA==")),
        ("the proof leads to the root", |proof| proof["event"]["key"] = json!("t1")),
        ("the proof leads to the root", |proof| proof["event"]["recorded_at"] = json!(5)),
        ("the proof leads to the root", |proof| proof["event"]["position"] = json!(301)),
        ("the proof leads to the root", |proof| proof["hashes"][0] = proof["hashes"][1].clone()),
        ("wrong number of hashes", |proof| {
            proof["hashes"].as_array_mut().unwrap().pop();
        }),
        ("a tree of 600 leaves has no leaf 600", |proof| proof["event"]["position"] = json!(601)),
        ("the proof is for the tree of 599 events", |proof| proof["size"] = json!(599)),
        ("the proof is about tasklog/x", |proof| proof["origin"] = json!("tasklog/x")),
    ];
    for (why, forge) in forgeries {
        let mut forged = proof.clone();
        forge(&mut forged);
        check(&forged).with(1).prints(&["✗ ", why]);
    }
    let refused =
        offline(&["check", "--json", &store.file("forged", &text.replace("300", "301")), "--checkpoint", &checkpoint]);
    assert_eq!(refused.with(1).json()[0]["ok"], false);
    // A file that is no proof at all is wrong usage.
    for (text, why) in [
        ("", "no proof file"),
        ("{}", "missing field `tasklog_proof`"),
        (r#"{"tasklog_proof":2}"#, "a proof file of version 2: this program knows 1"),
        (&text.replace("\"hashes\": [", "\"hashes\": [\"AAAA\","), "field hashes"),
        (&text.replace("inclusion", "delusion"), "unknown variant"),
    ] {
        offline(&["check", &store.file("none", text), "--checkpoint", &checkpoint]).with(2).says(&[why]);
    }
    offline(&["check", "/no/such/file", "--checkpoint", &checkpoint]).with(2).says(&["reading /no/such/file"]);
}

#[test]
fn signatures_say_who_vouches_for_a_checkpoint() {
    let store = Store::with(&[task(1), task(2)]);
    let key_file = store.folder.path().join("key").display().to_string();
    let verifier = offline(&["keygen", "--name", "ops.example.com", "--out", &key_file]).with(0).out.trim().to_owned();
    assert_eq!(fs::metadata(&key_file).unwrap().permissions().mode() & 0o777, 0o600);
    let secret = fs::read_to_string(&key_file).unwrap();
    // One that is there is never replaced.
    offline(&["keygen", "--name", "ops.example.com", "--out", &key_file]).with(3).says(&["File exists"]);
    assert_eq!(fs::read_to_string(&key_file).unwrap(), secret);
    offline(&["keygen", "--name", "two words", "--out", "/no/such/file"]).with(1).says(&["neither spaces nor +"]);

    let signed = store.run(["checkpoint", "--sign", &key_file]).with(0).out;
    let file = store.file("signed", &signed);
    let proof = store.file("proof", &store.run(["prove", "1", "--checkpoint", &file]).with(0).out);
    let by_key = |checkpoint: &str, key: &str| offline(&["check", &proof, "--checkpoint", checkpoint, "--key", key]);
    by_key(&file, &verifier).with(0).prints(&["signed by ops.example.com (key hash"]);
    offline(&["check", &proof, "--checkpoint", &file])
        .with(0)
        .prints(&["signature of ops.example.com not checked: no --key"]);
    store.run(["verify", "--against", &file, "--key", &verifier]).with(0).prints(&["signed by ops.example.com"]);

    let other = store.folder.path().join("other").display().to_string();
    let stranger = offline(&["keygen", "--name", "stranger", "--out", &other]).with(0).out.trim().to_owned();
    by_key(&file, &stranger).with(1).prints(&["no signature of stranger", "it is signed by ops.example.com"]);
    let unsigned = store.checkpoint("unsigned");
    by_key(&unsigned, &verifier).with(1).prints(&["no signature of ops.example.com", "it is not signed"]);
    let raised = store.file("raised", &signed.replace("epoch 1", "epoch 2"));
    by_key(&raised, &verifier).with(1).prints(&["the signature of ops.example.com is wrong"]);
    store.run(["verify", "--against", &raised, "--key", &verifier]).with(1);

    // Malformed files and keys are wrong usage.
    by_key(&file, "ops").with(2).says(&["expected <name>+<8 hex digits>+<base64>"]);
    by_key(&store.file("none", "hello\n"), &verifier).with(2).says(&["line 2: expected the tree's size"]);
    store.run(["checkpoint", "--sign", &file]).with(2).says(&["expected PRIVATE+KEY+"]);
    store.run(["prove"]).with(2);
    store.run(["prove", "1", "--consistency", &file]).with(2);
}

#[test]
fn an_older_checkpoint_is_proved_to_be_the_beginning_of_a_newer_one() {
    let store = Store::with(&(0..300).map(task).collect::<Vec<_>>());
    let older = store.checkpoint("older");
    store.apply(&(300..EVENTS).map(task).collect::<Vec<_>>()).with(0);
    let newer = store.checkpoint("newer");
    store.apply(&[task(EVENTS)]).with(0);
    let proof = store.folder.path().join("proof").display().to_string();
    store.run(["prove", "--consistency", &older, "--checkpoint", &newer, "--out", &proof]).with(0);
    let checked = offline(&["check", &proof, "--checkpoint", &newer]).with(0);
    checked.prints(&[
        "the first 300 of the 600 events are those of the older checkpoint, unchanged and in order",
        "older checkpoint: 300 events",
    ]);
    offline(&["check", &proof, "--checkpoint", &newer, "--older", &older]).with(0).prints(&["the one you gave"]);
    let json = offline(&["--json", "check", &proof, "--checkpoint", &newer]).with(0).json().remove(0);
    assert_eq!((&json["ok"], &json["older_size"], &json["size"]), (&json!(true), &json!(300), &json!(600)));

    // The older checkpoint that it embeds must be the one that somebody kept.
    offline(&["check", &proof, "--checkpoint", &newer, "--older", &newer])
        .with(1)
        .prints(&["another older checkpoint"]);
    offline(&["check", &proof, "--checkpoint", &store.checkpoint("now")]).with(1).prints(&["that of 601"]);
    let text = fs::read_to_string(&proof).unwrap();
    let root = fs::read_to_string(&older).unwrap().lines().nth(2).unwrap().to_owned();
    let other = fs::read_to_string(&newer).unwrap().lines().nth(2).unwrap().to_owned();
    let forged = store.file("forged", &text.replace(&root, &other));
    offline(&["check", &forged, "--checkpoint", &newer]).with(1).prints(&["root of the older tree"]);
    // Of another log nothing is proved.
    let elsewhere = Store::with(&(0..EVENTS).map(task).collect::<Vec<_>>());
    let foreign = elsewhere.checkpoint("foreign");
    offline(&["check", &proof, "--checkpoint", &foreign]).with(1).prints(&["the checkpoint about tasklog/"]);
    store.run(["verify", "--against", &foreign]).with(1).prints(&["the checkpoint is of tasklog/"]);
    store.run(["prove", "1", "--checkpoint", &foreign]).with(1).prints(&["the checkpoint is of tasklog/"]);
}

#[test]
fn a_checkpoint_hides_payloads_and_check_masks_what_is_sensitive() {
    let session = r#"{"command":"sessions.record_write","args":{"session_id":"very-secret-session","mtask_id":"t"}}"#;
    let store = Store::with(&[session]);
    let checkpoint = store.checkpoint("checkpoint");
    assert!(!fs::read_to_string(&checkpoint).unwrap().contains("secret"));
    let proof = store.run(["prove", "1"]).with(0).out;
    // The proof file has to have all of it.
    let of_event: PathBuf = store.file("proof", &proof).into();
    assert!(proof.contains("very-secret-session"));
    let check = |show: &[&str]| {
        offline(&[&["check", of_event.to_str().unwrap(), "--checkpoint", &checkpoint], show].concat()).with(0).out
    };
    let shown = check(&["--show-sensitive"]);
    assert!(shown.contains("very-secret-session"), "{shown}");
    let masked = check(&[]);
    assert!(masked.contains("***1") && !masked.contains("very-secret-session"), "{masked}");
}
