//! A log in Redis that takes over the commits of another log.
#![allow(clippy::unwrap_used)]

mod common;

use std::sync::Arc;

use common::commit;
use tasklog_log::{
    Commit, Log, LogInfo, ManualClock, Position, StoreErrorKind,
    memory::{MemoryLog, MemoryRevs},
    read_checked,
    redis::{Connector, ENTRIES_PER_CALL_MAX, Link, RedisLog, Time},
};
use tasklog_testing::RedisServer;

fn open(server: &RedisServer) -> RedisLog {
    RedisLog::open(Arc::new(Link::new(Connector::new(server.url().parse().unwrap()))), Time::Server).unwrap()
}

/// Commits as another log has made them.
fn foreign(count: usize) -> (LogInfo, Vec<Commit>) {
    let clock = ManualClock::at(5_000);
    let mut log = MemoryLog::new(Arc::new(clock));
    let mut batch: Vec<_> = (0..count).map(|n| commit(&[(n.to_string().as_str(), 0), ("x", 0)])).collect();
    for (n, commit) in batch.iter_mut().enumerate() {
        commit.conditions[1].rev = Position(2 * n as u64);
    }
    assert!(log.append(5_000, &batch, &mut MemoryRevs::default()).unwrap().iter().all(Result::is_ok));
    (log.info().unwrap(), log.read(Position::ZERO, usize::MAX).unwrap())
}

#[test]
fn adopted_commits_are_those_of_the_other_log() {
    let (info, commits) = foreign(ENTRIES_PER_CALL_MAX + 3);
    let server = RedisServer::start();
    let mut log = open(&server);
    log.adopt_identity(info).unwrap();
    log.adopt(&commits[..2]).unwrap();
    log.adopt(&[]).unwrap();
    log.adopt(&commits[2..]).unwrap();
    assert_eq!(read_checked(&log, Position::ZERO, usize::MAX).unwrap(), commits);
    assert_eq!(log.info().unwrap(), info);
    assert_eq!(log.head().unwrap().commit, commits.last().unwrap().meta.id);
    assert_eq!(log.adopt_identity(info).unwrap_err().kind(), StoreErrorKind::Corrupt);
}

#[test]
fn commits_that_do_not_follow_the_head_are_not_adopted() {
    let (_, commits) = foreign(3);
    let server = RedisServer::start();
    let mut log = open(&server);
    let mut forged = commits.clone();
    forged[1].events[0].payload.push(0);
    let mut earlier = commits.clone();
    earlier[2].recorded_at -= 1;
    for wrong in [&commits[1..], &forged, &earlier, &[commits[0].clone(), commits[2].clone()]] {
        assert_eq!(log.adopt(wrong).unwrap_err().kind(), StoreErrorKind::Corrupt);
        assert_eq!(log.head().unwrap().position, Position::ZERO);
    }
}
