//! Formats on disk, pinned byte by byte: a change here is a change of every log that exists.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use tasklog_log::{CommitId, CommitMeta, Event, Position, checksum, leaf};
use uuid::Uuid;

fn meta(reason: Option<&str>, request_id: Option<&str>) -> CommitMeta {
    CommitMeta {
        id: CommitId(Uuid::from_u128(0x0190_0000_0000_7000_8000_0000_0000_0001)),
        actor: "bob".into(),
        reason: reason.map(Arc::from),
        request_id: request_id.map(Arc::from),
    }
}

fn event(prev: Option<Position>) -> Event {
    Event {
        position: Position(258),
        table: "tasks".into(),
        key: "é/1".into(),
        event_type: "task_pruned".into(),
        type_version: 2,
        prev,
        payload: b"\x81\xa1a\x01".to_vec(),
        checksum: 0,
    }
}

const INSTANT: i64 = 1_700_000_000_123;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn a_leaf_has_these_bytes() {
    let expected = [
        "01",                               // layout version
        "0000000000000102",                 // position
        "01900000000070008000000000000001", // commit id
        "0000018bcfe5687b",                 // recorded_at
        "00000003626f62",                   // actor
        "010000000377687900",               // reason, no request id
        "000000057461736b73",               // table
        "00000004c3a92f31",                 // key
        "0000000b7461736b5f7072756e6564",   // type
        "00000002",                         // type version
        "0000000000000101",                 // prev
        "0000000481a16101",                 // payload
    ];
    let bytes = leaf(&meta(Some("why"), None), INSTANT, &event(Some(Position(257))));
    assert_eq!(hex(&bytes), expected.concat());
    assert_eq!(crc32c::crc32c(&bytes), checksum(&meta(Some("why"), None), INSTANT, &event(Some(Position(257)))));
}

#[test]
fn an_event_has_this_checksum() {
    assert_eq!(checksum(&meta(None, None), INSTANT, &event(None)), 0x84f455f4);
    assert_eq!(checksum(&meta(Some("why"), Some("r-1")), INSTANT, &event(Some(Position(257)))), 0x743ad98d);
}

#[test]
fn absent_and_empty_texts_have_different_leaves() {
    let leaf_of = |reason, request_id| leaf(&meta(reason, request_id), INSTANT, &event(None));
    let all = [leaf_of(None, None), leaf_of(Some(""), None), leaf_of(None, Some("")), leaf_of(Some(""), Some(""))];
    for (index, one) in all.iter().enumerate() {
        assert!(all[index + 1..].iter().all(|other| other != one));
    }
}

#[test]
fn the_checksum_does_not_cover_itself() {
    let mut sealed = event(None);
    sealed.checksum = 7;
    assert_eq!(checksum(&meta(None, None), INSTANT, &event(None)), checksum(&meta(None, None), INSTANT, &sealed));
}

#[test]
fn the_checksum_is_castagnolis() {
    assert_eq!(crc32c::crc32c(b"123456789"), 0xE306_9283);
}
