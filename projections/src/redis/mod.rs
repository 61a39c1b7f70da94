//! The tables as Redis keys, under the names and shapes that other tools may rely on.
//!
//! Rows are hashes (a few tables have shapes of their own), every index is a sorted set whose members sort as the index
//! does, and all that a row change touches changes in one script: see [`RowWriter`], which turns changes into commands, and
//! `ops.lua`, which checks and runs them. Nothing here uses SCAN or KEYS.

mod audit;
mod bulk;
mod expire;
mod locate;
mod names;
mod op;
mod order;
mod read;
mod shape;
mod slot;
mod sweep;
mod words;

pub use audit::{Asked, Element, Flaw, Look, Repaired, Seen, Verdict, shown};
pub use bulk::{Bulk, Elements, Expected, Found, KeyWalk, Notes, Page as BulkPage, Prints, Sums};
pub use locate::{Role, locate, row_key_of};
pub use names::{Names, escaped, suffix};
pub use op::{Arg, Op, takes};
pub use shape::{Expiry, has_index_set};
pub use slot::{Own, Said, Slot, Slots, creation, slots};

use std::{
    collections::HashMap,
    ops::Bound,
    sync::{Arc, LazyLock, Mutex, PoisonError},
};

use tasklog_log::{
    Checkpoint, Millis, Position, StoreError,
    redis::{ENTRY_LUA, Keys, Link, Script},
};

use crate::{AnyRow, Held, PAGE_ROWS_MAX, PROJECTED, RowChange, Scan, TableDef, View, view::no_index};

/// The Lua functions that check and run [`Op`]s; they need those of [`ENTRY_LUA`] before them.
pub const OPS_LUA: &str = include_str!("ops.lua");

/// How often a page is read again because rows moved while it was read.
const PAGE_ATTEMPTS_MAX: usize = 3;

/// The tables under one prefix. It has no transactions: writes go through [`RedisView::flush`], as one script, and
/// [`crate::overlay::Overlay`] collects them.
#[derive(Clone)]
pub struct RedisView {
    link: Arc<Link>,
    names: Names,
    keys: Keys,
    expiry: Expiry,
    pages: Option<Arc<Mutex<Pages>>>,
}

/// Pages that a writer has read in its open batch: its decisions walk along the same indexes again and again.
type Pages = HashMap<String, Page>;

#[derive(Clone)]
struct Page {
    rows: Vec<Held>,
    ended: bool,
}

/// Rows read ahead by a writer's scans.
const READ_AHEAD_ROWS: usize = 64;

impl RedisView {
    /// The tables under `prefix`, through `link`.
    #[must_use]
    pub fn new(link: Arc<Link>, prefix: &str, expiry: Expiry) -> Self {
        Self { link, names: Names::new(prefix), keys: Keys::new(prefix), expiry, pages: None }
    }

    /// The same tables for a writer: pages are kept until [`RedisView::forget_pages`].
    #[must_use]
    pub fn keeping_pages(self) -> Self {
        Self { pages: Some(Arc::default()), ..self }
    }

    /// Forgets the pages of a batch.
    pub fn forget_pages(&self) {
        if let Some(pages) = &self.pages {
            pages.lock().unwrap_or_else(PoisonError::into_inner).clear();
        }
    }

    /// The names of the keys.
    #[must_use]
    pub fn names(&self) -> &Names {
        &self.names
    }

    /// The connection.
    #[must_use]
    pub fn link(&self) -> &Arc<Link> {
        &self.link
    }

