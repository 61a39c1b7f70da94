#![allow(clippy::unwrap_used)]
use std::{io::Cursor, sync::Arc};

use tasklog_log::{
    Blobs, Chain, CommitId, CommitMeta, Condition, Entity, Log, LogId, LogInfo, ManualClock, MemoryBlobs, NewCommit,
    NewEvent, Position, READ_EVENTS_MAX, Revs, StoreErrorKind,
    memory::{MemoryLog, MemoryRevs},
    read_checked,
};
use tasklog_projections::{
    Hash32, PROJECTED, TableEvent, View,
    facts::{self, FactEvent, KeepCleared, KeepSet},
    memory::MemoryView,
    tables::idempotency_cache::{self, IdempotencyEvent, IdempotencyKeyRecorded, IdempotencyKeyReleased, KeySource},
};

use super::{MakeOptions, SnapshotInfo, Snapshots, file::File, format::Directory, write::Writer};
use crate::{Folder, catch_up_with, live_rows};

const DAY_MS: i64 = 24 * 60 * 60 * 1_000;

/// A log with two tables: keys that die by time and are forgotten a day after they were released, and facts.
struct Given {
    log: MemoryLog,
    revs: MemoryRevs,
    now: i64,
    /// Differs in each history of the log.
    history: u128,
}

