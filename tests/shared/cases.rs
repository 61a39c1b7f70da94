//! The cases of the suite. Windows and lives are settings, so that waiting for them is short.

use std::{collections::HashSet, net::IpAddr, sync::Mutex, time::Duration};

use tasklog::shared::{
    CdcOverflowTier, Gate, Login, LoginOutcome, LoginPolicy, Peers, Revocation, ScopedKeyRecord, SharedConfig,
    StoreBackend,
    scoped_key::{Due, Published},
};

use crate::{Harness, race, sleep_ms};

fn ip(n: u8) -> IpAddr {
    IpAddr::from([10, 0, 0, n])
}

fn config<H: Harness>() -> SharedConfig {
    let tier = if H::STORE == StoreBackend::Redis { CdcOverflowTier::Redis } else { CdcOverflowTier::Pvc };
    SharedConfig { cdc_overflow: Some(tier), ..SharedConfig::default() }
}

pub fn hits_are_counted_per_address_and_refused_beyond_the_limit<H: Harness>() {
    let harness = H::start();
    let limit = harness.shared(config::<H>()).search_ui();
    for n in 1..=60 {
        let verdict = limit.hit(ip(1)).unwrap();
        assert!(verdict.allowed && verdict.count == n && verdict.reset_in_s <= 60, "{verdict:?}");
    }
    let refused = limit.hit(ip(1)).unwrap();
    assert!(!refused.allowed && refused.count == 61, "{refused:?}");
    assert!(limit.hit(ip(2)).unwrap().allowed);
}

pub fn a_window_ends_at_its_time_and_later_hits_do_not_renew_it<H: Harness>() {
    let harness = H::start();
    let window_ms = 1_500;
    let limit = harness.shared(SharedConfig { search_ui_window_ms: window_ms, ..config::<H>() }).search_ui();
    let began = std::time::Instant::now();
    let mut last = 0;
    // The counter falls back although it is hit all the time.
    loop {
        let count = limit.hit(ip(1)).unwrap().count;
        if count <= last {
            assert_eq!(count, 1);
            break;
        }
        last = count;
        assert!(began.elapsed() < Duration::from_secs(60), "the window never ends");
        sleep_ms(20);
    }
    assert!(began.elapsed() >= Duration::from_millis(1_400), "the window ended after {:?}", began.elapsed());
}

pub fn queries_and_sessions_of_the_search_page_have_limits_of_their_own<H: Harness>() {
    let harness = H::start();
    let shared = harness.shared(config::<H>());
    for _ in 0..10 {
        assert!(shared.search_ui_sessions().hit(ip(1)).unwrap().allowed);
    }
    assert!(!shared.search_ui_sessions().hit(ip(1)).unwrap().allowed);
    assert_eq!(shared.search_ui().hit(ip(1)).unwrap().count, 1);
}

pub fn an_address_in_other_clothes_is_the_same_address<H: Harness>() {
    let harness = H::start();
    let limit = harness.shared(config::<H>()).search_ui();
    limit.hit("10.0.0.1".parse().unwrap()).unwrap();
    assert_eq!(limit.hit("::ffff:10.0.0.1".parse().unwrap()).unwrap().count, 2);
    limit.hit("2001:DB8::1".parse().unwrap()).unwrap();
    assert_eq!(limit.hit("2001:db8:0:0:0:0:0:1".parse().unwrap()).unwrap().count, 2);
}

pub fn of_eight_threads_exactly_the_limit_is_let_through<H: Harness>() {
    let harness = H::start();
    let shared = harness.shared(SharedConfig { search_ui_per_ip: 100, ..config::<H>() });
    let allowed = race(|_| {
        let limit = shared.search_ui();
        (0..50).filter(|_| limit.hit(ip(1)).unwrap().allowed).count()
    });
    assert_eq!(allowed.iter().sum::<usize>(), 100);
    assert_eq!(shared.search_ui().hit(ip(1)).unwrap().count, 401);
}

pub fn the_eleventh_login_of_a_window_is_refused_without_a_look_at_the_key<H: Harness>() {
    let harness = H::start();
    let login = harness.shared(SharedConfig { admin_ui_failures_threshold: 1_000, ..config::<H>() }).admin_login();
    for n in 1..=10 {
        let answer = login.attempt(ip(1), || false).unwrap();
        assert!(matches!(answer, Login::WrongKey(record) if record.failed_count == n), "{answer:?}");
    }
    let answer = login.attempt(ip(1), || panic!("the key was looked at")).unwrap();
    assert!(matches!(answer, Login::TooMany { retry_in_s } if retry_in_s <= 60), "{answer:?}");
    assert_eq!(login.attempt(ip(2), || true).unwrap(), Login::Admitted);
}

