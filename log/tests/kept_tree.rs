//! What every place of a kept tree promises, on every backend: each bullet of the contract of
//! [`tasklog_log::merkle::KeptTree`], and what catching up makes of it.
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use std::cell::Cell;

use common::{Harness, Memory, Redis, Sqlite, Writer, commit};
use tasklog_log::{
    Checkpoint, Commit, Log, Position, StoreError, leaf,
    merkle::{Frontier, Hash, Kept, KeptTree, MemoryTree, RedisTree, SqliteTree, Tree, catch_up, leaf_hash},
    redis::Keys,
};

/// A backend's kept tree, and a way to lose hashes without the program.
trait Keeping: Harness {
    type Store: 'static;
    fn store(&self) -> Self::Store;
    fn kept<T>(&self, store: &Self::Store, work: impl FnOnce(&dyn KeptTree) -> T) -> T;
    fn lose_hashes(&self, store: &Self::Store);
}

impl Keeping for Memory {
    type Store = MemoryTree;
    fn store(&self) -> MemoryTree {
        MemoryTree::default()
    }
    fn kept<T>(&self, store: &MemoryTree, work: impl FnOnce(&dyn KeptTree) -> T) -> T {
        work(store)
    }
    fn lose_hashes(&self, _: &MemoryTree) {}
}

impl Keeping for Sqlite {
    type Store = ();
    fn store(&self) {}
    fn kept<T>(&self, (): &(), work: impl FnOnce(&dyn KeptTree) -> T) -> T {
        work(&SqliteTree::new(&self.conn))
    }
    fn lose_hashes(&self, (): &()) {
        self.conn.execute_batch("DELETE FROM _tree").unwrap();
    }
}

impl Keeping for Redis {
    type Store = ();
    fn store(&self) {}
    fn kept<T>(&self, (): &(), work: impl FnOnce(&dyn KeptTree) -> T) -> T {
        work(&RedisTree::new(std::sync::Arc::clone(self.log.link()), Keys::new(&self.prefix)))
    }
    fn lose_hashes(&self, (): &()) {
        self.server.run::<()>(&["DEL", &format!("{}:_tree", self.prefix)]);
    }
}

struct Site<H: Keeping> {
    writer: Writer<H>,
    store: H::Store,
}

impl<H: Keeping> Site<H> {
    fn new() -> Self {
        let writer = Writer::open();
        Self { store: H::store(&writer.harness), writer }
    }

    /// Appends commits of `size` events.
    fn append(&mut self, commits: usize, size: usize) {
        for _ in 0..commits {
            let head = self.writer.head();
            let keys: Vec<_> = (0..size as u64).map(|at| format!("k{}", head + at)).collect();
            let writes: Vec<_> = keys.iter().map(|key| (&**key, 0)).collect();
            self.writer.append(&[commit(&writes)]);
        }
    }

    fn kept<T>(&self, work: impl FnOnce(&dyn KeptTree) -> T) -> T {
        self.writer.harness.kept(&self.store, work)
    }

    fn load(&self) -> Kept {
        self.kept(|kept| Kept::load(kept).unwrap())
    }

    fn catch_up(&mut self, events_max: u64) -> tasklog_log::merkle::CaughtUp {
        let log = owned_log(&mut self.writer);
        self.kept(|kept| catch_up(&log, kept, events_max, &|| false).unwrap())
    }

    fn everything(&mut self) -> (tasklog_log::LogInfo, Vec<Commit>) {
        let info = self.writer.log().info().unwrap();
        (info, self.writer.all())
    }

    /// The hashes of the chunks, by the leaves one after another.
    fn expected(&mut self) -> Vec<Hash> {
        chunk_hashes(&self.writer.all())
    }
}

fn chunk_hashes(commits: &[Commit]) -> Vec<Hash> {
    let leaves: Vec<_> = commits
        .iter()
        .flat_map(|commit| commit.events.iter().map(|event| leaf_hash(&leaf(&commit.meta, commit.recorded_at, event))))
        .collect();
    leaves.chunks_exact(256).map(|chunk| chunk.iter().copied().collect::<Frontier>().root()).collect()
}

