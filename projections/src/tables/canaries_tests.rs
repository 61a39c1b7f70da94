#![allow(clippy::unwrap_used)]
use super::*;
use crate::TableEvent;
use tasklog_log::Position;

fn fold(row: Option<CanaryRow>, event: impl Into<CanaryEvent>) -> Result<Option<CanaryRow>, Impossible> {
    let at = At { position: Position(7), recorded_at: 2_000, key: "c1" };
    Canaries::evolve(row, event.into(), &at)
}

fn json(text: &str) -> Json {
    Json::parse(text).unwrap()
}

fn definition() -> CanaryDefined {
    CanaryDefined {
        name: "top hit".into(),
        index_uid: "products".into(),
        interval_s: 60,
        query_json: json(r#"{ "q" : "shoe" }"#),
        assertions_json: json(r#"[{"type":"min_hits","n":1}]"#),
        enabled: true,
        created_at: 1_000,
    }
}

fn canary() -> CanaryRow {
    fold(None, definition()).unwrap().unwrap()
}

fn revision(column: &str, from: &str, to: &str) -> CanaryRevised {
    let change = CanaryChange { from: json(from), to: json(to) };
    CanaryRevised { changes: BTreeMap::from([(column.to_owned(), change)]) }
}

#[test]
fn a_definition_creates_the_row_with_its_json_byte_for_byte() {
    let row = canary();
    assert_eq!((&*row.id, &*row.name, &*row.index_uid), ("c1", "top hit", "products"));
    assert_eq!((row.interval_s, row.enabled, row.created_at), (60, true, 1_000));
    assert_eq!(row.query_json.as_str(), r#"{ "q" : "shoe" }"#);
    assert_eq!(row.assertions_json.as_str(), r#"[{"type":"min_hits","n":1}]"#);
}

#[test]
fn a_definition_of_an_existing_canary_is_impossible() {
    assert_eq!(fold(Some(canary()), definition()), Err(Impossible::row_exists("canary_defined")));
}

#[test]
fn a_revision_sets_the_listed_columns_and_no_others() {
    let mut changes = revision("name", r#""top hit""#, r#""first""#).changes;
    changes.extend(revision("index_uid", r#""products""#, r#""shop""#).changes);
    changes.extend(revision("interval_s", "60", "30").changes);
    changes.extend(revision("query_json", r#"{ "q" : "shoe" }"#, "{ }").changes);
    changes.extend(revision("assertions_json", r#"[{"type":"min_hits","n":1}]"#, "[ ]").changes);
    changes.extend(revision("enabled", "true", "false").changes);
    let wanted = CanaryRow {
        name: "first".into(),
        index_uid: "shop".into(),
        interval_s: 30,
        query_json: json("{ }"),
        assertions_json: json("[ ]"),
        enabled: false,
        ..canary()
    };
    assert_eq!(fold(Some(canary()), CanaryRevised { changes }), Ok(Some(wanted)));
    let one = fold(Some(canary()), revision("interval_s", "60", "30"));
    assert_eq!(one, Ok(Some(CanaryRow { interval_s: 30, ..canary() })));
}

#[test]
fn a_revision_that_the_row_does_not_match_is_impossible() {
    assert_eq!(fold(None, revision("interval_s", "60", "30")), Err(Impossible::no_row("canary_revised")));
    let refused = |event| fold(Some(canary()), event).unwrap_err().0;
    assert!(refused(revision("interval_s", "61", "30")).contains("expected 61, found 60"));
    assert!(refused(revision("query_json", r#"{"q":"shoe"}"#, "{}")).contains("query_json"));
    assert!(refused(revision("created_at", "1000", "2000")).contains("no column that a revision may change"));
    assert!(refused(revision("interval_s", "60", r#""soon""#)).contains("interval_s"));
}

#[test]
fn a_switch_flips_enabled_and_cannot_repeat_itself() {
    let off = fold(Some(canary()), CanaryDisabled {}).unwrap().unwrap();
    assert_eq!(off, CanaryRow { enabled: false, ..canary() });
    assert_eq!(fold(Some(off.clone()), CanaryEnabled {}), Ok(Some(canary())));
    assert!(fold(Some(off), CanaryDisabled {}).is_err());
    assert!(fold(Some(canary()), CanaryEnabled {}).is_err());
    assert_eq!(fold(None, CanaryEnabled {}), Err(Impossible::no_row("canary_enabled")));
    assert_eq!(fold(None, CanaryDisabled {}), Err(Impossible::no_row("canary_disabled")));
}

#[test]
fn a_deletion_removes_the_row_it_names() {
    let deleted = |name: &str| CanaryDeleted { name: name.into() };
    assert_eq!(fold(Some(canary()), deleted("top hit")), Ok(None));
    assert!(fold(Some(canary()), deleted("other")).is_err());
    assert_eq!(fold(None, deleted("top hit")), Err(Impossible::no_row("canary_deleted")));
}

#[test]
fn the_bytes_of_each_event_stay_as_they_are() {
    let mut changes = revision("name", r#""top hit""#, r#""first""#).changes;
    changes.extend(revision("interval_s", "60", "30").changes);
    let events: [(CanaryEvent, &str); 5] = [
        (
            definition().into(),
            "87a46e616d65a7746f7020686974a9696e6465785f756964a870726f6475637473aa696e74657276616c5f733caa7175\
             6572795f6a736f6eb07b20227122203a202273686f6522207daf617373657274696f6e735f6a736f6ebb5b7b22747970\
             65223a226d696e5f68697473222c226e223a317d5da7656e61626c6564c3aa637265617465645f6174cd03e8",
        ),
        (
            CanaryRevised { changes }.into(),
            "81a76368616e67657382aa696e74657276616c5f7382a466726f6da23630a2746fa23330a46e616d6582a466726f6da9\
             22746f702068697422a2746fa722666972737422",
        ),
        (CanaryEnabled {}.into(), "80"),
        (CanaryDisabled {}.into(), "80"),
        (CanaryDeleted { name: "top hit".into() }.into(), "81a46e616d65a7746f7020686974"),
    ];
    for (event, bytes) in events {
        assert_eq!(hex::encode(event.encode()), bytes, "{event:?}");
        let known = event.event_type();
        assert_eq!(CanaryEvent::decode(known.name, 1, &hex::decode(bytes).unwrap()).unwrap(), event);
    }
}
