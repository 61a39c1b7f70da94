//! The log in Redis: its bytes, what happens when somebody else has their hands in it, and servers that go away.
#![allow(clippy::unwrap_used)]

mod common;

use std::{sync::Arc, thread, time::Duration};

use common::{answered, appended, commit, places, positions};
use tasklog_log::{
    Log, Position, StoreError, StoreErrorKind,
    memory::MemoryRevs,
    read_checked,
    redis::{Connector, Durability, Keys, Link, RedisLog, Script, Time, facts},
};
use tasklog_testing::{Cut, CuttingProxy, RedisServer};

fn open_with(server: &RedisServer, options: &str) -> Result<RedisLog, StoreError> {
    let url = format!("{}?{options}", server.url()).parse().unwrap();
    RedisLog::open(Arc::new(Link::new(Connector::new(url))), Time::Server)
}

fn open(server: &RedisServer) -> RedisLog {
    open_with(server, "").unwrap()
}

fn append(log: &mut RedisLog, key: &str) -> Result<Position, StoreError> {
    let now = log.now()?;
    Ok(appended(&log.append(now, &[commit(&[(key, 0)])], &mut MemoryRevs::default())?[0]).last)
}

/// A log of three commits, `[1] [2 3] [4]`, on a server of its own.
fn three_commits() -> (RedisServer, RedisLog) {
    let server = RedisServer::start();
    let mut log = open(&server);
    let now = log.now().unwrap();
    let batch = [commit(&[("a", 0)]), commit(&[("b", 0), ("c", 0)]), commit(&[("d", 0)])];
    log.append(now, &batch, &mut MemoryRevs::default()).unwrap();
    (server, log)
}

/// Puts other fields into the entry `[2 3]`, with everything else as it was.
fn tampered(change: impl Fn(&mut String, &mut Vec<u8>, &mut String)) -> StoreError {
    type Fields = Vec<(Vec<u8>, Vec<u8>)>;
    let (server, log) = three_commits();
    let mut conn = server.connect();
    let entries: Vec<(String, Fields)> =
        redis::cmd("XRANGE").arg("miroir:log").arg("-").arg("+").query(&mut conn).unwrap();
    redis::cmd("DEL").arg("miroir:log").exec(&mut conn).unwrap();
    for (id, fields) in entries {
        let text = |index: usize| String::from_utf8(fields[index].1.clone()).unwrap();
        let (mut t, mut c, mut s) = (text(0), fields[1].1.clone(), text(2));
        if id == "3-0" {
            change(&mut t, &mut c, &mut s);
        }
        let mut add = redis::cmd("XADD");
        add.arg("miroir:log").arg(id).arg("t").arg(t).arg("c").arg(c).arg("s").arg(s);
        add.exec(&mut conn).unwrap();
    }
    read_checked(&log, Position::ZERO, 100).unwrap_err()
}

#[test]
fn changed_bytes_of_an_entry_are_corrupt_at_its_position() {
    let place = |error: StoreError| match error {
        StoreError::Corrupt { position, why } => (position.unwrap().0, why),
        other => panic!("{other}"),
    };
    for (position, why) in [
        place(tampered(|t, _, _| t.replace_range(..1, "2"))),
        place(tampered(|_, _, s| *s = "00000000".into())),
        place(tampered(|_, c, _| c.swap(4, 5))),
        // Even with a checksum that fits: the seal does not.
        place(tampered(|_, c, _| {
            let body = c.len() - 4;
            c[4] ^= 1;
            let crc = crc32c::crc32c(&c[..body]).to_be_bytes();
            c[body..].copy_from_slice(&crc);
        })),
    ] {
        assert!(position == 2 && why.contains("checksum"), "{position}: {why}");
    }
    let (position, why) = place(tampered(|_, c, _| c.truncate(3)));
    assert!(position == 3 && why.contains("too short"), "{position}: {why}");
}

#[test]
fn a_deleted_entry_is_missing_from_the_log() {
    for (id, missing) in [("1-0", 1), ("3-0", 2), ("4-0", 4)] {
        let (server, log) = three_commits();
        server.run::<()>(&["XDEL", "miroir:log", id]);
        let error = read_checked(&log, Position::ZERO, 100).unwrap_err();
        assert!(error.to_string().contains(&format!("event {missing}: missing from the log")), "{error}");
        assert!(log.event(Position(missing)).is_err());
    }
}

