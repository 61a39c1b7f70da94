#![allow(clippy::unwrap_used)]

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use tasklog_log::{
    COMMIT_BYTES_MAX, COMMIT_EVENTS_MAX, Chain, Checkpoint, Commit, CommitId, Entity, LogInfo, NewCommit, Position,
    Refused, Revs, StaleCondition, StoreError, StoreErrorKind, read_checked,
};
use uuid::Uuid;

use crate::common::{Harness, Writer, answered, appended, commit, condition, entity, event, places, positions};

/// Far longer than anything here takes, and short enough that a hanging test ends.
const PATIENCE: Duration = Duration::from_secs(20);

fn stale(key: &str, expected: u64, actual: u64) -> StaleCondition {
    StaleCondition { entity: entity(key), expected: Position(expected), actual: Position(actual) }
}

/// Three commits: `[1] [2 3 4] [5 6]`.
fn three_commits<H: Harness>() -> Writer<H> {
    let mut writer = Writer::open();
    writer.append(&[commit(&[("a", 0)]), commit(&[("b", 0), ("c", 0), ("d", 0)]), commit(&[("e", 0), ("f", 0)])]);
    writer
}

fn read<H: Harness>(writer: &mut Writer<H>, after: u64, limit: usize) -> Vec<Vec<u64>> {
    positions(&writer.log().read(Position(after), limit).unwrap())
}

pub fn an_empty_log_is_before_everything<H: Harness>() {
    let mut writer = Writer::<H>::open();
    let log = writer.log();
    let info = log.info().unwrap();
    assert_eq!(info.epoch, 1);
    assert_eq!(log.head().unwrap(), Checkpoint::start(info));
    assert_eq!(log.first().unwrap(), Position(1));
    assert_eq!(log.read(Position::ZERO, 10).unwrap(), []);
    assert_eq!(read_checked(&*log, Position::ZERO, 10).unwrap(), []);
    assert_eq!(log.event(Position::ZERO).unwrap(), None);
    assert_eq!(log.event(Position(1)).unwrap(), None);
    assert_eq!(log.find(CommitId::mint()).unwrap(), None);
}

pub fn positions_are_dense_and_start_at_one<H: Harness>() {
    let mut writer = Writer::<H>::open();
    assert_eq!(places(&writer.append(&[commit(&[("a", 0)])])), [Some((1, 1))]);
    let outcomes = writer.append(&[commit(&[("b", 0), ("c", 0)]), commit(&[("a", 9)]), commit(&[("d", 0)])]);
    assert_eq!(places(&outcomes), [Some((2, 3)), None, Some((4, 4))]);
    assert_eq!(places(&writer.append(&[commit(&[("e", 0)])])), [Some((5, 5))]);
    assert_eq!(positions(&writer.all()), [vec![1], vec![2, 3], vec![4], vec![5]]);
    assert_eq!(writer.head(), 5);
}

pub fn a_commit_is_whole_or_absent<H: Harness>() {
    let mut writer = Writer::<H>::open();
    let outcomes = writer.append(&[commit(&[("a", 0), ("b", 0), ("c", 7)])]);
    assert_eq!(places(&outcomes), [None]);
    assert_eq!(writer.head(), 0);
    assert_eq!(writer.all(), []);
}

pub fn no_reader_sees_a_part_of_a_commit<H: Harness>() {
    const COMMITS: u64 = 100;
    let mut writer = Writer::<H>::open();
    let mut reader = writer.second();
    let finished = AtomicBool::new(false);
    thread::scope(|scope| {
        let looking = scope.spawn(|| {
            let mut seen = 0;
            while seen < 3 * COMMITS {
                let last_look = finished.load(Ordering::Acquire);
                for page_limit in [1, 4, 1_000] {
                    let commits = read_checked(&*reader.log(), Position(seen), page_limit).unwrap();
                    for commit in commits {
                        assert_eq!(commit.events.len(), 3, "commit {}", commit.meta.id);
                        seen = commit.last().0;
                    }
                    assert_eq!(reader.head() % 3, 0);
                }
                assert!(!last_look || seen == 3 * COMMITS, "the writer is done and the reader stands at {seen}");
            }
        });
        for n in 0..COMMITS {
            let rev = |at: u64| if n == 0 { 0 } else { 3 * (n - 1) + at };
            writer.append(&[commit(&[("a", rev(1)), ("b", rev(2)), ("c", rev(3))])]);
        }
        finished.store(true, Ordering::Release);
        looking.join().unwrap();
    });
}

