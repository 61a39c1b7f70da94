//! How the rows of each table lie in Redis: the shapes and helpers that other tools may rely on.

use std::borrow::Cow;

use tasklog_log::{Millis, Position};

use super::{
    names::{Names, escaped, suffix},
    op::{Arg, Op, Out},
    order,
};
use crate::{AnyRow, Cell, Kind, RowChange, TableDef, Tombstones, cell_json};

/// How a row is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// A hash: one field per non-key column, and `_rev`.
    Hash,
    /// A hash under `_row:`, beside a string with the holder that ends with the right.
    Lease,
    /// A string with the number, beside a hash under `_row:` with the rest.
    Cursor,
    /// A member of a sorted set per canary, as a JSON object scored by `ran_at`; revs in a hash beside it.
    Run,
}

pub(super) fn shape(table: &TableDef) -> Shape {
    match table.name {
        "leader_lease" => Shape::Lease,
        "cdc_cursors" => Shape::Cursor,
        "canary_runs" => Shape::Run,
        _ => Shape::Hash,
    }
}

/// The hash and the field in which a row's rev stands.
pub(super) fn rev_place(names: &Names, table: &TableDef, key: &str) -> (String, String) {
    match shape(table) {
        Shape::Hash => (names.of(table, &suffix(table, key)), "_rev".into()),
        Shape::Lease | Shape::Cursor => (row_hash(names, table, key), "_rev".into()),
        Shape::Run => {
            let (canary, ran_at) = crate::split_pair(key).unwrap_or_else(|_| (key.into(), String::new()));
            (names.of(table, &format!("_rev:{}", escaped(&canary))), ran_at)
        }
    }
}

/// The key of the hash that holds a row.
pub(super) fn row_hash(names: &Names, table: &TableDef, key: &str) -> String {
    match shape(table) {
        Shape::Hash | Shape::Run => names.of(table, &suffix(table, key)),
        Shape::Lease | Shape::Cursor => names.of(table, &format!("_row:{}", suffix(table, key))),
    }
}

/// The sorted set of a canary's runs.
pub(super) fn runs(names: &Names, table: &TableDef, key: &str) -> (String, String) {
    let (canary, ran_at) = crate::split_pair(key).unwrap_or_else(|_| (key.into(), String::new()));
    (names.of(table, &escaped(&canary)), ran_at)
}

/// Whether keys are left to Redis to expire; not where the log's time is not the server's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expiry {
    /// Keys carry the absolute instant of their row's death.
    ByServer,
    /// Keys stay until housekeeping removes them.
    BySweep,
}

/// A column's value as a field of a hash.
fn field<'r>(kind: Kind, cell: Cell<'r>) -> Option<Arg<'r>> {
    Some(match cell {
        Cell::Null => return None,
        Cell::Integer(value) => Arg::text(value.to_string()),
        Cell::Text(text) => Arg::text(text),
        Cell::Blob(bytes) if kind == Kind::Hash => Arg::text(hex::encode(bytes)),
        Cell::Blob(bytes) => Arg::Bytes(bytes),
    })
}

fn is_position(table: &TableDef, column: usize) -> bool {
    table.positions.contains(&table.columns[column].name)
}

/// Turns row changes into the commands that make them.
pub(super) struct Writer<'w> {
    pub(super) names: &'w Names,
    pub(super) expiry: Expiry,
}