#[test]
fn a_trimmed_log_says_where_it_begins_and_never_seems_empty() {
    let (server, mut log) = three_commits();
    server.run::<()>(&["XTRIM", "miroir:log", "MAXLEN", "2"]);
    assert_eq!(log.first().unwrap(), Position(2));
    assert_eq!(positions(&read_checked(&log, Position(1), 100).unwrap()), [vec![2, 3], vec![4]]);
    assert_eq!(read_checked(&log, Position::ZERO, 100).unwrap_err().kind(), StoreErrorKind::Corrupt);

    server.run::<()>(&["XTRIM", "miroir:log", "MAXLEN", "0"]);
    assert_eq!((log.first().unwrap(), log.head().unwrap().position), (Position(5), Position(4)));
    assert_eq!(log.read(Position(2), 100).unwrap_err().kind(), StoreErrorKind::Corrupt);
    assert_eq!(log.read(Position(4), 100).unwrap(), []);
    assert_eq!(append(&mut log, "e").unwrap(), Position(5));
}

#[test]
fn a_lost_stream_head_or_identity_is_corrupt_and_nothing_is_written() {
    for key in ["miroir:log", "miroir:_head", "miroir:_log"] {
        let (server, mut log) = three_commits();
        server.run::<()>(&["DEL", key]);
        for error in [
            append(&mut log, "e").unwrap_err(),
            log.head().unwrap_err(),
            log.read(Position(4), 1).unwrap_err(),
            open_with(&server, "").err().unwrap(),
        ] {
            assert_eq!(error.kind(), StoreErrorKind::Corrupt);
            assert!(error.to_string().contains(&format!("{key} is missing")), "{error}");
        }
        assert_eq!(server.run::<u64>(&["EXISTS", key]), 0);
    }
}

#[test]
fn a_key_of_the_wrong_type_in_the_way_is_named() {
    for key in ["miroir:log", "miroir:_head", "miroir:_log"] {
        let server = RedisServer::start();
        server.run::<()>(&["SET", key, "foreign"]);
        let error = open_with(&server, "").err().unwrap();
        assert_eq!(error.kind(), StoreErrorKind::Corrupt);
        assert!(error.to_string().contains(&format!("{key} is a string")), "{error}");
        assert_eq!(server.run::<Vec<String>>(&["KEYS", "*"]), [key]);
    }
    let (server, mut log) = three_commits();
    let new = answered(1, b"done", commit(&[("e", 0)]));
    let key = Keys::new("miroir").answer(new.meta.id);
    server.run::<()>(&["SADD", &key, "foreign"]);
    let error = log.append(0, &[new], &mut MemoryRevs::default()).unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Corrupt);
    assert_eq!(log.head().unwrap().position, Position(4));
}

#[test]
fn a_stream_that_does_not_end_at_its_head_is_noticed_behind_a_new_connection() {
    let (server, log) = three_commits();
    server.run::<()>(&["HSET", "miroir:_head", "position", "3"]);
    server.run::<()>(&["CLIENT", "KILL", "TYPE", "normal"]);
    let error = log.head().unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Corrupt);
    assert!(error.to_string().contains("position 3") && error.to_string().contains("4-0"), "{error}");
}

#[test]
fn entries_beyond_the_head_are_not_written_over() {
    let (server, mut log) = three_commits();
    server.run::<()>(&["HSET", "miroir:_head", "position", "2"]);
    let error = append(&mut log, "e").unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Corrupt);
    assert!(error.to_string().contains("beyond its head"), "{error}");
    assert_eq!(server.run::<u64>(&["XLEN", "miroir:log"]), 3);
}

#[test]
fn scripts_survive_a_flush_and_a_restart() {
    let mut server = RedisServer::durable();
    let mut log = open(&server);
    assert_eq!(append(&mut log, "a").unwrap(), Position(1));
    server.run::<()>(&["SCRIPT", "FLUSH"]);
    assert_eq!(append(&mut log, "b").unwrap(), Position(2));
    let (info, generation) = (log.info().unwrap(), log.link().generation());
    server.restart();
    assert_eq!(append(&mut log, "c").unwrap(), Position(3));
    assert_eq!(log.info().unwrap(), info);
    assert!(log.link().generation() > generation);
    let script = Script::new("return 7");
    assert_eq!(log.link().call(|conn| script.run::<u64, &str, &str>(conn, &[], &[])).unwrap(), 7);
}