pub fn the_fifth_failure_blocks_and_each_further_one_doubles<H: Harness>() {
    let harness = H::start();
    let keys = harness.keys();
    let policy = LoginPolicy::from(&SharedConfig::default());
    for (n, minutes) in (1..=16).zip([0, 0, 0, 0, 10, 20, 40, 80, 160, 320, 640, 1280, 1440, 1440, 1440, 1440]) {
        let before = tasklog_log::Clock::now(&tasklog_log::SystemClock);
        let record = keys.login_outcome(ip(1), &LoginOutcome::Failed(policy)).unwrap();
        let after = tasklog_log::Clock::now(&tasklog_log::SystemClock);
        assert_eq!(record.failed_count, n);
        if minutes == 0 {
            assert_eq!(record.next_allowed_at, 0);
        } else {
            let block = minutes * 60_000;
            assert!((before + block..=after + block).contains(&record.next_allowed_at), "failure {n}: {record:?}");
        }
    }
}

pub fn attempts_during_a_block_are_not_counted<H: Harness>() {
    let harness = H::start();
    let login = harness.shared(config::<H>()).admin_login();
    for _ in 0..4 {
        assert!(matches!(login.attempt(ip(1), || false).unwrap(), Login::WrongKey(r) if r.next_allowed_at == 0));
    }
    assert!(matches!(login.attempt(ip(1), || false).unwrap(), Login::WrongKey(r) if r.next_allowed_at > 0));
    // More of them than the window allows: they are told of the block, which comes first.
    for _ in 0..20 {
        let answer = login.attempt(ip(1), || panic!("the key was looked at")).unwrap();
        assert!(matches!(answer, Login::Blocked { retry_in_s } if retry_in_s > 500 && retry_in_s <= 600), "{answer:?}");
    }
    assert!(matches!(login.attempt(ip(2), || false).unwrap(), Login::WrongKey(r) if r.failed_count == 1));
}

pub fn a_success_forgets_the_failures<H: Harness>() {
    let harness = H::start();
    let login = harness.shared(config::<H>()).admin_login();
    for _ in 0..4 {
        login.attempt(ip(1), || false).unwrap();
    }
    assert_eq!(login.attempt(ip(1), || true).unwrap(), Login::Admitted);
    for n in 1..=4 {
        assert!(matches!(login.attempt(ip(1), || false).unwrap(), Login::WrongKey(r) if r.failed_count == n));
    }
    // The counter of the window began anew too: 4 + 6 attempts are within 10.
    login.attempt(ip(1), || true).unwrap();
    for _ in 0..4 {
        assert!(matches!(login.attempt(ip(1), || false).unwrap(), Login::WrongKey(_)));
    }
}

pub fn failures_outlast_their_block_and_are_forgotten_later<H: Harness>() {
    let harness = H::start();
    let config = SharedConfig {
        admin_ui_failures_threshold: 2,
        admin_ui_backoff_start_ms: 300,
        admin_ui_failures_kept_ms: 2_000,
        ..config::<H>()
    };
    let login = harness.shared(config).admin_login();
    login.attempt(ip(1), || false).unwrap();
    assert!(matches!(login.attempt(ip(1), || false).unwrap(), Login::WrongKey(r) if r.failed_count == 2));
    sleep_ms(350);
    assert!(matches!(login.attempt(ip(1), || false).unwrap(), Login::WrongKey(r) if r.failed_count == 3));
    sleep_ms(600 + 2_000 + 100);
    assert!(matches!(login.attempt(ip(1), || false).unwrap(), Login::WrongKey(r) if r.failed_count == 1));
}

fn texts(front: &tasklog::shared::CdcFront) -> Vec<String> {
    front.changes.iter().map(|change| String::from_utf8(change.bytes.clone()).unwrap()).collect()
}

