//! A batch as the commit script takes it: items that depend on each other, together.

use std::collections::HashMap;

use ahash::RandomState;
use tasklog_log::{
    Chain, Entity, Position, StoreError,
    redis::{Keys, Prev, encode},
};
use tasklog_projections::{
    AnyRow, RowChange,
    redis::{Op, RedisView, pack_bytes, takes},
    table,
};

use crate::{backend::Item, keep::KeptPart};

/// Items with one fate: they share rows that the batch writes. Their commits stand next to each other in the log.
pub(super) struct Group<'b> {
    /// Numbers of items, in their order.
    pub(super) items: Vec<usize>,
    pub(super) changes: Vec<&'b RowChange>,
    /// The entities of its conditions, in the order in which the script names them; none for unique values.
    pub(super) conditions: Vec<Option<&'b Entity>>,
    /// The items whose caller asked for an earlier answer, in the order in which the script names them.
    pub(super) asked: Vec<usize>,
    pub(super) events: u64,
    /// Bytes of its commits, about.
    pub(super) bytes: usize,
}

type Map<K, V> = HashMap<K, V, RandomState>;

/// Splits a batch into groups, in the order of their first items.
pub(super) fn groups<'b>(items: &'b [Item], changes: &'b [RowChange], together: bool) -> Vec<Group<'b>> {
    let mut parents: Vec<usize> = (0..items.len()).collect();
    let mut written: Map<(&str, &str), usize> = Map::default();
    for (at, item) in items.iter().enumerate() {
        for event in &item.commit.events {
            written.entry((&event.entity.table, &event.entity.key)).or_insert(at);
        }
    }
    let mut first_ordered = None;
    for (at, item) in items.iter().enumerate() {
        for condition in &item.commit.conditions {
            if let Some(other) = written.get(&(&*condition.entity.table, &*condition.entity.key)) {
                join(&mut parents, at, *other);
            }
        }
        if together && at > 0 {
            join(&mut parents, at, 0);
        }
        if item.ordered {
            join(&mut parents, at, *first_ordered.get_or_insert(at));
        }
    }
    let mut places: Map<usize, usize> = Map::default();
    let mut groups: Vec<Group<'b>> = Vec::new();
    for (at, item) in items.iter().enumerate() {
        let root = root(&mut parents, at);
        let place = *places.entry(root).or_insert_with(|| {
            groups.push(Group {
                items: Vec::new(),
                changes: Vec::new(),
                conditions: Vec::new(),
                asked: Vec::new(),
                events: 0,
                bytes: 0,
            });
            groups.len() - 1
        });
        let group = &mut groups[place];
        group.items.push(at);
        group.events += item.commit.events.len() as u64;
        let bytes = item.commit.events.iter().map(|event| event.payload.len() + event.entity.key.len());
        group.bytes += bytes.sum::<usize>();
    }
    for change in changes {
        // A row that was flushed for a scan and then put back is nobody's change.
        let Some(at) = written.get(&(change.table.name, &*change.key)) else { continue };
        let root = root(&mut parents, *at);
        if let Some(place) = places.get(&root).filter(|_| change.rev.as_provisional().is_some()) {
            groups[*place].changes.push(change);
        }
    }
    groups
}

/// The newest positions of a few entities, or of many.
#[derive(Default)]
struct Newest<'e> {
    few: Vec<(&'e Entity, Position)>,
    many: Map<&'e Entity, Position>,
}

/// So many are looked through one by one, which is quicker than hashing.
const FEW: usize = 12;

impl<'e> Newest<'e> {
    /// Takes over a position; answers the one before it.
    fn replace(&mut self, entity: &'e Entity, position: Position) -> Option<Position> {
        if let Some((_, known)) = self.few.iter_mut().find(|(known, _)| *known == entity) {
            return Some(std::mem::replace(known, position));
        }
        if self.few.len() < FEW {
            self.few.push((entity, position));
            return None;
        }
        self.many.insert(entity, position)
    }
}

fn root(parents: &mut [usize], mut at: usize) -> usize {
    while parents[at] != at {
        parents[at] = parents[parents[at]];
        at = parents[at];
    }
    at
}

