//! Who may do what.

use std::{fs, path::Path};

use serde_json::json;

use crate::{
    service::{Answered, Service, register},
    support::program::run,
};

const WRITE: &str = "write-token-0123456789";
const READ: &str = "read-token-0123456789";
const SENSITIVE: &str = "sensitive-token-0123456789";

fn file(folder: &Path, name: &str, text: &str) -> String {
    let path = folder.join(name);
    fs::write(&path, text).unwrap();
    path.display().to_string()
}

fn get(service: &Service, token: &str, path: &str) -> Answered {
    service.get_with(path, &[("authorization", &format!("Bearer {token}"))])
}

fn post(service: &Service, token: &str, body: &str) -> Answered {
    let token = format!("Bearer {token}");
    service.post_with("/v1/commands", body, &[("content-type", "application/json"), ("authorization", &token)])
}

#[test]
fn each_token_does_what_it_may_and_no_more() {
    let folder = tempfile::tempdir().unwrap();
    let write = file(folder.path(), "write", &format!("{WRITE}\n\nanother-{WRITE}\n"));
    let read = file(folder.path(), "read", READ);
    let sensitive = file(folder.path(), "sensitive", SENSITIVE);
    let args = ["--token-file", &write, "--read-token-file", &read, "--sensitive-token-file", &sensitive];
    let service = Service::new(&args);
    for (given, why) in [(None, "send a token"), (Some("Bearer x"), "not known"), (Some("Basic eA=="), "expected")] {
        let headers: Vec<_> = given.iter().map(|given| ("authorization", *given)).collect();
        let refused = service.get_with("/v1/info", &headers);
        assert_eq!(refused.header("www-authenticate"), Some("Bearer realm=\"tasklog\""));
        let detail = refused.problem(401, "unauthorized");
        assert!(detail.contains(why), "{detail}");
    }
    service.post("/v1/commands", &register("t1")).problem(401, "unauthorized");
    let open = json!({ "command": "admin_sessions.open",
        "args": { "session_id": "the-session", "admin_key_hash": "a".repeat(64) } });
    post(&service, READ, &register("t1")).problem(403, "not_permitted");
    post(&service, WRITE, &open.to_string()).with(200);
    post(&service, &format!("another-{WRITE}"), &register("t1")).with(200);
    post(&service, SENSITIVE, &register("t2")).with(200);
    for token in [READ, WRITE, SENSITIVE] {
        let page = get(&service, token, "/v1/tables/admin_sessions").with(200);
        assert_eq!(page.text.contains("the-session"), token == SENSITIVE, "{page:?}");
        get(&service, token, "/v1/events").with(200);
        let lower = format!("bearer {token}");
        service.get_with("/v1/info", &[("authorization", &lower)]).with(200);
    }
    // Probes have no token.
    service.get("/healthz").with(200);
    service.get("/readyz").with(200);
    for secret in [WRITE, READ, SENSITIVE] {
        assert!(!service.log().contains(secret));
    }
}

#[test]
fn tokens_are_changed_while_the_service_runs() {
    let folder = tempfile::tempdir().unwrap();
    let (old, new) = ("old-token-0123456789", "new-token-0123456789");
    let path = file(folder.path(), "tokens", old);
    let service = Service::new(&["--token-file", &path]);
    get(&service, new, "/v1/info").problem(401, "unauthorized");
    file(folder.path(), "tokens", &format!("{new}\n{old}\n"));
    service.signal("-HUP");
    service.logs("read the tokens anew");
    get(&service, old, "/v1/info").with(200);
    get(&service, new, "/v1/info").with(200);
    // What is no file of tokens changes nothing.
    file(folder.path(), "tokens", "short\n");
    service.signal("-HUP");
    let line = service.logs("those that held go on holding");
    assert!(line.contains("line 1") && !line.contains("short"), "{line}");
    get(&service, new, "/v1/info").with(200);
}

#[test]
fn a_token_of_the_environment_holds_as_well() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}", folder.path().join("t.db").display());
    let mut command = Service::command(&url, &[]);
    command.env("TASKLOG_TOKEN", WRITE).env("TASKLOG_READ_TOKEN", READ);
    let service = Service::spawn(command);
    service.get("/v1/info").problem(401, "unauthorized");
    post(&service, WRITE, &register("t1")).with(200);
    post(&service, READ, &register("t1")).problem(403, "not_permitted");
    get(&service, READ, "/v1/tables/tasks/t1").with(200);
}

#[test]
fn nobody_listens_beyond_the_loopback_interface_without_a_token() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}", folder.path().join("t.db").display());
    let refused = |args: &[&str]| run(Service::command(&url, args), b"").with(2);
    for place in ["0.0.0.0:0", "[::]:0"] {
        refused(&["--listen", place]).says(&["--token-file"]);
    }
    assert!(!folder.path().join("t.db").exists());
    let empty = file(folder.path(), "empty", "\n\n");
    refused(&["--listen", "0.0.0.0:0", "--token-file", &empty]).says(&["has no token"]);
    let short = file(folder.path(), "short", "abc");
    let told = refused(&["--token-file", &short]).says(&["line 1", "16 to 4096"]);
    assert!(!told.err.contains("abc"));
    refused(&["--token-file", "/nowhere/tokens"]).says(&["/nowhere/tokens"]);
    let tokens = file(folder.path(), "tokens", WRITE);
    let service = Service::of(&url, &["--listen", "0.0.0.0:0", "--token-file", &tokens]);
    service.logs("unencrypted");
}