pub fn changes_come_out_in_order_and_stay_until_acknowledged<H: Harness>() {
    let harness = H::start();
    let shared = harness.shared(config::<H>());
    let buffer = shared.cdc_overflow("webhook");
    for n in 0..5 {
        let pushed = buffer.push(format!("change {n}").as_bytes()).unwrap();
        assert!(pushed.stored && pushed.dropped == 0 && pushed.bytes == (n + 1) * 8, "{pushed:?}");
    }
    let front = buffer.front(2).unwrap();
    assert_eq!((texts(&front), front.held, front.bytes), (vec!["change 0".into(), "change 1".into()], 5, 40));
    assert_eq!(buffer.front(2).unwrap(), front);
    assert_eq!(buffer.ack(&front.changes).unwrap(), 2);
    assert_eq!(buffer.ack(&front.changes).unwrap(), 0);
    let rest = shared.cdc_overflow("webhook").front(100).unwrap();
    assert_eq!((texts(&rest).len(), rest.held, rest.bytes), (3, 3, 24));
    assert_eq!(shared.cdc_overflow("other").front(100).unwrap().held, 0);
    assert_eq!(buffer.ack(&rest.changes).unwrap(), 3);
    assert_eq!(buffer.front(100).unwrap(), tasklog::shared::CdcFront::default());
}

pub fn the_oldest_changes_make_room<H: Harness>() {
    let harness = H::start();
    let buffer = harness.shared(SharedConfig { cdc_overflow_bytes: 10, ..config::<H>() }).cdc_overflow("s");
    for change in ["aaa", "bbb", "cccc"] {
        assert_eq!(buffer.push(change.as_bytes()).unwrap().dropped, 0);
    }
    let pushed = buffer.push(b"ddddd").unwrap();
    assert!(pushed.stored && pushed.dropped == 2 && pushed.bytes == 9, "{pushed:?}");
    assert_eq!(texts(&buffer.front(9).unwrap()), ["cccc", "ddddd"]);
}

pub fn a_change_larger_than_the_bound_is_dropped_itself<H: Harness>() {
    let harness = H::start();
    let buffer = harness.shared(SharedConfig { cdc_overflow_bytes: 10, ..config::<H>() }).cdc_overflow("s");
    buffer.push(b"aaa").unwrap();
    let pushed = buffer.push(&[b'b'; 11]).unwrap();
    assert!(!pushed.stored && pushed.dropped == 1 && pushed.bytes == 3, "{pushed:?}");
    assert_eq!(texts(&buffer.front(9).unwrap()), ["aaa"]);
    assert!(buffer.push(&[b'c'; 10]).unwrap().stored);
}

pub fn one_push_may_drop_more_than_one_step_drops<H: Harness>() {
    let harness = H::start();
    let buffer = harness.shared(SharedConfig { cdc_overflow_bytes: 2_500, ..config::<H>() }).cdc_overflow("s");
    for _ in 0..2_500 {
        buffer.push(b"x").unwrap();
    }
    let pushed = buffer.push(&[b'y'; 2_400]).unwrap();
    assert!(pushed.stored && pushed.dropped == 2_400 && pushed.bytes == 2_500, "{pushed:?}");
    let front = buffer.front(usize::MAX).unwrap();
    assert_eq!((front.changes.len(), front.held, front.bytes), (100, 101, 2_500));
}

pub fn a_change_that_was_dropped_meanwhile_is_not_acknowledged_twice<H: Harness>() {
    let harness = H::start();
    let buffer = harness.shared(SharedConfig { cdc_overflow_bytes: 9, ..config::<H>() }).cdc_overflow("s");
    for change in ["aaa", "bbb", "ccc"] {
        buffer.push(change.as_bytes()).unwrap();
    }
    let front = buffer.front(2).unwrap();
    assert_eq!(buffer.push(b"ddd").unwrap().dropped, 1);
    // "aaa" is gone; "bbb" was delivered; "ccc" was not.
    assert_eq!(buffer.ack(&front.changes).unwrap(), 1);
    assert_eq!(texts(&buffer.front(9).unwrap()), ["ccc", "ddd"]);
}

pub fn two_consumers_of_one_buffer_lose_nothing<H: Harness>() {
    let harness = H::start();
    let shared = harness.shared(config::<H>());
    let buffer = shared.cdc_overflow("s");
    for n in 0..1_000 {
        buffer.push(format!("{n}").as_bytes()).unwrap();
    }
    let delivered = Mutex::new(HashSet::new());
    race(|_| {
        loop {
            let front = buffer.front(7).unwrap();
            if front.changes.is_empty() {
                return;
            }
            delivered.lock().unwrap().extend(texts(&front));
            buffer.ack(&front.changes).unwrap();
        }
    });
    assert_eq!(delivered.into_inner().unwrap().len(), 1_000);
}

