//! The archive: what goes into a segment comes out of it, damage is named, and a log reads on into its archive.
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use std::sync::Arc;

use common::{Writer, commit};
use proptest::prelude::*;
use tasklog_log::{
    Blobs, Commit, CommitId, CommitMeta, Event, Log, LogInfo, ManualClock, MemoryBlobs, Position, StoreErrorKind,
    archive::{Archive, ArchivedLog, Sealing},
    checksum,
    memory::MemoryLog,
    read_checked,
    sqlite::SqliteLog,
};
use uuid::Uuid;

const LOG: LogInfo = LogInfo { id: Uuid::from_u128(7), epoch: 1 };

/// A log in memory with these commits.
fn log_of(commits: &[Commit]) -> MemoryLog {
    let mut log = MemoryLog::new(Arc::new(ManualClock::at(0)));
    log.adopt_identity(LOG).unwrap();
    log.adopt(commits).unwrap();
    log
}

/// `(key, type, payload, how far back it links)` of an event.
type Fields = (String, &'static str, Vec<u8>, u64);

fn commits_of(made: Vec<(u128, i64, Option<String>, Vec<Fields>)>) -> Vec<Commit> {
    let (mut position, mut recorded_at) = (0, 1_000);
    let each = made.into_iter().map(|(id, later, text, events)| {
        recorded_at += later;
        let meta = CommitMeta {
            id: CommitId(Uuid::from_u128(id)),
            actor: text.clone().unwrap_or_else(|| "tasklog".into()).into(),
            reason: text.clone().map(Arc::from),
            request_id: text.map(|text| format!("request {text}").into()),
        };
        let events = events.into_iter().map(|(key, event_type, payload, back)| {
            position += 1;
            let prev = (back > 0 && back < position).then(|| Position(position - back));
            let mut event = Event {
                position: Position(position),
                table: "things".into(),
                key: key.into(),
                event_type: event_type.into(),
                type_version: 1 + (position % 3) as u32,
                prev,
                payload,
                checksum: 0,
            };
            event.checksum = checksum(&meta, recorded_at, &event);
            event
        });
        let events = events.collect();
        Commit { meta, recorded_at, events }
    });
    each.collect()
}

fn key() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("a".to_owned()),
        "[a-é]{0,8}",
        any::<u128>().prop_map(|id| format!("mtask-{}", Uuid::from_u128(id))),
        any::<u128>().prop_map(|id| format!("{0}/{0}", Uuid::from_u128(id % 3))),
        any::<u128>().prop_map(|id| format!("{}\u{0}", Uuid::from_u128(id))),
    ]
}

fn fields() -> impl Strategy<Value = Fields> {
    let payload = prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..40),
        (any::<u8>(), 0_usize..4).prop_map(|(byte, length)| vec![byte; length]),
    ];
    (key(), prop_oneof![Just("made"), Just("changed")], payload, 0_u64..6)
}

fn commits() -> impl Strategy<Value = Vec<Commit>> {
    let commit =
        (any::<u128>(), 0_i64..3, proptest::option::of("[a-c]{0,2}"), proptest::collection::vec(fields(), 1..4));
    proptest::collection::vec(commit, 1..60).prop_map(commits_of)
}

fn seal(archive: &Archive, log: &dyn Log, segment_events: usize, all: bool) -> Position {
    let how = Sealing { segment_events, all, ..Sealing::default() };
    archive.seal(log, &how, &mut |_| {}).unwrap().last()
}