/// What the log of a writer holds, as a log of its own: so that it can be read while its place is borrowed.
fn owned_log<H: Harness>(writer: &mut Writer<H>) -> tasklog_log::memory::MemoryLog {
    let commits = writer.all();
    copy_of(writer.log().info().unwrap(), &commits)
}

fn copy_of(info: tasklog_log::LogInfo, commits: &[Commit]) -> tasklog_log::memory::MemoryLog {
    let mut log = tasklog_log::memory::MemoryLog::new(std::sync::Arc::new(tasklog_log::SystemClock));
    log.adopt_identity(info).unwrap();
    log.adopt(commits).unwrap();
    log
}

mod cases {
    use super::*;

    pub fn nothing_is_kept_at_first<H: Keeping>() {
        let mut site = Site::<H>::new();
        assert_eq!((site.load().at, site.load().chunks.len()), (None, 0));
        // A part chunk is not worth a write.
        site.append(1, 255);
        let caught = site.catch_up(u64::MAX);
        assert_eq!((caught.at, caught.chunks, caught.done), (None, 0, true));
    }

    pub fn complete_chunks_are_kept_with_the_end_of_a_commit<H: Keeping>() {
        let mut site = Site::<H>::new();
        site.append(30, 30);
        let caught = site.catch_up(u64::MAX);
        assert_eq!((caught.chunks, caught.done, caught.overtaken), (3, true, false));
        let kept = site.load();
        // 900 events; 768 complete the third chunk, within the commit that ends at 780. Pages may bring more.
        let at = kept.at.unwrap();
        assert!(at.position.0 >= 780 && at.position.0.is_multiple_of(30), "{at}");
        assert_eq!(at.commit, site.writer.log().event(at.position).unwrap().unwrap().0.meta.id);
        assert_eq!(kept.chunks, site.expected());
        // Nothing is added twice.
        assert_eq!(site.catch_up(u64::MAX).chunks, 0);
        site.append(10, 30);
        assert_eq!(site.catch_up(u64::MAX).chunks, 1);
        assert_eq!(site.load().chunks, site.expected());
        assert_eq!(site.kept(|kept| kept.hashes(1, 2).unwrap()), site.expected()[1..3]);
        assert_eq!(site.kept(|kept| kept.hashes(3, 9).unwrap()), site.expected()[3..]);
        assert_eq!(site.kept(|kept| kept.hashes(9, 9).unwrap()), []);
        assert_eq!(site.kept(|kept| kept.hashes(0, 0).unwrap()), []);
    }

    pub fn what_is_kept_survives_reopening<H: Keeping>() {
        let mut site = Site::<H>::new();
        site.append(3, 200);
        site.catch_up(u64::MAX);
        let kept = site.load();
        let Site { writer, store } = site;
        let site = Site { writer: writer.reopened(), store };
        assert_eq!((site.load().at, site.load().chunks), (kept.at, kept.chunks));
    }

    pub fn a_round_is_bounded_and_the_next_one_goes_on<H: Keeping>() {
        let mut site = Site::<H>::new();
        site.append(5, 1_000);
        let first = site.catch_up(1);
        assert_eq!((first.done, first.chunks), (false, 15));
        assert_eq!(first.at.unwrap().position, Position(4_000));
        let second = site.catch_up(1);
        assert_eq!((second.done, second.chunks), (true, 4));
        assert_eq!(site.load().chunks, site.expected());
        // Told to stop before the first page, a round does nothing.
        site.append(1, 500);
        let log = owned_log(&mut site.writer);
        let stopped = site.kept(|kept| catch_up(&log, kept, u64::MAX, &|| true).unwrap());
        assert_eq!((stopped.done, stopped.chunks), (false, 0));
        // Told to stop after it, it keeps what it has.
        let asked = Cell::new(0);
        let once = || asked.replace(asked.get() + 1) > 0;
        assert_eq!(site.kept(|kept| catch_up(&log, kept, u64::MAX, &once).unwrap()).chunks, 2);
    }

