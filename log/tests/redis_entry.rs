//! An entry of the stream, byte by byte: a change here is a change of every log in Redis that exists.
#![allow(clippy::unwrap_used)]

mod common;

use common::event;
use tasklog_log::{
    CommitId, CommitMeta, NewEvent, Position, StoreErrorKind,
    redis::{Decoder, Prev, decode, encode, encode_commit, seal},
};
use uuid::Uuid;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn golden() -> (CommitMeta, Vec<NewEvent>, Vec<Prev>) {
    let id = CommitId(Uuid::from_u128(0x0190_0000_0000_7000_8000_0000_0000_0001));
    let meta = CommitMeta { id, actor: "bob".into(), reason: Some("why".into()), request_id: None };
    (meta, vec![event("é"), event("k"), event("k")], vec![Prev::None, Prev::At(Position(257)), Prev::Back(1)])
}

#[test]
fn an_entry_has_these_bytes() {
    let (meta, events, prevs) = golden();
    let bytes = encode(&meta, events.iter().zip(prevs));
    let names = "a67468696e6773"; // things
    let event_type = "ad7468696e675f6368616e676564"; // thing_changed
    let expected = [
        "96",                                   // array of 6
        "01",                                   // layout version
        "c41001900000000070008000000000000001", // bin: commit id
        "a3626f62",                             // actor
        "a3776879",                             // reason
        "c0",                                   // no request id
        "93",                                   // array of 3 events
        &["96", names, "a2c3a9", event_type, "01", "00", "c40180"].concat(),
        &["96", names, "a16b", event_type, "01", "cd0101", "c40180"].concat(),
        &["96", names, "a16b", event_type, "01", "ff", "c40180"].concat(),
    ]
    .concat();
    assert_eq!(hex(&bytes[..bytes.len() - 4]), expected);
    assert_eq!(bytes[bytes.len() - 4..], crc32c::crc32c(&bytes[..bytes.len() - 4]).to_be_bytes());
    assert_eq!(hex(&bytes[bytes.len() - 4..]), "6fdac043");
    assert_eq!(seal(Position(300), b"1700000000123", &bytes), "7ef4fcbd");
}

#[test]
fn an_entry_decodes_to_the_commit_it_was_made_of() {
    let (meta, events, prevs) = golden();
    let bytes = encode(&meta, events.iter().zip(prevs));
    let seal = seal(Position(300), b"17", &bytes);
    let commit = decode(Position(300), b"17", seal.as_bytes(), &bytes).unwrap();
    assert_eq!((&commit.meta, commit.recorded_at), (&meta, 17));
    let links: Vec<_> = commit.events.iter().map(|event| (event.position.0, event.prev.map(|p| p.0))).collect();
    assert_eq!(links, [(298, None), (299, Some(257)), (300, Some(299))]);
    for event in &commit.events {
        commit.check(event).unwrap();
    }
    assert_eq!(encode_commit(&commit), bytes);
}

#[test]
fn bytes_that_are_no_entry_are_corrupt_and_never_a_panic() {
    let (meta, events, prevs) = golden();
    let bytes = encode(&meta, events.iter().zip(prevs));
    let mut decoder = Decoder::default();
    for end in 0..bytes.len() {
        match decoder.decode(Position(300), b"17", b"", &bytes[..end]) {
            Err(error) => assert_eq!(error.kind(), StoreErrorKind::Corrupt),
            Ok(commit) => assert!(commit.events.iter().all(|event| commit.check(event).is_err())),
        }
    }
    for at in 0..bytes.len() {
        for flip in [0x01, 0x80, 0xff] {
            let mut wrong = bytes.clone();
            wrong[at] ^= flip;
            if let Ok(commit) = decoder.decode(Position(300), b"17", b"", &wrong) {
                assert!(commit.events.iter().all(|event| commit.check(event).is_err()), "byte {at}");
            }
        }
    }
    let mut newer = bytes.clone();
    newer[1] = 2;
    assert_eq!(decode(Position(3), b"17", b"", &newer).unwrap_err().kind(), StoreErrorKind::SchemaAhead);
    for (last, t) in [(2, &b"17"[..]), (3, b""), (3, b"x"), (3, b"\xff")] {
        assert_eq!(decode(Position(last), t, b"", &bytes).unwrap_err().kind(), StoreErrorKind::Corrupt);
    }
}