type Change = (&'static str, &'static str, Vec<u8>, &'static str, Chain);

fn key(key: &'static str, expires_at: i64) -> Change {
    let recorded = IdempotencyKeyRecorded {
        body_sha256: Hash32([7; 32]),
        miroir_task_id: "t".into(),
        expires_at,
        source: KeySource::Client,
    };
    ("idempotency_cache", key, IdempotencyEvent::from(recorded).encode(), "idempotency_key_recorded", Chain::Continue)
}

/// The key again, after the first one had died.
fn key_again(name: &'static str, expires_at: i64) -> Change {
    let (table, name, payload, kind, _) = key(name, expires_at);
    (table, name, payload, kind, Chain::Start)
}

fn release(key: &'static str) -> Change {
    let released = IdempotencyKeyReleased { miroir_task_id: "t".into(), why: "w".into() };
    ("idempotency_cache", key, IdempotencyEvent::from(released).encode(), "idempotency_key_released", Chain::Continue)
}

fn keep(number: i64) -> Change {
    let payload = FactEvent::from(KeepSet { number, set_at: 5 }).encode();
    ("_log", "keep/events", payload, "keep_set", Chain::Continue)
}

fn keep_nothing() -> Change {
    let payload = FactEvent::from(KeepCleared { last: 1 }).encode();
    ("_log", "keep/events", payload, "keep_cleared", Chain::Continue)
}

impl Given {
    fn log() -> Self {
        let mut log = MemoryLog::new(Arc::new(ManualClock::at(0)));
        log.adopt_identity(LogInfo { id: LogId::from_u128(0xabc), epoch: 1 }).unwrap();
        Self { log, revs: MemoryRevs::default(), now: 0, history: 0 }
    }

    fn commit(&mut self, at: i64, changes: impl IntoIterator<Item = Change>) -> &mut Self {
        self.now = at;
        let head = self.log.head().unwrap().position;
        let changes: Vec<_> = changes.into_iter().collect();
        let entity = |change: &Change| Entity::new(change.0, change.1);
        let conditions = changes.iter().map(|change| {
            let entity = entity(change);
            Condition { rev: self.revs.rev(&entity).unwrap(), entity }
        });
        let conditions: Vec<_> = conditions.collect();
        let events = changes.iter().map(|change| NewEvent {
            entity: entity(change),
            event_type: change.3.into(),
            type_version: 1,
            chain: change.4,
            payload: change.2.clone(),
        });
        let meta = CommitMeta {
            id: CommitId(LogId::from_u128((self.history << 64) + u128::from(head.0) + 1)),
            actor: "a".into(),
            reason: None,
            request_id: None,
        };
        let commit = NewCommit { meta, decided_at: Some(at), conditions, events: events.collect(), answer: None };
        let outcomes = self.log.append(at, &[commit], &mut self.revs).unwrap();
        assert!(outcomes[0].is_ok(), "{outcomes:?}");
        self.revs.note(&self.log.read(head, READ_EVENTS_MAX).unwrap());
        self
    }

    fn head(&self) -> Position {
        self.log.head().unwrap().position
    }

    /// Live rows and kept tombstones as text, from position 0 on or from the newest snapshot on.
    fn rows(&self, from: Option<&Snapshots>) -> String {
        let mut view = MemoryView::new(self.log.info().unwrap());
        let snapshot = from.map(|snapshots| snapshots.newest(&self.log, self.head()).unwrap().unwrap());
        let after = snapshot.map_or(Position::ZERO, |snapshot| {
            assert_eq!(snapshot.load(&PROJECTED, &mut view).unwrap(), *snapshot.checkpoint());
            snapshot.checkpoint().position
        });
        let mut folder = Folder::on(&PROJECTED, &view).unwrap().after_snapshot(after);
        let pages = (after < self.head()).then(|| read_checked(&self.log, after, READ_EVENTS_MAX));
        let reached = catch_up_with(&mut folder, 1, pages.into_iter(), &mut view, |_| ()).unwrap();
        assert_eq!(reached, self.log.head().unwrap());
        let mut text = String::new();
        for table in PROJECTED {
            live_rows(table, &view, self.now, |held| {
                text += &format!("{} {:?} {}\n", table.name, held.row, held.rev);
                Ok(())
            })
            .unwrap();
        }
        text + &format!("{:?}", view.tombstone(&facts::DEF, "keep/events").unwrap())
    }
}

fn memory() -> (Arc<MemoryBlobs>, Snapshots) {
    let blobs = Arc::new(MemoryBlobs::default());
    (blobs.clone(), Snapshots::new(blobs))
}

fn make(snapshots: &Snapshots, given: &Given) -> SnapshotInfo {
    snapshots.make(&given.log, &MakeOptions::default()).unwrap()
}

#[test]
fn a_snapshot_and_the_tail_give_the_rows_of_the_whole_log() {
    let mut given = Given::log();
    let (_, snapshots) = memory();
    given.commit(1, [key("a", 1_000), key("b", 1_000), keep(1)]).commit(2, [release("a")]);
    make(&snapshots, &given);
    given.commit(3, [key("a", 500), keep_nothing(), key("c", 900)]);
    assert_eq!(given.rows(Some(&snapshots)), given.rows(None));
    make(&snapshots, &given);
    given.commit(600, [key_again("a", 5_000), release("b"), keep(2)]);
    assert_eq!(given.rows(Some(&snapshots)), given.rows(None));
    let last = make(&snapshots, &given);
    assert_eq!(given.rows(Some(&snapshots)), given.rows(None));
    assert_eq!(snapshots.list().unwrap()[0], last);
    assert_eq!(snapshots.list().unwrap().len(), 3);
}

#[test]
fn the_same_log_gives_the_same_bytes_whichever_snapshots_were_made_on_the_way() {
    let mut given = Given::log();
    let (_, often) = memory();
    for at in 0..40 {
        let names = ["a", "b", "c", "d", "e"];
        let name = names[at as usize % names.len()];
        match at / 5 % 3 {
            0 => given.commit(at, [key(name, at + 500), keep(at)]),
            1 => given.commit(at, [release(name)]),
            _ => given.commit(at, [if at % 2 == 0 { keep_nothing() } else { keep(at) }]),
        };
        if at % 3 == 0 {
            make(&often, &given);
        }
    }
    let (_, once) = memory();
    let (_, by_passes) = memory();
    let options = MakeOptions { pass_events: 4, ..MakeOptions::default() };
    let made = by_passes.make(&given.log, &options).unwrap();
    assert_eq!(made, make(&once, &given));
    assert_eq!(made, make(&often, &given));
    assert!(by_passes.list().unwrap().len() > 5);
}

#[test]
fn rows_that_died_and_old_short_tombstones_are_left_out() {
    let mut given = Given::log();
    let (_, snapshots) = memory();
    given.commit(1, [key("dead", 10), key("gone", DAY_MS * 9), key("live", DAY_MS * 9)]).commit(2, [release("gone")]);
    given.commit(3, [keep(1)]).commit(4, [keep_nothing()]);
    let first = snapshots.contents(&make(&snapshots, &given)).unwrap().unwrap();
    assert_eq!((first.rows(), first.tombstones()), (2, 2));
    given.commit(DAY_MS * 2, [keep(2)]);
    let second = snapshots.contents(&make(&snapshots, &given)).unwrap().unwrap();
    assert_eq!((second.rows(), second.tombstones()), (2, 0));
}

/// A store that keeps short tombstones for longer than a day links to one that the snapshot has forgotten.
#[test]
fn a_creation_may_link_to_a_tombstone_that_the_snapshot_has_forgotten_and_nothing_else_may() {
    let mut given = Given::log();
    let (_, snapshots) = memory();
    given.commit(1, [key("a", DAY_MS * 9)]).commit(2, [release("a")]).commit(DAY_MS * 2, [keep(1)]);
    make(&snapshots, &given);
    given.commit(DAY_MS * 3, [key("a", DAY_MS * 9)]);
    assert_eq!(given.rows(Some(&snapshots)), given.rows(None));
    make(&snapshots, &given);
    assert_eq!(given.rows(Some(&snapshots)), given.rows(None));

    let snapshot = snapshots.newest(&given.log, Position(3)).unwrap().unwrap();
    let mut view = MemoryView::new(given.log.info().unwrap());
    snapshot.load(&PROJECTED, &mut view).unwrap();
    let page = given.log.read(Position(3), 1).unwrap();
    let mut strict = Folder::on(&PROJECTED, &view).unwrap();
    assert_eq!(strict.fold(&page[0], &view).unwrap_err().kind(), StoreErrorKind::Corrupt);
    let mut released = page[0].clone();
    released.events[0].event_type = "idempotency_key_released".into();
    released.events[0].payload = release("a").2;
    let mut folder = Folder::on(&PROJECTED, &view).unwrap().after_snapshot(Position(3));
    assert_eq!(folder.fold(&released, &view).unwrap_err().kind(), StoreErrorKind::Corrupt);
}

#[test]
fn one_row_or_tombstone_is_looked_up() {
    let mut given = Given::log();
    let (_, snapshots) = memory();
    given.commit(1, [key("b", 1_000), key("d", 1_000), keep(1)]).commit(2, [release("d"), keep_nothing()]);
    let info = make(&snapshots, &given);
    let snapshot = snapshots.open(&given.log, &info).unwrap().unwrap();
    let held = snapshot.row(&idempotency_cache::DEF, "b").unwrap().unwrap();
    assert_eq!((held.row.key(), held.rev), ("b".to_owned(), Position(1)));
    for absent in ["a", "c", "d", "e"] {
        assert!(snapshot.row(&idempotency_cache::DEF, absent).unwrap().is_none(), "{absent}");
    }
    assert_eq!(snapshot.tombstone(&idempotency_cache::DEF, "d").unwrap(), Some(Position(4)));
    assert_eq!(snapshot.tombstone(&idempotency_cache::DEF, "b").unwrap(), None);
    assert_eq!(snapshot.tombstone(&facts::DEF, "keep/events").unwrap(), Some(Position(5)));
}

#[test]
fn many_rows_are_spread_over_blocks_and_each_is_found() {
    let mut given = Given::log();
    let (_, snapshots) = memory();
    let names: Vec<&'static str> =
        (0..3_000).map(|at| &*String::leak(format!("key-{at:05}-{}", "x".repeat(40)))).collect();
    for names in names.chunks(1_000) {
        given.commit(1, names.iter().map(|name| key(name, 1_000)));
    }
    let info = make(&snapshots, &given);
    let snapshot = snapshots.open(&given.log, &info).unwrap().unwrap();
    assert!(snapshot.file.directory.tables[4].blocks.len() > 3);
    for name in names.iter().step_by(37).chain(names.last()) {
        assert_eq!(snapshot.row(&idempotency_cache::DEF, name).unwrap().unwrap().row.key(), *name);
    }
    assert_eq!(given.rows(Some(&snapshots)), given.rows(None));
}

#[test]
fn through_an_event_within_a_commit_it_is_made_at_the_commit_before() {
    let mut given = Given::log();
    let (_, snapshots) = memory();
    given.commit(1, [key("a", 9)]).commit(2, [key("b", 9), keep(1)]).commit(3, [keep(2)]);
    let through = |at: u64| MakeOptions { through: Some(Position(at)), ..MakeOptions::default() };
    assert_eq!(snapshots.make(&given.log, &through(2)).unwrap().position, Position(1));
    assert_eq!(snapshots.make(&given.log, &through(3)).unwrap().position, Position(3));
    assert_eq!(snapshots.newest(&given.log, Position(2)).unwrap().unwrap().checkpoint().position, Position(1));
    assert!(snapshots.newest(&given.log, Position(0)).unwrap().is_none());
    assert!(snapshots.make(&Given::log().log, &MakeOptions::default()).is_err(), "an empty log");
}

#[test]
fn a_flipped_byte_anywhere_is_noticed_and_the_next_older_one_is_used() {
    let mut given = Given::log();
    let (blobs, snapshots) = memory();
    given.commit(1, [key("a", 1_000), keep(1)]);
    let older = make(&snapshots, &given);
    given.commit(2, [release("a")]);
    let info = make(&snapshots, &given);
    let whole = blobs.get(&info.name, 0..u64::MAX).unwrap().unwrap();
    for at in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x40;
        blobs.delete(&info.name).unwrap();
        blobs.put(&info.name, &mut &bytes[..]).unwrap();
        let fresh = Snapshots::new(blobs.clone());
        let chosen = fresh.newest(&given.log, given.head()).unwrap().unwrap();
        assert_eq!(*chosen.info(), older, "byte {at}");
    }
    for length in [0, 7, 60, whole.len() - 1] {
        blobs.delete(&info.name).unwrap();
        blobs.put(&info.name, &mut &whole[..length]).unwrap();
        let fresh = Snapshots::new(blobs.clone());
        assert_eq!(*fresh.newest(&given.log, given.head()).unwrap().unwrap().info(), older, "{length} bytes");
    }
    let fresh = Snapshots::new(blobs.clone());
    assert_eq!(make(&fresh, &given), info, "making it again replaces the damaged one");
    assert_eq!(blobs.get(&info.name, 0..u64::MAX).unwrap().unwrap(), whole);
}