/// Asks until the connection lives long enough for the answer.
fn persistently<T>(ask: impl Fn() -> Result<T, StoreError>) -> T {
    loop {
        match ask() {
            Ok(answer) => return answer,
            Err(error) => assert!(error.is_retryable(), "{error}"),
        }
    }
}

#[test]
fn killed_connections_neither_lose_nor_repeat_a_commit() {
    const COMMITS: usize = 200;
    let server = RedisServer::start();
    let (mut log, server) = (open(&server), &server);
    thread::scope(|scope| {
        let appending = scope.spawn(move || {
            for n in 0..COMMITS as u64 {
                // When both calls of an append were cut, its error says that the outcome is unknown: look it up.
                while persistently(|| log.head()).position.0 <= n {
                    let outcome = append(&mut log, &n.to_string());
                    let expected = outcome.as_ref().map_or_else(StoreError::is_retryable, |last| last.0 == n + 1);
                    assert!(expected, "commit {n}: {outcome:?}");
                }
            }
            log
        });
        while !appending.is_finished() {
            server.run::<()>(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]);
            thread::sleep(Duration::from_millis(5));
        }
        assert_eq!(read_checked(&appending.join().unwrap(), Position::ZERO, usize::MAX).unwrap().len(), COMMITS);
    });
}

#[test]
fn a_server_that_stops_answering_is_unavailable_until_it_goes_on() {
    let server = RedisServer::start();
    let mut log = open_with(&server, "timeout_ms=1000&connect_timeout_ms=1000").unwrap();
    append(&mut log, "a").unwrap();
    server.pause();
    // It fails when it looks at the head, so nothing is on its way that the server could execute later.
    let error = append(&mut log, "b").unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Unavailable, "{error}");
    server.resume();
    let mut again = open(&server);
    assert_eq!(append(&mut again, "c").unwrap(), Position(2));
    assert_eq!(append(&mut log, "d").unwrap(), Position(3));
}

#[test]
fn full_memory_is_unavailable_and_nothing_is_half_written() {
    let (server, mut log) = three_commits();
    server.run::<()>(&["CONFIG", "SET", "maxmemory", "1"]);
    let error = append(&mut log, "e").unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Unavailable);
    assert!(error.to_string().contains("maxmemory"), "{error}");
    assert_eq!(log.head().unwrap().position, Position(4));
    server.run::<()>(&["CONFIG", "SET", "maxmemory", "0"]);
    assert_eq!(append(&mut log, "e").unwrap(), Position(5));
}

#[test]
fn a_server_that_evicts_is_refused() {
    let server = RedisServer::start_with(&[("maxmemory-policy", "allkeys-lru")]);
    let error = open_with(&server, "").err().unwrap();
    assert_eq!(error.kind(), StoreErrorKind::Unavailable);
    assert!(error.to_string().contains("allkeys-lru") && error.to_string().contains("noeviction"), "{error}");
    assert_eq!(server.run::<u64>(&["DBSIZE"]), 0);
}

#[test]
fn the_promise_follows_what_the_server_has_set() {
    for (appendonly, appendfsync, save, promise, fsynced) in [
        ("yes", "always", "", "every acknowledged commit is on the server's disk", true),
        ("yes", "everysec", "", "about the last second", false),
        ("yes", "no", "", "half minute", false),
        ("no", "always", "", "PERSISTENCE IS OFF", false),
        ("no", "everysec", "3600 1", "NO APPEND-ONLY FILE", false),
    ] {
        let server = RedisServer::start();
        for (name, value) in [("appendonly", appendonly), ("appendfsync", appendfsync), ("save", save)] {
            server.run::<()>(&["CONFIG", "SET", name, value]);
        }
        let facts = facts(&mut server.connect()).unwrap();
        assert!(facts.promise().contains(promise), "{facts:?}: {}", facts.promise());
        facts.check(&Durability::Accepted).unwrap();
        assert_eq!(facts.check(&Durability::Fsynced).is_ok(), fsynced, "{facts:?}");
        assert_eq!(open_with(&server, "durability=fsynced").is_ok(), fsynced);
    }
}

