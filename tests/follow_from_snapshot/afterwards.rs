//! What a replica that has begun is good for: it verifies, comes back from its own snapshot, and shows its past.

use std::fs;

use crate::world::*;

#[test]
fn verify_notices_a_changed_row_a_changed_event_and_a_snapshot_that_is_gone() {
    let (_primary, replica, _) = begun();
    replica.by_hand("UPDATE tasks SET error = 'by hand' WHERE miroir_id IN ('a5', 'b1')");
    replica.run(["verify"]).with(1).prints(&["tasks/a5", "tasks/b1", "2 findings"]);
    replica
        .run(["rebuild"])
        .with(0)
        .prints(&["rebuilt from the snapshot at event ", "2 rows were not what the log says"]);
    replica.run(["verify"]).with(0);
    let last = replica.json(["info"])[0]["head"].as_u64().unwrap();
    replica.by_hand(&format!("UPDATE events SET payload = x'80' WHERE position = {last}"));
    replica.run(["verify"]).with(1).prints(&[&format!("event {last}: ")]);
    fs::remove_dir_all(replica.beside(".snapshots")).unwrap();
    let told = replica.run(["verify"]).with(3);
    told.says(&["this replica began with the snapshot of event 104, which cannot be used", "begin the replica again"]);
}

#[test]
fn tables_that_were_lost_come_back_from_its_own_snapshot_and_the_tail() {
    let (primary, replica, at) = begun();
    replica.by_hand("DROP TABLE tasks; DROP TABLE aliases; DELETE FROM _tombstones;");
    primary.apply(&[cancel("a3")]).with(0);
    begin(&primary.url(), &replica).with(0);
    assert_begun(&primary.url(), &replica, at);
    replica.by_hand("DROP TABLE tasks;");
    fs::remove_dir_all(replica.beside(".snapshots")).unwrap();
    begin(&primary.url(), &replica).with(3).says(&["began with the snapshot of event 104, which cannot be used"]);
}

#[test]
fn moments_since_the_beginning_are_seen_and_those_before_it_are_refused_with_what_to_do() {
    let (primary, replica, at) = begun();
    let head = replica.json(["info"])[0]["head"].as_u64().unwrap();
    for position in at + 1..=head {
        let moment = position.to_string();
        for key in ["a1", "a7", "b0", "b4"] {
            let get = ["get", "tasks", key, "--at", &moment, "--json"];
            let (mine, theirs) = (replica.run(get), primary.run(get));
            assert_eq!((mine.status, mine.out), (theirs.status, theirs.out), "{key} at {position}");
        }
        let list = ["list", "tasks", "--limit", "1000", "--json", "--at", &moment];
        assert_eq!(replica.run(list).with(0).out, primary.run(list).with(0).out, "at {position}");
    }
    let (before, first) = (at.to_string(), format!("begins at event {}", at + 1));
    replica.run(["get", "tasks", "a1", "--at", &before]).with(3).says(&[&first, "the source of a replica"]);
    replica.run(["list", "tasks", "--at", "2020-01-01T00:00:00Z"]).with(1).says(&[&first, "the source of a replica"]);
    replica.run(["history", "tasks", "b0"]).with(0).prints(&["task_registered"]);
    replica.run(["history", "tasks", "a1"]).with(3).says(&[&first, "the source of a replica"]);
    replica.run(["checkpoint"]).with(3).says(&["needs the whole log", "ask its source"]);
    replica.run(["fork", "--into", "sqlite:fork.db"]).with(3).says(&["needs the whole log"]);
    assert_eq!(replica.json(["log"]).len() as u64, head - at);
}
