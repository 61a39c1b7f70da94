#![allow(clippy::unwrap_used)]
use std::sync::Arc;

use tasklog_log::Position;

use super::*;
use crate::{AnyRow, Cell, Row, TableEvent};

type Outcome = Result<Option<AliasRow>, Impossible>;

fn fold(row: Option<AliasRow>, event: impl Into<AliasEvent>) -> Outcome {
    Aliases::evolve(row, event.into(), &At { position: Position(7), recorded_at: 9, key: "products" })
}

fn uids(uids: &[&str]) -> Vec<String> {
    uids.iter().map(|uid| (*uid).to_owned()).collect()
}

fn single_created() -> AliasCreated {
    AliasCreated {
        kind: AliasKind::Single,
        current_uid: Some("p1".into()),
        target_uids: None,
        version: 1,
        created_at: 5,
        managed_by: None,
        target_verified: true,
    }
}

fn multi_created(targets: &[&str]) -> AliasCreated {
    AliasCreated {
        kind: AliasKind::Multi,
        current_uid: None,
        target_uids: Some(uids(targets)),
        managed_by: Some("ilm:logs".into()),
        ..single_created()
    }
}

fn flipped(from: &str, to: &str, from_version: i64, history_retention: u32) -> AliasFlipped {
    AliasFlipped {
        from_uid: from.into(),
        to_uid: to.into(),
        from_version,
        to_version: from_version + 1,
        history_retention,
        flipped_at: 10 * from_version,
        why: "operator".into(),
    }
}

fn changed(from: &[&str], to: &[&str], from_version: i64) -> AliasTargetsChanged {
    AliasTargetsChanged {
        from_uids: uids(from),
        to_uids: uids(to),
        from_version,
        to_version: from_version + 1,
        history_retention: 10,
        changed_at: 20,
        why: TargetsWhy::Rollover,
    }
}

fn single() -> Option<AliasRow> {
    fold(None, single_created()).unwrap()
}

fn multi() -> Option<AliasRow> {
    fold(None, multi_created(&["l2", "l1"])).unwrap()
}

fn history(row: &AliasRow) -> String {
    match Row::cells(row).swap_remove(6) {
        Cell::Text(text) => text.into_owned(),
        other => panic!("history is {other:?}"),
    }
}

