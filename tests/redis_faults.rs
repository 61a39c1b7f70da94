//! What a store in Redis does when the server, the network, the memory or other keys do not do what they should: it says
//! so, it never writes half a commit, it loses nothing that it had acknowledged, and it goes on when it can.
#![allow(clippy::unwrap_used, missing_docs)]
#![cfg(unix)]

mod support;

use std::{
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use support::registry::{eventually, json, on, open, register, unavailable};
use tasklog::{
    Error, StoreUrl, TaskStore,
    command::CommandOptions,
    log::{CommitId, Position, StoreErrorKind},
    tables::{aliases, tasks},
};
use tasklog_testing::{Cut, CuttingProxy, RedisCluster, RedisServer, SwitchProxy};

/// Callers that write at the same time.
const CALLERS: usize = 6;
/// Callers that wait for a server that stands still.
const STANDING: u32 = 200;

fn impatient(port: u16) -> String {
    format!("redis://127.0.0.1:{port}/0?timeout_ms=400&connect_timeout_ms=400")
}

fn flip(store: &TaskStore, name: &str) -> Result<(), Error> {
    let create = aliases::Create { name: name.into(), target: "products".into(), target_verified: Some(true) };
    store.run_blocking(create, CommandOptions::default()).map(drop)
}

/// Lets several callers register tasks under `name` while `happen` does something to them; answers the ids that were acknowledged, and
/// how many calls failed.
fn under_load(name: &str, store: &TaskStore, happen: impl FnOnce()) -> (Vec<String>, usize) {
    let (stop, acknowledged, failed) = (AtomicBool::new(false), Mutex::new(Vec::new()), Mutex::new(0));
    thread::scope(|scope| {
        for caller in 0..CALLERS {
            let (stop, acknowledged, failed) = (&stop, &acknowledged, &failed);
            scope.spawn(move || {
                for at in 0.. {
                    if stop.load(Ordering::Acquire) {
                        return;
                    }
                    let id = format!("{name}-{caller}-{at}");
                    match register(store, &id) {
                        Ok(_) => acknowledged.lock().unwrap().push(id),
                        Err(Error::Store(error)) => {
                            assert_eq!(error.kind(), StoreErrorKind::Unavailable, "{}", error.full());
                            *failed.lock().unwrap() += 1;
                            thread::sleep(Duration::from_millis(5));
                        }
                        Err(rejected) => panic!("{rejected}"),
                    }
                }
            });
        }
        eventually("some are written", || acknowledged.lock().unwrap().len() > 50);
        happen();
        let before = acknowledged.lock().unwrap().len();
        eventually("it goes on", || acknowledged.lock().unwrap().len() > before + 50);
        stop.store(true, Ordering::Release);
    });
    (acknowledged.into_inner().unwrap(), failed.into_inner().unwrap())
}

/// Every acknowledged task is there once, and log and tables are whole.
#[track_caller]
fn assert_whole(url: &str, acknowledged: &[String]) {
    let there: Vec<String> = json(url, &["list", "tasks", "--limit", "1000000"])
        .iter()
        .map(|row| row["miroir_id"].as_str().unwrap().to_owned())
        .collect();
    let missing: Vec<_> = acknowledged.iter().filter(|id| !there.contains(id)).collect();
    assert!(missing.is_empty(), "acknowledged and lost: {missing:?}");
    // One event each: nothing was done twice.
    assert_eq!(json(url, &["info"])[0]["head"].as_u64().unwrap(), there.len() as u64);
    on(url, &["verify"]).with(0);
}

#[test]
fn a_server_that_is_killed_in_the_middle_of_load_loses_nothing_that_was_acknowledged() {
    let mut server = RedisServer::durable();
    let url = server.url();
    let store = open(&url);
    let mut all = Vec::new();
    for round in 0..3 {
        let (acknowledged, _) = under_load(&format!("round-{round}"), &store, || {
            server.kill();
            thread::sleep(Duration::from_millis(50));
            server.restart();
        });
        all.extend(acknowledged);
    }
    assert_whole(&url, &all);
}

#[test]
fn a_server_that_stands_still_makes_commands_unavailable_and_then_goes_on() {
    let server = RedisServer::start();
    let (proxy, url) = (CuttingProxy::start(server.port()), impatient(server.port()));
    let store = open(&impatient(proxy.port()));
    register(&store, "before").unwrap();
    server.pause();
    let before = proxy.connections();
    let said: Vec<String> = thread::scope(|scope| {
        let callers: Vec<_> = (0..STANDING)
            .map(|at| {
                let store = &store;
                scope.spawn(move || unavailable(register(store, at)))
            })
            .collect();
        callers.into_iter().map(|caller| caller.join().unwrap()).collect()
    });
    // Not one timeout each, one after another: after a timeout the connection is replaced.
    let attempts = proxy.connections() - before;
    assert!(attempts < STANDING as usize / 2, "{attempts} attempts for {STANDING} callers");
    assert!(said.iter().any(|text| text.contains("no answer in time") || text.contains("not known")), "{said:?}");
    server.resume();
    eventually("it goes on", || register(&store, "after").is_ok());
    // What was sent before it stood still may have been carried out; it is there once or not at all.
    on(&url, &["verify"]).with(0);
    let head = json(&url, &["info"])[0]["head"].as_u64().unwrap();
    assert_eq!(json(&url, &["list", "tasks", "--limit", "1000"]).len() as u64, head);
}

#[test]
fn connections_that_are_killed_under_load_lose_and_repeat_nothing() {
    let server = RedisServer::start();
    let store = open(&server.url());
    let (acknowledged, _) = under_load("task", &store, || {
        for _ in 0..20 {
            server.run::<i64>(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]);
            thread::sleep(Duration::from_millis(10));
        }
    });
    assert_whole(&server.url(), &acknowledged);
}