    /// The writer of rows.
    #[must_use]
    pub fn writer(&self) -> RowWriter<'_> {
        RowWriter { names: &self.names, expiry: self.expiry }
    }

    /// Several rows by their keys, dead or alive, in the order of the keys.
    ///
    /// # Errors
    /// `unavailable`, or `corrupt` if what is stored is no row of the table.
    pub fn rows(&self, table: &'static TableDef, keys: &[String]) -> Result<Vec<Option<Held>>, StoreError> {
        read::rows(&self.link, &self.names, table, keys)
    }

    /// The revs of several deleted rows.
    ///
    /// # Errors
    /// `unavailable`.
    pub fn tombstones(&self, table: &TableDef, keys: &[String]) -> Result<Vec<Option<Position>>, StoreError> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let hash = self.names.tombstones(table);
        let revs: Vec<Option<String>> = self.link.ask(|conn| ::redis::cmd("HMGET").arg(hash).arg(keys).query(conn))?;
        revs.into_iter().map(|rev| rev.map(|rev| position(hash, &rev)).transpose()).collect()
    }

    /// Writes changes whose positions are real, and moves the checkpoint if the store is at `from`: one script.
    ///
    /// # Errors
    /// `diverged` if the store is not at `from`; `corrupt` if a key of another type is in the way; `unavailable`.
    pub fn flush(&self, changes: &[RowChange], step: Option<(Checkpoint, Checkpoint)>) -> Result<(), StoreError> {
        static FLUSH: LazyLock<Script> = LazyLock::new(|| script(include_str!("flush.lua")));
        let mut packed = Vec::new();
        let writer = self.writer();
        let ops: Vec<_> = changes.iter().flat_map(|change| writer.ops(change, None)).collect();
        pack_ops(&ops, &mut packed, &|place| place);
        let at = |checkpoint: &Checkpoint| {
            [checkpoint.position.to_string(), checkpoint.commit.to_string(), checkpoint.recorded_at.to_string()]
        };
        let (from, to) = match &step {
            Some((from, to)) => (at(from), at(to)),
            None => Default::default(),
        };
        let id = step.map_or_else(String::new, |(from, _)| format!("{} {}", from.log.id, from.log.epoch));
        let (outcome, why): (i64, String) = self.link.call(|conn| {
            let texts = [&id].into_iter().chain(&from).chain(&to).map(String::as_bytes);
            let args: Vec<&[u8]> = [&packed[..]].into_iter().chain(texts).collect();
            FLUSH.run(conn, &[self.keys.head(), self.keys.identity()], &args)
        })?;
        match (outcome, step) {
            (0, _) => Ok(()),
            (2, Some((from, _))) => {
                let log = Box::new(self.checkpoint()?);
                Err(StoreError::Diverged { checkpoint: Box::new(from), log })
            }
            _ => Err(StoreError::corrupt_store(why)),
        }
    }

    fn page(&self, table: &'static TableDef, scan: &Scan<'_>, limit: usize) -> Result<Page, StoreError> {
        let Some((low, high)) = order::range(table, scan) else { return Ok(Page { rows: Vec::new(), ended: true }) };
        let set = self.names.index(table, scan.index);
        let mut rows: Vec<Held> = Vec::new();
        let (mut low, mut high) = (low, high);
        for attempt in 1.. {
            let wanted = limit - rows.len();
            let members: Vec<Vec<u8>> = self.link.ask(|conn| {
                let (name, a, b) = match scan.descending {
                    true => ("ZREVRANGEBYLEX", &high, &low),
                    false => ("ZRANGEBYLEX", &low, &high),
                };
                ::redis::cmd(name).arg(set).arg(a).arg(b).arg("LIMIT").arg(0).arg(wanted).query(conn)
            })?;
            let ended = members.len() < wanted;
            let Some(last) = members.last().cloned() else { return Ok(Page { rows, ended: true }) };
            let keys: Vec<_> = members.iter().map(|member| order::key(table, scan.index, member)).collect();
            let known: Vec<String> = keys.iter().flatten().cloned().collect();
            let mut found = self.rows(table, &known)?.into_iter();
            let mut moved = false;
            let mut met = Vec::with_capacity(members.len());
            for (member, key) in members.iter().zip(&keys) {
                let Some(key) = key else { continue };
                let Some(held) = found.next().flatten() else { continue };
                // A member whose row has expired, and one that an earlier life of the row left behind, lead nowhere.
                if self.is_entry(table, scan.index, member, key, &held.row)? {
                    met.push(held);
                } else {
                    moved = true;
                }
            }
            if moved && attempt < PAGE_ATTEMPTS_MAX {
                continue;
            }
            rows.append(&mut met);
            if ended || rows.len() == limit {
                return Ok(Page { rows, ended });
            }
            // Some members led nowhere: the page goes on behind the last one.
            match scan.descending {
                true => high = [b"(", &last[..]].concat(),
                false => low = [b"(", &last[..]].concat(),
            }
        }
        Ok(Page { rows, ended: true })
    }

    fn is_entry(
        &self,
        table: &'static TableDef,
        index: &str,
        member: &[u8],
        key: &str,
        row: &AnyRow,
    ) -> Result<bool, StoreError> {
        if let Some(multi) = table.multi_indexes.iter().find(|multi| multi.name == index) {
            let entries = (multi.values)(&**row).into_iter().map(|value| shape::pair_entry(&value, key));
            return Ok(entries.into_iter().any(|entry| entry == Arg::Bytes(member.into())));
        }
        let order = crate::view::index_order(table, index)?;
        Ok(shape::entry(table, row, &order) == Arg::Bytes(member.into()))
    }

    fn kept_page(&self, table: &'static TableDef, scan: &Scan<'_>, limit: usize) -> Result<Vec<Held>, StoreError> {
        let Some(pages) = &self.pages else { return Ok(self.page(table, scan, limit)?.rows) };
        let name =
            format!("{} {} {:?} {:?} {:?} {}", table.name, scan.index, scan.equal, scan.from, scan.to, scan.descending);
        let known = pages.lock().unwrap_or_else(PoisonError::into_inner).get(&name).cloned();
        let page = match known {
            Some(page) if page.ended || page.rows.len() >= limit => page,
            _ => {
                let ahead = limit.saturating_mul(2).clamp(READ_AHEAD_ROWS, PAGE_ROWS_MAX).max(limit);
                let page = self.page(table, scan, ahead)?;
                pages.lock().unwrap_or_else(PoisonError::into_inner).insert(name, page.clone());
                page
            }
        };
        Ok(page.rows.into_iter().take(limit).collect())
    }
}