#[test]
fn a_snapshot_of_another_projection_or_another_log_is_not_used() {
    let mut given = Given::log();
    let (blobs, snapshots) = memory();
    given.commit(1, [key("a", 1_000), keep(1)]).commit(2, [keep(2)]);
    let info = make(&snapshots, &given);
    let file = File::open(&*blobs, &info).unwrap().unwrap();
    let mut directory = file.directory.clone();
    directory.tables[2].projection_version += 1;
    assert!(directory.unlike_this_program().unwrap().contains("projection 2"), "{:?}", directory.unlike_this_program());
    let mut directory = file.directory.clone();
    directory.tables[2].columns.pop();
    assert!(directory.unlike_this_program().is_some());

    let why = |log: &dyn Log| snapshots.open(log, &info).unwrap().err().unwrap();
    let mut other = Given::log();
    assert!(why(&other.log).contains("the log ends at event 0"));
    other.commit(1, [key("a", 1_000), keep(1), keep(3)]);
    assert!(why(&other.log).contains("it has commit"), "{}", why(&other.log));
    other.commit(1, [keep(4)]);
    assert!(why(&other.log).contains("it has commit"), "{}", why(&other.log));
    let mut foreign = Given::log();
    foreign.log.adopt_identity(LogInfo { id: LogId::from_u128(1), epoch: 1 }).unwrap();
    assert!(why(&foreign.log).contains("it is of log"));
}