#[test]
fn a_network_that_cuts_and_delays_loses_and_repeats_nothing() {
    let server = RedisServer::start();
    let proxy = CuttingProxy::start(server.port());
    let store = open(&format!("redis://127.0.0.1:{}/0", proxy.port()));
    let (mut acknowledged, _) = under_load("task", &store, || {
        for cut in [Cut::Answer, Cut::Request, Cut::Answer, Cut::Request, Cut::Answer] {
            proxy.cut(cut, b"EVALSHA", 2);
            thread::sleep(Duration::from_millis(40));
        }
    });
    assert_whole(&server.url(), &acknowledged);

    let slow = SwitchProxy::start(server.port());
    let store = open(&format!("redis://127.0.0.1:{}/0?timeout_ms=500", slow.port()));
    let (more, _) = under_load("slow", &store, || {
        slow.delay(Duration::from_millis(60));
        thread::sleep(Duration::from_millis(300));
        slow.cut_all();
        thread::sleep(Duration::from_millis(300));
        slow.delay(Duration::ZERO);
    });
    acknowledged.extend(more);
    assert_whole(&server.url(), &acknowledged);
}

#[test]
fn an_outcome_is_looked_up_again_when_the_look_up_is_cut_too() {
    // The look-up used to give up at its second lost answer, and a command that had been carried out was called
    // unavailable.
    let server = RedisServer::start();
    let proxy = CuttingProxy::start(server.port());
    let store = open(&format!("redis://127.0.0.1:{}/0", proxy.port()));
    for at in 0..5 {
        register(&store, format!("before-{at}")).unwrap();
        // The commit, and what the look-up reads of the head.
        proxy.cut(Cut::Answer, b"miroir:_head", 4);
        let position = register(&store, format!("cut-{at}")).unwrap();
        assert_eq!(position.0, 2 * at + 2);
        proxy.cut(Cut::Answer, b"no request has this", 0);
    }
    on(&server.url(), &["verify"]).with(0);
}

#[test]
fn a_full_server_refuses_cleanly_and_goes_on_when_memory_returns() {
    let server = RedisServer::start();
    let store = open(&server.url());
    register(&store, "before").unwrap();
    server.run::<()>(&["CONFIG", "SET", "maxmemory", "1mb"]);
    let said = unavailable(register(&store, "full"));
    assert!(said.contains("maxmemory is reached and nothing was written"), "{said}");
    assert!(server.run::<Option<String>>(&["HGET", "miroir:tasks:full", "_rev"]).is_none());
    assert_eq!(server.run::<u64>(&["XLEN", "miroir:log"]), 1);
    server.run::<()>(&["CONFIG", "SET", "maxmemory", "0"]);
    eventually("it goes on", || register(&store, "full").is_ok());
    on(&server.url(), &["verify"]).with(0);
}

