//! Looking through the whole key space for what may be wrong: see [`Audit`].

use std::{
    collections::{BTreeSet, HashSet, VecDeque},
    sync::mpsc::{Sender, channel},
    thread::{self, Scope, ScopedJoinHandle},
    vec,
};

use tasklog_log::{Position, StoreError};
use tasklog_projections::{
    Cell, RowChange, Scan, TableDef, Tombstones, View as _,
    redis::{
        Asked, Bulk, BulkPage, Element, Expected, Found, KeyWalk, Notes, Prints, RedisView, Role, Said, Slot, Sums,
        creation, locate, row_key_of,
    },
};

use super::audit::Audit;

/// Rows and tombstones of the replay that are asked for at once.
const PAGE_ENTITIES: usize = 256;
/// Walks over keys that are under way at once.
const WALKS_MAX: usize = 8;
/// Suspects that are remembered before they are looked at.
const SUSPECTS_MAX: usize = 10_000;
/// How often it is begun, if connections break.
const ATTEMPTS_MAX: usize = 3;

/// So few events before the end of the replay, the helpers are read. That server and fold work at the same time is worth
/// more than what writers change meanwhile.
const EVENTS_LEFT_MAX: u64 = 500_000;

impl<'a> Audit<'a> {
    /// Replays the log so far and compares everything.
    pub(super) fn run(&mut self, note: &mut dyn FnMut(Position)) -> Result<(), StoreError> {
        let (live, tables) = (self.live, self.tables);
        thread::scope(|scope| {
            let mut summing = Summing::start(scope, live, tables)?;
            self.replay(&mut |at, left| {
                if left <= EVENTS_LEFT_MAX {
                    summing.begin();
                }
                note(at);
            })?;
            for attempt in 1.. {
                let result = self.unequal(summing).and_then(|tables| match &tables[..] {
                    [] => Ok(()),
                    tables => self.look_through(tables),
                });
                match result {
                    // What was done already is not done again.
                    Err(error) if attempt < ATTEMPTS_MAX && error.is_retryable() => {}
                    result => return result,
                }
                summing = Summing::start(scope, live, tables)?;
            }
            Ok(())
        })
    }

