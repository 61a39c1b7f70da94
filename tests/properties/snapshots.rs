//! Snapshots of random histories.

use std::sync::Arc;

use tasklog::{
    TaskStore,
    log::{Log, MemoryBlobs, Position, READ_EVENTS_MAX, read_checked},
    projections::{PROJECTED, Tombstones, View, memory::MemoryView},
    replay::{
        FOLD_ROWS_MAX, Folder, catch_up_with, compare,
        snapshot::{MakeOptions, Snapshot, Snapshots},
    },
};

/// Snapshots in memory, made while a history goes on.
pub struct Chain(Snapshots);

impl Chain {
    pub fn new() -> Self {
        Self(Snapshots::new(Arc::new(MemoryBlobs::default())))
    }

    pub fn make(&self, store: &TaskStore) {
        store
            .read(|log, _| {
                if log.head()?.position > Position::ZERO {
                    self.0.make(log, &MakeOptions::default())?;
                }
                Ok(())
            })
            .unwrap();
    }

    /// Every snapshot and what comes after it gives the live rows; the last one has the bytes of one that is made from the
    /// first event on, in one pass or in many.
    pub fn check(&self, store: &TaskStore) {
        self.make(store);
        store
            .read(|log, live| {
                let list = self.0.list()?;
                for info in &list {
                    let snapshot = self.0.open(log, info)?.unwrap_or_else(|why| panic!("{}: {why}", info.name));
                    check_rows(&snapshot, log, live);
                }
                for pass_events in [1, 7, 1_000] {
                    let at_once = Self::new();
                    if !list.is_empty() {
                        let made = at_once.0.make(log, &MakeOptions { pass_events, ..MakeOptions::default() })?;
                        assert_eq!(made, list[0], "passes of {pass_events} events");
                    }
                }
                Ok(())
            })
            .unwrap();
    }
}

fn check_rows(snapshot: &Snapshot, log: &dyn Log, live: &dyn View) {
    let mut view = MemoryView::new(log.info().unwrap());
    let at = snapshot.load(&PROJECTED, &mut view).unwrap().position;
    for table in PROJECTED {
        let in_view = tasklog::replay::live_rows(table, &view, snapshot.checkpoint().recorded_at, |held| {
            let found = snapshot.row(table, &held.row.key())?.unwrap();
            assert_eq!((found.rev, found.row.differs(&*held.row)), (held.rev, 0));
            Ok(())
        });
        let counted = snapshot.contents().tables.iter().find(|contents| contents.name == table.name).unwrap().rows;
        assert_eq!(in_view.unwrap(), counted, "{}", table.name);
    }
    let head = log.head().unwrap();
    let mut folder = Folder::on(&PROJECTED, &view).unwrap().after_snapshot(at);
    let mut after = at;
    let pages = std::iter::from_fn(|| {
        let page = (after < head.position).then(|| read_checked(log, after, READ_EVENTS_MAX))?;
        after = page.as_ref().map_or(after, |page| page.last().unwrap().last());
        Some(page)
    });
    catch_up_with(&mut folder, FOLD_ROWS_MAX, pages, &mut view, |_| ()).unwrap();
    for table in PROJECTED {
        let mut differences = Vec::new();
        compare(table, live, &view, head.recorded_at, |difference| differences.push(difference.to_string())).unwrap();
        assert!(differences.is_empty(), "after the snapshot at {at}: {differences:#?}");
        if table.tombstones == Tombstones::Kept {
            for event in log.read(Position::ZERO, usize::MAX).unwrap().iter().flat_map(|commit| &commit.events) {
                if *event.table == *table.name {
                    let (ours, theirs) = (view.tombstone(table, &event.key), live.tombstone(table, &event.key));
                    assert_eq!(ours.unwrap(), theirs.unwrap(), "{}/{}", table.name, event.key);
                }
            }
        }
    }
}