/// What an older program has made, as complete as any.
#[test]
fn a_snapshot_of_an_older_projection_is_passed_over_for_the_next_older_one() {
    let mut given = Given::log();
    let (blobs, snapshots) = memory();
    given.commit(1, [key("a", 1_000)]);
    let usable = make(&snapshots, &given);
    given.commit(2, [keep(1)]);
    let mut directory = Directory::new(&given.log.head().unwrap(), Vec::new());
    directory.tables[3].projection_version = 99;
    let mut spool = Cursor::new(Vec::new());
    let written = Writer::new(&mut spool, directory).unwrap().finish().unwrap();
    let other = SnapshotInfo::named(given.head(), &written.digest, written.bytes);
    blobs.put(&other.name, &mut &spool.into_inner()[..]).unwrap();
    let why = snapshots.open(&given.log, &other).unwrap().err().unwrap();
    assert!(why.contains("sessions is of projection 99"), "{why}");
    assert_eq!(*snapshots.newest(&given.log, given.head()).unwrap().unwrap().info(), usable);
    assert_eq!(make(&snapshots, &given).position, given.head(), "a usable one is made beside it");
    assert_eq!(given.rows(Some(&snapshots)), given.rows(None));
}

#[test]
fn quarantined_events_are_passed_over_and_only_such_snapshots_are_used_then() {
    let mut given = Given::log();
    let (blobs, snapshots) = memory();
    given.commit(1, [key("a", 1_000)]).commit(2, [key("a", 1_000)]).commit(3, [keep(1)]);
    let error = snapshots.make(&given.log, &MakeOptions::default()).unwrap_err();
    assert!(error.to_string().contains("event 2"), "{error}");
    assert!(snapshots.list().unwrap().is_empty());
    let without = Snapshots::new(blobs).passing_over([Position(2), Position(9)]);
    let info = make(&without, &given);
    assert_eq!(without.contents(&info).unwrap().unwrap().passed_over, [Position(2)]);
    assert!(without.open(&given.log, &info).unwrap().is_ok());
    assert!(snapshots.open(&given.log, &info).unwrap().err().unwrap().contains("quarantined"));
}