fn all_of(log: &dyn Log, page: usize) -> Vec<Commit> {
    let mut commits: Vec<Commit> = Vec::new();
    loop {
        let more = read_checked(log, commits.last().map_or(Position::ZERO, Commit::last), page).unwrap();
        if more.is_empty() {
            return commits;
        }
        commits.extend(more);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_log_reads_the_same_when_its_front_is_in_the_archive(
        commits in commits(), segment_events in 1_usize..30, page in 1_usize..20, trim in 0_u64..200,
    ) {
        let mut log = log_of(&commits);
        let archive = Archive::new(Arc::new(MemoryBlobs::default()));
        let archived = seal(&archive, &log, segment_events, false);
        prop_assert!(log.head().unwrap().position.0 - archived.0 < segment_events as u64);
        log.trim(Position(trim).min(archived.next()));
        let whole = ArchivedLog::new(&log, Some(&archive));
        prop_assert_eq!(whole.first().unwrap(), Position(1));
        prop_assert_eq!(&all_of(&whole, page), &commits);
        for commit in &commits {
            for (index, event) in commit.events.iter().enumerate() {
                prop_assert_eq!(whole.event(event.position).unwrap(), Some((commit.clone(), index)));
                // From within a commit, the whole of it.
                let read = whole.read(event.position.before(), 1).unwrap();
                prop_assert_eq!(read.first(), Some(commit));
            }
        }
        let report = archive.verify(&mut |_| {}).unwrap();
        prop_assert!(report.findings.is_empty(), "{:?}", report.findings);
        prop_assert_eq!(report.events, archived.0);
    }
}

fn small() -> Vec<Commit> {
    let id = "0190a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b";
    commits_of(vec![
        (1, 5, None, vec![(format!("t-{id}"), "made", vec![0x80], 0), ("b".into(), "made", vec![0x81, 1, 2], 0)]),
        (2, 0, Some("x".into()), vec![(format!("t-{id}"), "changed", vec![], 2)]),
    ])
}

/// `docs/formats.md` explains these bytes.
#[test]
fn a_segment_has_these_bytes() {
    let blobs = Arc::new(MemoryBlobs::default());
    let archive = Archive::new(Arc::clone(&blobs) as Arc<dyn Blobs>);
    seal(&archive, &log_of(&small()), 100, true);
    let name = "segments/00000000000000000001-00000000000000000003.tlseg";
    let bytes = blobs.get(name, 0..u64::MAX).unwrap().unwrap();
    let manifest = blobs.get("manifests/00000000000000000001.json", 0..u64::MAX).unwrap().unwrap();
    assert_eq!(dump(&bytes), include_str!("archive_segment.hex"));
    assert_eq!(String::from_utf8(manifest).unwrap() + "\n", include_str!("archive_manifest.json"));
}

fn dump(bytes: &[u8]) -> String {
    bytes.chunks(32).map(|line| line.iter().map(|byte| format!("{byte:02x}")).collect::<String>() + "\n").collect()
}

/// A segment and a manifest, and the log they are of.
fn archived() -> (Arc<MemoryBlobs>, MemoryLog) {
    let blobs = Arc::new(MemoryBlobs::default());
    let log = log_of(&small());
    seal(&Archive::new(Arc::clone(&blobs) as Arc<dyn Blobs>), &log, 2, true);
    (blobs, log)
}

#[test]
fn every_flipped_byte_of_a_segment_is_noticed_by_who_reads_and_by_who_verifies() {
    let (blobs, _) = archived();
    let name = "segments/00000000000000000001-00000000000000000002.tlseg";
    let bytes = blobs.get(name, 0..u64::MAX).unwrap().unwrap();
    let digests = bytes.len() - 64;
    for at in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x10;
        blobs.delete(name).unwrap();
        blobs.put(name, &mut &damaged[..]).unwrap();
        let archive = Archive::new(Arc::clone(&blobs) as Arc<dyn Blobs>);
        let found = archive.verify(&mut |_| {}).unwrap().findings;
        assert_eq!(found.len(), 1, "byte {at}");
        assert!(found[0].to_string().contains(name), "{}", found[0]);
        // The digests at the end are only looked at by a verification.
        if at < digests {
            let error = archive.event(Position(2)).unwrap_err();
            let said = error.to_string();
            assert!(
                said.contains(name) && (said.contains("events 1 to 2 are lost") || said.contains("schema_ahead")),
                "{said}"
            );
        }
        // The others are not affected.
        assert_eq!(archive.event(Position(3)).unwrap().unwrap().0, small()[1]);
    }
}