#[test]
fn a_server_that_may_evict_the_log_is_refused_with_how_to_set_it_right() {
    let server = RedisServer::start_with(&[("maxmemory-policy", "allkeys-lru")]);
    on(&server.url(), &["info"])
        .with(3)
        .says(&["maxmemory-policy is allkeys-lru", "CONFIG SET maxmemory-policy noeviction"]);
    server.run::<()>(&["CONFIG", "SET", "maxmemory-policy", "noeviction"]);
    register(&open(&server.url()), "a").unwrap();
}

#[test]
fn persistence_that_is_off_is_said_loudly() {
    let server = RedisServer::start();
    let mut apply = support::program::tasklog();
    apply.args(["--store", &server.url(), "apply"]);
    let line = br#"{"command":"tasks.register","args":{"node_tasks":{"n1":7}}}"#;
    support::program::run(apply, line).with(0).says(&["PERSISTENCE IS OFF"]);
    let durability = json(&server.url(), &["info"])[0]["durability"].to_string();
    assert!(durability.contains("PERSISTENCE IS OFF"), "{durability}");
    let durable = RedisServer::durable();
    register(&open(&durable.url()), "a").unwrap();
    let durability = json(&durable.url(), &["info"])[0]["durability"].to_string();
    assert!(durability.contains("on the server's disk"), "{durability}");
}

#[test]
fn a_foreign_key_in_the_way_refuses_only_what_needs_its_name() {
    let server = RedisServer::start();
    let store = open(&server.url());
    for (key, id) in [("miroir:tasks:mine", "mine"), ("miroir:aliases:_index", "")] {
        server.run::<()>(&["SET", key, "somebody else's"]);
        let refused = if id.is_empty() { flip(&store, "products-live") } else { register(&store, id).map(drop) };
        let error = refused.unwrap_err();
        assert_eq!(error.kind(), "corrupt");
        assert!(error.to_string().contains(key), "{error}");
        register(&store, format!("other-than-{key}")).unwrap();
        assert_eq!(server.run::<String>(&["GET", key]), "somebody else's");
        server.run::<()>(&["DEL", key]);
    }
    register(&store, "mine").unwrap();
    flip(&store, "products-live").unwrap();
    on(&server.url(), &["verify"]).with(0);
    // In the way of the log itself: nothing can be done, and nothing is.
    server.run::<()>(&["RENAME", "miroir:log", "kept"]);
    server.run::<()>(&["SET", "miroir:log", "somebody else's"]);
    let error = register(&store, "never").unwrap_err();
    assert!(error.to_string().contains("miroir:log") || error.to_string().contains("WRONGTYPE"), "{error}");
    server.run::<()>(&["DEL", "miroir:log"]);
    let error = register(&store, "never").unwrap_err();
    assert!(error.to_string().contains("miroir:log is missing"), "{error}");
    server.run::<()>(&["RENAME", "kept", "miroir:log"]);
    eventually("it goes on", || register(&store, "again").is_ok());
    on(&server.url(), &["verify"]).with(0);
}

#[test]
fn flushed_scripts_cost_nothing_and_a_script_that_does_not_end_is_waited_for_with_an_error() {
    let server = RedisServer::start();
    let store = open(&server.url());
    let (acknowledged, failed) = under_load("task", &store, || {
        for _ in 0..20 {
            server.run::<()>(&["SCRIPT", "FLUSH"]);
            thread::sleep(Duration::from_millis(5));
        }
    });
    assert_whole(&server.url(), &acknowledged);
    assert!(failed <= 20, "{failed}");

    // Somebody else's script that does not end keeps everybody waiting, until it is killed.
    server.run::<()>(&["CONFIG", "SET", "busy-reply-threshold", "50"]);
    let store = open(&impatient(server.port()));
    let mut other = server.connect();
    let endless = thread::spawn(move || {
        redis::cmd("EVAL").arg("while true do end").arg(0).query::<()>(&mut other).unwrap_err().to_string()
    });
    let mut said = String::new();
    eventually("it is busy", || match register(&store, "while busy") {
        Ok(_) => false,
        Err(error) => {
            said = unavailable::<()>(Err(error));
            true
        }
    });
    assert!(said.contains("busy with somebody's script") || said.contains("no answer in time"), "{said}");
    server.run::<()>(&["SCRIPT", "KILL"]);
    assert!(endless.join().unwrap().contains("killed"));
    eventually("it goes on", || register(&store, "afterwards").is_ok());
    on(&server.url(), &["verify"]).with(0);
}

