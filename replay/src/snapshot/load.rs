use std::sync::Arc;

use tasklog_log::{Blobs, Checkpoint, Position, StoreError};
use tasklog_projections::{Held, PROJECTED, RowChange, TableDef, View};

use super::{
    SnapshotInfo,
    file::File,
    format::{Body, Entry, decode_entry, row_of},
};

/// Rows written to a view at once.
const LOAD_ROWS: usize = 10_000;

/// A snapshot that fits a log: its digest was found right, and the log has its commit.
#[derive(Clone)]
pub struct Snapshot {
    pub(super) blobs: Arc<dyn Blobs>,
    pub(super) file: Arc<File>,
    pub(super) checkpoint: Checkpoint,
}

/// What a snapshot says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contents {
    /// The commit that it ends with, and the epoch in which it was made.
    pub checkpoint: Checkpoint,
    /// All of its digest, lowercase hex.
    pub digest: String,
    /// Quarantined events that it was made without.
    pub passed_over: Vec<Position>,
    /// Name, projection version, rows and tombstones of each table.
    pub tables: Vec<TableContents>,
}

/// What a snapshot has of one table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableContents {
    /// The table.
    pub name: String,
    /// The version of the projection that made its rows.
    pub projection_version: u32,
    /// Rows.
    pub rows: u64,
    /// Tombstones.
    pub tombstones: u64,
}

impl Contents {
    pub(super) fn of(file: &File) -> Self {
        let tables = file.directory.tables.iter().map(|table| TableContents {
            name: table.name.clone(),
            projection_version: table.projection_version,
            rows: table.rows,
            tombstones: table.tombstones,
        });
        Self {
            checkpoint: file.directory.checkpoint(),
            digest: hex::encode(file.digest),
            passed_over: file.directory.passed_over.clone(),
            tables: tables.collect(),
        }
    }

    /// Rows of all tables.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.tables.iter().map(|table| table.rows).sum()
    }

    /// Tombstones of all tables.
    #[must_use]
    pub fn tombstones(&self) -> u64 {
        self.tables.iter().map(|table| table.tombstones).sum()
    }
}

impl Snapshot {
    /// The commit that it ends with, in the log's present epoch.
    #[must_use]
    pub fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    /// Its name, digest and size.
    #[must_use]
    pub fn info(&self) -> &SnapshotInfo {
        &self.file.info
    }

    /// What it says of itself.
    #[must_use]
    pub fn contents(&self) -> Contents {
        Contents::of(&self.file)
    }

    /// A row, by reading the one block that may have it. It was alive at the snapshot's instant.
    ///
    /// # Errors
    /// `unavailable`; `corrupt` for a block that was damaged since it was first read.
    pub fn row(&self, table: &'static TableDef, key: &str) -> Result<Option<Held>, StoreError> {
        let found = self.look_up(table, key, |entry| match &entry.body {
            Body::Row(cells) => Ok(Some(Held { row: row_of(table, cells)?, rev: entry.rev })),
            Body::Tombstone(_) => Ok(None),
        })?;
        Ok(found.flatten())
    }

    /// The rev of a deleted row that it remembers.
    ///
    /// # Errors
    /// As [`Snapshot::row`].
    pub fn tombstone(&self, table: &'static TableDef, key: &str) -> Result<Option<Position>, StoreError> {
        let found = self.look_up(table, key, |entry| match &entry.body {
            Body::Row(_) => Ok(None),
            Body::Tombstone(_) => Ok(Some(entry.rev)),
        })?;
        Ok(found.flatten())
    }

    fn look_up<T>(
        &self,
        table: &'static TableDef,
        key: &str,
        meet: impl FnOnce(&Entry<'_>) -> Result<T, StoreError>,
    ) -> Result<Option<T>, StoreError> {
        match PROJECTED.iter().position(|known| known.name == table.name) {
            Some(at) => self.file.look_up(&*self.blobs, at, key, meet),
            None => Ok(None),
        }
    }

    /// Writes the rows and tombstones of `tables` to a view that is empty and at the start of the log, and moves its
    /// checkpoint to the snapshot's. What follows is folded by a [`crate::Folder`] that was told of it by
    /// [`crate::Folder::after_snapshot`]. After an error the view has a part of the rows and is to be thrown away.
    ///
    /// # Errors
    /// `diverged` for a view that is not at the start of the log; `unavailable`; `corrupt`; the view's.
    pub fn load(&self, tables: &[&'static TableDef], view: &mut dyn View) -> Result<Checkpoint, StoreError> {
        self.load_while(tables, view, &mut |_| Ok(()))
    }

    /// [`Snapshot::load`], asking `go_on` before each write, which hears how many rows and tombstones are in the view.
    ///
    /// # Errors
    /// As [`Snapshot::load`]; those of `go_on`.
    pub fn load_while(
        &self,
        tables: &[&'static TableDef],
        view: &mut dyn View,
        go_on: &mut dyn FnMut(u64) -> Result<(), StoreError>,
    ) -> Result<Checkpoint, StoreError> {
        let from = view.checkpoint()?;
        if from.position != Position::ZERO {
            let log = Checkpoint::start(self.checkpoint.log);
            return Err(StoreError::Diverged { checkpoint: Box::new(from), log: Box::new(log) });
        }
        let to = Checkpoint { log: from.log, ..self.checkpoint };
        let wanted = |at: usize| tables.iter().any(|table| table.name == PROJECTED[at].name);
        let mut changes = Vec::new();
        let mut written = 0;
        let mut blocks = self.file.entries(&*self.blobs, wanted);
        while let Some(block) = blocks.next_block() {
            let (table, block) = block?;
            let mut left = &block[..];
            while !left.is_empty() {
                let entry = decode_entry(&mut left).map_err(|why| self.file.damaged(&why))?;
                changes.push(self.change(PROJECTED[table], &entry)?);
            }
            if changes.len() >= LOAD_ROWS {
                go_on(written)?;
                view.apply(&changes, &from, &from)?;
                written += changes.len() as u64;
                changes.clear();
            }
        }
        go_on(written)?;
        view.apply(&changes, &from, &to)?;
        Ok(to)
    }

    fn change(&self, table: &'static TableDef, entry: &Entry<'_>) -> Result<RowChange, StoreError> {
        let (after, at) = match &entry.body {
            Body::Row(cells) => (Some(row_of(table, cells)?), self.checkpoint.recorded_at),
            Body::Tombstone(deleted_at) => (None, *deleted_at),
        };
        Ok(RowChange { table, key: entry.key.into(), before: None, buried: false, after, rev: entry.rev, at })
    }
}