#[test]
fn a_missing_or_shortened_segment_is_named_with_the_positions_lost() {
    let (blobs, mut log) = archived();
    log.trim(Position(3));
    let name = "segments/00000000000000000001-00000000000000000002.tlseg";
    let bytes = blobs.get(name, 0..u64::MAX).unwrap().unwrap();
    for length in [None, Some(0), Some(50), Some(bytes.len() - 70), Some(bytes.len() - 1)] {
        blobs.delete(name).unwrap();
        if let Some(length) = length {
            blobs.put(name, &mut &bytes[..length]).unwrap();
        }
        let archive = Archive::new(Arc::clone(&blobs) as Arc<dyn Blobs>);
        let whole = ArchivedLog::new(&log, Some(&archive));
        let findings = archive.verify(&mut |_| {}).unwrap().findings;
        assert!(findings[0].to_string().contains("events 1 to 2 are lost"), "{}", findings[0]);
        if length != Some(bytes.len() - 1) {
            let error = whole.read(Position::ZERO, 10).unwrap_err();
            assert_eq!(error.kind(), StoreErrorKind::Corrupt);
            assert!(
                error.to_string().contains(name) && error.to_string().contains("events 1 to 2 are lost"),
                "{error}"
            );
        }
        assert_eq!(whole.read(Position(2), 10).unwrap(), small()[1..]);
    }
}

#[test]
fn a_checked_page_that_meets_a_lost_segment_names_it() {
    let (blobs, mut log) = archived();
    log.adopt(&commits_after(&log)).unwrap();
    seal(&Archive::new(Arc::clone(&blobs) as Arc<dyn Blobs>), &log, 1, true);
    log.trim(Position(4));
    let name = "segments/00000000000000000003-00000000000000000003.tlseg";
    blobs.delete(name).unwrap();
    let archive = Archive::new(Arc::clone(&blobs) as Arc<dyn Blobs>);
    let whole = ArchivedLog::new(&log, Some(&archive));
    for after in [0, 2] {
        let error = read_checked(&whole, Position(after), 10).unwrap_err().to_string();
        assert!(error.contains(name) && error.contains("events 3 to 3 are lost"), "{error}");
    }
    assert_eq!(read_checked(&whole, Position::ZERO, 1).unwrap(), small()[..1]);
    assert_eq!(read_checked(&whole, Position(3), 10).unwrap().len(), 1);
}

#[test]
fn archiving_again_changes_nothing_and_goes_on_after_a_segment_without_a_manifest() {
    let (blobs, log) = archived();
    let before = blobs.list("").unwrap();
    let archive = Archive::new(Arc::clone(&blobs) as Arc<dyn Blobs>);
    seal(&archive, &log, 2, true);
    assert_eq!(blobs.list("").unwrap(), before);
    // Killed between the last segment and its manifest.
    blobs.delete("manifests/00000000000000000002.json").unwrap();
    let archive = Archive::new(Arc::clone(&blobs) as Arc<dyn Blobs>);
    assert_eq!(archive.manifest().unwrap().unwrap().last(), Position(2));
    assert_eq!(seal(&archive, &log, 2, true), Position(3));
    assert_eq!(blobs.list("").unwrap(), before);
}

#[test]
fn two_archivers_at_once_make_one_archive() {
    let events = |n: u64| vec![(format!("k{n}"), "made", vec![0x80], 0)];
    let log = log_of(&commits_of((0..200_u64).map(|n| (n.into(), 1, None, events(n))).collect()));
    let blobs = Arc::new(MemoryBlobs::default());
    std::thread::scope(|scope| {
        for segment_events in [7, 7, 11] {
            let (blobs, log) = (Arc::clone(&blobs), log.clone());
            scope.spawn(move || seal(&Archive::new(blobs), &log, segment_events, true));
        }
    });
    let archive = Archive::new(blobs);
    let report = archive.verify(&mut |_| {}).unwrap();
    assert!(report.findings.is_empty(), "{:?}", report.findings);
    assert_eq!((report.first, report.last, report.events), (Position(1), Position(200), 200));
}

