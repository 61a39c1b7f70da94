#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use tasklog_log::Position;

use super::*;
use crate::{AnyRow, TableEvent, evolve};

const AT: At<'static> = At { position: Position(9), recorded_at: 1_000, key: "s" };

fn row() -> SessionRow {
    SessionRow {
        session_id: "s".into(),
        last_write_mtask_id: Some("m1".into()),
        last_write_at: Some(900),
        pinned_group: Some(0),
        min_settings_version: 3,
        ttl: 5_000,
    }
}

fn write() -> SessionWriteRecorded {
    SessionWriteRecorded {
        last_write_mtask_id: "m2".into(),
        last_write_at: 1_000,
        pinned_group: Some(1),
        min_settings_version: 3,
        ttl: 6_000,
        new_life: false,
    }
}

fn raise() -> SessionSettingsFloorRaised {
    SessionSettingsFloorRaised { from: 3, to: 7, ttl: 6_000, new_life: false }
}

fn clear() -> SessionPinCleared {
    SessionPinCleared { mtask_id: "m1".into(), group: 0, why: PinClearedWhy::GroupFailed }
}

fn folded(row: Option<SessionRow>, event: impl Into<SessionEvent>) -> Option<SessionRow> {
    Sessions::evolve(row, event.into(), &AT).unwrap()
}

fn refused(row: Option<SessionRow>, event: impl Into<SessionEvent>) -> String {
    Sessions::evolve(row, event.into(), &AT).unwrap_err().0
}

#[test]
fn a_write_begins_a_new_life_with_floor_0() {
    let event = SessionWriteRecorded { min_settings_version: 0, new_life: true, ..write() };
    let expected = SessionRow {
        last_write_mtask_id: Some("m2".into()),
        last_write_at: Some(1_000),
        pinned_group: Some(1),
        min_settings_version: 0,
        ttl: 6_000,
        ..row()
    };
    assert_eq!(folded(None, event), Some(expected));
}

#[test]
fn a_write_replaces_the_last_one_and_its_pin() {
    let unpinned = SessionWriteRecorded { pinned_group: None, ..write() };
    let next = folded(Some(row()), unpinned).unwrap();
    assert_eq!(next.last_write_mtask_id.as_deref(), Some("m2"));
    assert_eq!((next.last_write_at, next.pinned_group), (Some(1_000), None));
    assert_eq!((next.min_settings_version, next.ttl), (3, 6_000));
}

#[test]
fn a_write_says_whether_it_begins_a_life() {
    assert!(refused(None, write()).contains("does not exist"));
    assert!(refused(Some(row()), SessionWriteRecorded { new_life: true, ..write() }).contains("on a row that exists"));
}

#[test]
fn a_write_moves_neither_the_floor_nor_the_ttl_back() {
    assert!(refused(Some(row()), SessionWriteRecorded { min_settings_version: 2, ..write() }).contains("floor 2"));
    assert!(refused(Some(row()), SessionWriteRecorded { ttl: 4_999, ..write() }).contains("takes ttl back"));
    let born_high = SessionWriteRecorded { min_settings_version: 1, new_life: true, ..write() };
    assert!(refused(None, born_high).contains("floor 1"));
}

#[test]
fn a_write_replaces_a_dead_row() {
    let dead: AnyRow = Arc::new(SessionRow { ttl: 1_000, ..row() });
    let event = SessionWriteRecorded { min_settings_version: 0, new_life: true, pinned_group: None, ..write() };
    let next = evolve::<Sessions>(Some(dead), event.into(), &AT).unwrap().unwrap();
    let expected = SessionRow {
        last_write_mtask_id: Some("m2".into()),
        last_write_at: Some(1_000),
        pinned_group: None,
        min_settings_version: 0,
        ttl: 6_000,
        ..row()
    };
    assert!(next.differs(&expected) == 0);
}

#[test]
fn a_raise_moves_floor_and_ttl() {
    let expected = SessionRow { min_settings_version: 7, ttl: 6_000, ..row() };
    assert_eq!(folded(Some(row()), raise()), Some(expected));
}