#[test]
fn a_creation_sets_the_target_columns_of_its_kind() {
    let row = single().unwrap();
    assert_eq!((row.kind, row.current_uid.as_deref(), &row.target_uids), (AliasKind::Single, Some("p1"), &None));
    assert_eq!((row.version, row.created_at, history(&row).as_str()), (1, 5, "[]"));
    let row = multi().unwrap();
    assert_eq!((row.kind, &row.current_uid, row.managed_by.as_deref()), (AliasKind::Multi, &None, Some("ilm:logs")));
    assert_eq!(Row::cells(&row)[3], Cell::from(r#"["l2","l1"]"#), "order kept");
}

#[test]
fn a_creation_on_a_row_is_impossible() {
    assert!(fold(single(), single_created()).is_err());
}

#[test]
fn a_creation_whose_targets_do_not_match_its_kind_is_impossible() {
    assert!(fold(None, AliasCreated { current_uid: None, ..single_created() }).is_err());
    assert!(fold(None, AliasCreated { target_uids: Some(uids(&["a"])), ..single_created() }).is_err());
    assert!(fold(None, AliasCreated { managed_by: Some("ilm:p".into()), ..single_created() }).is_err());
    assert!(fold(None, AliasCreated { target_uids: None, ..multi_created(&["a"]) }).is_err());
    assert!(fold(None, AliasCreated { managed_by: None, ..multi_created(&["a"]) }).is_err());
    assert!(fold(None, AliasCreated { current_uid: Some("a".into()), ..multi_created(&["a"]) }).is_err());
    assert!(fold(None, multi_created(&[])).is_err());
    assert!(fold(None, multi_created(&["a", "a"])).is_err());
}

#[test]
fn a_flip_pushes_the_replaced_state_onto_the_history() {
    let row = fold(single(), flipped("p1", "p2", 1, 10)).unwrap();
    let row = fold(row, flipped("p2", "p3", 2, 10)).unwrap().unwrap();
    assert_eq!((row.current_uid.as_deref(), row.version, row.created_at), (Some("p3"), 3, 5));
    assert_eq!(
        history(&row),
        r#"[{"current_uid":"p1","target_uids":null,"timestamp":10,"version":1},{"current_uid":"p2","target_uids":null,"timestamp":20,"version":2}]"#
    );
}

#[test]
fn the_history_is_trimmed_to_the_retention_of_the_event() {
    let mut row = single();
    for version in 1..=4 {
        row = fold(row, flipped(&format!("p{version}"), &format!("p{}", version + 1), version, 3)).unwrap();
    }
    let versions = |row: &Option<AliasRow>| row.as_ref().unwrap().history.iter().map(|s| s.version).collect::<Vec<_>>();
    assert_eq!(versions(&row), [2, 3, 4]);
    let row = fold(row, flipped("p5", "p6", 5, 2)).unwrap();
    assert_eq!(versions(&row), [4, 5]);
    let row = fold(row, flipped("p6", "p7", 6, 0)).unwrap();
    assert_eq!(versions(&row), [0; 0], "retention 0 keeps nothing");
    assert_eq!(row.unwrap().version, 7);
}

#[test]
fn a_stored_history_is_read_back() {
    let row = fold(single(), flipped("p1", "p2", 1, 10)).unwrap().unwrap();
    let cells = Row::cells(&row);
    assert_eq!(AliasRow::from_cells(&Loaded(&cells)).unwrap(), row);
}

struct Loaded<'a>(&'a [Cell<'a>]);

impl crate::Cells for Loaded<'_> {
    fn cell(&self, index: usize) -> Result<Cell<'_>, String> {
        self.0.cell(index)
    }
}

#[test]
fn a_flip_of_another_state_is_impossible() {
    assert!(fold(None, flipped("p1", "p2", 1, 10)).is_err());
    assert!(fold(single(), flipped("p0", "p2", 1, 10)).is_err());
    assert!(fold(single(), flipped("p1", "p2", 2, 10)).is_err());
    assert!(fold(single(), AliasFlipped { to_version: 3, ..flipped("p1", "p2", 1, 10) }).is_err());
    assert!(fold(multi(), flipped("l2", "l3", 1, 10)).is_err());
}

#[test]
fn a_change_of_targets_keeps_the_old_list_in_the_history() {
    let row = fold(multi(), changed(&["l2", "l1"], &["l3", "l2"], 1)).unwrap().unwrap();
    assert_eq!((row.targets(), row.version), (uids(&["l3", "l2"]), 2));
    assert_eq!(history(&row), r#"[{"current_uid":null,"target_uids":["l2","l1"],"timestamp":20,"version":1}]"#);
}

#[test]
fn a_change_of_targets_of_another_state_is_impossible() {
    assert!(fold(None, changed(&["l2", "l1"], &["l3"], 1)).is_err());
    assert!(fold(multi(), changed(&["l1", "l2"], &["l3"], 1)).is_err(), "order counts");
    assert!(fold(multi(), changed(&["l2", "l1"], &["l3"], 2)).is_err());
    assert!(fold(multi(), changed(&["l2", "l1"], &[], 1)).is_err());
    assert!(fold(multi(), changed(&["l2", "l1"], &["l3", "l3"], 1)).is_err());
    assert!(fold(single(), changed(&["p1"], &["l3"], 1)).is_err());
}

fn deletion() -> AliasDeleted {
    AliasDeleted { kind: AliasKind::Single, last_version: 1, last_uid: Some("p1".into()), last_uids: None }
}

#[test]
fn a_deletion_names_what_it_deletes() {
    assert_eq!(fold(single(), deletion()), Ok(None));
    let last_uids = Some(uids(&["l2", "l1"]));
    let of_multi = AliasDeleted { kind: AliasKind::Multi, last_uid: None, last_uids, ..deletion() };
    assert_eq!(fold(multi(), of_multi), Ok(None));
}

#[test]
fn a_deletion_of_another_state_is_impossible() {
    assert!(fold(None, deletion()).is_err());
    assert!(fold(multi(), deletion()).is_err());
    assert!(fold(single(), AliasDeleted { last_version: 2, ..deletion() }).is_err());
    assert!(fold(single(), AliasDeleted { last_uid: Some("p2".into()), ..deletion() }).is_err());
}

#[test]
fn an_alias_is_found_under_each_of_its_targets() {
    let found = |row: Option<AliasRow>| {
        let row: AnyRow = Arc::new(row.unwrap());
        (Aliases::MULTI_INDEXES[0].values)(&*row)
    };
    assert_eq!(found(single()), uids(&["p1"]));
    assert_eq!(found(multi()), uids(&["l2", "l1"]));
}

#[test]
fn payloads_keep_their_bytes() {
    let events: Vec<AliasEvent> = vec![
        single_created().into(),
        multi_created(&["l1"]).into(),
        flipped("p1", "p2", 1, 10).into(),
        changed(&["l1"], &["l2"], 1).into(),
        deletion().into(),
    ];
    let bytes: Vec<_> = events.iter().map(|event| hex::encode(event.encode())).collect();
    let expected = [
        "85a46b696e64a673696e676c65ab63757272656e745f756964a27031a776657273696f6e01aa637265617465645f617405af7461726765745f7665726966696564c3",
        "86a46b696e64a56d756c7469ab7461726765745f7569647391a26c31a776657273696f6e01aa637265617465645f617405aa6d616e616765645f6279a8696c6d3a6c6f6773af7461726765745f7665726966696564c3",
        "87a866726f6d5f756964a27031a6746f5f756964a27032ac66726f6d5f76657273696f6e01aa746f5f76657273696f6e02b1686973746f72795f726574656e74696f6e0aaa666c69707065645f61740aa3776879a86f70657261746f72",
        "87a966726f6d5f7569647391a26c31a7746f5f7569647391a26c32ac66726f6d5f76657273696f6e01aa746f5f76657273696f6e02b1686973746f72795f726574656e74696f6e0aaa6368616e6765645f617414a3776879a8726f6c6c6f766572",
        "83a46b696e64a673696e676c65ac6c6173745f76657273696f6e01a86c6173745f756964a27031",
    ];
    assert_eq!(bytes, expected);
}