#[test]
fn durability_levels_say_when_they_were_not_reached() {
    let server = RedisServer::start();
    let replicated = format!("{}?durability=replicated:1&timeout_ms=1000", server.url());
    let store = open(&replicated);
    match register(&store, "alone") {
        Err(Error::Store(error)) => {
            assert_eq!(error.kind(), StoreErrorKind::NotConfirmed);
            assert!(error.to_string().contains("committed through position 1, but 0 of 1 replicas"), "{error}");
        }
        other => panic!("{other:?}"),
    }
    // It is committed all the same, and said so.
    assert_eq!(json(&server.url(), &["list", "tasks"]).len(), 1);
    let _replica = RedisServer::replica_of(&server);
    let patient = open(&format!("{}?durability=replicated:1&timeout_ms=60000", server.url()));
    register(&patient, "together").unwrap();

    on(&format!("{}?durability=fsynced", server.url()), &["epoch", "--accept"])
        .with(3)
        .says(&["durability fsynced", "always"]);
    let everysec = RedisServer::start_with(&[("appendonly", "yes"), ("appendfsync", "everysec")]);
    let url = format!("{}?durability=fsynced", everysec.url());
    on(&url, &["epoch", "--accept"]).with(3).says(&["appendfsync is everysec", "expected yes and always"]);
    let durable = RedisServer::durable();
    register(&open(&format!("{}?durability=fsynced", durable.url())), "a").unwrap();
}

/// A repeat was told the first outcome as an ordinary success, although no replica had it yet.
#[test]
fn a_repeat_of_what_was_not_confirmed_is_confirmed_or_says_so() {
    let server = RedisServer::start();
    let url = |timeout_ms: u64| format!("{}?durability=replicated:1&timeout_ms={timeout_ms}", server.url());
    let register = tasks::Register { miroir_id: Some("t".into()), ..Default::default() };
    let options = CommandOptions { command_id: Some(CommitId::mint()), ..CommandOptions::default() };
    let store = open(&url(200));
    for _ in 0..3 {
        match store.run_blocking(register.clone(), options.clone()) {
            Err(Error::Store(error)) => assert_eq!(error.kind(), StoreErrorKind::NotConfirmed),
            other => panic!("{other:?}"),
        }
    }
    let _replica = RedisServer::replica_of(&server);
    let reply = open(&url(60_000)).run_blocking(register, options).unwrap();
    assert!(reply.repeated && reply.position == Position(1));
}

#[test]
fn two_registries_in_one_server_do_not_touch_each_other() {
    let server = RedisServer::start();
    let url = |prefix: &str| format!("{}?prefix={prefix}", server.url());
    let (one, two) = (open(&url("one")), open(&url("two")));
    for at in 0..10 {
        register(&one, at).unwrap();
    }
    register(&two, 3).unwrap();
    assert_eq!((one.head().unwrap().0, two.head().unwrap().0), (10, 1));
    assert_ne!(one.epoch().unwrap().head.log.id, two.epoch().unwrap().head.log.id);
    one.accept_epoch(None, None).unwrap();
    assert_eq!((one.epoch().unwrap().head.log.epoch, two.epoch().unwrap().head.log.epoch), (2, 1));
    for key in server.run::<Vec<String>>(&["KEYS", "*"]) {
        assert!(key.starts_with("one:") || key.starts_with("two:"), "{key}");
    }
    on(&url("one"), &["verify"]).with(0);
    on(&url("two"), &["verify"]).with(0);
}

#[test]
fn a_prefix_in_braces_works_on_a_cluster() {
    let cluster = RedisCluster::start();
    for prefix in ["{one}", "{two}", "{three}"] {
        let url = format!("redis://127.0.0.1:{}?prefix={prefix}", cluster.nodes()[0].port());
        let store = open(&url);
        register(&store, "a").unwrap();
        flip(&store, "products-live").unwrap();
        assert_eq!(json(&url, &["list", "tasks"])[0]["miroir_id"], "a");
        assert_eq!(json(&url, &["list", "aliases"])[0]["name"], "products-live");
        on(&url, &["verify"]).with(0);
    }
}