impl<'w> Writer<'w> {
    /// The commands that bring one row, its helpers and its tombstone from `before` to `after`.
    pub(super) fn ops<'c>(&self, change: &'c RowChange, now: Option<Millis>) -> Vec<Op<'c>>
    where
        'w: 'c,
    {
        let mut ops = Vec::with_capacity(8);
        self.write(change, now, &mut ops);
        ops
    }

    /// The same, put anywhere.
    pub(super) fn write<'c>(&self, change: &'c RowChange, now: Option<Millis>, ops: &mut impl Out<'c>)
    where
        'w: 'c,
    {
        // A row that has died may be gone already, with its helpers left behind: it is written as a new one.
        let known = change.before.as_ref().filter(|row| now.is_none_or(|now| row.is_live(now)));
        match &change.after {
            Some(after) => self.put(change, known, after, ops),
            None => self.delete(change, ops),
        }
        self.tombstone(change, ops);
        self.helpers(change, ops);
    }

    fn put<'c>(&self, change: &'c RowChange, known: Option<&AnyRow>, after: &'c AnyRow, ops: &mut impl Out<'c>)
    where
        'w: 'c,
    {
        let RowChange { table, key, before, rev, .. } = change;
        let hash = row_hash(self.names, table, key);
        match shape(table) {
            Shape::Run => {
                let (set, ran_at) = runs(self.names, table, key);
                // Two members of equal score and different JSON would both stay.
                ops.op("ZREMRANGEBYSCORE", set.clone(), [Arg::text(ran_at.clone()), Arg::text(ran_at.clone())]);
                ops.op("ZADD", set.clone(), [Arg::text(ran_at.clone()), Arg::text(json(table, after))]);
                let (revs, field) = rev_place(self.names, table, key);
                ops.op("HSET", revs.clone(), [Arg::text(field), Arg::position(*rev)]);
                return;
            }
            Shape::Cursor => {
                let number = field(Kind::Integer, after.cell(2));
                ops.op("SET", self.names.of(table, &suffix(table, key)), number);
            }
            Shape::Lease => {
                let holder = after.cell(1);
                let expires_at = table.column("expires_at").map(|at| after.cell(at));
                let outside = self.names.of(table, &suffix(table, key));
                ops.op("SET", outside, field(Kind::Text, holder));
                if let (Some(Cell::Integer(end)), Expiry::ByServer) = (expires_at, self.expiry) {
                    ops.arg(Arg::text("PXAT"));
                    ops.number(end.max(1));
                }
            }
            Shape::Hash => {}
        }
        if before.is_some() && known.is_none() {
            ops.op("DEL", hash.clone(), None);
        }
        let differs = known.map_or(u64::MAX, |before| before.differs(&**after));
        let from = if shape(table) == Shape::Cursor { 3 } else { 0 };
        let mut gone = Vec::new();
        ops.begin("HSET", hash.clone());
        ops.arg(Arg::text("_rev"));
        ops.position(*rev);
        for (at, column) in table.columns.iter().enumerate().skip(from) {
            if column.key || differs >> at & 1 == 0 {
                continue;
            }
            match after.cell(at) {
                Cell::Null if known.is_some() => gone.push(column.name),
                Cell::Null => {}
                Cell::Integer(number) => {
                    ops.arg(Arg::text(column.name));
                    match Position::from_i64(number).filter(|_| is_position(table, at)) {
                        Some(position) => ops.position(position),
                        None => ops.number(number),
                    }
                }
                cell => {
                    if let Some(value) = field(column.kind, cell) {
                        ops.arg(Arg::text(column.name));
                        ops.arg(value);
                    }
                }
            }
        }
        if !gone.is_empty() {
            ops.op("HDEL", hash.clone(), gone.into_iter().map(Arg::text));
        }
        if let (Some(end), Expiry::ByServer) = (after.dies_at(), self.expiry)
            && known.and_then(|known| known.dies_at()) != Some(end)
        {
            ops.begin("PEXPIREAT", hash);
            ops.number(end);
        }
    }

    fn delete<'c>(&self, change: &'c RowChange, ops: &mut impl Out<'c>) {
        let RowChange { table, key, .. } = change;
        match shape(table) {
            Shape::Run => {
                let (set, ran_at) = runs(self.names, table, key);
                ops.op("ZREMRANGEBYSCORE", set.clone(), [Arg::text(ran_at.clone()), Arg::text(ran_at)]);
                let (revs, field) = rev_place(self.names, table, key);
                ops.op("HDEL", revs.clone(), [Arg::text(field)]);
            }
            Shape::Hash => ops.op("DEL", row_hash(self.names, table, key), None),
            Shape::Lease | Shape::Cursor => {
                ops.op("DEL", row_hash(self.names, table, key), None);
                ops.op("DEL", self.names.of(table, &suffix(table, key)), None);
            }
        }
    }

    fn tombstone<'c>(&self, change: &'c RowChange, ops: &mut impl Out<'c>)
    where
        'w: 'c,
    {
        let RowChange { table, key, after, buried, rev, at, .. } = change;
        let short = table.tombstones == Tombstones::Short;
        let (hash, set) = (self.names.tombstones(table), self.names.buried_at(table));
        if after.is_none() && *rev != Position::ZERO {
            ops.op("HSET", hash, [Arg::text(&**key), Arg::position(*rev)]);
            if short {
                ops.op("ZADD", set, [Arg::text(at.to_string()), Arg::text(&**key)]);
            }
        } else if *buried {
            ops.op("HDEL", hash, [Arg::text(&**key)]);
            if short {
                ops.op("ZREM", set, [Arg::text(&**key)]);
            }
        }
    }

    /// Index entries and the sets that other tools read.
    fn helpers<'c>(&self, change: &'c RowChange, ops: &mut impl Out<'c>)
    where
        'w: 'c,
    {
        let table = change.table;
        let (before, after) = (change.before.as_ref(), change.after.as_ref());
        for (set, order) in self.names.orders(table) {
            match (before, after) {
                (None, Some(row)) => {
                    ops.op("ZADD", set, [Arg::text("0")]);
                    ops.entry(table, row, order);
                }
                _ => {
                    let entry = |row: &AnyRow| entry(table, row, order);
                    swap(set, before.map(entry), after.map(entry), ops);
                }
            }
        }
        for multi in table.multi_indexes {
            let entries = |row: Option<&AnyRow>| -> Vec<Arg<'static>> {
                let values = row.map(|row| (multi.values)(&**row)).unwrap_or_default();
                values.into_iter().map(|value| pair_entry(&value, &change.key)).collect()
            };
            let (old, new) = (entries(before), entries(after));
            let set = self.names.index(table, multi.name);
            for gone in old.iter().filter(|entry| !new.contains(entry)) {
                ops.op("ZREM", set, [gone.clone()]);
            }
            for added in new.into_iter().filter(|entry| !old.contains(entry)) {
                ops.op("ZADD", set, [Arg::text("0"), added]);
            }
        }
        for index in table.indexes.iter().filter(|index| index.unique) {
            let hash = self.names.unique(table, index.name);
            let value = |row: Option<&AnyRow>| row.and_then(|row| unique_value(table, index.columns, row));
            let (old, new) = (value(before), value(after));
            if old != new {
                if let Some(old) = old {
                    ops.op("HDEL", hash.clone(), [Arg::text(old)]);
                }
                if let Some(new) = new {
                    ops.op("HSET", hash, [Arg::text(new), Arg::text(&*change.key)]);
                }
            }
        }
        if before.is_some_and(|before| after.is_some_and(|after| before.differs(&**after) == 0)) {
            return;
        }
        let fixed = |row: Option<&AnyRow>| {
            let members = row.map(|row| fixed(self.names, table, &change.key, row));
            members.unwrap_or_default()
        };
        let (old, new) = (fixed(before), fixed(after));
        let gone = old.iter().filter(|member| !new.contains(member)).cloned();
        gone.for_each(|member| member.remove(ops));
        new.into_iter().filter(|member| !old.contains(member)).for_each(|member| member.add(ops));
    }
}