#[test]
fn an_archive_of_another_log_or_of_commits_that_were_lost_is_refused_until_the_loss_is_accepted() {
    let archive = Archive::new(archived().0);
    let other = MemoryLog::new(Arc::new(ManualClock::at(0)));
    let how = Sealing { segment_events: 1, all: true, ..Sealing::default() };
    assert_eq!(archive.seal(&other, &how, &mut |_| {}).unwrap_err().kind(), StoreErrorKind::Diverged);
    // The last commit was lost, and another one took its place.
    let mut lost = small();
    lost.truncate(1);
    let mut taken = small().pop().unwrap();
    taken.meta.id = CommitId(Uuid::from_u128(99));
    taken.events[0].checksum = checksum(&taken.meta, taken.recorded_at, &taken.events[0]);
    lost.push(taken);
    let mut log = log_of(&lost);
    assert_eq!(archive.seal(&log, &how, &mut |_| {}).unwrap_err().kind(), StoreErrorKind::Diverged);
    log.set_epoch(2);
    assert_eq!(archive.seal(&log, &how, &mut |_| {}).unwrap().last(), Position(3));
    log.trim(Position(3));
    assert_eq!(all_of(&ArchivedLog::new(&log, Some(&archive)), 10), lost);
    assert_eq!(archive.event(Position(3)).unwrap().unwrap().0, lost[1]);
    assert!(archive.verify(&mut |_| {}).unwrap().findings.is_empty());
}

#[test]
fn an_event_with_a_wrong_checksum_is_not_sealed_by_whoever_does_not_pass_over_it() {
    let mut writer = Writer::<common::Sqlite>::open();
    writer.append(&[commit(&[("a", 0)]), commit(&[("b", 0)]), commit(&[("c", 0)])]);
    let path = writer.harness.path.clone();
    let conn = rusqlite::Connection::open(path).unwrap();
    conn.execute("UPDATE events SET payload = x'81' WHERE position = 2", []).unwrap();
    let archive = Archive::new(Arc::new(MemoryBlobs::default()));
    let how = Sealing { segment_events: 1, all: true, ..Sealing::default() };
    let error = archive.seal(&*writer.log(), &how, &mut |_| {}).unwrap_err();
    assert!(error.to_string().contains("event 2"), "{error}");
    assert_eq!(archive.manifest().unwrap().unwrap().last(), Position(1));
}

#[test]
fn a_damaged_event_that_is_passed_over_is_sealed_with_the_bytes_and_the_checksum_it_has() {
    let mut writer = Writer::<common::Sqlite>::open();
    writer.append(&[commit(&[("a", 0)]), commit(&[("b", 0)]), commit(&[("c", 0)])]);
    let path = writer.harness.path.clone();
    let conn = rusqlite::Connection::open(path).unwrap();
    conn.execute("UPDATE events SET payload = x'81' WHERE position = 2", []).unwrap();
    let stored = writer.log().read(Position::ZERO, 10).unwrap();
    let blobs = Arc::new(MemoryBlobs::default());
    let archive = Archive::new(Arc::clone(&blobs) as Arc<dyn Blobs>).passing_over([Position(2)]);
    assert_eq!(seal(&archive, &*writer.log(), 2, true), Position(3));
    // Whoever reads it meets it as it was, and says so.
    let archive = Archive::new(Arc::clone(&blobs) as Arc<dyn Blobs>);
    assert_eq!(archive.read(Position::ZERO, Position(4), 10).unwrap(), stored);
    let report = archive.verify(&mut |_| {}).unwrap();
    assert_eq!((report.damaged, report.findings.len(), report.events), (vec![Position(2)], 0, 3));
    // A segment without such an event has the format that it always had.
    let version = |name: &str| blobs.get(name, 8..10).unwrap().unwrap();
    let manifest = archive.manifest().unwrap().unwrap();
    let versions: Vec<_> = manifest.segments.iter().map(|segment| version(&segment.name)).collect();
    assert_eq!(versions, [[0, 2], [0, 1]]);
}

