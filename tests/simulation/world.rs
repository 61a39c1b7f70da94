//! A store, its surroundings, and what its callers know of it.

use std::{
    collections::BTreeSet,
    fs, io,
    ops::Range,
    path::{Path, PathBuf},
    sync::Arc,
};

use tasklog::{
    Error, OpenOptions, StoreUrl, TaskStore,
    follow::Follower,
    log::{Clock, Commit, CommitId, ManualClock, Position},
};
use tasklog_testing::RedisServer;
use tempfile::TempDir;

use crate::{
    image::{Image, beside},
    step::Plan,
    store::config,
};

const START_MS: i64 = 1_700_000_000_000;
/// As many moments are remembered.
const MOMENTS_MAX: usize = 16;

/// What was found, or what is wrong.
pub type Checked<T = ()> = Result<T, String>;

pub fn ensure(holds: bool, otherwise: impl FnOnce() -> String) -> Checked {
    if holds { Ok(()) } else { Err(otherwise()) }
}

/// An error where there was to be none.
pub fn told(what: &str) -> impl Fn(Error) -> String {
    let what = what.to_owned();
    move |error| match error {
        Error::Store(error) => format!("{what}: {}", error.full()),
        Error::Rejected(rejection) => format!("{what}: {}: {rejection}", rejection.kind.as_str()),
    }
}

pub fn failed(what: &str) -> impl Fn(io::Error) -> String {
    let what = what.to_owned();
    move |error| format!("{what}: {error}")
}

/// Whether a follower has met a decision about an event that is older than its replica.
pub fn must_begin_again(error: &Error) -> bool {
    error.to_string().contains("begin the replica again")
}

/// Where a store is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Memory,
    Sqlite,
    Redis,
}

impl Kind {
    /// How long a history is.
    pub fn steps(self) -> Range<usize> {
        match self {
            Self::Memory | Self::Sqlite => 20..60,
            Self::Redis => 40..80,
        }
    }
}

/// A commit that a caller was told of.
pub struct Acknowledged {
    pub id: CommitId,
    /// Its last event's.
    pub position: Position,
}

pub struct World {
    pub names: Vec<&'static str>,
    pub clock: ManualClock,
    pub url: StoreUrl,
    /// What has really happened, of what is rare.
    pub did: BTreeSet<&'static str>,
    /// Of the ids that callers give.
    pub ids: u128,
    snapshot_every: u64,
    follower: Option<Follower>,
    follows_into_file: bool,
    /// As many files of replicas were given up.
    replicas: usize,
    store: Option<TaskStore>,
    server: Option<RedisServer>,
    folder: TempDir,
    files: usize,
    archive: Option<PathBuf>,
    acknowledged: Vec<Acknowledged>,
    known: Vec<Commit>,
    moments: Vec<(Position, String)>,
}

impl World {
    pub fn new(plan: &Plan) -> Checked<Self> {
        let folder = tempfile::tempdir().map_err(failed("a folder"))?;
        let server = (plan.kind == Kind::Redis).then(RedisServer::durable);
        let url = match &server {
            Some(server) => format!("{}?prefix=s", server.url()).parse().expect("a server has a URL"),
            None => StoreUrl::Memory,
        };
        let mut world = Self {
            names: plan.names.clone(),
            clock: ManualClock::at(START_MS),
            url,
            did: BTreeSet::new(),
            ids: 0,
            snapshot_every: plan.snapshot_every,
            follower: None,
            follows_into_file: false,
            replicas: 0,
            store: None,
            server,
            folder,
            files: 0,
            archive: None,
            acknowledged: Vec::new(),
            known: Vec::new(),
            moments: Vec::new(),
        };
        if plan.kind == Kind::Sqlite {
            world.url = StoreUrl::Sqlite(world.new_file());
        }
        world.open()?;
        Ok(world)
    }

    pub fn store(&self) -> &TaskStore {
        self.store.as_ref().expect("it is open between two steps")
    }

    /// The store's file, if it is one.
    pub fn file(&self) -> Option<PathBuf> {
        if let StoreUrl::Sqlite(path) = &self.url { Some(path.clone()) } else { None }
    }