pub fn any_bytes_and_any_names_go_through_a_buffer<H: Harness>() {
    let harness = H::start();
    let shared = harness.shared(config::<H>());
    let long = "s".repeat(512);
    let sinks = ["a:b", "a%3Ab", "_index", "%5Findex", "/../x", "🦀", "", long.as_str()];
    for (n, sink) in sinks.iter().enumerate() {
        shared.cdc_overflow(sink).push(&[0, 255, b'\r', b'\n', u8::try_from(n).unwrap()]).unwrap();
        shared.cdc_overflow(sink).push(b"").unwrap();
    }
    for (n, sink) in sinks.iter().enumerate() {
        let front = shared.cdc_overflow(sink).front(9).unwrap();
        assert_eq!((front.held, front.bytes), (2, 5), "{sink}");
        assert_eq!(front.changes[0].bytes, [0, 255, b'\r', b'\n', u8::try_from(n).unwrap()]);
        assert_eq!(shared.cdc_overflow(sink).ack(&front.changes).unwrap(), 2);
    }
}

pub fn the_byte_count_is_exact_after_eight_threads<H: Harness>() {
    let harness = H::start();
    let shared = harness.shared(SharedConfig { cdc_overflow_bytes: 5_000, ..config::<H>() });
    let counts = race(|n| {
        let buffer = shared.cdc_overflow("s");
        let (mut dropped, mut acked) = (0, 0);
        for round in 0..100 {
            let pushed = buffer.push(format!("{n}:{round}:{}", "x".repeat(n * 20 + round)).as_bytes()).unwrap();
            assert!(pushed.stored && pushed.bytes <= 5_000, "{pushed:?}");
            dropped += pushed.dropped;
            if round % 10 == 0 {
                acked += buffer.ack(&buffer.front(3).unwrap().changes).unwrap();
            }
        }
        dropped + acked
    });
    let buffer = shared.cdc_overflow("s");
    let front = buffer.front(100).unwrap();
    assert_eq!(front.changes.len() as u64, front.held);
    assert_eq!(front.changes.iter().map(|change| change.bytes.len() as u64).sum::<u64>(), front.bytes);
    assert_eq!(counts.iter().sum::<u64>() + front.held, 800, "every change is dropped, acknowledged or there, once");
}

fn rotated(published: Published) -> (Option<String>, String, u64) {
    match published {
        Published::Rotated(rotated) => (rotated.old_uid, rotated.new_uid, rotated.generation),
        Published::Lost(record) => panic!("lost to {record:?}"),
    }
}

pub fn a_first_key_has_no_previous<H: Harness>() {
    let harness = H::start();
    let keys = harness.shared(config::<H>()).scoped_keys();
    assert_eq!(keys.record("i").unwrap(), None);
    assert_eq!(keys.due("i").unwrap(), Due::Now { expected_generation: 0 });
    assert_eq!(rotated(keys.publish("i", 0, "k1").unwrap()), (None, "k1".into(), 1));
    assert!(matches!(keys.publish("i", 0, "k2").unwrap(), Published::Lost(Some(r)) if r.primary_uid == "k1"));
    assert!(matches!(keys.due("i").unwrap(), Due::In(ms) if ms > 29 * 86_400_000 && ms <= 30 * 86_400_000));
    assert_eq!(keys.gate("i", Peers::OnlySelf).unwrap(), Gate::Nothing);
    assert!(matches!(keys.publish("none", 3, "k").unwrap(), Published::Lost(None)));
}

pub fn a_rotation_keeps_the_old_key_until_it_is_finished<H: Harness>() {
    let harness = H::start();
    let keys = harness.shared(config::<H>()).scoped_keys();
    keys.publish("i", 0, "k1").unwrap();
    assert_eq!(rotated(keys.publish("i", 1, "k2").unwrap()), (Some("k1".into()), "k2".into(), 2));
    assert!(matches!(keys.publish("i", 2, "k3").unwrap(), Published::Lost(Some(r)) if r.generation == 2));
    assert_eq!(keys.due("i").unwrap(), Due::Rotating);
    assert!(!keys.finish("i", 1).unwrap());
    assert!(keys.finish("i", 2).unwrap());
    assert!(!keys.finish("i", 2).unwrap());
    let record = keys.record("i").unwrap().unwrap();
    assert_eq!((record.primary_uid.as_str(), record.previous_uid, record.generation), ("k2", None, 2));
    assert_eq!(rotated(keys.publish("i", 2, "k3").unwrap()), (Some("k2".into()), "k3".into(), 3));
}