#[test]
fn positions_that_neither_log_nor_archive_has_are_named() {
    let (blobs, mut log) = archived();
    blobs.delete("manifests/00000000000000000002.json").unwrap();
    log.adopt(&commits_after(&log)).unwrap();
    log.trim(Position(4));
    let archive = Archive::new(Arc::clone(&blobs) as Arc<dyn Blobs>);
    let whole = ArchivedLog::new(&log, Some(&archive));
    assert_eq!(whole.read(Position::ZERO, 1).unwrap(), small()[..1]);
    let error = whole.read(Position(2), 10).unwrap_err();
    assert!(error.to_string().contains("event 3: missing from the log, which begins at 4"), "{error}");
    let error = archive.seal(&log, &Sealing::default(), &mut |_| {}).unwrap_err();
    assert!(error.to_string().contains("events 3 to 3 are neither in the log nor in the archive"), "{error}");
}

fn commits_after(log: &dyn Log) -> Vec<Commit> {
    let head = log.head().unwrap();
    let meta = CommitMeta { id: CommitId(Uuid::from_u128(4)), actor: "x".into(), reason: None, request_id: None };
    let mut event = small()[1].events[0].clone();
    event.position = head.position.next();
    event.checksum = checksum(&meta, head.recorded_at, &event);
    vec![Commit { meta, recorded_at: head.recorded_at, events: vec![event] }]
}

/// Trims page by page to `before`, and checks after each page that the rest and the archive are still the whole.
fn trims_in_pages_of_whole_commits<H: common::Harness>(trim: impl Fn(&mut H, Position) -> bool) {
    let mut writer = Writer::<H>::open();
    let keys: Vec<String> = (0..900).map(|n| format!("k{n}")).collect();
    for round in 0..4_u64 {
        let rev = |n: u64| if round == 0 { 0 } else { (round - 1) * 900 + n + 1 };
        let writes: Vec<(&str, u64)> = keys.iter().zip(0..).map(|(key, n)| (&**key, rev(n))).collect();
        writer.append(&[commit(&writes[..500]), commit(&writes[500..])]);
    }
    let all = writer.all();
    let archive = Archive::new(Arc::new(MemoryBlobs::default()));
    assert_eq!(seal(&archive, &*writer.log(), 700, true), Position(3_600));
    for (before, expected) in [(0, 1), (1, 1), (500, 1), (501, 501), (501, 501), (2_000, 1_801), (9_999, 3_201)] {
        let mut calls = 0;
        while !trim(&mut writer.harness, Position(before)) {
            calls += 1;
            assert!(calls < 10);
            let log = writer.log();
            assert_eq!(all_of(&ArchivedLog::new(&*log, Some(&archive)), 1_000), all);
        }
        let log = writer.log();
        assert_eq!(log.first().unwrap(), Position(expected), "before {before}");
        assert_eq!(log.head().unwrap().position, Position(3_600));
        assert_eq!(log.read(Position(3_200), 1).unwrap(), all[7..]);
        let whole = ArchivedLog::new(&*log, Some(&archive));
        assert_eq!(all_of(&whole, 1_000), all);
        assert_eq!(whole.event(Position(700)).unwrap(), Some((all[1].clone(), 199)));
    }
    // It goes on.
    writer.append(&[commit(&[("new", 0)])]);
    assert_eq!(writer.log().head().unwrap().position, Position(3_601));
}

#[test]
fn a_log_in_a_file_is_trimmed_in_pages_of_whole_commits() {
    trims_in_pages_of_whole_commits::<common::Sqlite>(|harness, before| {
        SqliteLog::new(&harness.conn, Arc::new(ManualClock::at(0))).trim(before, 1).unwrap()
    });
}

#[test]
fn a_log_in_redis_is_trimmed_in_pages_of_whole_commits() {
    trims_in_pages_of_whole_commits::<common::Redis>(|harness, before| {
        let log = harness.log.info().unwrap();
        harness.log.trim(log, before, 1).unwrap()
    });
}

#[test]
fn a_trim_of_another_epoch_of_a_log_in_redis_removes_nothing() {
    let mut writer = Writer::<common::Redis>::open();
    writer.append(&[commit(&[("a", 0)]), commit(&[("b", 0)])]);
    let log = writer.harness.log.info().unwrap();
    writer.harness.log.accept_epoch("tester", None).unwrap();
    let error = writer.harness.log.trim(log, Position(2), 10).unwrap_err();
    assert!(error.to_string().contains("no longer"), "{error}");
    assert_eq!(writer.log().first().unwrap(), Position(1));
}