    pub fn new_file(&mut self) -> PathBuf {
        self.files += 1;
        self.folder.path().join(format!("{}.db", self.files))
    }

    pub fn close(&mut self) {
        self.store = None;
    }

    pub fn open(&mut self) -> Checked {
        self.store = None;
        let clock: Arc<dyn Clock> = Arc::new(self.clock.clone());
        // In Redis only a recording's store leaves its clock to the process.
        let recording_from = matches!(self.url, StoreUrl::Redis(_)).then_some(0);
        let recording_clock = recording_from.map(|_| Arc::clone(&clock));
        let snapshot_every = self.snapshot_every;
        let options = OpenOptions {
            config: config(),
            clock,
            recording_from,
            recording_clock,
            snapshot_every,
            ..OpenOptions::default()
        };
        self.store = Some(TaskStore::open_with(&self.url, options).map_err(told("opening"))?);
        Ok(())
    }

    /// What a crash leaves of the store is a store in another file from now on. The follower has ended before.
    pub fn go_on_with(&mut self, image: &Image) -> Checked {
        let (old, new) = (self.file().expect("only a file has an image"), self.new_file());
        self.close();
        image.write(&new).map_err(failed("writing what the crash left"))?;
        let (from, to) = (beside(&old, ".snapshots"), beside(&new, ".snapshots"));
        if from.exists() {
            fs::rename(from, to).map_err(failed("moving the snapshots"))?;
        }
        self.url = StoreUrl::Sqlite(new);
        self.open()
    }

    /// The server ends without warning and is started again.
    pub fn restart_server(&mut self) -> Checked {
        self.close();
        if let Some(server) = &mut self.server {
            server.restart();
        }
        self.open()
    }

    /// Follows into a file, which goes on where it was, or into memory.
    pub fn follow(&mut self, into_file: bool, from_snapshot: bool) -> Checked {
        self.stop_following()?;
        let file = StoreUrl::Sqlite(self.folder.path().join(format!("replica{}.db", self.replicas)));
        let into = if into_file { file } else { StoreUrl::Memory };
        let options = tasklog::follow::FollowOptions { from_snapshot, ..Default::default() };
        self.follower = Some(self.store().follow(&into, options).map_err(told("following"))?);
        self.follows_into_file = into_file;
        Ok(())
    }

    /// In another file, with a snapshot.
    pub fn follow_anew(&mut self) -> Checked {
        // How it ended is known.
        self.follower = None;
        self.replicas += 1;
        self.follow(self.follows_into_file, true)
    }

    pub fn stop_following(&mut self) -> Checked {
        match self.follower.take().map(Follower::stop).transpose() {
            Err(error) if must_begin_again(&error) => {
                self.replicas += 1;
                Ok(())
            }
            stopped => stopped.map(drop).map_err(told("the follower had ended")),
        }
    }

    pub fn follower(&self) -> Option<&Follower> {
        self.follower.as_ref()
    }

    /// The place of the archive, once there is one.
    pub fn archive(&self) -> Option<&Path> {
        self.archive.as_deref()
    }

    pub fn archive_place(&mut self) -> String {
        let place = self.folder.path().join("archive");
        self.archive.get_or_insert(place).display().to_string()
    }

    pub fn acknowledge(&mut self, id: CommitId, position: Position) {
        self.acknowledged.push(Acknowledged { id, position });
    }

    pub fn acknowledged(&self) -> &[Acknowledged] {
        &self.acknowledged
    }

    /// The log as it was found last.
    pub fn known(&self) -> &[Commit] {
        &self.known
    }

    /// Moments that were the present when they were looked at, and their rows.
    pub fn moments(&self) -> &[(Position, String)] {
        &self.moments
    }

    pub fn remember(&mut self, log: Vec<Commit>, head: Position, rows: String) {
        self.known = log;
        if head > Position::ZERO {
            self.moments.retain(|(known, _)| *known != head);
            self.moments.push((head, rows));
        }
        if self.moments.len() > MOMENTS_MAX {
            self.moments.remove(0);
        }
    }

    /// What is quarantined now was never there, as replays see it.
    pub fn forget_moments(&mut self) {
        self.moments.clear();
    }
}