pub fn a_commit_is_readable_at_once_as_it_was_given<H: Harness>() {
    let mut writer = Writer::<H>::open();
    let mut new = commit(&[("a", 0), ("b", 0)]);
    new.meta.actor = "bob".into();
    new.meta.reason = Some("because".into());
    new.meta.request_id = Some("r-1".into());
    new.events[1].event_type = "thing_renamed".into();
    new.events[1].type_version = 3;
    new.events[1].payload = b"\x81\xa1a\x01".to_vec();
    let at = appended(&writer.append(&[new.clone()])[0]);

    let stored = writer.log().read(Position::ZERO, 10).unwrap().remove(0);
    assert_eq!(stored.meta, new.meta);
    assert_eq!(stored.recorded_at, at.recorded_at);
    assert_eq!((stored.first(), stored.last()), (at.first, at.last));
    for (event, given) in stored.events.iter().zip(&new.events) {
        assert_eq!(Entity { table: event.table.clone(), key: event.key.clone() }, given.entity);
        assert_eq!(event.event_type, given.event_type);
        assert_eq!(event.type_version, given.type_version);
        assert_eq!(event.payload, given.payload);
        assert_eq!(event.prev, None);
    }
    let head = writer.log().head().unwrap();
    assert_eq!((head.position, head.commit, head.recorded_at), (at.last, new.meta.id, at.recorded_at));
}

pub fn odd_texts_and_bytes_come_back_unchanged<H: Harness>() {
    let long = "k".repeat(512);
    let keys = ["a/b", "a%2Fb", "\u{e9}", "e\u{301}", "🦀", " ", "a:b", "_index", long.as_str()];
    let mut writer = Writer::<H>::open();
    let mut new = commit(&keys.map(|key| (key, 0)));
    new.meta.actor = "".into();
    new.meta.reason = Some("".into());
    new.meta.request_id = Some("line\nbreak \u{0}".into());
    new.events[0].payload = (0..=255).collect();
    new.events[1].payload = Vec::new();
    new.events[2].payload = vec![0xFF; 1 << 20];
    writer.append(std::slice::from_ref(&new));
    let stored = writer.all().remove(0);
    assert_eq!(stored.meta, new.meta);
    assert_eq!(stored.events.iter().map(|event| &*event.key).collect::<Vec<_>>(), keys);
    for (event, given) in stored.events.iter().zip(&new.events) {
        assert!(event.payload == given.payload, "payload of {}", event.key);
    }
}

pub fn an_empty_batch_changes_nothing<H: Harness>() {
    let mut writer = Writer::<H>::open();
    assert_eq!(writer.append(&[]), []);
    writer.append(&[commit(&[("a", 0)])]);
    let head = writer.log().head().unwrap();
    assert_eq!(writer.append(&[]), []);
    assert_eq!(writer.log().head().unwrap(), head);
}

pub fn a_stale_condition_refuses_only_its_own_commit<H: Harness>() {
    let mut writer = Writer::<H>::open();
    writer.append(&[commit(&[("a", 0)]), commit(&[("b", 0)])]);
    let outcomes = writer.append(&[commit(&[("b", 2)]), commit(&[("a", 0), ("c", 0)]), commit(&[("c", 0)])]);
    assert_eq!(places(&outcomes), [Some((3, 3)), None, Some((4, 4))]);
    assert_eq!(outcomes[1], Err(Refused { stale: vec![stale("a", 0, 1)] }));
}

pub fn every_stale_condition_is_named_with_its_current_rev<H: Harness>() {
    let mut writer = Writer::<H>::open();
    writer.append(&[commit(&[("a", 0), ("b", 0)])]);
    let outcomes = writer.append(&[commit(&[("a", 2), ("b", 2), ("c", 5)])]);
    assert_eq!(outcomes[0], Err(Refused { stale: vec![stale("a", 2, 1), stale("c", 5, 0)] }));
}

