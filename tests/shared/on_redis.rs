//! What only Redis has: keys that other tools see, lost connections, restarts, foreign keys in the way.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use tasklog::shared::{
    AdminLogin, Counter, KeyChange, LoginOutcome, LoginPolicy, Revocation, SharedConfig, SharedKeys,
};
use tasklog_log::StoreErrorKind;
use tasklog_testing::RedisServer;

use crate::redis_keys;

fn ttl(server: &RedisServer, key: &str) -> i64 {
    server.run(&["PTTL", key])
}

#[test]
fn keys_and_types_are_those_of_the_specification() {
    let server = RedisServer::start();
    let keys = redis_keys(&server, "miroir");
    let ip = "2001:DB8::1".parse().unwrap();
    keys.hit(&Counter::SearchUi(ip), 60_000).unwrap();
    keys.hit(&Counter::SearchUiSession(ip), 60_000).unwrap();
    keys.login_attempt(ip, 60_000).unwrap();
    keys.login_outcome(ip, &LoginOutcome::Failed(LoginPolicy::from(&SharedConfig::default()))).unwrap();
    keys.cdc_push("_a:b", b"change", 100).unwrap();
    keys.key_change("_index", &KeyChange::Publish { expected_generation: 0, new_uid: "k1".into() }).unwrap();
    keys.key_observe("pod-0", "_index", 1, 60_000).unwrap();
    let mut found = BTreeMap::new();
    for key in server.run::<Vec<String>>(&["KEYS", "*"]) {
        let kind: String = server.run(&["TYPE", &key]);
        found.insert(key, kind);
    }
    let expected = [
        ("miroir:cdc:overflow:%5Fa%3Ab", "list"),
        ("miroir:cdc:overflow_bytes:%5Fa%3Ab", "string"),
        ("miroir:ratelimit:adminlogin:2001:db8::1", "string"),
        ("miroir:ratelimit:adminlogin:backoff:2001:db8::1", "hash"),
        ("miroir:ratelimit:searchui:2001:db8::1", "string"),
        ("miroir:ratelimit:searchui:session:2001:db8::1", "string"),
        ("miroir:search_ui_scoped_key:%5Findex", "hash"),
        ("miroir:search_ui_scoped_key:_index", "set"),
        ("miroir:search_ui_scoped_key_observed:pod-0:%5Findex", "hash"),
    ];
    assert_eq!(found, expected.iter().map(|(key, kind)| ((*key).to_owned(), (*kind).to_owned())).collect());

    for key in
        ["miroir:cdc:overflow:%5Fa%3Ab", "miroir:cdc:overflow_bytes:%5Fa%3Ab", "miroir:search_ui_scoped_key:%5Findex"]
    {
        assert_eq!(ttl(&server, key), -1, "{key} has no expiry");
    }
    let beacon: HashMap<String, String> =
        server.run(&["HGETALL", "miroir:search_ui_scoped_key_observed:pod-0:%5Findex"]);
    assert!(beacon["generation"] == "1" && beacon["observed_at"].parse::<i64>().unwrap() > 1_600_000_000_000);
    let record: HashMap<String, String> = server.run(&["HGETALL", "miroir:search_ui_scoped_key:%5Findex"]);
    assert_eq!((record["primary_uid"].as_str(), record["generation"].as_str()), ("k1", "1"));
    assert_eq!(record["rotate_now"], "0");
    assert!(!record.contains_key("previous_uid"));
    assert_eq!(server.run::<Vec<String>>(&["SMEMBERS", "miroir:search_ui_scoped_key:_index"]), ["_index"]);
    assert_eq!(server.run::<String>(&["GET", "miroir:cdc:overflow_bytes:%5Fa%3Ab"]), "6");

    let front = keys.cdc_front("_a:b", 9).unwrap();
    keys.cdc_ack("_a:b", &[front.changes[0].token.clone()]).unwrap();
    assert_eq!(server.run::<u64>(&["EXISTS", "miroir:cdc:overflow:%5Fa%3Ab", "miroir:cdc:overflow_bytes:%5Fa%3Ab"]), 0);
}

#[test]
fn the_first_hit_sets_the_expiry_and_later_ones_leave_it() {
    let server = RedisServer::start();
    let keys = redis_keys(&server, "miroir");
    let counter = Counter::SearchUi("10.0.0.1".parse().unwrap());
    let key = "miroir:ratelimit:searchui:10.0.0.1";
    keys.hit(&counter, 60_000).unwrap();
    let dies_at: i64 = server.run(&["PEXPIRETIME", key]);
    assert!(dies_at > 0);
    for _ in 0..5 {
        keys.hit(&counter, 60_000).unwrap();
    }
    assert_eq!(server.run::<i64>(&["PEXPIRETIME", key]), dies_at);
    // A counter that somebody left without expiry would block its address for ever.
    let _: i64 = server.run(&["PERSIST", key]);
    keys.hit(&counter, 60_000).unwrap();
    assert!(ttl(&server, key) > 0);
}