    /// The tables in which something may be wrong: rows and what they put into helpers are added up on this thread, what
    /// the helpers hold on another one.
    fn unequal(&mut self, summing: Summing<'_>) -> Result<Vec<&'static TableDef>, StoreError> {
        summing.begin();
        let mut given = Sums::new(summing.prints.clone());
        self.verifier.report().rows = 0;
        let mut walk = Walk::new(self, self.tables);
        let rows = self.rows(&mut walk, &mut Notes::Sums(&mut given), true);
        let found = summing.thread.join().map_err(|_| StoreError::unavailable("looking through the keys panicked"))?;
        let mut found = rows.and(found)?;
        Ok(self.tables.iter().copied().filter(|table| !given.is_same(&mut found, table)).collect())
    }

    /// Looks for what is wrong in some tables.
    fn look_through(&mut self, tables: &[&'static TableDef]) -> Result<(), StoreError> {
        let parts = self.entities(tables)?.div_ceil(self.bounds.part_entities).max(1);
        let live = self.live;
        let mut bulk = live.bulk()?;
        let prints = Prints::default();
        for part in 0..parts {
            let mut expected = Expected::of_part(prints.clone(), part, parts);
            let mut walk = Walk::new(self, tables);
            self.rows(&mut walk, &mut Notes::Expected(&mut expected), false)?;
            walk_keys(live, &mut bulk, tables, &mut |met| self.met(met, tables, &mut expected))?;
            self.missing(tables, &expected)?;
            self.settle_suspects()?;
        }
        Ok(())
    }

    /// How many rows and tombstones the log gives.
    fn entities(&self, tables: &[&'static TableDef]) -> Result<u64, StoreError> {
        if let Some(folder) = self.verifier.unflushed() {
            return Ok(folder.entities().count() as u64);
        }
        tables.iter().try_fold(0, |sum, table| {
            Ok(sum + self.fresh.count(table, &Scan::all("pk"))? + self.fresh.made()?.count_tombstones(table)?)
        })
    }

    fn suspect(&mut self, table: &'static TableDef, key: &str, slots: impl IntoIterator<Item = Slot>) {
        let asked = || Asked { table, key: key.to_owned(), probes: BTreeSet::new() };
        let known = self.suspects.entry((table.name, key.to_owned())).or_insert_with(asked);
        known.probes.extend(slots);
    }

    /// To be called between two pages of a walk.
    fn pause(&mut self) -> Result<(), StoreError> {
        self.renew()?;
        if self.suspects.len() >= SUSPECTS_MAX { self.settle_suspects() } else { Ok(()) }
    }

    /// Every row and every deletion that the log gives: rows are compared, and what they put into helpers is noted.
    fn rows(&mut self, walk: &mut Walk, notes: &mut Notes<'_>, first: bool) -> Result<(), StoreError> {
        let live = self.live;
        let mut bulk = live.bulk()?;
        let mut now = self.reached.recorded_at;
        let mut next = walk.page(self)?;
        bulk.ask_rows(&next, now)?;
        let mut suspects = Vec::new();
        while !next.is_empty() {
            let (page, of) = (next, now);
            now = self.reached.recorded_at;
            next = walk.page(self)?;
            // The server goes on while this page is compared.
            bulk.ask_rows(&next, now)?;
            bulk.rows(&page, of, notes, &mut |change| suspects.push((change.table, change.key.clone())))?;
            if first {
                let live = page.iter().filter(|change| change.after.as_ref().is_some_and(|row| row.is_live(of)));
                self.verifier.report().rows += live.count() as u64;
            }
            for (table, key) in suspects.drain(..) {
                match notes {
                    Notes::Sums(sums) => sums.set_unequal(table),
                    Notes::Expected(_) => self.suspect(table, &key, None),
                }
            }
            self.pause()?;
        }
        Ok(())
    }

    /// A key, or an element of one; answers the walk over the key's elements, if it is to be walked over.
    fn met(
        &mut self,
        met: Met<'_>,
        tables: &[&'static TableDef],
        expected: &mut Expected,
    ) -> Result<Option<KeyWalk>, StoreError> {
        match met {
            Met::Key(key) => {
                let found = expected.meet_key(key);
                if found == Found::Known {
                    return Ok(None);
                }
                // A name that is no text is none of the tables'.
                let Ok(key) = String::from_utf8(key.to_vec()) else { return Ok(None) };
                match locate(self.live.names(), &key) {
                    Some((table, _)) if !tables.iter().any(|wanted| wanted.name == table.name) => {}
                    Some((table, Role::Row(row))) if found == Found::Unknown => self.suspect(table, &row, None),
                    Some((table, Role::Foreign)) if found == Found::Unknown => self.foreign_key(table, &key),
                    Some((_, Role::Row(_) | Role::Foreign)) | None => {}
                    Some((table, role)) => return Ok(KeyWalk::elements(table, role, key)),
                }
            }
            Met::Element(table, role, name, element) => self.element(table, role, name, element, expected)?,
            Met::WrongType(table, name, why) => self.in_the_way(table, name, &why),
            Met::EndOfPage => self.pause()?,
        }
        Ok(None)
    }

    fn element(
        &mut self,
        table: &'static TableDef,
        role: &Role,
        name: &str,
        element: Element<'_>,
        expected: &mut Expected,
    ) -> Result<(), StoreError> {
        if expected.meet_element(self.live.names(), table, role, name, &element) != Found::Unknown {
            return Ok(());
        }
        match role.owner(table, name, element.0, element.1) {
            (Some(key), slot) => {
                self.suspect(table, &key, [slot]);
                Ok(())
            }
            (None, slot) => self.without_owner(table, &slot, element.0, name),
        }
    }

    /// What rows and deletions put into helpers and was not met there.
    fn missing(&mut self, tables: &[&'static TableDef], expected: &Expected) -> Result<(), StoreError> {
        if !expected.any_missing() {
            return Ok(());
        }
        let mut walk = Walk::new(self, tables);
        loop {
            let page = walk.page(self)?;
            if page.is_empty() {
                return Ok(());
            }
            for change in page {
                let missing = expected.missing(self.live, &change);
                if !missing.is_empty() {
                    self.suspect(change.table, &change.key, missing);
                }
            }
            self.pause()?;
        }
    }
}

/// A thread that adds up what the keys of some tables hold, once it is told to begin.
struct Summing<'s> {
    prints: Prints,
    begin: Sender<()>,
    thread: ScopedJoinHandle<'s, Result<Sums, StoreError>>,
}

impl<'s> Summing<'s> {
    fn start<'a>(
        scope: &'s Scope<'s, 'a>,
        live: &'a RedisView,
        tables: &'a [&'static TableDef],
    ) -> Result<Self, StoreError> {
        let (begin, begun) = channel();
        let prints = Prints::default();
        let sums = Sums::new(prints.clone());
        let found = move || match begun.recv() {
            Ok(()) => sum_keys(live, tables, sums),
            Err(_) => Err(StoreError::unavailable("there is nothing to compare the keys with")),
        };
        let thread = thread::Builder::new().name("tasklog-look-through".into()).spawn_scoped(scope, found);
        let thread = thread.map_err(|error| StoreError::unavailable_because("starting a thread", error))?;
        Ok(Self { prints, begin, thread })
    }

    /// Tells it to begin, if it has not been told yet.
    fn begin(&self) {
        // A thread that has ended has begun.
        let _ = self.begin.send(());
    }
}

/// What a walk over all keys meets.
enum Met<'m> {
    /// A key of the tables, or somebody else's.
    Key(&'m [u8]),
    /// An element of a key.
    Element(&'static TableDef, &'m Role, &'m str, Element<'m>),
    /// A key of a wrong type, and what the server says of it.
    WrongType(&'static TableDef, &'m str, String),
    /// There is time for something else.
    EndOfPage,
}

/// Walks over every key of some tables, and over every element of those that `meet` answers a walk for.
fn walk_keys(
    live: &RedisView,
    bulk: &mut Bulk<'_>,
    tables: &[&'static TableDef],
    meet: &mut dyn FnMut(Met<'_>) -> Result<Option<KeyWalk>, StoreError>,
) -> Result<(), StoreError> {
    let is_wanted = |table: &TableDef| tables.iter().any(|wanted| wanted.name == table.name);
    let mut waiting = helpers(live, tables);
    let known: HashSet<String> = waiting.iter().map(|walk| walk.name.clone()).collect();
    // Last, so that the helpers it finds are walked over before it goes on.
    waiting.push_back(KeyWalk::keys());
    let mut under_way: VecDeque<KeyWalk> = VecDeque::new();
    loop {
        while under_way.len() < WALKS_MAX
            && let Some(walk) = waiting.pop_front()
        {
            bulk.ask(&walk)?;
            under_way.push_back(walk);
        }
        let Some(mut walk) = under_way.pop_front() else { return Ok(()) };
        let page = bulk.page(&mut walk)?;
        let (of, name) = (walk.of.clone(), walk.name.clone());
        if walk.goes_on() {
            // The server goes on while this page is looked at. Other walks come first, so that the keys that a walk finds
            // are not more and more.
            match waiting.is_empty() {
                true => {
                    bulk.ask(&walk)?;
                    under_way.push_back(walk);
                }
                false => waiting.push_back(walk),
            }
        }
        match (page, &of) {
            (BulkPage::Elements(page), Some((table, role))) => {
                for element in page.iter() {
                    meet(Met::Element(table, role, &name, element))?;
                }
            }
            (BulkPage::Elements(page), None) => {
                for (key, _) in page.iter() {
                    let found = meet(Met::Key(key))?;
                    let is_new = |walk: &KeyWalk| !known.contains(&walk.name);
                    let found = found.filter(|walk| is_new(walk));
                    waiting.extend(found.filter(|walk| walk.of.as_ref().is_some_and(|(table, _)| is_wanted(table))));
                }
            }
            (BulkPage::WrongType(why), Some((table, _))) => {
                meet(Met::WrongType(table, &name, why))?;
            }
            (BulkPage::WrongType(_), None) => {}
        }
        meet(Met::EndOfPage)?;
    }
}

/// Walks over the helpers whose names are known.
fn helpers(live: &RedisView, tables: &[&'static TableDef]) -> VecDeque<KeyWalk> {
    let names = live.names();
    let mut keys = Vec::new();
    for table in tables {
        keys.extend([names.tombstones(table).to_owned(), names.all(table).to_owned()]);
        if table.tombstones == Tombstones::Short {
            keys.push(names.buried_at(table).to_owned());
        }
        let indexes = table.indexes.iter().map(|index| index.name);
        let indexes = indexes.chain(table.multi_indexes.iter().map(|multi| multi.name)).chain(["pk"]);
        keys.extend(indexes.map(|index| names.index(table, index).to_owned()));
    }
    let walk = |key: String| {
        let (table, role) = locate(names, &key)?;
        KeyWalk::elements(table, role, key)
    };
    keys.into_iter().filter_map(walk).collect()
}

/// Adds up what the keys of some tables hold.
fn sum_keys(live: &RedisView, tables: &[&'static TableDef], mut sums: Sums) -> Result<Sums, StoreError> {
    let mut bulk = live.bulk()?;
    let names = live.names();
    walk_keys(live, &mut bulk, tables, &mut |met| {
        match met {
            Met::Key(key) => {
                if let Some(table) = row_key_of(names, key) {
                    sums.meet_key(table, key);
                    return Ok(None);
                }
                let Ok(key) = String::from_utf8(key.to_vec()) else { return Ok(None) };
                match locate(names, &key) {
                    Some((table, Role::Row(_))) => sums.meet_key(table, key.as_bytes()),
                    Some((table, Role::Foreign)) => sums.set_unequal(table),
                    Some((table, role)) => return Ok(KeyWalk::elements(table, role, key)),
                    None => {}
                }
            }
            Met::Element(table, role, name, element) => sums.meet_element(names, table, role, name, &element),
            Met::WrongType(table, ..) => sums.set_unequal(table),
            Met::EndOfPage => {}
        }
        Ok(None)
    })?;
    Ok(sums)
}

/// A walk over what the log gives: rows, dead or alive, and deletions. The fold may go on meanwhile.
enum Walk {
    /// Everything was in memory when it began.
    Kept(vec::IntoIter<(&'static TableDef, Box<str>)>),
    /// Where it stands in the scratch file: the tables that are left, and behind what in the first of them.
    Stored(VecDeque<&'static TableDef>, Behind),
}

enum Behind {
    Row(Option<Vec<Cell<'static>>>),
    Deletion(Option<String>),
}

impl Walk {
    fn new(audit: &Audit<'_>, tables: &[&'static TableDef]) -> Self {
        match audit.verifier.unflushed() {
            Some(folder) => {
                let wanted = |table: &TableDef| tables.iter().any(|wanted| wanted.name == table.name);
                let kept = folder.entities().filter(|(table, _)| wanted(table));
                Self::Kept(kept.map(|(table, key)| (table, key.into())).collect::<Vec<_>>().into_iter())
            }
            None => Self::Stored(tables.iter().copied().collect(), Behind::Row(None)),
        }
    }

    /// The next page, as changes that would create what the log says; an empty one after the last.
    fn page(&mut self, audit: &Audit<'_>) -> Result<Vec<RowChange>, StoreError> {
        loop {
            let (mut page, ended) = match self {
                Self::Kept(keys) => {
                    let mut page = Vec::with_capacity(PAGE_ENTITIES);
                    for (table, key) in keys.by_ref().take(PAGE_ENTITIES) {
                        let said = audit.said(table, &key)?;
                        if !matches!(said, Said::Nothing) {
                            page.push(creation(table, &key, &said));
                        }
                    }
                    let ended = keys.len() == 0;
                    (page, ended)
                }
                Self::Stored(tables, behind) => match tables.front().copied() {
                    Some(table) => (behind.page(audit, table, tables)?, false),
                    None => (Vec::new(), true),
                },
            };
            // Their events could not all be folded: nobody knows what they must be.
            page.retain(|change| !audit.verifier.is_tainted(change.table.name, &change.key));
            if ended || !page.is_empty() {
                return Ok(page);
            }
        }
    }
}

impl Behind {
    /// The next page of a table, which leaves the list after its last one.
    fn page(
        &mut self,
        audit: &Audit<'_>,
        table: &'static TableDef,
        tables: &mut VecDeque<&'static TableDef>,
    ) -> Result<Vec<RowChange>, StoreError> {
        match self {
            Self::Row(after) => {
                let mut scan = Scan::all("pk").limit(PAGE_ENTITIES);
                if let Some(after) = after.take() {
                    scan = scan.after(after);
                }
                let page = audit.fresh.scan(table, &scan)?;
                *self = match page.last().filter(|_| page.len() == PAGE_ENTITIES) {
                    Some(last) => {
                        let cursor = table.cursor("pk", 0, &last.row)?;
                        Self::Row(Some(cursor.into_iter().map(Cell::into_owned).collect()))
                    }
                    None => Self::Deletion(None),
                };
                Ok(page.into_iter().map(|held| creation(table, &held.row.key(), &Said::Row(held.clone()))).collect())
            }
            Self::Deletion(after) => {
                let page = audit.fresh.made()?.tombstones_page(table, after.as_deref(), PAGE_ENTITIES)?;
                *self = match page.last().filter(|_| page.len() == PAGE_ENTITIES) {
                    Some((last, _)) => Self::Deletion(Some(last.clone())),
                    None => {
                        tables.pop_front();
                        Self::Row(None)
                    }
                };
                Ok(page.into_iter().map(|(key, rev)| creation(table, &key, &Said::Deleted(rev))).collect())
            }
        }
    }
}

#[cfg(test)]
#[path = "look_through_tests.rs"]
mod tests;
