#![allow(clippy::unwrap_used)]
use tasklog_log::Position;

use super::*;
use crate::TableEvent;

type Outcome = Result<Option<RolloverPolicyRow>, Impossible>;

fn fold(row: Option<RolloverPolicyRow>, event: impl Into<RolloverPolicyEvent>) -> Outcome {
    RolloverPolicies::evolve(row, event.into(), &At { position: Position(7), recorded_at: 9, key: "logs" })
}

fn json(text: &str) -> Json {
    Json::parse(text).unwrap()
}

fn defined_event() -> RolloverPolicyDefined {
    RolloverPolicyDefined {
        write_alias: "logs".into(),
        read_alias: "logs-search".into(),
        pattern: "logs-{YYYY-MM-DD}".into(),
        triggers_json: json(r#"{ "max_age": "7d" }"#),
        retention_json: json(r#"{"keep_indexes":3}"#),
        template_json: json(r#"{"primary_key":"id"}"#),
        enabled: true,
    }
}

fn policy() -> Option<RolloverPolicyRow> {
    fold(None, defined_event()).unwrap()
}

fn revision(changes: &[(&str, &str, &str)]) -> RolloverPolicyRevised {
    let change = |from, to| PolicyChange { from: json(from), to: json(to) };
    RolloverPolicyRevised {
        changes: changes.iter().map(|(column, from, to)| ((*column).into(), change(from, to))).collect(),
    }
}

fn execution() -> RolloverExecuted {
    RolloverExecuted {
        at: 50,
        trigger: "max_age".into(),
        observed: json(r#"{"age_ms":1.50}"#),
        old_index: "logs-1".into(),
        new_index: "logs-2".into(),
        term: 4,
    }
}

fn deletion() -> RolloverPolicyDeleted {
    RolloverPolicyDeleted { write_alias: "logs".into(), read_alias: "logs-search".into() }
}

#[test]
fn a_definition_keeps_its_json_byte_for_byte() {
    let row = policy().unwrap();
    assert_eq!((&*row.name, &*row.write_alias, &*row.read_alias), ("logs", "logs", "logs-search"));
    assert_eq!(row.triggers_json.as_str(), r#"{ "max_age": "7d" }"#);
    assert_eq!((row.enabled, row.last_rollover), (true, None));
}

#[test]
fn a_definition_of_what_exists_is_impossible() {
    assert!(fold(policy(), defined_event()).is_err());
}

#[test]
fn a_policy_whose_two_aliases_are_one_is_impossible() {
    assert!(fold(None, RolloverPolicyDefined { read_alias: "logs".into(), ..defined_event() }).is_err());
    assert!(fold(policy(), revision(&[("read_alias", r#""logs-search""#, r#""logs""#)])).is_err());
}

#[test]
fn a_revision_sets_the_listed_columns() {
    let changes = revision(&[
        ("write_alias", r#""logs""#, r#""events""#),
        ("read_alias", r#""logs-search""#, r#""logs""#),
        ("pattern", r#""logs-{YYYY-MM-DD}""#, r#""e-{YYYY}""#),
        ("triggers_json", r#"{ "max_age": "7d" }"#, r#"{"max_docs":5}"#),
        ("retention_json", r#"{"keep_indexes":3}"#, r#"{"keep_indexes":4}"#),
        ("template_json", r#"{"primary_key":"id"}"#, r#"{"primary_key":"uid"}"#),
    ]);
    let row = fold(policy(), changes).unwrap().unwrap();
    assert_eq!((&*row.write_alias, &*row.read_alias, &*row.pattern), ("events", "logs", "e-{YYYY}"));
    assert_eq!(row.triggers_json.as_str(), r#"{"max_docs":5}"#);
    assert_eq!(row.retention_json.as_str(), r#"{"keep_indexes":4}"#);
    assert_eq!(row.template_json.as_str(), r#"{"primary_key":"uid"}"#);
}

#[test]
fn a_revision_from_other_values_or_of_other_columns_is_impossible() {
    let one = revision(&[("pattern", r#""other""#, r#""e-{YYYY}""#)]);
    assert!(fold(policy(), one).is_err());
    assert!(fold(policy(), revision(&[("enabled", "1", "0")])).is_err());
    assert!(fold(policy(), revision(&[("pattern", r#""logs-{YYYY-MM-DD}""#, "5")])).is_err());
    assert!(fold(None, revision(&[])).is_err());
}

#[test]
fn a_policy_is_disabled_and_enabled() {
    let off = fold(policy(), RolloverPolicyDisabled {}).unwrap();
    assert!(!off.as_ref().unwrap().enabled);
    assert!(fold(off, RolloverPolicyEnabled {}).unwrap().unwrap().enabled);
}

#[test]
fn switching_to_the_same_is_impossible() {
    assert!(fold(policy(), RolloverPolicyEnabled {}).is_err());
    let off = fold(policy(), RolloverPolicyDisabled {}).unwrap();
    assert!(fold(off, RolloverPolicyDisabled {}).is_err());
    assert!(fold(None, RolloverPolicyEnabled {}).is_err());
    assert!(fold(None, RolloverPolicyDisabled {}).is_err());
}

#[test]
fn a_rollover_leaves_only_its_memory_in_the_policy() {
    let before = policy().unwrap();
    let row = fold(Some(before.clone()), execution()).unwrap().unwrap();
    let last = r#"{"at":50,"new_index":"logs-2","old_index":"logs-1","trigger":"max_age"}"#;
    assert_eq!(row.last_rollover.as_ref().unwrap().as_str(), last, "canonical");
    assert_eq!(RolloverPolicyRow { last_rollover: None, ..row }, before);
}

#[test]
fn a_rollover_of_a_disabled_or_absent_policy_is_impossible() {
    let off = fold(policy(), RolloverPolicyDisabled {}).unwrap();
    assert!(fold(off, execution()).is_err());
    assert!(fold(None, execution()).is_err());
}

#[test]
fn a_deletion_names_the_aliases() {
    assert_eq!(fold(policy(), deletion()), Ok(None));
    assert!(fold(None, deletion()).is_err());
    assert!(fold(policy(), RolloverPolicyDeleted { read_alias: "other".into(), ..deletion() }).is_err());
    assert!(fold(policy(), RolloverPolicyDeleted { write_alias: "other".into(), ..deletion() }).is_err());
}

#[test]
fn payloads_keep_their_bytes() {
    let events: Vec<RolloverPolicyEvent> = vec![
        defined_event().into(),
        revision(&[("pattern", r#""a""#, r#""b""#)]).into(),
        RolloverPolicyEnabled {}.into(),
        RolloverPolicyDisabled {}.into(),
        execution().into(),
        deletion().into(),
    ];
    let bytes: Vec<_> = events.iter().map(|event| hex::encode(event.encode())).collect();
    let expected = [
        "87ab77726974655f616c696173a46c6f6773aa726561645f616c696173ab6c6f67732d736561726368a77061747465726eb16c6f67732d7b595959592d4d4d2d44447dad74726967676572735f6a736f6eb37b20226d61785f616765223a2022376422207dae726574656e74696f6e5f6a736f6eb27b226b6565705f696e6465786573223a337dad74656d706c6174655f6a736f6eb47b227072696d6172795f6b6579223a226964227da7656e61626c6564c3",
        "81a76368616e67657381a77061747465726e82a466726f6da3226122a2746fa3226222",
        "80",
        "80",
        "86a2617432a774726967676572a76d61785f616765a86f62736572766564af7b226167655f6d73223a312e35307da96f6c645f696e646578a66c6f67732d31a96e65775f696e646578a66c6f67732d32a47465726d04",
        "82ab77726974655f616c696173a46c6f6773aa726561645f616c696173ab6c6f67732d736561726368",
    ];
    assert_eq!(bytes, expected);
}
