//! A source that was restored: a replica goes back, if need be to its beginning.

use tasklog::{
    StoreUrl,
    follow::{FollowOptions, Follower, open_source},
    log::Position,
};

use crate::{
    support::{
        program::{Store, run},
        registry::{PATIENCE, eventually},
    },
    world::*,
};

/// A source that was restored to where it was `after` commands since its snapshot, and a replica that has more.
fn diverged(after: usize) -> (Store, Store, u64) {
    let (primary, replica) = (source(50), Store::new());
    let at = snapshot(&primary);
    primary.apply(&lines("kept", after)).with(0);
    let backup = primary.folder.path().join("backup.db");
    primary.back_up(&backup);
    primary.apply(&lines("lost", 7)).with(0);
    begin(&primary.url(), &replica).with(0);
    primary.put_back(&backup);
    primary.apply(&lines("other", 3)).with(0);
    (primary, replica, at)
}

#[test]
fn a_begun_replica_goes_back_to_a_common_point_and_even_to_its_beginning() {
    for kept in [4, 0] {
        let (primary, replica, at) = diverged(kept);
        begin(&primary.url(), &replica).with(3).says(&["diverged", "--accept-divergence"]);
        let said = run(follow(&primary.url(), &replica, &["--once", "--accept-divergence"]), b"").with(0);
        assert!(said.out.contains(&format!("to event {}", at + kept as u64)), "{}", said.out);
        assert_begun(&primary.url(), &replica, at);
    }
}

#[test]
fn a_begun_replica_in_memory_goes_back_as_well() {
    for kept in [4, 0] {
        let primary = source(50);
        let at = snapshot(&primary);
        primary.apply(&lines("kept", kept + 1)).with(0);
        primary.by_hand(&format!("DELETE FROM events WHERE position > {}", at + kept as u64));
        let head = "UPDATE _heads SET (position, commit_id, recorded_at) =
            (SELECT position, commit_id, recorded_at FROM events ORDER BY position DESC LIMIT 1)";
        primary.by_hand(head);
        primary.by_hand("DELETE FROM tasks WHERE _rev > (SELECT max(position) FROM events)");
        let backup = primary.folder.path().join("backup.db");
        primary.back_up(&backup);
        primary.apply(&lines("lost", 7)).with(0);
        let url: StoreUrl = primary.url().parse().unwrap();
        let options = FollowOptions { from_snapshot: true, ..FollowOptions::default() };
        let follower = Follower::start(open_source(&url).unwrap(), &StoreUrl::Memory, options).unwrap();
        follower.wait_for(Position(at + kept as u64 + 7), PATIENCE).unwrap();
        primary.put_back(&backup);
        primary.by_hand("UPDATE _heads SET epoch = epoch + 1");
        primary.apply(&lines("other", 20)).with(0);
        eventually("the replica goes back", || !follower.went_back().is_empty());
        follower.wait_for(Position(at + kept as u64 + 20), PATIENCE).unwrap();
        assert_eq!(follower.went_back()[0].to.position, Position(at + kept as u64));
        assert_eq!(all_rows(follower.store()), all_rows(&reading(&primary.url())));
        assert_eq!(follower.store().verify(|_| {}).unwrap().found, 0);
    }
}

#[test]
fn a_replica_whose_beginning_was_lost_says_that_it_cannot_go_back_and_what_to_do() {
    let (primary, replica) = (source(50), Store::new());
    let backup = primary.folder.path().join("backup.db");
    primary.back_up(&backup);
    primary.apply(&lines("lost", 7)).with(0);
    let at = snapshot(&primary);
    begin(&primary.url(), &replica).with(0);
    let before = rows(&replica.url());
    primary.put_back(&backup);
    primary.apply(&lines("other", 20)).with(0);
    let said = run(follow(&primary.url(), &replica, &["--once", "--accept-divergence"]), b"").with(3);
    said.says(&[
        &format!("began with the snapshot of event {at} and has events {} on: it cannot go back", at + 1),
        "Begin the replica again, in a new file",
        "diverged",
    ]);
    assert_eq!(rows(&replica.url()), before);
    let again = Store::new();
    // The snapshot of what was lost is of no use.
    begin(&primary.url(), &again).with(0).says(&["passing over a snapshot"]);
    assert_eq!(rows(&again.url()), rows(&primary.url()));
}