pub fn a_row_that_was_only_read_is_a_condition_too<H: Harness>() {
    let mut writer = Writer::<H>::open();
    writer.append(&[commit(&[("seen", 0)])]);
    let mut new = commit(&[("a", 0)]);
    new.conditions.push(condition("seen", 0));
    assert_eq!(writer.append(&[new.clone()])[0], Err(Refused { stale: vec![stale("seen", 0, 1)] }));
    new.conditions[1] = condition("seen", 1);
    assert_eq!(places(&writer.append(&[new])), [Some((2, 2))]);
}

pub fn a_later_commit_of_a_batch_sees_the_revs_the_earlier_ones_left<H: Harness>() {
    let mut writer = Writer::<H>::open();
    let outcomes = writer.append(&[commit(&[("a", 0)]), commit(&[("a", 0)]), commit(&[("a", 1)])]);
    assert_eq!(places(&outcomes), [Some((1, 1)), None, Some((2, 2))]);
    assert_eq!(outcomes[1], Err(Refused { stale: vec![stale("a", 0, 1)] }));
}

pub fn a_refused_commit_leaves_no_rev_for_the_later_ones<H: Harness>() {
    let mut writer = Writer::<H>::open();
    writer.append(&[commit(&[("a", 0)])]);
    let outcomes = writer.append(&[commit(&[("b", 0), ("a", 0)]), commit(&[("b", 0)]), commit(&[("a", 1)])]);
    assert_eq!(places(&outcomes), [None, Some((2, 2)), Some((3, 3))]);
}

pub fn two_handles_share_one_log<H: Harness>() {
    let mut one = Writer::<H>::open();
    let mut two = one.second();
    assert_eq!(one.log().info().unwrap(), two.log().info().unwrap());
    assert_eq!(places(&one.append(&[commit(&[("a", 0)])])), [Some((1, 1))]);
    assert_eq!(places(&two.append(&[commit(&[("b", 0)])])), [Some((2, 2))]);
    assert_eq!(places(&one.append(&[commit(&[("b", 0)]), commit(&[("a", 1)])])), [None, Some((3, 3))]);
    assert_eq!(one.all(), two.all());
}

pub fn an_entitys_events_are_linked_across_commits<H: Harness>() {
    let mut writer = Writer::<H>::open();
    writer.append(&[commit(&[("a", 0)]), commit(&[("b", 0)])]);
    writer.append(&[commit(&[("a", 1)]), commit(&[("a", 3)])]);
    let prevs: Vec<_> = writer.all().iter().map(|commit| commit.events[0].prev).collect();
    assert_eq!(prevs, [None, None, Some(Position(1)), Some(Position(3))]);
}

pub fn two_events_on_one_entity_in_one_commit_are_linked<H: Harness>() {
    let mut writer = Writer::<H>::open();
    let mut new = commit(&[("a", 0), ("b", 0)]);
    new.events.push(event("a"));
    new.events.push(event("a"));
    writer.append(&[new]);
    let prevs: Vec<_> = writer.all()[0].events.iter().map(|event| event.prev.map(|prev| prev.0)).collect();
    assert_eq!(prevs, [None, None, Some(1), Some(3)]);
    // The last of them is the entity's rev.
    assert_eq!(writer.append(&[commit(&[("a", 1)])])[0], Err(Refused { stale: vec![stale("a", 1, 4)] }));
}

pub fn a_new_chain_starts_without_a_link_and_goes_on_from_itself<H: Harness>() {
    let mut writer = Writer::<H>::open();
    writer.append(&[commit(&[("a", 0)])]);
    let mut new = commit(&[("a", 1)]);
    new.events[0].chain = Chain::Start;
    new.events.push(event("a"));
    writer.append(&[new]);
    let prevs: Vec<_> = writer.all()[1].events.iter().map(|event| event.prev).collect();
    assert_eq!(prevs, [None, Some(Position(2))]);
}

pub fn equal_keys_of_two_tables_are_two_entities<H: Harness>() {
    let mut writer = Writer::<H>::open();
    writer.append(&[commit(&[("a", 0)])]);
    let mut new = commit(&[("a", 0)]);
    new.conditions[0].entity = Entity::new("others", "a");
    new.events[0].entity = Entity::new("others", "a");
    assert_eq!(places(&writer.append(&[new])), [Some((2, 2))]);
    assert_eq!(writer.all()[1].events[0].prev, None);
}

