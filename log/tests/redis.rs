//! The log in Redis: what the conformance suite does not ask, with real servers.
#![allow(clippy::unwrap_used)]

use std::{thread, time::Duration};

use tasklog_log::{
    StoreErrorKind,
    redis::{Connector, Durability, Keys, Link, PASSWORD_VARIABLE, Part, Parts, RedisUrl, Script, Wire, birth},
};
use tasklog_testing::RedisServer;

fn url(server: &RedisServer, options: &str) -> RedisUrl {
    format!("{}?{options}", server.url()).parse().unwrap()
}

fn link(server: &RedisServer) -> Link {
    Link::new(Connector::new(url(server, "")))
}

#[test]
fn urls_are_read_and_written() {
    let full = "redis://bob:pass%2Fword@one:1,two,[::1]:3/4?prefix={reg}&durability=replicated:2&timeout_ms=7&\
                connect_timeout_ms=8&sentinel=main";
    let url: RedisUrl = full.parse().unwrap();
    assert_eq!(url.user.as_deref(), Some("bob"));
    assert_eq!(url.password.as_ref().unwrap().reveal(), "pass/word");
    let hosts: Vec<_> = url.hosts.iter().map(ToString::to_string).collect();
    assert_eq!(hosts, ["one:1", "two:26379", "[::1]:3"]);
    assert_eq!((url.db, url.prefix.as_str(), url.sentinel.as_deref()), (4, "{reg}", Some("main")));
    assert_eq!(url.durability, Durability::Replicated(2));
    assert_eq!((url.timeout, url.connect_timeout), (Duration::from_millis(7), Duration::from_millis(8)));
    assert!(!url.tls);

    for (text, canonical) in [
        ("redis://h", "redis://h:6379/0?prefix=miroir"),
        ("redis://h:1/2?", "redis://h:1/2?prefix=miroir"),
        ("redis://:pw@h/", "redis://:***@h:6379/0?prefix=miroir"),
        ("redis://u@h?durability=fsynced", "redis://u@h:6379/0?prefix=miroir&durability=fsynced"),
        ("rediss://h?tls_ca=/a%20b.pem", "rediss://h:6379/0?prefix=miroir&tls_ca=/a%20b.pem"),
        ("redis://a%3Ab:p%25%40@h?prefix=%F0%9F%A6%80", "redis://a%3Ab:***@h:6379/0?prefix=%F0%9F%A6%80"),
    ] {
        let url: RedisUrl = text.parse().unwrap();
        assert_eq!(url.to_string(), canonical, "{text}");
        if url.password.is_none() {
            assert_eq!(canonical.parse::<RedisUrl>().unwrap(), url, "{text}");
        }
    }
}

#[test]
fn wrong_urls_are_refused_with_what_was_expected() {
    for (text, expected) in [
        ("http://h", "redis://host:port"),
        ("redis://", "a host is empty"),
        ("redis://a,,b", "a host is empty"),
        ("redis://h:0", "1 to 65535"),
        ("redis://h:x", "1 to 65535"),
        ("redis://h/x", "a number such as 0"),
        ("redis://h/-1", "a number such as 0"),
        ("redis://h?prefix=", "at least one character"),
        ("redis://h?prefix=a%00b", "control character"),
        ("redis://h?prefix=%zz", "two hexadecimal digits"),
        ("redis://h?prefix=%ff", "UTF-8"),
        ("redis://h?durability=sure", "replicated:N"),
        ("redis://h?durability=replicated:0", "replicated:N"),
        ("redis://h?timeout_ms=0", "milliseconds from 1"),
        ("redis://h?timeout_ms=soon", "milliseconds from 1"),
        ("redis://h?sentinel=", "name of a master"),
        ("redis://h?tls_ca=a.pem", "rediss://"),
        ("redis://h?colour=blue", "expected one of prefix, durability"),
    ] {
        let error = text.parse::<RedisUrl>().unwrap_err().to_string();
        assert!(error.contains(expected), "{text}: {error}");
    }
}

#[test]
fn a_password_is_shown_nowhere() {
    let url: RedisUrl = "redis://bob:hunter2@127.0.0.1:1/0".parse().unwrap();
    assert!(!format!("{url} {url:?}").contains("hunter2"));
    let connector = Connector::new(url);
    assert!(!format!("{connector:?}").contains("hunter2"));
    let error = connector.connect().err().unwrap();
    assert_eq!(error.kind(), StoreErrorKind::Unavailable);
    assert!(!format!("{error:?} {}", error.full()).contains("hunter2"));
    for text in
        ["redis://bob:hun/ter2@h", "redis://bob:hun?ter2@h", "redis://bob:hunter2%@h", "redis://h?password=hunter2"]
    {
        let error = text.parse::<RedisUrl>().unwrap_err().to_string();
        assert!(!error.contains("hun") && !error.contains("ter2"), "{error}");
    }
}