/// Turns row changes into the commands that make them.
pub struct RowWriter<'w> {
    names: &'w Names,
    expiry: Expiry,
}

impl<'w> RowWriter<'w> {
    /// The commands for one change. `now`: before it was written, the row may have died by then and be gone.
    #[must_use]
    pub fn ops<'c>(&self, change: &'c RowChange, now: Option<Millis>) -> Vec<Op<'c>>
    where
        'w: 'c,
    {
        shape::Writer { names: self.names, expiry: self.expiry }.ops(change, now)
    }

    /// The hash and the field in which a row's rev stands.
    #[must_use]
    pub fn rev_place(&self, table: &TableDef, key: &str) -> (String, String) {
        shape::rev_place(self.names, table, key)
    }

    /// The hash of each unique index of the table, and the value that a row has in it.
    #[must_use]
    pub fn unique_values(&self, table: &TableDef, row: &AnyRow) -> Vec<(String, String)> {
        let unique = table.indexes.iter().filter(|index| index.unique);
        unique.filter_map(|index| self.value_in(table, index.name, index.name, row)).collect()
    }

    /// The hashes in which no other row has a value that a row has elsewhere, and the value.
    #[must_use]
    pub fn disjoint_values(&self, table: &TableDef, row: &AnyRow) -> Vec<(String, String)> {
        let pairs = table.disjoint.iter().flat_map(|(a, b)| [(*a, *b), (*b, *a)]);
        pairs.filter_map(|(has, other)| self.value_in(table, has, other, row)).collect()
    }

    /// The value that a row has in one unique index, and the hash of that or another one.
    fn value_in(&self, table: &TableDef, index: &str, hash_of: &str, row: &AnyRow) -> Option<(String, String)> {
        let index = table.indexes.iter().find(|declared| declared.name == index)?;
        let value = shape::unique_value(table, index.columns, row)?;
        Some((self.names.unique(table, hash_of), value))
    }
}

/// Packs commands for `ops.lua`: one flat MessagePack array of, for each, the number of its words and these: strings,
/// places (integers) and entries (arrays of three).
/// `place` says where a place of the batch stands.
pub fn pack_ops(ops: &[Op<'_>], out: &mut Vec<u8>, place: &dyn Fn(u64) -> u64) {
    let words: usize = ops.iter().map(|op| op.len() + 1).sum();
    let _ = rmp::encode::write_array_len(out, words as u32);
    for op in ops {
        let _ = rmp::encode::write_uint(out, op.len() as u64);
        for arg in op {
            match arg {
                Arg::Bytes(arg) => pack_bytes(out, arg),
                Arg::Place(at) => {
                    let _ = rmp::encode::write_uint(out, place(*at));
                }
                Arg::Entry(before, at, after) => {
                    let _ = rmp::encode::write_array_len(out, 3);
                    pack_bytes(out, before);
                    let _ = rmp::encode::write_uint(out, place(*at));
                    pack_bytes(out, after);
                }
            }
        }
    }
}

/// Packs bytes as a MessagePack string, whatever they are: to a script they are nothing else, and it reads no other kind.
pub fn pack_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    // Writing to a vector cannot fail.
    let _ = rmp::encode::write_str_len(out, bytes.len() as u32);
    out.extend_from_slice(bytes);
}