pub fn an_entitys_positions_are_found_where_no_link_leads<H: Harness>() {
    let mut writer = Writer::<H>::open();
    writer.append(&[commit(&[("a", 0), ("b", 0)])]);
    let mut again = commit(&[("a", 1)]);
    again.events[0].chain = Chain::Start;
    let mut other = commit(&[("a", 0)]);
    other.conditions[0].entity = Entity::new("others", "a");
    other.events[0].entity = Entity::new("others", "a");
    writer.append(&[again, other]);
    let table = writer.all()[0].events[0].table.to_string();
    let log = writer.log();
    let found = |table: &str, key: &str, after, through| {
        let found = log.positions_of(table, key, Position(after), Position(through)).unwrap();
        found.into_iter().map(|position| position.0).collect::<Vec<_>>()
    };
    assert_eq!(found(&table, "a", 0, 4), [1, 3]);
    assert_eq!((found(&table, "a", 1, 4), found(&table, "a", 0, 2)), (vec![3], vec![1]));
    assert_eq!((found("others", "a", 0, 9), found(&table, "c", 0, 9)), (vec![4], vec![]));
    assert_eq!((found(&table, "b", 2, 9), found(&table, "b", 1, 1)), (vec![], vec![]));
}

pub fn recorded_at_never_decreases_when_the_clock_jumps_back<H: Harness>() {
    let mut writer = Writer::<H>::open();
    for (n, instant) in [5_000, 4_000, 0, 5_000, 5_001].into_iter().enumerate() {
        writer.clock.set(instant);
        let before = writer.log().now().unwrap();
        let key = n.to_string();
        let at = appended(&writer.append(&[commit(&[(key.as_str(), 0)])])[0]);
        assert!(before <= at.recorded_at, "decided at {before}, recorded at {}", at.recorded_at);
    }
    // Even a caller that brings an instant of its own cannot go back.
    let mut log = writer.log();
    let last = log.head().unwrap().recorded_at;
    let outcomes = log.append(last - 1, &[commit(&[("late", 0)])], &mut NothingSeen).unwrap();
    assert_eq!(appended(&outcomes[0]).recorded_at, last);
    drop(log);

    let instants: Vec<_> = writer.all().iter().map(|commit| commit.recorded_at).collect();
    assert!(instants.is_sorted(), "{instants:?}");
}

pub fn a_commit_decided_at_an_instant_of_its_own_is_recorded_at_it<H: Harness>() {
    let mut writer = Writer::<H>::open();
    let decided = |key, instant| {
        let mut new = commit(&[(key, 0)]);
        new.decided_at = instant;
        new
    };
    // The second one is refused: its instant must not hold the third one up.
    let refused = NewCommit { decided_at: Some(9_000), ..commit(&[("x", 7)]) };
    let outcomes = writer.append(&[decided("a", Some(5_000)), refused, decided("b", Some(4_000)), decided("c", None)]);
    let instants: Vec<_> = outcomes.iter().map(|outcome| outcome.as_ref().ok().map(|at| at.recorded_at)).collect();
    assert_eq!(instants, [Some(5_000), None, Some(5_000), Some(5_000)]);
    writer.append(&[decided("d", Some(6_000))]);
    assert_eq!(writer.log().head().unwrap().recorded_at, 6_000);
}

pub fn now_is_never_below_the_last_event<H: Harness>() {
    let mut writer = Writer::<H>::open();
    writer.clock.set(9_000);
    let at = appended(&writer.append(&[commit(&[("a", 0)])])[0]);
    writer.clock.set(10);
    assert!(writer.log().now().unwrap() >= at.recorded_at);
}

pub fn a_repeated_answered_id_is_not_appended_again<H: Harness>() {
    let mut writer = Writer::<H>::open();
    let new = answered(1, b"done", commit(&[("a", 0), ("b", 0)]));
    let first = writer.append(std::slice::from_ref(&new));
    writer.append(&[commit(&[("c", 0)])]);
    writer.clock.advance(1_000);
    assert_eq!(writer.append(&[commit(&[("d", 0)]), new.clone()])[1], first[0]);
    assert_eq!(writer.head(), 4);
    let stored = writer.log().find(new.meta.id).unwrap().unwrap();
    assert_eq!((stored.appended, stored.answer), (appended(&first[0]), b"done".to_vec()));
}

