//! Decisions to pass over an event, before and after the beginning.

use crate::{support::program::Store, world::*};

#[test]
fn a_quarantine_is_followed_where_the_replica_has_the_event_and_otherwise_it_says_what_to_do() {
    let (primary, replica, at) = begun();
    let log = replica.json(["log"]);
    let of = |key: &str| {
        let found = log.iter().find(|event| event["key"] == key).unwrap();
        found["position"].as_u64().unwrap().to_string()
    };
    // The first event of this row is older than the replica.
    primary.run(["quarantine", &of("a1"), "--reason", "x"]).with(0);
    begin(&primary.url(), &replica).with(0);
    assert_begun(&primary.url(), &replica, at);
    primary.run(["quarantine", &of("a1"), "--lift", "--reason", "y"]).with(0);
    begin(&primary.url(), &replica).with(0);
    assert_begun(&primary.url(), &replica, at);
    let before = rows(&replica.url());
    let ended = primary.json(["history", "tasks", "a0"]).pop().unwrap();
    let position = ended["position"].as_u64().unwrap().to_string();
    primary.run(["quarantine", &position, "--reason", "z"]).with(0);
    let said = begin(&primary.url(), &replica).with(3);
    said.says(&[&format!("event {position} is quarantined in the source"), "begin the replica again"]);
    assert_eq!(rows(&replica.url()), before, "nothing of it was taken");
    // Nor can one begin with a snapshot that was made otherwise; with the first event it can.
    let full = Store::new();
    begin(&primary.url(), &full).with(0).says(&["no snapshot of the source can be used"]);
    assert_eq!(full.dump(), primary.dump());
    // One that begins after the decision has it.
    let made = snapshot(&primary);
    let again = Store::new();
    begin(&primary.url(), &again).with(0);
    assert_begun(&primary.url(), &again, made);
}

/// A decision that was taken back is met on the way, and the snapshot was made as it is in the end.
#[test]
fn a_quarantine_that_was_lifted_before_the_replica_began_does_not_stop_it() {
    let (primary, replica) = (source(50), Store::new());
    let at = snapshot(&primary);
    let ended = primary.json(["history", "tasks", "a0"]).pop().unwrap()["position"].as_u64().unwrap().to_string();
    primary.run(["quarantine", &ended, "--reason", "x"]).with(0);
    primary.run(["quarantine", &ended, "--lift", "--reason", "y"]).with(0);
    primary.apply(&tail()).with(0);
    begin(&primary.url(), &replica).with(0);
    assert_begun(&primary.url(), &replica, at);
}