fn swap<'c>(set: &'c str, old: Option<Arg<'static>>, new: Option<Arg<'static>>, ops: &mut impl Out<'c>) {
    if old == new {
        return;
    }
    if let Some(old) = old {
        ops.op("ZREM", set, [old]);
    }
    if let Some(new) = new {
        ops.op("ZADD", set, [Arg::text("0"), new]);
    }
}

/// What a row puts into the sets whose names and types are part of the contract.
fn fixed<'m>(names: &'m Names, table: &'static TableDef, key: &'m str, row: &AnyRow) -> Vec<Member<'m>> {
    let name = |rest: &str| Cow::Owned(names.of(table, rest));
    let text = |column: &str| match table.column(column).map(|at| row.cell(at)) {
        Some(Cell::Text(text)) => Some(text.into_owned()),
        _ => None,
    };
    let number = |column: &str| match table.column(column).map(|at| row.cell(at)) {
        Some(Cell::Integer(value)) => Some(value),
        _ => None,
    };
    let scored = |set: &str, score: Option<i64>| {
        let score = score.map(|value| Position::from_i64(value).map_or(Arg::text(value.to_string()), Arg::position));
        score.map(|score| Member { set: name(set), score: Some(score), member: suffix(table, key) })
    };
    let plain = |set: &str| Member { set: name(set), score: None, member: suffix(table, key) };
    let mut members = Vec::new();
    match table.name {
        "sessions" => members.extend(scored("_lru", row.dies_at())),
        "cdc_cursors" => {
            let (sink, index) = (text("sink_name").unwrap_or_default(), text("index_uid").unwrap_or_default());
            let set = name(&format!("_index:{}", escaped(&sink)));
            members.push(Member { set, score: None, member: escaped(&index).into_owned().into() });
        }
        _ if has_index_set(table) => {
            let set = Cow::Borrowed(names.all(table));
            members.push(Member { set, score: None, member: suffix(table, key) });
        }
        _ => {}
    }
    match table.name {
        "node_settings_version" => {
            let (index, node) = (text("index_uid").unwrap_or_default(), text("node_id").unwrap_or_default());
            if node != "_cluster" {
                let set = name(&format!("_nodes:{}", escaped(&index)));
                members.push(Member { set, score: None, member: escaped(&node).into_owned().into() });
            }
        }
        "jobs" => {
            if text("state").as_deref() == Some("queued") {
                members.push(plain("_queued"));
                let queue = format!("_queue:{}", escaped(&text("type").unwrap_or_default()));
                members.extend(scored(&queue, number("enqueued_at_position")));
            }
            members.extend(scored("_claims", number("claim_expires_at")));
            members.extend(text("parent_id").map(|parent| plain(&format!("_children:{}", escaped(&parent)))));
        }
        _ => {}
    }
    members
}