pub fn a_repeated_id_is_answered_even_if_its_conditions_no_longer_hold<H: Harness>() {
    let mut writer = Writer::<H>::open();
    let first = writer.append(&[answered(1, b"done", commit(&[("a", 0)]))]);
    writer.append(&[commit(&[("a", 1)])]);
    // Even with other events: the id alone says that this is the same command.
    assert_eq!(writer.append(&[answered(1, b"other", commit(&[("a", 0), ("z", 0)]))]), first);
    assert_eq!(writer.log().find(CommitId(Uuid::from_u128(1))).unwrap().unwrap().answer, b"done");
}

pub fn a_repeated_id_within_one_batch_is_appended_once<H: Harness>() {
    let mut writer = Writer::<H>::open();
    let twice = [answered(1, b"done", commit(&[("a", 0)])), answered(1, b"done", commit(&[("a", 0)]))];
    assert_eq!(places(&writer.append(&twice)), [Some((1, 1)), Some((1, 1))]);
    assert_eq!(writer.head(), 1);
}

pub fn a_refused_commit_keeps_no_answer<H: Harness>() {
    let mut writer = Writer::<H>::open();
    let outcomes = writer.append(&[answered(1, b"no", commit(&[("a", 7)])), answered(1, b"yes", commit(&[("a", 0)]))]);
    assert_eq!(places(&outcomes), [None, Some((1, 1))]);
    assert_eq!(writer.log().find(CommitId(Uuid::from_u128(1))).unwrap().unwrap().answer, b"yes");
}

pub fn an_id_without_an_answer_is_not_kept<H: Harness>() {
    let mut writer = Writer::<H>::open();
    let new = commit(&[("a", 0)]);
    writer.append(std::slice::from_ref(&new));
    assert_eq!(writer.log().find(new.meta.id).unwrap(), None);
}

pub fn an_empty_answer_is_an_answer<H: Harness>() {
    let mut writer = Writer::<H>::open();
    writer.append(&[answered(1, b"", commit(&[("a", 0)]))]);
    assert_eq!(writer.log().find(CommitId(Uuid::from_u128(1))).unwrap().unwrap().answer, b"");
}

pub fn reading_is_exclusive_of_after<H: Harness>() {
    let mut writer = three_commits::<H>();
    assert_eq!(read(&mut writer, 0, 100), [vec![1], vec![2, 3, 4], vec![5, 6]]);
    assert_eq!(read(&mut writer, 1, 100), [vec![2, 3, 4], vec![5, 6]]);
    assert_eq!(read(&mut writer, 4, 100), [vec![5, 6]]);
}

pub fn a_page_has_at_least_one_whole_commit<H: Harness>() {
    let mut writer = three_commits::<H>();
    for limit in [0, 1, 2, 3] {
        assert_eq!(read(&mut writer, 1, limit), [vec![2, 3, 4]], "limit {limit}");
    }
}

pub fn a_page_ends_with_the_commit_that_reaches_the_limit<H: Harness>() {
    let mut writer = three_commits::<H>();
    assert_eq!(read(&mut writer, 0, 1), [vec![1]]);
    assert_eq!(read(&mut writer, 0, 2), [vec![1], vec![2, 3, 4]]);
    assert_eq!(read(&mut writer, 0, 4), [vec![1], vec![2, 3, 4]]);
    assert_eq!(read(&mut writer, 0, 5), [vec![1], vec![2, 3, 4], vec![5, 6]]);
}

pub fn reading_from_inside_a_commit_brings_it_whole<H: Harness>() {
    let mut writer = three_commits::<H>();
    for inside in [2, 3] {
        assert_eq!(read(&mut writer, inside, 1), [vec![2, 3, 4]], "after {inside}");
        let checked = read_checked(&*writer.log(), Position(inside), 100).unwrap();
        assert_eq!(positions(&checked), [vec![2, 3, 4], vec![5, 6]]);
    }
}