#[test]
fn a_record_of_failures_lives_a_day_beyond_its_block() {
    let server = RedisServer::start();
    let keys = redis_keys(&server, "miroir");
    let ip = "10.0.0.1".parse().unwrap();
    let key = "miroir:ratelimit:adminlogin:backoff:10.0.0.1";
    let policy = LoginPolicy::from(&SharedConfig::default());
    for failure in 1..=6 {
        let record = keys.login_outcome(ip, &LoginOutcome::Failed(policy)).unwrap();
        let fields: HashMap<String, i64> = server.run(&["HGETALL", key]);
        assert_eq!(
            fields,
            HashMap::from([("failed_count".into(), failure), ("next_allowed_at".into(), record.next_allowed_at)])
        );
        if record.next_allowed_at > 0 {
            assert_eq!(server.run::<i64>(&["PEXPIRETIME", key]), record.next_allowed_at + 86_400_000);
        } else {
            assert!((86_300_000..=86_400_000).contains(&ttl(&server, key)));
        }
    }
    let login = AdminLogin::new(Arc::new(redis_keys(&server, "other")), Arc::default());
    assert_eq!(login.attempt(ip, || true).unwrap(), tasklog::shared::Login::Admitted);
    assert_eq!(server.run::<u64>(&["EXISTS", "other:ratelimit:adminlogin:10.0.0.1"]), 0, "a success leaves nothing");
}

#[test]
fn two_prefixes_do_not_meet_and_another_one_may_be_set_for_the_search_page() {
    let server = RedisServer::start();
    let counter = Counter::SearchUi("10.0.0.1".parse().unwrap());
    redis_keys(&server, "a").hit(&counter, 60_000).unwrap();
    assert_eq!(redis_keys(&server, "{b}").hit(&counter, 60_000).unwrap().count, 1);
    redis_keys(&server, "a").with_search_ui_prefix("limits:").hit(&counter, 60_000).unwrap();
    let mut found: Vec<String> = server.run(&["KEYS", "*"]);
    found.sort();
    assert_eq!(found, ["a:ratelimit:searchui:10.0.0.1", "limits:10.0.0.1", "{b}:ratelimit:searchui:10.0.0.1"]);
}

#[test]
fn a_lost_connection_of_a_listener_is_made_again_and_told() {
    let server = RedisServer::start();
    let keys = redis_keys(&server, "miroir");
    let listener = keys.revocations().unwrap();
    for round in 0..3 {
        assert_eq!(server.run::<u64>(&["CLIENT", "KILL", "TYPE", "pubsub"]), 1);
        assert_eq!(listener.next(Duration::from_secs(60)), Some(Revocation::Reconnected));
        keys.publish_revoked(&format!("session-{round}")).unwrap();
        assert_eq!(listener.next(Duration::from_secs(60)), Some(Revocation::Session(format!("session-{round}"))));
    }
}

#[test]
fn a_restart_is_survived_by_listeners_and_steps() {
    let mut server = RedisServer::durable();
    let keys = redis_keys(&server, "miroir");
    let listener = keys.revocations().unwrap();
    keys.cdc_push("s", b"change", 100).unwrap();
    server.restart();
    assert_eq!(listener.next(Duration::from_secs(60)), Some(Revocation::Reconnected));
    // The idle connection died with the server: one call may fail, and says that a retry helps.
    if let Err(error) = keys.cdc_front("s", 9) {
        assert_eq!(error.kind(), StoreErrorKind::Unavailable);
    }
    assert_eq!(keys.cdc_front("s", 9).unwrap().changes[0].bytes, b"change");
}

#[test]
fn a_listener_that_is_dropped_leaves_the_server() {
    let server = RedisServer::start();
    let keys = redis_keys(&server, "miroir");
    let subscribers = || server.run::<(String, u64)>(&["PUBSUB", "NUMSUB", "miroir:admin_session:revoked"]).1;
    let listener = keys.revocations().unwrap();
    assert_eq!(subscribers(), 1);
    drop(listener);
    let began = std::time::Instant::now();
    while subscribers() > 0 {
        assert!(began.elapsed() < Duration::from_secs(60), "it still listens");
        crate::sleep_ms(20);
    }
}