#[test]
fn a_copy_in_another_place_is_as_good_and_a_damaged_one_is_not_copied() {
    let mut given = Given::log();
    let (blobs, snapshots) = memory();
    given.commit(1, [key("a", 1_000)]);
    let info = make(&snapshots, &given);
    let (other, there) = memory();
    assert!(snapshots.copy(&info, &*other).unwrap());
    assert!(!snapshots.copy(&info, &*other).unwrap());
    assert_eq!(*there.newest(&given.log, given.head()).unwrap().unwrap().info(), info);
    blobs.delete(&info.name).unwrap();
    blobs.put(&info.name, &mut &[7; 200][..]).unwrap();
    let damaged = Snapshots::new(blobs);
    assert!(damaged.copy(&damaged.list().unwrap()[0], &MemoryBlobs::default()).is_err());
}

#[test]
fn thinning_leaves_a_bounded_number_and_each_can_be_used() {
    let mut given = Given::log();
    let (_, snapshots) = memory();
    for at in 0..40 {
        given.commit(at, [keep(at)]);
        make(&snapshots, &given);
        snapshots.thin(&given.log).unwrap();
    }
    let left = snapshots.list().unwrap();
    assert!(left.len() <= 12, "{left:?}");
    assert_eq!(left.iter().take(3).map(|info| info.position.0).collect::<Vec<_>>(), [40, 39, 38]);
    assert!(left.iter().all(|info| snapshots.open(&given.log, info).unwrap().is_ok()));
}