pub fn of_eight_rotations_exactly_one_wins<H: Harness>() {
    let harness = H::start();
    let shared = harness.shared(config::<H>());
    for generation in 0..10 {
        let won = race(|n| {
            let uid = format!("key-{generation}-{n}");
            let published = shared.scoped_keys().publish("i", generation, &uid).unwrap();
            matches!(published, Published::Rotated(_)).then_some(uid)
        });
        let won: Vec<String> = won.into_iter().flatten().collect();
        assert_eq!(won.len(), 1, "{won:?}");
        assert_eq!(shared.scoped_keys().record("i").unwrap().unwrap().primary_uid, won[0]);
        shared.scoped_keys().finish("i", generation + 1).unwrap();
    }
}

pub fn a_repeated_publication_gives_the_first_answer<H: Harness>() {
    let harness = H::start();
    let keys = harness.shared(config::<H>()).scoped_keys();
    keys.publish("i", 0, "k1").unwrap();
    let first = keys.publish("i", 1, "k2").unwrap();
    assert_eq!(keys.publish("i", 1, "k2").unwrap(), first);
}

pub fn a_request_outside_the_window_needs_force<H: Harness>() {
    let harness = H::start();
    let keys = harness.shared(config::<H>()).scoped_keys();
    assert!(!keys.request("i", true).unwrap(), "there is no key to rotate");
    keys.publish("i", 0, "k1").unwrap();
    assert!(!keys.request("i", false).unwrap());
    assert!(matches!(keys.due("i").unwrap(), Due::In(_)));
    assert!(keys.request("i", true).unwrap());
    assert_eq!(keys.due("i").unwrap(), Due::Now { expected_generation: 1 });
    keys.publish("i", 1, "k2").unwrap();
    assert!(!keys.record("i").unwrap().unwrap().rotate_now);
    assert!(!keys.request("i", true).unwrap(), "one rotation at a time");

    let soon = SharedConfig { scoped_key_max_age_ms: 201, scoped_key_rotate_before_ms: 1, ..config::<H>() };
    let keys = harness.shared(soon).scoped_keys();
    keys.publish("j", 0, "k1").unwrap();
    sleep_ms(250);
    assert!(keys.request("j", false).unwrap());
}

pub fn the_gate_opens_after_the_drain_when_every_live_peer_has_shown_the_generation<H: Harness>() {
    let harness = H::start();
    let keys = harness.shared(SharedConfig { scoped_key_drain_ms: 1_000, ..config::<H>() }).scoped_keys();
    let pods = ["pod-0", "pod:1", "_pod"];
    keys.publish("i", 0, "k1").unwrap();
    keys.publish("i", 1, "k2").unwrap();
    for pod in &pods[..2] {
        keys.observe(pod, "i", 2).unwrap();
    }
    assert!(matches!(keys.gate("i", Peers::Live(&pods[..2])).unwrap(), Gate::Draining { left_ms } if left_ms <= 1_000));
    sleep_ms(1_050);
    let open = Gate::Open { previous_uid: "k1".into(), generation: 2 };
    assert_eq!(keys.gate("i", Peers::Live(&pods)).unwrap(), Gate::Waiting { pods: vec!["_pod".into()] });
    keys.observe("_pod", "i", 1).unwrap();
    assert_eq!(keys.gate("i", Peers::Live(&pods)).unwrap(), Gate::Waiting { pods: vec!["_pod".into()] });
    assert_eq!(keys.gate("i", Peers::Live(&pods[..2])).unwrap(), open, "a vanished peer is ignored");
    keys.observe("_pod", "i", 3).unwrap();
    assert_eq!(keys.gate("i", Peers::Live(&pods)).unwrap(), open);
    assert!(keys.finish("i", 2).unwrap());
    assert_eq!(keys.gate("i", Peers::Live(&pods)).unwrap(), Gate::Nothing);
}

pub fn a_beacon_that_died_closes_the_gate<H: Harness>() {
    let harness = H::start();
    let config =
        SharedConfig { scoped_key_drain_ms: 0, scoped_key_beacon_ms: 500, scoped_key_refresh_ms: 100, ..config::<H>() };
    let keys = harness.shared(config).scoped_keys();
    keys.publish("i", 0, "k1").unwrap();
    keys.publish("i", 1, "k2").unwrap();
    keys.observe("p", "i", 2).unwrap();
    assert!(matches!(keys.gate("i", Peers::Live(&["p"])).unwrap(), Gate::Open { .. }));
    sleep_ms(550);
    assert_eq!(keys.gate("i", Peers::Live(&["p"])).unwrap(), Gate::Waiting { pods: vec!["p".into()] });
}