#[test]
fn a_server_that_is_not_there_is_unavailable() {
    let mut server = RedisServer::start();
    let keys = redis_keys(&server, "miroir");
    server.kill();
    let error = keys.hit(&Counter::SearchUi("10.0.0.1".parse().unwrap()), 60_000).unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Unavailable);
    assert!(matches!(keys.revocations(), Err(error) if error.kind() == StoreErrorKind::Unavailable));
}

#[test]
fn scripts_are_loaded_again_after_they_were_flushed() {
    let server = RedisServer::start();
    let keys = redis_keys(&server, "miroir");
    for _ in 0..3 {
        keys.cdc_push("s", b"x", 100).unwrap();
        let _: () = server.run(&["SCRIPT", "FLUSH"]);
    }
    assert_eq!(keys.cdc_front("s", 9).unwrap().held, 3);
}

#[test]
fn a_foreign_key_in_the_way_is_named_and_nothing_is_half_written() {
    let server = RedisServer::start();
    let keys = redis_keys(&server, "miroir");
    let publish = KeyChange::Publish { expected_generation: 0, new_uid: "k".into() };
    let _: () = server.run(&["SET", "miroir:search_ui_scoped_key:_index", "x"]);
    assert_eq!(keys.key_change("i", &publish).unwrap_err().kind(), StoreErrorKind::Corrupt);
    assert_eq!(server.run::<u64>(&["EXISTS", "miroir:search_ui_scoped_key:i"]), 0);
    let _: () = server.run(&["SET", "miroir:cdc:overflow:s", "x"]);
    assert_eq!(keys.cdc_push("s", b"x", 100).unwrap_err().kind(), StoreErrorKind::Corrupt);
    let _: () = server.run(&["HSET", "miroir:cdc:overflow_bytes:t", "x", "y"]);
    assert_eq!(keys.cdc_push("t", b"x", 100).unwrap_err().kind(), StoreErrorKind::Corrupt);
    assert_eq!(server.run::<u64>(&["EXISTS", "miroir:cdc:overflow:t"]), 0);
}

#[test]
fn a_list_without_its_byte_count_is_damage_and_not_guessed_at() {
    let server = RedisServer::start();
    let keys = redis_keys(&server, "miroir");
    keys.cdc_push("s", b"x", 100).unwrap();
    let _: u64 = server.run(&["DEL", "miroir:cdc:overflow_bytes:s"]);
    let error = keys.cdc_push("s", b"x", 100).unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Corrupt);
    assert!(error.full().contains("miroir:cdc:overflow_bytes:s"), "{}", error.full());
    let _: u64 = server.run(&["DEL", "miroir:cdc:overflow:s"]);
    assert!(keys.cdc_push("s", b"x", 100).unwrap().stored);
}

#[test]
fn a_full_server_refuses_whole_steps() {
    let server = RedisServer::start();
    let keys = redis_keys(&server, "miroir");
    keys.cdc_push("s", b"x", 100).unwrap();
    let _: () = server.run(&["CONFIG", "SET", "maxmemory", "1"]);
    assert_eq!(keys.cdc_push("s", b"y", 100).unwrap_err().kind(), StoreErrorKind::Unavailable);
    let failed = LoginOutcome::Failed(LoginPolicy::from(&SharedConfig::default()));
    assert_eq!(
        keys.login_outcome("10.0.0.1".parse().unwrap(), &failed).unwrap_err().kind(),
        StoreErrorKind::Unavailable
    );
    let _: () = server.run(&["CONFIG", "SET", "maxmemory", "0"]);
    let front = keys.cdc_front("s", 9).unwrap();
    assert_eq!((front.held, front.bytes), (1, 1));
    assert_eq!(server.run::<u64>(&["EXISTS", "miroir:ratelimit:adminlogin:backoff:10.0.0.1"]), 0);
}

#[test]
fn no_step_scans_the_key_space() {
    let server = RedisServer::start();
    let keys = redis_keys(&server, "miroir");
    let _: () = server.run(&["CONFIG", "RESETSTAT"]);
    keys.hit(&Counter::SearchUi("10.0.0.1".parse().unwrap()), 60_000).unwrap();
    keys.cdc_push("s", b"x", 100).unwrap();
    keys.cdc_front("s", 9).unwrap();
    keys.key_change("i", &KeyChange::Publish { expected_generation: 0, new_uid: "k".into() }).unwrap();
    keys.key_state("i", &["a", "b"]).unwrap();
    keys.key_indexes().unwrap();
    keys.publish_revoked("session").unwrap();
    let stats: String = server.run(&["INFO", "commandstats"]);
    assert!(stats.contains("cmdstat_evalsha:"), "{stats}");
    assert!(!stats.contains("scan:") && !stats.contains("cmdstat_keys:"), "{stats}");
}