/// Whether a set `_index` lists the table's rows. Of the others, sorted sets by expiry and by key do.
#[must_use]
pub fn has_index_set(table: &TableDef) -> bool {
    !matches!(table.name, "sessions" | "idempotency_cache" | "admin_sessions" | "canary_runs" | "cdc_cursors")
}

/// A member of a helper set.
#[derive(Clone, PartialEq, Eq)]
struct Member<'m> {
    set: Cow<'m, str>,
    score: Option<Arg<'static>>,
    member: Cow<'m, str>,
}

impl<'m> Member<'m> {
    fn add(self, ops: &mut impl Out<'m>) {
        let member = Arg::text(self.member);
        match self.score {
            Some(score) => ops.op("ZADD", self.set, [score, member]),
            None => ops.op("SADD", self.set, [member]),
        }
    }

    fn remove(self, ops: &mut impl Out<'m>) {
        let member = Arg::text(self.member);
        ops.op(if self.score.is_some() { "ZREM" } else { "SREM" }, self.set, [member]);
    }
}

/// The one value of a unique index, as the field of its hash; none where a column is NULL.
pub(super) fn unique_value(table: &TableDef, columns: &[&str], row: &AnyRow) -> Option<String> {
    let cells: Vec<_> = columns.iter().filter_map(|name| table.column(name)).map(|at| row.cell(at)).collect();
    let texts: Option<Vec<_>> = cells
        .iter()
        .map(|cell| match cell {
            Cell::Null => None,
            Cell::Integer(value) => Some(value.to_string()),
            Cell::Text(text) => Some(text.to_string()),
            Cell::Blob(bytes) => Some(hex::encode(bytes)),
        })
        .collect();
    Some(match &texts?[..] {
        [one] => one.clone(),
        several => several.iter().map(|text| escaped(text)).collect::<Vec<_>>().join(":"),
    })
}

/// A row's entry in an index.
pub(super) fn entry(table: &TableDef, row: &AnyRow, order: &[usize]) -> Arg<'static> {
    let mut bytes = Vec::with_capacity(64);
    let mut place = None;
    for at in order {
        let cell = row.cell(*at);
        if let Cell::Integer(value) = cell
            && is_position(table, *at)
            && let Some(provisional) = Position::from_i64(value).and_then(Position::as_provisional)
        {
            bytes.extend_from_slice(b"11");
            place = Some((std::mem::take(&mut bytes), provisional));
        } else {
            order::put(&cell, &mut bytes);
        }
    }
    match place {
        Some((before, place)) => Arg::Entry(before, place, bytes),
        None => Arg::Bytes(bytes.into()),
    }
}

/// An entry of an index over several values per row.
pub(super) fn pair_entry(value: &str, key: &str) -> Arg<'static> {
    let mut bytes = Vec::with_capacity(value.len() + key.len() + 6);
    order::put(&Cell::Text(value.into()), &mut bytes);
    order::put(&Cell::Text(key.into()), &mut bytes);
    Arg::Bytes(bytes.into())
}

/// The row as one JSON object.
fn json(table: &TableDef, row: &AnyRow) -> String {
    let mut text = String::from("{");
    for (at, column) in table.columns.iter().enumerate() {
        let cell = row.cell(at);
        if cell == Cell::Null {
            continue;
        }
        // A row that was decoded from JSON columns has JSON in them.
        let Ok(value) = cell_json(column, &cell) else { continue };
        if text.len() > 1 {
            text.push(',');
        }
        text.push('"');
        text.push_str(column.name);
        text.push_str("\":");
        text.push_str(value.as_str());
    }
    text.push('}');
    text
}