#[test]
fn snapshots_of_lost_commits_are_removed_once_the_loss_was_accepted_and_not_before() {
    let mut given = Given::log();
    let (_, snapshots) = memory();
    given.commit(1, [key("a", 1_000)]);
    let common = make(&snapshots, &given);
    given.commit(2, [keep(1)]);
    let lost = make(&snapshots, &given);
    let epoch = |epoch| LogInfo { id: LogId::from_u128(0xabc), epoch };
    given.log.cut_back(Position(1), epoch(1));
    given.revs = MemoryRevs::default();
    given.revs.note(&given.log.read(Position::ZERO, READ_EVENTS_MAX).unwrap());
    given.history = 1;
    given.commit(2, [release("a")]);
    let made = make(&snapshots, &given);
    let mut both = [made.clone(), lost];
    both.sort_by(|a, b| a.name.cmp(&b.name));
    assert_eq!(snapshots.list().unwrap(), [both[0].clone(), both[1].clone(), common.clone()]);
    assert_eq!(*snapshots.newest(&given.log, Position(2)).unwrap().unwrap().info(), made);

    // The log of the second history lost its newest commit too, and somebody has accepted that.
    given.log.cut_back(Position(1), epoch(2));
    given.history = 2;
    given.revs = MemoryRevs::default();
    given.revs.note(&given.log.read(Position::ZERO, READ_EVENTS_MAX).unwrap());
    given.commit(2, [keep(3)]);
    let made = make(&snapshots, &given);
    assert_eq!(snapshots.list().unwrap(), [made, common]);
}

#[test]
fn one_that_is_told_to_stop_leaves_nothing() {
    let mut given = Given::log();
    let (blobs, snapshots) = memory();
    given.commit(1, [key("a", 1_000)]);
    let options = MakeOptions { stop: &|| true, ..MakeOptions::default() };
    assert!(snapshots.make(&given.log, &options).is_err());
    assert!(blobs.list("").unwrap().is_empty());
}

/// Bytes as they are described in `docs/formats.md`: of a log with one key, one fact and one tombstone.
#[test]
fn golden_bytes() {
    let mut given = Given::log();
    let (blobs, snapshots) = memory();
    given.commit(5, [key("a", 1_000), key("b", 1_000)]).commit(6, [release("b"), keep(300)]);
    let info = make(&snapshots, &given);
    let snapshot = snapshots.open(&given.log, &info).unwrap().unwrap();
    let block = |table: usize| {
        let entries = snapshot.file.entries(&*blobs, move |at| at == table);
        hex::encode(entries.flat_map(|kept| kept.unwrap().bytes.to_vec()).collect::<Vec<_>>())
    };
    assert_eq!(block(4), KEYS);
    assert_eq!(block(14), FACTS);
    let directory = snapshot.file.directory.encode();
    assert!(hex::encode(&directory).starts_with(DIRECTORY), "{}", hex::encode(&directory));

    let whole = hex::decode(WHOLE).unwrap();
    assert_eq!(whole[..8], *b"tlsnap\x00\x01");
    let stored = MemoryBlobs::default();
    stored.put(NAME, &mut &whole[..]).unwrap();
    // Whatever becomes of the tables, its parts are where they were.
    let info = SnapshotInfo::of(NAME, whole.len() as u64).unwrap();
    let read = File::open(&stored, &info).unwrap().unwrap();
    let number = |at: usize| u32::from_be_bytes(whole[at..at + 4].try_into().unwrap()) as usize;
    let trailer = whole.len() - 48;
    let [place, bytes, raw] = [trailer + 4, trailer + 8, trailer + 12].map(number);
    assert_eq!(zstd::bulk::decompress(&whole[place..place + bytes], raw).unwrap(), read.directory.encode());
    let rev = |table, key| read.look_up(&stored, table, key, |entry| Ok(entry.rev)).unwrap();
    assert_eq!([rev(4, "a"), rev(4, "b"), rev(14, "keep/events")], [1, 3, 4].map(|at| Some(Position(at))));
    assert_eq!([rev(4, "c"), rev(14, "a")], [None, None]);
}

const KEYS: &str =
    "93a1610194a161c4200707070707070707070707070707070707070707070707070707070707070707a174cd03e893a1620306";