fn join(parents: &mut [usize], a: usize, b: usize) {
    let (a, b) = (root(parents, a), root(parents, b));
    // The smaller one leads, so that groups stand in the order of their first items.
    parents[a.max(b)] = a.min(b);
}

/// Words of a condition in the script's flat array.
const CONDITION_WORDS: usize = 6;
/// Words of a commit in the script's flat array.
const COMMIT_WORDS: usize = 8;

/// Writes what a group is for the script.
pub(super) struct Packer<'p> {
    pub(super) view: &'p RedisView,
    pub(super) keys: &'p Keys,
    pub(super) items: &'p [Item],
    pub(super) answer_kept_ms: i64,
    pub(super) now: i64,
    pub(super) urgent: bool,
    /// Whether the commits bring their own instants.
    pub(super) given: bool,
}

impl Packer<'_> {
    pub(super) fn pack<'b>(
        &self,
        group: &mut Group<'b>,
        items: &'b [Item],
        out: &mut Vec<u8>,
    ) -> Result<(), StoreError> {
        let place = places(group, items);
        array(out, 7);
        self.conditions(group, items, out);
        self.commits(group, &place, out);
        self.commands(group, &place, out);
        let valid_until = group.items.iter().filter_map(|at| self.items[*at].valid_until).min();
        text(out, &valid_until.map_or_else(String::new, |instant| instant.to_string()));
        // A group that only found something takes turns as well: what it found must hold at one moment.
        let mut tables: Vec<&str> = match group.events {
            0 => group.conditions.iter().flatten().map(|entity| &*entity.table).collect(),
            _ => group.changes.iter().map(|change| change.table.name).collect(),
        };
        tables.sort_unstable();
        tables.dedup();
        array(out, tables.len());
        tables.iter().for_each(|table| text(out, table));
        group.asked = group.items.iter().copied().filter(|at| self.items[*at].asked.is_some()).collect();
        array(out, group.asked.len());
        for id in group.asked.iter().filter_map(|at| self.items[*at].asked) {
            text(out, &self.keys.answer(id));
        }
        number(out, u64::from(self.urgent));
        Ok(())
    }

    fn conditions<'b>(&self, group: &mut Group<'b>, items: &'b [Item], out: &mut Vec<u8>) {
        let writer = self.view.writer();
        let mut packed = Vec::new();
        let mut known = Newest::default();
        for item in group.items.iter().map(|at| &items[*at]) {
            for condition in &item.commit.conditions {
                let entity = &condition.entity;
                // A place of this batch is the group's own doing.
                let ours = condition.rev.as_provisional().is_some();
                let Some(table) = table(&entity.table) else { continue };
                if ours || known.replace(entity, condition.rev).is_some() {
                    continue;
                }
                let (hash, field) = writer.rev_place(table, &entity.key);
                number(&mut packed, u64::from(item.dead.contains(entity)));
                text(&mut packed, &hash);
                text(&mut packed, &field);
                text(&mut packed, self.view.names().tombstones(table));
                text(&mut packed, &entity.key);
                text(&mut packed, &condition.rev.to_string());
                group.conditions.push(Some(entity));
            }
        }
        for change in &group.changes {
            let free = |row: &Option<AnyRow>| {
                let mut values = row.as_ref().map(|row| writer.unique_values(change.table, row)).unwrap_or_default();
                if !change.table.disjoint.is_empty() {
                    values.extend(row.iter().flat_map(|row| writer.disjoint_values(change.table, row)));
                }
                values
            };
            let (before, after) = (free(&change.before), free(&change.after));
            for (hash, value) in after.into_iter().filter(|value| !before.contains(value)) {
                let had = |other: &&&RowChange| {
                    let values = other.before.as_ref().map(|row| writer.unique_values(other.table, row));
                    values.is_some_and(|values| values.iter().any(|(h, v)| *h == hash && *v == value))
                };
                let owner = group.changes.iter().find(had).map_or("", |other| &other.key);
                number(&mut packed, 2);
                text(&mut packed, &hash);
                text(&mut packed, &value);
                text(&mut packed, &change.key);
                text(&mut packed, owner);
                text(&mut packed, "");
                group.conditions.push(None);
            }
        }
        array(out, group.conditions.len() * CONDITION_WORDS);
        out.append(&mut packed);
    }

    fn commits(&self, group: &Group<'_>, place: &dyn Fn(u64) -> u64, out: &mut Vec<u8>) {
        let written: Vec<_> =
            group.items.iter().map(|at| &self.items[*at]).filter(|item| !item.commit.events.is_empty()).collect();
        // The entity's newest event so far: where the link of the next one leads.
        let mut newest = Newest::default();
        array(out, written.len() * COMMIT_WORDS);
        for item in written {
            let first = item.first.as_provisional().unwrap_or_default();
            let events = item.commit.events.iter().zip(first..).map(|(event, at)| {
                // Before its first event in the group, it is the one that its condition names.
                let before = newest.replace(&event.entity, Position::provisional(at));
                let named = || item.commit.conditions.iter().find(|condition| condition.entity == event.entity);
                let rev = before.or_else(|| named().map(|condition| condition.rev)).unwrap_or_default();
                let prev = match (event.chain, rev.as_provisional()) {
                    (Chain::Start, _) => Prev::None,
                    (Chain::Continue, Some(earlier)) => Prev::Back(place(at) - place(earlier)),
                    (Chain::Continue, None) if rev == Position::ZERO => Prev::None,
                    (Chain::Continue, None) => Prev::At(rev),
                };
                (event, prev)
            });
            number(out, place(first + item.commit.events.len() as u64 - 1));
            pack_bytes(out, &encode(&item.commit.meta, events));
            match &item.kept {
                None => {
                    text(out, "");
                    number(out, 0);
                    array(out, 0);
                }
                Some(parts) => {
                    text(out, &self.keys.answer(item.commit.meta.id));
                    number(out, place(first));
                    array(out, parts.len());
                    for part in parts {
                        match part {
                            KeptPart::Text(part) => pack_bytes(out, part),
                            KeptPart::Place(at) => number(out, place(*at)),
                        }
                    }
                }
            }
            text(out, &self.answer_kept_ms.to_string());
            text(out, &item.commit.meta.id.to_string());
            let instant = self.given.then(|| item.commit.decided_at.unwrap_or(self.now).to_string());
            text(out, &instant.unwrap_or_default());
        }
    }

    fn commands(&self, group: &Group<'_>, place: &dyn Fn(u64) -> u64, out: &mut Vec<u8>) {
        let writer = self.view.writer();
        let ops: Vec<Op<'_>> = group.changes.iter().flat_map(|change| writer.ops(change, Some(self.now))).collect();
        // A value that moves from one row to another must be taken before it is given.
        let (taken, given): (Vec<_>, Vec<_>) = ops.into_iter().partition(takes);
        let ops: Vec<_> = taken.into_iter().chain(given).collect();
        tasklog_projections::redis::pack_ops(&ops, out, place);
    }
}

/// Where a place of the batch stands in its group: 1 for the group's first event.
fn places<'b>(group: &Group<'b>, items: &'b [Item]) -> impl Fn(u64) -> u64 + use<> {
    let mut next = 1;
    let mut spans = Vec::new();
    for at in &group.items {
        let events = items[*at].commit.events.len() as u64;
        if let Some(first) = items[*at].first.as_provisional().filter(|_| events > 0) {
            spans.push((first, next));
            next += events;
        }
    }
    move |place| {
        let at = spans.partition_point(|(first, _)| *first <= place).saturating_sub(1);
        spans.get(at).map_or(0, |(first, there)| there + place.saturating_sub(*first))
    }
}

// Writing to a vector cannot fail.

pub(super) fn array(out: &mut Vec<u8>, length: usize) {
    let _ = rmp::encode::write_array_len(out, length as u32);
}

pub(super) fn text(out: &mut Vec<u8>, text: &str) {
    let _ = rmp::encode::write_str(out, text);
}

pub(super) fn number(out: &mut Vec<u8>, number: u64) {
    let _ = rmp::encode::write_uint(out, number);
}