    pub fn an_advance_from_another_checkpoint_changes_nothing<H: Keeping>() {
        let mut site = Site::<H>::new();
        site.append(1, 300);
        site.catch_up(u64::MAX);
        let kept = site.load();
        let at = kept.at.unwrap();
        let to = Checkpoint { position: Position(512), ..at };
        let new = [leaf_hash(b"new")];
        for stale in
            [None, Some(Checkpoint { position: Position(299), ..at }), Some(Checkpoint { recorded_at: 1, ..at })]
        {
            assert!(!site.kept(|kept| kept.advance(stale.as_ref(), 1, &new, &to).unwrap()));
        }
        assert_eq!((site.load().at, site.load().chunks), (kept.at, kept.chunks.clone()));
        assert!(site.kept(|kept| kept.advance(Some(&at), 1, &new, &to).unwrap()));
        assert_eq!(site.load().chunks, [&kept.chunks[..], &new].concat());
        // Cutting back is one step, too.
        assert!(
            site.kept(|kept| kept.advance(Some(&to), 0, &new, &Checkpoint { position: Position(256), ..at }).unwrap())
        );
        assert_eq!(site.load().chunks, new);
        let start = Checkpoint::start(at.log);
        let now = site.load().at;
        assert!(site.kept(|kept| kept.advance(now.as_ref(), 0, &[], &start).unwrap()));
        assert_eq!((site.load().at, site.load().chunks.len()), (Some(start), 0));
    }

    pub fn a_log_that_lost_its_end_takes_the_tree_back<H: Keeping>() {
        let mut site = Site::<H>::new();
        site.append(60, 20);
        site.catch_up(u64::MAX);
        let (info, mut commits) = site.everything();
        // The log of 700 events, and then others than those that were lost.
        commits.truncate(35);
        let shorter = copy_of(info, &commits);
        let caught = site.kept(|kept| catch_up(&shorter, kept, u64::MAX, &|| false).unwrap());
        // 512 events stand in both; the last commit that ends there ends at 500, and the second chunk is read again.
        assert_eq!((caught.done, caught.chunks), (true, 1));
        assert_eq!(site.load().chunks, chunk_hashes(&commits));
        assert_eq!(site.load().at.unwrap().position, Position(700));
        assert_eq!(Tree::open(&shorter, site.load()).unwrap().root(700).unwrap(), {
            Tree::open(&shorter, Kept::default()).unwrap().root(700).unwrap()
        });
    }

    pub fn a_log_that_parted_is_followed_from_where_both_agree<H: Keeping>() {
        let mut site = Site::<H>::new();
        site.append(30, 32);
        site.catch_up(u64::MAX);
        let kept = site.load();
        let (info, mut commits) = site.everything();
        let parted = site.writer.all().split_off(20);
        for mut commit in parted {
            commit.recorded_at += 1;
            for event in &mut commit.events {
                event.checksum = tasklog_log::checksum(&commit.meta, commit.recorded_at, event);
            }
            commits.truncate(commits.iter().take_while(|one| one.last() < commit.first()).count());
            commits.push(commit);
        }
        let last = commits.last_mut().unwrap();
        last.meta.id = tasklog_log::CommitId::mint();
        for event in &mut last.events {
            event.checksum = tasklog_log::checksum(&last.meta, last.recorded_at, event);
        }
        let parted = copy_of(info, &commits);
        // Whoever only reads does the same in memory.
        let root = Tree::open(&parted, Kept::default()).unwrap().root(960).unwrap();
        let tree = Tree::open(&parted, kept).unwrap();
        assert_eq!((tree.root(960).unwrap(), tree.chunks().1), (root, 2));
        site.kept(|kept| catch_up(&parted, kept, u64::MAX, &|| false).unwrap());
        assert_eq!(site.load().chunks, chunk_hashes(&commits));
    }

    pub fn another_log_begins_anew<H: Keeping>() {
        let mut site = Site::<H>::new();
        site.append(3, 256);
        site.catch_up(u64::MAX);
        let mut other = Site::<Memory>::new();
        other.append(2, 256);
        let log = owned_log(&mut other.writer);
        site.kept(|kept| catch_up(&log, kept, u64::MAX, &|| false).unwrap());
        assert_eq!(site.load().chunks, other.expected());
        assert_eq!(site.load().at.unwrap().log, log.info().unwrap());
    }