pub fn reading_beyond_the_head_is_empty<H: Harness>() {
    let mut writer = three_commits::<H>();
    for after in [6, 7, i64::MAX as u64, u64::MAX] {
        assert_eq!(read(&mut writer, after, 10), Vec::<Vec<u64>>::new(), "after {after}");
        assert_eq!(read_checked(&*writer.log(), Position(after), 10).unwrap(), []);
    }
}

pub fn every_event_is_found_by_its_position<H: Harness>() {
    let mut writer = three_commits::<H>();
    let commits = writer.all();
    let log = writer.log();
    for commit in &commits {
        for (index, event) in commit.events.iter().enumerate() {
            assert_eq!(log.event(event.position).unwrap(), Some((commit.clone(), index)));
        }
    }
    for nowhere in [0, 7, i64::MAX as u64, u64::MAX] {
        assert_eq!(log.event(Position(nowhere)).unwrap(), None, "position {nowhere}");
    }
}

pub fn stored_checksums_are_right<H: Harness>() {
    let mut writer = three_commits::<H>();
    for commit in writer.log().read(Position::ZERO, 100).unwrap() {
        for event in &commit.events {
            commit.check(event).unwrap();
        }
    }
}

pub fn wait_answers_at_once_if_the_head_is_beyond<H: Harness>() {
    let mut writer = three_commits::<H>();
    assert_eq!(writer.log().wait(Position(5), Duration::MAX).unwrap(), Position(6));
    assert_eq!(writer.log().wait(Position::ZERO, Duration::ZERO).unwrap(), Position(6));
}

pub fn wait_ends_with_its_timeout<H: Harness>() {
    let mut writer = three_commits::<H>();
    let timeout = Duration::from_millis(30);
    let started = Instant::now();
    assert_eq!(writer.log().wait(Position(6), timeout).unwrap(), Position(6));
    assert!(started.elapsed() >= timeout, "woke up after {:?}", started.elapsed());
    assert_eq!(writer.log().wait(Position(6), Duration::ZERO).unwrap(), Position(6));
}

pub fn wait_wakes_up_when_another_handle_appends<H: Harness>() {
    let mut writer = three_commits::<H>();
    let mut waiter = writer.second();
    thread::scope(|scope| {
        let waiting = scope.spawn(move || {
            let started = Instant::now();
            (waiter.log().wait(Position(6), PATIENCE).unwrap(), started.elapsed())
        });
        thread::sleep(Duration::from_millis(20));
        writer.append(&[commit(&[("g", 0), ("h", 0)])]);
        let (head, waited) = waiting.join().unwrap();
        assert_eq!(head, Position(8));
        assert!(waited < PATIENCE, "waited for {waited:?}");
    });
}

pub fn a_commit_of_a_thousand_events_fits<H: Harness>() {
    let mut writer = Writer::<H>::open();
    let keys: Vec<_> = (0..COMMIT_EVENTS_MAX).map(|n| n.to_string()).collect();
    let writes: Vec<_> = keys.iter().map(|key| (key.as_str(), 0)).collect();
    let last = COMMIT_EVENTS_MAX as u64;
    assert_eq!(places(&writer.append(&[commit(&writes)])), [Some((1, last))]);
    assert_eq!(writer.all()[0].events.len(), COMMIT_EVENTS_MAX);
    let (found, index) = writer.log().event(Position(last)).unwrap().unwrap();
    assert_eq!((found.events.len(), index), (COMMIT_EVENTS_MAX, COMMIT_EVENTS_MAX - 1));
}

pub fn a_commit_beyond_the_bounds_fails_its_batch<H: Harness>() {
    let mut too_many = commit(&[("a", 0)]);
    too_many.events = (0..=COMMIT_EVENTS_MAX).map(|_| event("a")).collect();
    let mut too_big = commit(&[("a", 0)]);
    too_big.events[0].payload = vec![0; COMMIT_BYTES_MAX + 1];
    let none = commit(&[]);

    let mut writer = Writer::<H>::open();
    for (bound, beyond) in [("commit_events_max", too_many), ("commit_bytes_max", too_big), ("commit_events_max", none)]
    {
        let error = writer.try_append(&[commit(&[("b", 0)]), beyond]).unwrap_err();
        assert!(error.to_string().contains(bound), "{error}");
        assert_eq!(writer.head(), 0);
        assert_eq!(writer.all(), []);
    }
}

