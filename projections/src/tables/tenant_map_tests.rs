#![allow(clippy::unwrap_used)]

use tasklog_log::Position;

use super::*;
use crate::{Cell, Row, TableEvent};

const KEY: &str = "abababababababababababababababababababababababababababababababab";
const AT: At<'static> = At { position: Position(9), recorded_at: 1_000, key: KEY };

fn row() -> TenantRow {
    TenantRow { api_key_hash: Hash32([0xab; 32]), tenant_id: "acme".into(), group_id: Some(0) }
}

fn map() -> TenantMapped {
    TenantMapped { tenant_id: "acme".into(), group_id: Some(0), previous: None }
}

fn folded(row: Option<TenantRow>, event: impl Into<TenantEvent>) -> Option<TenantRow> {
    TenantMap::evolve(row, event.into(), &AT).unwrap()
}

fn refused(row: Option<TenantRow>, event: impl Into<TenantEvent>) -> String {
    TenantMap::evolve(row, event.into(), &AT).unwrap_err().0
}

#[test]
fn mapping_makes_the_row_under_the_hash_in_its_key() {
    assert_eq!(folded(None, map()), Some(row()));
    assert_eq!(row().key(), KEY);
}

#[test]
fn a_mapping_that_names_what_it_replaces_replaces_it() {
    let event = TenantMapped { tenant_id: "other".into(), group_id: None, previous: Some((&row()).into()) };
    assert_eq!(folded(Some(row()), event), Some(TenantRow { tenant_id: "other".into(), group_id: None, ..row() }));
}

#[test]
fn a_mapping_replaces_only_what_it_names() {
    assert!(refused(Some(row()), map()).contains("replaces None"));
    let wrong = TenantMapping { group_id: None, ..(&row()).into() };
    let event = TenantMapped { previous: Some(wrong), ..map() };
    assert!(refused(Some(row()), event.clone()).contains("Some(0)"));
    assert!(refused(None, event).contains("the row has None"));
}

#[test]
fn a_mapping_under_a_key_that_is_no_hash_is_impossible() {
    let at = At { key: "abc", ..AT };
    assert!(TenantMap::evolve(None, map().into(), &at).unwrap_err().0.contains("64 lowercase hex digits"));
}

#[test]
fn unmapping_deletes_the_row_of_its_tenant() {
    assert_eq!(folded(Some(row()), TenantUnmapped { tenant_id: "acme".into() }), None);
    assert!(refused(None, TenantUnmapped { tenant_id: "acme".into() }).contains("does not exist"));
    assert!(refused(Some(row()), TenantUnmapped { tenant_id: "other".into() }).contains("other"));
}

#[test]
fn groups_none_and_0_are_different_values() {
    assert_eq!(row().cells()[2], Cell::Integer(0));
    assert_eq!(TenantRow { group_id: None, ..row() }.cells()[2], Cell::Null);
}

#[test]
fn payloads_keep_their_bytes() {
    let previous = Some(TenantMapping { tenant_id: "other".into(), group_id: None });
    let goldens: [(TenantEvent, &str); 3] = [
        (map().into(), "82a974656e616e745f6964a461636d65a867726f75705f696400"),
        (
            TenantMapped { group_id: None, previous, ..map() }.into(),
            "82a974656e616e745f6964a461636d65a870726576696f757381a974656e616e745f6964a56f74686572",
        ),
        (TenantUnmapped { tenant_id: "acme".into() }.into(), "81a974656e616e745f6964a461636d65"),
    ];
    for (event, golden) in goldens {
        let name = event.event_type().name;
        assert_eq!(hex::encode(event.encode()), golden, "{name}");
        assert_eq!(TenantEvent::decode(name, 1, &hex::decode(golden).unwrap()).unwrap(), event);
    }
}