/// A script with the functions it needs before it.
#[must_use]
pub fn script(text: &str) -> Script {
    Script::of_parts(&[ENTRY_LUA, OPS_LUA, text])
}

/// A position as it is stored in `key`.
pub(crate) fn position(key: &str, text: &str) -> Result<Position, StoreError> {
    let number = text.parse().map(Position);
    number.map_err(|_| StoreError::corrupt_store(format!("{key}: expected a position, found {text:?}")))
}

impl View for RedisView {
    fn get(&self, table: &'static TableDef, key: &str) -> Result<Option<Held>, StoreError> {
        Ok(self.rows(table, &[key.to_owned()])?.pop().flatten())
    }

    fn tombstone(&self, table: &'static TableDef, key: &str) -> Result<Option<Position>, StoreError> {
        Ok(self.tombstones(table, &[key.to_owned()])?.pop().flatten())
    }

    fn any_tombstone(&self, table: &'static TableDef) -> Result<bool, StoreError> {
        self.link.ask(|conn| ::redis::cmd("EXISTS").arg(self.names.tombstones(table)).query(conn))
    }

    fn scan(&self, table: &'static TableDef, scan: &Scan<'_>) -> Result<Vec<Held>, StoreError> {
        check_index(table, scan.index)?;
        match scan.limit.min(PAGE_ROWS_MAX) {
            0 => Ok(Vec::new()),
            limit => self.kept_page(table, scan, limit),
        }
    }

    fn count(&self, table: &'static TableDef, scan: &Scan<'_>) -> Result<u64, StoreError> {
        check_index(table, scan.index)?;
        let set = self.names.index(table, scan.index);
        if scan.equal.is_empty() && scan.from == Bound::Unbounded && scan.to == Bound::Unbounded {
            return self.link.ask(|conn| ::redis::cmd("ZCARD").arg(set).query(conn));
        }
        let Some((low, high)) = order::range(table, scan) else { return Ok(0) };
        self.link.ask(|conn| ::redis::cmd("ZLEXCOUNT").arg(set).arg(&low).arg(&high).query(conn))
    }

    fn checkpoint(&self) -> Result<Checkpoint, StoreError> {
        read::checkpoint(&self.link, &self.keys)
    }

    /// Writes at once: what is to be written as a whole goes through [`crate::overlay::Overlay`].
    fn write(&mut self, changes: &[RowChange]) -> Result<(), StoreError> {
        self.flush(changes, None)
    }

    fn apply(&mut self, changes: &[RowChange], from: &Checkpoint, to: &Checkpoint) -> Result<(), StoreError> {
        self.flush(changes, Some((*from, *to)))
    }

    fn sweep(
        &mut self,
        table: &'static TableDef,
        now: Millis,
        tombstones_before: Millis,
        limit: usize,
    ) -> Result<Vec<AnyRow>, StoreError> {
        sweep::sweep(self, table, now, tombstones_before, limit)
    }
}

fn check_index(table: &TableDef, index: &str) -> Result<(), StoreError> {
    let declared = index == "pk"
        || table.indexes.iter().any(|declared| declared.name == index)
        || table.multi_indexes.iter().any(|declared| declared.name == index);
    if declared { Ok(()) } else { Err(no_index(table, index)) }
}

/// The tables whose projection version in the store is not the program's.
///
/// # Errors
/// `schema_ahead` if a newer projection built one.
pub fn stale_tables(link: &Link, names: &Names) -> Result<Vec<&'static TableDef>, StoreError> {
    let built: HashMap<String, u32> = link.ask(|conn| ::redis::cmd("HGETALL").arg(names.projections()).query(conn))?;
    let mut stale = Vec::new();
    for table in PROJECTED {
        match built.get(table.name) {
            Some(found) if *found > table.projection_version => {
                let what = format!("projection {}", table.name);
                return Err(StoreError::SchemaAhead { what, found: *found, known: table.projection_version });
            }
            Some(found) if *found == table.projection_version => {}
            _ => stale.push(table),
        }
    }
    Ok(stale)
}