pub fn an_error_from_append_leaves_nothing_of_the_batch<H: Harness>() {
    let mut writer = three_commits::<H>();
    let head = writer.log().head().unwrap();
    let batch = [answered(1, b"done", commit(&[("g", 0)])), commit(&[("broken", 0)])];
    let error = writer.append_with(&batch, &mut NothingSeen).unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Unavailable);
    assert_eq!(writer.log().head().unwrap(), head);
    assert_eq!(read(&mut writer, 6, 10), Vec::<Vec<u64>>::new());
    assert_eq!(writer.log().find(batch[0].meta.id).unwrap(), None);
    // And the log goes on as if it had never been asked.
    assert_eq!(places(&writer.append(&batch[..1])), [Some((7, 7))]);
}

/// Has seen no row, and cannot look at the one called "broken".
struct NothingSeen;

impl Revs for NothingSeen {
    fn rev(&mut self, entity: &Entity) -> Result<Position, StoreError> {
        match &*entity.key {
            "broken" => Err(StoreError::unavailable("looking at a row that cannot be read")),
            _ => Ok(Position::ZERO),
        }
    }
}

pub fn an_event_without_a_condition_on_its_entity_is_an_error<H: Harness>() {
    let mut writer = Writer::<H>::open();
    let mut blind = commit(&[("a", 0)]);
    blind.conditions = vec![condition("b", 0)];
    let error = writer.try_append(&[blind.clone()]).unwrap_err();
    assert!(error.to_string().contains("things/a"), "{error}");
    // A condition of another commit in the batch does not count: it was another decision.
    let error = writer.try_append(&[commit(&[("a", 0)]), blind]).unwrap_err();
    assert!(error.to_string().contains("things/a"), "{error}");
    assert_eq!(writer.head(), 0);
}

pub fn head_and_identity_survive_reopening<H: Harness>() {
    let mut writer = three_commits::<H>();
    let info = writer.log().info().unwrap();
    let head = writer.log().head().unwrap();
    let commits = writer.all();
    let mut writer = writer.reopened();
    assert_eq!(writer.log().info().unwrap(), info);
    assert_eq!(writer.log().head().unwrap(), head);
    assert_eq!(writer.all(), commits);
    assert_eq!(places(&writer.append(&[commit(&[("a", 1)])])), [Some((7, 7))]);
}

pub fn answers_survive_reopening<H: Harness>() {
    let mut writer = Writer::<H>::open();
    let first = writer.append(&[answered(1, b"done", commit(&[("a", 0)]))]);
    let mut writer = writer.reopened();
    assert_eq!(writer.append(&[answered(1, b"done", commit(&[("a", 0)]))]), first);
}

/// Two logs of the same backend: one that has made three commits, and an empty one that took over its identity.
fn source_and_adopter<H: Harness>() -> (Writer<H>, Writer<H>) {
    let (mut source, mut adopter) = (three_commits::<H>(), Writer::<H>::open());
    let info = source.log().info().unwrap();
    adopter.log().adopt_identity(info).unwrap();
    (source, adopter)
}

fn refused<H: Harness>(adopter: &mut Writer<H>, commits: &[Commit], position: u64) {
    let before = adopter.log().head().unwrap();
    let error = adopter.log().adopt(commits).unwrap_err();
    assert!(
        matches!(error, StoreError::Corrupt { position: Some(at), .. } if at == Position(position)),
        "{error}, expected one about {position}"
    );
    assert_eq!(adopter.log().head().unwrap(), before);
}

pub fn adopted_commits_read_back_equal<H: Harness>() {
    let (mut source, mut adopter) = source_and_adopter::<H>();
    let mut odd = commit(&[("a", 1), ("ключ/_index:é🦀", 0)]);
    odd.meta.actor = "bob".into();
    odd.meta.reason = Some("".into());
    odd.meta.request_id = Some("r\u{0}1".into());
    odd.events[1].payload = (0..=255).collect();
    odd.events[1].type_version = 7;
    source.append(&[odd]);
    let commits = source.all();
    adopter.log().adopt(&commits[..1]).unwrap();
    adopter.log().adopt(&[]).unwrap();
    adopter.log().adopt(&commits[1..]).unwrap();
    assert_eq!(adopter.all(), commits);
    assert_eq!(adopter.log().head().unwrap(), source.log().head().unwrap());
    assert_eq!(adopter.log().now().unwrap().max(1), source.log().now().unwrap().max(1));
    let mut adopter = adopter.reopened();
    assert_eq!(adopter.all(), commits);
    assert_eq!(adopter.log().head().unwrap(), source.log().head().unwrap());
}

