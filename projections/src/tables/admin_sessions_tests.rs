#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use tasklog_log::Position;

use super::*;
use crate::{AnyRow, TableEvent, evolve};

const AT: At<'static> = At { position: Position(9), recorded_at: 1_000, key: "s" };

fn row() -> AdminSessionRow {
    AdminSessionRow {
        session_id: "s".into(),
        csrf_token: "t".into(),
        admin_key_hash: "ab".repeat(32),
        created_at: 1_000,
        expires_at: 5_000,
        revoked: false,
        user_agent: Some("browser".into()),
        source_ip: None,
    }
}

fn open() -> AdminSessionOpened {
    AdminSessionOpened {
        csrf_token: "t".into(),
        admin_key_hash: "ab".repeat(32),
        created_at: 1_000,
        expires_at: 5_000,
        user_agent: Some("browser".into()),
        source_ip: None,
    }
}

fn revoke() -> AdminSessionRevoked {
    AdminSessionRevoked { revoked_at: 1_000, why: RevokedWhy::KeyRotated }
}

fn folded(row: Option<AdminSessionRow>, event: impl Into<AdminSessionEvent>) -> Option<AdminSessionRow> {
    AdminSessions::evolve(row, event.into(), &AT).unwrap()
}

fn refused(row: Option<AdminSessionRow>, event: impl Into<AdminSessionEvent>) -> String {
    AdminSessions::evolve(row, event.into(), &AT).unwrap_err().0
}

#[test]
fn opening_makes_a_row_that_is_not_revoked() {
    assert_eq!(folded(None, open()), Some(row()));
    assert!(refused(Some(row()), open()).contains("on a row that exists"));
}

#[test]
fn opening_replaces_a_dead_row_revoked_or_not() {
    let dead: AnyRow = Arc::new(AdminSessionRow { expires_at: 1_000, revoked: true, ..row() });
    let next = evolve::<AdminSessions>(Some(dead), open().into(), &AT).unwrap().unwrap();
    assert!(next.differs(&row()) == 0);
}

#[test]
fn revoking_changes_nothing_but_the_mark() {
    assert_eq!(folded(Some(row()), revoke()), Some(AdminSessionRow { revoked: true, ..row() }));
}

#[test]
fn revoking_needs_a_row_that_is_not_revoked() {
    assert!(refused(None, revoke()).contains("does not exist"));
    assert!(refused(Some(AdminSessionRow { revoked: true, ..row() }), revoke()).contains("is revoked"));
}

#[test]
fn the_index_has_the_name_that_the_schema_lists() {
    assert_eq!(format!("{}_{}", DEF.name, DEF.indexes[0].name), "admin_sessions_expires");
}

#[test]
fn payloads_keep_their_bytes() {
    let goldens: [(AdminSessionEvent, &str); 2] = [
        (
            open().into(),
            "85aa637372665f746f6b656ea174ae61646d696e5f6b65795f68617368d9406162616261626162616261626162616261\
             6261626162616261626162616261626162616261626162616261626162616261626162616261626162616261626162aa\
             637265617465645f6174cd03e8aa657870697265735f6174cd1388aa757365725f6167656e74a762726f77736572",
        ),
        (revoke().into(), "82aa7265766f6b65645f6174cd03e8a3776879ab6b65795f726f7461746564"),
    ];
    for (event, golden) in goldens {
        let name = event.event_type().name;
        assert_eq!(hex::encode(event.encode()), golden, "{name}");
        assert_eq!(AdminSessionEvent::decode(name, 1, &hex::decode(golden).unwrap()).unwrap(), event);
    }
}
