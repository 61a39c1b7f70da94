#![allow(clippy::unwrap_used)]
use tasklog_log::Position;

use super::*;
use crate::{TableEvent, pair};

type Outcome = Result<Option<NodeSettingsRow>, Impossible>;

fn fold(row: Option<NodeSettingsRow>, node: &str, event: impl Into<NodeSettingsEvent>) -> Outcome {
    let key = pair("products", node);
    NodeSettingsVersion::evolve(row, event.into(), &At { position: Position(7), recorded_at: 9, key: &key })
}

fn committed(from_version: i64, version: i64) -> SettingsCommitted {
    SettingsCommitted { from_version, version, fingerprint: "ab".into(), node_count: 2, term: 3, updated_at: 5 }
}

fn verified(from_version: i64, version: i64) -> NodeSettingsVerified {
    let cause = VerifyCause::LateJoin;
    NodeSettingsVerified { from_version, version, fingerprint: None, cause, updated_at: 5 }
}

fn forgotten(last_version: i64, why: ForgetWhy) -> NodeSettingsForgotten {
    NodeSettingsForgotten { last_version, why }
}

fn row(node: &str, version: i64) -> Option<NodeSettingsRow> {
    let (index_uid, node_id) = ("products".into(), node.into());
    Some(NodeSettingsRow { index_uid, node_id, version, updated_at: 1, fingerprint: None })
}

#[test]
fn a_commit_makes_the_row_of_the_cluster() {
    let made = fold(None, CLUSTER, committed(0, 1)).unwrap().unwrap();
    assert_eq!((made.version, made.updated_at, made.fingerprint.as_deref()), (1, 5, Some("ab")));
    assert_eq!((&*made.index_uid, &*made.node_id), ("products", CLUSTER));
    assert_eq!(fold(Some(made), CLUSTER, committed(1, 2)).unwrap().unwrap().version, 2);
}

#[test]
fn a_commit_after_a_deletion_goes_on_from_the_last_version() {
    assert_eq!(fold(None, CLUSTER, committed(6, 7)).unwrap().unwrap().version, 7);
}

#[test]
fn a_commit_that_skips_or_repeats_a_version_is_impossible() {
    assert!(fold(row(CLUSTER, 1), CLUSTER, committed(1, 3)).is_err());
    assert!(fold(row(CLUSTER, 2), CLUSTER, committed(1, 2)).is_err());
    assert!(fold(None, CLUSTER, committed(-1, 0)).is_err());
    assert!(fold(None, CLUSTER, committed(i64::MAX, i64::MIN)).is_err());
}

#[test]
fn a_commit_on_a_node_is_impossible() {
    assert!(fold(None, "meili-0", committed(0, 1)).is_err());
}

#[test]
fn a_verification_makes_or_moves_the_row_of_a_node() {
    let made = fold(None, "a/b", verified(0, 4)).unwrap().unwrap();
    assert_eq!((made.version, &*made.node_id), (4, "a/b"));
    assert_eq!(fold(row("meili-0", 4), "meili-0", verified(4, 6)).unwrap().unwrap().version, 6);
}

#[test]
fn a_verification_that_falls_or_stays_is_impossible() {
    assert!(fold(row("meili-0", 4), "meili-0", verified(4, 4)).is_err());
    assert!(fold(row("meili-0", 4), "meili-0", verified(4, 3)).is_err());
}

#[test]
fn a_verification_from_another_version_is_impossible() {
    assert!(fold(row("meili-0", 4), "meili-0", verified(3, 5)).is_err());
    assert!(fold(None, "meili-0", verified(3, 5)).is_err());
}

#[test]
fn a_verification_of_the_cluster_is_impossible() {
    assert!(fold(row(CLUSTER, 4), CLUSTER, verified(4, 5)).is_err());
}

#[test]
fn forgetting_deletes_nodes_and_with_the_index_the_cluster() {
    assert_eq!(fold(row("meili-0", 4), "meili-0", forgotten(4, ForgetWhy::Node)), Ok(None));
    assert_eq!(fold(row("meili-0", 4), "meili-0", forgotten(4, ForgetWhy::Index)), Ok(None));
    assert_eq!(fold(row(CLUSTER, 4), CLUSTER, forgotten(4, ForgetWhy::Index)), Ok(None));
}

#[test]
fn forgetting_what_is_not_there_is_impossible() {
    assert!(fold(None, "meili-0", forgotten(4, ForgetWhy::Node)).is_err());
    assert!(fold(row("meili-0", 5), "meili-0", forgotten(4, ForgetWhy::Node)).is_err());
    assert!(fold(row(CLUSTER, 4), CLUSTER, forgotten(4, ForgetWhy::Node)).is_err());
}

#[test]
fn a_key_that_is_no_pair_is_impossible() {
    let at = At { position: Position(7), recorded_at: 9, key: "products" };
    assert!(NodeSettingsVersion::evolve(None, committed(0, 1).into(), &at).is_err());
}

#[test]
fn payloads_keep_their_bytes() {
    let events: Vec<NodeSettingsEvent> =
        vec![committed(0, 1).into(), verified(1, 2).into(), forgotten(2, ForgetWhy::Index).into()];
    let bytes: Vec<_> = events.iter().map(|event| hex::encode(event.encode())).collect();
    let expected = [
        "86ac66726f6d5f76657273696f6e00a776657273696f6e01ab66696e6765727072696e74a26162aa6e6f64655f636f756e7402a47465726d03aa757064617465645f617405",
        "84ac66726f6d5f76657273696f6e01a776657273696f6e02a56361757365a96c6174655f6a6f696eaa757064617465645f617405",
        "82ac6c6173745f76657273696f6e02a3776879a5696e646578",
    ];
    assert_eq!(bytes, expected);
}
