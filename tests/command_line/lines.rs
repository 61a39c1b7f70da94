//! Lines that look like commands: serde takes an array for a struct, the last of two equal keys of a map won silently, and
//! messages named places of the wrong text.

use serde_json::Value;

use crate::{
    register,
    support::program::{Store, run, tasklog},
};

#[test]
fn what_is_no_object_is_no_command() {
    let store = Store::new();
    for (line, told) in [
        (
            r#"["tasks.register",{"miroir_id":"p","node_tasks":{}},null,null,null,null,null,null,null]"#,
            "line 1: column 1: expected an object, found an array",
        ),
        ("  [1]", "line 1: column 3: expected an object, found an array"),
        ("null", "line 1: column 4: invalid type: null, expected an object"),
        ("7", "expected an object"),
        (
            r#"{"transact":[["tasks.register",{"node_tasks":{}}]]}"#,
            "command 1 of the transact: expected an object, found an array",
        ),
        (r#"{"transact":[{"command":"tasks.prune"},7]}"#, "command 2 of the transact"),
        (
            r#"{"command":"tasks.register","args":{"node_tasks":{}},"lease":["scope",1]}"#,
            "lease: expected an object, found an array",
        ),
        (r#"{"command":"tasks.register","args":[null,{}]}"#, "arguments: expected an object, found an array"),
    ] {
        let answer = store.apply(&[line]).with(1).json().remove(0);
        let message = answer["error"]["message"].as_str().unwrap();
        assert!(message.contains(told), "{line}: {message}");
    }
    assert_eq!(store.json(["log"]), [Value::Null; 0]);
}

#[test]
fn a_key_that_stands_twice_is_refused_wherever_it_stands() {
    let store = Store::new();
    let line = r#"{"command":"tasks.register","args":{"miroir_id":"m-1","node_tasks":{"a":1,"b":2,"a":3}}}"#;
    let answer = store.apply(&[line]).with(1).json().remove(0);
    let told = "line 1: tasks.register: arguments: duplicate key \"a\", at column 51 of the object";
    assert_eq!(answer["error"]["message"], told);
}

#[test]
fn a_place_in_a_message_says_what_it_is_counted_in() {
    let store = Store::new();
    let wrong = r#"{"command":"tasks.register","args":{"miroir_id":7,"node_tasks":{}}}"#;
    let ended = store.apply(&[&*register("m-1"), "", wrong]).with(1);
    let told =
        "line 3: tasks.register: arguments: invalid type: integer `7`, expected a string, at column 14 of the object";
    assert_eq!(ended.json()[1]["error"]["message"], told);
}

#[test]
fn an_input_without_a_byte_ends() {
    let store = Store::new();
    store.apply_bytes(b"").with(0).says(&["0 commands read and answered"]);
}

#[test]
fn a_file_may_begin_with_a_byte_order_mark() {
    let store = Store::new();
    store.apply_bytes(format!("\u{feff}{}\r\n", register("m-1")).as_bytes()).with(0);
    // Anywhere else it is what it always was.
    let second = format!("{}\n\u{feff}{}\n", register("m-2"), register("m-3"));
    store.apply_bytes(second.as_bytes()).with(1);
    assert_eq!(store.json(["list", "tasks"]).len(), 2);
}

#[test]
fn an_empty_actor_is_none_and_the_nil_uuid_is_no_id() {
    let store = Store::new();
    let by_nobody = r#"{"command":"tasks.register","args":{"miroir_id":"m-1","node_tasks":{}},"actor":""}"#;
    store.apply(&[by_nobody]).with(0);
    assert_eq!(store.json(["log"])[0]["actor"], "tasklog");
    let nil =
        r#"{"command":"tasks.register","args":{"node_tasks":{}},"command_id":"00000000-0000-0000-0000-000000000000"}"#;
    let answer = store.apply(&[nil]).with(1).json().remove(0);
    assert_eq!(answer["error"]["message"], "line 1: command_id: the nil UUID is no id");
}

#[test]
fn an_input_file_that_cannot_be_read_is_wrong_usage_and_nothing_is_done() {
    let store = Store::with(&[register("m-1")]);
    let folder = store.folder.path().to_str().unwrap().to_owned();
    let (absent, fork) = (format!("{folder}/absent"), format!("sqlite:{folder}/fork.db"));
    for (verb, usage) in [
        (&["apply", &absent][..], "Usage: tasklog apply"),
        (&["apply", &folder], "Usage: tasklog apply"),
        (&["fork", "--into", &fork, "--apply", &absent], "Usage: tasklog fork"),
        (&["import", "log", &absent, "--into", &fork], "Usage: tasklog import"),
        (&["import", "meilisearch", &absent, "--node", "n"], "Usage: tasklog import"),
    ] {
        store.run(verb).with(2).says(&["reading ", usage]);
        assert!(!store.folder.path().join("fork.db").exists());
    }
    let mut serve = tasklog();
    serve.args(["--store", "memory:", "serve", "--listen", "127.0.0.1:0", "--token-file", &absent]);
    run(serve, b"").with(2).says(&["Usage: tasklog serve"]);
}