#[test]
fn what_a_server_may_not_say_is_unknown() {
    let server = RedisServer::start();
    server.run::<()>(&["ACL", "SETUSER", "bob", "on", ">secret", "~*", "&*", "+@all", "-config"]);
    let url: String = server.url().replace("//", "//bob:secret@");
    let link = Link::new(Connector::new(url.parse().unwrap()));
    let facts = link.ask(facts).unwrap();
    assert_eq!((facts.appendfsync.as_deref(), facts.maxmemory_policy.as_deref()), (None, Some("noeviction")));
    facts.check(&Durability::Accepted).unwrap();
    assert!(facts.check(&Durability::Fsynced).unwrap_err().to_string().contains("unknown"));
}

#[test]
fn an_expired_answer_is_forgotten() {
    let server = RedisServer::start();
    let mut log = open(&server).with_answer_retention(Duration::from_millis(50));
    let new = answered(1, b"done", commit(&[("a", 0)]));
    log.append(0, std::slice::from_ref(&new), &mut MemoryRevs::default()).unwrap();
    while log.find(new.meta.id).unwrap().is_some() {
        thread::sleep(Duration::from_millis(5));
    }
    let again = log.append(0, &[new], &mut MemoryRevs::default()).unwrap();
    assert_eq!(places(&again), [Some((2, 2))]);
}

#[test]
fn two_prefixes_are_two_logs() {
    let server = RedisServer::start();
    let (mut one, mut two) = (open_with(&server, "prefix=a").unwrap(), open_with(&server, "prefix=a:b").unwrap());
    append(&mut one, "x").unwrap();
    assert_eq!(append(&mut one, "y").unwrap(), Position(2));
    assert_eq!(append(&mut two, "x").unwrap(), Position(1));
    assert_ne!(one.info().unwrap().id, two.info().unwrap().id);
}

#[test]
fn the_servers_clock_is_the_logs() {
    let server = RedisServer::start();
    let log = open(&server);
    let before: i64 = server.run::<(i64, i64)>(&["TIME"]).0 * 1_000;
    assert!(log.now().unwrap() >= before);
}

#[test]
fn writers_that_overtake_each_other_all_get_through() {
    const EACH: u64 = 50;
    let server = RedisServer::start();
    thread::scope(|scope| {
        for writer in 0..4 {
            let mut log = open(&server);
            scope.spawn(move || {
                for n in 0..EACH {
                    append(&mut log, &format!("{writer}/{n}")).unwrap();
                }
            });
        }
    });
    assert_eq!(read_checked(&open(&server), Position::ZERO, usize::MAX).unwrap().len() as u64, 4 * EACH);
}

#[test]
fn a_lost_answer_neither_loses_nor_repeats_a_commit() {
    for cut in [Cut::Request, Cut::Answer] {
        let server = RedisServer::start();
        let proxy = CuttingProxy::start(server.port());
        let url = format!("redis://127.0.0.1:{}", proxy.port()).parse().unwrap();
        let mut log = RedisLog::open(Arc::new(Link::new(Connector::new(url))), Time::Server).unwrap();
        // So that the server knows the script, and the one request with the key in it is the append.
        append(&mut log, "first").unwrap();

        proxy.cut(cut, b"cut-once", 1);
        assert_eq!(append(&mut log, "cut-once").unwrap(), Position(2), "{cut:?}");

        let new = answered(1, b"done", commit(&[("cut-twice", 0)]));
        proxy.cut(cut, b"cut-twice", 2);
        let error = log.append(0, std::slice::from_ref(&new), &mut MemoryRevs::default()).unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Unavailable);
        assert!(error.to_string().contains("whether it is in the log is unknown"), "{error}");
        assert_eq!(log.head().unwrap().position, Position(if cut == Cut::Request { 2 } else { 3 }));
        let again = log.append(0, &[new], &mut MemoryRevs::default()).unwrap();
        assert_eq!(places(&again), [Some((3, 3))], "{cut:?}");
        assert_eq!(server.run::<u64>(&["XLEN", "miroir:log"]), 3);
    }
}