const FACTS: &str = "93ab6b6565702f6576656e74730495a46b656570a66576656e747305cd012cc0";
const DIRECTORY: &str = "87a66c6f675f6964c41000000000000000000000000000000abca565706f636801a8706f736974696f6e04a9636f6d6d69745f6964c41000000000000000000000000000000003ab7265636f726465645f617406ab7061737365645f6f76657290a67461626c65739f86a46e616d65a57461736b73b270726f6a656374696f6e5f76657273696f6e01a7636f6c756d6e739c";
const NAME: &str = "snapshots/00000000000000000004-c188cd3fe2d157bb.tls";
const WHOLE: &str = "\
    746c736e6170000128b52ffd2433d50000a093a1610194a161c42007a174cd03e893a162030601000d4002ceb84d0228b52f\
    fd242001010093ab6b6565702f6576656e74730495a46b656570a66576656e747305cd012cc0f001b7a028b52ffd64d0072d\
    1b00e62e8933504fd301d02a7cf8da5abbdb7a291e6588910d5ffc4acd50db291391494ab96ddadb2691d3a9aaaad62b9af6\
    ceb485b2021b0979007b007c00dac854b954221a5fb71553e7bba40f7abcac7df04297db8b4fae5373b75250173bc99fcff7\
    caa7b692d6622ff7b60b0677ed61aca287e3f556092ab5e07e21dcf17c8ab67493071a5c1924bf12a155c2b8d43ddf34e013\
    97ae66a53d0570fcb6c6ea22c0f1fe3a3fcba351fc9462a280c3c089b5c830ab40082a6d3460a0201b4768316482d4e94041\
    1b950a21e5f4f9355d0b82fd7770db46bc879bc1a5ceedcbf8d458db507fdb01be2713b116a50aae6e8120b89449974d829a\
    dfb7895c99ce9fde69f7a3a6e5d6995850cf6519b9edd7cae47a8f14ad8d309c71fbaf2422b8a398412a0e57c7ef90c62f39\
    dc01f7c4f589046cb3a284b7642ebbb2f682f1344293d3c8db8363b740a8f589488e2c25adef565acb613b5d2a4bef135139\
    a967f328adf55b17e3a6a28f95532a782ac3d695ca32f0d127e2748453877f72bcc896f1afe97f466bf35ddcb519ee67c10f\
    6d932989e22d3b5f65b2964306085b4c002c404020376048783c125d7bdf458f0309289ce2a93a93e3427fd20a698fabb0b3\
    401e8f3098e1e42daaea87fdf24e99c4567fa4a50e4bb4a38a76255958b931315be158e13ed8a84ef50fafe96b387ded8d56\
    86d97e0dd72f5aa92d4d17d4327ec8183788b568597b693c1b84d4c17d9931e165c377e9f4a588ba4437d071eb170acdde8f\
    42b5027ba8e12cc410424a646644da82a4313042420c52791e1220028a96324e1a63848490f80892512dac01cb66084af916\
    b98693b90542452dae02546781fff6438284554717e86cb09207ffa5732305e308b18f11f75775024b44b8d9e130bf84700b\
    62307b086e4bd05b3e542e0ea06d1d55a5a2c44f6aff9c30b2cf15d174b487a79579045d8587145941f6ed9471b839f73690\
    3e8353a11d98d6e80cb9602be0bd018a79c313e8a0880ac9a75310023e0a90b706f4463e5eec23ba6bbd8efa304946e97e98\
    60747cf5f4d04c0c9f855c6535353d264be8c70db49b880218e3812d34bc7f42d1727d02a49953c9321c2bf5dc49bff04c8f\
    28cd1081a65ca821b8e1ca9ba03eabe68289473214fb7378c09b97fe4700789576b5c574eca907b24a033586f3022ce9759c\
    aa85c30473a3361e9ad785522f8b69259c9f822e14afeab170000000000000005c00000373000008d0c188cd3fe2d157bbd1\
    b683e253ec4a50e4f379c9f1f5d1ba03dcfd8240125446";
