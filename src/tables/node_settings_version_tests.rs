#![allow(clippy::unwrap_used)]
use super::*;
use crate::{
    TaskStore,
    command::{CommandOptions, Reply},
    decision::LeaseClaim,
    store::{OpenOptions, StoreUrl},
    tables::leader_lease::Acquire,
};

fn store() -> TaskStore {
    TaskStore::open_with(&StoreUrl::Memory, OpenOptions::default()).unwrap()
}

/// Commits `version` of `index` on `nodes` nodes, under a lease of its own.
fn broadcast(store: &TaskStore, index: &str, version: i64, nodes: usize) -> Result<Reply<CommitAnswer>, Error> {
    let scope = format!("settings_broadcast:{index}");
    let lease = Acquire { scope: scope.clone(), holder: "pod-a".into(), ttl_ms: None };
    let granted = store.run_blocking(lease, CommandOptions::default())?;
    let lease = Some(LeaseClaim { scope, term: granted.position.to_i64() });
    let node_ids = (0..nodes).map(|node| format!("meili-{node}")).collect();
    let commit = Commit { index_uid: index.into(), version, node_ids, fingerprint: Hash32::of(b"settings") };
    store.run_blocking(commit, CommandOptions { lease, ..CommandOptions::default() })
}

fn nodes(store: &TaskStore, index: &str) -> usize {
    store.ask(&List { index_uid: index.into(), floor: None }).unwrap().len()
}

#[test]
fn a_broadcast_to_999_nodes_fills_one_commit_and_one_to_1000_is_refused() {
    let store = store();
    let reply = broadcast(&store, "products", 1, NODES_MAX).unwrap();
    assert_eq!((reply.answer.node_count, reply.position.to_i64()), (999, 1 + 1_000));
    let refused = broadcast(&store, "products", 2, NODES_MAX + 1).unwrap_err();
    assert_eq!(refused.to_string(), "invalid: node_ids: 1 to 999 nodes, found 1000");
    assert_eq!(nodes(&store, "products"), 999);
}

#[test]
fn forgetting_an_index_of_more_nodes_than_a_commit_has_room_for_goes_on_in_further_commits() {
    let store = store();
    broadcast(&store, "products", 1, NODES_MAX).unwrap();
    for node in 0..1_100 {
        let (index_uid, node_id) = ("products".into(), format!("late-{node}"));
        let joined = Advance { index_uid, node_id, version: 1, cause: AdvanceCause::LateJoin };
        store.run_blocking(joined, CommandOptions::default()).unwrap();
    }
    assert_eq!(nodes(&store, "products"), 2_099);
    let reply = store.run_blocking(ForgetIndex::new("products"), CommandOptions::default()).unwrap();
    assert_eq!(reply.answer, IndexForgotten { forgotten: 2_099, last_version: 1, more: false });
    assert_eq!(nodes(&store, "products"), 0);
    let again = store.run_blocking(ForgetIndex::new("products"), CommandOptions::default()).unwrap();
    assert_eq!((again.changed, again.answer.forgotten), (false, 0));
}

#[test]
fn forgetting_a_node_of_more_indexes_than_a_commit_has_room_for_goes_on_in_further_commits() {
    let store = store();
    for index in 0..1_001 {
        broadcast(&store, &format!("index-{index}"), 1, 2).unwrap();
    }
    let reply = store.run_blocking(ForgetNode::new("meili-0"), CommandOptions::default()).unwrap();
    assert_eq!(reply.answer, NodeForgotten { forgotten: 1_001, more: false });
    assert_eq!(store.ask(&ByNode { node_id: "meili-0".into() }).unwrap().len(), 0);
    assert_eq!(store.ask(&ByNode { node_id: "meili-1".into() }).unwrap().len(), 1_001);
}
