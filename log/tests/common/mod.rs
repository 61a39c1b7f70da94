//! What the tests of the log share: short ways to write commits, and backends to append them to.
#![allow(dead_code, clippy::unwrap_used, missing_docs)]

use std::{path::PathBuf, sync::Arc};

use rusqlite::Connection;
use tasklog_log::{
    Appended, Chain, Commit, CommitId, CommitMeta, Condition, Entity, Log, ManualClock, NewCommit, NewEvent, Outcome,
    Position, Revs, StoreError,
    memory::{MemoryLog, MemoryRevs},
    read_checked,
    redis::{Connector, Link, RedisLog, Time},
    sqlite::{
        SqliteLog,
        connection::{self, Access},
    },
};
use tasklog_testing::RedisServer;
use tempfile::TempDir;
use uuid::Uuid;

pub const TABLE: &str = "things";
/// The payload of every event that a test says nothing else about: an empty MessagePack map.
pub const PAYLOAD: &[u8] = b"\x80";

pub fn entity(key: &str) -> Entity {
    Entity::new(TABLE, key)
}

pub fn condition(key: &str, rev: u64) -> Condition {
    Condition { entity: entity(key), rev: Position(rev) }
}

pub fn event(key: &str) -> NewEvent {
    NewEvent {
        entity: entity(key),
        event_type: "thing_changed".into(),
        type_version: 1,
        chain: Chain::Continue,
        payload: PAYLOAD.to_vec(),
    }
}

pub fn meta() -> CommitMeta {
    CommitMeta { id: CommitId::mint(), actor: "tester".into(), reason: None, request_id: None }
}

/// A commit of one event for each `(key, rev seen)`.
pub fn commit(writes: &[(&str, u64)]) -> NewCommit {
    NewCommit {
        meta: meta(),
        decided_at: None,
        conditions: writes.iter().map(|(key, rev)| condition(key, *rev)).collect(),
        events: writes.iter().map(|(key, _)| event(key)).collect(),
        answer: None,
    }
}

/// The same commit under an id that its caller will come back with.
pub fn answered(id: u128, answer: &[u8], mut commit: NewCommit) -> NewCommit {
    commit.meta.id = CommitId(Uuid::from_u128(id));
    commit.answer = Some(answer.to_vec());
    commit
}

pub fn appended(outcome: &Outcome) -> Appended {
    *outcome.as_ref().expect("the commit was refused")
}

/// `(first, last)` of each outcome; none where it was refused.
pub fn places(outcomes: &[Outcome]) -> Vec<Option<(u64, u64)>> {
    outcomes.iter().map(|outcome| outcome.as_ref().ok().map(|at| (at.first.0, at.last.0))).collect()
}

/// The positions of each commit.
pub fn positions(commits: &[Commit]) -> Vec<Vec<u64>> {
    commits.iter().map(|commit| commit.events.iter().map(|event| event.position.0).collect()).collect()
}

/// One backend, as the conformance suite needs it.
pub trait Harness: Sized + Send + 'static {
    /// A log nobody has written to, whose clock is `clock` where the backend keeps its own time.
    fn open(clock: ManualClock) -> Self;
    /// A second handle on the same log, as another process would hold it.
    fn second(&self) -> Self;
    /// The same log after everything that held it was closed.
    fn reopened(self) -> Self;
    /// The log through this handle.
    fn log(&mut self) -> Box<dyn Log + '_>;
}

/// A handle with the revs that a log that stands alone has to be given.
pub struct Writer<H> {
    pub harness: H,
    pub clock: ManualClock,
    revs: MemoryRevs,
    noted: Position,
}

impl<H: Harness> Writer<H> {
    pub fn open() -> Self {
        let clock = ManualClock::at(1_000);
        Self { harness: H::open(clock.clone()), clock, revs: MemoryRevs::default(), noted: Position::ZERO }
    }

    pub fn second(&self) -> Self {
        Self { harness: self.harness.second(), clock: self.clock.clone(), revs: self.revs.clone(), noted: self.noted }
    }

    pub fn reopened(self) -> Self {
        Self { harness: self.harness.reopened(), clock: self.clock, revs: self.revs, noted: self.noted }
    }