#[test]
fn passwords_are_shown_nowhere() {
    let server = RedisServer::start();
    server.run::<()>(&["ACL", "SETUSER", "app", "on", ">s3cr3t-word", "~*", "+@all"]);
    let url = format!("redis://app:s3cr3t-word@127.0.0.1:{}/0", server.port());
    let line = br#"{"command":"tasks.register","args":{"node_tasks":{"n1":7}}}"#;
    let mut apply = support::program::tasklog();
    apply.args(["apply"]).env("TASKLOG_STORE", &url).env("TASKLOG_LOG", "debug");
    let applied = support::program::run(apply, line).with(0);
    let info = on(&url, &["info"]).with(0);
    let as_json = on(&url, &["info", "--json"]).with(0);
    let refused = on(&url.replace("s3cr3t", "wr0ng"), &["info"]).with(3);
    let mut by_variable = support::program::tasklog();
    by_variable
        .args(["--store", &format!("redis://app@127.0.0.1:{}/0", server.port()), "info"])
        .env("TASKLOG_REDIS_PASSWORD", "s3cr3t-word");
    let by_variable = support::program::run(by_variable, b"").with(0);
    for ended in [&applied, &info, &as_json, &refused, &by_variable] {
        for text in [&ended.out, &ended.err] {
            assert!(!text.contains("s3cr3t") && !text.contains("wr0ng"), "{text}");
        }
    }
    refused.says(&["the login was refused"]);
    let parsed: StoreUrl = url.parse().unwrap();
    assert!(!format!("{parsed} {parsed:?}").contains("s3cr3t"));
    assert!(open(&url).epoch().is_ok());
}

fn openssl(folder: &std::path::Path, words: &str) {
    let mut command = std::process::Command::new("openssl");
    let ended = command.current_dir(folder).args(words.split(' ')).output().expect("openssl is installed");
    assert!(ended.status.success(), "openssl {words}");
}

#[test]
fn a_store_behind_tls_with_user_and_password_works_like_any_other() {
    let folder = tempfile::tempdir().unwrap();
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2";
    openssl(folder.path(), &format!("req -x509 {key} -keyout ca.key -out ca.pem -subj /CN=ca"));
    openssl(folder.path(), &format!("req {key} -keyout leaf.key -out leaf.csr -subj /CN=localhost"));
    std::fs::write(folder.path().join("names"), "subjectAltName=DNS:localhost,IP:127.0.0.1\n").unwrap();
    let sign = "x509 -req -in leaf.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile names -out leaf.pem";
    openssl(folder.path(), sign);
    let path = |name: &str| folder.path().join(name).display().to_string();
    let port = tasklog_testing::free_port();
    let server = RedisServer::start_with(&[
        ("tls-port", &port.to_string()),
        ("tls-cert-file", &path("leaf.pem")),
        ("tls-key-file", &path("leaf.key")),
        ("tls-ca-cert-file", &path("ca.pem")),
        ("tls-auth-clients", "no"),
    ]);
    server.run::<()>(&["ACL", "SETUSER", "app", "on", ">s3cr3t-word", "~*", "+@all"]);
    let url = format!("rediss://app:s3cr3t-word@localhost:{port}/0?tls_ca={}", path("ca.pem"));
    let store = open(&url);
    register(&store, "a").unwrap();
    let (acknowledged, failed) = under_load("tls", &store, || {
        server.run::<i64>(&["CLIENT", "KILL", "USER", "app"]);
    });
    assert_eq!(failed, 0);
    assert!(acknowledged.len() > 100);
    let replica = format!("sqlite:{}", folder.path().join("replica.db").display());
    let followed = on(&url, &["follow", &url, "--into", &replica, "--once"]).with(0);
    assert!(!(followed.out + &followed.err).contains("s3cr3t"));
    assert_eq!(json(&replica, &["info"])[0]["head"], json(&url, &["info"])[0]["head"]);
    assert!(json(&replica, &["info"])[0]["follows"].as_str().unwrap().starts_with("rediss://app:***@localhost"));
    on(&url, &["verify"]).with(0);
}