#[test]
fn a_wire_logs_in_and_reads_answers_of_any_size() {
    let server = RedisServer::start();
    server.run::<()>(&["CONFIG", "SET", "requirepass", "secret"]);
    let at = format!("127.0.0.1:{}/3", server.port());
    let none = Connector::with_variables(format!("redis://{at}").parse().unwrap(), |_| None);
    assert_eq!(none.wire().err().unwrap().kind(), StoreErrorKind::Unavailable);

    let mut wire = Connector::new(format!("redis://:secret@{at}").parse().unwrap()).wire().unwrap();
    let large = vec![b'x'; 3 << 20];
    let mut packed = Vec::new();
    Wire::pack(&mut packed, &[b"RPUSH", b"l", b"small", &large, b""]);
    for _ in 0..5 {
        Wire::pack(&mut packed, &[b"LRANGE", b"l", b"0", b"-1"]);
        Wire::pack(&mut packed, &[b"GET", b"l"]);
    }
    wire.send(&packed).unwrap();
    assert_eq!(Parts::of(wire.answer().unwrap()).collect::<Vec<_>>(), [Part::Number(3)]);
    for _ in 0..5 {
        let parts: Vec<_> = Parts::of(wire.answer().unwrap()).collect();
        let all = [&b"small"[..], &large, b""].map(Part::Bytes);
        assert!(parts[0] == Part::List(3) && parts[1..] == all);
        assert!(matches!(Parts::of(wire.answer().unwrap()).next(), Some(Part::Error(_))));
    }
}

#[test]
fn a_wrong_password_is_unavailable_and_names_the_user() {
    let server = RedisServer::start();
    server.run::<()>(&["ACL", "SETUSER", "bob", "on", ">secret", "~*", "&*", "+@all"]);
    server.run::<()>(&["CONFIG", "SET", "requirepass", "other"]);
    let at = format!("127.0.0.1:{}", server.port());
    let connect = |login: &str| {
        let url: RedisUrl = format!("redis://{login}{at}").parse().unwrap();
        Connector::new(url).connect().map(drop)
    };
    connect("bob:secret@").unwrap();
    let from_environment = |login: &str, password: Option<&str>| {
        let url: RedisUrl = format!("redis://{login}{at}").parse().unwrap();
        let variable = |name: &str| password.filter(|_| name == PASSWORD_VARIABLE).map(str::to_owned);
        Connector::with_variables(url, variable).connect().map(drop)
    };
    from_environment("bob@", Some("secret")).unwrap();
    from_environment("", Some("other")).unwrap();
    from_environment("bob:secret@", Some("ignored")).unwrap();
    let error = from_environment("bob@", None).unwrap_err().to_string();
    assert!(error.contains(PASSWORD_VARIABLE), "{error}");
    for login in ["bob:wrong@", "", ":wrong@"] {
        let error = connect(login).unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Unavailable);
        let text = error.full();
        assert!(text.contains("the login was refused") && text.contains(&at), "{login}: {text}");
        assert!(!text.contains("wrong@") && text.contains("user bob") == login.starts_with("bob"), "{login}: {text}");
    }
}

#[test]
fn two_processes_at_birth_get_one_identity() {
    let server = RedisServer::start();
    let keys = Keys::new("miroir");
    let born: Vec<_> = thread::scope(|scope| {
        let all: Vec<_> = (0..8)
            .map(|_| scope.spawn(|| link(&server).call(|conn| birth(conn, &keys, "server", 0)).unwrap()))
            .collect();
        all.into_iter().map(|one| one.join().unwrap()).collect()
    });
    assert!(born.iter().all(|info| *info == born[0] && info.epoch == 1), "{born:?}");
    assert_eq!(server.run::<String>(&["HGET", "miroir:_log", "id"]), born[0].id.to_string());
    assert_eq!(server.run::<u64>(&["XLEN", "miroir:log"]), 0);
    let born_at: i64 = server.run(&["HGET", "miroir:_log", "born_at"]);
    assert!(born_at > 1_700_000_000_000, "{born_at}");
}

#[test]
fn decimal_positions_are_added_and_compared_exactly() {
    let server = RedisServer::start();
    let body = "local k, from = tonumber(ARGV[2]), counted(ARGV[1])
        return { add(ARGV[1], k), from(k), from(k), tostring(less(ARGV[1], ARGV[3])) }";
    let script = Script::of_parts(&[tasklog_log::redis::ENTRY_LUA, body]);
    for (position, k) in [
        (0_u64, 0_i64),
        (0, 1_000),
        (9, 1),
        (999_999_999_999_999, 1),
        (1_000_000_000_000_000, -1),
        (1_000_000_000_000_000, 0),
        ((1 << 53) + 1, 2),
        (i64::MAX as u64, 1_000),
        (u64::MAX - 7, 7),
        (u64::MAX, -1_000),
        (18_000_000_000_000_000_001, 0),
    ] {
        let sum = position.checked_add_signed(k).unwrap();
        let args = [position.to_string(), k.to_string(), sum.to_string()];
        let found: [String; 4] = link(&server).call(|conn| script.run::<_, &str, _>(conn, &[], &args)).unwrap();
        let (sum_text, less) = (sum.to_string(), (position < sum).to_string());
        assert_eq!(found.each_ref().map(String::as_str), [&*sum_text, &sum_text, &sum_text, &less], "{position} + {k}");
    }
}
