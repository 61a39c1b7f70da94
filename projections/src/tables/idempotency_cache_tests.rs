#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use tasklog_log::Position;

use super::*;
use crate::{AnyRow, TableEvent, evolve};

const AT: At<'static> = At { position: Position(9), recorded_at: 1_000, key: "k" };

fn row() -> IdempotencyRow {
    IdempotencyRow { key: "k".into(), body_sha256: Hash32([0xab; 32]), miroir_task_id: "m1".into(), expires_at: 5_000 }
}

fn record() -> IdempotencyKeyRecorded {
    IdempotencyKeyRecorded {
        body_sha256: Hash32([0xab; 32]),
        miroir_task_id: "m1".into(),
        expires_at: 5_000,
        source: KeySource::Client,
    }
}

fn release() -> IdempotencyKeyReleased {
    IdempotencyKeyReleased { miroir_task_id: "m1".into(), why: "no node".into() }
}

fn folded(row: Option<IdempotencyRow>, event: impl Into<IdempotencyEvent>) -> Option<IdempotencyRow> {
    IdempotencyCache::evolve(row, event.into(), &AT).unwrap()
}

fn refused(row: Option<IdempotencyRow>, event: impl Into<IdempotencyEvent>) -> String {
    IdempotencyCache::evolve(row, event.into(), &AT).unwrap_err().0
}

#[test]
fn a_record_makes_the_row() {
    assert_eq!(folded(None, record()), Some(row()));
}

#[test]
fn a_record_never_overwrites_a_live_row() {
    assert!(refused(Some(row()), record()).contains("on a row that exists"));
}

#[test]
fn a_record_replaces_a_dead_row() {
    let dead: AnyRow = Arc::new(IdempotencyRow { miroir_task_id: "m0".into(), expires_at: 1_000, ..row() });
    let next = evolve::<IdempotencyCache>(Some(dead), record().into(), &AT).unwrap().unwrap();
    assert!(next.differs(&row()) == 0);
}

#[test]
fn a_release_deletes_the_row_of_its_task() {
    assert_eq!(folded(Some(row()), release()), None);
    assert!(refused(None, release()).contains("does not exist"));
    let other = IdempotencyKeyReleased { miroir_task_id: "m2".into(), ..release() };
    assert!(refused(Some(row()), other).contains("m2"));
}

#[test]
fn an_eviction_deletes_the_row_with_its_expiry() {
    assert_eq!(folded(Some(row()), IdempotencyKeyEvicted { expires_at: 5_000, bound: 2 }), None);
    assert!(refused(None, IdempotencyKeyEvicted { expires_at: 5_000, bound: 2 }).contains("does not exist"));
    assert!(refused(Some(row()), IdempotencyKeyEvicted { expires_at: 1, bound: 2 }).contains("the row's is 5000"));
}

#[test]
fn payloads_keep_their_bytes() {
    let goldens: [(IdempotencyEvent, &str); 3] = [
        (
            record().into(),
            "84ab626f64795f736861323536c420ababababababababababababababababababababababababababababababababae\
             6d69726f69725f7461736b5f6964a26d31aa657870697265735f6174cd1388a6736f75726365a6636c69656e74",
        ),
        (release().into(), "82ae6d69726f69725f7461736b5f6964a26d31a3776879a76e6f206e6f6465"),
        (
            IdempotencyKeyEvicted { expires_at: 5_000, bound: 1_000_000 }.into(),
            "82aa657870697265735f6174cd1388a5626f756e64ce000f4240",
        ),
    ];
    for (event, golden) in goldens {
        let name = event.event_type().name;
        assert_eq!(hex::encode(event.encode()), golden, "{name}");
        assert_eq!(IdempotencyEvent::decode(name, 1, &hex::decode(golden).unwrap()).unwrap(), event);
    }
}