pub fn an_empty_log_takes_over_an_identity<H: Harness>() {
    let mut adopter = Writer::<H>::open();
    let info = LogInfo { id: Uuid::from_u128(7), epoch: 3 };
    adopter.log().adopt_identity(info).unwrap();
    assert_eq!(adopter.log().info().unwrap(), info);
    assert_eq!(adopter.log().head().unwrap(), Checkpoint::start(info));
    assert_eq!(adopter.reopened().log().info().unwrap(), info);
}

pub fn a_log_with_events_keeps_its_identity<H: Harness>() {
    let mut writer = three_commits::<H>();
    let info = writer.log().info().unwrap();
    let error = writer.log().adopt_identity(LogInfo { id: Uuid::from_u128(7), epoch: 3 }).unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Corrupt);
    assert_eq!(writer.log().info().unwrap(), info);
}

pub fn adopting_across_a_gap_is_refused<H: Harness>() {
    let (mut source, mut adopter) = source_and_adopter::<H>();
    let commits = source.all();
    refused(&mut adopter, &commits[1..], 1);
    adopter.log().adopt(&commits[..1]).unwrap();
    refused(&mut adopter, &commits[2..], 2);
    refused(&mut adopter, &[commits[1].clone(), commits[1].clone()], 5);
    // A commit without its middle is a gap too.
    let mut torn = commits[1].clone();
    torn.events.remove(1);
    refused(&mut adopter, &[torn], 3);
    let mut empty = commits[1].clone();
    empty.events.clear();
    refused(&mut adopter, &[empty], 2);
    adopter.log().adopt(&commits[1..]).unwrap();
}

pub fn adopting_a_commit_twice_is_refused<H: Harness>() {
    let (mut source, mut adopter) = source_and_adopter::<H>();
    let commits = source.all();
    adopter.log().adopt(&commits).unwrap();
    refused(&mut adopter, &commits, 7);
    refused(&mut adopter, &commits[2..], 7);
    assert_eq!(adopter.all(), commits);
}

pub fn adopting_a_wrong_checksum_is_refused_as_corrupt<H: Harness>() {
    let (mut source, mut adopter) = source_and_adopter::<H>();
    let mut commits = source.all();
    commits[1].events[2].payload.push(0);
    refused(&mut adopter, &commits, 4);
    let mut renamed = source.all();
    renamed[0].meta.actor = "mallory".into();
    refused(&mut adopter, &renamed, 1);
}

pub fn a_refused_adoption_leaves_nothing_of_its_commits<H: Harness>() {
    let (mut source, mut adopter) = source_and_adopter::<H>();
    let mut commits = source.all();
    commits[2].events[1].checksum ^= 1;
    refused(&mut adopter, &commits, 6);
    assert_eq!(adopter.all(), []);
    adopter.log().adopt(&source.all()).unwrap();
    assert_eq!(adopter.all(), source.all());
}

pub fn appends_go_on_after_adopted_commits<H: Harness>() {
    let (mut source, mut adopter) = source_and_adopter::<H>();
    adopter.log().adopt(&source.all()).unwrap();
    assert_eq!(places(&adopter.append(&[commit(&[("a", 1)]), commit(&[("a", 9)])])), [Some((7, 7)), None]);
    assert_eq!(adopter.all().pop().unwrap().events[0].prev, Some(Position(1)));
}

pub fn adopted_commits_wake_up_a_waiting_reader<H: Harness>() {
    let (mut source, mut adopter) = source_and_adopter::<H>();
    let mut reader = adopter.second();
    thread::scope(|scope| {
        let waiting = scope.spawn(move || reader.log().wait(Position(1), PATIENCE).unwrap());
        adopter.log().adopt(&source.all()).unwrap();
        assert_eq!(waiting.join().unwrap(), Position(6));
    });
}
