use rusqlite::{Connection, params};

use super::{Hash, KeptTree, kept::chunks_through};
use crate::{
    Checkpoint, StoreError,
    sqlite::{Head, connection, read_head, write_head},
};

/// A tree that is kept in the log's file: table `_tree`, one row per chunk, and the row `tree` of `_heads`.
pub struct SqliteTree<'c> {
    conn: &'c Connection,
}

impl<'c> SqliteTree<'c> {
    /// The tree in the file of `conn`, which may be open for reading only. Its table is made when something is kept.
    #[must_use]
    pub const fn new(conn: &'c Connection) -> Self {
        Self { conn }
    }

    fn exists(&self) -> Result<bool, StoreError> {
        let mut select = self
            .conn
            .prepare_cached("SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = '_tree')")?;
        Ok(select.query_row([], |row| row.get(0))?)
    }

    fn advance_joined(
        &self,
        from: Option<&Checkpoint>,
        keep: u64,
        new: &[Hash],
        to: &Checkpoint,
    ) -> Result<bool, StoreError> {
        if self.at()?.as_ref() != from {
            return Ok(false);
        }
        self.conn.execute_batch(
            "CREATE TABLE IF NOT EXISTS _tree (chunk INTEGER PRIMARY KEY, hash BLOB NOT NULL) STRICT;",
        )?;
        self.conn.prepare_cached("DELETE FROM _tree WHERE chunk >= ?1")?.execute([keep.cast_signed()])?;
        let mut insert = self.conn.prepare_cached("INSERT INTO _tree (chunk, hash) VALUES (?1, ?2)")?;
        for (chunk, hash) in (keep..).zip(new) {
            insert.execute(params![chunk.cast_signed(), hash.0])?;
        }
        write_head(self.conn, Head::Tree, to)?;
        Ok(true)
    }
}

impl KeptTree for SqliteTree<'_> {
    fn at(&self) -> Result<Option<Checkpoint>, StoreError> {
        let Some(at) = read_head(self.conn, Head::Tree)? else { return Ok(None) };
        if !self.exists()? {
            return Ok(None);
        }
        let last: Option<i64> =
            self.conn.prepare_cached("SELECT max(chunk) FROM _tree")?.query_row([], |row| row.get(0))?;
        let kept = last.map_or(0, |last| last.cast_unsigned() + 1);
        Ok((chunks_through(at.position) <= kept).then_some(at))
    }

    fn hashes(&self, from: u64, count: usize) -> Result<Vec<Hash>, StoreError> {
        if !self.exists()? {
            return Ok(Vec::new());
        }
        let mut select =
            self.conn.prepare_cached("SELECT chunk, hash FROM _tree WHERE chunk >= ?1 ORDER BY chunk LIMIT ?2")?;
        let limit = i64::try_from(count).unwrap_or(i64::MAX);
        let rows = select.query_map(params![from.cast_signed(), limit], |row| {
            Ok((row.get::<_, i64>(0)?, row.get::<_, Vec<u8>>(1)?))
        })?;
        (from..)
            .zip(rows)
            .map(|(expected, row)| {
                let (chunk, hash) = row?;
                let hash = hash.try_into().ok().filter(|_| chunk.cast_unsigned() == expected).map(Hash);
                hash.ok_or_else(|| StoreError::corrupt_store(format!("table _tree has no hash of chunk {expected}")))
            })
            .collect()
    }

    fn advance(&self, from: Option<&Checkpoint>, keep: u64, new: &[Hash], to: &Checkpoint) -> Result<bool, StoreError> {
        if !self.conn.is_autocommit() {
            return self.advance_joined(from, keep, new, to);
        }
        let transaction = connection::begin(self.conn)?;
        let advanced = self.advance_joined(from, keep, new, to)?;
        transaction.commit()?;
        Ok(advanced)
    }
}
