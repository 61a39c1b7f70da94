//! Looking through the whole key space for what may be wrong: see [`Audit`].

use std::{
    collections::{BTreeSet, HashSet, VecDeque},
    vec,
};

use tasklog_log::StoreError;
use tasklog_projections::{
    Cell, RowChange, Scan, TableDef, Tombstones, View as _,
    redis::{Asked, Bulk, BulkPage, Expected, Found, Role, Said, Slot, creation, locate},
};

use super::audit::Audit;

/// Rows and tombstones of the replay that are asked for at once.
const PAGE_ENTITIES: usize = 256;
/// Entities whose fingerprints are in memory at once. For more of them helpers are read through several times.
const ENTITIES_PER_PART: u64 = 250_000;
/// Walks over keys that are under way at once.
const WALKS_MAX: usize = 8;
/// Suspects that are remembered before they are looked at.
const SUSPECTS_MAX: usize = 10_000;
/// How often it is begun, if connections break.
const ATTEMPTS_MAX: usize = 3;

impl Audit<'_> {
    /// Compares everything.
    pub(super) fn run(&mut self) -> Result<(), StoreError> {
        for attempt in 1.. {
            self.verifier.report().rows = 0;
            match self.look_through() {
                // What was done already is not done again.
                Err(error) if attempt < ATTEMPTS_MAX && error.is_retryable() => {}
                result => return result,
            }
        }
        Ok(())
    }

    fn look_through(&mut self) -> Result<(), StoreError> {
        let parts = self.entities()?.div_ceil(ENTITIES_PER_PART).max(1);
        let live = self.live;
        let mut bulk = live.bulk()?;
        for part in 0..parts {
            let mut expected = Expected::of_part(part, parts);
            self.rows(&mut bulk, part == 0, &mut expected)?;
            self.keys(&mut bulk, &mut expected)?;
            self.missing(&expected)?;
            self.settle_suspects()?;
        }
        Ok(())
    }

    /// How many rows and tombstones the log gives.
    fn entities(&self) -> Result<u64, StoreError> {
        if let Some(folder) = self.verifier.unflushed() {
            return Ok(folder.entities().count() as u64);
        }
        self.tables.iter().try_fold(0, |sum, table| {
            Ok(sum + self.fresh.count(table, &Scan::all("pk"))? + self.fresh.count_tombstones(table)?)
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
    fn rows(&mut self, bulk: &mut Bulk<'_>, first: bool, expected: &mut Expected) -> Result<(), StoreError> {
        let mut walk = Walk::new(self);
        let mut now = self.reached.recorded_at;
        let mut next = walk.page(self)?;
        bulk.ask_rows(&next, now)?;
        let mut suspects = Vec::new();
        while !next.is_empty() {
            let (page, of) = (next, now);
            now = self.reached.recorded_at;
            next = walk.page(self)?;
            bulk.ask_rows(&next, now)?;
            bulk.rows(&page, of, expected, &mut |change| suspects.push((change.table, change.key.clone())))?;
            if first {
                let live = page.iter().filter(|change| change.after.as_ref().is_some_and(|row| row.is_live(of)));
                self.verifier.report().rows += live.count() as u64;
            }
            for (table, key) in suspects.drain(..) {
                self.suspect(table, &key, None);
            }
            self.pause()?;
        }
        Ok(())
    }

    /// Every key of the tables, and every element of those that lead to rows.
    fn keys(&mut self, bulk: &mut Bulk<'_>, expected: &mut Expected) -> Result<(), StoreError> {
        let mut waiting = self.helpers();
        let known: HashSet<String> = waiting.iter().map(|walk| walk.name.clone()).collect();
        // Last, so that the helpers it finds are walked over before it goes on.
        waiting.push_back(KeyWalk { of: None, name: String::new(), cursor: 0 });
        let mut under_way: VecDeque<KeyWalk> = VecDeque::new();
        loop {
            while under_way.len() < WALKS_MAX
                && let Some(walk) = waiting.pop_front()
            {
                walk.ask(bulk)?;
                under_way.push_back(walk);
            }
            let Some(mut walk) = under_way.pop_front() else { return Ok(()) };
            let pairs = walk.scan().is_some_and(|(_, pairs)| pairs);
            let (next, page) = match (bulk.page(pairs)?, &walk.of) {
                (BulkPage::Elements(next, page), _) => (next, page),
                (BulkPage::WrongType(why), Some((table, _))) => {
                    self.in_the_way(table, &walk.name, &why);
                    continue;
                }
                (BulkPage::WrongType(_), None) => continue,
            };
            walk.cursor = next;
            let of = walk.of.clone();
            let name = walk.name.clone();
            if next != 0 {
                // The server goes on while this page is looked at.
                walk.ask(bulk)?;
                under_way.push_back(walk);
            }
            for (element, value) in page {
                match &of {
                    Some((table, role)) => self.element(table, role, &name, (element, value), expected)?,
                    None => waiting.extend(self.key(&known, element, expected)?),
                }
            }
            self.pause()?;
        }
    }

    /// The helpers whose names are known.
    fn helpers(&self) -> VecDeque<KeyWalk> {
        let names = self.live.names();
        let mut keys = Vec::new();
        for table in self.tables {
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
            role.scan().map(|_| KeyWalk { of: Some((table, role)), name: key, cursor: 0 })
        };
        keys.into_iter().filter_map(walk).collect()
    }

    /// One key; answers the walk over its elements, if it is to be walked over.
    fn key(
        &mut self,
        known: &HashSet<String>,
        key: Vec<u8>,
        expected: &mut Expected,
    ) -> Result<Option<KeyWalk>, StoreError> {
        let found = expected.meet_key(&key);
        if found == Found::Known {
            return Ok(None);
        }
        // A name that is no text is none of the tables'.
        let Ok(key) = String::from_utf8(key) else { return Ok(None) };
        let Some((table, role)) = locate(self.live.names(), &key) else { return Ok(None) };
        if known.contains(&key) || !self.tables.iter().any(|wanted| wanted.name == table.name) {
            return Ok(None);
        }
        match &role {
            Role::Row(row) if found == Found::Unknown => self.suspect(table, row, None),
            Role::Row(_) => {}
            Role::Foreign if found == Found::Unknown => self.foreign_key(table, &key),
            Role::Foreign => {}
            _ => return Ok(role.scan().map(|_| KeyWalk { of: Some((table, role)), name: key, cursor: 0 })),
        }
        Ok(None)
    }

    fn element(
        &mut self,
        table: &'static TableDef,
        role: &Role,
        name: &str,
        element: (Vec<u8>, Vec<u8>),
        expected: &mut Expected,
    ) -> Result<(), StoreError> {
        if expected.meet_element(self.live.names(), table, role, name, &element) != Found::Unknown {
            return Ok(());
        }
        match role.owner(table, name, &element.0, &element.1) {
            (Some(key), slot) => {
                self.suspect(table, &key, [slot]);
                Ok(())
            }
            (None, slot) => self.without_owner(table, &slot, &element.0, name),
        }
    }

    /// What rows and deletions put into helpers and was not met there.
    fn missing(&mut self, expected: &Expected) -> Result<(), StoreError> {
        if !expected.any_missing() {
            return Ok(());
        }
        let mut walk = Walk::new(self);
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

/// A walk over the keys under the prefix, or over the elements of one of them.
struct KeyWalk {
    of: Option<(&'static TableDef, Role)>,
    name: String,
    cursor: u64,
}

impl KeyWalk {
    fn scan(&self) -> Option<(&'static str, bool)> {
        self.of.as_ref().and_then(|(_, role)| role.scan())
    }

    fn ask(&self, bulk: &mut Bulk<'_>) -> Result<(), StoreError> {
        match self.scan() {
            Some(scan) => bulk.ask_elements(scan, &self.name, self.cursor),
            None => bulk.ask_keys(self.cursor),
        }
    }
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
    fn new(audit: &Audit<'_>) -> Self {
        match audit.verifier.unflushed() {
            Some(folder) => {
                let wanted = |table: &TableDef| audit.tables.iter().any(|wanted| wanted.name == table.name);
                let kept = folder.entities().filter(|(table, _)| wanted(table));
                Self::Kept(kept.map(|(table, key)| (table, key.into())).collect::<Vec<_>>().into_iter())
            }
            None => Self::Stored(audit.tables.iter().copied().collect(), Behind::Row(None)),
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
                let page = audit.fresh.tombstones_page(table, after.as_deref(), PAGE_ENTITIES)?;
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
