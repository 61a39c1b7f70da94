#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use tasklog_log::{
    Log as _,
    redis::{Connector, Link, RedisLog, RedisUrl, Time},
};
use tasklog_projections::{
    PROJECTED,
    redis::{Expiry, RedisView},
};
use tasklog_testing::RedisServer;

use super::super::audit::{Audit, Bounds, Mode};
use crate::{StoreUrl, TaskStore, store::scratch::LazyScratch, wire};

/// Nothing fits: rows go to the scratch file at once, and helpers are read through in many parts.
const NARROW: Bounds = Bounds { kept_rows: 100, part_entities: 50 };

fn findings(url: &RedisUrl, bounds: Bounds) -> Vec<String> {
    let link = Arc::new(Link::new(Connector::new(url.clone())));
    let log = RedisLog::open(Arc::clone(&link), Time::Server).unwrap();
    let live = RedisView::new(link, &url.prefix, Expiry::ByServer);
    let scratch = LazyScratch::default();
    let mut audit = Audit::new(&log, &live, &scratch, &PROJECTED, Mode::Verify, bounds).unwrap();
    audit.run(&mut |_| {}).unwrap();
    assert_eq!(audit.verifier.unflushed().is_none(), bounds.kept_rows == NARROW.kept_rows, "it was spilled");
    let mut found: Vec<_> = audit.verifier.report().findings.iter().map(ToString::to_string).collect();
    found.sort();
    found
}

fn repaired(url: &RedisUrl, bounds: Bounds) -> u64 {
    let link = Arc::new(Link::new(Connector::new(url.clone())));
    let log = RedisLog::open(Arc::clone(&link), Time::Server).unwrap();
    let live = RedisView::new(link, &url.prefix, Expiry::ByServer);
    let scratch = LazyScratch::default();
    let mut audit = Audit::new(&log, &live, &scratch, &PROJECTED, Mode::Repair(None), bounds).unwrap();
    audit.run(&mut |_| {}).unwrap();
    assert_eq!(audit.repairs().position, log.head().unwrap().position);
    audit.repairs().repaired
}

#[test]
fn a_store_that_does_not_fit_into_memory_is_verified_and_repaired_as_one_that_does() {
    let server = RedisServer::shared();
    let url: StoreUrl = format!("{}?prefix={}", server.url(), uuid::Uuid::now_v7()).parse().unwrap();
    let store = TaskStore::open_with(&url, crate::OpenOptions::default()).unwrap();
    let StoreUrl::Redis(url) = url else { panic!("a URL of Redis") };
    let lines = (0..700).flat_map(|n| {
        let mut lines = vec![
            format!(r#"{{"command":"tasks.register","args":{{"miroir_id":"t{n}","node_tasks":{{"n1":1}}}}}}"#),
            format!(r#"{{"command":"jobs.enqueue","args":{{"id":"j{n}","type":"reindex","params":{{}}}}}}"#),
            format!(r#"{{"command":"aliases.create","args":{{"name":"a{n}","target":"i","target_verified":true}}}}"#),
        ];
        if n % 2 == 0 {
            lines.push(format!(r#"{{"command":"aliases.delete","args":{{"name":"a{n}","expected_version":1}}}}"#));
        }
        lines
    });
    let answers: Vec<_> = lines.map(|line| store.queue(wire::parse(&line).unwrap().request).unwrap()).collect();
    answers.into_iter().for_each(|answer| drop(answer.wait().unwrap()));
    assert_eq!(findings(&url, NARROW), Vec::<String>::new());
    assert_eq!(findings(&url, Bounds::default()), Vec::<String>::new());
    for (command, key, rest) in [
        ("HSET", "tasks:t600", &["status", "failed"][..]),
        ("DEL", "tasks:t601", &[]),
        ("HSET", "tasks:stray", &["_rev", "1"]),
        ("HSET", "aliases:a600", &["_rev", "1"]),
        ("ZREM", "tasks:_by_pk", &["2t602\0\u{1}"]),
        ("ZADD", "tasks:_by_pk", &["7", "2t603\0\u{1}"]),
        ("SREM", "jobs:_queued", &["j604"]),
        ("SADD", "jobs:_queued", &["stray"]),
        ("ZADD", "jobs:_queue:reindex", &["7", "j605"]),
        ("HDEL", "_tombstones:aliases", &["a606"]),
        ("HSET", "_tombstones:aliases", &["stray", "7"]),
        ("HSET", "_tombstones:jobs", &["j607", "7"]),
        ("ZADD", "_tombstones_at:jobs", &["7", "j608"]),
        ("EXPIRE", "jobs:j609", &["100000"]),
    ] {
        let key = format!("{}:{key}", url.prefix);
        let words: Vec<&str> = [command, &key].into_iter().chain(rest.iter().copied()).collect();
        let _: redis::Value = server.run(&words);
    }
    let found = findings(&url, NARROW);
    assert_eq!(found, findings(&url, Bounds::default()));
    assert_eq!(found.len(), 14, "{found:#?}");
    assert_eq!(repaired(&url, NARROW), 14);
    assert_eq!(findings(&url, NARROW), Vec::<String>::new());
    assert_eq!(findings(&url, Bounds::default()), Vec::<String>::new());
}