#[test]
fn a_raise_begins_a_life_without_a_write() {
    let event = SessionSettingsFloorRaised { from: 0, new_life: true, ..raise() };
    let expected = SessionRow {
        last_write_mtask_id: None,
        last_write_at: None,
        pinned_group: None,
        min_settings_version: 7,
        ttl: 6_000,
        ..row()
    };
    assert_eq!(folded(None, event), Some(expected));
}

#[test]
fn a_raise_goes_on_from_the_floor_and_only_up() {
    assert!(refused(Some(row()), SessionSettingsFloorRaised { from: 2, ..raise() }).contains("the row's is 3"));
    assert!(refused(Some(row()), SessionSettingsFloorRaised { to: 3, ..raise() }).contains("from 3 to 3"));
    assert!(refused(Some(row()), SessionSettingsFloorRaised { ttl: 1, ..raise() }).contains("takes ttl back"));
    assert!(refused(None, raise()).contains("does not exist"));
    assert!(refused(Some(row()), SessionSettingsFloorRaised { new_life: true, ..raise() }).contains("exists"));
}

#[test]
fn a_touch_only_extends() {
    assert_eq!(folded(Some(row()), SessionTouched { ttl: 6_000 }), Some(SessionRow { ttl: 6_000, ..row() }));
    assert!(refused(Some(row()), SessionTouched { ttl: 4_999 }).contains("takes ttl back"));
    assert!(refused(None, SessionTouched { ttl: 6_000 }).contains("does not exist"));
}

#[test]
fn clearing_the_pin_keeps_the_write() {
    assert_eq!(folded(Some(row()), clear()), Some(SessionRow { pinned_group: None, ..row() }));
}

#[test]
fn clearing_names_the_write_and_the_group_of_the_pin() {
    assert!(refused(Some(row()), SessionPinCleared { mtask_id: "m2".into(), ..clear() }).contains("m2"));
    assert!(refused(Some(row()), SessionPinCleared { group: 1, ..clear() }).contains("group 1"));
    assert!(refused(Some(SessionRow { pinned_group: None, ..row() }), clear()).contains("None"));
    assert!(refused(None, clear()).contains("does not exist"));
}

#[test]
fn closing_and_evicting_delete() {
    assert_eq!(folded(Some(row()), SessionClosed {}), None);
    assert_eq!(folded(Some(row()), SessionEvicted { ttl: 5_000, bound: 2 }), None);
    assert!(refused(None, SessionClosed {}).contains("does not exist"));
    assert!(refused(None, SessionEvicted { ttl: 5_000, bound: 2 }).contains("does not exist"));
    assert!(refused(Some(row()), SessionEvicted { ttl: 5_001, bound: 2 }).contains("the row's is 5000"));
}

#[test]
fn payloads_keep_their_bytes() {
    let goldens: [(SessionEvent, &str); 6] = [
        (
            write().into(),
            "86b36c6173745f77726974655f6d7461736b5f6964a26d32ad6c6173745f77726974655f6174cd03e8ac70696e6e6564\
             5f67726f757001b46d696e5f73657474696e67735f76657273696f6e03a374746ccd1770a86e65775f6c696665c2",
        ),
        (raise().into(), "84a466726f6d03a2746f07a374746ccd1770a86e65775f6c696665c2"),
        (SessionTouched { ttl: 6_000 }.into(), "81a374746ccd1770"),
        (clear().into(), "83a86d7461736b5f6964a26d31a567726f757000a3776879ac67726f75705f6661696c6564"),
        (SessionClosed {}.into(), "80"),
        (SessionEvicted { ttl: 5_000, bound: 100_000 }.into(), "82a374746ccd1388a5626f756e64ce000186a0"),
    ];
    for (event, golden) in goldens {
        let name = event.event_type().name;
        assert_eq!(hex::encode(event.encode()), golden, "{name}");
        assert_eq!(SessionEvent::decode(name, 1, &hex::decode(golden).unwrap()).unwrap(), event);
    }
}
