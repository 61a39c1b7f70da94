//! Sources that were trimmed: what is left to begin with, and what is said if there is nothing.

use std::fs;

use serde_json::json;

use crate::{
    support::program::{Store, run},
    world::*,
};

/// A source whose log begins late, and whose archive is somewhere else by now.
fn trimmed() -> (Store, u64) {
    let primary = source(100);
    let archive = primary.folder.path().join("archive");
    primary.run(["archive", "--to", archive.to_str().unwrap(), "--all", "--segment-events", "20"]).with(0);
    let at = snapshot(&primary);
    primary.run(["trim", "--keep-events", "10"]).with(0);
    primary.apply(&tail()).with(0);
    (primary, at)
}

#[test]
fn a_trimmed_source_whose_archive_is_out_of_reach_is_followed_from_a_snapshot_only() {
    let (primary, at) = trimmed();
    let archive = primary.folder.path().join("archive");
    let elsewhere = primary.folder.path().join("elsewhere");
    fs::rename(&archive, &elsewhere).unwrap();
    let replica = Store::new();
    let refused = run(follow(&primary.url(), &replica, &["--once"]), b"");
    refused.with(3).says(&["following from event 1: the source begins at event ", "--from-snapshot"]);
    begin(&primary.url(), &replica).with(0).prints(&["began with the snapshot"]);
    let verified = replica.run(["verify"]).with(0);
    assert!(verified.out.contains("everything holds"), "{}", verified.out);
    assert_eq!(rows(&replica.url()), rows(&primary.url()));
    replica.run(["history", "tasks", "a1"]).with(3).says(&["archive"]);
    // Where the archive is to be found, the replica reads on into it, as its source does.
    fs::rename(&elsewhere, &archive).unwrap();
    let told = |store: &Store| store.run(["history", "tasks", "a1"]).with(0).out;
    assert_eq!(told(&replica), told(&primary));
    replica.run(["get", "tasks", "a1", "--at", "50"]).with(0);
    assert_eq!(replica.json(["info"])[0]["began_with_snapshot"], json!(at));
    // And one that begins with the first event reads it from there.
    let full = Store::new();
    run(follow(&primary.url(), &full, &["--once"]), b"").with(0);
    assert_eq!(full.dump(), primary.dump());
}

#[test]
fn a_replica_that_a_trimmed_source_has_left_behind_is_told_to_begin_again() {
    let primary = source(100);
    let replica = Store::new();
    run(follow(&primary.url(), &replica, &["--once"]), b"").with(0);
    primary.apply(&lines("c", 50)).with(0);
    let archive = primary.folder.path().join("archive");
    primary.run(["archive", "--to", archive.to_str().unwrap(), "--all", "--segment-events", "20"]).with(0);
    snapshot(&primary);
    primary.run(["trim", "--keep-events", "10"]).with(0);
    fs::remove_dir_all(&archive).unwrap();
    begin(&primary.url(), &replica).with(3).says(&["begin a new replica in another file", "--from-snapshot"]);
}