    pub fn an_epoch_that_was_accepted_changes_nothing<H: Keeping>() {
        let mut site = Site::<H>::new();
        site.append(3, 256);
        site.catch_up(u64::MAX);
        let (info, commits) = site.everything();
        let mut later = copy_of(info, &commits);
        later.set_epoch(9);
        let caught = site.kept(|kept| catch_up(&later, kept, u64::MAX, &|| false).unwrap());
        assert_eq!((caught.chunks, caught.at), (0, site.load().at));
        assert_eq!(site.load().chunks.len(), 3);
    }

    pub fn a_place_that_lost_hashes_has_kept_nothing<H: Keeping>() {
        let mut site = Site::<H>::new();
        site.append(3, 256);
        site.catch_up(u64::MAX);
        site.writer.harness.lose_hashes(&site.store);
        assert_eq!(Tree::open(&owned_log(&mut site.writer), site.load()).unwrap().chunks().0, site.expected());
        site.catch_up(u64::MAX);
        assert_eq!(site.load().chunks, site.expected());
    }

    pub fn a_wrong_event_stops_a_round_and_is_named<H: Keeping>() {
        let mut site = Site::<H>::new();
        site.append(10, 100);
        let log = Tampered(owned_log(&mut site.writer));
        let error = site.kept(|kept| catch_up(&log, kept, u64::MAX, &|| false)).unwrap_err();
        assert!(matches!(&error, StoreError::Corrupt { position: Some(Position(345)), .. }), "{error}");
        assert_eq!(site.load().at, None);
    }
}

/// A log whose event 345 was changed.
struct Tampered(tasklog_log::memory::MemoryLog);

impl Log for Tampered {
    fn info(&self) -> Result<tasklog_log::LogInfo, StoreError> {
        self.0.info()
    }
    fn now(&self) -> Result<tasklog_log::Millis, StoreError> {
        self.0.now()
    }
    fn append(
        &mut self,
        now: tasklog_log::Millis,
        batch: &[tasklog_log::NewCommit],
        revs: &mut dyn tasklog_log::Revs,
    ) -> Result<Vec<tasklog_log::Outcome>, StoreError> {
        self.0.append(now, batch, revs)
    }
    fn adopt(&mut self, commits: &[Commit]) -> Result<(), StoreError> {
        self.0.adopt(commits)
    }
    fn adopt_identity(&mut self, log: tasklog_log::LogInfo) -> Result<(), StoreError> {
        self.0.adopt_identity(log)
    }
    fn read(&self, after: Position, limit: usize) -> Result<Vec<Commit>, StoreError> {
        let mut commits = self.0.read(after, limit)?;
        for event in commits.iter_mut().flat_map(|commit| &mut commit.events) {
            if event.position == Position(345) {
                event.payload = b"\x90".to_vec();
            }
        }
        Ok(commits)
    }
    fn head(&self) -> Result<Checkpoint, StoreError> {
        self.0.head()
    }
    fn first(&self) -> Result<Position, StoreError> {
        self.0.first()
    }
    fn find(&self, id: tasklog_log::CommitId) -> Result<Option<tasklog_log::Stored>, StoreError> {
        self.0.find(id)
    }
    fn wait(&self, after: Position, timeout: std::time::Duration) -> Result<Position, StoreError> {
        self.0.wait(after, timeout)
    }
}

/// The cases as tests of one backend each.
macro_rules! backends {
    ($($backend:ident => $harness:ty;)*) => {
        $(mod $backend {
            each_case! { $harness }
        })*
    };
}

macro_rules! each_case {
    ($harness:ty) => {
        each_case! {
            $harness:
            nothing_is_kept_at_first
            complete_chunks_are_kept_with_the_end_of_a_commit
            what_is_kept_survives_reopening
            a_round_is_bounded_and_the_next_one_goes_on
            an_advance_from_another_checkpoint_changes_nothing
            a_log_that_lost_its_end_takes_the_tree_back
            a_log_that_parted_is_followed_from_where_both_agree
            another_log_begins_anew
            an_epoch_that_was_accepted_changes_nothing
            a_place_that_lost_hashes_has_kept_nothing
            a_wrong_event_stops_a_round_and_is_named
        }
    };
    ($harness:ty: $($case:ident)*) => {
        $(#[test]
        fn $case() {
            crate::cases::$case::<$harness>();
        })*
    };
}

backends! {
    memory => crate::common::Memory;
    sqlite => crate::common::Sqlite;
    redis => crate::common::Redis;
}
