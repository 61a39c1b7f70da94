//! Two backends that are told the same give the same answers, whatever they are told.
#![allow(clippy::unwrap_used)]

use proptest::{collection::vec, prelude::*};
use tasklog_log::{Chain, Commit, CommitId, NewCommit, Position};
use uuid::Uuid;

use crate::common::{Memory, Redis, Sqlite, Writer, commit};

const KEYS: [&str; 4] = ["a", "b", "c", "d"];

/// One step of a history.
#[derive(Clone, Debug)]
enum Step {
    Append(Vec<Draft>),
    Clock(i64),
    Read { after: u64, limit: usize },
    Event(u64),
}

/// A commit before its conditions are known.
#[derive(Clone, Debug)]
struct Draft {
    id: u128,
    repeatable: bool,
    /// Which key, whether it begins a new chain, and how far the rev it expects is from the right one.
    writes: Vec<(usize, bool, u64)>,
}

fn draft() -> impl Strategy<Value = Draft> {
    let write = (0..KEYS.len(), any::<bool>(), prop_oneof![9 => Just(0_u64), 1 => 1..3_u64]);
    (0..20_u128, any::<bool>(), vec(write, 1..4)).prop_map(|(id, repeatable, writes)| Draft { id, repeatable, writes })
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => vec(draft(), 0..4).prop_map(Step::Append),
        1 => (0..5_000_i64).prop_map(Step::Clock),
        2 => (0..40_u64, 0..10_usize).prop_map(|(after, limit)| Step::Read { after, limit }),
        1 => (0..40_u64).prop_map(Step::Event),
    ]
}

/// The commits of a batch, with the revs that they will see if all of them are accepted.
fn batch(drafts: &[Draft], log: &[Commit], ids: &mut u128) -> Vec<NewCommit> {
    let mut revs = KEYS.map(|key| {
        let events = log.iter().flat_map(|commit| &commit.events);
        events.filter(|event| &*event.key == key).map(|event| event.position.0).max().unwrap_or(0)
    });
    let mut at = log.last().map_or(0, |commit| commit.last().0);
    let commits = drafts.iter().map(|draft| {
        let mut writes: Vec<(&str, u64)> = Vec::new();
        for (key, _, off) in &draft.writes {
            writes.push((KEYS[*key], revs[*key] + off));
        }
        let mut new = commit(&writes);
        for (event, (_, start, _)) in new.events.iter_mut().zip(&draft.writes) {
            event.chain = if *start { Chain::Start } else { Chain::Continue };
        }
        for (key, ..) in &draft.writes {
            at += 1;
            revs[*key] = at;
        }
        if draft.repeatable {
            new.answer = Some(draft.id.to_be_bytes().to_vec());
            new.meta.id = CommitId(Uuid::from_u128(draft.id));
        } else {
            *ids += 1;
            new.meta.id = CommitId(Uuid::from_u128(1_000 + *ids));
        }
        new
    });
    commits.collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn memory_sqlite_and_redis_give_the_same_answers(steps in vec(step(), 1..24)) {
        let (mut memory, mut sqlite) = (Writer::<Memory>::open(), Writer::<Sqlite>::open());
        let mut redis = Writer::<Redis>::open();
        let mut ids = 0;
        for step in steps {
            match step {
                Step::Append(drafts) => {
                    let batch = batch(&drafts, &memory.all(), &mut ids);
                    let outcomes = memory.append(&batch);
                    prop_assert_eq!(&outcomes, &sqlite.append(&batch));
                    prop_assert_eq!(&outcomes, &redis.append(&batch));
                }
                Step::Clock(now) => {
                    memory.clock.set(now);
                    sqlite.clock.set(now);
                    redis.clock.set(now);
                }
                Step::Read { after, limit } => {
                    let read = |log: Box<dyn tasklog_log::Log + '_>| log.read(Position(after), limit).unwrap();
                    prop_assert_eq!(read(memory.log()), read(sqlite.log()));
                    prop_assert_eq!(read(memory.log()), read(redis.log()));
                }
                Step::Event(position) => {
                    let event = |log: Box<dyn tasklog_log::Log + '_>| log.event(Position(position)).unwrap();
                    prop_assert_eq!(event(memory.log()), event(sqlite.log()));
                    prop_assert_eq!(event(memory.log()), event(redis.log()));
                }
            }
        }
        prop_assert_eq!(memory.all(), sqlite.all());
        prop_assert_eq!(memory.all(), redis.all());
        let (mut sqlite, mut redis) = (sqlite.reopened(), redis.reopened());
        prop_assert_eq!(memory.head(), sqlite.head());
        prop_assert_eq!(memory.head(), redis.head());
    }
}