pub fn no_known_peer_opens_no_gate<H: Harness>() {
    let harness = H::start();
    let keys = harness.shared(SharedConfig { scoped_key_drain_ms: 0, ..config::<H>() }).scoped_keys();
    keys.publish("i", 0, "k1").unwrap();
    keys.publish("i", 1, "k2").unwrap();
    assert_eq!(keys.gate("i", Peers::Live(&[])).unwrap(), Gate::Waiting { pods: Vec::new() });
}

pub fn one_pod_alone_waits_for_the_drain_only<H: Harness>() {
    let harness = H::start();
    let keys = harness.shared(SharedConfig { scoped_key_drain_ms: 300, ..config::<H>() }).scoped_keys();
    keys.publish("i", 0, "k1").unwrap();
    keys.publish("i", 1, "k2").unwrap();
    sleep_ms(350);
    let open = Gate::Open { previous_uid: "k1".into(), generation: 2 };
    assert_eq!(keys.gate("i", Peers::OnlySelf).unwrap(), open);
}

pub fn a_refresh_shows_only_what_was_adopted<H: Harness>() {
    let harness = H::start();
    let keys = harness.shared(SharedConfig { scoped_key_drain_ms: 0, ..config::<H>() }).scoped_keys();
    let adopt = |record: &ScopedKeyRecord| record.generation;
    assert_eq!(keys.refresh("p", "i", adopt).unwrap(), None);
    keys.publish("i", 0, "k1").unwrap();
    keys.publish("i", 1, "k2").unwrap();
    let waiting = Gate::Waiting { pods: vec!["p".into()] };
    keys.refresh("p", "i", |_| 1).unwrap();
    assert_eq!(keys.gate("i", Peers::Live(&["p"])).unwrap(), waiting);
    assert_eq!(keys.refresh("p", "i", adopt).unwrap().unwrap().primary_uid, "k2");
    assert!(matches!(keys.gate("i", Peers::Live(&["p"])).unwrap(), Gate::Open { .. }));
    assert!(!keys.refresh_due(Duration::from_millis(19_999)));
    assert!(keys.refresh_due(Duration::from_secs(20)));
}

pub fn indexes_with_odd_names_are_listed_and_forgotten<H: Harness>() {
    let harness = H::start();
    let keys = harness.shared(config::<H>()).scoped_keys();
    let names = ["%5Findex", "_index", "a:b", "movies", "🦀"];
    for name in names {
        assert_eq!(rotated(keys.publish(name, 0, name).unwrap()), (None, name.into(), 1));
    }
    assert_eq!(keys.indexes().unwrap(), names);
    assert!(keys.forget("_index").unwrap());
    assert!(!keys.forget("_index").unwrap());
    assert_eq!(keys.indexes().unwrap(), ["%5Findex", "a:b", "movies", "🦀"]);
    assert_eq!(keys.record("_index").unwrap(), None);
}

pub fn a_revocation_reaches_every_listener<H: Harness>() {
    let harness = H::start();
    let shared = harness.shared(config::<H>());
    let (one, two) = (shared.revocation_channel().listen().unwrap(), shared.revocation_channel().listen().unwrap());
    shared.revocation_channel().publish("session-1").unwrap();
    for listener in [&one, &two] {
        assert_eq!(listener.next(Duration::from_secs(30)), Some(Revocation::Session("session-1".into())));
        assert_eq!(listener.next(Duration::from_millis(50)), None);
    }
    drop(one);
    shared.revocation_channel().publish("session-2").unwrap();
    assert_eq!(two.next(Duration::from_secs(30)), Some(Revocation::Session("session-2".into())));
}

pub fn overflow_drop_skips_the_buffer<H: Harness>() {
    let harness = H::start();
    let config = SharedConfig { cdc_overflow: Some(CdcOverflowTier::Drop), ..SharedConfig::default() };
    let buffer = harness.shared(config).cdc_overflow("s");
    let pushed = buffer.push(b"change").unwrap();
    assert!(!pushed.stored && pushed.dropped == 1, "{pushed:?}");
    assert_eq!(buffer.front(9).unwrap(), tasklog::shared::CdcFront::default());
    assert_eq!(harness.keys().cdc_front("s", 9).unwrap().held, 0);
}
