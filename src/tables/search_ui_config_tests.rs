#![allow(clippy::unwrap_used)]
use tasklog_projections::JSON_BYTES_MAX;

use super::*;
use crate::{RejectionKind, TaskStore, command::CommandOptions};

fn page(bytes: usize) -> Set {
    let frame = r#"{"template":""}"#.len();
    let text = format!(r#"{{"template":"{}"}}"#, "x".repeat(bytes - frame));
    Set { index_uid: "products".into(), config_json: Json::parse(&text).unwrap(), expected_rev: None }
}

#[test]
fn a_template_may_fill_the_bound_and_not_pass_it() {
    let store = TaskStore::open("memory:").unwrap();
    let set = |page: Set| store.run_blocking(page, CommandOptions::default());
    assert!(set(page(JSON_BYTES_MAX - 1)).unwrap().answer.created);
    assert!(!set(page(JSON_BYTES_MAX)).unwrap().answer.created);
    let Err(Error::Rejected(refused)) = set(page(JSON_BYTES_MAX + 1)) else { panic!("it passes the bound") };
    assert_eq!(refused.kind, RejectionKind::Invalid);
    assert!(refused.message.contains("json_bytes_max"));
    let kept = store.ask(&Get { index_uid: "products".into() }).unwrap().unwrap();
    assert_eq!(kept.config_json, page(JSON_BYTES_MAX).config_json);
}

#[test]
fn no_expectation_and_the_expectation_of_no_row_are_two_things() {
    let parse = |text: &str| serde_json::from_str::<Set>(text).unwrap();
    let silent = parse(r#"{"index_uid":"x","config_json":{}}"#);
    let none = parse(r#"{"index_uid":"x","config_json":{},"expected_rev":null}"#);
    assert_eq!((silent.expected_rev, none.expected_rev), (None, Some(None)));
    for set in [silent, none] {
        assert_eq!(parse(&serde_json::to_string(&set).unwrap()).expected_rev, set.expected_rev);
    }
}
