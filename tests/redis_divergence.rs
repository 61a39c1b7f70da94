//! Acknowledged commits that a server lost: everybody who had seen them says so, and nobody goes on before somebody has
//! accepted what is there now.
#![allow(clippy::unwrap_used, missing_docs)]
#![cfg(unix)]

mod support;

use std::{fs, time::Duration};

use support::{
    program::Running,
    registry::{diverged, dump, eventually, head, json, on, open, register},
};
use tasklog::{
    TaskStore,
    follow::{FollowOptions, FollowState},
    log::Position,
};
use tasklog_testing::{RedisServer, SwitchProxy};

/// A short patience for answers: nothing here is slow.
fn url(port: u16) -> String {
    format!("redis://127.0.0.1:{port}/0?timeout_ms=2000&connect_timeout_ms=2000")
}

/// Everybody who had seen what is lost.
struct Fleet {
    folder: tempfile::TempDir,
    url: String,
    /// It wrote the newest commit that is lost.
    busy: TaskStore,
    /// It had seen a lost commit, and does nothing for a while.
    idle: TaskStore,
    follower: Running,
}

const KEPT: u64 = 5;
const LOST: u64 = 4;

impl Fleet {
    /// Writes [`KEPT`] tasks, then what `cut` lets be lost.
    fn start(url: String, cut: impl FnOnce()) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (busy, idle) = (open(&url), open(&url));
        for at in 0..KEPT {
            register(&busy, format!("kept-{at}")).unwrap();
        }
        let into = format!("sqlite:{}", folder.path().join("replica.db").display());
        let mut follower = Running::start(&["follow", &url, "--into", &into, "--json"]);
        follower.until(r#""position":5"#);
        cut();
        register(&idle, "lost-idle").unwrap();
        for at in 1..LOST {
            register(&busy, format!("lost-{at}")).unwrap();
        }
        follower.until(r#""position":9"#);
        Self { folder, url, busy, idle, follower }
    }

    fn replica(&self) -> String {
        format!("sqlite:{}", self.folder.path().join("replica.db").display())
    }

    /// After the loss. `again`: commits that a process which is opened newly writes then.
    fn refuses_until_accepted(&mut self, again: u64) {
        let new = open(&self.url);
        for at in 0..again {
            register(&new, format!("new-{at}")).unwrap();
        }
        let now = head(&new);
        assert_eq!(now.position, Position(KEPT + again));
        // Whoever asks for the health of one that had seen more is told so before the first command is refused.
        assert_eq!(self.busy.health().unwrap_err().kind(), "diverged");
        assert_eq!(new.health().unwrap(), now.position);

        for (writer, known) in [(&self.busy, KEPT + LOST), (&self.idle, KEPT + 1)] {
            for _ in 0..3 {
                let (mine, theirs) = diverged(register(writer, "refused"));
                assert_eq!(mine.position, Position(known));
                assert_eq!(theirs.position, now.position.min(mine.position));
                assert_ne!(mine.commit, theirs.commit);
                assert_eq!(mine.log.epoch, 1);
            }
            // A command that would change nothing rests on what it knows, too.
            diverged(register(writer, "kept-0"));
            assert_eq!(writer.health().unwrap_err().kind(), "diverged");
        }
        let ended = self.follower.ended().with(3);
        assert!(ended.err.contains(r#""kind":"diverged""#), "{}", ended.err);
        assert!(ended.err.contains(&format!("position {}", KEPT + LOST)), "{}", ended.err);
        let lost = json(&self.replica(), &["log"]).pop().unwrap()["commit_id"].as_str().unwrap().to_owned();
        assert!(ended.err.contains(&lost), "{}", ended.err);
        let there = if again >= LOST { String::new() } else { now.commit.to_string() };
        assert!(ended.err.contains(&there), "{}", ended.err);
        // The replica keeps what is lost elsewhere, until somebody decides.
        assert_eq!(json(&self.replica(), &["list", "tasks"]).len() as u64, KEPT + LOST);
        on(&self.url, &["follow", &self.url, "--into", &self.replica(), "--once"])
            .with(3)
            .says(&["epoch --accept", "diverged"]);

        let accepted = json(&self.url, &["epoch", "--accept", "--reason", "the old primary is gone", "--actor", "ops"]);
        assert_eq!((&accepted[0]["epoch"], &accepted[0]["before"]), (&2.into(), &1.into()));
        let noted = &accepted[0]["accepted"][0];
        assert_eq!(noted["position"], now.position.0);
        assert_eq!(noted["commit_id"], now.commit.to_string());
        assert_eq!((&noted["actor"], &noted["reason"]), (&"ops".into(), &"the old primary is gone".into()));
        on(&self.url, &["epoch"]).with(0).prints(&["epoch        2", "accepted by ops at event", "is gone"]);

        // Everybody goes on; what was lost is forgotten, also by those who had it at hand.
        assert_eq!(self.busy.health().unwrap(), now.position);
        for (name, writer) in [("busy", &self.busy), ("idle", &self.idle), ("new", &new)] {
            register(writer, format!("after-{name}")).unwrap();
            let reply = register(writer, "lost-1").unwrap();
            assert!(reply > now.position, "lost-1 is a new task");
        }
        assert_eq!(json(&self.url, &["info"])[0]["epoch"], 2);
        on(&self.url, &["verify"]).with(0);
        let went = on(&self.url, &["follow", &self.url, "--into", &self.replica(), "--once"]).with(0);
        assert!(went.out.contains("went back from event 9 to event 5"), "{}", went.out);
        assert!(went.out.contains(&lost), "{}", went.out);
        assert_eq!(dump(&self.replica()), dump(&self.url));
        on(&self.replica(), &["verify"]).with(0);
        assert_eq!(json(&self.replica(), &["info"])[0]["epoch"], 2);
    }
}

fn promoted(again: u64) {
    let mut primary = RedisServer::start();
    let replica = RedisServer::replica_of(&primary);
    let proxy = SwitchProxy::start(primary.port());
    let mut fleet = Fleet::start(url(proxy.port()), || {
        let has = || replica.run::<Option<u64>>(&["HGET", "miroir:_head", "position"]) == Some(KEPT);
        eventually("the replica gets what is kept", has);
        // Cut off: it hears no more of the primary.
        replica.run::<()>(&["REPLICAOF", "NO", "ONE"]);
    });
    primary.kill();
    proxy.lead_to(replica.port());
    fleet.refuses_until_accepted(again);
}

#[test]
fn a_promoted_replica_that_is_behind_is_refused_by_all_who_had_seen_more() {
    promoted(0);
}

#[test]
fn a_promoted_replica_that_has_grown_over_the_lost_commits_is_refused_as_well() {
    promoted(LOST + 3);
}

#[test]
fn an_older_snapshot_that_was_restored_is_refused_until_it_is_accepted() {
    let mut server = RedisServer::start();
    let dump = server.folder().join("dump.rdb");
    let backup = server.folder().join("backup.rdb");
    let mut fleet = Fleet::start(url(server.port()), || {
        server.run::<()>(&["SAVE"]);
        fs::rename(&dump, &backup).unwrap();
    });
    server.kill();
    fs::rename(&backup, &dump).unwrap();
    server.restart();
    fleet.refuses_until_accepted(2);
}

#[test]
fn a_follower_that_waits_goes_back_by_itself_once_the_epoch_is_accepted() {
    let mut primary = RedisServer::start();
    let replica = RedisServer::replica_of(&primary);
    let proxy = SwitchProxy::start(primary.port());
    let url = url(proxy.port());
    let store = open(&url);
    (0..5).for_each(|at| assert!(register(&store, at).is_ok()));
    eventually("the replica has it", || replica.run::<Option<u64>>(&["HGET", "miroir:_head", "position"]) == Some(5));
    replica.run::<()>(&["REPLICAOF", "NO", "ONE"]);
    (5..8).for_each(|at| assert!(register(&store, at).is_ok()));
    let follower = store.follow(&"memory:".parse().unwrap(), FollowOptions::default()).unwrap();
    follower.wait_for(Position(8), Duration::from_secs(60)).unwrap();
    // Accepted before anybody is led there: the follower meets a higher epoch.
    primary.kill();
    on(&format!("redis://127.0.0.1:{}/0", replica.port()), &["epoch", "--accept"]).with(0);
    proxy.lead_to(replica.port());
    eventually("the follower goes back", || follower.went_back().len() == 1);
    let went = follower.went_back().remove(0);
    assert_eq!((went.from.position, went.to.position, went.commits), (Position(8), Position(5), 3));
    let position = register(&store, "after").unwrap();
    assert_eq!(position, Position(6));
    follower.wait_for(position, Duration::from_secs(60)).unwrap();
    assert_eq!(follower.status().state, FollowState::Following);
    assert_eq!(follower.store().counts().unwrap(), store.counts().unwrap());
}

#[test]
fn a_trimmed_log_is_followed_by_who_is_beyond_the_trim_and_refused_by_who_is_before_it() {
    let server = RedisServer::start();
    let url = url(server.port());
    let folder = tempfile::tempdir().unwrap();
    let into = |name: &str| format!("sqlite:{}", folder.path().join(name).display());
    let follow = |name: &str| on(&url, &["follow", &url, "--into", &into(name), "--once"]);
    let store = open(&url);
    (0..5).for_each(|at| assert!(register(&store, at).is_ok()));
    follow("early.db").with(0);
    (5..20).for_each(|at| assert!(register(&store, at).is_ok()));
    follow("late.db").with(0);
    server.run::<()>(&["XTRIM", "miroir:log", "MINID", "13-0"]);
    follow("early.db").with(3).says(&["following from event 6: the source begins at event 13", "trimmed"]);
    assert_eq!(json(&into("early.db"), &["info"])[0]["head"], 5);
    // Its writers go on; whoever was beyond the trim follows them.
    register(&store, "more").unwrap();
    follow("late.db").with(0);
    assert_eq!(json(&into("late.db"), &["info"])[0]["head"], 21);
    assert_eq!(json(&url, &["info"])[0]["first"], 13);
    // A log that lost its middle is not trimmed but broken.
    server.run::<()>(&["XDEL", "miroir:log", "17-0"]);
    on(&url, &["verify"]).with(1).prints(&["17"]);
}

#[test]
fn accepting_never_gives_birth_to_another_log() {
    let server = RedisServer::start();
    on(&url(server.port()), &["epoch", "--accept"]).with(3).says(&["no store at"]);
    assert_eq!(server.run::<u64>(&["DBSIZE"]), 0);
}

#[test]
fn epochs_of_a_file_are_accepted_in_it() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}", folder.path().join("a.db").display());
    let store = open(&url);
    register(&store, "a").unwrap();
    let accepted = store.accept_epoch(Some("ops"), Some("restored")).unwrap();
    assert_eq!((accepted.epoch, accepted.position), (2, Position(1)));
    // The process that has it open for writing goes on in the new epoch.
    register(&store, "b").unwrap();
    assert_eq!(store.epoch().unwrap().head.log.epoch, 2);
    assert_eq!(store.health().unwrap(), Position(2));
    drop(store);
    on(&url, &["epoch", "--accept"]).with(0).prints(&["epoch        3, before 2", "before that  epoch 2 since", "ops"]);
    on(&url, &["verify"]).with(0);
    let memory = open("memory:");
    assert_eq!(memory.accept_epoch(None, None).unwrap_err().kind(), "invalid");
}