    pub fn log(&mut self) -> Box<dyn Log + '_> {
        self.harness.log()
    }

    pub fn try_append(&mut self, batch: &[NewCommit]) -> Result<Vec<Outcome>, StoreError> {
        let mut log = self.harness.log();
        let new = log.read(self.noted, usize::MAX)?;
        self.noted = new.last().map_or(self.noted, Commit::last);
        self.revs.note(&new);
        let now = log.now()?;
        log.append(now, batch, &mut self.revs)
    }

    pub fn append(&mut self, batch: &[NewCommit]) -> Vec<Outcome> {
        self.try_append(batch).unwrap()
    }

    pub fn append_with(&mut self, batch: &[NewCommit], revs: &mut dyn Revs) -> Result<Vec<Outcome>, StoreError> {
        let mut log = self.harness.log();
        let now = log.now()?;
        log.append(now, batch, revs)
    }

    /// Everything, checked.
    pub fn all(&mut self) -> Vec<Commit> {
        read_checked(&*self.harness.log(), Position::ZERO, usize::MAX).unwrap()
    }

    pub fn head(&mut self) -> u64 {
        self.log().head().unwrap().position.0
    }
}

/// [`MemoryLog`]
pub struct Memory(MemoryLog);

impl Harness for Memory {
    fn open(clock: ManualClock) -> Self {
        Self(MemoryLog::new(Arc::new(clock)))
    }
    fn second(&self) -> Self {
        Self(self.0.clone())
    }
    fn reopened(self) -> Self {
        self.second()
    }
    fn log(&mut self) -> Box<dyn Log + '_> {
        Box::new(self.0.clone())
    }
}

/// [`SqliteLog`] in a file of its own.
pub struct Sqlite {
    pub conn: Connection,
    pub path: PathBuf,
    clock: ManualClock,
    folder: Arc<TempDir>,
}

impl Sqlite {
    fn on(folder: Arc<TempDir>, clock: ManualClock) -> Self {
        let path = folder.path().join("log.db");
        let conn = connection::open(&path, Access::Write).unwrap();
        SqliteLog::create(&conn).unwrap();
        Self { conn, path, clock, folder }
    }
}

impl Harness for Sqlite {
    fn open(clock: ManualClock) -> Self {
        Self::on(Arc::new(tempfile::tempdir().unwrap()), clock)
    }
    fn second(&self) -> Self {
        Self::on(Arc::clone(&self.folder), self.clock.clone())
    }
    fn reopened(self) -> Self {
        let Self { conn, clock, folder, .. } = self;
        conn.close().map_err(|(_, error)| error).unwrap();
        Self::on(folder, clock)
    }
    fn log(&mut self) -> Box<dyn Log + '_> {
        Box::new(SqliteLog::new(&self.conn, Arc::new(self.clock.clone())))
    }
}

/// [`RedisLog`] under a prefix of its own, on a server that all tests of this process share.
pub struct Redis {
    pub log: RedisLog,
    pub server: Arc<RedisServer>,
    pub prefix: String,
    clock: ManualClock,
}

impl Redis {
    fn on(server: Arc<RedisServer>, prefix: String, clock: ManualClock) -> Self {
        let url = format!("{}?prefix={prefix}", server.url()).parse().unwrap();
        let link = Arc::new(Link::new(Connector::new(url)));
        let log = RedisLog::open(link, Time::Given(Arc::new(clock.clone()))).unwrap();
        Self { log, server, prefix, clock }
    }
}

impl Harness for Redis {
    fn open(clock: ManualClock) -> Self {
        Self::on(RedisServer::shared(), Uuid::now_v7().to_string(), clock)
    }
    fn second(&self) -> Self {
        Self::on(Arc::clone(&self.server), self.prefix.clone(), self.clock.clone())
    }
    fn reopened(self) -> Self {
        let Self { log, server, prefix, clock } = self;
        drop(log);
        Self::on(server, prefix, clock)
    }
    fn log(&mut self) -> Box<dyn Log + '_> {
        Box::new(self.log.clone())
    }
}
